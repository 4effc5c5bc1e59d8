//! How far a long job is, for whoever shows it.

/// Told about the steps of a job as they happen.
pub trait Progress {
    /// A step begins; `total` units of work lie ahead, where that is known.
    fn start(&mut self, _step: &str, _total: Option<u64>) {}
    /// `units` more of the step are done.
    fn advance(&mut self, _units: u64) {}
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
