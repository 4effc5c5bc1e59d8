//! Logs: events to stderr, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Starts logging for this process. `RUST_LOG` chooses what is logged; without it everything from
/// `info` up. A program that has started its own logging keeps it.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() && format == LogFormat::Json {
        tracing::warn!("the setting log = \"json\" has no effect in this program; run gatefold-server");
    }
}
