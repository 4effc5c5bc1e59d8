//! Tasks: what is predicted, where its loss counts, and what is derived from the predictions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::strict::ConfigError;

/// What a task's prediction is compared with its label by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Binary cross-entropy: the label is 0 or 1, the output a probability.
    #[default]
    CrossEntropy,
    /// Squared difference: the label is any number, the output a number.
    SquaredError,
}

impl Loss {
    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Loss::CrossEntropy => "cross-entropy",
            Loss::SquaredError => "squared-error",
        }
    }

    fn is_default(&self) -> bool {
        *self == Loss::default()
    }
}

/// How a task learns from fake negatives: each row is a negative first, and there once more if its
/// outcome comes. Where p is the probability of the outcome, the share `b = p / (1 + p)` of such rows
/// is positive (S. I. Ktena et al., "Addressing delayed feedback for continuous training with neural
/// networks in CTR prediction", RecSys 2019, arXiv:1907.06558).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FakeNegatives {
    /// A positive counts `1 + p` times in the loss and a negative `(1 − p)(1 + p)` times, the ratios of
    /// true to present shares, where p is what the model predicts at that step, a constant to the
    /// derivative: the model learns p.
    Weighted,
    /// The model learns b, and what is served is `p = b / (1 − b)`, at most 1.
    Calibrated,
}

impl FakeNegatives {
    /// The word used in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            FakeNegatives::Weighted => "weighted",
            FakeNegatives::Calibrated => "calibrated",
        }
    }
}

/// One predicted outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Name of the output, such as `ctr`.
    pub name: String,
    /// Label column: 0 or 1, or any number where the loss is [`Loss::SquaredError`].
    pub label: String,
    /// What the loss is.
    #[serde(default, skip_serializing_if = "Loss::is_default")]
    pub loss: Loss,
    /// The task whose positive rows are this one's sample space, such as `given = "ctr"` for
    /// `cvr`: its probability is conditional on that outcome. All impressions unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// How the task learns from samples that hold fake negatives of its label (`[samples.logs] labels`
    /// with `maturity = "fake-negatives"`); needed with them, and refused without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fake_negatives: Option<FakeNegatives>,
    /// Weight of the task's loss in the sum.
    #[serde(default = "unit", skip_serializing_if = "is_unit")]
    pub weight: f32,
    /// Audit column that holds the outcome on all impressions, also where it could not be observed
    /// (what a click would have led to): known for synthetic logs only, used by evaluation alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub potential_label: Option<String>,
    /// Audit column that holds the true probability: known for synthetic logs only, used by
    /// evaluation alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle: Option<String>,
}

impl Task {
    /// Name and condition, such as `cvr given ctr`.
    pub(crate) fn in_words(&self) -> String {
        match &self.given {
            None => self.name.clone(),
            Some(given) => format!("{} given {given}", self.name),
        }
    }
}

fn unit() -> f32 {
    1.0
}
fn is_unit(weight: &f32) -> bool {
    *weight == 1.0
}

/// An output computed from tasks, such as `ctcvr = ctr · cvr`; its sample space is all impressions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// Name of the output.
    pub name: String,
    /// Tasks whose probabilities are multiplied.
    pub product: Vec<String>,
    /// Label column of the joint outcome.
    pub label: String,
}

