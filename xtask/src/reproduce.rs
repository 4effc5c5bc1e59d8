//! `cargo xtask reproduce NAME`: trains, evaluates, and prints the table beside published figures.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::bars::{Bars, Limit};
use crate::demo::{self, Evaluation, ORACLE, Training};
use crate::program::{Programs, number};
use crate::steps::Steps;
use crate::table::{self, Table};
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct ReproduceOptions {
    /// What to reproduce.
    name: Reproduction,
    /// Seeds that each model is trained with.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Folder of the raw files of a real data set; for `adult`: `adult.data` and `adult.test`, plain
    /// or gzipped.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print one JSON object last on stdout.
    #[arg(long)]
    json: bool,
    /// Do every step again, even where its output is there.
    #[arg(long)]
    fresh: bool,
    /// Write the table to `training/results/`.
    #[arg(long)]
    record: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reproduction {
    /// UCI Adult: income and marital status, on the published test file.
    Adult,
    /// Synthetic logs of a million impressions, beside the attainable AUC.
    Synthetic,
}

/// The models of one reproduction, trained with several seeds on one sample set.
struct Experiment {
    name: &'static str,
    folder: String,
    samples: String,
    models: Vec<Candidate>,
    seeds: u64,
}

/// One model of an experiment.
struct Candidate {
    /// Its row in the table.
    name: &'static str,
    kind: &'static str,
    recipe: String,
}

impl Candidate {
    fn of(kind: &'static str, recipe: &str) -> Self {
        Self { name: kind, kind, recipe: recipe.to_owned() }
    }
}

/// What all seeds of an experiment gave.
struct Results {
    seeds: Vec<Vec<Evaluation>>,
    /// Wall time of each seed: every model trained, published and evaluated.
    seconds: Vec<f64>,
}

pub(crate) fn run(workspace: &Workspace, options: &ReproduceOptions) -> Result<()> {
    if options.seeds == 0 {
        bail!("--seeds must be at least 1");
    }
    let programs = Programs::build(workspace)?;
    let (name, text, bars) = match options.name {
        Reproduction::Adult => adult(workspace, &programs, options)?,
        Reproduction::Synthetic => synthetic(workspace, &programs, options)?,
    };
    let text = format!("{text}\n{}", bars.render());
    table::print(&text);
    if options.record {
        let path = workspace.root.join(format!("training/results/{name}.md"));
        let command = format!("cargo xtask reproduce {name} --seeds {}", options.seeds);
        fs::write(&path, format!("# {name}\n\n    {command}\n\n```text\n{}\n```\n", text.trim_end()))?;
        eprintln!("==> written to {}", path.display());
    }
    if options.json {
        table::print(&bars.json().to_string());
    }
    Ok(())
}

/// Published AUC (Keras, the same protocol): model, income, marital.
const ADULT_PUBLISHED: [(&str, f64, f64); 2] = [("shared-bottom", 0.9098, 0.9635), ("mmoe", 0.9091, 0.9638)];

fn adult(
    workspace: &Workspace,
    programs: &Programs,
    options: &ReproduceOptions,
) -> Result<(&'static str, String, Bars)> {
    let data = options.data.clone().unwrap_or_else(|| workspace.root.join("../shared/data/adult"));
    let present = |file: &str| data.join(file).is_file() || data.join(format!("{file}.gz")).is_file();
    if !(present("adult.data") && present("adult.test")) {
        bail!(
            "adult.data and adult.test are not in {}: take them from \
             https://archive.ics.uci.edu/dataset/2/adult and name their folder with --data",
            data.display()
        );
    }
    const RECIPE: &str = "training/recipes/adult.toml";
    let folder = "work/reproduce/adult".to_owned();
    let steps = Steps::open(&workspace.root.join(&folder), options.fresh)?;
    let samples = format!("{folder}/samples");
    demo::build_samples(programs, &steps, RECIPE, &data.display().to_string(), &samples)?;
    let models = ADULT_PUBLISHED.map(|(model, ..)| Candidate::of(model, RECIPE)).into();
    let experiment = Experiment { name: "adult", folder, samples, models, seeds: options.seeds };
    let results = experiment.run(programs, &steps)?;

    let mut table = Table::new(["AUC on the test file", "income", "published", "marital", "published"]);
    let mut bars = Bars::default();
    for (model, income, marital) in ADULT_PUBLISHED {
        let (found_income, found_marital) = (results.aucs("income", model), results.aucs("marital", model));
        table.row([
            model.to_owned(),
            spread(&found_income),
            format!("{income:.4}"),
            spread(&found_marital),
            format!("{marital:.4}"),
        ]);
        bars.bar(format!("{model} income AUC"), mean(&found_income), Limit::AtLeast(0.906));
        bars.bar(format!("{model} marital AUC"), mean(&found_marital), Limit::AtLeast(0.962));
    }
    let longest = results.seconds.iter().copied().fold(0.0, f64::max);
    bars.bar("seconds of the longest seed, both models", longest, Limit::AtMost(60.0));
    Ok((experiment.name, table.render(), bars))
}

/// The row of the CVR tower that only ever sees clicked impressions.
const ON_CLICKS: &str = "cvr-on-clicks";

fn synthetic(
    workspace: &Workspace,
    programs: &Programs,
    options: &ReproduceOptions,
) -> Result<(&'static str, String, Bars)> {
    const RECIPE: &str = "training/recipes/synthetic.toml";
    let folder = "work/reproduce/synthetic".to_owned();
    let steps = Steps::open(&workspace.root.join(&folder), options.fresh)?;
    let (logs, samples) = (format!("{folder}/logs"), format!("{folder}/samples"));
    demo::synthesise(programs, &steps, &logs, 1_000_000, 1)?;
    demo::build_samples(programs, &steps, RECIPE, &logs, &samples)?;
    let mut models: Vec<_> = demo::MODELS.iter().map(|model| Candidate::of(model, RECIPE)).collect();
    let recipe = format!("{folder}/{ON_CLICKS}.toml");
    let text = without_loss(&fs::read_to_string(workspace.root.join(RECIPE))?, "ctr")?;
    fs::write(workspace.root.join(&recipe), text)?;
    models.push(Candidate { name: ON_CLICKS, kind: "shared-bottom", recipe });
    let experiment = Experiment { name: "synthetic", folder, samples, models, seeds: options.seeds };
    let results = experiment.run(programs, &steps)?;

    let evaluations = &results.seeds[0];
    let mut heading = vec!["AUC on the test split".to_owned()];
    heading.extend(evaluations.iter().map(Evaluation::name));
    let mut table = Table::with_heading(heading);
    let rows = experiment.models.iter().map(|model| model.name).chain([ORACLE]);
    for model in rows {
        let cells = evaluations.iter().map(|evaluation| spread(&results.aucs(&evaluation.name(), model)));
        table.row([model.to_owned()].into_iter().chain(cells));
    }
    let mut bars = Bars::default();
    for model in ["mmoe", "esmm"] {
        for (output, bar) in [("ctr", 0.01), ("cvr", 0.03), ("ctcvr", 0.03)] {
            let gap = mean(&results.aucs(output, ORACLE)) - mean(&results.aucs(output, model));
            bars.bar(format!("{model} {output} AUC below the oracle"), gap, Limit::AtMost(bar));
        }
    }
    if let Some(all) = evaluations.iter().find(|evaluation| evaluation.is_potential()) {
        let gain = mean(&results.aucs(&all.name(), "esmm")) - mean(&results.aucs(&all.name(), ON_CLICKS));
        bars.bar("esmm CVR AUC on all impressions over a tower on clicks", gain, Limit::Above(0.0));
    }
    Ok((experiment.name, table.render(), bars))
}

/// A recipe with the loss of one task switched off.
fn without_loss(recipe: &str, task: &str) -> Result<String> {
    let heading = format!("[[task]]\nname = \"{task}\"\n");
    if recipe.matches(&heading).count() != 1 {
        bail!("the recipe does not begin exactly one [[task]] with name = \"{task}\"");
    }
    Ok(recipe.replace(&heading, &format!("{heading}weight = 0.0\n")))
}

impl Experiment {
    fn run(&self, programs: &Programs, steps: &Steps) -> Result<Results> {
        let mut results = Results { seeds: Vec::new(), seconds: Vec::new() };
        for seed in 1..=self.seeds {
            let result = steps.run(&format!("seed-{seed}"), &[], || self.run_seed(programs, seed))?;
            results.seeds.push(demo::evaluations(&result["compared"])?);
            results.seconds.push(number(&result, "seconds")?);
        }
        Ok(results)
    }

    fn run_seed(&self, programs: &Programs, seed: u64) -> Result<Value> {
        let folder = format!("{}/seed-{seed}", self.folder);
        let steps = Steps::open(&programs.root().join(&folder), true)?;
        let start = Instant::now();
        let mut folders = Vec::new();
        for model in &self.models {
            let out = format!("{folder}/models/{}", model.name);
            let job = Training { recipe: &model.recipe, samples: &self.samples, model: model.kind, seed };
            demo::train(programs, &steps, model.name, &job, &out)?;
            folders.push(out);
        }
        let report = format!("{folder}/report.html");
        let compared = demo::compare(programs, &steps, &self.samples, &report, &folders)?;
        Ok(json!({ "compared": compared, "seconds": start.elapsed().as_secs_f64() }))
    }
}

impl Results {
    /// AUC of `model` on the evaluation `name`, one value a seed.
    fn aucs(&self, name: &str, model: &str) -> Vec<f64> {
        let of_seed = |evaluations: &Vec<Evaluation>| {
            evaluations.iter().find(|evaluation| evaluation.name() == name)?.auc(model)
        };
        self.seeds.iter().filter_map(of_seed).collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean and, for more than one value, sample standard deviation.
fn spread(values: &[f64]) -> String {
    let mean = mean(values);
    match values.len() {
        0 => "-".to_owned(),
        1 => format!("{mean:.4}"),
        count => {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            format!("{mean:.4} ± {:.4}", (squares / (count - 1) as f64).sqrt())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_switched_off_by_its_weight() {
        let recipe = "[[task]]\nname = \"ctr\"\nlabel = \"click\"\n";
        let expected = "[[task]]\nname = \"ctr\"\nweight = 0.0\nlabel = \"click\"\n";
        assert_eq!(without_loss(recipe, "ctr").unwrap(), expected);
        assert!(without_loss(recipe, "cvr").is_err());
    }

    #[test]
    fn spread_gives_mean_and_standard_deviation() {
        assert_eq!(spread(&[]), "-");
        assert_eq!(spread(&[0.91]), "0.9100");
        // Deviations -0.01, 0, 0.01: variance 2e-4 / 2.
        assert_eq!(spread(&[0.90, 0.91, 0.92]), "0.9100 ± 0.0100");
    }
}
