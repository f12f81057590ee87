//! Who may call what, TLS, and what others than callers ask: probes, metrics, the document.

use std::process::Stdio;

use reqwest::{Certificate, Client, Identity};
use serde_json::{Value, json};

use crate::support::{
    LIMIT, RedisServer, Rig,
    certificates::certificates,
    http::{Caller, Site},
    process::{Place, field},
};

const SHOP: &str = "0123456789abcdef-shop";
const NEW_SHOP: &str = "0123456789abcdef-shop-new";
const WORKER: &str = "0123456789abcdef-worker";
const ROOT: &str = "0123456789abcdef-root";

async fn with(site: &Site, token: &str, method: &str, tail: &str, body: Value) -> u16 {
    let bearer = format!("Bearer {token}");
    site.caller.call_with(method, &site.path(tail), body, &[("authorization", &bearer)]).await.status
}

#[tokio::test]
async fn each_scope_opens_its_own_routes() {
    let top = format!(
        "[http.tokens.shop]\nscopes = [\"read\", \"write\"]\ntoken = [\"{SHOP}\", \"{NEW_SHOP}\"]\n\
         [http.tokens.worker]\nscopes = \"work\"\ntoken = \"{WORKER}\"\n\
         [http.tokens.root]\nscopes = \"admin\"\ntoken = \"{ROOT}\"\n\
         [http.tokens.too]\nscopes = \"read\"\ntoken = \"{ROOT}\"\n"
    );
    let site = Site::on(RedisServer::shared(), "pull", "", &top).await;
    let due = || json!({"delay": "1h"});
    for token in [SHOP, NEW_SHOP, ROOT] {
        assert!([200, 201].contains(&with(&site, token, "PUT", "/deadlines/a", due()).await));
        assert_eq!(with(&site, token, "GET", "/deadlines/a", Value::Null).await, 200);
    }
    assert_eq!(with(&site, WORKER, "POST", "/claim", json!({})).await, 200);
    assert_eq!(with(&site, ROOT, "POST", "/claim", json!({})).await, 200);
    for (token, method, tail, body) in [
        (SHOP, "POST", "/claim", json!({})),
        (SHOP, "POST", "/pause", Value::Null),
        (SHOP, "POST", "/dead/delete", json!({"ids": ["a"]})),
        (WORKER, "GET", "/deadlines", Value::Null),
        (WORKER, "PUT", "/deadlines/a", due()),
    ] {
        assert_eq!(with(&site, token, method, tail, body).await, 403, "{method} {tail}");
    }
    let refused = site.put("a", due()).await;
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"overdue\"");
    refused.problem(401, "unauthorized");
    assert_eq!(with(&site, "0123456789abcdef-nobody", "GET", "", Value::Null).await, 401);
    assert_eq!(site.caller.get("/metrics").await.status, 401);
    for open in ["/livez", "/readyz", "/v1/openapi.json"] {
        assert_eq!(site.caller.get(open).await.status, 200, "{open}");
    }
    let shown = site.place.run(&["config", "show"]).ok();
    assert!(
        shown.contains("***") && ![SHOP, WORKER, ROOT].iter().any(|token| shown.contains(token)),
        "{shown}"
    );
    assert!(!site.serve.log().concat().contains("0123456789abcdef"));
    site.serve.stop().await;
}

#[tokio::test]
async fn a_public_address_needs_tokens_or_a_word() {
    let place = Place::new("[queue.orders]\n");
    let public = [("OVERDUE_HTTP__LISTEN", "0.0.0.0:0")];
    let refused = place.run_with(&["serve"], Stdio::null(), &public);
    refused.fails(2, &["OVERDUE_HTTP__LISTEN", "http.tokens", "insecure"]);
    let insecure = [public[0], ("OVERDUE_HTTP__INSECURE", "true")];
    place.run_with(&["config", "check"], Stdio::null(), &insecure).ok();
    let token = [
        public[0],
        ("OVERDUE_HTTP__TOKENS__SHOP__SCOPES", "read write"),
        ("OVERDUE_HTTP__TOKENS__SHOP__TOKEN", SHOP),
    ];
    place.run_with(&["config", "check"], Stdio::null(), &token).ok();
    let short = [token[0], token[1], ("OVERDUE_HTTP__TOKENS__SHOP__TOKEN", "short")];
    let refused = place.run_with(&["config", "check"], Stdio::null(), &short);
    let message = refused.fails(2, &["http.tokens.shop.token", "16"]);
    assert!(!message.contains("`short`"), "{message}");

    place.write("overdue.toml", "[http.tokens.shop]\nscopes = \"read\"\ntoken_file = \"none\"\n");
    place.run(&["config", "check"]).ok();
    place.run(&["serve"]).fails(2, &["token_file", "none"]);
}

