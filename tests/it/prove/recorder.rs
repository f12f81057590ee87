//! A webhook receiver that writes down what it is given, and fails as its policy says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode};
use overdue::{DueAt, Token};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::{
    clients::named_by,
    history::{Event, History, now_us},
};

/// How often the receiver is not as it should be. What it says depends on the dice alone, not on the id.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Policy {
    /// The share of calls that are answered 500 and done nothing for.
    pub(crate) failing: f64,
    /// The share that takes this much longer.
    pub(crate) slow: (f64, Duration),
    /// The share that is done and answered 410: not to be tried again, so it goes to the dead set.
    pub(crate) gone: f64,
}

/// A running receiver.
pub(crate) struct Recorder {
    address: SocketAddr,
}

#[derive(Clone)]
struct Shared {
    history: Arc<History>,
    policy: Policy,
    dice: Arc<Mutex<StdRng>>,
}

#[derive(Deserialize)]
struct Call {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    due_at: DueAt,
    token: u64,
    payload: Option<String>,
}

impl Recorder {
    /// Listens on a free port and writes to this history.
    pub(crate) async fn start(history: &Arc<History>, policy: Policy, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        let shared = Shared { history: Arc::clone(history), policy, dice };
        let router = Router::new().fallback(receive).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address }
    }

    /// The handler's section of a queue in a configuration file.
    pub(crate) fn handler(&self) -> String {
        format!("handler = {{ type = \"webhook\", url = \"http://{}/\" }}\n", self.address)
    }
}

async fn receive(State(shared): State<Shared>, body: Bytes) -> StatusCode {
    let began_us = now_us();
    let call: Call = serde_json::from_slice(&body).expect("the event of a deadline");
    let Policy { failing, slow, gone } = shared.policy;
    let (fate, is_slow) = {
        let mut dice = shared.dice.lock().expect("held briefly");
        (dice.random::<f64>(), dice.random_bool(slow.0))
    };
    if is_slow {
        tokio::time::sleep(slow.1).await;
    }
    let done = fate >= failing;
    let Data { id, due_at, token, payload } = call.data;
    let id = named_by(id, payload.as_deref());
    shared
        .history
        .add(began_us, Event::Handled { id, due_ms: due_at.as_ms(), token: Some(Token::new(token)), done });
    match fate {
        _ if !done => StatusCode::INTERNAL_SERVER_ERROR,
        _ if fate < failing + gone => StatusCode::GONE,
        _ => StatusCode::NO_CONTENT,
    }
}
