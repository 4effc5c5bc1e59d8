//! What every value of a graph is: its level, its rows, and the columns it is made of.

use std::{collections::HashMap, path::Path, rc::Rc};

use gatefold_proto::onnx::{GraphProto, NodeProto, TensorProto, tensor_shape_proto::dimension, type_proto};

use super::{
    Observed, PROBE_ROWS, SplitError,
    columns::{self, Columnwise},
};
use crate::foreign::graph::{inner_graphs, is};

/// What a value depends on, each level including the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Level {
    /// Nothing.
    Constant,
    /// The number of rows.
    Size,
    /// The request.
    Request,
    /// The candidate.
    Candidate,
}

/// One column of a value: the numbers at a place of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Column {
    /// The value that it is a column of.
    pub(super) source: usize,
    /// Its place in a row of that value.
    pub(super) index: usize,
}

/// How a value comes about.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// An input of the graph.
    Input,
    /// A constant: of the file, or observed.
    Constant(Rc<TensorProto>),
    /// The result of a node.
    Node(usize),
    /// The columns of one level of a value that `node` makes column by column from `columns`.
    Half { node: usize, how: Columnwise, columns: Rc<[Column]> },
}

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) level: Level,
    pub(super) made: Made,
    /// Dimensions with the first number of rows.
    pub(super) dims: Vec<usize>,
    /// The dimension that is rows, where there is exactly one and the others are fixed.
    pub(super) rows: Option<usize>,
    /// What a row consists of, where rows come first: columns of values that are not made of others'.
    pub(super) columns: Option<Rc<[Column]>>,
}

impl Value {
    /// Numbers in a row.
    pub(super) fn width(&self) -> usize {
        let fixed = self.dims.iter().enumerate().filter(|(axis, _)| Some(*axis) != self.rows);
        fixed.map(|(_, dim)| dim).product()
    }

    /// Dimensions after the rows, where those come first.
    pub(super) fn trailing(&self) -> &[usize] {
        self.dims.get(1..).unwrap_or_default()
    }

