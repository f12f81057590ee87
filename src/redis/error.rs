//! The table that maps what the Redis client reports to [`Trouble`]. Nothing else looks at error codes.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::{
    error::{Error, Trouble, TroubleKind},
    types::shortened,
};

/// Error codes that Redis puts first in its message. Inside a script they stand in the middle of it:
/// `ERR … -READONLY You can't write …`, or `ERR Error running script …: @user_script: OOM command not allowed …`.
pub(super) const CODES: [(&str, TroubleKind); 19] = [
    ("LOADING", TroubleKind::Loading),
    ("READONLY", TroubleKind::ReadOnly),
    ("MASTERDOWN", TroubleKind::MasterDown),
    ("CLUSTERDOWN", TroubleKind::ClusterDown),
    ("MOVED", TroubleKind::Moved),
    ("ASK", TroubleKind::Moved),
    ("TRYAGAIN", TroubleKind::TryAgain),
    ("CROSSSLOT", TroubleKind::CrossSlot),
    ("BUSY", TroubleKind::Busy),
    ("OOM", TroubleKind::OutOfMemory),
    ("MISCONF", TroubleKind::Misconf),
    ("NOREPLICAS", TroubleKind::NoReplicas),
    ("NOPERM", TroubleKind::NoPerm),
    ("NOAUTH", TroubleKind::Auth),
    ("WRONGPASS", TroubleKind::Auth),
    ("NOSCRIPT", TroubleKind::NoScript),
    ("EXECABORT", TroubleKind::Other),
    ("WRONGTYPE", TroubleKind::WrongType),
    ("UNKILLABLE", TroubleKind::Busy),
];

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        Self::Redis(Trouble { kind: kind_of(&error), detail: short(&error.to_string()) })
    }
}

/// What Redis or the system said, fit for a log line and a terminal: in an error of a script may stand what somebody
/// else has written.
pub(super) fn short(text: &str) -> String {
    shortened(text, 400)
}

fn kind_of(error: &RedisError) -> TroubleKind {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse if error.is_timeout() => TroubleKind::Timeout,
        ErrorKind::Io | ErrorKind::Parse => TroubleKind::Unreachable,
        ErrorKind::AuthenticationFailed => TroubleKind::Auth,
        ErrorKind::Server(ServerErrorKind::NoScript) => TroubleKind::NoScript,
        _ => kind_of_text(error.code().unwrap_or_default(), &error.to_string()),
    }
}

/// What Redis says in place of NOPERM when the right is missing inside a script: up to 7.0, and from 7.2 on.
const NO_PERMISSION_IN_SCRIPT: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];

/// What `lib.lua` says of a queue that a newer version has written.
const NEWER_SCHEMA: &str = "overdue: newer schema";

/// What scripts say to a caller who goes by other shards than the queue has.
const OTHER_SHARDS: &str = "overdue: other shards";

pub(super) fn kind_of_text(code: &str, text: &str) -> TroubleKind {
    if text.contains(OTHER_SHARDS) {
        return TroubleKind::OtherShards;
    }
    if text.contains(NEWER_SCHEMA) {
        return TroubleKind::NewerSchema;
    }
    if NO_PERMISSION_IN_SCRIPT.iter().any(|words| text.contains(words)) {
        return TroubleKind::NoPerm;
    }
    let word = |name: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == name);
    let by_code = CODES.iter().find(|(name, _)| *name == code);
    by_code
        .or_else(|| CODES.iter().find(|(name, _)| word(name)))
        .map_or(TroubleKind::Other, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_short_and_fit_for_a_terminal() {
        assert_eq!(short("ERR id \u{1b}[2J"), "ERR id \\u{1b}[2J");
        assert_eq!(short(&"ß".repeat(9000)).chars().count(), 401);
    }

    #[test]
    fn codes_are_found_at_the_front_and_inside_a_script_error() {
        for (code, text, kind) in [
            ("LOADING", "Redis is loading the dataset in memory", TroubleKind::Loading),
            ("OOM", "command not allowed when used memory > 'maxmemory'", TroubleKind::OutOfMemory),
            ("ERR", "READONLY You can't write against a read only replica.", TroubleKind::ReadOnly),
            ("ERR", "Error running script: @user_script:3: -NOREPLICAS Not enough", TroubleKind::NoReplicas),
            ("NOAUTH", "Authentication required.", TroubleKind::Auth),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand",
                TroubleKind::NoPerm,
            ),
            (
                "ERR",
                "ACL failure in script: User clerk has no permissions to run the 'zadd' command",
                TroubleKind::NoPerm,
            ),
            ("ERR", "unknown command", TroubleKind::Other),
            ("ERR", "my task is done", TroubleKind::Other),
        ] {
            assert_eq!(kind_of_text(code, text), kind, "{code} {text}");
        }
    }
}
