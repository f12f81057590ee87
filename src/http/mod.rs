//! The HTTP interface: the verbs of the engine under `/v1`, for callers without Redis access and for workers in any
//! language. `docs/http.md` is its reference.
//!
//! # Layout
//! - this file: what the routes share, and the table of routes
//! - `server`: connections: limits, timeouts, TLS, the stop; `stall` and `tls` belong to it
//! - `auth`: tokens and scopes, and no calls by pages of other sites
//! - `problem`, `extract`, `etag`: errors, and what is read of a request
//! - `deadlines`, `create`, `list`, `batch` with `lines`, `dead`, `queues`, `pull` and `settle`: the routes, by what
//!   they are about
//! - `orders`: the routes of orders
//! - `dashboard`: the pages at `/`
//! - `health`, `metrics`, `openapi`: for those who run it and those who write clients; `schema` belongs to the last
//!
//! Reachable are the queues of the configuration: nothing here would deliver what is registered in another.

mod auth;
mod batch;
mod create;
mod dashboard;
mod dead;
mod deadlines;
mod etag;
mod extract;
#[cfg(test)]
mod fuzz;
mod health;
mod lines;
mod list;
mod metrics;
mod openapi;
mod orders;
mod problem;
mod pull;
mod queues;
mod schema;
mod server;
mod settle;
mod stall;
mod tls;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::DefaultBodyLimit, middleware, response::IntoResponse as _};
use http::{HeaderValue, header};
use problem::{Kind, Problem};
pub use server::Server;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::{HttpConfig, Scope},
    order::Orders,
    queue::Queue,
    redis::Redis,
    scheduler::{Pulse, Settings},
    types::{DurabilityLevel, QueueName},
};

/// An interface that cannot be set up as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file is missing or not what it should be.
    #[error("`{key}` {} {why}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address} (`http.listen`): {cause}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The operating system's reason.
        cause: std::io::Error,
    },
}

impl SetupError {
    fn new(key: &'static str, path: &Path, why: String) -> Self {
        Self::File { key, path: path.to_owned(), why }
    }
}

/// A queue as the interface sees it.
#[derive(Clone)]
pub struct Served {
    /// The verbs.
    pub queue: Queue,
    /// What is configured for it, as it is now.
    pub settings: watch::Receiver<Settings>,
    /// The `type` of its handler.
    pub handler: &'static str,
    /// Whether it is polled.
    pub pulse: Pulse,
    /// The orders whose deadlines are in it, if it is a queue of orders.
    pub orders: Option<Orders>,
    /// Who claims: the waiters of a queue take turns, first come, first served.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Served {
    /// A queue with what belongs to it.
    #[must_use]
    pub fn new(
        queue: Queue,
        settings: watch::Receiver<Settings>,
        handler: &'static str,
        pulse: Pulse,
    ) -> Self {
        Self { queue, settings, handler, pulse, orders: None, turn: Arc::default() }
    }

    /// The same for a queue of orders.
    #[must_use]
    pub fn of_orders(self, orders: Orders) -> Self {
        Self { orders: Some(orders), ..self }
    }

    fn name(&self) -> &QueueName {
        self.queue.name()
    }

    /// The same for a call that names a level of durability.
    fn durable_at(self: &Arc<Self>, level: Option<DurabilityLevel>) -> Arc<Self> {
        match level {
            None => Arc::clone(self),
            Some(_) => Arc::new(Self { queue: self.queue.durable_at(level), ..(**self).clone() }),
        }
    }

    /// False if it holds deadlines of orders. Those are changed with their orders only: else an order would be left
    /// without one.
    fn is_writable(&self) -> bool {
        self.orders.is_none() && self.name().as_companion().is_none()
    }

    fn check_writable(&self) -> Result<(), Problem> {
        if self.is_writable() {
            return Ok(());
        }
        let name = self.name();
        let why = format!("queue `{name}` holds deadlines of orders: use /v1/orders");
        Err(Problem::new(Kind::QueueOfOrders, why))
    }
}

/// What all routes share. Cheap to clone.
#[derive(Clone)]
struct Api(Arc<Shared>);

struct Shared {
    redis: Redis,
    queues: BTreeMap<QueueName, Arc<Served>>,
    /// How long a body may stall.
    idle_timeout: Duration,
    /// Waiting ends with it.
    stop: CancellationToken,
    /// Places for those who wait or follow: fewer than connections, so that probes always find one.
    waiting: Arc<Semaphore>,
    /// What the dashboard shows of all queues.
    live: dashboard::Live,
    /// Who is logged in to it.
    sessions: dashboard::Sessions,
    /// What its actions say.
    flash: dashboard::Flash,
    /// True if it offers and takes no actions.
    read_only: bool,
    /// True if connections speak TLS.
    tls: bool,
}

