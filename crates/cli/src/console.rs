//! The terminal: logs and progress bars on stderr, data on stdout.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// How much is said on stderr.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Verbosity {
    /// Say nothing on stderr but warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr; twice for everything. RUST_LOG overrides it.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Where messages, progress and results go.
pub(crate) struct Console {
    bars: MultiProgress,
}

impl Console {
    /// Starts logging, unless the command does so itself. Progress bars are drawn on a terminal
    /// only.
    pub(crate) fn start(verbosity: &Verbosity, logs_itself: bool) -> Self {
        let drawn = io::stderr().is_terminal() && !verbosity.quiet;
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        if !logs_itself {
            start_logging(verbosity, &bars, drawn);
        }
        Self { bars }
    }

    /// A bar that counts to `total` things named `unit`.
    pub(crate) fn bar(&self, total: u64, unit: &str) -> ProgressBar {
        let template = format!(
            "{{prefix:>10}} [{{bar:32}}] {{human_pos}}/{{human_len}} {unit} {{elapsed}}, {{eta}} left  {{msg}}"
        );
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars.add(ProgressBar::new(total).with_style(style.progress_chars("━╸ ")))
    }

    /// A bar for a job of unknown length.
    fn spinner(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {spinner} {elapsed}");
        let spinner =
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        spinner.enable_steady_tick(Duration::from_millis(100));
        self.bars.add(spinner)
    }

    /// Shows the steps of a long job, one bar at a time.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps { console: self, bar: None }
    }

    /// Prints data on stdout, ending with a line break. A reader that has gone away, as in
    /// `gatefold … | head -1`, is no error.
    pub(crate) fn print(&self, text: &str) -> anyhow::Result<()> {
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(()),
            }
        })
    }

    /// Prints one JSON object on a line of its own.
    pub(crate) fn print_json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.print(&serde_json::to_string(value)?)
    }

    /// Prints an error and what caused it, one cause a line; a cause that the line before already
    /// tells is left out.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.bars.suspend(|| {
            let mut stderr = io::stderr().lock();
            let mut said = error.to_string();
            let mut text = format!("error: {said}\n");
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !said.contains(&cause) {
                    text.push_str(&format!("  because: {cause}\n"));
                    said = cause;
                }
            }
            // Nobody is left to be told when stderr itself fails.
            let _ = stderr.write_all(text.as_bytes());
        });
    }
}

/// A table without rules: the first column to the left, the others to the right.
pub(crate) fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The steps of a long job, each with its bar.
pub(crate) struct Steps<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
}

impl Steps<'_> {
    fn finish_step(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl gatefold_samples::Progress for Steps<'_> {
    fn start(&mut self, step: &str, total: Option<u64>) {
        self.finish_step();
        tracing::info!("{step}");
        let bar = match total {
            Some(total) => self.console.bar(total, ""),
            None => self.console.spinner(),
        };
        bar.set_prefix(step.to_owned());
        self.bar = Some(bar);
    }

    fn advance(&mut self, units: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(units);
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.finish_step();
    }
}

fn start_logging(verbosity: &Verbosity, bars: &MultiProgress, on_terminal: bool) {
    let level = match verbosity {
        Verbosity { quiet: true, .. } => "warn",
        Verbosity { verbose: 0, .. } => "warn,gatefold=info",
        Verbosity { verbose: 1, .. } => "info,gatefold=debug",
        _ => "debug,gatefold=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(verbosity.verbose > 0)
        .with_ansi(on_terminal)
        .with_writer(BesideBars(bars.clone()));
    // A person at a terminal sees when a line comes; a log file does not.
    // A second start in one process (there is none today) would keep the first subscriber.
    let _ = if on_terminal { builder.without_time().try_init() } else { builder.try_init() };
}

/// Writes log lines above the bars, so that neither tears the other.
#[derive(Clone)]
struct BesideBars(MultiProgress);

impl Write for BesideBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
