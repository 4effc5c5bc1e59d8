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

/// The weight of each row in a task's loss: 1 in its sample space, 0 elsewhere.
pub(crate) fn loss_weight(output: &MeasuredOutput, labels: &Labels, row: usize) -> f32 {
    match output.within.as_ref().and_then(|within| labels.get(within)) {
        None => 1.0,
        Some(within) => within[row],
    }
}

/// Checks the labels of a split: every column is there and holds 0 and 1 only, no conditional
/// outcome happens without its condition, and every task has both outcomes in its sample space.
/// Labels of a task that predicts a number must be finite, and nothing else.
///
/// # Errors
/// The first thing that is wrong, with its task, column, row and count.
pub fn check_labels(
    split: &str,
    rows: usize,
    labels: &Labels,
    tasks: &[Task],
    derived: &[Derived],
) -> Result<(), TrainError> {
    if rows == 0 {
        return Err(TrainError::EmptySplit { split: split.to_owned() });
    }
    let outputs = measured_outputs(tasks, derived);
    for output in &outputs {
        let column = labels.get(&output.label).ok_or_else(|| TrainError::MissingLabel {
            split: split.to_owned(),
            label: output.label.clone(),
            wanted_by: output.output.clone(),
            known: labels.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })?;
        let any_number = is_number(tasks, &output.output);
        let bad = |value: &&f32| match any_number {
            true => !value.is_finite(),
            false => **value != 0.0 && **value != 1.0,
        };
        if let Some(row) = column.iter().position(|value| bad(&value)) {
            return Err(TrainError::BadLabel {
                split: split.to_owned(),
                label: output.label.clone(),
                row,
                value: column[row],
                expected: if any_number { "finite numbers" } else { "0 or 1" },
                count: column.iter().filter(bad).count(),
            });
        }
    }
    for output in &outputs {
        let column = &labels[&output.label];
        let any_number = is_number(tasks, &output.output);
        if let Some(given) = output.within.as_ref().filter(|_| !any_number) {
            let outside = || column.iter().zip(&labels[given]).enumerate().filter(|(_, (y, g))| **y > **g);
            if let Some((row, _)) = outside().next() {
                return Err(TrainError::OutsideSampleSpace {
                    split: split.to_owned(),
                    task: output.output.clone(),
                    label: output.label.clone(),
                    given: given.clone(),
                    row,
                    count: outside().count(),
                });
            }
        }
        if any_number {
            continue;
        }
        let (_, in_space) = output.select(column, labels);
        let positives = in_space.iter().filter(|label| **label == 1.0).count();
        if positives == 0 || positives == in_space.len() {
            return Err(TrainError::OneClass {
                split: split.to_owned(),
                task: output.output.clone(),
                missing: if positives == 0 { "positive" } else { "negative" },
                rows: in_space.len(),
                space: output.space.clone(),
            });
        }
    }
    Ok(())
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

    #[track_caller]
    fn check(click: &[f32], conversion: &[f32], expected: &str) {
        let (tasks, derived) = click_tasks();
        let found = check_labels("train", click.len(), &labels(click, conversion), &tasks, &derived);
        let text = found.err().map(|error| error.to_string()).unwrap_or_default();
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
        let check = |conversion: &[f32]| {
            check_labels("train", 3, &labels(&[1., 0., 1.], conversion), &tasks, &derived)
        };
        assert!(check(&[-2.5, 7.0, -2.5]).is_ok());
        let text = check(&[0.5, f32::INFINITY, 1.0]).unwrap_err().to_string();
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
        let labels: Labels = [("click".to_owned(), vec![1.0, 0.0])].into();
        let text = check_labels("valid", 2, &labels, &tasks, &derived).unwrap_err().to_string();
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
        assert_eq!(loss_weight(&outputs[1], &labels, 1), 0.0);
        assert_eq!(loss_weight(&outputs[0], &labels, 1), 1.0);
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
