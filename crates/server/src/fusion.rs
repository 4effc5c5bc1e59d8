//! Fused scores: formulas over a model's outputs and a request's item columns.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use gatefold_engine::{Bundle, ScoreReply};
use gatefold_features::{RawColumn, RawValues};
use gatefold_formula::{Formula, FormulaError};
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::{ConfigError, strict::nearest};

use crate::convert::FieldError;

/// Formulas of requests that are kept parsed; callers send few different ones.
const KEPT: usize = 256;

/// The models' formulas, and those of requests parsed lately.
pub struct Formulas {
    /// By model and name.
    named: BTreeMap<String, BTreeMap<String, Arc<Formula>>>,
    /// By text.
    parsed: Mutex<HashMap<String, Arc<Formula>>>,
}

impl Formulas {
    /// The formulas of the settings, by model and name.
    ///
    /// # Errors
    /// One that is no formula, with its place.
    pub fn new(settings: &BTreeMap<String, BTreeMap<String, String>>) -> Result<Self, ConfigError> {
        let mut named: BTreeMap<String, BTreeMap<String, Arc<Formula>>> = BTreeMap::new();
        for (model, formulas) in settings {
            for (name, text) in formulas {
                let formula = Formula::parse(text)
                    .map_err(|error| ConfigError::new(format!("formulas.{model}.{name}: {error}")))?;
                named.entry(model.clone()).or_default().insert(name.clone(), Arc::new(formula));
            }
        }
        Ok(Self { named, parsed: Mutex::default() })
    }

    /// The formula that a request asks `model` for, if any.
    ///
    /// # Errors
    /// A text that is no formula, a name that the model has none of, and both at once.
    pub fn wanted(&self, request: &wire::ScoreRequest, model: &str) -> Result<Option<Chosen>, FieldError> {
        match (request.formula.as_str(), request.formula_name.as_str()) {
            ("", "") => Ok(None),
            (text, "") => match self.parse(text) {
                Ok(formula) => Ok(Some(Chosen { formula, name: None })),
                Err(error) => Err(FieldError::new("formula", error.to_string())),
            },
            ("", name) => {
                let formula = self.find(model, name)?;
                Ok(Some(Chosen { formula, name: Some(name.to_owned()) }))
            }
            (_, name) => {
                let problem = format!("is '{name}' beside a formula: give one of them");
                Err(FieldError::new("formula_name", problem))
            }
        }
    }

    fn parse(&self, text: &str) -> Result<Arc<Formula>, FormulaError> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(formula) = parsed.get(text) {
            return Ok(formula.clone());
        }
        let formula = Arc::new(Formula::parse(text)?);
        if parsed.len() == KEPT {
            // Those in use come back at once.
            parsed.clear();
        }
        parsed.insert(text.to_owned(), formula.clone());
        Ok(formula)
    }

    /// The formulas of a model that have a name.
    pub fn named(&self, model: &str) -> impl Iterator<Item = (&str, &Formula)> {
        let of_model = self.named.get(model).into_iter().flatten();
        of_model.map(|(name, formula)| (name.as_str(), formula.as_ref()))
    }

    fn find(&self, model: &str, name: &str) -> Result<Arc<Formula>, FieldError> {
        let of_model = self.named.get(model);
        of_model.and_then(|formulas| formulas.get(name)).cloned().ok_or_else(|| {
            let known: Vec<&str> = of_model.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem =
                format!("model '{model}' has no formula '{name}' in the server's settings; it has: {known}");
            FieldError::new("formula_name", problem)
        })
    }
}

/// A formula that a request asks for.
#[derive(Clone, Debug)]
pub struct Chosen {
    formula: Arc<Formula>,
    /// Its name, where it stands in the settings.
    name: Option<String>,
}

impl Chosen {
    fn error(&self, problem: String) -> FieldError {
        match &self.name {
            None => FieldError::new("formula", problem),
            Some(name) => {
                FieldError::new("formula_name", format!("'{name}' of the server's settings: {problem}"))
            }
        }
    }
}

