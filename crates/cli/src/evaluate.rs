//! `gatefold evaluate`: every figure of one model on one split.

mod table;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use gatefold_dataset::{SampleSet, Split};
use gatefold_experiment::evaluation::{
    ModelEvaluation, OutputReport, render_gates, render_html, render_text,
};
use gatefold_metrics::{FigureOptions, Metric};
use gatefold_schema::{Calibration, Derived, GateReport, Task};
use gatefold_trainer::{
    Evaluation, MeasuredOutput, Observed, measured_outputs, potential_outputs, sampling_weights,
};
use serde_json::{Value, json};

use crate::{
    bundles::{self, WholeFile},
    console::Console,
    interrupt::Interrupt,
    scoring,
};
use table::Columns;

/// Measure a model on a split.
///
/// Scores one split of a sample set with a bundle (by the encoder and graphs of the server), or
/// takes the scores that `gatefold score` wrote for it, and measures every output on its own
/// sample space: AUC, GAUC, NDCG, log loss, normalised entropy, PCOC and calibration error. A
/// conditional output is also measured on all impressions where the samples know what would have
/// happened there. A figure's name always says the rows it is measured on, as in
/// `cvr | impressions with click = 1`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gatefold evaluate --samples work/samples --model work/models/mmoe --out work/mmoe.html\n  \
                        gatefold evaluate --samples work/samples --scores work/scores.parquet --group user_id\n  \
                        gatefold evaluate --model work/models/mmoe --gates"
)]
pub(crate) struct Args {
    /// Folder written by `gatefold samples build`; not needed for --gates alone.
    #[arg(long, value_name = "DIR", required_unless_present = "gates")]
    samples: Option<PathBuf>,
    /// Split to evaluate on.
    #[arg(long, default_value = "test")]
    split: String,
    /// Folder of a model (its latest version is used) or of one version.
    #[arg(long, value_name = "DIR", required_unless_present = "scores")]
    model: Option<PathBuf>,
    /// Scores of the split's rows, in their order, instead of a model (Parquet, a column for each
    /// output).
    #[arg(long, value_name = "FILE", conflicts_with = "model", requires = "samples")]
    scores: Option<PathBuf>,
    /// What GAUC and NDCG are taken within: `request`, or a column of the scores or of
    /// raw-<split>.parquet (as `samples build --raw` writes it), such as the user.
    #[arg(long, value_name = "COLUMN", default_value = "request")]
    group: String,
    /// Label or audit column of the samples that says how much each row counts.
    #[arg(long, value_name = "COLUMN")]
    weight: Option<String>,
    /// Ranks that the NDCG looks at.
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    ndcg_at: u32,
    /// Bins of the calibration error.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    bins: u32,
    /// Show how the model's gates use its experts, as the trainer recorded it.
    #[arg(long, requires = "model")]
    gates: bool,
    /// Report to write, with curves and histograms (HTML, complete in itself).
    #[arg(long, value_name = "FILE", requires = "samples")]
    out: Option<PathBuf>,
    /// Threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let Some(folder) = &args.samples else { return print_gates(&args, console) };
    let interrupt = Interrupt::listen()?;
    let mut report = args.out.as_deref().map(WholeFile::create).transpose()?;
    let samples = SampleSet::open(folder)
        .with_context(|| format!("cannot open the samples in {}", folder.display()))?;
    let split = samples
        .load(&args.split)
        .with_context(|| format!("cannot load split '{}' of {}", args.split, folder.display()))?;
    scoring::refuse_fake_negatives(&samples, &args.split)?;
    ensure!(split.rows > 0, "split '{}' of {} has no row", args.split, folder.display());

    let scored = match &args.scores {
        Some(path) => from_file(path, &samples, &split)?,
        None => from_model(&args, &samples, &split, console, &interrupt)?,
    };
    let observed = observed(&args, &samples, &split, &scored)?;
    let evaluation = evaluate(&args, &samples, scored, &observed)?;
    interrupt.check()?;
    if let Some(report) = &mut report {
        report.write(render_html(&evaluation).as_bytes())?;
    }
    report.map(WholeFile::finish).transpose()?;
    if args.json {
        return console.print_json(&as_json(&evaluation, &args));
    }
    let place = args.out.map_or_else(String::new, |out| format!("\nreport: {}", out.display()));
    console.print(&format!("{}{place}", render_text(&evaluation)))
}

