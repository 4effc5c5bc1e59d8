//! Computing a request once: values that depend on request-level inputs alone are given one row a
//! request and joined to the candidates as late as possible.
//!
//! The first layers of a ranking model multiply rows `[u; c]` that join both levels. Such a
//! product is split, `W·[u; c] + b = (Wu·u + b) + Wc·c`, with the first part at request level:
//! the weight's rows for `u` never meet the candidate rows. A join of both levels is therefore not
//! built where it stands, but kept as the list of its parts until an op needs it: a product takes
//! the parts of each level on their own, any other op gets the join with the request parts
//! repeated. The sum of a split product waits in the same way for its bias.

use std::collections::BTreeMap;

use crate::{ElementType, Graph, GraphError, Level, NodeId, Op};

use super::{copy_source, refuse};

/// Name of the input that gives each candidate row its request row.
pub const REQUEST_OF: &str = "request_of";

/// Gives the inputs that `is_request` names one row a request instead of one a candidate, and
/// with them everything that depends on no other input. The result has one more input,
/// [`REQUEST_OF`] (`i32 []` a candidate, after the other inputs), and its outputs stand at the
/// level they had. Where several requests share a call, row `r` of a request-level input belongs
/// to the candidates whose `request_of` is `r`.
///
/// Sums differ from the given graph's by rounding alone. Losses still count every candidate.
///
/// # Errors
/// When the graph has request-level inputs already, or the ops of a derivative (split the levels
/// first, then differentiate).
pub fn user_once(graph: &Graph, is_request: &dyn Fn(&str) -> bool) -> Result<Graph, GraphError> {
    for (index, node) in graph.nodes().iter().enumerate() {
        if node.fact.level == Level::Request || matches!(&node.op, Op::Input { name } if name == REQUEST_OF) {
            return Err(refuse("user-once", index, "the graph has request rows already".into()));
        }
        if matches!(node.op, Op::Gradient(_)) {
            let message = "the graph has derivatives; split its levels before it is differentiated";
            return Err(refuse("user-once", index, message.into()));
        }
    }

    let mut split = Splitter::start(graph, is_request);
    for index in 0..graph.nodes().len() {
        let value = split.translate(NodeId(index))?;
        split.values.push(value);
    }
    for (name, id) in graph.outputs() {
        let whole = split.whole(*id)?;
        let at_level = split.at(whole, graph.fact(*id).level)?;
        split.new.output(name, at_level);
    }
    split.new.check()?;
    Ok(split.new)
}

/// What a node of the old graph has become.
#[derive(Clone)]
enum Value {
    /// A node of the new graph.
    Whole(NodeId),
    /// A join of request and candidate rows that is not built yet: its parts in order.
    Joined(Vec<NodeId>),
    /// A sum of a request-level and a candidate-level value that is not built yet.
    Sum { request: NodeId, candidate: NodeId },
}

struct Splitter<'a> {
    old: &'a Graph,
    new: Graph,
    request_of: NodeId,
    /// The inputs at their new levels, by old node.
    inputs: BTreeMap<NodeId, NodeId>,
    /// What the old nodes so far have become.
    values: Vec<Value>,
    /// Nodes built so far for waiting values (by old node), repeated rows, joins and parts of
    /// weights, so that each is built once.
    built: BTreeMap<NodeId, NodeId>,
    expanded: BTreeMap<NodeId, NodeId>,
    joins: BTreeMap<Vec<NodeId>, NodeId>,
    slices: BTreeMap<(NodeId, Vec<(usize, usize)>), NodeId>,
}

impl<'a> Splitter<'a> {
    /// Declares every input at its new level, and `request_of` after them.
    fn start(old: &'a Graph, is_request: &dyn Fn(&str) -> bool) -> Self {
        let mut new = Graph::new();
        let mut inputs = BTreeMap::new();
        for (name, id) in old.inputs() {
            let mut fact = old.fact(id).clone();
            if fact.level == Level::Candidate && is_request(name) {
                fact.level = Level::Request;
            }
            inputs.insert(id, new.input(name, fact));
        }
        let request_of = new.input(REQUEST_OF, crate::Fact::i32(Level::Candidate, &[]));
        Self {
            old,
            new,
            request_of,
            inputs,
            values: Vec::with_capacity(old.nodes().len()),
            built: BTreeMap::new(),
            expanded: BTreeMap::new(),
            joins: BTreeMap::new(),
            slices: BTreeMap::new(),
        }
    }

    /// What a node of the old graph becomes; those it reads are there already.
    fn translate(&mut self, id: NodeId) -> Result<Value, GraphError> {
        let old = self.old;
        let node = old.node(id);
        if let Some(input) = self.inputs.get(&id) {
            return Ok(Value::Whole(*input));
        }
        if let Some(source) = copy_source(old, node, &mut self.new) {
            return Ok(Value::Whole(source));
        }
        match (&node.op, node.inputs.as_slice()) {
            (Op::Concat, parts) => self.concat(parts),
            (Op::MatMul, [x, weight]) => match self.value(*x) {
                Value::Joined(parts) => {
                    let weight = self.whole(*weight)?;
                    self.split_product(&parts, weight)
                }
                _ => self.any_op(id),
            },
            (Op::Add, [a, b]) => match (self.value(*a), self.value(*b)) {
                (Value::Sum { request, candidate }, Value::Whole(term))
                | (Value::Whole(term), Value::Sum { request, candidate })
                    if self.new.fact(term).level != Level::Candidate =>
                {
                    let request = self.new.apply(Op::Add, &[request, term])?;
                    Ok(Value::Sum { request, candidate })
                }
                _ => self.any_op(id),
            },
            _ => self.any_op(id),
        }
    }

