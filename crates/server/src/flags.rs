//! Command-line flags of the server: each setting over the settings file.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use crate::settings::{LogFormat, Settings};

/// Flags of `gatefold-server` and `gatefold serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// TOML file of settings; the other flags stand over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of models: DIR/<name>/<version>/
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Address of the gRPC port [default: 127.0.0.1:8500]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin port: /livez, /readyz, /metrics [default: 127.0.0.1:8501]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Seconds between two looks for new model versions; 0 never looks again
    #[arg(long, value_name = "SECONDS")]
    pub poll_seconds: Option<f64>,
    /// Threads that run models; 0 means as many as the cores allow
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Threads that one batch is computed with
    #[arg(long, value_name = "N")]
    pub intra_threads: Option<usize>,
    /// Candidates computed together at most
    #[arg(long, value_name = "ROWS")]
    pub row_budget: Option<usize>,
    /// Microseconds a batch with room waits for more requests
    #[arg(long, value_name = "MICROSECONDS")]
    pub batch_delay_us: Option<u64>,
    /// Candidates that may wait in a model's queue
    #[arg(long, value_name = "ROWS")]
    pub queue_rows: Option<usize>,
    /// Seconds that requests in flight have to finish at shutdown
    #[arg(long, value_name = "SECONDS")]
    pub drain_seconds: Option<f64>,
    /// Path of libonnxruntime.so
    #[arg(long, value_name = "FILE")]
    pub ort_library: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(long, value_name = "FORMAT")]
    pub log: Option<LogFormat>,
    /// Check the settings, print those in effect as TOML, and end
    #[arg(long)]
    pub check: bool,
}

impl Flags {
    /// The settings in effect: defaults, then the file, then the flags, checked.
    ///
    /// # Errors
    /// A file that cannot be read or holds what is not known, and settings that are not usable.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            None => Settings::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the settings file {}", path.display()))?;
                Settings::from_toml(&text, &path.display().to_string())?
            }
        };
        put(&mut settings.models, &self.models);
        put(&mut settings.listen, &self.listen);
        put(&mut settings.admin, &self.admin);
        put(&mut settings.poll_seconds, &self.poll_seconds);
        put(&mut settings.workers, &self.workers);
        put(&mut settings.intra_threads, &self.intra_threads);
        put(&mut settings.row_budget, &self.row_budget);
        put(&mut settings.batch_delay_us, &self.batch_delay_us);
        put(&mut settings.queue_rows, &self.queue_rows);
        put(&mut settings.drain_seconds, &self.drain_seconds);
        put(&mut settings.log, &self.log);
        if self.ort_library.is_some() {
            settings.ort_library.clone_from(&self.ort_library);
        }
        settings.check()?;
        Ok(settings)
    }
}

fn put<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        setting.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_over_the_file_and_the_file_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "workers = 3\nrow_budget = 77\n").unwrap();
        let flags = Flags { config: Some(file.path().to_owned()), row_budget: Some(99), ..Flags::default() };
        let settings = flags.settings().unwrap();
        assert_eq!((settings.workers, settings.row_budget), (3, 99));
        assert_eq!(settings.intra_threads, Settings::default().intra_threads);
    }

    #[test]
    fn a_missing_file_and_a_bad_flag_are_named() {
        let flags = Flags { config: Some("/nowhere/server.toml".into()), ..Flags::default() };
        let message = format!("{:#}", flags.settings().unwrap_err());
        assert!(message.contains("/nowhere/server.toml"), "{message}");
        let flags = Flags { row_budget: Some(0), ..Flags::default() };
        assert!(format!("{:#}", flags.settings().unwrap_err()).contains("row_budget is 0"));
    }
}
