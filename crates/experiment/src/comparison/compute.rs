//! From scores and labels to the figures of a comparison.

use gatefold_metrics::{
    Binning, DelongTest, Interval, MetricError, bootstrap_auc_of_models, defined, delong_paired,
    expected_calibration_error, gauc, log_loss, normalized_entropy, pcoc, reliability,
};

use super::{
    CalibrationBin, Comparison, ComparisonError, ComparisonInput, ComparisonOptions, Difference, Estimate,
    ModelName, ModelResult, OutputComparison, OutputScores,
};

/// Compares the models of `input`, output by output.
///
/// # Errors
/// See [`ComparisonError`]. A sample with one class only is no error: figures that are then not
/// defined are absent, and [`OutputComparison::note`] says why.
pub fn compare(input: &ComparisonInput, options: &ComparisonOptions) -> Result<Comparison, ComparisonError> {
    let models: Vec<ModelName> = input
        .models
        .iter()
        .map(|model| ModelName { name: model.name.clone(), version: model.version, kind: model.kind.clone() })
        .collect();
    let groups = group_by_output(input, &models)?;
    if groups.is_empty() {
        return Err(ComparisonError::Nothing);
    }
    Ok(Comparison {
        sample_set: input.sample_set.clone(),
        confidence: options.bootstrap.confidence,
        replicates: options.bootstrap.replicates,
        seed: options.bootstrap.seed,
        outputs: groups
            .iter()
            .map(|group| compare_output(group, &models, options))
            .collect::<Result<_, _>>()?,
        models,
    })
}

/// The models that have one output, with their place in the list of models.
type OutputGroup<'a> = Vec<(usize, &'a OutputScores)>;

/// Collects outputs of the same name, space and label, and checks that their rows are the same.
fn group_by_output<'a>(
    input: &'a ComparisonInput,
    models: &[ModelName],
) -> Result<Vec<OutputGroup<'a>>, ComparisonError> {
    let mut groups: Vec<OutputGroup> = Vec::new();
    for (model, scores) in input.models.iter().enumerate() {
        for output in &scores.outputs {
            for (what, text) in
                [("name", &output.output), ("sample space", &output.space), ("label", &output.label)]
            {
                if text.trim().is_empty() {
                    return Err(ComparisonError::Unnamed { model: models[model].full(), what });
                }
            }
            let same = |group: &&mut OutputGroup| {
                let first = group[0].1;
                (&first.output, &first.space, &first.label) == (&output.output, &output.space, &output.label)
            };
            match groups.iter_mut().find(same) {
                None => groups.push(vec![(model, output)]),
                Some(group) if group.iter().any(|&(other, _)| other == model) => {
                    return Err(ComparisonError::Duplicate {
                        model: models[model].full(),
                        output: title(output),
                    });
                }
                Some(group) => {
                    check_same_rows(group[0], (model, output), models)?;
                    group.push((model, output));
                }
            }
        }
    }
    Ok(groups)
}

fn title(output: &OutputScores) -> String {
    format!("{} on {}", output.output, output.space)
}

fn check_same_rows(
    (other, first): (usize, &OutputScores),
    (model, output): (usize, &OutputScores),
    models: &[ModelName],
) -> Result<(), ComparisonError> {
    let differ = |what, row| {
        Err(ComparisonError::DifferentRows {
            output: title(output),
            model: models[model].full(),
            other: models[other].full(),
            what,
            row,
        })
    };
    if output.labels.len() != first.labels.len() || output.requests.len() != first.requests.len() {
        return differ("the number of rows", None);
    }
    if let Some(row) =
        output.labels.iter().zip(first.labels.iter()).position(|(a, b)| a.to_bits() != b.to_bits())
    {
        return differ("labels", Some(row));
    }
    if let Some(row) = output.requests.iter().zip(first.requests.iter()).position(|(a, b)| a != b) {
        return differ("requests", Some(row));
    }
    Ok(())
}

fn compare_output(
    group: &OutputGroup,
    models: &[ModelName],
    options: &ComparisonOptions,
) -> Result<OutputComparison, ComparisonError> {
    let first = group[0].1;
    let (labels, requests) = (&first.labels[..], &first.requests[..]);
    let failed = |model: usize| {
        move |source| ComparisonError::Metric { output: title(first), model: models[model].full(), source }
    };

    let mut results = Vec::with_capacity(group.len());
    for &(model, output) in group {
        results.push(measure(model, &output.scores, labels, requests, options).map_err(failed(model))?);
    }

    let scores: Vec<&[f32]> = group.iter().map(|(_, output)| &output.scores[..]).collect();
    let mut note = None;
    match bootstrap_auc_of_models(&scores, labels, None, requests, &options.bootstrap) {
        Ok(replicates) => {
            for (place, result) in results.iter_mut().enumerate() {
                result.auc = Some(estimate(replicates.interval(place)));
                // The baseline is the first of all models; if it lacks the output nobody stands in.
                if group[0].0 == 0 && place > 0 {
                    result.auc_difference = Some(Difference {
                        estimate: estimate(replicates.difference(place, 0)),
                        delong_p_value: defined(delong_paired(
                            scores[place],
                            scores[0],
                            labels,
                            Some(requests),
                        ))
                        .map_err(failed(result.model))?
                        .map(|test: DelongTest| test.p_value),
                    });
                }
            }
            if group[0].0 != 0 && models.len() > 1 {
                note =
                    Some(format!("{} does not have this output, so there is no baseline.", models[0].full()));
            }
        }
        Err(error @ (MetricError::OneClass { .. } | MetricError::NoUsableReplicate { .. })) => {
            note = Some(format!("There is no AUC: {error}."));
        }
        Err(error) => return Err(failed(group[0].0)(error)),
    }

    let mut distinct: Vec<u32> = requests.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    Ok(OutputComparison {
        output: first.output.clone(),
        space: first.space.clone(),
        label: first.label.clone(),
        rows: labels.len(),
        positives: labels.iter().filter(|&&label| label > 0.0).count(),
        requests: distinct.len(),
        note,
        results,
    })
}

/// Everything about one model that needs no other and no resampling.
fn measure(
    model: usize,
    scores: &[f32],
    labels: &[f32],
    requests: &[u32],
    options: &ComparisonOptions,
) -> Result<ModelResult, MetricError> {
    let (bins, binning) = (options.calibration_bins, Binning::EqualCount);
    let calibration = reliability(scores, labels, None, bins, binning)?;
    Ok(ModelResult {
        model,
        auc: None,
        gauc: defined(gauc(scores, labels, None, requests))?.map(|gauc| gauc.value),
        log_loss: log_loss(scores, labels, None)?,
        normalized_entropy: defined(normalized_entropy(scores, labels, None))?,
        pcoc: defined(pcoc(scores, labels, None))?,
        calibration_error: expected_calibration_error(scores, labels, None, bins, binning)?,
        auc_difference: None,
        calibration: calibration.into_iter().map(CalibrationBin::from).collect(),
    })
}

fn estimate(interval: Interval) -> Estimate {
    Estimate {
        value: interval.estimate,
        low: interval.low,
        high: interval.high,
        standard_error: interval.standard_error,
    }
}
