//! Models trained with several seeds and compared on test samples.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::statistics::spread;
use crate::demo::{self, Evaluation, ORACLE, Training};
use crate::program::{Programs, number};
use crate::steps::Steps;
use crate::table::Table;

/// The models of one reproduction, trained with several seeds.
pub(super) struct Experiment {
    pub(super) folder: String,
    pub(super) samples: Samples,
    pub(super) models: Vec<Candidate>,
    pub(super) seeds: u64,
}

/// What the models are trained on.
pub(super) enum Samples {
    /// One set for every seed.
    Built(String),
    /// Synthetic logs that each seed makes its own of.
    Synthetic { recipe: &'static str, impressions: u64, options: &'static [&'static str] },
}

/// One model of an experiment.
pub(super) struct Candidate {
    /// Its row in the table.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) recipe: String,
    /// The one task that it learns, if not all.
    pub(super) only: Option<&'static str>,
}

impl Candidate {
    pub(super) fn of(kind: &'static str, recipe: &str) -> Self {
        Self { name: kind, kind, recipe: recipe.to_owned(), only: None }
    }
}

/// What all seeds of an experiment gave.
pub(super) struct Results {
    pub(super) seeds: Vec<Vec<Evaluation>>,
    /// Wall time of each seed: every model trained, published and evaluated.
    pub(super) seconds: Vec<f64>,
}

impl Experiment {
    pub(super) fn run(&self, programs: &Programs, steps: &Steps) -> Result<Results> {
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
        let samples = match &self.samples {
            Samples::Built(samples) => samples.clone(),
            Samples::Synthetic { recipe, impressions, options } => {
                let (logs, samples) = (format!("{folder}/logs"), format!("{folder}/samples"));
                demo::synthesise(programs, &steps, &logs, *impressions, seed, options)?;
                demo::build_samples(programs, &steps, recipe, &logs, &samples)?;
                samples
            }
        };
        let start = Instant::now();
        let mut folders = Vec::new();
        for model in &self.models {
            let out = format!("{folder}/models/{}", model.name);
            let job = Training { recipe: &model.recipe, samples: &samples, model: model.kind, seed };
            demo::train(programs, &steps, model.name, &job, &out)?;
            folders.push(out);
        }
        let report = format!("{folder}/report.html");
        let compared = demo::compare(programs, &steps, &samples, &report, &folders)?;
        Ok(json!({ "compared": compared, "seconds": start.elapsed().as_secs_f64() }))
    }
}

impl Results {
    /// AUC of `model` on the evaluation `name`, one value a seed.
    pub(super) fn aucs(&self, name: &str, model: &str) -> Vec<f64> {
        let of_seed = |evaluations: &Vec<Evaluation>| {
            evaluations.iter().find(|evaluation| evaluation.name() == name)?.auc(model)
        };
        self.seeds.iter().filter_map(of_seed).collect()
    }

    /// Mean and spread of every evaluation's AUC: a row for each model, the oracle's last.
    pub(super) fn table(&self, models: &[Candidate]) -> Table {
        let mut heading = vec!["AUC on the test split".to_owned()];
        heading.extend(self.seeds[0].iter().map(Evaluation::name));
        let mut table = Table::with_heading(heading);
        let rows = models.iter().map(|model| (model.name, model.only)).chain([(ORACLE, None)]);
        for (model, only) in rows {
            let cells = self.seeds[0].iter().map(|evaluation| {
                let is_learned = only.is_none_or(|task| task == evaluation.output);
                if is_learned { spread(&self.aucs(&evaluation.name(), model)) } else { "-".to_owned() }
            });
            table.row([model.to_owned()].into_iter().chain(cells));
        }
        table
    }
}

/// A recipe with the loss of one task switched off.
pub(super) fn without_loss(recipe: &str, task: &str) -> Result<String> {
    let heading = format!("[[task]]\nname = \"{task}\"\n");
    if recipe.matches(&heading).count() != 1 {
        anyhow::bail!("the recipe does not begin exactly one [[task]] with name = \"{task}\"");
    }
    Ok(recipe.replace(&heading, &format!("{heading}weight = 0.0\n")))
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
}
