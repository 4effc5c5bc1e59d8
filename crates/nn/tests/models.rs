//! The models: shapes, parameters and names against literal numbers, and the graph that computes
//! a request once against the plain one.

#[path = "../../graph/tests/support/evaluate.rs"]
mod evaluate;

use evaluate::{Values, assert_same_function, evaluate, pseudo_random};
use gatefold_graph::{ElementType, Graph, Init, Level, Op, passes};
use gatefold_nn::{
    DROPOUT_SEED, NnError, SharedParameters, forward, forward_with_gates, running_statistics,
    shared_parameters, training,
};
use gatefold_schema::{
    Derived, Encoder, EncoderState, Feature, FittedFeature, Kind, Loss, ModelConfig, ModelKind,
    Normalization, Side, Task, ValueType,
};

/// 5 codes (padding, missing, 3 buckets) in tables of width 4: `city` (user) and `product` (item,
/// shared with the user's sequence `recent`), and one number on each side.
fn features() -> Vec<FittedFeature> {
    vec![
        coded("product", Side::Item, None, None),
        coded("city", Side::User, None, None),
        numeric("price", Side::Item),
        coded("recent", Side::User, Some(6), Some("product")),
        numeric("hour", Side::Context),
    ]
}

fn coded(name: &str, side: Side, max_len: Option<usize>, table: Option<&str>) -> FittedFeature {
    let kind = if max_len.is_some() { Kind::Sequence } else { Kind::Categorical };
    let feature = Feature {
        name: name.into(),
        side,
        kind,
        value_type: ValueType::Int,
        column: None,
        encoder: Encoder::Hash { buckets: 3, seed: 0 },
        embedding: Some(4),
        table: table.map(str::to_owned),
        max_len,
    };
    FittedFeature { feature, state: EncoderState::Stateless }
}

fn numeric(name: &str, side: Side) -> FittedFeature {
    let mut fitted = coded(name, side, None, None);
    fitted.feature.kind = Kind::Numeric;
    fitted.feature.encoder = Encoder::None;
    fitted.feature.embedding = None;
    fitted
}

fn tasks() -> Vec<Task> {
    let task = |name: &str, given: Option<&str>, weight: f32| Task {
        name: name.into(),
        label: name.into(),
        given: given.map(str::to_owned),
        weight,
        loss: Loss::CrossEntropy,
        potential_label: None,
        oracle: None,
    };
    vec![task("ctr", None, 1.0), task("cvr", Some("ctr"), 0.5)]
}

fn derived() -> Vec<Derived> {
    vec![Derived {
        name: "ctcvr".into(),
        product: vec!["ctr".into(), "cvr".into()],
        label: "conversion".into(),
    }]
}

fn model(kind: ModelKind) -> ModelConfig {
    ModelConfig {
        bottom: vec![7, 6],
        experts: 3,
        task_experts: 2,
        levels: 2,
        expert: vec![7, 6],
        gate: vec![],
        tower: vec![5],
        ..ModelConfig::new(kind)
    }
}

/// The rows that models read: recent 4, city 4, hour 1; product 4, price 1.
const WIDTH: usize = 14;
/// Two tables of 5 × 4.
const TABLES: usize = 2 * 5 * 4;

fn layer(inputs: usize, outputs: usize) -> usize {
    inputs * outputs + outputs
}

