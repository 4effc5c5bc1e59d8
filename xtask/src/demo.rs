//! `cargo xtask demo`: from event logs to scores, on synthetic logs whose truth is known.
//!
//! It only calls the `gatefold` command, step by step, as a user would. The result of each step is
//! kept beside its output, so that a second run reuses what is there.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::program::{Programs, number};
use crate::steps::Steps;
use crate::table::{self, Table, thousands};
use crate::workspace::Workspace;

/// The models that the demo trains, by the name of their kind.
pub(crate) const MODELS: [&str; 3] = ["shared-bottom", "esmm", "mmoe"];

#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Do every step again, even where its output is there.
    #[arg(long)]
    fresh: bool,
    /// Impressions in the synthetic logs.
    #[arg(long, default_value_t = 1_000_000)]
    impressions: u64,
    /// The folder that everything is written to, relative to the workspace.
    #[arg(long, default_value = "work/demo")]
    out: String,
}

pub(crate) fn run(workspace: &Workspace, options: &DemoOptions) -> Result<()> {
    let programs = Programs::build(workspace)?;
    let folder = options.out.trim_end_matches('/');
    let steps = Steps::open(&workspace.root.join(folder), options.fresh)?;
    let (logs, samples) = (format!("{folder}/logs"), format!("{folder}/samples"));

    synthesise(&programs, &steps, &logs, options.impressions, 1, &[])?;
    build_samples(&programs, &steps, "training/recipes/synthetic.toml", &logs, &samples)?;
    let mut trained = Vec::new();
    for model in MODELS {
        let job = Training { recipe: "training/recipes/synthetic.toml", samples: &samples, model, seed: 1 };
        trained.push(train(&programs, &steps, model, &job, &format!("{folder}/models/{model}"))?);
    }
    let load = steps.run("load", &[], || {
        let requests = format!("{samples}/examples.json");
        let options = ["--model", "mmoe", "--requests", &requests, "--candidates", "200", "--rate", "max"];
        programs.serve_and_load(&format!("{folder}/models"), &[&options[..], &["--duration", "8s"]].concat())
    })?;
    let scored = score(&programs, &steps, folder)?;
    let model_folders: Vec<String> = MODELS.iter().map(|model| format!("{folder}/models/{model}")).collect();
    let report = format!("{folder}/report.html");
    let compared = compare(&programs, &steps, &samples, &report, &model_folders)?;

    table::print(&summary(&compared, &trained)?);
    let mut speeds = Table::new(["throughput", ""]);
    speeds.row([
        "Score over gRPC, 200 candidates a request (mmoe)".to_owned(),
        format!("{} candidates/s", thousands(number(&load, "candidates_per_second")?)),
    ]);
    speeds.row([
        "batch scoring (mmoe)".to_owned(),
        format!("{} rows/s", thousands(number(&scored, "rows_per_second")?)),
    ]);
    table::print(&format!("\n{}", speeds.render()));
    table::print(&format!(
        "\nlogs, samples, models, scores: {folder}/\nreport: {report}\nThe README goes through these files step by step."
    ));
    Ok(())
}

/// Writes synthetic event logs; `options` are further ones of `gatefold synth`.
pub(crate) fn synthesise(
    programs: &Programs,
    steps: &Steps,
    out: &str,
    impressions: u64,
    seed: u64,
    options: &[&str],
) -> Result<Value> {
    let mut command = programs.gatefold();
    command.args(["synth", "--out", out, "--impressions", &impressions.to_string()]);
    command.args(["--seed", &seed.to_string()]).args(options);
    steps.command("synth", &[out], command.arg("--json"))
}

/// Builds sample shards, with the raw rows of the test split beside them.
pub(crate) fn build_samples(
    programs: &Programs,
    steps: &Steps,
    recipe: &str,
    logs: &str,
    out: &str,
) -> Result<Value> {
    let mut command = programs.gatefold();
    command.args(["samples", "build", "--recipe", recipe, "--logs", logs, "--out", out, "--raw", "test"]);
    steps.command("samples", &[out], command.arg("--json"))
}

/// What one model is trained from.
pub(crate) struct Training<'a> {
    pub(crate) recipe: &'a str,
    pub(crate) samples: &'a str,
    pub(crate) model: &'a str,
    pub(crate) seed: u64,
}

