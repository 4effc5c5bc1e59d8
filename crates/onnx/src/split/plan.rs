//! Which values are needed at which level, and how each comes about there.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use gatefold_proto::onnx::NodeProto;

use super::{
    SplitError,
    linear::{Linear, linear},
    values::{Column, Level, Made, Values},
};
use crate::foreign::graph::{int_attribute, is};

/// A value with the rows of a level.
pub(super) type Job = (usize, Level);

/// How a value comes about at a level.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// It is an input or a constant.
    Given,
    /// Its node, with what it reads at the same level.
    Copy(usize),
    /// The shape of a value, from the number of rows.
    Shape { of: usize, node: usize },
    /// The request's rows, gathered to the candidates along an axis.
    Gathered { axis: usize },
    /// Columns of other values, put together.
    Columns(Rc<[Column]>),
    /// The columns of one level of what a node makes column by column.
    Half,
    /// A linear layer of both levels.
    Split(Rc<Linear>),
}

/// What has to be computed, each after what it needs.
pub(super) struct Plan<'v, 'g> {
    pub(super) values: &'v Values<'g>,
    pub(super) jobs: Vec<(Job, Form)>,
    forms: HashMap<Job, usize>,
}

impl<'v, 'g> Plan<'v, 'g> {
    /// The plan for the graph's outputs at candidate level.
    pub(super) fn of(values: &'v Values<'g>) -> Result<Self, SplitError> {
        let mut plan = Self { values, jobs: Vec::new(), forms: HashMap::new() };
        let outputs = values.graph.output.iter().filter_map(|output| values.find(&output.name));
        // A job is on the list twice: before and after what it needs.
        let mut open: Vec<(Job, Option<Form>)> =
            outputs.map(|id| (plan.job(id, Level::Candidate), None)).collect();
        let mut seen: HashSet<Job> = HashSet::new();
        while let Some((job, form)) = open.pop() {
            match form {
                Some(form) => {
                    plan.forms.insert(job, plan.jobs.len());
                    plan.jobs.push((job, form));
                }
                None if seen.insert(job) => {
                    let form = plan.form(job)?;
                    let needs = plan.needs(job, &form);
                    open.push((job, Some(form)));
                    open.extend(
                        needs.into_iter().filter(|need| !seen.contains(need)).map(|need| (need, None)),
                    );
                }
                None => {}
            }
        }
        Ok(plan)
    }

    /// The value at `level`, or as what it is at any.
    pub(super) fn job(&self, id: usize, level: Level) -> Job {
        match self.values.all[id].level {
            Level::Constant => (id, Level::Constant),
            _ => (id, level),
        }
    }

    /// Whether the job is part of the plan, by its node.
    pub(super) fn is_copied(&self, job: Job) -> bool {
        self.forms.get(&job).is_some_and(|place| matches!(self.jobs[*place].1, Form::Copy(_)))
    }

    /// The value that a source of columns is read as at `level`.
    pub(super) fn source(&self, source: usize, level: Level) -> Job {
        self.job(source, level)
    }

    fn form(&self, (id, level): Job) -> Result<Form, SplitError> {
        let values = self.values;
        let value = &values.all[id];
        let index = match &value.made {
            Made::Constant(_) => return Ok(Form::Given),
            Made::Input if value.level == level => return Ok(Form::Given),
            Made::Input => return Ok(Form::Gathered { axis: 0 }),
            Made::Half { .. } if value.level == level => return Ok(Form::Half),
            Made::Half { .. } => return Ok(Form::Gathered { axis: 0 }),
            Made::Node(index) => *index,
        };
        let node = &values.graph.node[index];
        if value.level == Level::Size && is(node, "Shape") {
            let of = values.input(node, 0).filter(|of| values.all[*of].rows.is_some());
            return Ok(of.map_or(Form::Copy(index), |of| Form::Shape { of, node: index }));
        }
        if value.level == Level::Request && level == Level::Candidate {
            // Without rows of its own it is computed once more, from what has some.
            return Ok(value.rows.map_or(Form::Copy(index), |axis| Form::Gathered { axis }));
        }
        if let Some(linear) = linear(values, id)? {
            return Ok(Form::Split(Rc::new(linear)));
        }
        if let Some(columns) = &value.columns
            && columns.first().is_none_or(|column| column.source != id)
            && !values.is_mixed(id)
            && values.inputs(node).any(|input| values.is_mixed(input))
        {
            return Ok(Form::Columns(columns.clone()));
        }
        Ok(Form::Copy(index))
    }

