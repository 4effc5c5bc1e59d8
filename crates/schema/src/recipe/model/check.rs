//! What a `[model]` must be to be built, and to learn the tasks of its recipe.

use super::{ModelConfig, ModelKind, SHARED};
use crate::{
    strict::ConfigError,
    task::{FakeNegatives, Loss, Task},
};

/// Most experts of a sort, and most levels: far above what is of use, and small enough to build.
const MOST_EXPERTS: usize = 256;
const MOST_LEVELS: usize = 16;

impl ModelConfig {
    /// Checks the settings that the kind reads, and that it can learn these tasks.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was found and what to do.
    pub fn check(&self, tasks: &[Task]) -> Result<(), ConfigError> {
        let kind = self.kind.name();
        let fail = |text: String| Err(ConfigError::new(format!("[model]: {text}")));
        let widths = [
            ("bottom", &self.bottom),
            ("expert", &self.expert),
            ("gate", &self.gate),
            ("tower", &self.tower),
            ("attention", &self.attention),
        ];
        for (key, widths) in widths {
            if let Some(width) = widths.iter().find(|width| !(1..=65_536).contains(*width)) {
                return fail(format!("{key} holds the width {width}; widths are between 1 and 65536"));
            }
        }
        let counts = [
            ("experts", self.experts, MOST_EXPERTS, self.kind.has_experts()),
            ("task_experts", self.task_experts, MOST_EXPERTS, self.kind.has_task_experts()),
            ("levels", self.levels, MOST_LEVELS, self.kind == ModelKind::Ple),
        ];
        for (key, found, most, is_read) in counts {
            if is_read && !(1..=most).contains(&found) {
                return fail(format!("{kind} needs {key} between 1 and {most}, found {found}"));
            }
        }
        if self.kind.shares_bottom() && self.bottom.is_empty() {
            return fail(format!("{kind} needs a width in bottom, such as bottom = [256, 128]"));
        }
        if self.kind.has_experts() && self.expert.is_empty() {
            return fail(format!("{kind} needs a width in expert, such as expert = [256, 128]"));
        }
        for (key, strength) in [("sharing", self.sharing), ("calibrator", self.calibrator)] {
            if !(strength.is_finite() && strength >= 0.0) {
                return fail(format!("{key} must be a number of at least 0, found {strength}"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(format!("dropout must be at least 0 and below 1, found {}", self.dropout));
        }
        if self.kind.has_task_experts() && tasks.iter().any(|task| task.name == SHARED) {
            return fail(format!("{kind} calls its common experts '{SHARED}'; give that task another name"));
        }
        match self.kind {
            ModelKind::Esmm => check_esmm(tasks),
            ModelKind::Aitm => self.check_aitm(tasks),
            _ => Ok(()),
        }
        .or_else(|text| fail(format!("{kind} {text}")))
    }

    fn check_aitm(&self, tasks: &[Task]) -> Result<(), String> {
        if self.bottom.is_empty() && self.tower.is_empty() {
            return Err("needs a width in bottom or tower, such as tower = [64]".into());
        }
        let [_, _, ..] = tasks else {
            return Err("passes information from task to task and needs at least two, in the order of the \
                        outcomes, such as ctr and cvr"
                .into());
        };
        for pair in tasks.windows(2) {
            if pair[1].given.as_ref().is_some_and(|given| *given != pair[0].name) {
                return Err(format!(
                    "needs the tasks in the order of the outcomes: '{}' comes before {}",
                    pair[0].name,
                    pair[1].in_words()
                ));
            }
        }
        check_probabilities(tasks)
    }
}

fn check_esmm(tasks: &[Task]) -> Result<(), String> {
    let fits = match tasks {
        [first, second] => first.given.is_none() && second.given.as_deref() == Some(first.name.as_str()),
        _ => false,
    };
    if !fits {
        let found: Vec<String> = tasks.iter().map(Task::in_words).collect();
        return Err(format!(
            "needs exactly two tasks, the second conditional on the first, such as ctr and cvr with \
             given = \"ctr\"; found {}",
            found.join(", ")
        ));
    }
    check_probabilities(tasks)
}

fn check_probabilities(tasks: &[Task]) -> Result<(), String> {
    if let Some(task) = tasks.iter().find(|task| task.loss != Loss::CrossEntropy) {
        return Err(format!(
            "relates probabilities, but task '{}' has the loss {}; use cross-entropy or another kind",
            task.name,
            task.loss.name()
        ));
    }
    match tasks.iter().find(|task| task.fake_negatives == Some(FakeNegatives::Calibrated)) {
        None => Ok(()),
        Some(task) => Err(format!(
            "relates the probabilities that tasks learn, but with fake_negatives = \"calibrated\" task '{}' learns \
             another than that of its outcome; use \"weighted\" or another kind",
            task.name
        )),
    }
}