    /// A join whose parts stand at one level is built; one of both levels waits.
    fn concat(&mut self, inputs: &[NodeId]) -> Result<Value, GraphError> {
        let mut parts = Vec::with_capacity(inputs.len());
        for input in inputs {
            match self.value(*input) {
                Value::Joined(inner) => parts.extend(inner),
                Value::Whole(_) | Value::Sum { .. } => parts.push(self.whole(*input)?),
            }
        }
        let first = self.new.fact(parts[0]).level;
        if parts.iter().all(|part| self.new.fact(*part).level == first) {
            return Ok(Value::Whole(self.join(&parts)?));
        }
        Ok(Value::Joined(parts))
    }

    /// `W·[u; c]` as `Wu·u` at request level and `Wc·c` at candidate level.
    fn split_product(&mut self, parts: &[NodeId], weight: NodeId) -> Result<Value, GraphError> {
        let mut half = |level: Level| {
            let mut columns = Vec::new();
            let mut ranges: Vec<(usize, usize)> = Vec::new();
            let mut start = 0;
            for part in parts {
                let fact = self.new.fact(*part);
                let end = start + fact.columns();
                if fact.level == level {
                    columns.push(*part);
                    match ranges.last_mut() {
                        Some(last) if last.1 == start => last.1 = end,
                        _ => ranges.push((start, end)),
                    }
                }
                start = end;
            }
            let rows = self.join(&columns)?;
            let weight = self.slice(weight, ranges)?;
            self.new.apply(Op::MatMul, &[rows, weight])
        };
        Ok(Value::Sum { request: half(Level::Request)?, candidate: half(Level::Candidate)? })
    }

    /// An op that needs its inputs as they are, at one level.
    fn any_op(&mut self, id: NodeId) -> Result<Value, GraphError> {
        let node = self.old.node(id);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            inputs.push(self.whole(*input)?);
        }
        let highest = inputs.iter().map(|input| self.new.fact(*input).level).max();
        // A reduction over rows, such as a loss, must count a request once for each candidate, and
        // dropout must zero candidates by their own rows.
        let of_candidates = node.fact.level == Level::Constant || matches!(node.op, Op::Dropout { .. });
        let level = if of_candidates { Level::Candidate } else { highest.unwrap_or(Level::Constant) };
        for input in &mut inputs {
            *input = self.at(*input, level)?;
        }
        Ok(Value::Whole(self.new.apply(node.op.clone(), &inputs)?))
    }

    fn value(&self, id: NodeId) -> Value {
        self.values[id.0].clone()
    }

    /// The value of an old node as one node of the new graph.
    fn whole(&mut self, id: NodeId) -> Result<NodeId, GraphError> {
        if let Some(built) = self.built.get(&id) {
            return Ok(*built);
        }
        let built = match self.value(id) {
            Value::Whole(node) => return Ok(node),
            Value::Sum { request, candidate } => {
                let request = self.at(request, Level::Candidate)?;
                self.new.apply(Op::Add, &[candidate, request])?
            }
            Value::Joined(parts) => {
                let mut runs = Vec::new();
                let level = |graph: &Graph, part: &NodeId| graph.fact(*part).level;
                let new = &self.new;
                let grouped: Vec<Vec<NodeId>> =
                    parts.chunk_by(|a, b| level(new, a) == level(new, b)).map(<[NodeId]>::to_vec).collect();
                for run in grouped {
                    let run = self.join(&run)?;
                    runs.push(self.at(run, Level::Candidate)?);
                }
                self.join(&runs)?
            }
        };
        self.built.insert(id, built);
        Ok(built)
    }

    /// Repeats request rows where candidate rows are wanted.
    fn at(&mut self, node: NodeId, level: Level) -> Result<NodeId, GraphError> {
        if self.new.fact(node).level != Level::Request || level != Level::Candidate {
            return Ok(node);
        }
        if let Some(expanded) = self.expanded.get(&node) {
            return Ok(*expanded);
        }
        if self.new.fact(node).element == ElementType::I32 {
            let message = "codes of the request cannot be repeated for candidates: pool the sequence, or take \
                           its rows, before anything of a candidate meets them";
            return Err(refuse("user-once", node.0, message.into()));
        }
        let expanded = self.new.apply(Op::Expand, &[node, self.request_of])?;
        self.expanded.insert(node, expanded);
        Ok(expanded)
    }

    /// Parts of one level end to end.
    fn join(&mut self, parts: &[NodeId]) -> Result<NodeId, GraphError> {
        if let [part] = parts
            && !self.new.fact(*part).dims.is_empty()
        {
            return Ok(*part);
        }
        if let Some(join) = self.joins.get(parts) {
            return Ok(*join);
        }
        let join = self.new.apply(Op::Concat, parts)?;
        self.joins.insert(parts.to_vec(), join);
        Ok(join)
    }

    /// Rows of a weight.
    fn slice(&mut self, weight: NodeId, ranges: Vec<(usize, usize)>) -> Result<NodeId, GraphError> {
        let key = (weight, ranges);
        if let Some(slice) = self.slices.get(&key) {
            return Ok(*slice);
        }
        let slice = self.new.apply(Op::SliceRows { ranges: key.1.clone() }, &[weight])?;
        self.slices.insert(key, slice);
        Ok(slice)
    }
}
