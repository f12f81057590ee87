//! The parts of the model's world, and what can happen in it.

/// How many ids, and schedulers.
pub(super) const IDS: usize = 2;
pub(super) const WORKERS: usize = 2;
/// Registrations of one id.
pub(super) const GENERATIONS: usize = 2;
/// How many ticks a lease lasts.
pub(super) const LEASE: u8 = 2;
/// More claims than that never fall into one tick, as they never fall into one microsecond.
pub(super) const TOKENS_PER_TICK: u8 = 8;

/// What Redis holds of an id, and what a failover may fall back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Redis {
    pub(super) scheduled: [Option<Waiting>; IDS],
    pub(super) leased: [Option<Held>; IDS],
    pub(super) last_token: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Waiting {
    pub(super) due: u8,
    /// Which registration of the id this is: its payload, so to speak.
    pub(super) generation: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Held {
    pub(super) token: u8,
    pub(super) end: u8,
    pub(super) generation: u8,
    /// Who claimed it, which no script knows.
    pub(super) holder: usize,
}

/// What a scheduler believes to hold of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Hand {
    pub(super) token: u8,
    pub(super) until: u8,
    pub(super) generation: u8,
    pub(super) handled: bool,
}

/// What was promised to those who registered an id.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Truth {
    pub(super) registered: u8,
    pub(super) due: [u8; GENERATIONS],
    pub(super) called_off: [bool; GENERATIONS],
    pub(super) handled: [bool; GENERATIONS],
    /// The registration that has to be handled yet.
    pub(super) owed: Option<u8>,
}

/// The promises that were broken on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Broken {
    pub(super) early: bool,
    pub(super) after_cancel: bool,
    pub(super) stale_heard: bool,
    pub(super) two_leases: bool,
    pub(super) token_repeats: bool,
}

/// How much may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Left {
    pub(super) ticks: u8,
    pub(super) registrations: u8,
    pub(super) cancels: u8,
    /// Deaths of schedulers, replies that are lost, scripts that are cut, attempts that fail, leases that are extended.
    pub(super) faults: u8,
    pub(super) failovers: u8,
}

/// What the last step did that has to be possible, or the model is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seen {
    pub(super) stale: bool,
    pub(super) retaken: bool,
    pub(super) superseded: bool,
    pub(super) forgotten: bool,
    pub(super) cancel_undone: bool,
    pub(super) handled_twice: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fate {
    Answered,
    /// It ran, and nobody learns of it.
    ReplyLost,
    /// The script ended in its middle.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    Tick,
    Register(usize),
    Cancel(usize),
    Claim(usize, Fate),
    Handle(usize, usize),
    Ack(usize, usize, Fate),
    Retry(usize, usize),
    Extend(usize),
    Crash(usize),
    /// From here on the replica gets nothing.
    FallBehind,
    Failover,
}

/// A flaw of the scripts, or of the surroundings, that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flaw {
    None,
    /// An ack ends whatever lease there is.
    AckAsksForNoToken,
    /// An ack asks whether a lease runs, not whose it is.
    AckAsksForAnyLease,
    /// An ack removes the id wherever it is.
    AckTakesNewRegistration,
    /// A claim takes what is due, leased or not.
    ClaimTakesLeased,
    /// A claim looks at what is scheduled only.
    LostLeasesStay,
    /// A claim removes the ids before it leases them.
    SourceFirst,
    /// A claim goes by the scheduler's clock, which is a tick ahead.
    ClockOfScheduler,
    /// A cancel leaves the lease in force.
    CancelLeavesLease,
    /// The next token is the last one + 1, whatever the time.
    TokenWithoutTime,
    /// A retry puts its id back, although it was registered anew.
    RetryOverNewRegistration,
    /// No flaw of the scripts: the clock of the new primary is behind that of the old one.
    ClockOfReplicaBehind,
}
