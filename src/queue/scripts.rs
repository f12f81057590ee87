//! The Lua files, compiled in: one static for each verb.

use std::sync::LazyLock;

use crate::redis::Script;

const LIB: &str = include_str!("../../scripts/lua/lib.lua");

/// Declares a script for each file name; all of them get `lib.lua` in front.
macro_rules! scripts {
    ($($script:ident = $name:literal),* $(,)?) => {
        $(pub(super) static $script: LazyLock<Script> = LazyLock::new(|| {
            Script::new($name, [LIB, include_str!(concat!("../../scripts/lua/", $name, ".lua"))].concat())
        });)*
    };
}

scripts! {
    SCHEDULE = "schedule",
    RESCHEDULE = "reschedule",
    CANCEL = "cancel",
    CLAIM = "claim",
    FIRE_STREAM = "fire_stream",
    FIRE_LIST = "fire_list",
    BEGIN = "begin",
    ACK = "ack",
    RETRY = "retry",
    RELEASE = "release",
    EXTEND = "extend",
    BURY = "bury",
    RETRY_DEAD = "retry_dead",
    DELETE_DEAD = "delete_dead",
    PAUSE = "pause",
    TRIM_DEAD = "trim_dead",
    REJECT = "reject",
    SHOW = "show",
    LIST = "list",
    COUNTS = "counts",
    ADOPT = "adopt",
}
