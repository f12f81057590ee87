//! The way to Redis: one handle that connects when it is needed and forgets a connection that is of no
//! more use, the scripts it runs, and the table that names Redis' errors.
//!
//! # Layout
//! - `connect`: the handle, whatever it leads to
//! - `servers`: how to log in; `link`: the connection to one server
//! - `sentinel`: a master that moves; `cluster`: nodes that share the slots; `slot`: which slot a key is in
//! - `durability`: what a write has to reach before it counts as done
//! - `script`: scripts and calls of them; `error`: the table of errors; `scan`: walking over keys
//! - `embedded`: a private redis-server

mod cluster;
mod connect;
mod durability;
pub mod embedded;

mod error;
#[cfg(test)]
mod fuzz;
mod info;
mod link;
#[cfg(test)]
pub(crate) mod lying;
mod scan;
mod script;
mod sentinel;
mod servers;
mod slot;

pub use connect::{Redis, Timeouts};
pub use info::Info;
pub use scan::{ScanCursor, ScanPage};
pub use script::{Call, Script};
pub use slot::{SLOTS, crc16, slot_of};
