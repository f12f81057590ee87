//! The Lua files, compiled in: one static for each verb.

use std::sync::LazyLock;

use crate::redis::Script;

const LIB: &str = include_str!("../../scripts/lua/lib.lua");
const FIRE_LIB: &str = include_str!("../../scripts/lua/fire_lib.lua");
const ORDER_LIB: &str = include_str!("../../scripts/lua/order_lib.lua");

/// Declares a script for each file name, with what all of them get in front.
macro_rules! scripts {
    ($libs:expr; $($script:ident = $name:literal),* $(,)?) => {
        $(pub(crate) static $script: LazyLock<Script> = LazyLock::new(|| {
            Script::new($name, [$libs, include_str!(concat!("../../scripts/lua/", $name, ".lua"))].concat())
        });)*
    };
}

scripts! { LIB;
    SCHEDULE = "schedule",
    RESCHEDULE = "reschedule",
    CANCEL = "cancel",
    CLAIM = "claim",
    WATCH = "watch",
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
    COMING = "coming",
    ADOPT = "adopt",
    LOOK = "look",
    VERIFY = "verify",
    SHARDS = "shards",
    FIND = "find",
    DEPART = "depart",
    ARRIVE = "arrive",
    DEPARTED = "departed",
}

scripts! { &[LIB, FIRE_LIB].concat();
    FIRE_STREAM = "fire_stream",
    FIRE_LIST = "fire_list",
}

scripts! { &[LIB, ORDER_LIB].concat();
    ORDER_CREATE = "order_create",
    ORDER_SUBMIT = "order_submit",
    ORDER_PAY = "order_pay",
    ORDER_CANCEL = "order_cancel",
    ORDER_EXTEND = "order_extend",
    ORDER_EXPIRE = "order_expire",
    ORDER_GET = "order_get",
    ORDER_LIST = "order_list",
    ORDER_COUNTS = "order_counts",
    ORDER_TRIM = "order_trim",
    ORDER_SOURCE = "order_source",
    ORDER_ADOPT = "order_adopt",
}
