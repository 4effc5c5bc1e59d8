//! A running server, driven through real gRPC and HTTP connections. Its models are run by a backend
//! of a few lines, so that every score can be worked out by hand.

mod access;
mod bytes;
mod crossed;
mod experiments;
mod inference;
mod lifecycle;
mod operator;
mod overload;
mod refusals;
mod request_log;
mod scoring;
mod support;
