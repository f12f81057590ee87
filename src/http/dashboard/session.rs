//! Logging in: a browser shows a token once and gets a cookie for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{Markup, html};

use super::{Failed, Form, Viewer, html_page, layout, words};
use crate::{
    config::{Scope, TokenDigest},
    http::{Api, auth::Access, extract::Params},
};

const COOKIE: &str = "overdue_session";
/// How long a session lasts: a day at work.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// How many there are at most. One more ends the oldest.
const MOST: usize = 1000;

/// Who is logged in. Sessions end with the process.
#[derive(Default)]
pub(in crate::http) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

struct Session {
    viewer: Viewer,
    begun: Instant,
}

impl Sessions {
    /// Who sent these headers.
    pub(super) fn viewer(&self, headers: &HeaderMap) -> Option<Viewer> {
        let sessions = self.all();
        let session = sessions.get(&digest(cookie(headers)?))?;
        (session.begun.elapsed() < LASTS).then(|| session.viewer.clone())
    }

    /// Begins one, and answers its secret.
    fn begin(&self, viewer: Viewer) -> String {
        let secret = format!("{:032x}", rand::random::<u128>());
        let mut sessions = self.all();
        sessions.retain(|_, session| session.begun.elapsed() < LASTS);
        while sessions.len() >= MOST
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.begun).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(digest(&secret), Session { viewer, begun: Instant::now() });
        secret
    }

    fn end(&self, headers: &HeaderMap) {
        if let Some(secret) = cookie(headers) {
            self.all().remove(&digest(secret));
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looked up by its digest, the time that takes tells nothing of a secret.
fn digest(secret: &str) -> [u8; 32] {
    *TokenDigest::of(secret.as_bytes()).as_bytes()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Lax: it comes with links from elsewhere, such as those of an alert, and not with forms from elsewhere.
fn set_cookie(secret: &str, lasts: Duration, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={secret}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}", lasts.as_secs());
    HeaderValue::from_str(&text).expect("hex digits and fixed words are a header")
}

pub(super) async fn form(mut params: Params) -> Result<Response, Failed> {
    let next = params.words("next", 2000)?;
    params.no_more()?;
    Ok(html_page(page(next.as_deref().unwrap_or("/"), None)))
}

fn page(next: &str, wrong: Option<&str>) -> Markup {
    layout::bare(
        "Log in",
        &html! {
            h1 { "overdue" }
            form.login method="post" action="/login" {
                label for="token" { "Token" }
                input #token name="token" type="password" required autofocus autocomplete="current-password";
                input type="hidden" name="next" value=(next);
                button { "Log in" }
            }
            @if let Some(wrong) = wrong { p.flash role="alert" { (wrong) } }
            p.note { "A token of the configuration with the scope read to look, or admin to act." }
        },
    )
}

pub(super) async fn log_in(
    State(api): State<Api>,
    Extension(access): Extension<Arc<Access>>,
    Form(mut form): Form,
) -> Result<Response, Failed> {
    let token = form.words("token", 4096)?.unwrap_or_default();
    let next = form.words("next", 2000)?.unwrap_or_default();
    form.no_more()?;
    let token = token.trim().as_bytes();
    let Some(name) = access.name_of(token, Scope::Read) else {
        tracing::warn!("a login to the dashboard was refused");
        let wrong = "This token is not known here, or has neither the scope read nor admin.";
        return Ok((StatusCode::UNAUTHORIZED, html_page(page(&next, Some(wrong)))).into_response());
    };
    let may_act = access.name_of(token, Scope::Admin).is_some();
    tracing::info!(who = name, may_act, "logged in to the dashboard");
    let secret = api.sessions.begin(Viewer { name: Some(name.to_owned()), may_act });
    let mut response = words::see_other(own_page(&next));
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(&secret, LASTS, api.tls));
    Ok(response)
}

/// Only a path of ours: `//host` and `/\host` lead elsewhere, and so does `/` with a tab or a line break before the second
/// slash, which browsers take out. What is asked for here is escaped, so it has nothing but visible ASCII.
fn own_page(next: &str) -> &str {
    let is_visible = next.bytes().all(|byte| byte.is_ascii_graphic());
    let leads_away = next.get(1..2).is_some_and(|second| second == "/" || second == "\\");
    if is_visible && next.starts_with('/') && !leads_away { next } else { "/" }
}

pub(super) async fn log_out(State(api): State<Api>, headers: HeaderMap) -> Response {
    api.sessions.end(&headers);
    let mut response = words::see_other("/login");
    response.headers_mut().insert(header::SET_COOKIE, set_cookie("", Duration::ZERO, api.tls));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        [(header::COOKIE, HeaderValue::from_str(cookie).unwrap())].into_iter().collect()
    }

    #[test]
    fn a_session_is_that_of_its_secret_until_it_ends() {
        let sessions = Sessions::default();
        let secret = sessions.begin(Viewer { name: Some("ops".to_owned()), may_act: false });
        let with = headers(&format!("theme=dark; {COOKIE}={secret}"));
        assert_eq!(sessions.viewer(&with).unwrap().who(), "ops");
        for other in ["", &format!("{COOKIE}="), &format!("{COOKIE}={}", "0".repeat(32)), "overdue=1"] {
            assert!(sessions.viewer(&headers(other)).is_none(), "{other}");
        }
        sessions.end(&with);
        assert!(sessions.viewer(&with).is_none());
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let sessions = Sessions::default();
        let viewer = || Viewer { name: None, may_act: false };
        let first = sessions.begin(viewer());
        (0..MOST).for_each(|_| drop(sessions.begin(viewer())));
        assert_eq!(sessions.all().len(), MOST);
        assert!(sessions.viewer(&headers(&format!("{COOKIE}={first}"))).is_none());
    }

    #[test]
    fn after_logging_in_nobody_is_led_elsewhere() {
        for (next, page) in [
            ("/queues/orders?state=dead", "/queues/orders?state=dead"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/\t/evil.example", "/"),
            ("/\n/evil.example", "/"),
            ("\t//evil.example", "/"),
            ("/ü", "/"),
            ("/", "/"),
            ("https://evil.example", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_page(next), page, "{next}");
        }
    }
}
