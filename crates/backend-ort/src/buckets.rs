//! Runs batches of ever different sizes in few shapes, through buffers that stay.
//!
//! A GPU's first run of a shape is slow: memory is looked for and planned. So the rows of every input
//! are padded to a bucket, and every combination of buckets has its buffers, in host memory that the
//! device reads and writes by itself. Padding rows are zeros, which every graph takes (the code of
//! padding, the first request); what they score is left out.

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::Tensor,
};

use crate::{Device, bind::Outlet, rows::Rows};

/// Combinations of buckets that have buffers at once; beyond it all begin anew.
const KEPT: usize = 128;

/// The buffers of one session.
pub(crate) struct Buckets {
    /// Of memory that both the processor and the device reach.
    memory: MemoryInfo<'static>,
    kept: Vec<Bound>,
}

/// Buffers for batches whose inputs have so many rows, bound to the outputs asked for.
struct Bound {
    /// Rows of each input.
    rows: Vec<usize>,
    outputs: Vec<usize>,
    inputs: Vec<Buffer>,
    /// One an output, in the order of `outputs`, with its values a candidate.
    scores: Vec<(Tensor<f32>, usize)>,
    binding: IoBinding,
}

enum Buffer {
    Codes(Tensor<i32>),
    Numbers(Tensor<f32>),
}

impl Buckets {
    /// For a session on `device`.
    pub(crate) fn new(device: Device) -> Result<Buckets, ort::Error> {
        let (memory, number) = match device {
            Device::Cpu => (AllocationDevice::CPU, 0),
            Device::Cuda(number) => (AllocationDevice::CUDA_PINNED, number.into()),
        };
        let memory = MemoryInfo::new(memory, number, AllocatorType::Device, MemoryType::CPUInput)?;
        Ok(Buckets { memory, kept: Vec::new() })
    }

    /// Runs one batch; the values of the first `candidates` of each output. `inputs` are in the session's
    /// order.
    pub(crate) fn run(
        &mut self,
        session: &mut Session,
        inputs: &[Rows<'_>],
        candidates: usize,
        outputs: &[usize],
        outlets: &[Outlet],
    ) -> Result<Vec<Vec<f32>>, ort::Error> {
        let rows: Vec<usize> = inputs.iter().map(|input| bucket(input.count())).collect();
        let fits = |bound: &Bound| bound.rows == rows && bound.outputs == outputs;
        let place = match self.kept.iter().position(fits) {
            Some(place) => place,
            None => {
                if self.kept.len() == KEPT {
                    self.kept.clear();
                }
                let allocator = Allocator::new(session, self.memory.to_owned())?;
                self.kept.push(Bound::new(
                    session,
                    &allocator,
                    inputs,
                    rows,
                    bucket(candidates),
                    outputs,
                    outlets,
                )?);
                self.kept.len() - 1
            }
        };
        self.kept[place].run(session, inputs, candidates)
    }
}

impl Bound {
    fn new(
        session: &Session,
        allocator: &Allocator,
        inputs: &[Rows<'_>],
        rows: Vec<usize>,
        candidates: usize,
        outputs: &[usize],
        outlets: &[Outlet],
    ) -> Result<Bound, ort::Error> {
        let mut binding = session.create_binding()?;
        let buffer = |(input, rows): (&Rows<'_>, &usize)| -> Result<Buffer, ort::Error> {
            let dims = input.dims(*rows);
            Ok(match input {
                Rows::Codes { .. } => Buffer::Codes(Tensor::new(allocator, dims)?),
                Rows::Numbers(_) => Buffer::Numbers(Tensor::new(allocator, dims)?),
            })
        };
        let inputs = inputs.iter().zip(&rows).map(buffer).collect::<Result<_, _>>()?;
        let mut scores = Vec::new();
        for output in outputs {
            let outlet = &outlets[*output];
            let mut values = Tensor::new(allocator, outlet.dims(candidates))?;
            binding.bind_output(&outlet.name, &mut values)?;
            scores.push((values, outlet.width()));
        }
        Ok(Bound { rows, outputs: outputs.to_vec(), inputs, scores, binding })
    }

    fn run(
        &mut self,
        session: &mut Session,
        inputs: &[Rows<'_>],
        candidates: usize,
    ) -> Result<Vec<Vec<f32>>, ort::Error> {
        for ((buffer, input), outlet) in self.inputs.iter_mut().zip(inputs).zip(session.inputs()) {
            // Binding is what copies to the device: without it the values of the last batch stay.
            match (buffer, input) {
                (Buffer::Codes(tensor), Rows::Codes { data, .. }) => {
                    fill(tensor.extract_tensor_mut().1, data);
                    self.binding.bind_input(outlet.name(), tensor)?;
                }
                (Buffer::Numbers(tensor), Rows::Numbers(data)) => {
                    fill(tensor.extract_tensor_mut().1, data);
                    self.binding.bind_input(outlet.name(), tensor)?;
                }
                _ => return Err(ort::Error::new(format!("input '{}' has changed its type", outlet.name()))),
            }
        }
        session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        let scores = self.scores.iter();
        Ok(scores.map(|(values, width)| values.extract_tensor().1[..candidates * width].to_vec()).collect())
    }
}

/// `values` and zeros after them.
fn fill<T: Copy + Default>(buffer: &mut [T], values: &[T]) {
    let (filled, padding) = buffer.split_at_mut(values.len());
    filled.copy_from_slice(values);
    padding.fill(T::default());
}

/// Rows that `rows` are padded to: four sizes between a power of two and the next, so that at most a
/// fourth more is computed.
fn bucket(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 8).max(1);
    rows.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_and_near() {
        let sizes: Vec<usize> = (1..=18).map(bucket).collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 12, 12, 14, 14, 16, 16, 20, 20]);
        assert_eq!([bucket(200), bucket(513), bucket(1000), bucket(10_000)], [224, 640, 1024, 10_240]);
        let all: std::collections::BTreeSet<usize> = (1..=1024).map(bucket).collect();
        assert_eq!(all.len(), 36);
        assert!((1..=10_000).all(|rows| (rows..=rows + rows / 4).contains(&bucket(rows))));
    }

    #[test]
    fn what_the_last_batch_left_is_overwritten() {
        let mut buffer = [9; 4];
        fill(&mut buffer, &[1, 2]);
        assert_eq!(buffer, [1, 2, 0, 0]);
    }
}