/// Scores of a split with what is needed to measure them.
struct Scored {
    name: String,
    tasks: Vec<Task>,
    derived: Vec<Derived>,
    /// Scores of an output, by its name; none where a file has no such column.
    outputs: Vec<(String, Vec<f32>)>,
    calibrations: Vec<Calibration>,
    gates: Option<GateReport>,
    /// The file they came from.
    file: Option<Columns>,
}

fn from_model(
    args: &Args,
    samples: &SampleSet,
    split: &Split,
    console: &Console,
    interrupt: &Interrupt,
) -> Result<Scored> {
    let path = args.model.as_deref().context("name a --model")?;
    let bundle = scoring::open_bundle(path, samples)?;
    let threads = args.threads.map_or_else(bundles::all_cores, |threads| threads as usize);
    let mut scorer = scoring::open_scorer(bundle, &bundles::loader()?, threads)?;
    let scores = scoring::score_split(&mut scorer, split, console, interrupt)?;
    let manifest = scorer.bundle().manifest().clone();
    if args.gates && manifest.gates.is_none() {
        bail!("{} has no record of its gates: train it again, or leave out --gates", path.display());
    }
    Ok(Scored {
        name: format!("{} v{}", manifest.name, manifest.version),
        outputs: manifest.outputs.into_iter().map(|output| output.name).zip(scores).collect(),
        tasks: manifest.tasks,
        derived: manifest.derived,
        calibrations: manifest.calibrations,
        gates: manifest.gates.filter(|_| args.gates),
        file: None,
    })
}

fn from_file(path: &std::path::Path, samples: &SampleSet, split: &Split) -> Result<Scored> {
    let (tasks, derived) = (samples.manifest.tasks.clone(), samples.manifest.derived.clone());
    let file = Columns::open(path, split)?;
    let mut outputs = Vec::new();
    for output in measured_outputs(&tasks, &derived) {
        if let Some(scores) = file.numbers(&output.output)? {
            outputs.push((output.output, scores));
        }
    }
    ensure!(
        !outputs.is_empty(),
        "{} has no column of scores: name them as the outputs of the samples are named",
        path.display()
    );
    Ok(Scored {
        name: path.display().to_string(),
        tasks,
        derived,
        outputs,
        calibrations: Vec::new(),
        gates: None,
        file: Some(file),
    })
}

/// Labels, groups and weights of the split.
fn observed(args: &Args, samples: &SampleSet, split: &Split, scored: &Scored) -> Result<Observed> {
    // Only training rows were sampled.
    let rate = if args.split == "train" { samples.manifest.negative_sampling_rate } else { 1.0 };
    let mut weights = sampling_weights(split.rows, &split.labels, &scored.tasks, rate);
    if let Some(name) = &args.weight {
        let column = split.labels.get(name).with_context(|| {
            let known: Vec<&str> = split.labels.keys().map(String::as_str).collect();
            format!("the samples have no column '{name}' to weigh by (there are: {})", known.join(", "))
        })?;
        let sampling = weights.unwrap_or_else(|| vec![1.0; split.rows]);
        weights = Some(sampling.iter().zip(column).map(|(sampling, weight)| sampling * weight).collect());
    }
    Ok(Observed { labels: split.labels.clone(), groups: groups(args, samples, split, scored)?, weights })
}

