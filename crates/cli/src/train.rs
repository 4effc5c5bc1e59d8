//! `gatefold train`: a sample set becomes a published model.

mod log;
mod progress;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use gatefold_dataset::SampleSet;
use gatefold_experiment::evaluation::render_gates;
use gatefold_metrics::Metric;
use gatefold_schema::{Calibration, CalibrationMethod, ModelKind, Recipe};
use gatefold_trainer::{
    Checkpoints, Existing, OutputEvaluation, TrainError, TrainOptions, TrainingData, calibration,
    checkpoint::CheckpointFolder, gates, publish, train,
};
use serde_json::json;

use crate::{
    bundles,
    console::{Console, table},
};
use progress::TrainingProgress;

/// Name of the folder of checkpoints in the model's folder.
const CHECKPOINTS: &str = ".checkpoint";

/// Train a model and publish it as a bundle.
///
/// Trains on the `train` split, keeps the parameters that are best on the `valid` split, checks
/// the exported graphs in ONNX Runtime against the trainer's own scores, and publishes the bundle
/// as the next version in the model's folder.
///
/// An unfinished training is kept as a checkpoint, from time to time and when it is stopped by
/// Ctrl-C (exit code 130); the same command with --resume goes on from it, and publishes the same
/// bundle as a training that was never stopped.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold train --recipe training/recipes/synthetic.toml --samples work/samples \
                        --model esmm --out work/models/esmm"
)]
pub(crate) struct Args {
    /// Recipe (TOML).
    #[arg(long, value_name = "FILE")]
    recipe: PathBuf,
    /// Folder written by `gatefold samples build`.
    #[arg(long, value_name = "DIR")]
    samples: PathBuf,
    /// Folder of the model; its name is the model's name, and a version is added inside.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Train this kind instead of the recipe's.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    model: Option<ModelKind>,
    /// Seed of initial weights and batch order, instead of the recipe's.
    #[arg(long)]
    seed: Option<u64>,
    /// Passes over the training split, instead of the recipe's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// Threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Begin with the parameters of this bundle, or of the latest version in a model's folder,
    /// where they fit.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    warm_start: Option<PathBuf>,
    /// Folder of the checkpoint of an unfinished training [default: .checkpoint in --out].
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<PathBuf>,
    /// Write a checkpoint every so many steps, too.
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    checkpoint_steps: usize,
    /// Write a checkpoint every so many minutes; 0: only for other reasons.
    #[arg(long, value_name = "MINUTES", default_value_t = 10)]
    checkpoint_minutes: u64,
    /// Go on from the checkpoint.
    #[arg(long)]
    resume: bool,
    /// Remove the checkpoint of an unfinished training, and begin anew.
    #[arg(long, conflicts_with = "resume")]
    restart: bool,
    /// Write TensorBoard event files into this folder.
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    /// Append what happens to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    log_json: Option<PathBuf>,
    /// Steps between two entries about steps in event files and --log-json.
    #[arg(long, value_name = "STEPS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    log_every: u64,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn checkpoints(&self) -> Checkpoints {
        let minutes = self.checkpoint_minutes;
        Checkpoints {
            folder: self.checkpoints.clone().unwrap_or_else(|| self.out.join(CHECKPOINTS)),
            every_steps: self.checkpoint_steps,
            every: (minutes > 0).then(|| Duration::from_secs(60 * minutes)),
            existing: match (self.resume, self.restart) {
                (true, _) => Existing::Resume,
                (_, true) => Existing::Discard,
                _ => Existing::Refuse,
            },
        }
    }
}

