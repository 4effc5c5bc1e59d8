//! What a kernel sees: the values of some rows.

use gatefold_graph::{Level, NodeId};

use crate::{
    input::{InputValue, RowCounts},
    kernel,
    parameters::Parameters,
    plan::{Place, Plan, Stage, Step, Value},
};

/// Everything that a stage only reads.
pub(crate) struct Environment<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) parameters: &'a Parameters,
    pub(crate) inputs: &'a [InputValue<'a>],
    /// Those that the stage writes are not here.
    pub(crate) buffers: &'a [&'a [f32]],
    pub(crate) counts: RowCounts,
}

impl Environment<'_> {
    pub(crate) fn value(&self, node: NodeId) -> &Value {
        &self.plan.values[node.0]
    }

    /// A float value, all rows, that this stage does not write.
    pub(crate) fn f32(&self, node: NodeId) -> &[f32] {
        let value = self.value(node);
        let len = self.counts.of(value.fact.level) * value.row_len;
        match value.place {
            Place::Input(input) => self.inputs[input].f32(),
            Place::Parameter(parameter) => self.parameters.get(parameter),
            Place::Buffer(buffer) => &self.buffers[buffer][..len],
            Place::Scratch(_) | Place::Nowhere => unreachable!("node {} has no value for all rows", node.0),
        }
    }

    /// An integer value, all rows: always an input.
    fn i32(&self, node: NodeId) -> &[i32] {
        match self.value(node).place {
            Place::Input(input) => self.inputs[input].i32(),
            _ => unreachable!("node {} is not an integer input", node.0),
        }
    }
}

/// The rows `first..first + count` of a stage's level while the steps of the stage run on them;
/// at constant level the one "row" of a constant.
pub(crate) struct Context<'a> {
    environment: &'a Environment<'a>,
    stage: &'a Stage,
    first: usize,
    count: usize,
    /// These rows of the buffers that the stage writes, in the order of [`Stage::writes`].
    outputs: Vec<Option<&'a mut [f32]>>,
    scratch: Vec<&'a mut [f32]>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        environment: &'a Environment<'a>,
        stage: &'a Stage,
        first: usize,
        count: usize,
        outputs: Vec<&'a mut [f32]>,
        scratch: Vec<&'a mut [f32]>,
    ) -> Self {
        let outputs = outputs.into_iter().map(Some).collect();
        Self { environment, stage, first, count, outputs, scratch }
    }

    /// Runs a step on these rows. Its result is taken out of the context meanwhile, which proves
    /// that no step writes what it reads.
    pub(crate) fn run(&mut self, step: &Step) {
        let value = self.environment.value(step.output);
        let len = self.count * value.row_len;
        match value.place {
            Place::Scratch(slot) => {
                let memory = std::mem::take(&mut self.scratch[slot]);
                kernel::run(step, self, &mut memory[..len]);
                self.scratch[slot] = memory;
            }
            Place::Buffer(buffer) => {
                let place = self.written(buffer);
                if let Some(memory) = place.and_then(|place| self.outputs[place].take()) {
                    kernel::run(step, self, &mut memory[..len]);
                    if let Some(place) = place {
                        self.outputs[place] = Some(memory);
                    }
                }
            }
            Place::Input(_) | Place::Parameter(_) | Place::Nowhere => {
                unreachable!("node {} is not computed", step.output.0)
            }
        }
    }

    /// Elements a row of a value.
    pub(crate) fn row_len(&self, node: NodeId) -> usize {
        self.environment.value(node).row_len
    }

    /// Columns of a matrix or of rows.
    pub(crate) fn columns(&self, node: NodeId) -> usize {
        self.environment.value(node).fact.columns()
    }

    /// A float value: these rows of it if it stands at the stage's level, else the whole of it.
    pub(crate) fn f32(&self, node: NodeId) -> &[f32] {
        let value = self.environment.value(node);
        let len = self.count * value.row_len;
        match value.place {
            Place::Scratch(slot) => &self.scratch[slot][..len],
            Place::Buffer(buffer) if self.written(buffer).is_some() => {
                let output = self.written(buffer).and_then(|place| self.outputs[place].as_deref());
                &output.unwrap_or_else(|| unreachable!("node {} is being written", node.0))[..len]
            }
            _ => self.part(value, self.environment.f32(node)),
        }
    }

    /// An integer value: these rows if it stands at the stage's level, else the whole of it.
    pub(crate) fn i32(&self, node: NodeId) -> &[i32] {
        self.part(self.environment.value(node), self.environment.i32(node))
    }

    /// The rows of this context.
    pub(crate) fn rows(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// Rows of the stage's level in the whole batch.
    pub(crate) fn total_rows(&self) -> usize {
        self.environment.counts.of(self.stage.level)
    }

    fn part<'b, T>(&self, value: &Value, all: &'b [T]) -> &'b [T] {
        if value.fact.level == self.stage.level && value.fact.level != Level::Constant {
            &all[self.first * value.row_len..(self.first + self.count) * value.row_len]
        } else {
            all
        }
    }

    /// The place among the outputs of a buffer that this stage writes.
    fn written(&self, buffer: usize) -> Option<usize> {
        self.stage.writes.iter().position(|write| write.buffer == buffer)
    }
}