/// Trains one model and publishes it as the first version in the folder `out`.
pub(crate) fn train(
    programs: &Programs,
    steps: &Steps,
    name: &str,
    job: &Training,
    out: &str,
) -> Result<Value> {
    let mut command = programs.gatefold();
    command.args(["train", "--recipe", job.recipe, "--samples", job.samples, "--out", out]);
    command.args(["--model", job.model, "--seed", &job.seed.to_string(), "--json"]);
    steps.command(&format!("train-{name}"), &[out], &mut command)
}

/// Compares models on the test split.
pub(crate) fn compare(
    programs: &Programs,
    steps: &Steps,
    samples: &str,
    report: &str,
    models: &[String],
) -> Result<Value> {
    let mut command = programs.gatefold();
    command.args(["compare", "--samples", samples, "--split", "test", "--out", report]).args(models);
    steps.command("compare", &[report], command.arg("--json"))
}

fn score(programs: &Programs, steps: &Steps, folder: &str) -> Result<Value> {
    let out = format!("{folder}/scores.parquet");
    let mut command = programs.gatefold();
    command.args(["score", "--model", &format!("{folder}/models/mmoe")]);
    command.args(["--input", &format!("{folder}/samples/raw-test.parquet"), "--out", &out, "--json"]);
    steps.command("score", &[&out], &mut command)
}

/// AUC of every output and model of a comparison, with the training speed of each model.
fn summary(compared: &Value, trained: &[Value]) -> Result<String> {
    let evaluations = evaluations(compared)?;
    let mut heading = vec!["model".to_owned()];
    heading.extend(evaluations.iter().map(|evaluation| format!("{} AUC", evaluation.name())));
    heading.push("training samples/s".to_owned());
    let mut table = Table::with_heading(heading);
    for (model, training) in MODELS.iter().zip(trained) {
        let mut cells = vec![(*model).to_owned()];
        cells.extend(evaluations.iter().map(|evaluation| evaluation.auc_text(model)));
        cells.push(thousands(number(training, "samples_per_second")?));
        table.row(cells);
    }
    let mut cells = vec!["oracle (attainable)".to_owned()];
    cells.extend(evaluations.iter().map(|evaluation| evaluation.auc_text(ORACLE)));
    table.row(cells);
    let mut text = format!("\nTest split of the synthetic logs\n\n{}", table.render());
    for evaluation in &evaluations {
        text.push_str(&format!("{}: {}\n", evaluation.name(), evaluation.space));
    }
    Ok(text)
}

/// The name under which a comparison gives the AUC of the true probabilities.
pub(crate) const ORACLE: &str = "oracle";

/// One output on one sample space, with the AUC of each model.
pub(crate) struct Evaluation {
    pub(crate) output: String,
    pub(crate) space: String,
    aucs: Vec<(String, f64)>,
}

impl Evaluation {
    /// The output, and its sample space where that is not the one it is trained on.
    pub(crate) fn name(&self) -> String {
        if self.is_potential() { format!("{} (all impressions)", self.output) } else { self.output.clone() }
    }

    /// Whether rows count that have no observed label: known for synthetic logs only.
    pub(crate) fn is_potential(&self) -> bool {
        self.space.contains("potential")
    }

    /// The AUC of a model, by its name.
    pub(crate) fn auc(&self, model: &str) -> Option<f64> {
        self.aucs.iter().find(|(name, _)| name == model).map(|(_, auc)| *auc)
    }

    pub(crate) fn auc_text(&self, model: &str) -> String {
        self.auc(model).map_or_else(|| "-".to_owned(), |auc| format!("{auc:.4}"))
    }
}

/// What `gatefold compare --json` printed.
pub(crate) fn evaluations(compared: &Value) -> Result<Vec<Evaluation>> {
    let outputs = compared["outputs"].as_array().context("the comparison lists no outputs")?;
    let text = |value: &Value, key: &str| {
        let found = value[key].as_str().map(str::to_owned);
        found.with_context(|| format!("no text at {key} in {value}"))
    };
    outputs
        .iter()
        .map(|entry| {
            let models = entry["models"].as_array().context("an output lists no models")?;
            // An output with one class only has no AUC.
            let aucs = models.iter().filter(|model| !model["auc"].is_null());
            let aucs = aucs.map(|model| Ok((text(model, "model")?, number(model, "auc")?)));
            Ok(Evaluation {
                output: text(entry, "output")?,
                space: text(entry, "space")?,
                aucs: aucs.collect::<Result<_>>()?,
            })
        })
        .collect()
}
