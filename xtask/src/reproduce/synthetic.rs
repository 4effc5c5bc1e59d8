//! Synthetic logs: beside the attainable AUC, and with clicks that select strongly.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::experiment::{Candidate, Experiment, Results, Samples, without_loss};
use super::statistics::{Interval, mean};
use super::{Job, Reproduced};
use crate::bars::{Bars, Limit};
use crate::demo::{self, ORACLE};
use crate::program::Programs;

const RECIPE: &str = "training/recipes/synthetic.toml";
/// The row of the CVR tower that only ever sees clicked impressions.
const ON_CLICKS: &str = "cvr-on-clicks";
/// Clicks spread three times as widely as usual and agree with conversions by half.
const STRONG_SELECTION: [&str; 4] = ["--selection", "3", "--correlation", "0.5"];

/// A million impressions beside the truth.
pub(super) fn synthetic(job: &Job) -> Result<Reproduced> {
    let programs = Programs::build(job.workspace)?;
    let steps = job.steps()?;
    let (logs, samples) = (format!("{}/logs", job.folder), format!("{}/samples", job.folder));
    demo::synthesise(&programs, &steps, &logs, 1_000_000, 1, &[])?;
    demo::build_samples(&programs, &steps, RECIPE, &logs, &samples)?;
    let mut models: Vec<_> = demo::MODELS.iter().map(|model| Candidate::of(model, RECIPE)).collect();
    models.push(on_clicks(job)?);
    let experiment =
        Experiment { folder: job.folder.clone(), samples: Samples::Built(samples), models, seeds: job.seeds };
    let results = experiment.run(&programs, &steps)?;

    let mut bars = Bars::default();
    for model in ["mmoe", "esmm"] {
        for (output, bar) in [("ctr", 0.01), ("cvr", 0.02), ("ctcvr", 0.02)] {
            let gap = mean(&results.aucs(output, ORACLE)) - mean(&results.aucs(output, model));
            bars.bar(format!("{model} {output} AUC below the oracle"), gap, Limit::AtMost(bar));
        }
    }
    let gain = mean(&potential_aucs(&results, "esmm")?) - mean(&potential_aucs(&results, ON_CLICKS)?);
    bars.bar("esmm CVR AUC on all impressions over a tower on clicks", gain, Limit::Above(0.0));
    Ok(Reproduced { text: results.table(&experiment.models).render(), bars, picture: None })
}

/// ESMM against the CVR tower on clicks where clicked impressions resemble all of them little. Each
/// seed makes logs of its own, so that the interval speaks of logs and trainings.
pub(super) fn esmm(job: &Job) -> Result<Reproduced> {
    ensure!(job.seeds >= 2, "an interval needs --seeds of at least 2");
    let programs = Programs::build(job.workspace)?;
    let steps = job.steps()?;
    let experiment = Experiment {
        folder: job.folder.clone(),
        samples: Samples::Synthetic { recipe: RECIPE, impressions: 500_000, options: &STRONG_SELECTION },
        models: vec![Candidate::of("esmm", RECIPE), on_clicks(job)?],
        seeds: job.seeds,
    };
    let results = experiment.run(&programs, &steps)?;

    let gain =
        Interval::of_differences(&potential_aucs(&results, "esmm")?, &potential_aucs(&results, ON_CLICKS)?);
    let text = format!(
        "{}\nGain of esmm over {ON_CLICKS} in CVR AUC on all impressions, by the outcome that a click would have \
         had: {}\n(mean and 95 % interval of Student's t over {} seeds, pair by pair; each seed makes its own \
         logs with {})\n",
        results.table(&experiment.models).render(),
        gain.text(),
        job.seeds,
        STRONG_SELECTION.join(" "),
    );
    let mut bars = Bars::default();
    bars.bar("lower end of the gain's interval", gain.low, Limit::Above(0.0));
    Ok(Reproduced { text, bars, picture: None })
}

/// The tower of shared-bottom's shape that learns CVR alone, on clicked impressions.
fn on_clicks(job: &Job) -> Result<Candidate> {
    let recipe = format!("{}/{ON_CLICKS}.toml", job.folder);
    let root = &job.workspace.root;
    let text = without_loss(&fs::read_to_string(root.join(RECIPE))?, "ctr")?;
    fs::write(root.join(&recipe), text)?;
    Ok(Candidate { name: ON_CLICKS, kind: "shared-bottom", recipe, only: Some("cvr") })
}

/// AUC of CVR on all impressions, by the outcome that a click would have had.
fn potential_aucs(results: &Results, model: &str) -> Result<Vec<f64>> {
    let all = results.seeds[0].iter().find(|evaluation| evaluation.is_potential());
    let all = all.context("the comparison holds no evaluation on all impressions")?;
    Ok(results.aucs(&all.name(), model))
}
