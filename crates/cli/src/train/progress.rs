//! What a person at the terminal sees of a training, and what is written down for others.

use anyhow::Result;
use gatefold_trainer::{Event, Progress, Published, WarmStart};
use indicatif::ProgressBar;

use super::{Args, log::Logs};
use crate::{console::Console, interrupt::Interrupt};

/// A bar while training, a line for each evaluation; event files and a JSON log where asked for.
pub(super) struct TrainingProgress<'a> {
    console: &'a Console,
    interrupt: Interrupt,
    bar: Option<ProgressBar>,
    logs: Logs,
}

impl<'a> TrainingProgress<'a> {
    pub(super) fn new(args: &Args, console: &'a Console) -> Result<Self> {
        Ok(Self { console, interrupt: Interrupt::listen()?, bar: None, logs: Logs::open(args)? })
    }

    /// Takes in that the bundle is there.
    pub(super) fn published(&mut self, published: &Published) {
        self.logs.published(published);
    }
}

impl Progress for TrainingProgress<'_> {
    fn report(&mut self, event: &Event<'_>) {
        self.logs.report(event);
        match event {
            Event::RowsDropped { split, rows } => {
                tracing::warn!(
                    "{rows} rows of split '{split}' are left out: a conditional outcome without its condition"
                );
            }
            Event::Started { rows, steps, first_step, parameters } => {
                tracing::info!("{rows} training rows, {steps} steps, {parameters} parameters");
                let bar = self.console.bar(*steps as u64, "steps");
                bar.set_prefix("training");
                bar.set_position(*first_step as u64 - 1);
                bar.reset_eta();
                self.bar = Some(bar);
            }
            Event::Resumed { step } => tracing::info!("going on after step {step}"),
            Event::WarmStarted { report } => say_warm_start(report),
            Event::Stepped { step, loss, losses, samples_per_second, .. } => {
                if let Some(bar) = &self.bar {
                    let of_tasks: Vec<String> =
                        losses.iter().map(|(task, loss)| format!("{task} {loss:.4}")).collect();
                    bar.set_position(*step as u64);
                    bar.set_message(format!(
                        "loss {loss:.4} ({}), {samples_per_second:.0} samples/s",
                        of_tasks.join(", ")
                    ));
                }
            }
            Event::Evaluated { epoch, step, evaluation, best } => {
                let figures: Vec<String> = evaluation
                    .outputs
                    .iter()
                    .filter_map(|output| Some(format!("{} AUC {:.4}", output.output, output.figures.auc?)))
                    .collect();
                let mark = if *best { ", the best so far" } else { "" };
                tracing::info!("epoch {epoch}, step {step}: {}{mark}", figures.join(", "));
            }
            Event::CheckpointWritten { step, folder } => {
                tracing::info!("checkpoint of step {step} in {}", folder.display());
            }
            Event::StoppedEarly { best_step } => {
                tracing::info!("stopped early: nothing was better than step {best_step}");
            }
            Event::Verified { form, rows, largest_difference } => {
                tracing::info!(
                    "{form} ONNX graph agrees with the trainer on {rows} rows (largest difference {largest_difference:.1e})"
                );
            }
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.requested()
    }
}

fn say_warm_start(report: &WarmStart) {
    let WarmStart { from, taken, by_value, left } = report;
    tracing::info!("beginning with {from}: {} parameters as they are", taken.len());
    for (name, rows) in by_value {
        tracing::info!("{name}: {rows}, by their values");
    }
    for (name, why) in left {
        tracing::warn!("{name} begins fresh: {why}");
    }
}

impl Drop for TrainingProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
