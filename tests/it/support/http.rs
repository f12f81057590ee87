//! A `serve` with HTTP for one queue, and a client of it.

use std::sync::Once;

use reqwest::{Client, Method, RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;

use super::{
    LIMIT, RedisServer, Rig,
    process::{Place, Serve, field},
};

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a whole answer") }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Expects this status and gives the JSON.
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// Expects a problem of this type and gives it.
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.is(status);
        assert_eq!(problem["type"], format!("urn:overdue:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        problem
    }
}

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) base: String,
}

impl Caller {
    pub(crate) fn new(base: String) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Fails if another test was faster, with the same one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Self { client: Client::builder().timeout(LIMIT).build().expect("a client"), base }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().expect("a method");
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path).send().await.expect("an answer")).await
    }

    /// A call with a JSON body; null is none.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.request(method, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request.send().await.expect("an answer")).await
    }
}

/// A queue of its own on the shared Redis, served by a process that listens.
pub(crate) struct Site {
    pub(crate) rig: Rig,
    pub(crate) serve: Serve,
    pub(crate) caller: Caller,
    pub(crate) place: Place,
}

impl Site {
    /// With this handler; `more` goes into the section of the queue.
    pub(crate) async fn new(handler: &str, more: &str) -> Self {
        Self::on(RedisServer::shared(), handler, more, "").await
    }

    /// A queue that workers pull from.
    pub(crate) async fn pull() -> Self {
        Self::new("pull", "").await
    }

    /// The same on a Redis of its own; `top` stands above the queue.
    pub(crate) async fn on(redis: &RedisServer, handler: &str, more: &str, top: &str) -> Self {
        let rig = Rig::on(redis).await;
        let (url, queue) = (redis.url(), rig.name());
        let place = Place::new(&format!(
            "[redis]\nurl = \"{url}\"\n{top}\n[queue.{queue}]\npoll_interval = \"20ms\"\n\
             handler = {{ type = \"{handler}\" }}\n{more}"
        ));
        let serve = place.serve().await;
        let line = serve.says("serving").await;
        let address = field(&line, "http").expect("it listens");
        Self { caller: Caller::new(format!("http://{address}")), rig, serve, place }
    }

    /// A path below the queue.
    pub(crate) fn path(&self, tail: &str) -> String {
        format!("/v1/queues/{}{tail}", self.rig.name())
    }

    /// A call below the queue.
    pub(crate) async fn call(&self, method: &str, tail: &str, body: Value) -> Answer {
        self.caller.call(method, &self.path(tail), body).await
    }

    pub(crate) async fn get(&self, tail: &str) -> Answer {
        self.caller.get(&self.path(tail)).await
    }

    pub(crate) async fn post(&self, tail: &str, body: Value) -> Answer {
        self.call("POST", tail, body).await
    }

    pub(crate) async fn put(&self, id: &str, body: Value) -> Answer {
        self.call("PUT", &format!("/deadlines/{id}"), body).await
    }
}
