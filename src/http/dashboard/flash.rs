//! The line that says what an action did. It travels in the address of the page that shows it, with a seal that only this
//! process can make: else a link from elsewhere could say that an id was cancelled.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::words;
use crate::http::{extract::Params, problem::Problem};

/// The key of this process. Another one does not know its lines, and shows none.
pub(in crate::http) struct Flash([u8; 32]);

impl Default for Flash {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl Flash {
    /// The address of a page that says what was done.
    pub(super) fn url(&self, path: &str, query: &[(&str, &str)], done: &str) -> String {
        let seal = BASE64_URL_SAFE_NO_PAD.encode(self.mac(done).finalize().into_bytes());
        words::url(path, &[query, &[("done", done), ("seal", &seal)]].concat())
    }

    /// The line of the address that was asked for; none without its seal.
    pub(super) fn take(&self, params: &mut Params) -> Result<Option<String>, Problem> {
        let (done, seal) = (params.words("done", 200)?, params.words("seal", 100)?);
        let seal = seal.and_then(|seal| BASE64_URL_SAFE_NO_PAD.decode(seal).ok()).unwrap_or_default();
        Ok(done.filter(|done| self.mac(done).verify_slice(&seal).is_ok()))
    }

    fn mac(&self, done: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(done.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_process_said_is_shown() {
        let flash = Flash::default();
        let shown = |flash: &Flash, url: &str| {
            let (_, query) = url.split_once('?').unwrap();
            let mut params = Params::of(query.as_bytes());
            let done = flash.take(&mut params).unwrap();
            assert!(params.no_more().is_ok());
            done
        };
        let url = flash.url("/queues/orders", &[], "Cancelled: it will not fire.");
        assert_eq!(shown(&flash, &url).as_deref(), Some("Cancelled: it will not fire."));
        assert_eq!(shown(&flash, &url.replace("Cancelled", "Fired")), None);
        assert_eq!(shown(&Flash::default(), &url), None);
        for seal in ["", "&seal=", "&seal=AAAA", "&seal=%00"] {
            assert_eq!(shown(&flash, &format!("/?done=Cancelled{seal}")), None, "{seal}");
        }
    }
}