/// The group of each row: its request, or what a column says.
fn groups(args: &Args, samples: &SampleSet, split: &Split, scored: &Scored) -> Result<Vec<u32>> {
    if args.group == "request" {
        return Ok(split.request.clone());
    }
    if let Some(groups) = scored.file.as_ref().map(|file| file.groups(&args.group)).transpose()?.flatten() {
        return Ok(groups);
    }
    let raw = samples.folder().join(format!("raw-{}.parquet", args.split));
    ensure!(
        raw.is_file(),
        "there is no {} to read the groups from: build the samples with --raw {}, or group by request",
        raw.display(),
        args.split
    );
    let groups = Columns::open(&raw, split)?.groups(&args.group)?;
    groups.with_context(|| format!("{} has no column '{}' to group by", raw.display(), args.group))
}

/// Measures the outputs, then the conditional ones on all impressions where that is known.
fn evaluate(
    args: &Args,
    samples: &SampleSet,
    scored: Scored,
    observed: &Observed,
) -> Result<ModelEvaluation> {
    let options = FigureOptions { bins: args.bins as usize, ndcg_at: args.ndcg_at as usize };
    let potential = potential_outputs(&scored.tasks).into_iter().map(|(_, output)| output);
    let known = |output: &MeasuredOutput| observed.labels.contains_key(&output.label);
    let measured =
        measured_outputs(&scored.tasks, &scored.derived).into_iter().chain(potential.filter(known));
    let mut outputs = Vec::new();
    for output in measured {
        let Some((_, scores)) = scored.outputs.iter().find(|(name, _)| *name == output.output) else {
            continue;
        };
        let rows = output.judged(&args.split, scores, observed)?;
        let found = Evaluation::measure_one(&args.split, &output, &rows, &options)?;
        let names = [output.output.as_str(), &output.space, &output.label];
        outputs.push(OutputReport::new(names, found.figures, &rows.judged(), !output.number, &options)?);
    }
    Ok(ModelEvaluation {
        model: scored.name,
        rows: format!(
            "{} {}: {}",
            samples.manifest.name,
            args.split,
            scoring::describe(samples, &args.split)
        ),
        group: args.group.clone(),
        options,
        outputs,
        calibrations: scored.calibrations,
        gates: scored.gates,
    })
}

/// `--gates` without samples: what the bundle recorded.
fn print_gates(args: &Args, console: &Console) -> Result<()> {
    let path = args.model.as_deref().context("name a --model")?;
    let bundle = gatefold_engine::Bundle::open_latest(path)
        .with_context(|| format!("cannot open the model {}", path.display()))?;
    let manifest = bundle.manifest();
    let gates = manifest.gates.as_ref().with_context(|| {
        format!("{} has no record of its gates: train it again with this version", bundle.path().display())
    })?;
    if args.json {
        return console
            .print_json(&json!({ "model": manifest.name, "version": manifest.version, "gates": gates }));
    }
    console.print(&format!("{} v{}\n{}", manifest.name, manifest.version, render_gates(gates)))
}

fn as_json(evaluation: &ModelEvaluation, args: &Args) -> Value {
    let outputs = evaluation.outputs.iter().map(|output| {
        let figures = &output.figures;
        let metric = |metric: Metric| Some((metric.name().to_owned(), json!(figures.get(metric)?)));
        let metrics: serde_json::Map<String, Value> = Metric::ALL.into_iter().filter_map(metric).collect();
        json!({
            "name": output.title(),
            "output": output.output,
            "space": output.space,
            "label": output.label,
            "rows": figures.rows,
            "positives": figures.positives,
            "metrics": metrics,
            "gauc_groups": figures.gauc.map(|gauc| json!({
                "used": gauc.groups_used, "skipped": gauc.groups_skipped, "rows_used": gauc.rows_used,
            })),
            "ndcg_groups": figures.ndcg.map(|ndcg| json!({
                "used": ndcg.groups_used, "skipped": ndcg.groups_skipped,
            })),
            "calibration": output.calibration,
            "histogram": output.histogram,
        })
    });
    json!({
        "model": evaluation.model,
        "split": args.split,
        "group": evaluation.group,
        "ndcg_at": evaluation.options.ndcg_at,
        "bins": evaluation.options.bins,
        "outputs": outputs.collect::<Vec<_>>(),
        "calibrations": evaluation.calibrations,
        "gates": evaluation.gates,
    })
}
