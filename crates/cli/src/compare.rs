//! `gatefold compare`: several models on the same rows, with intervals.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, ensure};
use gatefold_dataset::{SampleSet, Split};
use gatefold_engine::Bundle;
use gatefold_experiment::comparison::{
    Comparison, ComparisonInput, ComparisonOptions, ModelScores, OutputScores, compare, render_html,
    render_text,
};
use gatefold_metrics::BootstrapOptions;
use gatefold_schema::{BundleManifest, Task};
use gatefold_trainer::{MeasuredOutput, measured_outputs, potential_outputs};
use serde_json::{Value, json};

use crate::{
    bundles::{self, WholeFile},
    console::Console,
    interrupt::Interrupt,
    scoring,
};

/// Compare models on one sample set.
///
/// Scores one split of a sample set with several models and compares them output by output: AUC
/// with intervals from resampled requests, log loss, calibration. The first model is the
/// baseline. Where the samples hold the true probabilities (synthetic logs), these appear as one
/// more model, `oracle`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold compare --samples work/samples --split test --out work/report.html \
                        work/models/shared-bottom work/models/mmoe"
)]
pub(crate) struct Args {
    /// Folder written by `gatefold samples build`.
    #[arg(long, value_name = "DIR")]
    samples: PathBuf,
    /// Split to compare on.
    #[arg(long, default_value = "test")]
    split: String,
    /// Report to write (HTML, complete in itself).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folders of models (their latest version) or of single versions; the first is the baseline.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Resamples of the bootstrap intervals.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    replicates: u32,
    /// Seed of the resamples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let mut report = WholeFile::create(&args.out)?;
    let samples = SampleSet::open(&args.samples)
        .with_context(|| format!("cannot open the samples in {}", args.samples.display()))?;
    let bundles: Vec<Bundle> =
        args.models.iter().map(|path| scoring::open_bundle(path, &samples)).collect::<Result<_>>()?;
    let split = samples
        .load(&args.split)
        .with_context(|| format!("cannot load split '{}' of {}", args.split, args.samples.display()))?;
    scoring::refuse_fake_negatives(&samples, &args.split)?;
    ensure!(split.rows > 0, "split '{}' of {} has no row", args.split, args.samples.display());
    let threads = args.threads.map_or_else(bundles::all_cores, |threads| threads as usize);
    let loader = bundles::loader()?;

    let mut rows = MeasuredRows::new(&split);
    let mut models = Vec::new();
    let manifest = bundles[0].manifest().clone();
    for bundle in bundles {
        let mut scorer = scoring::open_scorer(bundle, &loader, threads)?;
        let scores = scoring::score_split(&mut scorer, &split, console, &interrupt)?;
        models.push(model_scores(scorer.bundle().manifest(), &scores, &mut rows)?);
    }
    // Bundles of one sample set agree on the truth, so the first one's tasks are as good as any.
    models.extend(oracle_scores(&manifest, &mut rows)?);

    let input = ComparisonInput {
        sample_set: gatefold_experiment::comparison::SampleSet {
            name: format!("{} {}", samples.manifest.name, args.split),
            description: scoring::describe(&samples, &args.split),
        },
        models,
    };
    let options = ComparisonOptions {
        bootstrap: BootstrapOptions {
            replicates: args.replicates as usize,
            seed: args.seed,
            ..BootstrapOptions::default()
        },
        ..ComparisonOptions::default()
    };
    let comparison = compare(&input, &options).context("cannot compare the models")?;
    interrupt.check()?;
    report.write(render_html(&comparison).as_bytes())?;
    report.finish()?;
    if args.json {
        console.print_json(&as_json(&comparison))
    } else {
        console.print(&format!("{}\nreport: {}", render_text(&comparison), args.out.display()))
    }
}

/// Labels and requests of each sample space, made once and shared by all models.
struct MeasuredRows<'a> {
    split: &'a Split,
    by_space: BTreeMap<(String, String), Arc<Space>>,
}

/// The rows of one output on one sample space.
struct Space {
    rows: Vec<u32>,
    labels: Arc<[f32]>,
    requests: Arc<[u32]>,
}

impl<'a> MeasuredRows<'a> {
    fn new(split: &'a Split) -> Self {
        Self { split, by_space: BTreeMap::new() }
    }

