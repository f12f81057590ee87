//! Signatures, secrets, and what receivers answer: no changed message is accepted, and no answer can do harm.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{answer, client, *};
use crate::{
    config::WebhookUrl,
    fuzz::{bytes, mutated_text, readable, run, text},
};

const TOLERANCE: Duration = Duration::from_secs(300);

fn secret() -> impl Strategy<Value = Secret> + Clone {
    vec(any::<u8>(), 24..=64).prop_map(|key| Secret::new(&format!("whsec_{}", STANDARD.encode(key))).unwrap())
}

/// A message as overdue sends it: the id has no dot.
fn message() -> impl Strategy<Value = (String, i64, Vec<u8>)> + Clone {
    let numbered = "[0-9]{1,10}\\.[ -~]{0,9}".prop_map(String::into_bytes);
    let body = prop_oneof![
        bytes(6),
        numbered,
        text(6).prop_map(|text| format!("{{\"a\":\"{text}\"}}").into_bytes())
    ];
    ("[!-~&&[^.]]{1,20}", 0..4_000_000_000i64, body)
}

#[test]
fn what_was_signed_is_accepted_with_any_of_the_secrets() {
    run(
        150,
        (message(), vec(secret(), 1..4), any::<Index>(), -300..=300i64),
        |((id, at_s, body), secrets, one, age_s)| {
            let signed = Signed { id: &id, timestamp_s: at_s, body: &body };
            let signatures = signed.signature(&secrets);
            prop_assert_eq!(signatures.split(' ').count(), secrets.len());
            let receiver = [one.get(&secrets).clone()];
            prop_assert_eq!(signed.verify(&receiver, &signatures, at_s + age_s, TOLERANCE), Ok(()));
            // What stands around it does no harm.
            let among_others = format!("v1a,xyz  v1,AAAA {signatures} v2,{signatures}");
            prop_assert_eq!(signed.verify(&receiver, &among_others, at_s, TOLERANCE), Ok(()));
            Ok(())
        },
    );
}

/// Something done to what was sent.
#[derive(Debug, Clone)]
enum Change {
    Body(Index, u8),
    Shorter(Index),
    Longer(Vec<u8>),
    Id(String),
    Time(i64),
    Signature(Index, char),
    Cut(Index),
    Secret(Secret),
    /// Bytes that pass from one part to the next while the signed text stays the same.
    Shift(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Body(at, bit)),
        at().prop_map(Change::Shorter),
        vec(any::<u8>(), 1..4).prop_map(Change::Longer),
        "[!-~]{1,20}".prop_map(Change::Id),
        (1..300i64).prop_map(Change::Time),
        (at(), any::<char>()).prop_map(|(at, other)| Change::Signature(at, other)),
        at().prop_map(Change::Cut),
        secret().prop_map(Change::Secret),
        at().prop_map(Change::Shift),
    ]
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    run(500, (message(), secret(), change()), |((id, at_s, body), secret, change)| {
        let sent = Signed { id: &id, timestamp_s: at_s, body: &body };
        let signature = sent.signature(std::slice::from_ref(&secret));
        let (mut new_id, mut new_at_s, mut new_body) = (id.clone(), at_s, body.clone());
        let (mut new_signature, mut new_secret) = (signature.clone(), secret.clone());
        match change {
            Change::Body(at, bit) if !body.is_empty() => new_body[at.index(body.len())] ^= 1 << bit,
            Change::Shorter(at) if !body.is_empty() => new_body.truncate(at.index(body.len())),
            Change::Longer(more) => new_body.extend(more),
            Change::Id(other) => new_id = other,
            Change::Time(seconds) => new_at_s += seconds,
            Change::Signature(at, other) => {
                let at = at.index(signature.len());
                new_signature.replace_range(at..=at, &other.to_string());
            }
            Change::Cut(at) => new_signature.truncate(at.index(signature.len())),
            Change::Secret(other) => new_secret = other,
            Change::Shift(at) => {
                let text = [format!("{id}.{at_s}.").as_bytes(), &body].concat();
                let dots: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'.').collect();
                let (first, second) = (at.index(dots.len()), at.index(dots.len()) + 1);
                if let (Some(first), Some(second)) = (dots.get(first), dots.get(second))
                    && let Ok(at_s) = String::from_utf8_lossy(&text[first + 1..*second]).parse()
                {
                    new_id = String::from_utf8_lossy(&text[..*first]).into_owned();
                    (new_at_s, new_body) = (at_s, text[second + 1..].to_vec());
                }
            }
            _ => {}
        }
        let got = Signed { id: &new_id, timestamp_s: new_at_s, body: &new_body };
        // White space around a signature is none of it.
        let same = (&new_id, new_at_s, &new_body, new_signature.trim()) == (&id, at_s, &body, &signature)
            && new_secret == secret;
        let verdict = got.verify(&[new_secret], &new_signature, new_at_s, TOLERANCE);
        if same {
            prop_assert_eq!(verdict, Ok(()));
        } else {
            prop_assert!(
                verdict.is_err(),
                "accepted {got:?} with {new_signature} for {sent:?} with {signature}"
            );
            readable(&verdict.unwrap_err().to_string())?;
        }
        Ok(())
    });
}

