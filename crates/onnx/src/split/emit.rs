//! Writes the planned graph.

mod parts;

use std::collections::{BTreeSet, HashMap, HashSet};

use gatefold_proto::onnx::{
    GraphProto, NodeProto, TensorProto, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto,
};
use gatefold_schema::REQUEST_OF;

use super::{
    SplitError,
    plan::{Form, Job, Plan},
    values::{Column, Level, Made},
};
use crate::{
    CANDIDATES, REQUESTS,
    builder::{int, value_info},
    foreign::graph::{int_attribute, node},
};

/// The graph of a plan.
pub(super) fn emit(plan: &Plan<'_, '_>) -> Result<GraphProto, SplitError> {
    let mut emitter = Emitter {
        plan,
        nodes: Vec::new(),
        constants: Vec::new(),
        named: BTreeSet::new(),
        copied: HashSet::new(),
        joined: HashMap::new(),
    };
    for (job, form) in &plan.jobs {
        emitter.emit(*job, form)?;
    }
    for output in &plan.values.graph.output {
        let found = plan.values.find(&output.name).map(|id| emitter.name(plan.job(id, Level::Candidate)));
        if let Some(found) = found.filter(|found| *found != output.name) {
            emitter.nodes.push(node("Identity", &[&found], &output.name, Vec::new()));
        }
    }
    let Emitter { nodes, mut constants, .. } = emitter;
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    for value in &plan.values.all {
        if let Some(tensor) = value.tensor()
            && read.contains(value.name.as_str())
        {
            constants.push(TensorProto::clone(tensor));
        }
    }
    let mut input = plan.values.graph.input.clone();
    for input in &mut input {
        let level = plan.values.find(&input.name).map(|id| plan.values.all[id].level);
        let rows = if level == Some(Level::Request) { REQUESTS } else { CANDIDATES };
        let kind = input.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        if let Some(type_proto::Value::TensorType(kind)) = kind
            && let Some(first) = kind.shape.as_mut().and_then(|shape| shape.dim.first_mut())
        {
            first.value = Some(dimension::Value::DimParam(rows.to_owned()));
        }
    }
    input.push(value_info(REQUEST_OF, DataType::Int32, Some(CANDIDATES), &[]));
    Ok(GraphProto {
        node: nodes,
        initializer: constants,
        input,
        value_info: Vec::new(),
        quantization_annotation: Vec::new(),
        ..plan.values.graph.clone()
    })
}

struct Emitter<'p, 'v, 'g> {
    plan: &'p Plan<'v, 'g>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// Values added so far, so that each stands once.
    named: BTreeSet<String>,
    copied: HashSet<(usize, Level)>,
    /// Matrices of columns.
    joined: HashMap<(Level, Vec<Column>), String>,
}

