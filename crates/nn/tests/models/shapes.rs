//! How many parameters each model has, and that both of its forms are one function.

use gatefold_graph::{ElementType, Graph, Init, Level, passes};
use gatefold_nn::{forward, training};
use gatefold_schema::{ModelConfig, ModelKind};

use crate::{
    evaluate::assert_same_function,
    world::{derived, features, model, tasks},
};

/// The rows that models read: recent 4, city 4, hour 1; product 4, price 1.
pub(crate) const WIDTH: usize = 14;
/// Two tables of 5 × 4.
pub(crate) const TABLES: usize = 2 * 5 * 4;

pub(crate) fn layer(inputs: usize, outputs: usize) -> usize {
    inputs * outputs + outputs
}

pub(crate) fn parameter_count(graph: &Graph) -> usize {
    graph.parameters().iter().map(|parameter| parameter.dims.iter().product::<usize>()).sum()
}

#[track_caller]
fn check(model: &ModelConfig, parameters: usize) {
    let graph = forward(&features(), &tasks(), &derived(), model).unwrap();
    assert_eq!(parameter_count(&graph), parameters);

    let inputs: Vec<_> = graph
        .inputs()
        .map(|(name, id)| {
            let fact = graph.fact(id);
            assert_eq!(fact.level, Level::Candidate);
            (name, fact.element, fact.dims.clone())
        })
        .collect();
    let expected = [
        ("product", ElementType::I32, vec![]),
        ("city", ElementType::I32, vec![]),
        ("price", ElementType::F32, vec![]),
        ("recent", ElementType::I32, vec![6]),
        ("hour", ElementType::F32, vec![]),
    ];
    assert_eq!(inputs, expected);

    let outputs: Vec<_> = graph.outputs().iter().map(|(name, id)| (name.as_str(), graph.fact(*id))).collect();
    for (_, fact) in &outputs {
        assert_eq!((fact.level, fact.dims.as_slice()), (Level::Candidate, [].as_slice()));
    }
    let outputs: Vec<_> = outputs.iter().map(|(name, _)| *name).collect();
    assert_eq!(outputs, ["ctr", "cvr", "ctcvr"]);

    let is_request = |name: &str| ["city", "recent", "hour"].contains(&name);
    let split = passes::user_once(&graph, &is_request).unwrap();
    assert_same_function(&graph, &split, &is_request);
    let wide_rows = split.nodes().iter().filter(|node| node.fact.dims == [WIDTH]).count();
    assert_eq!(wide_rows, 0, "the rows of both levels are never joined");

    // The same weights give the same scores in training, and the graph without losses is the
    // forward graph.
    let unpenalized = ModelConfig { sharing: 0.0, ..model.clone() };
    let trained = training(&features(), &tasks(), &derived(), &unpenalized).unwrap();
    assert_eq!(parameter_count(&trained), parameters);
    let pruned = passes::prune(&trained, &outputs).unwrap();
    assert_same_function(&graph, &pruned, &|_| false);
    let split = passes::user_once(&trained, &is_request).unwrap();
    assert_same_function(&trained, &split, &is_request);
}

#[test]
fn shared_bottom_has_one_bottom_and_two_towers() {
    let towers = 2 * (layer(6, 5) + layer(5, 1));
    check(&model(ModelKind::SharedBottom), TABLES + layer(WIDTH, 7) + layer(7, 6) + towers);
}

#[test]
fn single_task_shares_nothing() {
    let network = TABLES + layer(WIDTH, 7) + layer(7, 6) + layer(6, 5) + layer(5, 1);
    check(&model(ModelKind::SingleTask), 2 * network);
}

#[test]
fn esmm_has_two_whole_towers() {
    let tower = layer(WIDTH, 7) + layer(7, 6) + layer(6, 5) + layer(5, 1);
    check(&model(ModelKind::Esmm), TABLES + 2 * tower);
}

#[test]
fn mmoe_has_experts_gates_and_towers() {
    let experts = 3 * (layer(WIDTH, 7) + layer(7, 6));
    let towers = 2 * (layer(6, 5) + layer(5, 1));
    check(&model(ModelKind::Mmoe), TABLES + experts + 2 * layer(WIDTH, 3) + towers);

    let mut deep = model(ModelKind::Mmoe);
    deep.gate = vec![8];
    deep.tower = vec![];
    let towers = 2 * layer(6, 1);
    check(&deep, TABLES + experts + 2 * (layer(WIDTH, 8) + layer(8, 3)) + towers);
}

#[test]
fn omoe_has_one_gate() {
    let experts = 3 * (layer(WIDTH, 7) + layer(7, 6));
    let towers = 2 * (layer(6, 5) + layer(5, 1));
    check(&model(ModelKind::Omoe), TABLES + experts + layer(WIDTH, 3) + towers);
}

#[test]
fn cgc_has_experts_of_each_task_and_shared_ones() {
    let experts = (2 * 2 + 3) * (layer(WIDTH, 7) + layer(7, 6));
    let towers = 2 * (layer(6, 5) + layer(5, 1));
    check(&model(ModelKind::Cgc), TABLES + experts + 2 * layer(WIDTH, 2 + 3) + towers);
}

#[test]
fn ple_has_a_shared_gate_between_levels() {
    let (first, second) = (layer(WIDTH, 7) + layer(7, 6), layer(6, 7) + layer(7, 6));
    let gates = 2 * layer(WIDTH, 2 + 3) + layer(WIDTH, 2 * 2 + 3) + 2 * layer(6, 2 + 3);
    let towers = 2 * (layer(6, 5) + layer(5, 1));
    check(&model(ModelKind::Ple), TABLES + 7 * (first + second) + gates + towers);

    // One level of PLE is CGC.
    let mut one = model(ModelKind::Ple);
    one.levels = 1;
    let gates = 2 * layer(WIDTH, 2 + 3);
    check(&one, TABLES + 7 * first + gates + towers);
}

#[test]
fn soft_sharing_has_a_network_of_each_task() {
    let network = layer(WIDTH, 7) + layer(7, 6) + layer(6, 5) + layer(5, 1);
    for kind in [ModelKind::L2Sharing, ModelKind::TraceNorm] {
        check(&model(kind), TABLES + 2 * network);
    }
}

#[test]
fn cross_stitch_combines_after_every_layer() {
    let network = layer(WIDTH, 7) + layer(7, 6) + layer(6, 5) + layer(5, 1);
    let stitches = 2 * 2 * 2;
    check(&model(ModelKind::CrossStitch), TABLES + 2 * network + stitches);

    let graph = forward(&features(), &tasks(), &derived(), &model(ModelKind::CrossStitch)).unwrap();
    let first =
        |name: &str| graph.parameters().iter().find(|declared| declared.name == name).unwrap().init.clone();
    assert_eq!(first("stitch.ctr.1"), Init::Values(vec![0.9, 1.0 - 0.9]));
    assert_eq!(first("stitch.cvr.1"), Init::Values(vec![1.0 - 0.9, 0.9]));
}

#[test]
fn aitm_passes_on_by_attention() {
    let tower = layer(WIDTH, 7) + layer(7, 6) + layer(6, 5) + layer(5, 1);
    let attention = 3 * 5 * 5;
    check(&model(ModelKind::Aitm), TABLES + 2 * tower + layer(5, 5) + attention);
}
