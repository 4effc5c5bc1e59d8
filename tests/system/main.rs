//! Whole-system tests: the real binary, a real server, a real ONNX Runtime, real Parquet files.

mod bad_input;
mod deploy;
mod encoders;
mod experiments;
mod feedback;
mod load;
mod parity;
mod request_log;
mod resilience;
mod samples_oracle;
mod store;
mod threads;
mod triton;
mod tune;
