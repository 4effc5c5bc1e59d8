//! The synthetic experiment of Ma et al., "Modeling Task Relationships in Multi-task Learning with
//! Multi-gate Mixture-of-Experts" (KDD 2018), section 5.1: shared-bottom, OMoE and MMoE with equally
//! many parameters on two regression tasks of a given correlation, many times over.
//!
//! The paper gives the inputs' dimension, the noise, the models and the optimizer with its grid of
//! learning rates. It leaves open the length of the weight vectors and the sines ([`generator`] says
//! what is taken), the batches and how many of them. Here every batch is of new samples, so that a
//! loss is one of the function and not of its samples.

mod generator;
mod trial;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use gatefold_schema::ModelKind;
use serde_json::{Value, json};

use trial::{Curve, Trial};

/// Correlations of the tasks, the paper's `p`.
const CORRELATIONS: [f64; 3] = [0.5, 0.9, 1.0];
/// The models compared.
const MODELS: [ModelKind; 3] = [ModelKind::SharedBottom, ModelKind::Omoe, ModelKind::Mmoe];
/// The grid of learning rates (section 5.1).
const LEARNING_RATES: [f64; 3] = [1e-4, 1e-3, 1e-2];

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Trainings of each model at each correlation.
    pub(crate) runs: usize,
    /// Trainings by which the learning rate of each is chosen; their seeds are not among those of
    /// the runs.
    pub(crate) search_runs: usize,
    /// Batches of a training.
    pub(crate) steps: usize,
    /// Trainings side by side, each on one thread.
    pub(crate) threads: usize,
}

/// Searches, then runs: for each model and correlation the learning rate chosen, the loss that each
/// rate gave in the search, and the loss curve of every run.
pub(crate) fn reproduce(plan: &Plan) -> Result<Value> {
    ensure!(plan.runs > 0 && plan.search_runs > 0, "runs and search runs must be at least 1");
    let start = Instant::now();
    let trial = |correlation: f64, rates: [f64; 3], seed: usize| Trial {
        correlation,
        models: [0, 1, 2].map(|model| (MODELS[model], rates[model])),
        seed: seed as u64,
        steps: plan.steps,
    };

    let search_seeds = plan.runs..plan.runs + plan.search_runs;
    let searches: Vec<Trial> = CORRELATIONS
        .iter()
        .flat_map(|p| LEARNING_RATES.map(|rate| (*p, rate)))
        .flat_map(|(p, rate)| search_seeds.clone().map(move |seed| (p, rate, seed)))
        .map(|(p, rate, seed)| trial(p, [rate; 3], seed))
        .collect();
    let searched = all(&searches, plan.threads)?;
    // By correlation, by learning rate: the mean loss of each model.
    let losses: Vec<[f64; 3]> = searched.chunks(plan.search_runs).map(mean_losses).collect();
    let losses: Vec<&[[f64; 3]]> = losses.chunks(LEARNING_RATES.len()).collect();
    let rates: Vec<[f64; 3]> =
        losses.iter().map(|losses| [0, 1, 2].map(|model| best(losses, model))).collect();

    let runs: Vec<Trial> = CORRELATIONS
        .iter()
        .zip(&rates)
        .flat_map(|(p, rates)| (0..plan.runs).map(|seed| trial(*p, *rates, seed)))
        .collect();
    let curves = all(&runs, plan.threads)?;

    let mut cells = Vec::new();
    for (model, kind) in MODELS.iter().enumerate() {
        for (index, curves) in curves.chunks(plan.runs).enumerate() {
            let tried = LEARNING_RATES.iter().zip(losses[index]).map(|(rate, losses)| (rate, losses[model]));
            cells.push(json!({
                "model": kind.name(),
                "correlation": CORRELATIONS[index],
                "learning_rate": rates[index][model],
                "search": tried.collect::<Vec<_>>(),
                "curves": curves.iter().map(|of_run| &of_run[model]).collect::<Vec<_>>(),
            }));
        }
    }
    Ok(json!({
        "cells": cells,
        "steps": plan.steps,
        "batch": trial::BATCH,
        "seconds": start.elapsed().as_secs_f64(),
    }))
}

/// The mean loss of each model at the end of these trials.
fn mean_losses(trials: &[[Curve; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|model| trials.iter().map(|curves| curves[model].last()).sum::<f64>() / trials.len() as f64)
}

/// The learning rate of a model's least loss; a loss that is no number is never the least.
fn best(losses: &[[f64; 3]], model: usize) -> f64 {
    let tried = LEARNING_RATES.iter().zip(losses).filter(|(_, losses)| !losses[model].is_nan());
    tried.min_by(|a, b| a.1[model].total_cmp(&b.1[model])).map_or(LEARNING_RATES[0], |(rate, _)| *rate)
}

/// The curves of each trial's models, `threads` trials at a time, in the order of the trials.
fn all(trials: &[Trial], threads: usize) -> Result<Vec<[Curve; 3]>> {
    let queue = Mutex::new(trials.iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<(usize, [Curve; 3])>> {
        let mut curves = Vec::new();
        while let Some((index, trial)) = next() {
            let found = trial.run()?;
            eprintln!(
                "{} of {}: {trial}: {:.4?}",
                index + 1,
                trials.len(),
                mean_losses(std::slice::from_ref(&found))
            );
            curves.push((index, found));
        }
        Ok(curves)
    };
    let mut curves = std::thread::scope(|scope| -> Result<Vec<(usize, [Curve; 3])>> {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut curves = Vec::with_capacity(trials.len());
        for worker in workers {
            curves.extend(worker.join().map_err(|_| anyhow!("a training panicked"))??);
        }
        Ok(curves)
    })?;
    curves.sort_by_key(|(index, _)| *index);
    Ok(curves.into_iter().map(|(_, curve)| curve).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_of_the_least_loss_is_chosen() {
        let losses = [[0.3, f64::NAN, 0.1], [0.2, 0.5, 0.2], [0.4, 0.4, 0.3]];
        assert_eq!([0, 1, 2].map(|model| best(&losses, model)), [1e-3, 1e-2, 1e-4]);
    }

    /// Every number is decided by the seeds, whichever trial ends first.
    #[test]
    fn threads_change_nothing() {
        let plan = |threads| Plan { runs: 1, search_runs: 1, steps: 16, threads };
        let [one, two] = [1, 2].map(|threads| reproduce(&plan(threads)).unwrap()["cells"].clone());
        assert_eq!(one, two);
        let cells = one.as_array().unwrap();
        assert_eq!(cells.len(), 9);
        for cell in cells {
            let curve: Vec<f64> = serde_json::from_value(cell["curves"][0].clone()).unwrap();
            assert_eq!(curve.len(), 8);
            assert!(curve[7] < curve[0], "nothing is learned: {cell}");
        }
    }
}
