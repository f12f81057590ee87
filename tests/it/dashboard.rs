//! The dashboard: what its pages show, what they let nobody do, and that text stays text.

use std::time::Duration;

use futures_util::StreamExt as _;
use overdue::{
    queue::{Due, Expected, Mode, Registration, State},
    types::Payload,
};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{RedisServer, eventually, http::Site, id};

const HOSTILE: &str = r#"<script>alert(1)</script>"'&/ü"#;

/// A browser: it follows no redirect by itself, so that tests see them.
struct Browser {
    client: reqwest::Client,
    base: String,
    cookie: Option<String>,
}

struct Shown {
    status: StatusCode,
    headers: header::HeaderMap,
    text: String,
}

impl Shown {
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    fn has(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.text.contains(part), "{part} is not in {}", self.text);
        }
        self
    }

    fn has_not(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(!self.text.contains(part), "{part} is in {}", self.text);
        }
        self
    }

    fn leads_to(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }
}

impl Browser {
    fn new(site: &Site) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { client, base: site.caller.base.clone(), cookie: None }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], form: Option<&str>) -> Shown {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if let Some(form) = form {
            request = request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Shown { status, headers, text: response.text().await.unwrap() }
    }

    async fn get(&self, path: &str) -> Shown {
        self.send(Method::GET, path, &[], None).await
    }

    async fn post(&self, path: &str, form: &str) -> Shown {
        self.send(Method::POST, path, &[("sec-fetch-site", "same-origin")], Some(form)).await
    }

    /// Sends a form, and answers the page it leads to.
    async fn act(&self, path: &str, form: &str) -> Shown {
        let taken = self.post(path, form).await.is(303);
        self.get(taken.leads_to()).await.is(200)
    }
}

fn id_path(site: &Site, id: &str) -> String {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("/queues/{}/id?id={id}", site.rig.name())
}

/// Due in so many ms, with a payload that is no better than the worst id.
async fn register(site: &Site, text: &str, in_ms: u64) {
    let payload = Some(Payload::new(json!({"note": HOSTILE}).to_string()).unwrap());
    let due = Due::In(Duration::from_millis(in_ms));
    let registration = Registration { id: id(text), due, payload };
    site.rig.schedule(&[registration], Mode::Replace, Expected::Anything).await.unwrap();
}

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn the_overview_says_what_is_late_and_what_is_paused() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    let name = site.rig.name().to_string();
    browser.get("/").await.is(200).has(&["All deadlines fire on time", &format!("/queues/{name}\"")]);
    register(&site, "late", 0).await;
    let page = eventually("it is late", async || {
        let page = browser.get("/").await.is(200);
        page.text.contains("data-state=\"late\"").then_some(page)
    })
    .await;
    page.has(&[&format!("Late: {name}"), "1 id due"]);
    let queue = format!("/queues/{name}");
    browser.act(&queue, "action=pause").await.has(&["Paused: nothing is claimed", "Resume"]);
    assert!(site.rig.counts().await.unwrap().paused);
    eventually("it is paused", async || {
        browser.get("/").await.text.contains(&format!("Paused: {name}")).then_some(())
    })
    .await;
    browser.act(&queue, "action=resume").await.has(&["Resumed."]);
    site.serve.stop().await;
}

#[tokio::test]
async fn the_numbers_come_by_themselves() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    let response = browser.client.get(format!("{}/live", browser.base)).send().await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = response.bytes_stream();
    register(&site, "a", HOUR_MS).await;
    let place = format!("\"{}.scheduled\":\"1\"", site.rig.name());
    let seen = async {
        loop {
            let bytes = events.next().await.expect("the stream goes on").unwrap();
            if String::from_utf8_lossy(&bytes).contains(&place) {
                return;
            }
        }
    };
    tokio::time::timeout(crate::support::LIMIT, seen).await.expect("the number changes");
    site.serve.stop().await;
}

#[tokio::test]
async fn ids_and_payloads_are_text_wherever_they_stand() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    register(&site, HOSTILE, HOUR_MS).await;
    register(&site, "dies", 0).await;
    let claimed = site.post("/claim", json!({})).await.is(200);
    let dead = json!({"id": "dies", "token": claimed["deliveries"][0]["token"], "error": HOSTILE});
    site.post("/bury", json!({"deliveries": [dead]})).await.is(200);
    let queue = format!("/queues/{}", site.rig.name());
    let found = id_path(&site, HOSTILE);
    for path in [
        queue.as_str(),
        &format!("{queue}?state=dead"),
        &format!("{queue}?state=scheduled"),
        &found,
        &id_path(&site, "dies"),
    ] {
        let page = browser.get(path).await.is(200);
        page.has(&["&lt;script&gt;alert(1)&lt;/script&gt;"]).has_not(&["<script>alert", "style=\""]);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
    }
    browser.get(&found).await.has(&["scheduled", "Fire now", "Payload"]);
    browser.get(&id_path(&site, "nobody")).await.is(200).has(&["It is not in this queue"]);
    browser.get(&id_path(&site, "")).await.is(422).has(&["<h1>"]);
    browser.get("/queues/nowhere").await.is(404).has(&["is not served here", "All queues"]);
    site.serve.stop().await;
}

