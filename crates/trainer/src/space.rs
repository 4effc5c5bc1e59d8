//! The sample spaces: over which rows an output is learned and measured, and the checks that its
//! labels make sense there.

use std::collections::BTreeMap;

use gatefold_schema::{Derived, Loss, Task, task::outputs};

use crate::error::TrainError;

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
}

/// The weight of each of `rows` rows in a task's loss: 1 in its sample space, 0 elsewhere.
pub(crate) fn loss_weights(output: &MeasuredOutput, labels: &Labels, rows: usize) -> Vec<f32> {
    match output.within.as_ref().and_then(|within| labels.get(within)) {
        None => vec![1.0; rows],
        Some(within) => within.clone(),
    }
}

/// Checks the labels of a split, part by part: every column is there and holds 0 and 1 only, no
/// conditional outcome happens without its condition, and every task has both outcomes in its
/// sample space. Labels of a task that predicts a number must be finite, and nothing else.
#[derive(Clone, Debug)]
pub struct LabelCheck {
    split: String,
    rows: usize,
    outputs: Vec<(MeasuredOutput, Found)>,
}

/// What has been seen of one output.
#[derive(Clone, Debug)]
struct Found {
    /// Whether it predicts a number, not a probability.
    is_number: bool,
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

impl Found {
    fn nothing(is_number: bool) -> Self {
        Self { is_number, bad: Rows::default(), outside: Rows::default(), rows: 0, positives: 0 }
    }
}

impl LabelCheck {
    /// Begins with the columns that the split has.
    ///
    /// # Errors
    /// A label column that is missing.
    pub fn new(
        split: &str,
        tasks: &[Task],
        derived: &[Derived],
        columns: &[String],
    ) -> Result<Self, TrainError> {
        let outputs = measured_outputs(tasks, derived);
        match outputs.iter().find(|output| !columns.contains(&output.label)) {
            None => Ok(Self {
                split: split.to_owned(),
                rows: 0,
                outputs: outputs
                    .into_iter()
                    .map(|output| {
                        let found = Found::nothing(is_number(tasks, &output.output));
                        (output, found)
                    })
                    .collect(),
            }),
            Some(output) => Err(TrainError::MissingLabel {
                split: split.to_owned(),
                label: output.label.clone(),
                wanted_by: output.output.clone(),
                known: columns.join(", "),
            }),
        }
    }

    /// Looks at the next `rows` rows.
    pub fn add(&mut self, rows: usize, labels: &Labels) {
        for (output, found) in &mut self.outputs {
            let values = &labels[&output.label];
            let within = output.within.as_ref().map(|within| &labels[within]);
            for (row, &value) in values.iter().enumerate() {
                let is_inside = within.is_none_or(|within| within[row] == 1.0);
                let is_good = if found.is_number { value.is_finite() } else { value == 0.0 || value == 1.0 };
                if !is_good {
                    found.bad.add(self.rows + row, value);
                } else if value == 1.0 && !is_inside && !found.is_number {
                    found.outside.add(self.rows + row, ());
                }
                found.rows += usize::from(is_inside);
                found.positives += usize::from(is_inside && value == 1.0);
            }
        }
        self.rows += rows;
    }

    /// Decides.
    ///
    /// # Errors
    /// The first thing that is wrong, with its task, column, row and count.
    pub fn finish(self) -> Result<(), TrainError> {
        let split = self.split;
        if self.rows == 0 {
            return Err(TrainError::EmptySplit { split });
        }
        for (output, found) in &self.outputs {
            if let Some((row, value)) = found.bad.first {
                let (label, count) = (output.label.clone(), found.bad.count);
                let expected = if found.is_number { "finite numbers" } else { "0 or 1" };
                return Err(TrainError::BadLabel { split, label, row, value, expected, count });
            }
        }
        for (MeasuredOutput { output: task, label, within, space, .. }, found) in self.outputs {
            if let (Some((row, ())), Some(given)) = (found.outside.first, within) {
                let count = found.outside.count;
                return Err(TrainError::OutsideSampleSpace { split, task, label, given, row, count });
            }
            if !found.is_number && (found.positives == 0 || found.positives == found.rows) {
                let missing = if found.positives == 0 { "positive" } else { "negative" };
                return Err(TrainError::OneClass { split, task, missing, rows: found.rows, space });
            }
        }
        Ok(())
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
        let names = ["click".to_owned(), "conversion".to_owned()];
        let mut found = LabelCheck::new("train", tasks, derived, &names).unwrap();
        for rows in [0..click.len() / 2, click.len() / 2..click.len()] {
            found.add(rows.len(), &labels(&click[rows.clone()], &conversion[rows]));
        }
        found.finish().err().map(|error| error.to_string()).unwrap_or_default()
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
        let found = LabelCheck::new("valid", &tasks, &derived, &["click".to_owned()]);
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
    fn what_no_loss_teaches_is_marked() {
        let (mut tasks, derived) = click_tasks();
        tasks[0].weight = 0.0;
        let learned: Vec<bool> =
            measured_outputs(&tasks, &derived).iter().map(|output| output.learned).collect();
        assert_eq!(learned, [false, true, false]);
    }
}
