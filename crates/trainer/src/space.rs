//! The sample spaces: over which rows an output is learned and measured, and the checks that its
//! labels make sense there.

use std::collections::BTreeMap;

use gatefold_dataset::Condition;
use gatefold_metrics::Judged;
use gatefold_schema::{Derived, LATE_COLUMN, Loss, OutsideSpace, Recipe, Task, TrainConfig, task::outputs};

use crate::{error::TrainError, evaluation::Observed};

/// Label columns by name, one value a row.
pub type Labels = BTreeMap<String, Vec<f32>>;

/// One output of a model with the rows it is measured on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredOutput {
    /// Name of the output.
    pub output: String,
    /// Column of its label.
    pub label: String,
    /// Column that is 1 on the rows of the sample space; every row where there is none.
    pub within: Option<String>,
    /// The sample space in words.
    pub space: String,
    /// Whether a loss teaches it: not where the weight of a task it is made of is 0.
    pub learned: bool,
    /// Whether it predicts a number, not a probability.
    pub number: bool,
}

/// The tasks, then the derived outputs, as they are measured.
pub fn measured_outputs(tasks: &[Task], derived: &[Derived]) -> Vec<MeasuredOutput> {
    let condition_of = |name: &str| {
        let given = tasks.iter().find(|task| task.name == name)?.given.as_deref()?;
        tasks.iter().find(|task| task.name == given).map(|task| task.label.clone())
    };
    let is_learned = |name: &str| {
        let product =
            derived.iter().find(|output| output.name == name).map(|output| output.product.as_slice());
        let is_made_of = |task: &&Task| match product {
            Some(product) => product.contains(&task.name),
            None => task.name == name,
        };
        tasks.iter().filter(is_made_of).all(|task| task.weight > 0.0)
    };
    outputs(tasks, derived)
        .into_iter()
        .map(|info| MeasuredOutput {
            within: condition_of(&info.name),
            learned: is_learned(&info.name),
            number: is_number(tasks, &info.name),
            output: info.name,
            label: info.label,
            space: info.space,
        })
        .collect()
}

impl MeasuredOutput {
    /// The rows of the sample space among `rows` rows with these labels, ascending.
    pub fn rows(&self, rows: usize, labels: &Labels) -> Vec<u32> {
        let all = 0..rows as u32;
        match self.within.as_ref().and_then(|within| labels.get(within)) {
            None => all.collect(),
            Some(within) => all.filter(|&row| within[row as usize] == 1.0).collect(),
        }
    }

    /// Scores and labels of the rows of the sample space.
    pub fn select(&self, scores: &[f32], labels: &Labels) -> (Vec<f32>, Vec<f32>) {
        let label = labels.get(&self.label).map_or(&[][..], Vec::as_slice);
        let rows = self.rows(scores.len().min(label.len()), labels);
        rows.iter().map(|&row| (scores[row as usize], label[row as usize])).unzip()
    }

    /// The rows of the sample space with everything that is known of them.
    ///
    /// # Errors
    /// A label column that is not there, a sample space without a row.
    pub fn judged(&self, split: &str, scores: &[f32], observed: &Observed) -> Result<JudgedRows, TrainError> {
        for label in [Some(&self.label), self.within.as_ref()].into_iter().flatten() {
            if !observed.labels.contains_key(label) {
                return Err(missing_label(split, label, &self.output, observed.labels.keys()));
            }
        }
        let rows = self.rows(scores.len(), &observed.labels);
        if rows.is_empty() {
            return Err(TrainError::EmptySpace {
                split: split.to_owned(),
                output: self.output.clone(),
                space: self.space.clone(),
            });
        }
        let pick = |values: &[f32]| rows.iter().map(|&row| values[row as usize]).collect();
        Ok(JudgedRows {
            scores: pick(scores),
            labels: pick(&observed.labels[&self.label]),
            weights: observed.weights.as_deref().map(pick),
            groups: rows.iter().map(|&row| observed.groups[row as usize]).collect(),
        })
    }
}

/// The rows of one sample space, one value a row in each list.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedRows {
    /// Predictions.
    pub scores: Vec<f32>,
    /// What happened.
    pub labels: Vec<f32>,
    /// How much each row counts; every row once without.
    pub weights: Option<Vec<f32>>,
    /// Request or user of each row.
    pub groups: Vec<u32>,
}

