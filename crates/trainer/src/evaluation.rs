//! How good a model is on a split: each output on its own sample space, every figure by the
//! definitions of `gatefold-metrics`.

use std::collections::BTreeMap;

use gatefold_metrics::{FigureOptions, Figures, Metric};

use crate::{
    error::TrainError,
    space::{JudgedRows, Labels, MeasuredOutput},
};

/// What is known of the rows that scores are measured on, one value a row in each list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Label columns.
    pub labels: Labels,
    /// Request or user of each row, for the figures within groups.
    pub groups: Vec<u32>,
    /// How much each row counts; every row once without.
    pub weights: Option<Vec<f32>>,
}

/// The figures of every output, tasks first.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One entry an output and sample space.
    pub outputs: Vec<OutputEvaluation>,
}

/// The figures of one output on one sample space.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputEvaluation {
    /// Name of the output.
    pub output: String,
    /// Column of its label.
    pub label: String,
    /// The rows it was measured on, in words.
    pub space: String,
    /// What was found there.
    pub figures: Figures,
    /// Whether a loss teaches it.
    pub learned: bool,
}

impl OutputEvaluation {
    /// Output and sample space, such as `cvr | impressions with click = 1`.
    pub fn title(&self) -> String {
        format!("{} | {}", self.output, self.space)
    }
}

impl Evaluation {
    /// Measures `scores` (one list an output, one value a row) against what was observed.
    ///
    /// # Errors
    /// An output whose sample space has no row, a label column that is not there, a NaN score or
    /// one that is no probability.
    pub fn measure(
        split: &str,
        outputs: &[MeasuredOutput],
        scores: &[Vec<f32>],
        observed: &Observed,
        options: &FigureOptions,
    ) -> Result<Self, TrainError> {
        let measure = |(output, scores): (&MeasuredOutput, &Vec<f32>)| {
            Self::measure_one(split, output, &output.judged(split, scores, observed)?, options)
        };
        Ok(Self { outputs: outputs.iter().zip(scores).map(measure).collect::<Result<_, TrainError>>()? })
    }

    /// Measures one output on the rows of its sample space.
    ///
    /// # Errors
    /// A NaN score or one that is no probability.
    pub fn measure_one(
        split: &str,
        output: &MeasuredOutput,
        rows: &JudgedRows,
        options: &FigureOptions,
    ) -> Result<OutputEvaluation, TrainError> {
        let figures = match output.number {
            true => Figures::of_values(&rows.judged()),
            false => Figures::of_probabilities(&rows.judged(), options),
        };
        let figures = figures.map_err(|source| TrainError::Metric {
            output: output.output.clone(),
            split: split.to_owned(),
            source,
        })?;
        Ok(OutputEvaluation {
            output: output.output.clone(),
            label: output.label.clone(),
            space: output.space.clone(),
            figures,
            learned: output.learned,
        })
    }

    /// The metric of that name (as [`Metric::name`] has it) of an output on its own sample space;
    /// absent where there is no such output or metric, or where it is not defined there.
    pub fn metric(&self, output: &str, name: &str) -> Option<f64> {
        let metric = Metric::from_name(name)?;
        self.outputs.iter().find(|found| found.output == output)?.figures.get(metric)
    }

    /// What the best parameters are chosen by unless the recipe says otherwise, more being better:
    /// the mean AUC over the outputs that a loss teaches (over all where none does); where no
    /// output has an AUC, the mean squared error, negative.
    pub fn quality(&self) -> f64 {
        let any_is_learned = self.outputs.iter().any(|output| output.learned);
        let chosen = || self.outputs.iter().filter(|output| output.learned == any_is_learned);
        for metric in [Metric::Auc, Metric::SquaredError] {
            let values: Vec<f64> =
                chosen().filter_map(|output| Some(metric.goodness(output.figures.get(metric)?))).collect();
            if !values.is_empty() {
                return values.iter().sum::<f64>() / values.len() as f64;
            }
        }
        f64::NEG_INFINITY
    }

