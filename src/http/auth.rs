//! Who may call what. With tokens, by bearer token and scope. In any case a browser cannot be made to call on behalf
//! of a page of another site.

use std::{collections::BTreeSet, fs, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use subtle::ConstantTimeEq as _;

use super::{
    SetupError,
    problem::{Kind, Problem},
};
use crate::config::{HttpConfig, Scope, TokenDigest};

/// Who may do what.
#[derive(Debug)]
pub(super) struct Access {
    callers: Vec<Caller>,
    /// True if only names of this machine may stand in Host: a page that has its own name lead to 127.0.0.1 (DNS
    /// rebinding) is of one origin with us to a browser, and only the name in Host gives it away.
    local_names_only: bool,
}

#[derive(Debug)]
struct Caller {
    name: String,
    scopes: BTreeSet<Scope>,
    digest: TokenDigest,
}

impl Caller {
    fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

impl Access {
    /// Reads the token files.
    pub(super) fn new(config: &HttpConfig) -> Result<Self, SetupError> {
        let mut callers = Vec::new();
        for (name, token) in &config.tokens {
            let mut digests = token.token.clone();
            for path in &token.token_file {
                let bad = |why| SetupError::new("http.tokens.*.token_file", path, why);
                let text =
                    fs::read_to_string(path).map_err(|cause| bad(format!("cannot be read: {cause}")))?;
                digests.push(
                    TokenDigest::of_new(&text).map_err(|invalid| bad(format!("cannot be: {invalid}")))?,
                );
            }
            let caller = |digest| Caller { name: name.clone(), scopes: token.scopes.clone(), digest };
            callers.extend(digests.into_iter().map(caller));
        }
        let is_local = config.listen.is_some_and(|listen| listen.ip().is_loopback());
        Ok(Self { local_names_only: callers.is_empty() && is_local, callers })
    }

    /// True if calls need a token.
    pub(super) fn is_restricted(&self) -> bool {
        !self.callers.is_empty()
    }

    pub(super) fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Problem> {
        if !self.is_restricted() {
            return Ok(());
        }
        let Some(token) = headers.get(header::AUTHORIZATION).and_then(bearer) else {
            return Err(Problem::new(Kind::Unauthorized, Kind::Unauthorized.parts().3));
        };
        let callers = self.callers_with(token);
        let Some(first) = callers.first() else {
            return Err(Problem::new(Kind::Unauthorized, "this token is not known here"));
        };
        if callers.iter().any(|caller| caller.may(scope)) {
            return Ok(());
        }
        Err(Problem::new(Kind::Forbidden, format_args!("`{}` lacks the scope `{scope}`", first.name)))
    }

    /// The name of a token that has a scope.
    pub(super) fn name_of(&self, token: &[u8], scope: Scope) -> Option<&str> {
        self.callers_with(token)
            .into_iter()
            .find(|caller| caller.may(scope))
            .map(|caller| caller.name.as_str())
    }

    /// Compares with all of them, whichever fits, each in constant time. A token may stand under several names.
    fn callers_with(&self, token: &[u8]) -> Vec<&Caller> {
        let shown = TokenDigest::of(token);
        let fits = |caller: &&Caller| bool::from(caller.digest.as_bytes().ct_eq(shown.as_bytes()));
        self.callers.iter().filter(fits).collect()
    }

    /// Refuses calls that a browser makes for a page of another site. A link from there, as in the message of an alert, is
    /// none: whoever follows it leaves that page, which cannot read what comes, and nothing is changed by a GET.
    pub(super) fn check_origin(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = uri.authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| text(header::HOST)).unwrap_or_default();
        let origin = text(header::ORIGIN);
        let same = origin.is_none_or(|origin| {
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        });
        let site = headers.get("sec-fetch-site").map_or("none", |site| site.to_str().unwrap_or_default());
        let says = |name, wanted| headers.get(name).is_some_and(|value: &HeaderValue| value == wanted);
        let is_link =
            method == Method::GET && says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
        if !same || !(is_link || ["none", "same-origin"].contains(&site)) {
            return Err(Problem::new(Kind::CrossOrigin, Kind::CrossOrigin.parts().3));
        }
        if self.local_names_only && !is_local_name(host) {
            let why = "Host is no name of this machine: without tokens it must be localhost or an IP address";
            return Err(Problem::new(Kind::CrossOrigin, why));
        }
        Ok(())
    }
}

/// A layer for all routes: no cross-site calls.
pub(super) async fn same_origin(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    access.check_origin(request.method(), request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

/// A layer for the routes that need a scope.
pub(super) async fn scoped(
    State((access, scope)): State<(Arc<Access>, Scope)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    access.check(request.headers(), scope)?;
    Ok(next.run(request).await)
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// `localhost` and IP addresses, with or without a port. An empty one is no browser's.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    name.is_empty() || name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(local_names_only: bool) -> Access {
        let caller = |name: &str, scope, token: &str| Caller {
            name: name.to_owned(),
            scopes: [scope].into(),
            digest: TokenDigest::of(token.as_bytes()),
        };
        let callers = vec![
            caller("shop", Scope::Write, "old"),
            caller("shop", Scope::Write, "new"),
            caller("root", Scope::Admin, "root"),
        ];
        Access { callers, local_names_only }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_opens_what_its_scopes_say() {
        let check = |value, scope| {
            access(false).check(&headers(&[("authorization", value)]), scope).map_err(|problem| problem.kind)
        };
        assert_eq!(check("Bearer old", Scope::Write), Ok(()));
        assert_eq!(check("bearer  new", Scope::Write), Ok(()));
        assert_eq!(check("Bearer new", Scope::Read), Err(Kind::Forbidden));
        assert_eq!(check("Bearer root", Scope::Work), Ok(()));
        for bad in ["Bearer nobody", "Bearer", "Basic old", "old", "Bearer old x"] {
            assert_eq!(check(bad, Scope::Write), Err(Kind::Unauthorized), "{bad}");
        }
        assert!(access(false).check(&HeaderMap::new(), Scope::Read).is_err());
    }

    #[test]
    fn browsers_cannot_be_sent_by_other_sites() {
        let uri = Uri::from_static("/v1/queues");
        let check =
            |local, pairs: &[_]| access(local).check_origin(&Method::GET, &uri, &headers(pairs)).is_ok();
        let ours = ("host", "127.0.0.1:7700");
        assert!(check(true, &[ours]));
        assert!(check(true, &[ours, ("origin", "http://127.0.0.1:7700")]));
        assert!(!check(true, &[ours, ("origin", "https://evil.example")]));
        assert!(!check(false, &[ours, ("origin", "null")]));
        assert!(!check(false, &[ours, ("sec-fetch-site", "cross-site")]));
        let link = [
            ours,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(check(true, &link));
        assert!(!check(true, &[&link[..3], &[("sec-fetch-dest", "iframe")]].concat()));
        assert!(access(true).check_origin(&Method::POST, &uri, &headers(&link)).is_err());
        for (host, is_local) in
            [("localhost:7700", true), ("[::1]:7700", true), ("[::1]", true), ("evil.example:7700", false)]
        {
            assert_eq!(check(true, &[("host", host)]), is_local, "{host}");
            assert!(check(false, &[("host", host)]), "{host}");
        }
    }
}
