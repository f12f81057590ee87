//! The dashboard at `/`: pages for whoever has to know, at 3 a.m., whether deadlines fire on time.
//!
//! # Layout
//! - this file: the routes, who is looking, and what goes wrong
//! - `session`: logging in with a token
//! - `live`: one look at all queues, shared by all who watch, and its stream
//! - `layout`, `words`, `charts`, `assets`: what pages are made of; `flash`: what an action says on the next one
//! - `overview`, `queue`, `id`, `orders`: the pages
//! - `actions`: what can be done on them; `bulk` for many at once
//!
//! Pages work without a script; with one, numbers change by themselves. Nothing on them is unbounded: lists have pages,
//! and what costs Redis more than a few lookups is asked for once for all viewers.

mod actions;
mod assets;
mod bulk;
mod charts;
mod flash;
mod id;
mod layout;
mod live;
mod orders;
mod overview;
mod queue;
mod session;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequest, FromRequestParts, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
pub(super) use flash::Flash;
use http::{HeaderValue, StatusCode, header, request::Parts};
pub(super) use live::Live;
use maud::{Markup, html};
pub(super) use session::Sessions;

use super::{
    Api, Served,
    auth::Access,
    extract::{OnQueueWith, Params, check_type, whole},
    problem::{Kind, Problem},
};

/// No script, style or frame but ours, whatever an id or a payload says; nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The pages, which need the scope `read`, and what stands beside them.
pub(super) fn routes(access: &Arc<Access>, api: &Api) -> Router<Api> {
    let pages = Router::new()
        .route("/", get(overview::page))
        .route("/live", get(live::stream))
        .route("/queues/{queue}", get(queue::page).post(actions::on_queue))
        .route("/queues/{queue}/id", get(id::page).post(actions::on_id))
        .route("/queues/{queue}/dead", get(bulk::preview).post(bulk::run))
        .route("/orders/{queue}", get(orders::list))
        .route("/orders/{queue}/order", get(orders::order))
        .layer(middleware::from_fn_with_state((Arc::clone(access), api.clone()), viewed));
    Router::new()
        .merge(pages)
        .route("/login", get(session::form).post(session::log_in))
        .route("/logout", post(session::log_out))
        .layer(axum::Extension(Arc::clone(access)))
        .route(assets::STYLE.path, get(async || assets::STYLE.answer()))
        .route(assets::SCRIPT.path, get(async || assets::SCRIPT.answer()))
        .layer(middleware::from_fn(guarded))
}

/// Who is looking.
#[derive(Debug, Clone)]
struct Viewer {
    /// The name of the token; none where none is needed.
    name: Option<String>,
    /// True if actions are offered and taken.
    may_act: bool,
}

impl Viewer {
    /// For the log.
    fn who(&self) -> &str {
        self.name.as_deref().unwrap_or("-")
    }

    fn check_may_act(&self) -> Result<(), Problem> {
        if self.may_act {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Forbidden,
            "this dashboard is read-only, or your token lacks the scope `admin`",
        ))
    }
}

impl FromRequestParts<Api> for Viewer {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Failed> {
        let missing = || Failed::from(Problem::new(Kind::Unauthorized, Kind::Unauthorized.parts().3));
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}

/// A layer for the pages: lets in who may see them, and sends others to log in.
async fn viewed(
    State((access, api)): State<(Arc<Access>, Api)>,
    mut request: Request,
    next: Next,
) -> Response {
    let viewer = if access.is_restricted() {
        api.sessions.viewer(request.headers())
    } else {
        Some(Viewer { name: None, may_act: true })
    };
    let Some(viewer) = viewer else {
        let is_page = request.method() == http::Method::GET && request.uri().path() != "/live";
        if !is_page {
            return Failed::from(Problem::new(Kind::Unauthorized, "log in first")).into_response();
        }
        let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
        return words::see_other(&words::url("/login", &[("next", next)]));
    };
    request.extensions_mut().insert(Viewer { may_act: viewer.may_act && !api.read_only, ..viewer });
    next.run(request).await
}

/// A layer for everything here: what keeps a page from becoming somebody else's.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// What went wrong, as a page.
struct Failed(Problem);

impl<T: Into<Problem>> From<T> for Failed {
    fn from(problem: T) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (title, detail) = self.0.told();
        let body = html! {
            h1 { (title) }
            p { (detail) }
            p { a href="/" { "All queues" } }
        };
        (status, html_page(layout::bare(title, &body))).into_response()
    }
}

fn html_page(markup: Markup) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], markup.into_string()).into_response()
}

/// The queue that the path names, and the query.
struct On {
    served: Arc<Served>,
    params: Params,
}

impl FromRequestParts<Api> for On {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Failed> {
        let OnQueueWith { served, params } = OnQueueWith::from_request_parts(parts, api).await?;
        Ok(Self { served, params })
    }
}

/// What a form sent.
struct Form(Params);

impl FromRequest<Api> for Form {
    type Rejection = Failed;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Failed> {
        check_type(request.headers(), "application/x-www-form-urlencoded")?;
        let body = whole(request.into_body(), api).await?;
        Ok(Self(Params::of(&body)))
    }
}
