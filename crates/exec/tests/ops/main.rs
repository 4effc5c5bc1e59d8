//! The op suite: every op on a literal case, every gradient by finite differences, and plans
//! against each other.

mod activation;
mod case;
mod forward;
mod gradient;
mod model;
mod normalization;
mod optimizer;
mod optimizer_golden;
mod plan;
mod refusal;
mod sequence;
