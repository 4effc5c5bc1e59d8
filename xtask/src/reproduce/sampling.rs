//! A fifth of the negatives, made up for by the rate or by weights, beside all of them.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::statistics::mean;
use super::{Job, Reproduced};
use crate::bars::{Bars, Limit};
use crate::demo::{self, Training};
use crate::program::{Programs, number};
use crate::steps::Steps;
use crate::table::Table;

const RECIPE: &str = "training/recipes/synthetic.toml";
const MODEL: &str = "shared-bottom";
/// The row whose training split is whole.
const ALL: &str = "all";
/// Each row of the table: what its recipe has in `[samples.logs.sampling]` and in `[train]`.
const WAYS: [(&str, &str, &str); 3] = [
    (ALL, "", ""),
    ("rate", "negatives = 0.2\n", ""),
    ("weight", "negatives = 0.2\ncorrect = \"weight\"\n", "sample_weight = \"weight\"\n"),
];

/// Trains on all rows and on sampled ones, and measures everything on one test split.
pub(super) fn sampling(job: &Job) -> Result<Reproduced> {
    let programs = Programs::build(job.workspace)?;
    let (root, steps) = (&job.workspace.root, job.steps()?);
    let logs = format!("{}/logs", job.folder);
    demo::synthesise(&programs, &steps, &logs, 500_000, 1, &[])?;
    let original = fs::read_to_string(root.join(RECIPE)).with_context(|| format!("cannot read {RECIPE}"))?;
    let mut built = Vec::new();
    for (name, sampling, train) in WAYS {
        let recipe = format!("{}/{name}.toml", job.folder);
        fs::write(root.join(&recipe), changed(&original, sampling, train)?)?;
        let samples = format!("{}/samples-{name}", job.folder);
        let steps = Steps::open(&root.join(format!("{}/{name}", job.folder)), job.fresh)?;
        demo::build_samples(&programs, &steps, &recipe, &logs, &samples)?;
        built.push((name, recipe, samples, steps));
    }
    let test = format!("{}/samples-{ALL}", job.folder);
    let mut compared = Vec::new();
    for seed in 1..=job.seeds {
        let mut models = Vec::new();
        for (name, recipe, samples, steps) in &built {
            let out = format!("{}/seed-{seed}/{name}", job.folder);
            let training = Training { recipe, samples, model: MODEL, seed };
            demo::train(&programs, steps, &format!("seed-{seed}"), &training, &out)?;
            models.push(out);
        }
        let steps = Steps::open(&root.join(format!("{}/seed-{seed}", job.folder)), true)?;
        let report = format!("{}/seed-{seed}/report.html", job.folder);
        compared.push(demo::compare(&programs, &steps, &test, &report, &models)?);
    }

    let figures = |output: &str, model: &str, figure: &str| -> Result<f64> {
        let values: Vec<f64> = compared
            .iter()
            .map(|compared| figure_of(compared, output, model, figure))
            .collect::<Result<_>>()?;
        Ok(mean(&values))
    };
    let mut heading = vec!["test split".to_owned()];
    let outputs = ["ctr", "cvr", "ctcvr"];
    heading
        .extend(outputs.iter().flat_map(|output| ["AUC", "PCOC"].map(|figure| format!("{output} {figure}"))));
    let mut table = Table::with_heading(heading);
    let mut bars = Bars::default();
    for (name, ..) in WAYS {
        let mut cells = vec![name.to_owned()];
        for output in outputs {
            let (auc, pcoc) = (figures(output, name, "auc")?, figures(output, name, "pcoc")?);
            cells.extend([format!("{auc:.4}"), format!("{pcoc:.3}")]);
            if name != ALL {
                let lost = figures(output, ALL, "auc")? - auc;
                bars.bar(format!("{name}: {output} AUC below that of all rows"), lost, Limit::AtMost(0.01));
            }
            if output == "ctr" {
                bars.bar(
                    format!("{name}: distance of ctr PCOC from 1"),
                    (pcoc - 1.0).abs(),
                    Limit::AtMost(0.1),
                );
            }
        }
        table.row(cells);
    }
    Ok(Reproduced { text: table.render(), bars, picture: None })
}

/// The recipe with these lines in its tables.
fn changed(recipe: &str, sampling: &str, train: &str) -> Result<String> {
    let (feature, heading) = ("[[feature]]\n", "[train]\n");
    ensure!(recipe.contains(feature) && recipe.matches(heading).count() == 1, "{RECIPE} has another form");
    let recipe = match sampling {
        "" => recipe.to_owned(),
        lines => recipe.replacen(feature, &format!("[samples.logs.sampling]\n{lines}\n{feature}"), 1),
    };
    Ok(recipe.replace(heading, &format!("{heading}{train}")))
}

/// A figure of a model on the sample space that an output is trained on.
fn figure_of(compared: &Value, output: &str, model: &str, figure: &str) -> Result<f64> {
    let outputs = compared["outputs"].as_array().context("the comparison lists no outputs")?;
    let entry = outputs.iter().find(|entry| entry["output"] == output);
    let models = entry.and_then(|entry| entry["models"].as_array());
    let found = models.and_then(|models| models.iter().find(|found| found["model"] == model));
    number(found.with_context(|| format!("the comparison has no {output} of {model}"))?, figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_takes_the_lines() {
        let recipe = "[samples.logs]\nclicks = \"c\"\n[[feature]]\n[[feature]]\n[train]\nepochs = 1\n";
        let expected = "[samples.logs]\nclicks = \"c\"\n[samples.logs.sampling]\nnegatives = 0.2\n\n[[feature]]\n\
                        [[feature]]\n[train]\nsample_weight = \"weight\"\nepochs = 1\n";
        assert_eq!(changed(recipe, "negatives = 0.2\n", "sample_weight = \"weight\"\n").unwrap(), expected);
        assert_eq!(changed(recipe, "", "").unwrap(), recipe);
        assert!(changed("[train]\n", "", "").is_err());
    }
}
