//! What is written for both levels: operators that treat each column by itself, and linear layers.

use gatefold_proto::onnx::TensorProto;

use super::Emitter;
use crate::{
    foreign::tensor,
    split::{
        SplitError,
        columns::{Columnwise, broadcast_place},
        linear::Linear,
        values::{Column, Level, Made},
    },
};

impl Emitter<'_, '_, '_> {
    /// The columns of one level of what a node makes column by column.
    pub(super) fn half(&mut self, id: usize, level: Level, output: &str) -> Result<(), SplitError> {
        let values = self.plan.values;
        let Made::Half { node: index, how, columns } = &values.all[id].made else { return Ok(()) };
        let matrix = self.matrix(columns, level);
        let mut copy = values.graph.node[*index].clone();
        let data = match how {
            Columnwise::Alike { operand } | Columnwise::Own { operand, .. } => *operand,
            Columnwise::Lookup { .. } => 1,
        };
        if let Columnwise::Own { constants, dims, places, .. } = how {
            let trailing = values.input(&copy, data).map(|id| values.all[id].trailing()).unwrap_or_default();
            for place in constants {
                let Some(constant) = values.input(&copy, *place).and_then(|id| values.all[id].tensor())
                else {
                    continue;
                };
                if dims.iter().product::<usize>() == 1 {
                    // One number for all columns, in as many dimensions as a matrix takes.
                    let flat = TensorProto { dims: Vec::new(), ..TensorProto::clone(constant) };
                    copy.input[*place] = self.constant(&format!("{}/one", constant.name), flat);
                    continue;
                }
                let bytes = tensor::bytes(constant, values.folder)?;
                let size = bytes.len() / dims.iter().product::<usize>().max(1);
                let own = places.iter().flat_map(|column| {
                    let at = broadcast_place(dims, trailing, *column) * size;
                    bytes[at..at + size].iter().copied()
                });
                let own = TensorProto {
                    dims: vec![places.len() as i64],
                    data_type: constant.data_type,
                    raw_data: own.collect(),
                    ..TensorProto::default()
                };
                copy.input[*place] = self.constant(&format!("{output}/{}", constant.name), own);
            }
        }
        copy.input[data] = matrix;
        copy.name.clear();
        copy.output = vec![output.to_owned()];
        if matches!(how, Columnwise::Lookup { .. }) {
            // The value stands for a matrix of its columns.
            copy.output[0] = format!("{output}/rows");
            let rows = copy.output[0].clone();
            self.nodes.push(copy);
            self.push("Flatten", &[&rows], output, Some(1));
            return Ok(());
        }
        self.nodes.push(copy);
        Ok(())
    }

    /// `W·[u; c] + b = (Wu·u + b) + Wc·c`.
    pub(super) fn split(&mut self, id: usize, linear: &Linear, output: &str) {
        let values = self.plan.values;
        let columns = values.all[linear.x].columns.clone().unwrap_or_default();
        let mut order: Vec<usize> = (0..columns.len()).collect();
        // In the order of the sources, so that what was interleaved or turned stands together again.
        order.sort_by_key(|place| columns[*place]);
        let is_candidate = |place: &usize| values.all[columns[*place].source].level == Level::Candidate;
        let (candidate, request): (Vec<usize>, Vec<usize>) = order.into_iter().partition(is_candidate);
        let mut part = |places: &[usize], level: Level, word: &str| {
            let found: Vec<Column> = places.iter().map(|place| columns[*place]).collect();
            let matrix = self.matrix(&found, level);
            let row = |place: &usize| &linear.weight[place * linear.outputs..(place + 1) * linear.outputs];
            let weight: Vec<f32> = places.iter().flat_map(|place| row(place).iter().copied()).collect();
            let weight =
                self.floats(&format!("{output}/{word} weight"), &[places.len(), linear.outputs], &weight);
            (matrix, weight)
        };
        let (request, request_weight) = part(&request, Level::Request, "request");
        let (candidate, candidate_weight) = part(&candidate, Level::Candidate, "candidate");
        let (share, gathered) =
            (format!("{output}/request share"), format!("{output}/request share/gathered"));
        if linear.bias.is_empty() {
            self.push("MatMul", &[&request, &request_weight], &share, None);
        } else {
            let bias = self.floats(&format!("{output}/bias"), &[linear.outputs], &linear.bias);
            self.push("Gemm", &[&request, &request_weight, &bias], &share, None);
        }
        self.gather(&share, 0, &gathered);
        let dims = values.all[id].trailing();
        let matrix = if dims.len() == 1 { output.to_owned() } else { format!("{output}/matrix") };
        self.push("Gemm", &[&candidate, &candidate_weight, &gathered], &matrix, None);
        if dims.len() != 1 {
            self.reshape(&matrix, dims, output);
        }
    }
}