    /// The figures as manifests hold them: `ctr auc`, `ctr log_loss`, ….
    pub fn by_name(&self) -> BTreeMap<String, f64> {
        let of_output = |output: &OutputEvaluation| -> Vec<(String, f64)> {
            let named = |metric: Metric| {
                Some((format!("{} {}", output.output, metric.name()), output.figures.get(metric)?))
            };
            Metric::ALL.into_iter().filter_map(named).collect()
        };
        self.outputs.iter().flat_map(of_output).collect()
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
            number: false,
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
        let observed = Observed { labels, groups: vec![0, 0, 1, 1, 1], weights: None };
        let options = FigureOptions::default();
        let found = Evaluation::measure("valid", &outputs, &scores, &observed, &options).unwrap();
        let auc = |output: &str| found.metric(output, "auc").unwrap();
        assert!((auc("ctr") - 5.0 / 6.0).abs() < 1e-12);
        assert!((auc("cvr") - 0.75).abs() < 1e-12);
        let cvr = &found.outputs[1];
        assert_eq!((cvr.figures.rows, cvr.figures.positives), (3, 1));
        // In the first request the click is in order, in the second both clicks are.
        assert_eq!(found.metric("ctr", "gauc"), Some(1.0));
        // In the first request there is one click, in the second no conversion.
        assert_eq!(found.metric("cvr", "gauc"), None);
        assert_eq!(found.metric("ctcvr", "auc"), None);
        assert_eq!(found.metric("ctr", "accuracy"), None);
        // -(ln 0.5 + ln 0.5 + ln 0.8) / 3
        let log_loss = found.metric("cvr", "log_loss").unwrap();
        assert!((log_loss - (2.0 * 2f64.ln() - 0.8f64.ln()) / 3.0).abs() < 1e-7);
        assert!((found.quality() - (5.0 / 6.0 + 0.75) / 2.0).abs() < 1e-12);
        let mut untaught = found.clone();
        untaught.outputs[0].learned = false;
        assert_eq!(untaught.quality(), 0.75);
        untaught.outputs[1].learned = false;
        assert_eq!(untaught.quality(), found.quality());
        assert_eq!(found.by_name()["cvr log_loss"], log_loss);
        assert_eq!(cvr.title(), "cvr | rows");

        // Counting a row twice is having it twice.
        let weighted = Observed { weights: Some(vec![1., 1., 2., 1., 1.]), ..observed };
        let weighted = Evaluation::measure("valid", &outputs, &scores, &weighted, &options).unwrap();
        let log_loss = weighted.metric("cvr", "log_loss").unwrap();
        assert!((log_loss - (3.0 * 2f64.ln() - 0.8f64.ln()) / 4.0).abs() < 1e-7);
    }

    #[test]
    fn a_number_is_judged_by_its_squared_error() {
        let output = MeasuredOutput {
            output: "price".into(),
            label: "paid".into(),
            within: None,
            space: "all impressions".into(),
            learned: true,
            number: true,
        };
        let labels: Labels = [("paid".to_owned(), vec![3.0, -1.0])].into();
        let observed = Observed { labels, groups: vec![0, 0], weights: None };
        let (scores, options) = ([vec![2.0, 1.0]], FigureOptions::default());
        let found = Evaluation::measure("valid", &[output], &scores, &observed, &options).unwrap();
        assert_eq!(found.by_name(), [("price squared_error".to_owned(), 2.5)].into());
        assert_eq!(found.quality(), -2.5);
    }

    #[test]
    fn an_empty_sample_space_and_a_missing_label_are_named() {
        let output = MeasuredOutput {
            output: "cvr".into(),
            label: "conversion".into(),
            within: Some("click".into()),
            space: "impressions with click = 1".into(),
            learned: true,
            number: false,
        };
        let measure = |labels: Labels| {
            let observed = Observed { labels, groups: vec![0, 0], weights: None };
            let options = FigureOptions::default();
            let outputs = std::slice::from_ref(&output);
            let found = Evaluation::measure("test", outputs, &[vec![0.1, 0.2]], &observed, &options);
            found.unwrap_err().to_string()
        };
        let column = |name: &str| (name.to_owned(), vec![0.0, 0.0]);
        let text = measure([column("click"), column("conversion")].into());
        assert_eq!(
            text,
            "split 'test' has no row for 'cvr' (impressions with click = 1): evaluate on more rows"
        );
        let text = measure([column("click")].into());
        assert!(text.contains("there is no label column 'conversion', which cvr needs"), "{text}");
    }
}
