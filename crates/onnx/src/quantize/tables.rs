//! Tables in fewer bits: what is looked up becomes 32-bit floats again.

use std::collections::BTreeSet;

use gatefold_proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType};
use half::f16;

use super::{Rewriter, TableType, cast, locate, node, scale, scales_of, signed};
use crate::{OnnxError, builder::tensor, external::EXTERNAL_FROM_BYTES, foreign::graph::is};

impl Rewriter<'_> {
    /// Stores every matrix that only `Gather` reads, row by row, as `kind`.
    pub(super) fn tables(&mut self, graph: &mut GraphProto, kind: TableType) -> Result<usize, OnnxError> {
        let is_lookup = |node: &NodeProto, place: usize| {
            let is_whole = node.input.len() == 2 && node.output.len() == 1;
            place == 0 && is_whole && is(node, "Gather") && axis(node) == 0
        };
        let mut tables: BTreeSet<String> = self.matrices().into_iter().collect();
        for node in &graph.node {
            for (place, input) in node.input.iter().enumerate() {
                if !is_lookup(node, place) {
                    tables.remove(input);
                }
            }
        }
        tables.retain(|name| graph.node.iter().any(|node| node.input.contains(name)));
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut lookup in std::mem::take(&mut graph.node) {
            if !lookup.input.first().is_some_and(|table| tables.contains(table)) {
                nodes.push(lookup);
                continue;
            }
            let (table, output) = (lookup.input[0].clone(), lookup.output[0].clone());
            let (stored, number) = (format!("{output}/stored"), format!("{output}/number"));
            let codes = lookup.input[1].clone();
            lookup.input[0] = self.table(&table, kind)?;
            lookup.output[0].clone_from(&stored);
            lookup.name.clone_from(&stored);
            nodes.push(lookup);
            match kind {
                TableType::F16 => nodes.push(cast(&stored, &output)),
                TableType::Int8 => {
                    let scale = format!("{output}/scale");
                    nodes.push(cast(&stored, &number));
                    nodes.push(node("Gather", &[&scales_of(&table), &codes], &scale));
                    nodes.push(node("Mul", &[&number, &scale], &output));
                }
            }
        }
        graph.node = nodes;
        Ok(tables.len())
    }

    /// Writes a table as `kind`; its new name.
    fn table(&mut self, name: &str, kind: TableType) -> Result<String, OnnxError> {
        let suffix = match kind {
            TableType::F16 => "f16",
            TableType::Int8 => "int8",
        };
        let stored = format!("{name}/{suffix}");
        if self.names.contains(&stored) {
            return Ok(stored);
        }
        let (values, [rows, width]) = self.matrix(name)?;
        match kind {
            TableType::F16 => {
                let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
                self.outside(&stored, &[rows, width], DataType::Float16, bytes)?;
            }
            TableType::Int8 => {
                let mut bytes = Vec::with_capacity(values.len());
                let mut scales = Vec::with_capacity(rows);
                for row in values.chunks_exact(width.max(1)) {
                    let scale = scale(row.iter().copied());
                    bytes.extend(row.iter().map(|value| signed(*value, scale)));
                    scales.push(scale);
                }
                self.outside(&stored, &[rows, width], DataType::Int8, bytes)?;
                let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                self.outside(&scales_of(name), &[rows, 1], DataType::Float, scales)?;
            }
        }
        Ok(stored)
    }

    /// Adds a constant of a table: outside the file unless it is a small one.
    fn outside(
        &mut self,
        name: &str,
        dims: &[usize],
        kind: DataType,
        bytes: Vec<u8>,
    ) -> Result<(), OnnxError> {
        if bytes.len() < EXTERNAL_FROM_BYTES {
            self.inside(name, dims, kind, bytes);
            return Ok(());
        }
        if self.names.insert(name.to_owned()) {
            let mut tensor = tensor(name, dims, kind);
            let (offset, length) = self.external.place_bytes(name, bytes)?;
            locate(&mut tensor, self.external.file_name(), offset, length);
            self.written.push(tensor);
        }
        Ok(())
    }
}

fn axis(node: &NodeProto) -> i64 {
    node.attribute.iter().find(|found| found.name == "axis").and_then(|found| found.i).unwrap_or(0)
}