fn kinds() -> impl TypedValueParser<Value = ModelKind> {
    PossibleValuesParser::new(ModelKind::ALL.map(ModelKind::name)).map(|name| {
        let kind = ModelKind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.unwrap_or(ModelKind::SharedBottom)
    })
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let recipe = read_recipe(&args)?;
    let samples = SampleSet::open(&args.samples)
        .with_context(|| format!("cannot open the samples in {}", args.samples.display()))?;
    let threads = args.threads.map_or_else(bundles::all_cores, |threads| threads as usize);
    let loader = bundles::loader()?;
    let mut progress = TrainingProgress::new(&args, console)?;
    let checkpoints = args.checkpoints();
    let folder = checkpoints.folder.clone();
    let options =
        TrainOptions { threads, checkpoints: Some(checkpoints), warm_start: args.warm_start.clone() };

    let data = TrainingData::load(&recipe, &samples)
        .with_context(|| format!("cannot use the samples in {}", args.samples.display()))?;
    let mut trained = train(&recipe, &data, &options, &mut progress).map_err(|error| {
        let context = match &error {
            TrainError::Interrupted { checkpoint: Some(_), .. } => {
                format!("go on with: {}", resume_command())
            }
            _ => format!("cannot train {} with {}", recipe.model.kind.name(), args.recipe.display()),
        };
        anyhow::Error::new(error).context(context)
    })?;
    gates::inspect(&recipe, &data, threads, &mut trained).context("cannot look into the model")?;
    calibration::fit(&recipe, &data, threads, &mut trained).context("cannot calibrate the model")?;
    let published = publish(&recipe, &data, &trained, &args.out, &loader, &mut progress)
        .with_context(|| format!("cannot publish into {}", args.out.display()))?;
    progress.published(&published);
    // Nothing is left to go on with.
    if let Err(error) = CheckpointFolder::open(&folder).and_then(CheckpointFolder::remove) {
        tracing::warn!("{error}");
    }

    let report = &trained.report;
    let validation: BTreeMap<&str, BTreeMap<&str, f64>> =
        trained.evaluation.outputs.iter().map(|output| (output.output.as_str(), figures(output))).collect();
    if args.json {
        return console.print_json(&json!({
            "bundle": published.folder,
            "version": published.version,
            "model": recipe.model.kind.name(),
            "seed": recipe.train.seed,
            "steps": report.steps,
            "best_step": report.best_step,
            "samples_per_second": report.samples_per_second,
            "seconds": report.seconds,
            "validation": validation,
            "calibrations": trained.calibrations,
            "gates": trained.gates,
        }));
    }
    let shown = [Metric::Auc, Metric::Gauc, Metric::LogLoss, Metric::Pcoc, Metric::Ece];
    let header = ["output | rows it is measured on", "rows"].into_iter().chain(shown.map(Metric::title));
    let mut table = table(header.map(str::to_owned).collect());
    for output in &trained.evaluation.outputs {
        let values = shown.map(|metric| match output.figures.get(metric) {
            Some(value) => format!("{value:.4}"),
            None => "-".to_owned(),
        });
        table.add_row([output.title(), output.figures.rows.to_string()].into_iter().chain(values));
    }
    console.print(&format!(
        "{table}\n{}{}{} steps, {:.0} samples/s, {:.1} s; validation figures are those of step {}\n{}",
        calibration_table(&trained.calibrations),
        trained.gates.iter().filter(|report| !report.gates.is_empty()).map(render_gates).collect::<String>(),
        report.steps,
        report.samples_per_second,
        report.seconds,
        report.best_step,
        published.folder.display()
    ))
}

/// The figures that are defined, by name.
fn figures(output: &OutputEvaluation) -> BTreeMap<&'static str, f64> {
    let named = |metric: Metric| Some((metric.name(), output.figures.get(metric)?));
    Metric::ALL.into_iter().filter_map(named).collect()
}

/// What calibration changed on validation; nothing where nothing is calibrated.
fn calibration_table(calibrations: &[Calibration]) -> String {
    if calibrations.is_empty() {
        return String::new();
    }
    let header = ["calibrated on validation", "by", "ECE", "after", "PCOC", "after", "log loss", "after"];
    let mut table = table(header.map(str::to_owned).into());
    for Calibration { task, method, before, after, .. } in calibrations {
        let method = method.map_or("sampling rate", CalibrationMethod::name);
        let figures = [[before.ece, after.ece], [before.pcoc, after.pcoc], [before.log_loss, after.log_loss]];
        let figures = figures.as_flattened().iter().map(|value| format!("{value:.4}"));
        table.add_row([task.clone(), method.to_owned()].into_iter().chain(figures));
    }
    format!("\n{table}\n\n")
}

/// The recipe, with what the command line changes in it.
fn read_recipe(args: &Args) -> Result<Recipe> {
    let mut recipe = bundles::read_recipe(&args.recipe)?;
    if let Some(kind) = args.model {
        recipe.model.kind = kind;
    }
    if let Some(seed) = args.seed {
        recipe.train.seed = seed;
    }
    if let Some(epochs) = args.epochs {
        recipe.train.epochs = epochs as usize;
    }
    recipe.check().with_context(|| format!("cannot use {} with these options", args.recipe.display()))?;
    Ok(recipe)
}

/// This command, going on from its checkpoint.
fn resume_command() -> String {
    let quoted =
        |argument: String| match argument.contains(|c: char| c.is_whitespace() || "'\"$\\".contains(c)) {
            true => format!("'{}'", argument.replace('\'', "'\\''")),
            false => argument,
        };
    let is_kept = |argument: &String| !["--resume", "--restart"].contains(&argument.as_str());
    let arguments: Vec<String> = std::env::args().filter(is_kept).map(quoted).collect();
    format!("{} --resume", arguments.join(" "))
}
