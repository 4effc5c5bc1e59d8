//! The ONNX side of an export: nodes, constants and names, as messages.

use std::{borrow::Cow, collections::BTreeSet};

use gatefold_proto::onnx::{
    AttributeProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::{DataLocation, DataType},
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use crate::{ExternalWeights, OnnxError, external::EXTERNAL_FROM_BYTES};

/// Collects the parts of a file; every value has a name of its own.
pub(crate) struct Builder<'e, 'v> {
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) initializers: Vec<TensorProto>,
    external: &'e mut ExternalWeights<'v>,
    names: BTreeSet<String>,
    constants: BTreeSet<String>,
}

impl<'e, 'v> Builder<'e, 'v> {
    pub(crate) fn new(external: &'e mut ExternalWeights<'v>) -> Self {
        Self {
            nodes: Vec::new(),
            initializers: Vec::new(),
            external,
            names: BTreeSet::new(),
            constants: BTreeSet::new(),
        }
    }

    /// Takes a name for a value.
    pub(crate) fn take(&mut self, name: &str) -> Result<(), OnnxError> {
        if self.names.insert(name.to_owned()) {
            return Ok(());
        }
        Err(OnnxError::NameTaken { name: name.to_owned() })
    }

    /// Adds a node whose one result is called `output`, as is the node.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> Result<(), OnnxError> {
        self.node_with_outputs(operator, inputs, &[output], attributes)
    }

    /// Adds a node of which only the second result is wanted.
    pub(crate) fn second_result(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> Result<(), OnnxError> {
        self.node_with_outputs(operator, inputs, &["", output], attributes)
    }

    /// Results without a name are not computed; the node is called as its last result.
    fn node_with_outputs(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Result<(), OnnxError> {
        let output = outputs.last().copied().unwrap_or_default();
        self.take(output)?;
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: outputs.iter().map(|output| (*output).to_owned()).collect(),
            name: output.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        Ok(())
    }

    /// A float constant of the model, by its name; large ones and tables stand outside the file.
    pub(crate) fn weights(
        &mut self,
        name: &str,
        dims: &[usize],
        values: Cow<'v, [f32]>,
        table: bool,
    ) -> Result<(), OnnxError> {
        if !self.constants.insert(name.to_owned()) {
            return Ok(());
        }
        self.take(name)?;
        let mut tensor = tensor(name, dims, DataType::Float);
        if table || size_of_val::<[f32]>(&values) >= EXTERNAL_FROM_BYTES {
            let (offset, length) = self.external.place(name, values)?;
            tensor.data_location = DataLocation::External as i32;
            tensor.external_data = vec![
                entry("location", self.external.file_name()),
                entry("offset", &offset.to_string()),
                entry("length", &length.to_string()),
            ];
        } else {
            tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        self.initializers.push(tensor);
        Ok(())
    }

    /// A list of integers, as operators take axes, shapes and bounds; returns its name.
    pub(crate) fn integers(&mut self, values: &[i64]) -> Result<String, OnnxError> {
        let text: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("/integers/{}", text.join(","));
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.small(&name, &[values.len()], DataType::Int64, bytes)?;
        Ok(name)
    }

    /// One 32-bit integer; returns its name.
    pub(crate) fn code(&mut self, value: i32) -> Result<String, OnnxError> {
        let name = format!("/code/{value}");
        self.small(&name, &[], DataType::Int32, value.to_le_bytes().to_vec())?;
        Ok(name)
    }

    /// One float; returns its name.
    pub(crate) fn number(&mut self, value: f32) -> Result<String, OnnxError> {
        let name = format!("/number/{value:?}");
        self.small(&name, &[], DataType::Float, value.to_le_bytes().to_vec())?;
        Ok(name)
    }

    fn small(&mut self, name: &str, dims: &[usize], kind: DataType, bytes: Vec<u8>) -> Result<(), OnnxError> {
        if self.constants.insert(name.to_owned()) {
            self.take(name)?;
            self.initializers.push(TensorProto { raw_data: bytes, ..tensor(name, dims, kind) });
        }
        Ok(())
    }
}

pub(crate) fn tensor(name: &str, dims: &[usize], kind: DataType) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: kind as i32,
        ..TensorProto::default()
    }
}

/// A key and its value.
pub(crate) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: key.to_owned(), value: value.to_owned() }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        i: Some(value),
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    }
}

/// A list of integers as attribute.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        ints: values.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        f: Some(value),
        r#type: AttributeType::Float as i32,
        ..AttributeProto::default()
    }
}

/// Name and type of an input or output; `rows` is the name of the first dimension, where it has
/// rows.
pub(crate) fn value_info(name: &str, kind: DataType, rows: Option<&str>, dims: &[usize]) -> ValueInfoProto {
    let rows = rows.map(|rows| dimension::Value::DimParam(rows.to_owned()));
    let dims = dims.iter().map(|dim| dimension::Value::DimValue(*dim as i64));
    let dim = rows
        .into_iter()
        .chain(dims)
        .map(|value| Dimension { value: Some(value), ..Dimension::default() })
        .collect();
    let tensor = type_proto::Tensor { elem_type: kind as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