#[tokio::test]
async fn a_taken_address_is_an_error_only_if_somebody_chose_it() {
    let site = Site::pull().await;
    let taken = site.caller.base.trim_start_matches("http://");
    let refused = site.place.run_with(&["serve"], Stdio::null(), &[("OVERDUE_HTTP__LISTEN", taken)]);
    refused.fails(1, &["cannot listen on", taken, "http.listen"]);
    let none = site.place.serve_with(&[("OVERDUE_HTTP__LISTEN", "")]);
    assert_eq!(field(&none.says("serving").await, "http").as_deref(), Some("none"));
    none.stop().await;
    site.serve.stop().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let site = Site::pull().await;
    let path = site.path("");
    for header in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
    {
        let answer = site.caller.call_with("GET", &path, Value::Null, &[header]).await;
        answer.problem(403, "cross-origin");
    }
    site.serve.stop().await;
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let (rig, made) = (Rig::new().await, certificates());
    let (url, queue) = (RedisServer::shared().url(), rig.name());
    let place = Place::new(&format!(
        "[redis]\nurl = \"{url}\"\n[http.tls]\ncert_file = \"tls.crt\"\nkey_file = \"tls.key\"\n\
         client_ca_file = \"ca.crt\"\n[queue.{queue}]\n"
    ));
    place.write("tls.crt", "no certificate");
    place.write("tls.key", &made.server.1);
    place.write("ca.crt", &made.authority);
    place.run(&["serve"]).fails(2, &["http.tls.cert_file", "tls.crt"]);
    place.write("tls.crt", &made.server.0);
    let serve = place.serve().await;
    let address = field(&serve.says("serving").await, "http").expect("it listens");
    let base = address.replace("127.0.0.1", "https://localhost");

    let plain = Caller::new(base.clone());
    let trusting = || {
        let authority = Certificate::from_pem(made.authority.as_bytes()).expect("PEM");
        Client::builder().timeout(LIMIT).tls_certs_merge([authority])
    };
    assert!(plain.request("GET", "/livez").send().await.is_err(), "the authority is unknown");
    let nameless = Caller { client: trusting().build().unwrap(), base: base.clone() };
    assert!(nameless.request("GET", "/livez").send().await.is_err(), "no client certificate");
    let identity = Identity::from_pem(format!("{}{}", made.client.0, made.client.1).as_bytes()).expect("PEM");
    let known = Caller { client: trusting().identity(identity).build().unwrap(), base };
    assert_eq!(known.get("/livez").await.status, 200);
    serve.stop().await;
}

#[tokio::test]
async fn probes_and_metrics_tell_how_it_is() {
    let site = Site::pull().await;
    crate::support::eventually("it is ready", async || {
        (site.caller.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    site.place.run(&["healthcheck", "--url", &site.caller.base]).ok();
    site.place.run(&["healthcheck", "--url", "http://127.0.0.1:1"]).fails(1, &["no answer"]);
    site.rig.buried("dead", "").await;
    let metrics = site.caller.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let name = site.rig.name();
    for line in [
        format!("overdue_queue_up{{queue=\"{name}\"}} 1"),
        format!("overdue_queue_dead{{queue=\"{name}\"}} 1"),
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} is not in {}", metrics.text);
    }
    let queue = site.get("").await.is(200);
    assert_eq!(
        (&queue["dead"], &queue["handler"], &queue["paused"]),
        (&json!(1), &json!("pull"), &json!(false))
    );
    assert_eq!(site.caller.get("/v1/queues").await.is(200)["queues"], json!([queue]));
    site.serve.stop().await;
}

#[tokio::test]
async fn the_document_describes_every_route_with_examples() {
    let site = Site::pull().await;
    let document = site.caller.get("/v1/openapi.json").await.is(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            assert!(
                operation["operationId"].is_string() && operation["summary"].is_string(),
                "{method} {path}"
            );
            for (status, response) in operation["responses"].as_object().unwrap() {
                for content in response["content"].as_object().unwrap().values() {
                    let has = !content["example"].is_null() || !content["examples"].is_null();
                    assert!(has, "{method} {path} {status} has no example");
                }
            }
        }
    }
    assert_eq!(operations, 33);
    site.serve.stop().await;
}
