//! How the step size changes over a training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the step sizes are multiplied by. In the first `warmup_steps` steps the factor rises
/// evenly to 1; what follows differs by kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Stays 1.
    Constant {
        /// Steps until the factor is 1.
        #[serde(default)]
        warmup_steps: usize,
    },
    /// Falls evenly to `end` over the rest of the training.
    Linear {
        /// Steps until the factor is 1.
        #[serde(default)]
        warmup_steps: usize,
        /// The factor at the end.
        #[serde(default)]
        end: f32,
    },
    /// Falls along half a cosine wave to `end` over the rest of the training (Loshchilov and
    /// Hutter, ICLR 2017, without restarts).
    Cosine {
        /// Steps until the factor is 1.
        #[serde(default)]
        warmup_steps: usize,
        /// The factor at the end.
        #[serde(default)]
        end: f32,
    },
    /// Is multiplied by `factor` every `every` steps.
    Step {
        /// Steps until the factor is 1.
        #[serde(default)]
        warmup_steps: usize,
        /// Steps between two changes.
        every: usize,
        /// What the factor is multiplied by.
        #[serde(default = "tenth")]
        factor: f32,
    },
}

fn tenth() -> f32 {
    0.1
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig::Constant { warmup_steps: 0 }
    }
}

impl ScheduleConfig {
    /// The factor of a step (from 1) of a training of `steps` steps.
    pub fn factor(&self, step: usize, steps: usize) -> f32 {
        let (ScheduleConfig::Constant { warmup_steps }
        | ScheduleConfig::Linear { warmup_steps, .. }
        | ScheduleConfig::Cosine { warmup_steps, .. }
        | ScheduleConfig::Step { warmup_steps, .. }) = *self;
        if step <= warmup_steps {
            return (step as f64 / warmup_steps as f64) as f32;
        }
        let done = step - 1 - warmup_steps;
        let progress = (done as f64 / steps.saturating_sub(warmup_steps).max(1) as f64).min(1.0);
        let factor = match *self {
            ScheduleConfig::Constant { .. } => 1.0,
            ScheduleConfig::Linear { end, .. } => 1.0 - (1.0 - f64::from(end)) * progress,
            ScheduleConfig::Cosine { end, .. } => {
                let end = f64::from(end);
                end + (1.0 - end) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
            }
            ScheduleConfig::Step { every, factor, .. } => {
                f64::from(factor).powf((done / every.max(1)) as f64)
            }
        };
        factor as f32
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match *self {
            ScheduleConfig::Linear { end, .. } | ScheduleConfig::Cosine { end, .. }
                if !(0.0..=1.0).contains(&end) =>
            {
                Err(format!("schedule: end must be between 0 and 1, found {end}"))
            }
            ScheduleConfig::Step { every: 0, .. } => Err("schedule: every must be at least 1".into()),
            ScheduleConfig::Step { factor, .. } if !(factor > 0.0 && factor <= 1.0) => {
                Err(format!("schedule: factor must be above 0 and at most 1, found {factor}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: ScheduleConfig, steps: usize, expected: &[f32]) {
        let found: Vec<f32> = (1..=expected.len()).map(|step| schedule.factor(step, steps)).collect();
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(near, "{schedule:?}: {found:?}, expected {expected:?}");
    }

    #[test]
    fn factors_are_those_of_pytorch() {
        check(ScheduleConfig::Constant { warmup_steps: 0 }, 3, &[1.0, 1.0, 1.0]);
        check(ScheduleConfig::Constant { warmup_steps: 4 }, 6, &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        // torch.optim.lr_scheduler.LinearLR(start_factor=1, end_factor=0.2, total_iters=4)
        let linear = ScheduleConfig::Linear { warmup_steps: 0, end: 0.2 };
        check(linear, 4, &[1.0, 0.8, 0.6, 0.4, 0.2, 0.2]);
        // CosineAnnealingLR(T_max=5) after two steps of warm-up: (1 + cos(π t / 5)) / 2
        let cosine = ScheduleConfig::Cosine { warmup_steps: 2, end: 0.0 };
        check(cosine, 7, &[0.5, 1.0, 1.0, 0.904_508_5, 0.654_508_5, 0.345_491_5, 0.095_491_5]);
        // CosineAnnealingLR(T_max=2, eta_min=0.1)
        check(ScheduleConfig::Cosine { warmup_steps: 0, end: 0.1 }, 2, &[1.0, 0.55, 0.1]);
        // StepLR(step_size=2, gamma=0.1)
        let step = ScheduleConfig::Step { warmup_steps: 0, every: 2, factor: 0.1 };
        check(step, 9, &[1.0, 1.0, 0.1, 0.1, 0.01]);
    }

    #[test]
    fn a_warm_up_longer_than_the_training_never_divides_by_0() {
        check(ScheduleConfig::Linear { warmup_steps: 10, end: 0.0 }, 3, &[0.1, 0.2, 0.3]);
    }
}