/// Checks tasks and derived outputs against each other.
///
/// # Errors
/// A sentence that names the task, what was found and what to do.
pub fn check_tasks(tasks: &[Task], derived: &[Derived]) -> Result<(), ConfigError> {
    if tasks.is_empty() {
        return Err(ConfigError::new("no task is declared: add at least one [[task]]".into()));
    }
    let mut seen: Vec<&str> = Vec::new();
    for task in tasks {
        let name = task.name.as_str();
        check_name(name, &seen)?;
        if let Some(given) = &task.given {
            let Some(condition) = tasks[..seen.len()].iter().find(|other| other.name == *given) else {
                return Err(ConfigError::new(format!(
                    "task '{name}': given = \"{given}\" names no task declared before it (those are: {})",
                    seen.join(", ")
                )));
            };
            if condition.loss != Loss::CrossEntropy {
                return Err(ConfigError::new(format!(
                    "task '{name}': given = \"{given}\", whose label is any number; a condition needs the \
                     loss cross-entropy"
                )));
            }
            if condition.fake_negatives.is_some() {
                return Err(ConfigError::new(format!(
                    "task '{name}': given = \"{given}\", which learns from fake negatives: its positive rows are \
                     there for its own loss alone, and no other task can learn on them"
                )));
            }
        }
        if task.fake_negatives.is_some() && task.loss != Loss::CrossEntropy {
            return Err(ConfigError::new(format!(
                "task '{name}': fake_negatives is of probabilities, but the loss is {}; leave one of them out",
                task.loss.name()
            )));
        }
        if !(task.weight.is_finite() && task.weight >= 0.0) {
            return Err(ConfigError::new(format!(
                "task '{name}': weight must be a number of at least 0, found {}",
                task.weight
            )));
        }
        seen.push(name);
    }
    let task_count = seen.len();
    for output in derived {
        check_name(&output.name, &seen)?;
        if let Some(unknown) = output.product.iter().find(|name| !seen[..task_count].contains(&name.as_str()))
        {
            return Err(ConfigError::new(format!(
                "derived output '{}': '{unknown}' is not a task (those are: {})",
                output.name,
                seen[..task_count].join(", ")
            )));
        }
        let number =
            tasks.iter().find(|task| task.loss != Loss::CrossEntropy && output.product.contains(&task.name));
        if let Some(task) = number {
            return Err(ConfigError::new(format!(
                "derived output '{}': '{}' has the loss {} and predicts no probability; leave it out",
                output.name,
                task.name,
                task.loss.name()
            )));
        }
        if output.product.is_empty() {
            return Err(ConfigError::new(format!(
                "derived output '{}': product must name at least one task",
                output.name
            )));
        }
        seen.push(&output.name);
    }
    Ok(())
}

/// Checks how tasks learn from samples whose label `late` has fake negatives, if one has.
///
/// # Errors
/// A task of that label that does not say how, a task that learns from fake negatives that are not
/// there, and samples whose fake negatives no task learns from.
pub fn check_fake_negatives(tasks: &[Task], late: Option<&str>) -> Result<(), ConfigError> {
    for task in tasks {
        let (name, label) = (&task.name, &task.label);
        match (task.fake_negatives, late) {
            (None, Some(late)) if late == label => {
                return Err(ConfigError::new(format!(
                    "task '{name}': its label '{label}' has fake negatives in the samples, which the loss would take for \
                     true ones; add fake_negatives = \"weighted\" or \"calibrated\" to the task, or build the samples \
                     with another labels.maturity"
                )));
            }
            (Some(method), late) if late != Some(label) => {
                return Err(ConfigError::new(format!(
                    "task '{name}': fake_negatives = \"{}\", but the samples have no fake negatives of its label \
                     '{label}'; build them with maturity = \"fake-negatives\" in [samples.logs] labels, which is of \
                     the last outcome, or leave fake_negatives out",
                    method.name()
                )));
            }
            _ => {}
        }
    }
    match late {
        Some(late) if tasks.iter().all(|task| task.label != late) => Err(ConfigError::new(format!(
            "[samples.logs]: labels.maturity: \"fake-negatives\" is of the label '{late}', which no task has; use \
             another maturity"
        ))),
        _ => Ok(()),
    }
}

fn check_name(name: &str, seen: &[&str]) -> Result<(), ConfigError> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ConfigError::new(format!("output name '{name}': use ASCII letters, digits and '_'")));
    }
    if seen.contains(&name) {
        return Err(ConfigError::new(format!("output '{name}' is declared twice; names must be unique")));
    }
    Ok(())
}

/// The outputs of a model with these tasks: the tasks in order, then the derived outputs, each
/// with its label column and sample space.
pub fn outputs(tasks: &[Task], derived: &[Derived]) -> Vec<crate::OutputInfo> {
    let space_of = |task: &Task| match &task.given {
        None => "all impressions".to_owned(),
        Some(given) => {
            let label = tasks.iter().find(|other| other.name == *given).map_or(given, |other| &other.label);
            format!("impressions with {label} = 1")
        }
    };
    let of_tasks = tasks.iter().map(|task| crate::OutputInfo {
        name: task.name.clone(),
        label: task.label.clone(),
        space: space_of(task),
    });
    let of_derived = derived.iter().map(|output| crate::OutputInfo {
        name: output.name.clone(),
        label: output.label.clone(),
        space: "all impressions".to_owned(),
    });
    of_tasks.chain(of_derived).collect()
}
