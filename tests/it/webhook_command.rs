//! `overdue webhook sign|verify|listen` through the real binary.

use std::{fs, process::Stdio};

use overdue::handler::webhook::now_s;
use serde_json::Value;

use crate::support::{
    eventually,
    process::{Place, Ran},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

/// A place with a body, and with a configuration that is wrong: these commands need none.
fn place() -> Place {
    let place = Place::new("[wrong");
    place.write("body", r#"{"test": 2432232314}"#);
    place
}

fn verify(place: &Place, secret: &str, signature: &str, more: &[&str]) -> Ran {
    let command = ["webhook", "verify", "--secret", secret, "--id", ID, "--signature", signature, "body"];
    place.run(&[&command, more].concat())
}

#[test]
fn sign_prints_the_headers_of_the_specification() {
    let place = place();
    let sign = ["webhook", "sign", "--id", ID, "--timestamp", "1614265330", "body"];
    let printed = place.run(&[&sign[..], &["--secret", SECRET]].concat()).ok();
    let expected =
        format!("webhook-id: {ID}\nwebhook-timestamp: 1614265330\nwebhook-signature: {SIGNATURE}\n");
    assert_eq!(printed, expected);

    let env = [("OVERDUE_WEBHOOK_SECRET", format!("{SECRET} {OTHER}"))];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let json = place.run_with(&[&sign[..], &["-o", "json"]].concat(), Stdio::null(), &env).json();
    assert_eq!(json["webhook-timestamp"], 1_614_265_330);
    let signatures = json["webhook-signature"].as_str().unwrap();
    assert!(signatures.starts_with(SIGNATURE) && signatures.split(' ').count() == 2, "{signatures}");
}

#[test]
fn what_sign_signs_verify_takes_and_nothing_else() {
    let place = place();
    let sign = ["webhook", "sign", "--secret", SECRET, "--id", ID, "-o", "json", "body"];
    let signed = place.run(&sign).json();
    let timestamp = signed["webhook-timestamp"].to_string();
    let signature = signed["webhook-signature"].as_str().unwrap();
    let at = ["--timestamp", timestamp.as_str()];
    assert!(verify(&place, SECRET, signature, &at).ok().contains("verified  yes"));
    let wrong = verify(&place, OTHER, signature, &at).fails(1, &["not to be trusted", "another secret"]);
    assert!(!wrong.contains(&OTHER[6..]), "{wrong}");
    verify(&place, SECRET, "v2,x", &at).fails(1, &["no signature begins with `v1,`"]);
    place.write("body", "{}");
    verify(&place, SECRET, signature, &at).fails(1, &["a byte of the body differs"]);
}

#[test]
fn verify_minds_the_clock() {
    let place = place();
    let at = ["--timestamp", "1614265330"];
    verify(&place, SECRET, SIGNATURE, &at).fails(1, &["old, more than the tolerance of 5m"]);
    verify(&place, SECRET, SIGNATURE, &[&at[..], &["--tolerance", "36500d"]].concat()).ok();
    let ahead = (now_s() + 3600).to_string();
    verify(&place, SECRET, SIGNATURE, &["--timestamp", &ahead]).fails(1, &["ahead", "is this clock right?"]);
}

#[test]
fn a_secret_that_is_none_is_not_shown() {
    let place = place();
    for secret in ["geheim", "whsec_geheim", "whsec_Z2VoZWlt"] {
        let error = place.run(&["webhook", "sign", "--secret", secret, "body"]).fails(2, &["secret `"]);
        assert!(!error.contains("geheim") && !error.contains("Z2Vo"), "{error}");
    }
    place.run(&["webhook", "sign", "body"]).fails(2, &["is missing: --secret or OVERDUE_WEBHOOK_SECRET"]);
    place.run(&["webhook", "sign", "--secret", SECRET, "none"]).fails(1, &["cannot read none"]);
    place.run(&["webhook", "sign", "--secret", SECRET, "--id", "a.b", "body"]).fails(2, &["no dot"]);
}

#[tokio::test]
async fn listen_verifies_prints_and_sums_up() {
    let place = place();
    let listen = ["webhook", "listen", "--port", "0", "--status", "202", "-o", "ndjson"];
    let listener = place.start(&listen, &[("OVERDUE_WEBHOOK_SECRET", SECRET)]);
    let line = listener.says("listening on").await;
    let url = line.split(' ').find(|word| word.starts_with("http")).unwrap().trim_end_matches(';').to_owned();

    // The sender is serve itself: one queue with the right secret, one with another.
    let handler = |secret: &str| {
        format!(
            "max_attempts = 1\nhandler = {{ type = \"webhook\", url = \"{url}\", secret = \"{secret}\" }}\n"
        )
    };
    let config = format!("[queue.good]\n{}[queue.bad]\n{}", handler(SECRET), handler(OTHER));
    let shop = Place::new(&config);
    let serve = shop.serve().await;
    shop.run(&["schedule", "good", "order-42", "--in", "0s"]).ok();
    shop.run(&["schedule", "bad", "order-43", "--in", "0s"]).ok();
    let printed = || fs::read_to_string(place.path("stdout")).unwrap();
    eventually("both are printed", async || (printed().lines().count() == 2).then_some(())).await;
    eventually("the refused one is dead", async || {
        let dead = shop.run(&["list", "bad", "--state", "dead", "-o", "json"]).json();
        (dead[0]["id"] == "order-43").then_some(())
    })
    .await;
    serve.stop().await;
    listener.stop().await;

    let lines: Vec<Value> = printed().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let call = |id: &str| lines.iter().find(|line| line["id"] == id).unwrap();
    assert_eq!((&call("order-42")["verified"], &call("order-42")["status"]), (&"yes".into(), &202.into()));
    assert_eq!(call("order-43")["status"], 401);
    assert!(call("order-43")["verified"].as_str().unwrap().contains("another secret"));
    let summary = lines.last().unwrap();
    let counts = ["calls", "accepted", "refused", "failed", "stalled", "registrations"];
    assert_eq!(counts.map(|name| summary[name].as_u64().unwrap()), [2, 1, 1, 0, 0, 1]);
}

#[test]
fn listen_refuses_what_makes_no_sense() {
    let place = place();
    for (flag, value, word) in [
        ("--fail-rate", "30", "write 0 to 1"),
        ("--stall-rate", "-1", "write 0 to 1"),
        ("--status", "99", "write 200 to 599"),
    ] {
        place.run(&["webhook", "listen", &format!("{flag}={value}")]).fails(2, &[word]);
    }
}
