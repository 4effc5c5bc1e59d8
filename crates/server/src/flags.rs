//! Command-line flags of the server: settings over the environment and the settings file.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use gatefold_backend_ort::Device;

use crate::probe;
use crate::settings::{LogFormat, Settings, environment, schema};

/// Flags of `gatefold-server` and `gatefold serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// TOML file of settings; GATEFOLD_ variables stand over it, the other flags over both
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
    /// What runs models: cpu, or a GPU such as cuda:0 [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Threads that run models; 0 means as many as the cores allow
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Keep each worker on a core of its own
    #[arg(long)]
    pub pin_workers: bool,
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
    /// Print the JSON schema of the settings file, for editors, and end
    #[arg(long)]
    pub schema: bool,
    /// Print a settings file with every key explained and at its default, and end
    #[arg(long)]
    pub example: bool,
    /// Ask the running server with these settings whether it is ready, print its answer, and end
    #[arg(long)]
    pub probe: bool,
}

impl Flags {
    /// What the flags ask to be printed in place of serving.
    ///
    /// # Errors
    /// As [`Flags::settings`] and [`probe`](mod@probe), where the settings and the server are asked for.
    pub fn printed(&self) -> anyhow::Result<Option<String>> {
        if self.schema {
            return Ok(Some(schema::json_schema()));
        }
        if self.example {
            return Ok(Some(schema::example()));
        }
        if self.probe {
            return probe::probe(&self.settings(std::env::vars_os())?).map(Some);
        }
        self.check.then(|| checked(&self.settings(std::env::vars_os())?)).transpose()
    }

    /// The settings in effect: defaults, then the file, then the `environment`, then the flags,
    /// checked.
    ///
    /// # Errors
    /// A file that cannot be read, what names no setting, and settings that are not usable.
    pub fn settings(
        &self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            None => Settings::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the settings file {}", path.display()))?;
                Settings::from_toml(&text, &path.display().to_string())?
            }
        };
        settings = environment::over(&settings, environment)?;
        put(&mut settings.models, &self.models);
        put(&mut settings.listen, &self.listen);
        put(&mut settings.admin, &self.admin);
        put(&mut settings.poll_seconds, &self.poll_seconds);
        put(&mut settings.device, &self.device);
        put(&mut settings.workers, &self.workers);
        settings.pin_workers |= self.pin_workers;
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

/// The settings as TOML, below what a server would miss at its start.
fn checked(settings: &Settings) -> anyhow::Result<String> {
    let missing = match std::fs::read_dir(&settings.models) {
        Ok(_) => String::new(),
        Err(error) => format!(
            "# The models folder {} cannot be read ({error}), and without it no server starts: create it, or give another\n\n",
            settings.models.display()
        ),
    };
    Ok(missing + &toml::to_string(settings)?)
}

fn put<T: Clone>(setting: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        setting.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> impl Iterator<Item = (OsString, OsString)> {
        std::iter::empty()
    }

    #[test]
    fn flags_stand_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "workers = 3\nrow_budget = 77\nqueue_rows = 20000\n").unwrap();
        let flags = Flags { config: Some(file.path().to_owned()), row_budget: Some(99), ..Flags::default() };
        let variables = [("GATEFOLD_ROW_BUDGET", "88"), ("GATEFOLD_QUEUE_ROWS", "30000")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let settings = flags.settings(variables.into_iter()).unwrap();
        assert_eq!((settings.workers, settings.queue_rows, settings.row_budget), (3, 30_000, 99));
        assert_eq!(settings.intra_threads, Settings::default().intra_threads);
    }

    #[test]
    fn the_check_says_that_there_is_no_models_folder() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { models: folder.path().to_owned(), ..Settings::default() };
        let text = checked(&settings).unwrap();
        assert_eq!(Settings::from_toml(&text, "check").unwrap(), settings);
        assert!(!text.contains('#'), "{text}");
        let settings = Settings { models: folder.path().join("none"), ..settings };
        let text = checked(&settings).unwrap();
        assert!(text.starts_with("# The models folder /") && text.contains("none cannot be read"), "{text}");
        assert_eq!(Settings::from_toml(&text, "check").unwrap(), settings);
    }

    #[test]
    fn a_missing_file_and_a_bad_flag_are_named() {
        let flags = Flags { config: Some("/nowhere/server.toml".into()), ..Flags::default() };
        let message = format!("{:#}", flags.settings(none()).unwrap_err());
        assert!(message.contains("/nowhere/server.toml"), "{message}");
        let flags = Flags { row_budget: Some(0), ..Flags::default() };
        assert!(format!("{:#}", flags.settings(none()).unwrap_err()).contains("row_budget is 0"));
    }
}
