//! What a rewrite in fewer bits leaves alone: nodes that are no whole product or lookup, whatever a file
//! holds. Values are compared in `gatefold-backend-ort`.

use gatefold_onnx::{ExternalWeights, Quantization, Ranges, TableType, quantize};
use gatefold_proto::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use prost::Message as _;

fn node(operator: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        domain: domain.into(),
        input: inputs.iter().map(|name| (*name).into()).collect(),
        output: outputs.iter().map(|name| (*name).into()).collect(),
        ..NodeProto::default()
    }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: vec![0.5; dims.iter().product::<i64>() as usize],
        ..TensorProto::default()
    }
}

#[test]
fn nodes_that_are_not_whole_stay_as_they_are() {
    let nodes = vec![
        node("MatMul", "", &["x"], &["a"]),
        node("MatMul", "", &["x", "matrix"], &[]),
        node("MatMul", "", &["x", "vector"], &["b"]),
        node("MatMul", "other", &["x", "matrix"], &["c"]),
        node("Gemm", "", &[], &["d"]),
        node("Gather", "", &["one"], &["e"]),
        node("Gather", "", &["two", "x"], &[]),
        node("Gather", "other", &["three", "x"], &["f"]),
    ];
    let tables = ["one", "two", "three"].map(|name| floats(name, &[9, 2]));
    let initializer = [vec![floats("matrix", &[64, 64]), floats("vector", &[64])], tables.to_vec()].concat();
    let graph = GraphProto { node: nodes.clone(), initializer, ..GraphProto::default() };
    let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
    let path = std::env::temp_dir().join(format!("gatefold-quantize-{}.onnx", std::process::id()));
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    let wanted = Quantization { tables: Some(TableType::Int8), products: true };
    let quantized = quantize(&path, &mut ExternalWeights::new("weights.bin"), wanted, &Ranges::new());
    std::fs::remove_file(&path).unwrap();
    let quantized = quantized.unwrap();
    assert_eq!((quantized.tables, quantized.products), (0, 0));
    let graph = ModelProto::decode(quantized.model.as_slice()).unwrap().graph.unwrap();
    assert_eq!(graph.node, nodes);
}
