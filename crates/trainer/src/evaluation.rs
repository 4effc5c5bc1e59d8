//! How good a model is on a split: each output on its own sample space.

use std::collections::BTreeMap;

use gatefold_metrics::{auc, log_loss};

use crate::{
    error::TrainError,
    space::{Labels, MeasuredOutput},
};

/// The metrics of every output, tasks first.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One entry an output.
    pub outputs: Vec<OutputEvaluation>,
}

/// The metrics of one output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputEvaluation {
    /// Name of the output.
    pub output: String,
    /// The rows it was measured on, in words.
    pub space: String,
    /// Their number.
    pub rows: usize,
    /// Rows among them whose label is 1.
    pub positives: usize,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Mean negative log likelihood in nats.
    pub log_loss: f64,
    /// Whether a loss teaches it.
    pub learned: bool,
}

impl Evaluation {
    /// Measures `scores` (one list an output, one value a row) against the labels of a split.
    ///
    /// # Errors
    /// A metric that is not defined: a NaN score, or one class only.
    pub fn measure(
        split: &str,
        outputs: &[MeasuredOutput],
        scores: &[Vec<f32>],
        labels: &Labels,
    ) -> Result<Self, TrainError> {
        let measure_one = |(output, scores): (&MeasuredOutput, &Vec<f32>)| {
            let (scores, labels) = output.select(scores, labels);
            let failed = |source| TrainError::Metric {
                output: output.output.clone(),
                split: split.to_owned(),
                source,
            };
            Ok(OutputEvaluation {
                output: output.output.clone(),
                space: output.space.clone(),
                rows: labels.len(),
                positives: labels.iter().filter(|label| **label == 1.0).count(),
                auc: auc(&scores, &labels, None).map_err(failed)?,
                log_loss: log_loss(&scores, &labels, None).map_err(failed)?,
                learned: output.learned,
            })
        };
        Ok(Self { outputs: outputs.iter().zip(scores).map(measure_one).collect::<Result<_, TrainError>>()? })
    }

    /// Mean AUC over the outputs that a loss teaches (over all where none does): what the best
    /// parameters are chosen by.
    pub fn mean_auc(&self) -> f64 {
        let aucs = |learned: bool| -> Vec<f64> {
            self.outputs.iter().filter(|output| output.learned == learned).map(|output| output.auc).collect()
        };
        let chosen = Some(aucs(true)).filter(|aucs| !aucs.is_empty()).unwrap_or_else(|| aucs(false));
        chosen.iter().sum::<f64>() / chosen.len().max(1) as f64
    }

    /// The metrics as manifests hold them: `ctr auc`, `ctr log loss`, ….
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let pairs = self.outputs.iter().flat_map(|output| {
            [
                (format!("{} auc", output.output), output.auc),
                (format!("{} log loss", output.output), output.log_loss),
            ]
        });
        pairs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_is_measured_on_its_own_rows() {
        let output = |name: &str, label: &str, within: Option<&str>| MeasuredOutput {
            output: name.into(),
            label: label.into(),
            within: within.map(str::to_owned),
            space: "rows".into(),
            learned: true,
        };
        let outputs = [output("ctr", "click", None), output("cvr", "conversion", Some("click"))];
        let labels: Labels = [
            ("click".to_owned(), vec![1., 0., 1., 1., 0.]),
            ("conversion".to_owned(), vec![1., 0., 0., 0., 0.]),
        ]
        .into();
        // ctr: of the 3 × 2 pairs of a click and none, 5 are in order.
        // cvr on the three clicks: the conversion beats one of two, and ties are halves.
        let scores = [vec![0.9, 0.4, 0.8, 0.3, 0.1], vec![0.5, 0.99, 0.5, 0.2, 0.99]];
        let found = Evaluation::measure("valid", &outputs, &scores, &labels).unwrap();
        assert!((found.outputs[0].auc - 5.0 / 6.0).abs() < 1e-12);
        assert!((found.outputs[1].auc - 0.75).abs() < 1e-12);
        assert_eq!((found.outputs[1].rows, found.outputs[1].positives), (3, 1));
        // -(ln 0.5 + ln 0.5 + ln 0.8) / 3
        assert!((found.outputs[1].log_loss - (2.0 * 2f64.ln() - 0.8f64.ln()) / 3.0).abs() < 1e-7);
        assert!((found.mean_auc() - (5.0 / 6.0 + 0.75) / 2.0).abs() < 1e-12);
        let mut untaught = found.clone();
        untaught.outputs[0].learned = false;
        assert_eq!(untaught.mean_auc(), 0.75);
        untaught.outputs[1].learned = false;
        assert_eq!(untaught.mean_auc(), found.mean_auc());
        assert_eq!(
            found.by_name().keys().cloned().collect::<Vec<_>>(),
            ["ctr auc", "ctr log loss", "cvr auc", "cvr log loss"]
        );
    }
}
