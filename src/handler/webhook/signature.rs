//! Signatures by Standard Webhooks 1.0.0: HMAC-SHA256 over `{id}.{timestamp}.{body}`, in base64, one `v1,…`
//! for each secret.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{config::Secret, duration};

const VERSION: &str = "v1";

/// What a signature covers.
///
/// ```
/// use overdue::{config::Secret, handler::webhook::Signed};
/// let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
/// let signed = Signed { id: "msg_1", timestamp_s: 1_614_265_330, body: b"{}" };
/// let signature = signed.signature(&[secret.clone()]);
/// assert!(signature.starts_with("v1,"));
/// let tolerance = std::time::Duration::from_secs(300);
/// assert!(signed.verify(&[secret], &signature, 1_614_265_400, tolerance).is_ok());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The header `webhook-id`.
    pub id: &'a str,
    /// The header `webhook-timestamp`: when it was sent, in seconds since the Unix epoch.
    pub timestamp_s: i64,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// Why a signed call is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody may have recorded it and sends it again.
    #[error("the timestamp is {} old, more than the tolerance of {}", text(.age), text(.tolerance))]
    TooOld {
        /// How old.
        age: Duration,
        /// How old it may be.
        tolerance: Duration,
    },
    /// One of the two clocks is wrong.
    #[error("the timestamp is {} ahead, more than the tolerance of {}: is this clock right?", text(.ahead), text(.tolerance))]
    TooNew {
        /// How far ahead.
        ahead: Duration,
        /// How far ahead it may be.
        tolerance: Duration,
    },
    /// No sender may use such an id: what was signed could be read as another id, time and body.
    #[error("the id has a dot, so what was signed can be read in more than one way")]
    Ambiguous,
    /// The header `webhook-signature` has none of version 1.
    #[error("no signature begins with `v1,`")]
    NoSignature,
    /// Another secret, or the id, the timestamp or the body is not what was signed.
    #[error("no signature fits: another secret, or the id, the timestamp or a byte of the body differs")]
    Mismatch,
}

fn text(duration: &Duration) -> String {
    duration::format(*duration)
}

impl Signed<'_> {
    /// The header `webhook-signature`: a signature for each secret, with spaces between.
    #[must_use]
    pub fn signature(&self, secrets: &[Secret]) -> String {
        let sign =
            |secret| format!("{VERSION},{}", STANDARD.encode(self.mac(secret).finalize().into_bytes()));
        secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
    }

    /// Checks that one of the signatures was made with one of the secrets, not longer than `tolerance` ago.
    ///
    /// # Errors
    /// Why it is not to be trusted.
    pub fn verify(
        &self,
        secrets: &[Secret],
        signatures: &str,
        now_s: i64,
        tolerance: Duration,
    ) -> Result<(), Refused> {
        let (age, ahead) = (seconds_from(self.timestamp_s, now_s), seconds_from(now_s, self.timestamp_s));
        if age > tolerance {
            return Err(Refused::TooOld { age, tolerance });
        }
        if ahead > tolerance {
            return Err(Refused::TooNew { ahead, tolerance });
        }
        if self.id.contains('.') {
            return Err(Refused::Ambiguous);
        }
        let mut given = signatures.split_whitespace().filter_map(|signature| {
            let (version, encoded) = signature.split_once(',')?;
            (version == VERSION).then_some(encoded)
        });
        let mut any = false;
        let fits = given.any(|encoded| {
            any = true;
            let decoded = STANDARD.decode(encoded).unwrap_or_default();
            // The comparison takes the same time wherever they differ.
            secrets.iter().any(|secret| self.mac(secret).verify_slice(&decoded).is_ok())
        });
        match (fits, any) {
            (true, _) => Ok(()),
            (false, true) => Err(Refused::Mismatch),
            (false, false) => Err(Refused::NoSignature),
        }
    }

    fn mac(&self, secret: &Secret) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).expect("HMAC takes keys of any length");
        mac.update(format!("{}.{}.", self.id, self.timestamp_s).as_bytes());
        mac.update(self.body);
        mac
    }
}

/// From one instant to a later one; zero if it is earlier.
fn seconds_from(from_s: i64, to_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(to_s.saturating_sub(from_s)).unwrap_or(0))
}

/// This machine's clock in seconds since the Unix epoch: what `webhook-timestamp` is.
#[must_use]
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const SIGNED: Signed<'_> = Signed {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s: 1_614_265_330,
        body: br#"{"test": 2432232314}"#,
    };
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(text).unwrap()).collect()
    }

    fn verify(texts: &[&str], signatures: &str, now_s: i64) -> Result<(), Refused> {
        SIGNED.verify(&secrets(texts), signatures, now_s, TOLERANCE)
    }

    #[test]
    fn the_vector_of_the_specification() {
        assert_eq!(SIGNED.signature(&secrets(&[SECRET])), SIGNATURE);
        assert_eq!(verify(&[SECRET], SIGNATURE, SIGNED.timestamp_s), Ok(()));
    }

    #[test]
    fn each_secret_signs_and_one_that_fits_is_enough() {
        let both = SIGNED.signature(&secrets(&[OTHER, SECRET]));
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.ends_with(SIGNATURE));
        for receiver in [&[SECRET][..], &[OTHER], &[OTHER, SECRET]] {
            assert_eq!(verify(receiver, &both, SIGNED.timestamp_s), Ok(()));
        }
        assert_eq!(verify(&[OTHER], SIGNATURE, SIGNED.timestamp_s), Err(Refused::Mismatch));
        assert_eq!(SIGNED.signature(&[]), "");
    }

    #[test]
    fn what_differs_is_refused() {
        let now_s = SIGNED.timestamp_s;
        for signatures in ["", "v2,abc", "g0hM9SsE"] {
            assert_eq!(verify(&[SECRET], signatures, now_s), Err(Refused::NoSignature), "{signatures}");
        }
        for signatures in ["v1,", "v1,!!", "v1,AAAA", "v1a,x v1,g0hM"] {
            assert_eq!(verify(&[SECRET], signatures, now_s), Err(Refused::Mismatch), "{signatures}");
        }
        let other = Signed { body: br#"{"test": 2432232315}"#, ..SIGNED };
        assert_eq!(other.verify(&secrets(&[SECRET]), SIGNATURE, now_s, TOLERANCE), Err(Refused::Mismatch));
    }

    #[test]
    fn what_was_signed_is_not_read_in_another_way() {
        let sent = Signed { id: "msg", timestamp_s: 1, body: b"2.rest" };
        let signature = sent.signature(&secrets(&[SECRET]));
        let read = Signed { id: "msg.1", timestamp_s: 2, body: b"rest" };
        assert_eq!(read.signature(&secrets(&[SECRET])), signature);
        assert_eq!(read.verify(&secrets(&[SECRET]), &signature, 2, TOLERANCE), Err(Refused::Ambiguous));
    }

    #[test]
    fn the_timestamp_may_be_off_by_the_tolerance() {
        let at = |offset_s: i64| verify(&[SECRET], SIGNATURE, SIGNED.timestamp_s + offset_s);
        assert_eq!((at(300), at(-300)), (Ok(()), Ok(())));
        let old = at(301).unwrap_err().to_string();
        assert_eq!(old, "the timestamp is 5m1s old, more than the tolerance of 5m");
        assert!(at(-301).unwrap_err().to_string().contains("5m1s ahead"));
    }
}