impl std::ops::Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    fn new(
        redis: Redis,
        queues: impl IntoIterator<Item = Served>,
        config: &HttpConfig,
        stop: CancellationToken,
    ) -> Self {
        let queues = queues.into_iter().map(|served| (served.name().clone(), Arc::new(served))).collect();
        let waiting = Arc::new(Semaphore::new((config.max_connections * 3 / 4).max(1)));
        Self(Arc::new(Shared {
            redis,
            queues,
            idle_timeout: config.idle_timeout,
            stop,
            waiting,
            live: dashboard::Live::default(),
            sessions: dashboard::Sessions::default(),
            flash: dashboard::Flash::default(),
            read_only: config.read_only,
            tls: config.tls.is_some(),
        }))
    }

    /// To be held by a request that waits or follows.
    fn waiting_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        place.map_err(|_| Problem::new(Kind::TooManyWaiting, Kind::TooManyWaiting.parts().3))
    }

    fn served(&self, name: &str) -> Result<&Arc<Served>, Problem> {
        /// How many names an error lists.
        const SHOWN: usize = 20;
        let found = QueueName::new(name).ok().and_then(|name| self.queues.get(&name));
        found.ok_or_else(|| {
            let mut names: Vec<&str> = self.queues.keys().take(SHOWN).map(QueueName::as_str).collect();
            if self.queues.len() > SHOWN {
                names.push("…");
            }
            let (name, names) = (name.escape_debug(), names.join(", "));
            let why = format_args!("queue `{name}` is not served here; those are: {names}").to_string();
            Problem::new(Kind::QueueNotFound, why).field("queue")
        })
    }
}

/// All routes, by the scope that they need, and the document that describes them.
fn routes(access: &Arc<auth::Access>) -> (Router<Api>, utoipa::openapi::OpenApi) {
    let needing = |scope, router: OpenApiRouter<Api>| {
        router.route_layer(middleware::from_fn_with_state((Arc::clone(access), scope), auth::scoped))
    };
    let read = OpenApiRouter::new()
        .routes(routes!(deadlines::get))
        .routes(routes!(list::list))
        .routes(routes!(dead::list))
        .routes(routes!(queues::list))
        .routes(routes!(queues::get))
        .routes(routes!(orders::list))
        .routes(routes!(orders::get))
        .routes(routes!(orders::events::events))
        .routes(routes!(metrics::metrics));
    let write = OpenApiRouter::new()
        .routes(routes!(deadlines::put, deadlines::patch, deadlines::delete))
        .routes(routes!(deadlines::fire))
        .routes(routes!(create::post))
        .routes(routes!(batch::batch))
        .routes(routes!(orders::create::post))
        .routes(routes!(orders::create::put))
        .routes(routes!(orders::change::pay))
        .routes(routes!(orders::change::cancel))
        .routes(routes!(orders::change::extend));
    let work = OpenApiRouter::new()
        .routes(routes!(pull::claim))
        .routes(routes!(settle::ack))
        .routes(routes!(settle::retry))
        .routes(routes!(settle::extend))
        .routes(routes!(settle::bury));
    let admin = OpenApiRouter::new()
        .routes(routes!(dead::retry_one))
        .routes(routes!(dead::retry))
        .routes(routes!(dead::delete))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume));
    let open = OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(openapi::document));
    OpenApiRouter::with_openapi(openapi::head())
        .merge(needing(Scope::Read, read))
        .merge(needing(Scope::Write, write))
        .merge(needing(Scope::Work, work))
        .merge(needing(Scope::Admin, admin))
        .merge(open)
        .split_for_parts()
}

/// The whole interface.
fn router(api: Api, access: Arc<auth::Access>) -> Router {
    let (router, document) = routes(&access);
    let document = openapi::finish(&document, access.is_restricted());
    let no_store =
        SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let no_sniffing = SetResponseHeaderLayer::overriding(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    router
        .merge(dashboard::routes(&access, &api))
        .fallback(async || Problem::new(Kind::NoSuchRoute, Kind::NoSuchRoute.parts().3))
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::MethodNotAllowed, Kind::MethodNotAllowed.parts().3)
        })
        // The extractors hold the limits: a batch has none but that of a line.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(access, auth::same_origin))
        .layer(no_store)
        .layer(no_sniffing)
        .layer(CatchPanicLayer::custom(|_| {
            tracing::error!("an HTTP handler panicked");
            Problem::new(Kind::Internal, Kind::Internal.parts().3).into_response()
        }))
        .layer(axum::Extension(document))
        .with_state(api)
}
