//! Optimizers: they read the gradients of a run and change the parameters.

mod adam;
mod touched;

pub use adam::{Adam, AdamSettings, AdamState};