#[test]
fn any_header_is_refused_without_a_panic() {
    let header = prop_oneof![text(6), mutated_text("v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)?")];
    run(
        600,
        (text(3), any::<i64>(), bytes(3), secret(), header, any::<i64>()),
        |(id, at_s, body, secret, header, now_s)| {
            let verdict = Signed { id: &id, timestamp_s: at_s, body: &body }.verify(
                &[secret],
                &header,
                now_s,
                TOLERANCE,
            );
            prop_assert!(verdict.is_err());
            readable(&verdict.unwrap_err().to_string())
        },
    );
}

#[test]
fn a_secret_is_24_to_64_bytes_in_base64_and_never_shown() {
    let key = vec(any::<u8>(), 20..70);
    run(300, (key, "[ \n]?", "[ \n]?"), |(key, before, behind)| {
        let encoded = STANDARD.encode(&key);
        match Secret::new(&format!("{before}whsec_{encoded}{behind}")) {
            Ok(secret) => {
                prop_assert!((24..=64).contains(&key.len()));
                prop_assert_eq!(secret.key(), key);
                prop_assert_eq!(format!("{secret} {secret:?}"), "whsec_*** whsec_***");
            }
            Err(error) => {
                prop_assert!(!(24..=64).contains(&key.len()));
                prop_assert!(!error.to_string().contains(&encoded));
            }
        }
        Ok(())
    });
    run(400, mutated_text("whsec_[A-Za-z0-9+/]{40}"), |text| {
        match Secret::new(&text) {
            Ok(secret) => prop_assert_eq!(format!("whsec_{}", STANDARD.encode(secret.key())), text.trim()),
            Err(error) => {
                let shown = error.to_string();
                readable(&shown)?;
                let hidden = text.trim().strip_prefix("whsec_").unwrap_or(&text);
                prop_assert!(hidden.len() < 12 || !shown.contains(hidden), "{shown}");
            }
        }
        Ok(())
    });
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

#[test]
fn retry_after_is_what_was_asked_for_up_to_an_hour() {
    let hour = Duration::from_secs(3600);
    let pause = |wanted: Duration| (!wanted.is_zero()).then(|| wanted.min(hour));
    run(400, ("[ \t]{0,2}", "[0-9]{1,25}"), |(space, digits)| {
        let wanted = Duration::from_secs(digits.parse().unwrap_or(u64::MAX));
        prop_assert_eq!(answer::retry_after(&format!("{space}{digits}{space}"), now()), pause(wanted));
        Ok(())
    });
    run(300, -10_000..10_000i64, |seconds| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs((1_767_225_600 + seconds).unsigned_abs());
        let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        prop_assert_eq!(answer::retry_after(&httpdate::fmt_http_date(at), now()), pause(wanted));
        Ok(())
    });
    let date = "(Mon|Thu), [0-9]{2} (Jan|Feb) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT";
    run(500, prop_oneof![text(4), mutated_text(date)], |value| {
        let pause = answer::retry_after(&value, now());
        prop_assert!(pause.is_none_or(|pause| !pause.is_zero() && pause <= hour));
        Ok(())
    });
}

#[test]
fn any_answer_is_an_outcome_with_a_short_clean_error() {
    let config = WebhookConfig::new(WebhookUrl::new("https://h/expired?key=geheim").unwrap());
    run(500, (100..1000u16, vec(any::<u8>(), 0..20), bytes(40)), |(status, after, body)| {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&after) {
            headers.insert(RETRY_AFTER, value);
        }
        let outcome = answer::outcome(&config, StatusCode::from_u16(status).unwrap(), &headers, &body);
        match outcome {
            Outcome::Done => prop_assert!((200..300).contains(&status)),
            Outcome::Dead { error } => {
                prop_assert_eq!(status, 410);
                readable(&error)?;
            }
            Outcome::Retry { error, after } => {
                prop_assert!(after.is_none() || [429, 502, 503, 504].contains(&status));
                prop_assert!(!error.contains("geheim"));
                readable(&error)?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_file_of_authorities_is_certificates_or_is_named() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("ca.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let key = rcgen::KeyPair::generate().unwrap();
    let good = rcgen::CertificateParams::new(vec!["h".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    run(
        80,
        prop_oneof![
            mutated_text(Just(good.clone())),
            mutated_text(Just(pem.to_owned())),
            text(6),
            Just(good)
        ],
        |text| {
            std::fs::write(&path, &text).unwrap();
            if let Err(error) = client::tls(Some(&path)) {
                let message = error.to_string();
                readable(&message)?;
                prop_assert!(message.starts_with("ca_file `") && message.contains("ca.pem"), "{message}");
            }
            Ok(())
        },
    );
}