impl Emitter<'_, '_, '_> {
    /// The name of a value with the rows of a level: its own stands for the candidates' rows, as it did
    /// in the plain graph, but for an input of the request.
    fn name(&self, (id, level): Job) -> String {
        let value = &self.plan.values.all[id];
        match (&value.made, level) {
            (Made::Input, level) if level == value.level => value.name.clone(),
            (Made::Input, _) => format!("{}/candidates", value.name),
            (_, Level::Request) => format!("{}/request", value.name),
            _ => value.name.clone(),
        }
    }

    fn emit(&mut self, job: Job, form: &Form) -> Result<(), SplitError> {
        let name = self.name(job);
        let (id, level) = job;
        match form {
            Form::Given => {}
            Form::Gathered { axis } => {
                let request = self.name((id, Level::Request));
                self.gather(&request, *axis, &name);
            }
            Form::Copy(index) => self.copy(*index, level),
            Form::Shape { of, node } => self.shape(*of, *node, level, &name),
            Form::Columns(columns) => {
                let matrix = self.matrix(columns, level);
                let dims = self.plan.values.all[id].trailing().to_vec();
                self.reshape(&matrix, &dims, &name);
            }
            Form::Half => self.half(id, level, &name)?,
            Form::Split(linear) => self.split(id, linear, &name),
        }
        Ok(())
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: &str, axis: Option<i64>) {
        let attributes = axis.map(|axis| int("axis", axis)).into_iter().collect();
        self.nodes.push(node(operator, inputs, output, attributes));
    }

    fn gather(&mut self, value: &str, axis: usize, output: &str) {
        self.push("Gather", &[value, REQUEST_OF], output, Some(axis as i64));
    }

    /// The value with these dimensions after its rows.
    fn reshape(&mut self, value: &str, dims: &[usize], output: &str) {
        let shape: Vec<i64> = std::iter::once(-1).chain(dims.iter().map(|dim| *dim as i64)).collect();
        let shape = self.integers(&shape);
        self.push("Reshape", &[value, &shape], output, None);
    }

    /// The node as it was, with the values of a level.
    fn copy(&mut self, index: usize, level: Level) {
        if !self.copied.insert((index, level)) {
            return;
        }
        let values = self.plan.values;
        let mut copy = values.graph.node[index].clone();
        for input in copy.input.iter_mut().filter(|name| !name.is_empty()) {
            if let Some(id) = values.find(input) {
                *input = self.name(self.plan.job(id, level));
            }
        }
        for output in copy.output.iter_mut().filter(|name| !name.is_empty()) {
            let job = values.find(output).map(|id| self.plan.job(id, level));
            match job.filter(|job| self.plan.is_copied(*job)) {
                Some(job) => *output = self.name(job),
                // Nobody wants it from here, and its name may belong to another.
                None => output.push_str(if level == Level::Request { "/request/unread" } else { "/unread" }),
            }
        }
        if level == Level::Request && !copy.name.is_empty() {
            copy.name.push_str("/request");
        }
        self.nodes.push(copy);
    }

    /// The shape of a value with the rows of a level.
    fn shape(&mut self, of: usize, index: usize, level: Level, output: &str) {
        let values = self.plan.values;
        let shape = &values.graph.node[index];
        let (dims, rows) = (&values.all[of].dims, values.all[of].rows);
        let rank = dims.len() as i64;
        let bound = |at: i64| if at < 0 { at + rank } else { at }.clamp(0, rank) as usize;
        let (start, end) =
            (bound(int_attribute(shape, "start", 0)), bound(int_attribute(shape, "end", rank)));
        let mut parts = Vec::new();
        for (axis, dim) in dims.iter().enumerate().take(end).skip(start) {
            parts.push(if Some(axis) == rows { self.rows(level) } else { self.integers(&[*dim as i64]) });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.push("Concat", &parts, output, Some(0));
    }

    /// The number of rows of a level, as a list of one.
    fn rows(&mut self, level: Level) -> String {
        let values = self.plan.values;
        let request =
            values.graph.input.iter().find(|input| {
                values.find(&input.name).is_some_and(|id| values.all[id].level == Level::Request)
            });
        let (of, name) = match request {
            Some(input) if level == Level::Request => (input.name.as_str(), "/split/requests"),
            _ => (REQUEST_OF, "/split/candidates"),
        };
        if self.named.insert(name.to_owned()) {
            let shape = format!("{name}/shape");
            let first = self.integers(&[0]);
            self.push("Shape", &[of], &shape, None);
            self.push("Gather", &[&shape, &first], name, Some(0));
        }
        name.to_owned()
    }

    /// The columns as a matrix, one row a row of the level; its name.
    fn matrix(&mut self, columns: &[Column], level: Level) -> String {
        let key = (level, columns.to_vec());
        if let Some(name) = self.joined.get(&key) {
            return name.clone();
        }
        let mut parts = Vec::new();
        let mut rest = columns;
        while let Some(first) = rest.first() {
            let follows = |(offset, column): (usize, &Column)| {
                *column == Column { source: first.source, index: first.index + offset }
            };
            let length =
                rest.iter().enumerate().take_while(|(offset, column)| follows((*offset, column))).count();
            parts.push(self.range(first.source, first.index, length, level));
            rest = &rest[length..];
        }
        let name = match parts.as_slice() {
            [only] => only.clone(),
            parts => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let name = format!("/split/columns/{}", self.joined.len());
                self.push("Concat", &parts, &name, Some(1));
                name
            }
        };
        self.joined.insert(key, name.clone());
        name
    }

    /// A range of a value's columns as a matrix.
    fn range(&mut self, source: usize, start: usize, length: usize, level: Level) -> String {
        let value = &self.plan.values.all[source];
        let mut name = self.name(self.plan.source(source, level));
        if value.dims.len() != 2 {
            let flat = format!("{name}/flat");
            if self.named.insert(flat.clone()) {
                self.push("Flatten", &[&name], &flat, Some(1));
            }
            name = flat;
        }
        if length == value.width() {
            return name;
        }
        let end = start + length;
        let part = format!("{name}[{start}:{end}]");
        if self.named.insert(part.clone()) {
            let (start, end) = (self.integers(&[start as i64]), self.integers(&[end as i64]));
            let axis = self.integers(&[1]);
            self.push("Slice", &[&name, &start, &end, &axis], &part, None);
        }
        part
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        let tensor = TensorProto {
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.constant(&format!("/split/integers/{}", text.join(",")), tensor)
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let tensor = TensorProto {
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.constant(name, tensor)
    }

    fn constant(&mut self, name: &str, tensor: TensorProto) -> String {
        if self.named.insert(name.to_owned()) {
            self.constants.push(TensorProto { name: name.to_owned(), ..tensor });
        }
        name.to_owned()
    }
}
