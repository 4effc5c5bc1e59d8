//! Offline comparison: figures against the metrics they rest on, errors, and the two renderings.

mod example;
mod figures;
mod rendering;