fn parameter_count(graph: &Graph) -> usize {
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
fn normalized_layers_declare_the_same_in_training() {
    let norms = 7 + 6 + 2 * 5;
    let plain = TABLES + layer(WIDTH, 7) + layer(7, 6) + 2 * (layer(6, 5) + layer(5, 1));
    for (normalization, each) in [(Normalization::Layer, 2), (Normalization::Batch, 4)] {
        let model = ModelConfig { normalization, ..model(ModelKind::SharedBottom) };
        let graphs =
            [forward, training].map(|build| build(&features(), &tasks(), &derived(), &model).unwrap());
        assert_eq!(graphs[0].parameters(), graphs[1].parameters());
        assert_eq!(parameter_count(&graphs[0]), plain + each * norms);

        let statistics = running_statistics(&graphs[1]);
        let names: Vec<&str> = statistics
            .iter()
            .map(|statistic| {
                let parameter = &graphs[1].parameters()[statistic.parameter.0];
                assert_eq!(graphs[1].fact(statistic.batch).dims, parameter.dims);
                parameter.name.as_str()
            })
            .collect();
        let expected = ["bottom.0", "bottom.1", "tower.ctr.0", "tower.cvr.0"]
            .map(|layer| [format!("{layer}.norm.running_mean"), format!("{layer}.norm.running_variance")]);
        let expected = if normalization == Normalization::Batch { expected.concat() } else { Vec::new() };
        assert_eq!(names, expected);
        assert_eq!(running_statistics(&graphs[0]), []);
    }
}

#[test]
fn dropout_is_in_training_alone() {
    let model = ModelConfig { dropout: 0.25, ..model(ModelKind::Mmoe) };
    let graphs = [forward, training].map(|build| build(&features(), &tasks(), &derived(), &model).unwrap());
    let dropped = |graph: &Graph| -> Vec<Op> {
        let ops = graph.nodes().iter().map(|node| node.op.clone());
        ops.filter(|op| matches!(op, Op::Dropout { .. })).collect()
    };
    assert_eq!(dropped(&graphs[0]), []);
    assert!(graphs[0].inputs().all(|(name, _)| name != DROPOUT_SEED));
    // Two hidden layers an expert and one a tower; the gates have none.
    let expected: Vec<Op> = (0..3 * 2 + 2).map(|salt| Op::Dropout { rate: 0.25, salt }).collect();
    assert_eq!(dropped(&graphs[1]), expected);
    assert!(graphs[1].inputs().any(|(name, _)| name == DROPOUT_SEED));
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

#[test]
fn gates_name_the_experts_they_weigh() {
    let gates_of = |kind| {
        let (graph, gates) = forward_with_gates(&features(), &tasks(), &derived(), &model(kind)).unwrap();
        for gate in &gates {
            let weights = graph.output_named(&gate.name).unwrap();
            assert_eq!(graph.fact(weights).dims, [gate.experts.len()]);
            for expert in &gate.experts {
                assert_eq!(graph.fact(graph.output_named(expert).unwrap()).dims, [6]);
            }
        }
        gates.into_iter().map(|gate| (gate.name, gate.experts.join(" "))).collect::<Vec<_>>()
    };
    let pair = |gate: &str, experts: &str| (gate.to_owned(), experts.to_owned());
    assert_eq!(gates_of(ModelKind::Esmm), []);
    let all = "expert.0 expert.1 expert.2";
    assert_eq!(gates_of(ModelKind::Omoe), [pair("gate.shared", all)]);
    assert_eq!(gates_of(ModelKind::Mmoe), [pair("gate.ctr", all), pair("gate.cvr", all)]);
    let shared = "expert.shared.0 expert.shared.1 expert.shared.2";
    let (ctr, cvr) = ("expert.ctr.0 expert.ctr.1", "expert.cvr.0 expert.cvr.1");
    assert_eq!(
        gates_of(ModelKind::Cgc),
        [pair("gate.ctr", &format!("{ctr} {shared}")), pair("gate.cvr", &format!("{cvr} {shared}"))]
    );
    let ple = gates_of(ModelKind::Ple);
    let names: Vec<&str> = ple.iter().map(|(gate, _)| gate.as_str()).collect();
    let first = ["level.0.gate.ctr", "level.0.gate.cvr", "level.0.gate.shared"];
    assert_eq!(names, [&first[..], &["level.1.gate.ctr", "level.1.gate.cvr"]].concat());
    let at_level_0 = |experts: &str| experts.replace("expert", "level.0.expert");
    assert_eq!(ple[2].1, at_level_0(&format!("{ctr} {cvr} {shared}")));
}

#[test]
fn parameters_have_the_names_of_their_parts() {
    let names = |kind| -> Vec<String> {
        let graph = forward(&features(), &tasks(), &derived(), &model(kind)).unwrap();
        graph.parameters().iter().map(|parameter| parameter.name.clone()).collect()
    };
    let layers = |prefix: &str, count: usize| -> Vec<String> {
        let layer = |layer| [format!("{prefix}.{layer}.weight"), format!("{prefix}.{layer}.bias")];
        (0..count).flat_map(layer).collect()
    };
    let tables = ["embedding.product".to_owned(), "embedding.city".to_owned()];
    let shared: Vec<_> = tables
        .clone()
        .into_iter()
        .chain(layers("bottom", 2))
        .chain(layers("tower.ctr", 2))
        .chain(layers("tower.cvr", 2))
        .collect();
    assert_eq!(names(ModelKind::SharedBottom), shared);
    let esmm: Vec<_> =
        tables.clone().into_iter().chain(layers("tower.ctr", 4)).chain(layers("tower.cvr", 4)).collect();
    assert_eq!(names(ModelKind::Esmm), esmm);
    let mmoe: Vec<_> = tables
        .into_iter()
        .chain((0..3).flat_map(|expert| layers(&format!("expert.{expert}"), 2)))
        .chain(layers("gate.ctr", 1))
        .chain(layers("gate.cvr", 1))
        .chain(layers("tower.ctr", 2))
        .chain(layers("tower.cvr", 2))
        .collect();
    assert_eq!(names(ModelKind::Mmoe), mmoe);
}

#[track_caller]
fn check_shared(model: &ModelConfig, tables: bool, shared_parts: &[&str], last_layer: &[&str]) {
    let graph = training(&features(), &tasks(), &derived(), model).unwrap();
    let SharedParameters { all, last_layer: last } = shared_parameters(&graph, &tasks());
    assert_eq!(last, last_layer);
    for parameter in graph.parameters() {
        let name = &parameter.name;
        let is_part = shared_parts.iter().any(|part| name.starts_with(part));
        let expected = is_part || (tables && parameter.table);
        assert_eq!(all.contains(name), expected, "{name}");
    }
}

#[test]
fn what_several_tasks_learn_is_found() {
    let of = model;
    check_shared(&of(ModelKind::SingleTask), false, &[], &[]);
    check_shared(&of(ModelKind::SharedBottom), true, &["bottom"], &["bottom.1.weight"]);
    let experts = ["expert.0.1.weight", "expert.1.1.weight", "expert.2.1.weight"];
    check_shared(&of(ModelKind::Mmoe), true, &["expert"], &experts);
    let with_gate = [&experts[..], &["gate.shared.0.weight"]].concat();
    check_shared(&of(ModelKind::Omoe), true, &["expert", "gate.shared"], &with_gate);
    let shared = [0, 1, 2].map(|expert| format!("expert.shared.{expert}.1.weight"));
    let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
    check_shared(&of(ModelKind::Cgc), true, &["expert.shared"], &shared);
    // The loss of cvr is that of the product with ctr.
    check_shared(&of(ModelKind::Esmm), true, &["tower.ctr"], &["tower.ctr.3.weight"]);
    let stitched = ["bottom.ctr.1.weight", "bottom.cvr.1.weight"];
    check_shared(&of(ModelKind::CrossStitch), true, &["bottom", "stitch.ctr.0", "stitch.cvr.0"], &stitched);
    // Everything but the last layer of ctr's tower passes on to cvr.
    let towers = ["tower.ctr.0", "tower.ctr.1", "tower.ctr.2"];
    check_shared(&of(ModelKind::Aitm), true, &towers, &["tower.ctr.2.weight"]);

    // Both forms of a graph share the same.
    let plain = training(&features(), &tasks(), &derived(), &of(ModelKind::Ple)).unwrap();
    let is_request = |name: &str| ["city", "recent", "hour"].contains(&name);
    let split = passes::user_once(&plain, &is_request).unwrap();
    assert_eq!(shared_parameters(&plain, &tasks()), shared_parameters(&split, &tasks()));
}

/// Scores of a forward graph and losses of its training graph, with the losses written out again
/// from the scores.
#[track_caller]
fn check_losses(kind: ModelKind) {
    let unpenalized = ModelConfig { sharing: 0.0, ..model(kind) };
    let graph = training(&features(), &tasks(), &derived(), &unpenalized).unwrap();
    let rows = 6;
    let mut values = Values::new();
    for (name, id) in graph.inputs() {
        let fact = graph.fact(id);
        let mut value = pseudo_random(name, rows * fact.row_len());
        if fact.element == ElementType::I32 {
            value.iter_mut().for_each(|x| *x = ((*x + 0.5) * 5.0).floor());
        }
        values.insert(name.to_owned(), value);
    }
    let clicks = vec![1.0, 0.0, 1.0, 1.0, 0.0, 0.0];
    let conversions = vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    values.insert("label.ctr".into(), clicks.clone());
    values.insert("label.cvr".into(), conversions.clone());
    values.insert("weight.ctr".into(), vec![1.0; rows]);
    values.insert("weight.cvr".into(), clicks.clone());
    values.insert("loss_weight.ctr".into(), vec![1.0]);
    values.insert("loss_weight.cvr".into(), vec![0.5]);
    let found = evaluate(&graph, &values, rows, rows);

    let entropy = |p: &[f64], y: &[f64], keep: &dyn Fn(usize) -> bool| {
        let kept: Vec<f64> = (0..rows)
            .filter(|row| keep(*row))
            .map(|row| -(y[row] * p[row].ln() + (1.0 - y[row]) * (1.0 - p[row]).ln()))
            .collect();
        kept.iter().sum::<f64>() / kept.len() as f64
    };
    let ctr = entropy(&found["ctr"], &clicks, &|_| true);
    let cvr = match kind {
        ModelKind::Esmm => entropy(&found["ctcvr"], &conversions, &|_| true),
        _ => entropy(&found["cvr"], &conversions, &|row| clicks[row] == 1.0),
    };
    for (name, expected) in [("loss.ctr", ctr), ("loss.cvr", cvr), ("loss", ctr + 0.5 * cvr)] {
        let found = found[name][0];
        assert!((found - expected).abs() < 1e-12, "{name}: {found}, expected {expected}");
    }
    for row in 0..rows {
        assert_eq!(found["ctcvr"][row], found["ctr"][row] * found["cvr"][row]);
    }
}

#[test]
fn tasks_lose_over_their_sample_space() {
    let everywhere = [ModelKind::Esmm, ModelKind::Aitm];
    for kind in ModelKind::ALL.into_iter().filter(|kind| !everywhere.contains(kind)) {
        check_losses(kind);
    }
}

#[test]
fn esmm_loses_over_all_impressions() {
    check_losses(ModelKind::Esmm);
}

#[track_caller]
fn check_refused(result: Result<Graph, NnError>, message: &str) {
    let error = result.expect_err("this must be refused").to_string();
    assert!(error.contains(message), "{error}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let mmoe = model(ModelKind::Mmoe);
    check_refused(forward(&[], &tasks(), &[], &mmoe), "at least one feature");
    check_refused(forward(&features(), &[], &[], &mmoe), "at least one task");

    let mut wider = features();
    wider[3].feature.embedding = Some(8);
    check_refused(
        forward(&wider, &tasks(), &[], &mmoe),
        "feature 'recent': shares table 'product' of [5, 4] but needs [5, 8]",
    );
    let mut unfitted = features();
    unfitted[1].feature.encoder = Encoder::Vocab { min_count: 1, oov_buckets: 1 };
    check_refused(forward(&unfitted, &tasks(), &[], &mmoe), "feature 'city': has no codes");

    let one_task = &tasks()[..1];
    check_refused(
        forward(&features(), one_task, &[], &model(ModelKind::Esmm)),
        "esmm needs exactly two tasks, the second conditional on the first, such as ctr and cvr with \
         given = \"ctr\"; found ctr",
    );
    check_refused(
        forward(&features(), one_task, &derived(), &mmoe),
        "derived output 'ctcvr': 'cvr' is not a task",
    );
    let mut no_experts = mmoe;
    no_experts.experts = 0;
    check_refused(
        forward(&features(), &tasks(), &[], &no_experts),
        "mmoe needs experts between 1 and 256, found 0",
    );
}
