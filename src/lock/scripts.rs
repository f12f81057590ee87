//! The Lua files of the lock, compiled in. They stand alone: `lib.lua` is about queues.

use std::sync::LazyLock;

use crate::redis::Script;

/// Declares a script for each file name.
macro_rules! scripts {
    ($($script:ident = $name:literal),* $(,)?) => {
        $(pub(super) static $script: LazyLock<Script> = LazyLock::new(|| {
            Script::new($name, include_str!(concat!("../../scripts/lua/", $name, ".lua")).to_owned())
        });)*
    };
}

scripts! {
    ACQUIRE = "lock_acquire",
    EXTEND = "lock_extend",
    RELEASE = "lock_release",
}
