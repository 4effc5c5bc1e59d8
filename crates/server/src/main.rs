//! `gatefold-server`: serves ranking models over gRPC.

use std::process::ExitCode;

use clap::Parser;

/// Serve ranking models over gRPC.
#[derive(Parser)]
#[command(name = "gatefold-server", version)]
struct Arguments {
    #[command(flatten)]
    flags: gatefold_server::Flags,
}

fn main() -> ExitCode {
    match gatefold_server::serve(&Arguments::parse().flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Logging may not have started.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
