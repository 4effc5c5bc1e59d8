//! The outputs of a bundle from those of a foreign graph.

use std::collections::HashMap;

use gatefold_proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType};
use gatefold_schema::{ImportMap, MappedTask};

use super::{Adapter, is_fraction, known_names};
use crate::{
    builder::int,
    foreign::{
        ForeignError, Port,
        graph::{int_attribute, is, node},
    },
};

impl Adapter {
    pub(super) fn outputs(
        &mut self,
        ports: &[Port],
        graph: &GraphProto,
        map: &ImportMap,
    ) -> Result<(), ForeignError> {
        let producers: HashMap<&str, &NodeProto> = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
            .collect();
        for task in &map.tasks {
            let fail = |reason| ForeignError::Task { name: task.name.clone(), reason };
            let wanted = task.output_name();
            let Some(port) = ports.iter().find(|port| port.name == wanted) else {
                let known = ports.iter().map(|port| port.name.as_str());
                return Err(fail(format!(
                    "the graph has no output '{wanted}'{}",
                    known_names(wanted, known)
                )));
            };
            self.output(port, producers.get(self.current(wanted).as_str()).copied(), task).map_err(fail)?;
        }
        for derived in &map.derived {
            let (first, others) = match derived.product.as_slice() {
                [] => continue,
                [only] => {
                    self.after.push(node("Identity", &[only], &derived.name, Vec::new()));
                    continue;
                }
                [first, others @ ..] => (first, others),
            };
            let mut value = first.clone();
            for (index, other) in others.iter().enumerate() {
                let last = index + 1 == others.len();
                let name = if last { derived.name.clone() } else { format!("{}/{index}", derived.name) };
                self.after.push(node("Mul", &[&value, other], &name, Vec::new()));
                value = name;
            }
        }
        Ok(())
    }

    /// A task's output from the model's.
    fn output(&mut self, port: &Port, producer: Option<&NodeProto>, task: &MappedTask) -> Result<(), String> {
        let element = port.element.filter(|element| is_fraction(*element));
        let element = element
            .ok_or_else(|| format!("output '{}' is {}, expected floats", port.name, port.in_words()))?;
        let last = port.dims.as_ref().map(|dims| dims.get(1..).unwrap_or_default().last().copied().flatten());
        let width = match (&port.dims, last) {
            (Some(dims), _) if dims.len() <= 1 => Some(1),
            (_, Some(width)) => width,
            (_, None) => None,
        };
        let mut value = self.current(&port.name);
        let mut steps: Vec<(&str, Vec<String>, Vec<_>)> = Vec::new();
        match (task.column, width) {
            (None, Some(width)) if width > 1 => {
                return Err(format!("output '{}' has {width} columns; add column = …", port.name));
            }
            (Some(column), Some(width)) if column >= width => {
                return Err(format!(
                    "column = {column}, but output '{}' has {width} column{}",
                    port.name,
                    if width == 1 { "" } else { "s" }
                ));
            }
            (Some(column), Some(width)) if width > 1 => {
                let joined = producer.filter(|node| is(node, "Concat") && node.input.len() == width);
                let along = joined.map(|node| int_attribute(node, "axis", 0));
                match joined {
                    // One part a column: what the others need is then no part of this task.
                    Some(joined) if matches!(along, Some(1 | -1)) => value.clone_from(&joined.input[column]),
                    _ => steps.push(("Gather", vec![self.index(column)], vec![int("axis", -1)])),
                }
            }
            (Some(column), None) => steps.push(("Gather", vec![self.index(column)], vec![int("axis", -1)])),
            _ => {}
        }
        if element != DataType::Float {
            steps.push(("Cast", Vec::new(), vec![int("to", DataType::Float as i64)]));
        }
        if task.sigmoid {
            steps.push(("Sigmoid", Vec::new(), Vec::new()));
            // ONNX Runtime's sigmoid of a large number may be a little above 1.
            steps.push(("Clip", vec![self.number(0.0), self.number(1.0)], Vec::new()));
        }
        steps.push(("Reshape", vec![self.shape(&[])], Vec::new()));
        let count = steps.len();
        for (index, (operator, operands, attributes)) in steps.into_iter().enumerate() {
            let name = match index + 1 == count {
                true => task.name.clone(),
                false => format!("{}/{}", task.name, operator.to_lowercase()),
            };
            let inputs: Vec<&str> =
                std::iter::once(value.as_str()).chain(operands.iter().map(String::as_str)).collect();
            self.after.push(node(operator, &inputs, &name, attributes));
            value = name;
        }
        Ok(())
    }
}