impl JudgedRows {
    /// As metrics take them.
    pub fn judged(&self) -> Judged<'_> {
        Judged {
            scores: &self.scores,
            labels: &self.labels,
            weights: self.weights.as_deref(),
            groups: Some(&self.groups),
        }
    }
}

/// Conditional tasks on all impressions, where the samples hold what would have happened there:
/// a task's place among `tasks`, and how it is measured.
pub fn potential_outputs(tasks: &[Task]) -> Vec<(usize, MeasuredOutput)> {
    let potential_output = |(place, task): (usize, &Task)| {
        let label = task.given.as_ref().and(task.potential_label.as_ref())?;
        let output = MeasuredOutput {
            output: task.name.clone(),
            label: label.clone(),
            within: None,
            space: "all impressions (potential outcome)".to_owned(),
            learned: task.weight > 0.0,
            number: task.loss == Loss::SquaredError,
        };
        Some((place, output))
    };
    tasks.iter().enumerate().filter_map(potential_output).collect()
}

/// How much each row counts so that a training split that keeps only a share `rate` of its negatives
/// (the rows on which no task has a positive label) stands for all rows: `1 / rate` for those, 1
/// for the others. None where all are kept.
pub fn sampling_weights(rows: usize, labels: &Labels, tasks: &[Task], rate: f64) -> Option<Vec<f32>> {
    if rate >= 1.0 {
        return None;
    }
    let outcomes = tasks.iter().filter(|task| task.loss == Loss::CrossEntropy);
    let columns: Vec<&Vec<f32>> = outcomes.filter_map(|task| labels.get(&task.label)).collect();
    let weight = |row: usize| match columns.iter().any(|column| column[row] == 1.0) {
        true => 1.0,
        false => (1.0 / rate) as f32,
    };
    Some((0..rows).map(weight).collect())
}

/// The weight of each of `rows` rows in a task's loss: 1 in its sample space, 0 elsewhere.
pub(crate) fn loss_weights(output: &MeasuredOutput, labels: &Labels, rows: usize) -> Vec<f32> {
    match output.within.as_ref().and_then(|within| labels.get(within)) {
        None => vec![1.0; rows],
        Some(within) => within.clone(),
    }
}