    fn label(&self, label: &str) -> Result<&'a [f32]> {
        let known = || self.split.labels.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let column = self.split.labels.get(label);
        column.map(Vec::as_slice).with_context(|| {
            format!("the samples have no column '{label}' (there are: {}): build them again", known())
        })
    }

    fn space(&mut self, output: &MeasuredOutput) -> Result<Arc<Space>> {
        let key = (output.label.clone(), output.space.clone());
        if let Some(space) = self.by_space.get(&key) {
            return Ok(Arc::clone(space));
        }
        let labels = self.label(&output.label)?;
        if let Some(within) = &output.within {
            self.label(within)?;
        }
        let rows = output.rows(self.split.rows, &self.split.labels);
        let space = Arc::new(Space {
            labels: rows.iter().map(|&row| labels[row as usize]).collect(),
            requests: rows.iter().map(|&row| self.split.request[row as usize]).collect(),
            rows,
        });
        self.by_space.insert(key, Arc::clone(&space));
        Ok(space)
    }

    fn scores(&mut self, output: &MeasuredOutput, all: &[f32]) -> Result<OutputScores> {
        let space = self.space(output)?;
        Ok(OutputScores {
            output: output.output.clone(),
            space: output.space.clone(),
            label: output.label.clone(),
            scores: space.rows.iter().map(|&row| all[row as usize]).collect(),
            labels: Arc::clone(&space.labels),
            requests: Arc::clone(&space.requests),
        })
    }
}

/// What a model is measured on: its outputs, each on its own sample space, then conditional
/// outputs on all impressions where the potential outcome is known.
fn model_scores(
    manifest: &BundleManifest,
    scores: &[Vec<f32>],
    rows: &mut MeasuredRows,
) -> Result<ModelScores> {
    let mut outputs = Vec::new();
    for (output, scores) in measured_outputs(&manifest.tasks, &manifest.derived).iter().zip(scores) {
        outputs.push(rows.scores(output, scores)?);
    }
    for (task, output) in potential_outputs(&manifest.tasks) {
        if rows.split.labels.contains_key(&output.label) {
            outputs.push(rows.scores(&output, &scores[task])?);
        }
    }
    let kind = manifest.model.as_ref().map_or("imported", |model| model.kind.name());
    Ok(ModelScores { name: manifest.name.clone(), version: manifest.version, kind: kind.to_owned(), outputs })
}

/// The true probabilities as a model, where every task has them.
fn oracle_scores(manifest: &BundleManifest, rows: &mut MeasuredRows) -> Result<Option<ModelScores>> {
    let truth_of = |task: &Task| rows.split.labels.get(task.oracle.as_ref()?).cloned();
    let Some(of_tasks) = manifest.tasks.iter().map(truth_of).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let place_of = |name: &String| manifest.tasks.iter().position(|task| task.name == *name);
    let of_derived = manifest.derived.iter().map(|derived| {
        let mut product = vec![1.0; rows.split.rows];
        for factor in derived.product.iter().filter_map(place_of).map(|place| &of_tasks[place]) {
            product.iter_mut().zip(factor).for_each(|(product, factor)| *product *= factor);
        }
        product
    });
    let scores: Vec<Vec<f32>> = of_tasks.iter().cloned().chain(of_derived).collect();
    let oracle = model_scores(manifest, &scores, rows)?;
    Ok(Some(ModelScores { name: "oracle".into(), version: 0, kind: "true probability".into(), ..oracle }))
}

fn as_json(comparison: &Comparison) -> Value {
    let outputs = comparison.outputs.iter().map(|output| {
        let models = output.results.iter().map(|result| {
            let model = &comparison.models[result.model];
            json!({
                "model": model.name,
                "version": model.version,
                "kind": model.kind,
                "auc": result.auc.map(|auc| auc.value),
                "low": result.auc.map(|auc| auc.low),
                "high": result.auc.map(|auc| auc.high),
                "gauc": result.gauc,
                "log_loss": result.log_loss,
                "normalized_entropy": result.normalized_entropy,
                "pcoc": result.pcoc,
                "calibration_error": result.calibration_error,
                "auc_difference": result.auc_difference,
            })
        });
        json!({
            "output": output.output,
            "space": output.space,
            "label": output.label,
            "rows": output.rows,
            "positives": output.positives,
            "models": models.collect::<Vec<_>>(),
        })
    });
    json!({
        "samples": comparison.sample_set.name,
        "confidence": comparison.confidence,
        "replicates": comparison.replicates,
        "outputs": outputs.collect::<Vec<_>>(),
    })
}
