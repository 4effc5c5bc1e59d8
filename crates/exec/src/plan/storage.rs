//! Gives every value a place: scratch of a thread where only its own stage reads it, else a
//! buffer that it shares with values of other lifetimes.

use gatefold_graph::{Level, NodeId};

use super::{Buffer, Place, Stage, Value, Write};

/// All memory that a plan needs.
pub(super) struct Storage {
    pub(super) buffers: Vec<Buffer>,
    /// Elements a row of each scratch slot.
    pub(super) scratch: Vec<usize>,
}

/// Sets the place of every computed value, and [`Stage::writes`].
pub(super) fn place(stages: &mut [Stage], targets: &[NodeId], values: &mut [Value]) -> Storage {
    let last_stage = last_stages(stages, targets, values.len());
    let mut storage = Storage { buffers: Vec::new(), scratch: Vec::new() };
    let mut free: Vec<usize> = Vec::new();
    for (index, stage) in stages.iter_mut().enumerate() {
        let is_local = |value: NodeId| stage.level != Level::Constant && last_stage[value.0] == index;
        let mut writes = Vec::new();
        for step in stage.steps.iter().filter(|step| !is_local(step.output)) {
            let value = &mut values[step.output.0];
            let buffer = storage.take_buffer(&mut free, stage.level, value.row_len);
            value.place = Place::Buffer(buffer);
            writes.push(Write { buffer, row_len: value.row_len });
        }
        storage.place_local(stage, &is_local, values);
        stage.writes = writes;
        // Free for later stages only: within this one, chunks are at different steps.
        for (value, last) in values.iter().zip(&last_stage) {
            if let Place::Buffer(buffer) = value.place
                && *last == index
            {
                free.push(buffer);
            }
        }
    }
    storage
}

/// The last stage that reads each value; past the end for targets.
fn last_stages(stages: &[Stage], targets: &[NodeId], values: usize) -> Vec<usize> {
    let mut last = vec![0; values];
    for (index, stage) in stages.iter().enumerate() {
        for step in &stage.steps {
            step.inputs.iter().for_each(|input| last[input.0] = index);
        }
    }
    targets.iter().for_each(|target| last[target.0] = stages.len());
    last
}

impl Storage {
    /// The free buffer of the level that fits best, or a new one.
    fn take_buffer(&mut self, free: &mut Vec<usize>, level: Level, row_len: usize) -> usize {
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, buffer)| self.buffers[**buffer].level == level)
            .min_by_key(|(_, buffer)| self.buffers[**buffer].row_len.abs_diff(row_len))
            .map(|(place, _)| place);
        let Some(place) = best else {
            self.buffers.push(Buffer { level, row_len });
            return self.buffers.len() - 1;
        };
        let buffer = free.swap_remove(place);
        self.buffers[buffer].row_len = self.buffers[buffer].row_len.max(row_len);
        buffer
    }

    /// Gives the values that live within one stage a slot from the step that writes them to the
    /// last step that reads them.
    fn place_local(&mut self, stage: &Stage, is_local: &dyn Fn(NodeId) -> bool, values: &mut [Value]) {
        let mut free: Vec<usize> = (0..self.scratch.len()).collect();
        for (index, step) in stage.steps.iter().enumerate() {
            if is_local(step.output) {
                let row_len = values[step.output.0].row_len;
                let best = (0..free.len()).min_by_key(|place| self.scratch[free[*place]].abs_diff(row_len));
                let slot = match best {
                    Some(place) => free.swap_remove(place),
                    None => {
                        self.scratch.push(0);
                        self.scratch.len() - 1
                    }
                };
                self.scratch[slot] = self.scratch[slot].max(row_len);
                values[step.output.0].place = Place::Scratch(slot);
            }
            // The slot of this step's result is taken before those of its inputs are given back,
            // so that a step never writes what it reads.
            let later = &stage.steps[index + 1..];
            let mut done: Vec<NodeId> = step.inputs.clone();
            done.sort_unstable();
            done.dedup();
            for input in done {
                let is_read_later = later.iter().any(|step| step.inputs.contains(&input));
                if let Place::Scratch(slot) = values[input.0].place
                    && !is_read_later
                {
                    free.push(slot);
                }
            }
        }
    }
}
