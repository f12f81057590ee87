//! Faults on purpose, for the tests that prove the promises. Without the feature `faults`, which no release has,
//! all of this is empty.
//!
//! - `OVERDUE_FAULT_KILL=after:claim#3`: the process kills itself with SIGKILL when it passes this point for the
//!   third time. The points are `before:SCRIPT` and `after:SCRIPT` for every script, and `before:handler` and
//!   `after:handler`. `after:SCRIPT` is passed whether the answer was good or an error.
//! - `OVERDUE_FAULT_SCRIPTS=DIR`: `DIR/claim.lua` takes the place of the script `claim`, and so on for each file
//!   that is there: bugs that are planted to see whether the tests find them.

#[cfg(not(feature = "faults"))]
pub(crate) use absent::*;
#[cfg(feature = "faults")]
pub(crate) use present::*;

/// Which side of a step a process dies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

#[cfg(not(feature = "faults"))]
mod absent {
    use super::Side;

    #[inline(always)]
    pub(crate) fn point(_side: Side, _step: &str) {}
}

#[cfg(feature = "faults")]
mod present {
    use std::{
        path::PathBuf,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::Side;

    /// Where to die, and how often to pass there alive.
    struct KillAt {
        side: Side,
        step: String,
        passes_left: AtomicU64,
    }

    static KILL_AT: LazyLock<Option<KillAt>> = LazyLock::new(|| {
        let text = std::env::var("OVERDUE_FAULT_KILL").ok()?;
        let parsed = parse(&text);
        assert!(parsed.is_some(), "OVERDUE_FAULT_KILL is before:STEP#N or after:STEP#N, not {text:?}");
        parsed
    });

    fn parse(text: &str) -> Option<KillAt> {
        let (point, pass) = text.split_once('#')?;
        let (side, step) = point.split_once(':')?;
        let side = match side {
            "before" => Side::Before,
            "after" => Side::After,
            _ => return None,
        };
        let pass: u64 = pass.parse().ok()?;
        Some(KillAt { side, step: step.to_owned(), passes_left: AtomicU64::new(pass) })
    }

    /// Dies here if it is to.
    pub(crate) fn point(side: Side, step: &str) {
        let Some(kill_at) = &*KILL_AT else { return };
        if kill_at.side == side
            && kill_at.step == step
            && kill_at.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// The directory of planted scripts that the environment names.
    pub(crate) fn scripts_dir() -> Option<PathBuf> {
        std::env::var_os("OVERDUE_FAULT_SCRIPTS").map(PathBuf::from)
    }
}