#[tokio::test]
async fn an_id_can_be_moved_fired_and_cancelled() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    register(&site, HOSTILE, HOUR_MS).await;
    let path = id_path(&site, HOSTILE);
    browser.act(&path, "action=reschedule&in=2h").await.has(&["Rescheduled.", "in 1h 59m"]);
    browser.post(&path, "action=reschedule&in=soon").await.is(422);
    browser.post(&path, "action=explode").await.is(422).has(&["no action"]);
    browser.act(&path, "action=fire").await.has(&["It is due now."]);
    assert_eq!(site.rig.counts().await.unwrap().due, 1);
    let claimed = site.post("/claim", json!({})).await.is(200);
    let page = browser.act(&path, "action=fire").await;
    page.has(&["It is in flight: nothing was changed.", "In flight for"]);
    let token = &claimed["deliveries"][0]["token"];
    site.post("/bury", json!({"deliveries": [{"id": HOSTILE, "token": token, "error": "no"}]})).await.is(200);
    browser.act(&path, "action=cancel").await.has(&["It is dead: delete it instead."]);
    browser.act(&path, "action=retry").await.has(&["It is due now."]);
    browser.act(&path, "action=cancel").await.has(&["Cancelled: it will not fire."]);
    browser.act(&path, "action=cancel").await.has(&["It is no longer in the queue."]);
    site.serve.stop().await;
}

#[tokio::test]
async fn a_deadline_that_was_moved_meanwhile_stays() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    // Spaces are a part of an id wherever they stand.
    register(&site, " order 42 ", HOUR_MS).await;
    let path = id_path(&site, " order 42 ");
    let page = browser.get(&path).await.is(200);
    let seen =
        page.text.split("name=\"seen\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    browser.act(&path, "action=reschedule&in=2h").await.has(&["Rescheduled."]);
    let fire = format!("action=fire&seen={seen}");
    browser.act(&path, &fire).await.has(&["Somebody else has moved it: nothing was changed.", "in 1h 59m"]);
    browser.post(&path, "action=fire&seen=yesterday").await.is(422);
    site.serve.stop().await;
}

#[tokio::test]
async fn a_link_cannot_put_words_on_a_page() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    register(&site, "a", HOUR_MS).await;
    let path = format!("{}&done=Cancelled%3A+it+will+not+fire.", id_path(&site, "a"));
    for seal in ["", "&seal=", "&seal=AAAA"] {
        browser.get(&format!("{path}{seal}")).await.is(200).has(&["scheduled"]).has_not(&["will not fire"]);
    }
    site.serve.stop().await;
}

#[tokio::test]
async fn what_is_tried_again_is_shown_with_its_error() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    register(&site, "fails", 0).await;
    let queue = format!("/queues/{}", site.rig.name());
    browser.get(&queue).await.is(200).has_not(&["<h2>Retrying"]);
    let claimed = site.post("/claim", json!({"wait": "5s"})).await.is(200);
    let token = &claimed["deliveries"][0]["token"];
    let failed = json!({"id": "fails", "token": token, "error": "out of paper", "delay": "10m"});
    site.post("/retry", json!({"deliveries": [failed]})).await.is(200);
    browser.get(&queue).await.is(200).has(&["<h2>Retrying", "out of paper", "in 9m"]);
    site.serve.stop().await;
}

#[tokio::test]
async fn the_dead_are_counted_before_they_are_retried_or_deleted() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    for id in ["order-1", "order-2", "cart-1"] {
        site.rig.buried(id, "").await;
    }
    let dead = format!("/queues/{}/dead", site.rig.name());
    browser
        .get(&format!("{dead}?action=retry&prefix=order-"))
        .await
        .is(200)
        .has(&["<strong>2 ids</strong>", "order-2"]);
    browser.get(&format!("{dead}?action=retry&reason=other")).await.is(200).has(&["<strong>0 ids</strong>"]);
    browser.act(&dead, "action=retry&prefix=order-&reason=").await.has(&["2 ids are due now."]);
    browser.act(&dead, "action=delete&prefix=&reason=").await.has(&["1 id is deleted for good."]);
    let counts = site.rig.counts().await.unwrap();
    assert_eq!((counts.due, counts.dead), (2, 0));
    browser.get(&format!("{dead}?action=eat")).await.is(422);
    site.serve.stop().await;
}

