//! Which parameters are the best: a metric on validation, and how long it has brought nothing.

use gatefold_metrics::Metric;
use gatefold_schema::SelectConfig;

use crate::{error::TrainError, evaluation::Evaluation};

/// What the best parameters are chosen by, and how it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selection {
    config: Option<SelectConfig>,
    patience: usize,
    /// Step and score of the best parameters.
    pub(crate) best: Option<(usize, f64)>,
    /// Evaluations since then.
    pub(crate) evaluations_without_gain: usize,
}

impl Selection {
    pub(crate) fn new(config: Option<&SelectConfig>, patience: usize) -> Self {
        Self { config: config.cloned(), patience, best: None, evaluations_without_gain: 0 }
    }

    /// Takes in the evaluation after `step` steps; true where it is the best so far. The first one
    /// always is, and one as good as the best is not.
    ///
    /// # Errors
    /// A metric that is not defined on the validation split.
    pub(crate) fn observe(&mut self, step: usize, evaluation: &Evaluation) -> Result<bool, TrainError> {
        let score = match &self.config {
            Some(config) => score(config, evaluation)?,
            None => evaluation.quality(),
        };
        let is_best = self.best.is_none_or(|(_, best)| score > best);
        if is_best {
            self.best = Some((step, score));
            self.evaluations_without_gain = 0;
        } else {
            self.evaluations_without_gain += 1;
        }
        Ok(is_best)
    }

    /// Whether patience is at its end.
    pub(crate) fn is_over(&self) -> bool {
        self.patience > 0 && self.evaluations_without_gain >= self.patience
    }
}

/// The weighted mean of the metric, turned so that more is better. Without weights, the mean over
/// the outputs that a loss teaches and that have such a metric.
fn score(config: &SelectConfig, evaluation: &Evaluation) -> Result<f64, TrainError> {
    let name = config.metric.name();
    let undefined = |output: &str| TrainError::Undefined { metric: name, output: output.to_owned() };
    let metric = Metric::from_name(name).ok_or_else(|| undefined("every output"))?;
    let mut weighted: Vec<(f64, f64)> = Vec::new();
    for output in &evaluation.outputs {
        let value = output.figures.get(metric).map(|value| metric.goodness(value));
        if config.weights.is_empty() {
            weighted.extend(value.filter(|_| output.learned).map(|value| (1.0, value)));
        } else if let Some(weight) = config.weights.get(&output.output).filter(|weight| **weight > 0.0) {
            weighted.push((*weight, value.ok_or_else(|| undefined(&output.output))?));
        }
    }
    if weighted.is_empty() {
        return Err(undefined("every output"));
    }
    let weights: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    Ok(weighted.iter().map(|(weight, value)| weight * value).sum::<f64>() / weights)
}

#[cfg(test)]
mod tests {
    use gatefold_metrics::Figures;
    use gatefold_schema::SelectMetric;

    use super::*;
    use crate::evaluation::OutputEvaluation;

    fn evaluation(found: &[(&str, Option<f64>, f64, bool)]) -> Evaluation {
        let figures = |auc, log_loss| Figures {
            rows: 2,
            positives: 1,
            auc,
            gauc: None,
            ndcg: None,
            log_loss: Some(log_loss),
            normalized_entropy: None,
            pcoc: None,
            ece: None,
            ece_equal_width: None,
            squared_error: 0.0,
        };
        let output = |&(name, auc, log_loss, learned): &(&str, Option<f64>, f64, bool)| OutputEvaluation {
            output: name.into(),
            label: "label".into(),
            space: "rows".into(),
            figures: figures(auc, log_loss),
            learned,
        };
        Evaluation { outputs: found.iter().map(output).collect() }
    }

    #[test]
    fn a_score_is_the_weighted_mean_of_the_metric() {
        let found = evaluation(&[
            ("ctr", Some(0.7), 0.3, true),
            ("cvr", Some(0.8), 0.6, true),
            ("x", Some(0.9), 0.1, false),
        ]);
        let check = |select: &str, expected: f64| {
            let config: SelectConfig = serde_json::from_str(select).unwrap();
            let found = score(&config, &found).unwrap();
            assert!((found - expected).abs() < 1e-12, "{select}: {found}");
        };
        check("{}", 0.75);
        check(r#"{"metric": "log-loss"}"#, -0.45);
        check(r#"{"weights": {"cvr": 2}}"#, 0.8);
        check(r#"{"weights": {"ctr": 1, "x": 3}}"#, 0.85);
        check(r#"{"metric": "log-loss", "weights": {"ctr": 1, "cvr": 2}}"#, -0.5);
    }

    #[test]
    fn a_metric_that_is_not_defined_is_named() {
        let found = evaluation(&[("ctr", Some(0.7), 0.3, true), ("price", None, 0.6, true)]);
        let of = |select: &str| score(&serde_json::from_str(select).unwrap(), &found);
        assert_eq!(of("{}").unwrap(), 0.7);
        let text = of(r#"{"weights": {"price": 1}}"#).unwrap_err().to_string();
        assert!(text.contains("'auc' of price is not defined on the validation split"), "{text}");
        let text = of(r#"{"metric": "gauc"}"#).unwrap_err().to_string();
        assert!(text.contains("'gauc' of every output is not defined"), "{text}");
    }

    #[test]
    fn every_metric_of_a_recipe_is_one_that_is_measured() {
        for metric in SelectMetric::ALL {
            assert!(Metric::from_name(metric.name()).is_some(), "{}", metric.name());
        }
        assert_eq!(SelectMetric::ALL.len(), Metric::ALL.len());
    }

    #[test]
    fn patience_counts_evaluations_without_gain() {
        let mut selection = Selection::new(None, 2);
        let aucs = [0.6, 0.7, 0.7, 0.71, 0.5, 0.71];
        let mut observe = |(step, auc)| {
            let best = selection.observe(step, &evaluation(&[("ctr", Some(auc), 0.3, true)])).unwrap();
            (best, selection.is_over())
        };
        let found: Vec<(bool, bool)> = (1..).zip(aucs).map(&mut observe).collect();
        let expected =
            [(true, false), (true, false), (false, false), (true, false), (false, false), (false, true)];
        assert_eq!(found, expected);
        assert_eq!(selection.best, Some((4, 0.71)));
    }
}
