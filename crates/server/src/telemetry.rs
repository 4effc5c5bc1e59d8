//! Logs and traces of this process: events to stderr, as text or JSON, and spans to a collector.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::settings::{LogFormat, Settings};
use crate::traces::Exporter;

/// Starts logging for this process, and tracing where the settings name a collector: then the
/// exporter is returned, which somebody must run. `RUST_LOG` chooses what is logged; without it
/// everything from `info` up. A program that has started its own logging keeps it.
///
/// # Errors
/// The address of a collector that is none.
pub fn start(settings: &Settings) -> anyhow::Result<Option<Exporter>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let (layer, exporter) = Exporter::new(&settings.traces)?.unzip();
    // Spans of the transport are none of a request's story.
    let ours = ["gatefold_server", "gatefold_engine"].map(|name| (name, Level::DEBUG));
    let traces = layer.map(|layer| layer.with_filter(Targets::new().with_targets(ours)));
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init();
    if started.is_err() {
        if settings.log == LogFormat::Json {
            tracing::warn!("the setting log = \"json\" has no effect in this program; run gatefold-server");
        }
        if exporter.is_some() {
            tracing::warn!("the table [traces] has no effect in this program; run gatefold-server");
        }
        return Ok(None);
    }
    Ok(exporter)
}
