//! Style and script: ours, compiled in.

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header;
use sha2::{Digest as _, Sha256};

/// A file that pages refer to. Its address has a query that changes with its content, so it can be kept for ever.
pub(super) struct Asset {
    pub(super) path: &'static str,
    media_type: &'static str,
    content: &'static str,
    address: LazyLock<String>,
}

pub(super) static STYLE: Asset = Asset {
    path: "/assets/style.css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("style.css"),
    address: LazyLock::new(|| STYLE.address_now()),
};

pub(super) static SCRIPT: Asset = Asset {
    path: "/assets/live.js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("live.js"),
    address: LazyLock::new(|| SCRIPT.address_now()),
};

impl Asset {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    fn address_now(&self) -> String {
        let digest = Sha256::digest(self.content);
        format!("{}?{:02x}{:02x}{:02x}{:02x}", self.path, digest[0], digest[1], digest[2], digest[3])
    }

    pub(super) fn answer(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.media_type),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        ];
        (headers, self.content).into_response()
    }
}
