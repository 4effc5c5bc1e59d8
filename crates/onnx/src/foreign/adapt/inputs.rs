//! The inputs of a foreign graph from features.

use std::collections::{BTreeMap, BTreeSet};

use gatefold_proto::onnx::tensor_proto::DataType;
use gatefold_schema::{ImportMap, Kind, MappedFeature, ValueType};

use super::{Adapter, is_fraction, known_names, natural, width};
use crate::{
    builder::int,
    foreign::{ForeignError, Port, graph::node, size},
};

impl Adapter {
    pub(super) fn inputs(
        &mut self,
        ports: &[Port],
        needed: &BTreeSet<String>,
        map: &ImportMap,
    ) -> Result<(), ForeignError> {
        let mut of_input: BTreeMap<&str, Vec<&MappedFeature>> = BTreeMap::new();
        for feature in &map.features {
            let input = feature.input_name();
            if !ports.iter().any(|port| port.name == input) {
                let known = ports.iter().map(|port| port.name.as_str());
                return Err(ForeignError::Feature {
                    name: feature.name.clone(),
                    reason: format!("the graph has no input '{input}'{}", known_names(input, known)),
                });
            }
            of_input.entry(input).or_default().push(feature);
        }
        for port in ports {
            let target = self.current(&port.name);
            match of_input.get(port.name.as_str()) {
                Some(features) => self.input(port, &target, features),
                None if !needed.contains(&target) => Ok(()),
                None => Err(format!(
                    "no feature feeds it ({}): add a [[feature]] with input = \"{}\"",
                    port.in_words(),
                    port.name
                )),
            }
            .map_err(|reason| ForeignError::Input { name: port.name.clone(), reason })?;
        }
        Ok(())
    }

    /// One input of the model, called `target`, from its features.
    fn input(&mut self, port: &Port, target: &str, features: &[&MappedFeature]) -> Result<(), String> {
        let element = port.element.filter(|element| is_number(*element)).ok_or_else(|| {
            format!("it is {}, and features are numbers or codes: encode before the graph", port.in_words())
        })?;
        for feature in features {
            let fraction = feature.kind == Kind::Numeric && feature.value_type != ValueType::Int;
            if fraction && !is_fraction(element) {
                return Err(format!(
                    "it takes {}, and feature '{}' has fractions; is it categorical, or of type = \"int\"?",
                    port.in_words(),
                    feature.name
                ));
            }
        }
        let columns = columns(features)?;
        let trailing = trailing(
            port,
            columns.last().map_or(0, |(start, feature)| start.saturating_add(width(feature))),
        )?;
        let alone = columns.len() == 1;
        let mut parts = Vec::new();
        for (_, feature) in &columns {
            let (kind, dims) = natural(feature);
            let mut value = feature.name.clone();
            let wanted = if alone { trailing.clone() } else { vec![width(feature)] };
            if kind != element {
                let last = alone && dims == wanted;
                let name = if last { target.to_owned() } else { format!("{target}/{}/cast", feature.name) };
                self.before.push(node("Cast", &[&value], &name, vec![int("to", element as i64)]));
                value = name;
            }
            if dims != wanted {
                let shape = self.shape(&wanted);
                let name = if alone { target.to_owned() } else { format!("{target}/{}", feature.name) };
                self.before.push(node("Reshape", &[&value, &shape], &name, Vec::new()));
                value = name;
            }
            parts.push(value);
        }
        match parts.as_slice() {
            [only] if only == target => {}
            [only] => self.before.push(node("Identity", &[only], target, Vec::new())),
            parts => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let flat = trailing.len() == 1;
                let joined = if flat { target.to_owned() } else { format!("{target}/columns") };
                self.before.push(node("Concat", &parts, &joined, vec![int("axis", 1)]));
                if !flat {
                    let shape = self.shape(&trailing);
                    self.before.push(node("Reshape", &[&joined, &shape], target, Vec::new()));
                }
            }
        }
        Ok(())
    }
}

/// The features of one input in the order of their columns, each with its first column.
fn columns<'f>(features: &[&'f MappedFeature]) -> Result<Vec<(usize, &'f MappedFeature)>, String> {
    if let [only] = features
        && only.column.is_none_or(|column| column == 0)
    {
        return Ok(vec![(0, only)]);
    }
    let mut columns = Vec::new();
    for feature in features {
        let Some(column) = feature.column else {
            return Err(format!(
                "{} features feed it, and '{}' does not say which column is its own; add column = …",
                features.len(),
                feature.name
            ));
        };
        columns.push((column, *feature));
    }
    columns.sort_by_key(|(column, _)| *column);
    let mut next = 0;
    for (column, feature) in &columns {
        if *column != next {
            return Err(format!(
                "feature '{}' begins at column {column}, expected {next}: each column belongs to one feature",
                feature.name
            ));
        }
        next = next.saturating_add(width(feature));
    }
    Ok(columns)
}

/// Dimensions of an input after its rows, when it takes `width` values a row.
fn trailing(port: &Port, width: usize) -> Result<Vec<usize>, String> {
    let Some(dims) = &port.dims else {
        return Ok(if width == 1 { Vec::new() } else { vec![width] });
    };
    let misfit = || format!("it takes {}, and its features give {width} values a row", port.in_words());
    let [rows, trailing @ ..] = dims.as_slice() else {
        return Err(format!(
            "it takes {}, a single value; its first dimension must be rows",
            port.in_words()
        ));
    };
    if let Some(rows) = rows {
        return Err(format!(
            "its first dimension is fixed at {rows}, but rows change from request to request: export with \
             dynamic axes (dynamic_shapes) for the first dimension of every input"
        ));
    }
    let known = size(trailing);
    let open = trailing.iter().filter(|dim| dim.is_none()).count();
    if open > 1 || known == 0 || !width.is_multiple_of(known) || (open == 0 && known != width) {
        return Err(misfit());
    }
    Ok(trailing.iter().map(|dim| dim.unwrap_or(width / known)).collect())
}

fn is_number(element: DataType) -> bool {
    is_fraction(element)
        || matches!(
            element,
            DataType::Int64
                | DataType::Int32
                | DataType::Int16
                | DataType::Int8
                | DataType::Uint8
                | DataType::Uint16
                | DataType::Uint32
                | DataType::Uint64
                | DataType::Bool
        )
}