/// The columns that training and evaluation read beside the features, each once: labels of tasks
/// and derived outputs, the weight of each row, and whether it is there again as a positive.
pub(crate) fn label_columns(recipe: &Recipe) -> Vec<String> {
    let outputs = measured_outputs(&recipe.tasks, &recipe.derived);
    let labels = outputs.into_iter().map(|output| output.label);
    let has_late_rows = recipe.tasks.iter().any(|task| task.fake_negatives.is_some());
    let late = has_late_rows.then(|| LATE_COLUMN.to_owned());
    let mut columns: Vec<String> = labels.chain(recipe.train.sample_weight.clone()).chain(late).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// What rows must satisfy to be used at all: that no conditional outcome happens without its
/// condition, where the recipe wants such rows dropped.
pub(crate) fn conditions(tasks: &[Task], outside: OutsideSpace) -> Vec<Condition> {
    let implied = |output: MeasuredOutput| {
        let given = output.within.filter(|_| !output.number)?;
        Some(Condition::Implies { outcome: output.label, given })
    };
    match outside {
        OutsideSpace::Fail => Vec::new(),
        OutsideSpace::Drop => measured_outputs(tasks, &[]).into_iter().filter_map(implied).collect(),
    }
}

/// Which of the rows with these labels satisfy the conditions.
pub(crate) fn satisfied(conditions: &[Condition], rows: usize, labels: &Labels) -> Vec<bool> {
    let satisfies = |condition: &Condition, row: usize| match condition {
        Condition::Positive(column) => labels[column][row] == 1.0,
        Condition::Implies { outcome, given } => labels[outcome][row] != 1.0 || labels[given][row] != 0.0,
    };
    (0..rows).map(|row| conditions.iter().all(|condition| satisfies(condition, row))).collect()
}

/// Checks the labels of a split, part by part: every column is there and holds 0 and 1 only, no
/// conditional outcome happens without its condition, and every task has both outcomes in its
/// sample space. Labels of a task that predicts a number must be finite, and nothing else.
#[derive(Clone, Debug)]
pub struct LabelCheck {
    split: String,
    rows: usize,
    outputs: Vec<(MeasuredOutput, Found)>,
    /// The column of row weights, and those that are none.
    weights: Option<(String, Rows<f32>)>,
    /// Rows that do not satisfy these are dropped.
    conditions: Vec<Condition>,
    dropped: usize,
}

/// What has been seen of one output.
#[derive(Clone, Debug, Default)]
struct Found {
    bad: Rows<f32>,
    outside: Rows<()>,
    rows: usize,
    positives: usize,
}

/// Rows of one kind: the first, what it holds, and their number.
#[derive(Clone, Debug, Default)]
struct Rows<T> {
    first: Option<(usize, T)>,
    count: usize,
}

impl<T> Rows<T> {
    fn add(&mut self, row: usize, value: T) {
        self.first.get_or_insert((row, value));
        self.count += 1;
    }
}

impl LabelCheck {
    /// Begins with the columns that the split has.
    ///
    /// # Errors
    /// A column that is missing.
    pub fn new(
        split: &str,
        tasks: &[Task],
        derived: &[Derived],
        settings: &TrainConfig,
        columns: &[String],
    ) -> Result<Self, TrainError> {
        let outputs = measured_outputs(tasks, derived);
        let missing =
            |label: &String, wanted_by: &str| missing_label(split, label, wanted_by, columns.iter());
        if let Some(output) = outputs.iter().find(|output| !columns.contains(&output.label)) {
            return Err(missing(&output.label, &output.output));
        }
        let weights = settings.sample_weight.clone();
        if let Some(weights) = weights.as_ref().filter(|weights| !columns.contains(weights)) {
            return Err(missing(weights, "sample_weight"));
        }
        Ok(Self {
            split: split.to_owned(),
            rows: 0,
            outputs: outputs.into_iter().map(|output| (output, Found::default())).collect(),
            weights: weights.map(|column| (column, Rows::default())),
            conditions: conditions(tasks, settings.outside_space),
            dropped: 0,
        })
    }

    /// Looks at the next `rows` rows.
    pub fn add(&mut self, rows: usize, labels: &Labels) {
        let kept = satisfied(&self.conditions, rows, labels);
        self.dropped += kept.iter().filter(|kept| !**kept).count();
        for (output, found) in &mut self.outputs {
            let values = &labels[&output.label];
            let within = output.within.as_ref().map(|within| &labels[within]);
            for (row, &value) in values.iter().enumerate().filter(|(row, _)| kept[*row]) {
                let is_inside = within.is_none_or(|within| within[row] == 1.0);
                let is_good = if output.number { value.is_finite() } else { value == 0.0 || value == 1.0 };
                if !is_good {
                    found.bad.add(self.rows + row, value);
                } else if value == 1.0 && !is_inside && !output.number {
                    found.outside.add(self.rows + row, ());
                }
                found.rows += usize::from(is_inside);
                found.positives += usize::from(is_inside && value == 1.0);
            }
        }
        if let Some((column, bad)) = &mut self.weights {
            let is_weight = |weight: f32| weight.is_finite() && weight >= 0.0;
            for (row, &weight) in labels[column].iter().enumerate().filter(|(_, weight)| !is_weight(**weight))
            {
                bad.add(self.rows + row, weight);
            }
        }
        self.rows += rows;
    }

    /// Decides; the number of rows to be dropped.
    ///
    /// # Errors
    /// The first thing that is wrong, with its task, column, row and count.
    pub fn finish(self) -> Result<usize, TrainError> {
        let split = self.split;
        if let Some((label, Rows { first: Some((row, value)), count })) = self.weights {
            let expected = "weights, finite and at least 0";
            return Err(TrainError::BadLabel { split, label, row, value, expected, count });
        }
        if self.rows == 0 {
            return Err(TrainError::EmptySplit { split });
        }
        for (output, found) in &self.outputs {
            if let Some((row, value)) = found.bad.first {
                let (label, count) = (output.label.clone(), found.bad.count);
                let expected = if output.number { "finite numbers" } else { "0 or 1" };
                return Err(TrainError::BadLabel { split, label, row, value, expected, count });
            }
        }
        for (MeasuredOutput { output: task, label, within, space, number, .. }, found) in self.outputs {
            if let (Some((row, ())), Some(given)) = (found.outside.first, within) {
                let count = found.outside.count;
                return Err(TrainError::OutsideSampleSpace { split, task, label, given, row, count });
            }
            if !number && (found.positives == 0 || found.positives == found.rows) {
                let missing = if found.positives == 0 { "positive" } else { "negative" };
                return Err(TrainError::OneClass { split, task, missing, rows: found.rows, space });
            }
        }
        Ok(self.dropped)
    }
}

fn missing_label<'a>(
    split: &str,
    label: &str,
    wanted_by: &str,
    known: impl Iterator<Item = &'a String>,
) -> TrainError {
    TrainError::MissingLabel {
        split: split.to_owned(),
        label: label.to_owned(),
        wanted_by: wanted_by.to_owned(),
        known: known.map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Whether this output predicts a number, not a probability.
fn is_number(tasks: &[Task], output: &str) -> bool {
    tasks.iter().any(|task| task.name == output && task.loss == Loss::SquaredError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn click_tasks() -> (Vec<Task>, Vec<Derived>) {
        let task = |name: &str, label: &str, given: Option<&str>| Task {
            name: name.into(),
            label: label.into(),
            given: given.map(str::to_owned),
            weight: 1.0,
            loss: Loss::CrossEntropy,
            fake_negatives: None,
            potential_label: None,
            oracle: None,
        };
        (
            vec![task("ctr", "click", None), task("cvr", "conversion", Some("ctr"))],
            vec![Derived {
                name: "ctcvr".into(),
                product: vec!["ctr".into(), "cvr".into()],
                label: "conversion".into(),
            }],
        )
    }

    fn labels(click: &[f32], conversion: &[f32]) -> Labels {
        [("click".to_owned(), click.to_vec()), ("conversion".to_owned(), conversion.to_vec())].into()
    }

    /// What a split of these labels is told, looked at in two parts as from two shards.
    fn told(tasks: &[Task], derived: &[Derived], click: &[f32], conversion: &[f32]) -> String {
        let found = check_with(tasks, derived, &TrainConfig::default(), &labels(click, conversion));
        found.err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Rows dropped, of a split looked at in two parts as from two shards.
    fn check_with(
        tasks: &[Task],
        derived: &[Derived],
        settings: &TrainConfig,
        labels: &Labels,
    ) -> Result<usize, TrainError> {
        let names: Vec<String> = labels.keys().cloned().collect();
        let mut found = LabelCheck::new("train", tasks, derived, settings, &names)?;
        let rows = labels["click"].len();
        for rows in [0..rows / 2, rows / 2..rows] {
            let part = labels.iter().map(|(name, values)| (name.clone(), values[rows.clone()].to_vec()));
            found.add(rows.len(), &part.collect());
        }
        found.finish()
    }

    #[test]
    fn rows_outside_the_sample_space_can_be_dropped() {
        let (tasks, derived) = click_tasks();
        let settings = TrainConfig { outside_space: OutsideSpace::Drop, ..TrainConfig::default() };
        let labels = |conversion: &[f32]| labels(&[1., 0., 1., 0., 1., 0.], conversion);
        let found = check_with(&tasks, &derived, &settings, &labels(&[1., 1., 0., 1., 0., 0.])).unwrap();
        assert_eq!(found, 2);
        // What is dropped counts for nothing: ctcvr has no positive left.
        let error = check_with(&tasks, &derived, &settings, &labels(&[0., 1., 0., 1., 0., 0.])).unwrap_err();
        assert!(error.to_string().contains("task 'cvr' has no positive among the 3 rows"), "{error}");
        let conditions = conditions(&tasks, OutsideSpace::Drop);
        let kept = satisfied(&conditions, 6, &labels(&[1., 1., 0., 0., 0., 1.]));
        assert_eq!(kept, [true, false, true, true, true, false]);
    }

    #[test]
    fn weights_of_rows_are_checked() {
        let (tasks, derived) = click_tasks();
        let settings = TrainConfig { sample_weight: Some("weight".into()), ..TrainConfig::default() };
        let mut labels = labels(&[1., 0., 1., 0.], &[1., 0., 0., 0.]);
        let error = check_with(&tasks, &derived, &settings, &labels).unwrap_err().to_string();
        assert!(error.contains("no label column 'weight', which sample_weight needs"), "{error}");
        labels.insert("weight".into(), vec![1., 0., 2.5, 1.]);
        assert_eq!(check_with(&tasks, &derived, &settings, &labels).unwrap(), 0);
        labels.insert("weight".into(), vec![1., -1., f32::NAN, 1.]);
        let error = check_with(&tasks, &derived, &settings, &labels).unwrap_err().to_string();
        let expected =
            "label 'weight', row 1: found -1, but labels are weights, finite and at least 0 (2 such rows)";
        assert!(error.contains(expected), "{error}");
    }

    #[track_caller]
    fn check(click: &[f32], conversion: &[f32], expected: &str) {
        let (tasks, derived) = click_tasks();
        let text = told(&tasks, &derived, click, conversion);
        if expected.is_empty() {
            assert_eq!(text, "");
        } else {
            assert!(text.contains(expected), "{text}\ndoes not contain\n{expected}");
        }
    }

    #[test]
    fn labels_are_checked_before_training() {
        check(&[1., 0., 1., 0.], &[1., 0., 0., 0.], "");
        check(&[], &[], "split 'train' has no row");
        check(
            &[1., 0.5, 2.],
            &[1., 0., 0.],
            "label 'click', row 1: found 0.5, but labels are 0 or 1 (2 such rows)",
        );
        check(&[1., f32::NAN], &[1., 0.], "row 1: found NaN");
        check(
            &[1., 0., 1., 0.],
            &[1., 1., 0., 1.],
            "2 rows have conversion = 1 but click = 0 (the first is row 1), though task 'cvr'",
        );
        check(
            &[1., 0., 1., 0.],
            &[0., 0., 0., 0.],
            "task 'cvr' has no positive among the 2 rows of split 'train' where it counts (impressions with click = 1)",
        );
        check(&[1., 0., 1.], &[1., 0., 1.], "task 'cvr' has no negative among the 2 rows");
        check(&[0., 0.], &[0., 0.], "task 'ctr' has no positive among the 2 rows");
    }

    #[test]
    fn labels_of_a_number_are_finite() {
        let (mut tasks, derived) = (click_tasks().0, []);
        tasks[1].loss = Loss::SquaredError;
        let check = |conversion: &[f32]| told(&tasks, &derived, &[1., 0., 1.], conversion);
        assert_eq!(check(&[-2.5, 7.0, -2.5]), "");
        let text = check(&[0.5, f32::INFINITY, 1.0]);
        assert!(
            text.contains(
                "label 'conversion', row 1: found inf, but labels are finite numbers (1 such rows)"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_missing_label_column_is_named() {
        let (tasks, derived) = click_tasks();
        let found =
            LabelCheck::new("valid", &tasks, &derived, &TrainConfig::default(), &["click".to_owned()]);
        let text = found.unwrap_err().to_string();
        assert!(text.contains("no label column 'conversion', which cvr needs (there are: click)"), "{text}");
    }

    #[test]
    fn a_conditional_output_is_measured_where_its_condition_holds() {
        let (tasks, derived) = click_tasks();
        let labels = labels(&[1., 0., 1., 0.], &[1., 0., 0., 0.]);
        let outputs = measured_outputs(&tasks, &derived);
        let scores = [0.1, 0.2, 0.3, 0.4];
        assert!(outputs.iter().all(|output| output.learned));
        assert_eq!(outputs[0].select(&scores, &labels).0, scores);
        assert_eq!(outputs[1].select(&scores, &labels), (vec![0.1, 0.3], vec![1., 0.]));
        assert_eq!(outputs[2].select(&scores, &labels), (scores.to_vec(), vec![1., 0., 0., 0.]));
        assert_eq!(loss_weights(&outputs[1], &labels, 4), [1., 0., 1., 0.]);
        assert_eq!(loss_weights(&outputs[0], &labels, 4), [1.; 4]);
    }

    #[test]
    fn sampled_negatives_stand_for_those_left_out() {
        let (tasks, _) = click_tasks();
        let labels = labels(&[1., 0., 1., 0.], &[1., 0., 0., 0.]);
        assert_eq!(sampling_weights(4, &labels, &tasks, 1.0), None);
        assert_eq!(sampling_weights(4, &labels, &tasks, 0.25), Some(vec![1., 4., 1., 4.]));
    }

    #[test]
    fn potential_outcomes_are_measured_on_all_impressions() {
        let (mut tasks, _) = click_tasks();
        assert!(potential_outputs(&tasks).is_empty());
        tasks[1].potential_label = Some("would_convert".into());
        let found = potential_outputs(&tasks);
        assert_eq!((found.len(), found[0].0), (1, 1));
        assert_eq!((found[0].1.label.as_str(), &found[0].1.within), ("would_convert", &None));
    }

    #[test]
    fn what_no_loss_teaches_is_marked() {
        let (mut tasks, derived) = click_tasks();
        tasks[0].weight = 0.0;
        let learned: Vec<bool> =
            measured_outputs(&tasks, &derived).iter().map(|output| output.learned).collect();
        assert_eq!(learned, [false, true, false]);
    }
}