#[tokio::test]
async fn lists_go_on_page_by_page() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    for n in 0..130 {
        register(&site, &format!("order-{n:03}"), HOUR_MS + n).await;
    }
    let path = format!("/queues/{}?state={}", site.rig.name(), State::Scheduled);
    let page = browser.get(&path).await.is(200);
    page.has(&["order-099", "Next page"]).has_not(&["order-100"]);
    let next = page.text.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    browser
        .get(&next.replace("&amp;", "&"))
        .await
        .is(200)
        .has(&["order-100", "order-129"])
        .has_not(&["Next page"]);
    site.serve.stop().await;
}

#[tokio::test]
async fn other_sites_can_link_to_it_and_send_nothing() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    register(&site, "a", HOUR_MS).await;
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    browser.send(Method::GET, "/", &link, None).await.is(200);
    let path = id_path(&site, "a");
    for headers in [&link[..], &[("origin", "https://evil.example")]] {
        browser.send(Method::POST, &path, headers, Some("action=cancel")).await.is(403);
    }
    browser.send(Method::GET, "/live", &link[..1], None).await.is(403);
    assert_eq!(site.rig.counts().await.unwrap().scheduled, 1);
    site.serve.stop().await;
}

const TOKENS: &str = "[http.tokens.watch]\ntoken = \"watch-0123456789abcdef\"\nscopes = [\"read\"]\n\
                      [http.tokens.ops]\ntoken = \"ops-0123456789abcdef\"\nscopes = [\"admin\"]\n\
                      [http.tokens.shop]\ntoken = \"shop-0123456789abcdef\"\nscopes = [\"write\"]\n";

async fn log_in(browser: &mut Browser, token: &str) -> Shown {
    let shown = browser.post("/login", &format!("token={token}&next=%2Fqueues%2Fx")).await;
    if let Some(cookie) = shown.headers.get(header::SET_COOKIE) {
        let cookie = cookie.to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        browser.cookie = cookie.split(';').next().map(Into::into);
    }
    shown
}

#[tokio::test]
async fn with_tokens_a_browser_logs_in_and_may_what_its_token_may() {
    let site = Site::on(RedisServer::shared(), "pull", "", TOKENS).await;
    let mut browser = Browser::new(&site);
    let name = site.rig.name().to_string();
    register(&site, "a", HOUR_MS).await;
    let path = id_path(&site, "a");
    assert!(browser.get(&path).await.is(303).leads_to().starts_with("/login?next=%2Fqueues%2F"));
    browser.get("/live").await.is(401);
    browser.post(&path, "action=cancel").await.is(401);
    log_in(&mut browser, "nobody-0123456789abcdef").await.is(401).has(&["not known"]);
    log_in(&mut browser, "shop-0123456789abcdef").await.is(401);

    assert_eq!(log_in(&mut browser, "watch-0123456789abcdef").await.is(303).leads_to(), "/queues/x");
    browser.get(&path).await.is(200).has(&["watch", "read-only"]).has_not(&["Cancel it"]);
    browser.post(&path, "action=cancel").await.is(403);
    browser.post(&format!("/queues/{name}"), "action=pause").await.is(403);
    browser.get(&format!("/queues/{name}/dead?action=retry")).await.is(403);
    // A session is for pages: the interface wants the token itself.
    browser.get("/v1/queues").await.is(401);

    log_in(&mut browser, "ops-0123456789abcdef").await.is(303);
    browser.act(&path, "action=cancel").await.has(&["Cancelled"]);
    browser.post("/logout", "").await.is(303);
    browser.get("/").await.is(303);
    site.serve.stop().await;
}

#[tokio::test]
async fn read_only_shows_and_does_nothing() {
    let site = Site::on(RedisServer::shared(), "pull", "", "[http]\nread_only = true\n").await;
    let browser = Browser::new(&site);
    register(&site, "a", HOUR_MS).await;
    let path = id_path(&site, "a");
    browser.get(&path).await.is(200).has(&["read-only"]).has_not(&["Cancel it"]);
    browser.post(&path, "action=cancel").await.is(403);
    site.call("DELETE", "/deadlines/a", serde_json::Value::Null).await.is(200);
    site.serve.stop().await;
}

#[tokio::test]
async fn style_and_script_are_kept_by_browsers_until_they_change() {
    let site = Site::pull().await;
    let browser = Browser::new(&site);
    let page = browser.get("/").await.is(200);
    for name in ["style.css", "live.js"] {
        let address = page.text.split('"').find(|part| part.contains(name)).unwrap();
        let asset = browser.get(address).await.is(200);
        assert!(
            address.contains('?')
                && asset.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable")
        );
    }
    tokio::time::timeout(Duration::from_secs(30), site.serve.stop()).await.expect("nothing holds it");
}
