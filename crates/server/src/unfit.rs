//! What the settings name and the loaded models have not: arms of experiments without a model version,
//! and formulas that do not fit their model. A line for each, once the models of the start are there and
//! whenever another one comes up as models come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use gatefold_engine::{Bundle, Engine};
use gatefold_schema::{Kind, Side, ValueType, strict::nearest};
use tokio::sync::watch;

use crate::fusion::Formulas;
use crate::readiness::Readiness;
use crate::scorer::Scorer;

/// Looks for what does not fit.
pub struct Watch {
    /// Has the experiments and the models.
    pub scorer: Arc<Scorer>,
    /// The formulas of the settings.
    pub formulas: Arc<Formulas>,
    /// Says when the models of the start are there.
    pub readiness: Arc<Readiness>,
}

/// Something of the settings that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unfit {
    Arm { experiment: String, arm: String, model: String, problem: String },
    Formula { name: String, model: String, problem: String },
}

impl Watch {
    /// Looks at every change, until nothing changes any more.
    pub async fn follow(self, mut changed: watch::Receiver<()>) {
        let mut said = BTreeSet::new();
        while changed.changed().await.is_ok() {
            if !self.readiness.has_looked() {
                continue;
            }
            let found = self.find();
            found.difference(&said).for_each(Unfit::warn);
            said = found;
        }
    }

    fn find(&self) -> BTreeSet<Unfit> {
        let engine = &self.scorer.engine;
        self.arms(engine).chain(self.formulas(engine)).collect()
    }

    fn arms(&self, engine: &Engine) -> impl Iterator<Item = Unfit> {
        self.scorer.experiments.groups().filter_map(|arm| {
            let error = engine.model(&arm.model, arm.choice()).err()?;
            Some(Unfit::Arm {
                experiment: arm.experiment.clone(),
                arm: arm.name.clone(),
                model: arm.model.clone(),
                problem: error.to_string(),
            })
        })
    }

    fn formulas(&self, engine: &Engine) -> impl Iterator<Item = Unfit> {
        engine.models().into_iter().flat_map(|info| {
            let of_model = self.formulas.named(&info.model.name).flat_map(|(name, formula)| {
                formula.names().iter().filter_map(|read| {
                    let problem = problem(read, &info.bundle)?;
                    Some(Unfit::Formula { name: name.to_owned(), model: info.model.to_string(), problem })
                })
            });
            of_model.collect::<Vec<_>>()
        })
    }
}

impl Unfit {
    fn warn(&self) {
        match self {
            Unfit::Arm { experiment, arm, model, problem } => {
                tracing::warn!(
                    experiment,
                    arm,
                    model,
                    problem,
                    "an arm has no loaded model: its requests are refused"
                );
            }
            Unfit::Formula { name, model, problem } => {
                tracing::warn!(
                    formula = name,
                    model,
                    problem,
                    "a formula of the settings may not fit its model"
                );
            }
        }
    }
}

/// Why a formula cannot read `name` of requests to this model, or only of some.
fn problem(name: &str, bundle: &Bundle) -> Option<String> {
    if bundle.output_index(name).is_some() {
        return None;
    }
    let features = &bundle.encoder().set().features;
    let Some(fitted) = features.iter().find(|fitted| fitted.feature.name == name) else {
        let outputs = || bundle.manifest().outputs.iter().map(|output| output.name.as_str());
        let of_items = features.iter().filter(|fitted| fitted.feature.side == Side::Item);
        let near = nearest(name, outputs().chain(of_items.map(|fitted| fitted.feature.name.as_str())));
        let near = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
        let outputs = outputs().collect::<Vec<_>>().join(", ");
        return Some(format!(
            "'{name}' is neither an output ({outputs}) nor a feature: requests must have it as an int or float \
             column of items{near}"
        ));
    };
    let feature = &fitted.feature;
    let wrong = if feature.is_crossed() {
        "is made of other features, and is no column of requests"
    } else if feature.side != Side::Item {
        "is no feature of items"
    } else if feature.kind == Kind::Sequence || feature.value_type == ValueType::Text {
        "has no single numbers"
    } else {
        return None;
    };
    Some(format!("'{name}' {wrong}: a formula takes outputs, and int and float columns of items"))
}
