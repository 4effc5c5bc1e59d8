//! What was known before an instant: point-in-time kernels over event logs.
//!
//! A training sample may use only what was known strictly before its impression. Each kernel here answers one
//! such question for every query of a log at once, in a single pass over queries and events in the order of
//! key and time: counting sort, then pointers that only move forward.
//!
//! | what was known of the key before the instant? | module |
//! |---|---|
//! | the order that all the others read, and dense codes for identifiers | [`order`], [`intern`] |
//! | the last version of its profile, not too old and not written later | [`latest`] |
//! | how many events within a window, their sum, mean, least, greatest, distinct | [`windows`] |
//! | its last k events | [`last`] |
//! | the number of its session | [`sessions`] |
//!
//! What comes after the instant is the label: which click or conversion is credited to which impression
//! ([`attribution`]).
//!
//! **Times** are `i64`, in microseconds by convention: any unit will do if all share it. **Keys** are dense codes
//! `u32` in `0..keys`. **Strictly before**: an event at the instant of a query is not known to it, so queries at
//! one instant (the items of one request) never see each other.
//!
//! The crate knows no files, no data frames and no schema. It starts no threads: give each of yours a kernel, or
//! a range of keys ([`Timeline::keys_in`]).

pub mod attribution;
mod error;
pub mod intern;
pub mod last;
pub mod latest;
pub mod order;
pub mod sessions;
pub mod windows;

pub use error::HistoryError;
pub use order::{Timeline, View};

/// No row: what a kernel returns where nothing is known, and the key of a row that has none.
pub const NONE: u32 = u32::MAX;