    /// What a job needs first.
    fn needs(&self, (id, level): Job, form: &Form) -> Vec<Job> {
        let values = self.values;
        let columns = |columns: &[Column], level: Level| -> Vec<Job> {
            let mut sources: Vec<usize> = columns.iter().map(|column| column.source).collect();
            sources.dedup();
            sources.into_iter().map(|source| self.source(source, level)).collect()
        };
        match form {
            Form::Given | Form::Shape { .. } => Vec::new(),
            Form::Gathered { .. } => vec![(id, Level::Request)],
            Form::Copy(node) => {
                values.inputs(&values.graph.node[*node]).map(|input| self.job(input, level)).collect()
            }
            Form::Columns(found) => columns(found, level),
            Form::Half => match &values.all[id].made {
                Made::Half { node, columns: found, .. } => {
                    let node = &values.graph.node[*node];
                    let constants = values.inputs(node).filter(|input| values.all[*input].tensor().is_some());
                    let constants = constants.map(|input| (input, Level::Constant));
                    columns(found, level).into_iter().chain(constants).collect()
                }
                _ => Vec::new(),
            },
            Form::Split(linear) => {
                let found = values.all[linear.x].columns.clone().unwrap_or_default();
                let (candidate, request) = self.by_level(&found);
                let mut needs = columns(&request, Level::Request);
                needs.extend(columns(&candidate, Level::Candidate));
                needs
            }
        }
    }

    /// The candidate's columns and the request's.
    pub(super) fn by_level(&self, columns: &[Column]) -> (Vec<Column>, Vec<Column>) {
        let candidate = |column: &Column| self.values.all[column.source].level == Level::Candidate;
        columns.iter().copied().partition(candidate)
    }

    /// Share of the multiply-adds that is at request level, and where the levels meet first otherwise
    /// than in a split layer.
    pub(super) fn share(&self) -> (f64, Option<String>) {
        let values = self.values;
        let (mut moved, mut left) = (0.0, 0.0);
        let mut meeting = None;
        for ((id, level), form) in &self.jobs {
            match form {
                Form::Copy(index) => {
                    let node = &values.graph.node[*index];
                    let work = multiply_adds(values, node, *id);
                    if *level == Level::Request {
                        moved += work
                    } else {
                        left += work
                    }
                    if *level == Level::Candidate && values.all[*id].level == Level::Candidate {
                        meeting = meeting.or_else(|| self.meeting(node));
                    }
                }
                Form::Split(linear) => {
                    let columns = values.all[linear.x].columns.clone().unwrap_or_default();
                    let (candidate, request) = self.by_level(&columns);
                    moved += (request.len() * linear.outputs) as f64;
                    left += (candidate.len() * linear.outputs) as f64;
                }
                _ => {}
            }
        }
        let all = moved + left;
        (if all > 0.0 { moved / all } else { 0.0 }, meeting)
    }

    /// How a node reads the request's values beside a candidate's, where it does.
    fn meeting(&self, node: &NodeProto) -> Option<String> {
        let values = self.values;
        let of = |level| values.inputs(node).find(|input| values.all[*input].level == level);
        let (request, candidate) = (of(Level::Request)?, of(Level::Candidate)?);
        Some(format!(
            "{} '{}' reads '{}' of the request together with '{}' of the candidate",
            node.op_type, node.name, values.all[request].name, values.all[candidate].name
        ))
    }
}

/// Multiply-adds of a node for one row; 0 for what is no product.
fn multiply_adds(values: &Values<'_>, node: &NodeProto, result: usize) -> f64 {
    let Some(first) = values.input(node, 0) else { return 0.0 };
    let (dims, width) = (&values.all[first].dims, values.all[result].width() as f64);
    let weights = |places: [usize; 2]| -> f64 {
        let found = places.iter().filter_map(|place| values.input(node, *place));
        found.map(|id| values.all[id].dims.iter().product::<usize>() as f64).sum()
    };
    match node.op_type.as_str() {
        "Gemm" => {
            let inner = if int_attribute(node, "transA", 0) == 0 { dims.last() } else { dims.first() };
            width * inner.copied().unwrap_or(0) as f64
        }
        "MatMul" => width * dims.last().copied().unwrap_or(0) as f64,
        // Steps of a recurrent layer come first, then rows.
        "GRU" | "LSTM" | "RNN" => weights([1, 2]) * dims.first().copied().unwrap_or(0) as f64,
        _ => 0.0,
    }
}
