//! Names, gates, what training alone has, and what tasks share.

use std::collections::BTreeMap;

use gatefold_graph::{Graph, Op, passes};
use gatefold_nn::{
    DROPOUT_SEED, SharedParameters, explained, forward, forward_with_gates, running_statistics,
    shared_parameters, training,
};
use gatefold_schema::{ModelConfig, ModelKind, Normalization, Pooling};

use crate::{
    shapes::{TABLES, WIDTH, layer, parameter_count},
    world::{derived, features, model, tasks},
};

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
fn the_gates_of_the_towers_are_outputs_after_the_scores() {
    for (kind, expected) in [
        (ModelKind::SharedBottom, vec![]),
        (ModelKind::Esmm, vec![]),
        (ModelKind::Omoe, vec![("gate.shared", "ctr cvr", 3)]),
        (ModelKind::Mmoe, vec![("gate.ctr", "ctr", 3), ("gate.cvr", "cvr", 3)]),
        (ModelKind::Cgc, vec![("gate.ctr", "ctr", 5), ("gate.cvr", "cvr", 5)]),
        (ModelKind::Ple, vec![("level.1.gate.ctr", "ctr", 5), ("level.1.gate.cvr", "cvr", 5)]),
    ] {
        let plain = forward(&features(), &tasks(), &derived(), &model(kind)).unwrap();
        let (graph, gates) =
            explained(&features(), &tasks(), &derived(), &model(kind), &BTreeMap::new()).unwrap();
        let found: Vec<(&str, String, usize)> =
            gates.iter().map(|gate| (gate.name.as_str(), gate.tasks.join(" "), gate.experts.len())).collect();
        let expected: Vec<_> =
            expected.into_iter().map(|(gate, tasks, experts)| (gate, tasks.to_owned(), experts)).collect();
        assert_eq!(found, expected, "{}", kind.name());
        // A gate is a step on the way to the scores: naming it adds no node.
        assert_eq!(graph.nodes(), plain.nodes());
        let names = |graph: &Graph| graph.outputs().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let gates = gates.iter().map(|gate| gate.name.clone());
        assert_eq!(names(&graph), names(&plain).into_iter().chain(gates).collect::<Vec<_>>());
    }
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
fn pooling_units_belong_to_their_sequence() {
    let units = |kind, pooling| -> Vec<String> {
        let mut features = features();
        let recent = &mut features[3].feature;
        recent.pooling = pooling;
        recent.query = (pooling == Pooling::Attention).then(|| "product".into());
        let model = ModelConfig { attention: vec![8], ..model(kind) };
        let graph = forward(&features, &tasks(), &derived(), &model).unwrap();
        let rows = graph.nodes().iter().find(|node| node.op == Op::Concat && node.fact.dims == [WIDTH]);
        assert!(rows.is_some(), "one row of the same width, however sequences are pooled");
        let parameters = graph.parameters().iter().filter(|parameter| parameter.name.starts_with("pooling."));
        parameters.map(|parameter| format!("{} {:?}", parameter.name, parameter.dims)).collect()
    };
    assert_eq!(units(ModelKind::Mmoe, Pooling::Sum), [""; 0]);
    assert_eq!(units(ModelKind::Mmoe, Pooling::Max), [""; 0]);
    let attention = [
        "pooling.recent.0.weight [16, 8]",
        "pooling.recent.0.bias [8]",
        "pooling.recent.1.weight [8, 1]",
        "pooling.recent.1.bias [1]",
    ];
    assert_eq!(units(ModelKind::Mmoe, Pooling::Attention), attention);
    let gru = |owner: &str| {
        [
            format!("pooling.{owner}recent.weight_input [4, 12]"),
            format!("pooling.{owner}recent.weight_hidden [4, 12]"),
            format!("pooling.{owner}recent.bias_input [12]"),
            format!("pooling.{owner}recent.bias_hidden [12]"),
        ]
    };
    assert_eq!(units(ModelKind::Mmoe, Pooling::Gru), gru(""));
    assert_eq!(units(ModelKind::SingleTask, Pooling::Gru), [gru("ctr."), gru("cvr.")].concat());
}
