//! Ctrl-C during a long command: the first asks it to end cleanly, the second ends it at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};

/// Exit code of a program ended by the signal of Ctrl-C.
pub(crate) const EXIT_CODE: u8 = 130;

/// Whether the person asked to stop.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C and the termination signal from now on.
    pub(crate) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flag);
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the second Ctrl-C asks for an end without cleaning up"
                )]
                std::process::exit(i32::from(EXIT_CODE));
            }
            tracing::warn!("stopping; press Ctrl-C again to end at once");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Self(flag))
    }

    /// Whether to stop.
    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error once a stop was asked for.
    pub(crate) fn check(&self) -> Result<()> {
        anyhow::ensure!(!self.requested(), "interrupted; nothing was written");
        Ok(())
    }
}