    /// The constant's tensor.
    pub(super) fn tensor(&self) -> Option<&Rc<TensorProto>> {
        match &self.made {
            Made::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// More columns than this are not followed.
const MOST_COLUMNS: usize = 1 << 18;

/// The values of a graph.
pub(super) struct Values<'g> {
    pub(super) graph: &'g GraphProto,
    pub(super) folder: &'g Path,
    pub(super) all: Vec<Value>,
    index: HashMap<&'g str, usize>,
    /// Reads of each value by nodes and as output.
    uses: HashMap<&'g str, usize>,
}

impl<'g> Values<'g> {
    pub(super) fn of(
        graph: &'g GraphProto,
        folder: &'g Path,
        is_request: &dyn Fn(&str) -> bool,
        observed: &Observed,
    ) -> Result<Self, SplitError> {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        let outputs = graph.output.iter().map(|output| output.name.as_str());
        for name in graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).chain(outputs) {
            *uses.entry(name).or_default() += 1;
        }
        let mut values = Self { graph, folder, all: Vec::new(), index: HashMap::new(), uses };
        for tensor in &graph.initializer {
            let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
            let made = Made::Constant(Rc::new(tensor.clone()));
            values.add(&tensor.name, Level::Constant, made, dims, None);
        }
        for input in &graph.input {
            let level = if is_request(&input.name) { Level::Request } else { Level::Candidate };
            let id = values.add(&input.name, level, Made::Input, input_dims(input), Some(0));
            values.own_columns(id);
        }
        for index in 0..graph.node.len() {
            values.add_results(index, observed)?;
        }
        Ok(values)
    }

    fn add(
        &mut self,
        name: &'g str,
        level: Level,
        made: Made,
        dims: Vec<usize>,
        rows: Option<usize>,
    ) -> usize {
        let id = self.all.len();
        self.all.push(Value { name: name.to_owned(), level, made, dims, rows, columns: None });
        self.index.insert(name, id);
        id
    }

    /// The value is its own columns.
    fn own_columns(&mut self, id: usize) {
        let value = &mut self.all[id];
        let width = value.width();
        if value.rows == Some(0) && width <= MOST_COLUMNS {
            value.columns = Some((0..width).map(|index| Column { source: id, index }).collect());
        }
    }

    fn add_results(&mut self, index: usize, observed: &Observed) -> Result<(), SplitError> {
        let graph = self.graph;
        let node = &graph.node[index];
        let depends = self.inputs(node).map(|id| self.all[id].level).max().unwrap_or(Level::Constant);
        for (place, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let mut level =
                if is(node, "Shape") || is(node, "Size") { depends.min(Level::Size) } else { depends };
            if let (true, Some(tensor)) = (level <= Level::Size, observed.constants.get(name)) {
                let dims = tensor.dims.iter().map(|dim| *dim as usize).collect();
                let tensor = TensorProto { name: name.clone(), ..tensor.clone() };
                self.add(name, Level::Constant, Made::Constant(Rc::new(tensor)), dims, None);
                continue;
            }
            if inner_graphs(node).next().is_some() {
                let (node, operator) = (node.name.clone(), node.op_type.clone());
                return Err(SplitError::InnerGraph { node, operator });
            }
            let Some([first, second]) = observed.dims.get(name) else {
                return Err(SplitError::NotObserved { value: name.clone() });
            };
            let rows = rows(first, second);
            let moved = if rows == Some(0) { columns::moved(self, node, place, &first[1..]) } else { None };
            if let Some(columns) = &moved {
                level = columns.iter().map(|column| self.all[column.source].level).max().unwrap_or(level);
            }
            let id = self.add(name, level, Made::Node(index), first.clone(), rows);
            match moved {
                Some(columns) => self.all[id].columns = Some(columns.into()),
                None => self.own_columns(id),
            }
            if rows == Some(0) && place == 0 {
                self.divide(id, index);
            }
        }
        Ok(())
    }

    /// Where the node treats each column of a join of both levels by itself, its result is a join of the
    /// two levels' results.
    fn divide(&mut self, id: usize, index: usize) {
        let node = &self.graph.node[index];
        let Some((data, how)) = columns::columnwise(self, node, id) else { return };
        let Some(columns) = self.all[data].columns.clone().filter(|_| self.is_mixed(data)) else { return };
        let each = how.each();
        let mut result = vec![Column { source: 0, index: 0 }; columns.len() * each];
        for level in [Level::Request, Level::Candidate] {
            let places: Vec<usize> = (0..columns.len())
                .filter(|place| {
                    (self.all[columns[*place].source].level == Level::Candidate)
                        == (level == Level::Candidate)
                })
                .collect();
            let half: Rc<[Column]> = places.iter().map(|place| columns[*place]).collect();
            let source = self.all.len();
            let part = if level == Level::Request { "request" } else { "candidate" };
            self.all.push(Value {
                name: format!("{}/{part} part", self.all[id].name),
                level,
                dims: vec![PROBE_ROWS[0], half.len() * each],
                rows: Some(0),
                made: Made::Half { node: index, how: how.of(&places), columns: half },
                columns: None,
            });
            self.own_columns(source);
            for (position, place) in places.iter().enumerate() {
                for offset in 0..each {
                    result[place * each + offset] = Column { source, index: position * each + offset };
                }
            }
        }
        self.all[id].columns = Some(result.into());
    }

    /// The value called `name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// The value that a node reads at a place, where it reads one.
    pub(super) fn input(&self, node: &NodeProto, place: usize) -> Option<usize> {
        node.input.get(place).and_then(|name| self.find(name))
    }

    /// All values that a node reads.
    pub(super) fn inputs<'a>(&'a self, node: &'a NodeProto) -> impl Iterator<Item = usize> + 'a {
        node.input.iter().filter_map(|name| self.find(name))
    }

    /// How often a value is read.
    pub(super) fn uses(&self, id: usize) -> usize {
        self.uses.get(self.all[id].name.as_str()).copied().unwrap_or(0)
    }

    /// Whether some of a value's columns are the request's and some the candidate's.
    pub(super) fn is_mixed(&self, id: usize) -> bool {
        let Some(columns) = &self.all[id].columns else { return false };
        let candidate = |column: &&Column| self.all[column.source].level == Level::Candidate;
        let count = columns.iter().filter(candidate).count();
        0 < count && count < columns.len()
    }
}

/// The dimension that is rows, where there is exactly one and the others are fixed.
fn rows(first: &[usize], second: &[usize]) -> Option<usize> {
    let mut rows = None;
    if first.len() != second.len() {
        return None;
    }
    for (axis, dims) in first.iter().zip(second).enumerate() {
        if dims.0 == dims.1 {
            continue;
        }
        if [*dims.0, *dims.1] != PROBE_ROWS || rows.is_some() {
            return None;
        }
        rows = Some(axis);
    }
    rows
}

/// An input's dimensions: rows, then what the file says.
fn input_dims(input: &gatefold_proto::onnx::ValueInfoProto) -> Vec<usize> {
    let shape = match input.r#type.as_ref().and_then(|found| found.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
        _ => None,
    };
    let dims = shape.map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let dims = dims.iter().map(|dim| match dim.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(size).unwrap_or(0),
        _ => PROBE_ROWS[0],
    });
    dims.collect()
}
