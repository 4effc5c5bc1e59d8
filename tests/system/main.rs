//! Whole-system tests: the real binary, a real server, a real ONNX Runtime, real Parquet files.

mod golden;
