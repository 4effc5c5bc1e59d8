//! The experiments of the settings: which model a unit is scored by.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatefold_engine::{VersionChoice, check_label};
use gatefold_experiment::assignment::{self, Experiment, LONGEST_NAME};
use gatefold_schema::ConfigError;

use crate::convert::Wanted;
use crate::settings::{ArmSettings, ExperimentSettings};
use crate::status::Refusal;

/// The experiments of a server.
#[derive(Debug, Default)]
pub struct Experiments {
    by_name: BTreeMap<String, Running>,
}

#[derive(Debug)]
struct Running {
    assignment: Experiment,
    /// In the order of the assignment.
    arms: Vec<Arc<Arm>>,
    /// Of the units in no arm.
    rest: Arc<Arm>,
}

/// One arm of an experiment: its names, and what scores its units.
#[derive(Debug)]
pub struct Arm {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the arm; empty for the units that are in none.
    pub name: String,
    pub(crate) model: String,
    pub(crate) version: Option<u64>,
    pub(crate) label: Option<String>,
}

/// A model version that is to score a request, and the arm that says so.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Which of its versions.
    pub version: VersionChoice<'a>,
    /// Where the request names an experiment: what its unit is in.
    pub arm: Option<&'a Arc<Arm>>,
}

impl Experiments {
    /// The experiments of the settings, by name.
    ///
    /// # Errors
    /// Names, shares, labels and versions that cannot be, with their place.
    pub fn new(settings: &BTreeMap<String, ExperimentSettings>) -> Result<Self, ConfigError> {
        let running = |(name, settings): (&String, &ExperimentSettings)| {
            Running::new(name, settings)
                .map(|running| (name.clone(), running))
                .map_err(|problem| ConfigError::new(format!("experiments.{name}.{problem}")))
        };
        if let Some(name) = settings.keys().find(|name| !(1..=LONGEST_NAME).contains(&name.len())) {
            let problem = format!(
                "experiments: the name '{name}' has {} bytes: it must have between 1 and {LONGEST_NAME}",
                name.len()
            );
            return Err(ConfigError::new(problem));
        }
        Ok(Self { by_name: settings.iter().map(running).collect::<Result<_, _>>()? })
    }

    /// Every arm, by experiment and in the order of the settings.
    pub fn arms(&self) -> impl Iterator<Item = &Arc<Arm>> {
        self.by_name.values().flat_map(|running| &running.arms)
    }

    /// As [`arms`](Self::arms), with what stands for units in no arm where there may be such.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Arm>> {
        self.by_name.values().flat_map(|running| {
            let rest = running.assignment.leaves_some().then_some(&running.rest);
            running.arms.iter().chain(rest)
        })
    }

    /// The model version that is `wanted`, which need not be loaded.
    ///
    /// # Errors
    /// An experiment that there is not.
    pub fn route<'a>(&'a self, wanted: Wanted<'a>) -> Result<Route<'a>, Refusal> {
        let (name, unit) = match wanted {
            Wanted::Model(model, version) => return Ok(Route { model, version, arm: None }),
            Wanted::Experiment { name, unit } => (name, unit),
        };
        let running = self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Refusal::UnknownExperiment { name: name.to_owned(), known }
        })?;
        let arm = running.assignment.assign(unit).map_or(&running.rest, |place| &running.arms[place]);
        Ok(Route { model: &arm.model, version: arm.choice(), arm: Some(arm) })
    }
}

impl Running {
    /// An error begins with the key that is wrong.
    fn new(experiment: &str, settings: &ExperimentSettings) -> Result<Self, String> {
        let ExperimentSettings { model, salt, arms } = settings;
        if model.is_empty() {
            return Err("model: is empty; name the model of the arms that name none".to_owned());
        }
        let divided = arms.iter().map(|arm| assignment::Arm { name: arm.name.clone(), share: arm.share });
        let salt = salt.as_deref().unwrap_or(experiment);
        let assignment =
            Experiment::new(salt, &divided.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        let arm = |arm: &ArmSettings| {
            check_target(arm).map_err(|problem| format!("arms: '{}': {problem}", arm.name))?;
            Ok(Arc::new(Arm {
                experiment: experiment.to_owned(),
                name: arm.name.clone(),
                model: arm.model.as_ref().unwrap_or(model).clone(),
                version: arm.version,
                label: arm.label.clone(),
            }))
        };
        let rest = Arm {
            experiment: experiment.to_owned(),
            name: String::new(),
            model: model.clone(),
            version: None,
            label: None,
        };
        Ok(Self {
            assignment,
            arms: arms.iter().map(arm).collect::<Result<_, String>>()?,
            rest: Arc::new(rest),
        })
    }
}

/// Checks what is to score the units of an arm.
fn check_target(arm: &ArmSettings) -> Result<(), String> {
    if arm.model.as_ref().is_some_and(String::is_empty) {
        return Err("model is empty: leave it out for that of the experiment".to_owned());
    }
    match (arm.version, &arm.label) {
        (Some(version), Some(label)) => {
            Err(format!("label is '{label}' beside version {version}: give one of them"))
        }
        (Some(0), None) => Err("version is 0: versions begin with 1".to_owned()),
        (None, Some(label)) => check_label(label).map_err(|error| format!("label: {error}")),
        _ => Ok(()),
    }
}

impl Arm {
    /// Which version of its model scores its units.
    pub(crate) fn choice(&self) -> VersionChoice<'_> {
        match (self.version, &self.label) {
            (Some(version), _) => VersionChoice::Version(version),
            (None, Some(label)) => VersionChoice::Label(label),
            (None, None) => VersionChoice::Current,
        }
    }

    /// What messages call it.
    pub(crate) fn described(&self) -> String {
        match self.name.as_str() {
            "" => format!("experiment '{}', for units in no arm", self.experiment),
            name => format!("experiment '{}', arm '{name}'", self.experiment),
        }
    }
}
