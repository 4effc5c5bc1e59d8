//! What is written down of a training: JSON lines and TensorBoard event files.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result};
use gatefold_trainer::{Evaluation, Event, Published, tensorboard::EventFile};
use serde_json::{Map, Value, json};

use super::Args;

/// The logs that were asked for. One that cannot be written is given up with a warning: the
/// training is worth more.
pub(super) struct Logs {
    lines: Option<File>,
    tensorboard: Option<PathBuf>,
    events: Option<EventFile>,
    /// Steps between two entries about steps.
    every: usize,
    first_step: usize,
    last_step: usize,
    started: Instant,
}

impl Logs {
    pub(super) fn open(args: &Args) -> Result<Self> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            lines: args.log_json.as_ref().map(open).transpose()?,
            tensorboard: args.tensorboard.clone(),
            events: None,
            every: args.log_every as usize,
            first_step: 1,
            last_step: 0,
            started: Instant::now(),
        })
    }

    pub(super) fn report(&mut self, event: &Event<'_>) {
        if let Event::Started { steps, first_step, .. } = event {
            (self.first_step, self.last_step, self.started) = (*first_step, *steps, Instant::now());
            let created = self.tensorboard.take().map(|folder| EventFile::create(&folder, *first_step));
            self.events = created.and_then(|created| warned("TensorBoard event files", created));
        }
        if let Event::Stepped { step, .. } = event
            && step % self.every != 0
            && *step != self.first_step
            && *step != self.last_step
        {
            return;
        }
        let line = self.line(event);
        self.write_line(&line);
        if let Some(events) = &mut self.events
            && let Some(step) = step_of(event)
        {
            let scalars = scalars(event);
            let values = scalars.iter().map(|(tag, value)| (tag.as_str(), *value));
            if warned("TensorBoard event files", events.scalars(step, values)).is_none() {
                self.events = None;
            }
        }
    }

    pub(super) fn published(&mut self, published: &Published) {
        let Published { folder, version } = published;
        self.write_line(&json!({"event": "published", "bundle": folder, "version": version}));
    }

    fn write_line(&mut self, line: &Value) {
        if let Some(file) = &mut self.lines
            && warned("--log-json", file.write_all(format!("{line}\n").as_bytes())).is_none()
        {
            self.lines = None;
        }
    }

    fn line(&self, event: &Event<'_>) -> Value {
        match event {
            Event::RowsDropped { split, rows } => {
                json!({"event": "rows dropped", "split": split, "rows": rows})
            }
            Event::Started { rows, steps, first_step, parameters } => json!({
                "event": "started", "rows": rows, "steps": steps, "first_step": first_step,
                "parameters": parameters,
            }),
            Event::Resumed { step } => json!({"event": "resumed", "step": step}),
            Event::WarmStarted { report } => json!({
                "event": "warm start", "from": report.from, "taken": report.taken,
                "by_value": object(&report.by_value), "left": object(&report.left),
            }),
            Event::Stepped { epoch, step, loss, losses, rate_factor, samples_per_second, .. } => {
                let made = (step - self.first_step + 1) as f64;
                let left = self.started.elapsed().as_secs_f64() / made * (self.last_step - step) as f64;
                json!({
                    "event": "step", "epoch": epoch, "step": step, "loss": loss,
                    "losses": object(losses), "rate_factor": rate_factor,
                    "samples_per_second": samples_per_second, "seconds_left": left,
                })
            }
            Event::Evaluated { epoch, step, evaluation, best } => json!({
                "event": "evaluation", "epoch": epoch, "step": step, "best": best,
                "metrics": evaluation.by_name(),
            }),
            Event::CheckpointWritten { step, folder } => {
                json!({"event": "checkpoint", "step": step, "folder": folder})
            }
            Event::StoppedEarly { best_step } => json!({"event": "stopped early", "best_step": best_step}),
            Event::Verified { form, rows, largest_difference } => json!({
                "event": "verified", "form": form, "rows": rows, "largest_difference": largest_difference,
            }),
        }
    }
}

fn object<K: ToString, V: serde::Serialize>(pairs: &[(K, V)]) -> Value {
    pairs.iter().map(|(key, value)| (key.to_string(), json!(value))).collect::<Map<_, _>>().into()
}

fn step_of(event: &Event<'_>) -> Option<usize> {
    match event {
        Event::Stepped { step, .. } | Event::Evaluated { step, .. } => Some(*step),
        _ => None,
    }
}

/// What TensorBoard draws: tags and values.
fn scalars(event: &Event<'_>) -> Vec<(String, f32)> {
    let of_evaluation = |evaluation: &Evaluation| {
        let figures = evaluation.by_name().into_iter();
        figures.map(|(name, value)| (format!("valid/{name}"), value as f32)).collect()
    };
    match event {
        Event::Stepped { loss, losses, rate_factor, samples_per_second, .. } => {
            let of_tasks = losses.iter().map(|(task, loss)| (format!("loss/{task}"), *loss));
            let others = [
                ("loss/total".to_owned(), *loss),
                ("train/rate factor".to_owned(), *rate_factor),
                ("train/samples per second".to_owned(), *samples_per_second as f32),
            ];
            of_tasks.chain(others).collect()
        }
        Event::Evaluated { evaluation, .. } => of_evaluation(evaluation),
        _ => Vec::new(),
    }
}

fn warned<T>(what: &str, result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!("cannot write {what}, which end here: {error}")).ok()
}