/// A formula with what it is computed from.
#[derive(Clone, Debug)]
pub struct Fusion {
    chosen: Chosen,
    /// One for each name of the formula.
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
enum Source {
    Output(String),
    /// Values of the candidates; NaN where missing.
    Column(Vec<f64>),
}

impl Fusion {
    /// Finds what the formula names among the model's outputs, then among the `items` columns.
    ///
    /// # Errors
    /// A name that is neither, or a column that is given twice or holds no single numbers.
    pub fn new(
        chosen: Chosen,
        bundle: &Bundle,
        items: &[(Cow<'_, str>, RawColumn<'_>)],
    ) -> Result<Self, FieldError> {
        let source = |name: &String| {
            if bundle.output_index(name).is_some() {
                return Ok(Source::Output(name.clone()));
            }
            let mut named = items.iter().filter(|(item, _)| item == name);
            let first = named.next();
            if named.next().is_some() {
                return Err(FieldError::new(format!("items '{name}'"), "is given twice: keep one of them"));
            }
            match first {
                Some((_, column)) => numbers(column).map(Source::Column).ok_or_else(|| {
                    let problem = format!(
                        "'{name}' is of type {}: a formula takes ints and floats",
                        column.values.type_name()
                    );
                    chosen.error(problem)
                }),
                None => Err(chosen.error(unknown(name, bundle, items))),
            }
        };
        let sources = chosen.formula.names().iter().map(source).collect::<Result<_, _>>()?;
        Ok(Self { chosen, sources })
    }

    /// Whether the formula names `name`.
    pub fn names(&self, name: &str) -> bool {
        self.chosen.formula.names().iter().any(|own| own == name)
    }

    /// The outputs that it is computed from.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            Source::Output(name) => Some(name.as_str()),
            Source::Column(_) => None,
        })
    }

    /// The fused score of each candidate of the reply.
    ///
    /// # Errors
    /// A candidate whose result is missing or not finite.
    pub fn scores(&self, reply: &ScoreReply) -> Result<Vec<f64>, FieldError> {
        let rows = reply.scores.first().map_or(0, Vec::len);
        let widened = |scores: &Vec<f32>| scores.iter().copied().map(f64::from).collect();
        let columns = self.sources.iter().map(|source| match source {
            Source::Column(values) => Cow::Borrowed(values),
            // The engine gives every output that it was asked for.
            Source::Output(name) => {
                let place = reply.outputs.iter().position(|output| output == name);
                Cow::Owned(place.map_or_else(|| vec![f64::NAN; rows], |place| widened(&reply.scores[place])))
            }
        });
        let columns: Vec<Cow<'_, Vec<f64>>> = columns.collect();
        let columns: Vec<&[f64]> = columns.iter().map(|column| column.as_slice()).collect();
        self.chosen.formula.evaluate(rows, &columns).map_err(|error| self.chosen.error(error.to_string()))
    }
}

/// A column's values, where they are single numbers; NaN where missing.
fn numbers(column: &RawColumn<'_>) -> Option<Vec<f64>> {
    let mut numbers: Vec<f64> = match &column.values {
        RawValues::Ints(ints) => ints.iter().map(|int| *int as f64).collect(),
        RawValues::Floats(floats) => floats.to_vec(),
        _ => return None,
    };
    for (number, missing) in numbers.iter_mut().zip(column.missing.iter().flat_map(|missing| missing.iter()))
    {
        if *missing {
            *number = f64::NAN;
        }
    }
    Some(numbers)
}

fn unknown(name: &str, bundle: &Bundle, items: &[(Cow<'_, str>, RawColumn<'_>)]) -> String {
    let outputs: Vec<&str> = bundle.manifest().outputs.iter().map(|output| output.name.as_str()).collect();
    let numeric = items.iter().filter(|(_, column)| numbers(column).is_some());
    let columns: Vec<&str> = numeric.map(|(name, _)| name.as_ref()).collect();
    let near = nearest(name, outputs.iter().chain(&columns).copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
    format!(
        "'{name}' is neither an output ({}) nor an int or float column of items ({}){near}",
        outputs.join(", "),
        columns.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the text of the formulas says.
    #[test]
    fn ints_are_taken_as_the_nearest_float() {
        let ints = [1_i64 << 53, (1 << 53) + 1, -(1 << 53) - 3, i64::MAX];
        let column = RawColumn { values: RawValues::Ints(ints.as_slice().into()), missing: None };
        let floats =
            [9_007_199_254_740_992.0, 9_007_199_254_740_992.0, -9_007_199_254_740_996.0, 2_f64.powi(63)];
        assert_eq!(numbers(&column).unwrap(), floats);
    }
}
