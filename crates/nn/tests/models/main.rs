//! The models: shapes, parameters and names against literal numbers, losses written out again, and
//! the graph that computes a request once against the plain one.

#[path = "../../../graph/tests/support/evaluate.rs"]
mod evaluate;
mod feedback;
mod losses;
mod parts;
mod refusal;
mod shapes;
mod world;
