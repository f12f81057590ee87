//! The way to Redis: one handle that connects when it is needed and forgets a connection that is of no
//! more use, the scripts it runs, and the table that names Redis' errors.

mod connect;
pub mod embedded;

mod error;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod lying;
mod scan;
mod script;

pub use connect::{Redis, Timeouts};
pub use scan::{ScanCursor, ScanPage};
pub use script::{Call, Script};
