//! Passes leave a graph's function as it is: outputs before and after, by a naive evaluator.

#[path = "support/evaluate.rs"]
mod evaluate;

use evaluate::assert_same_function;
use gatefold_graph::{
    Activation, Fact, Graph, Init, Level, NodeId, Op, Parameter, Pool, differentiate,
    passes::{REQUEST_OF, prune, user_once},
};

fn is_request(name: &str) -> bool {
    name.starts_with('u')
}

fn numbers(graph: &mut Graph, name: &str, columns: usize) -> NodeId {
    graph.input(name, Fact::f32(Level::Candidate, &[columns]))
}

fn number(graph: &mut Graph, name: &str) -> NodeId {
    graph.input(name, Fact::f32(Level::Candidate, &[]))
}

fn parameter(graph: &mut Graph, name: &str, dims: &[usize]) -> NodeId {
    graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table: false })
}

fn linear(graph: &mut Graph, name: &str, x: NodeId, outputs: usize) -> NodeId {
    let inputs = graph.fact(x).dims[0];
    let weight = parameter(graph, &format!("{name}.weight"), &[inputs, outputs]);
    let bias = parameter(graph, &format!("{name}.bias"), &[outputs]);
    let product = graph.apply(Op::MatMul, &[x, weight]).unwrap();
    graph.apply(Op::Add, &[product, bias]).unwrap()
}

/// Ops of a kind at a level.
fn count(graph: &Graph, op: &str, level: Level) -> usize {
    graph.nodes().iter().filter(|node| node.op.name() == op && node.fact.level == level).count()
}

/// Splits a graph, proves that it computes the same, and returns the split graph.
#[track_caller]
fn check(plain: &Graph) -> Graph {
    let split = user_once(plain, &is_request).unwrap();
    let levels: Vec<(&str, Level)> = split.inputs().map(|(name, id)| (name, split.fact(id).level)).collect();
    for (name, level) in levels {
        let expected = match name {
            "seed" => Level::Constant,
            _ if is_request(name) => Level::Request,
            _ => Level::Candidate,
        };
        assert_eq!(level, expected, "input {name}");
    }
    assert_same_function(plain, &split, &is_request);
    split
}

#[test]
fn a_first_layer_is_split_and_its_bias_moves_to_the_request() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 3);
    let item = numbers(&mut graph, "item", 2);
    let x = graph.apply(Op::Concat, &[user, item]).unwrap();
    let first = linear(&mut graph, "first", x, 4);
    let hidden = graph.apply(Op::Relu, &[first]).unwrap();
    graph.output("hidden", hidden);

    let split = check(&graph);
    assert_eq!(count(&split, "matmul", Level::Request), 1);
    assert_eq!(count(&split, "matmul", Level::Candidate), 1);
    assert_eq!(count(&split, "add", Level::Request), 1, "the bias");
    assert_eq!(count(&split, "add", Level::Candidate), 1, "both parts");
    assert_eq!(count(&split, "expand", Level::Candidate), 1);
    assert_eq!(count(&split, "concat", Level::Candidate), 0, "the join of both levels is not built");
    let ranges = split.nodes().iter().filter_map(|node| match &node.op {
        Op::SliceRows { ranges } => Some(ranges.clone()),
        _ => None,
    });
    let ranges: Vec<_> = ranges.collect();
    assert_eq!(ranges, [vec![(0, 3)], vec![(3, 5)]]);
}

#[test]
fn nested_and_interleaved_joins_are_split_by_ranges_of_weight_rows() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 2);
    let item = numbers(&mut graph, "item", 3);
    let user_age = number(&mut graph, "user_age");
    let price = number(&mut graph, "price");
    let inner = graph.apply(Op::Concat, &[item, user_age]).unwrap();
    let both = graph.apply(Op::Concat, &[user, inner, price, user]).unwrap();
    for expert in 0..3 {
        let sum = linear(&mut graph, &format!("expert.{expert}"), both, 4);
        graph.output(&format!("expert.{expert}"), sum);
    }

    let split = check(&graph);
    // user 0..2, item 2..5, user_age 5, price 6, user 7..9.
    let ranges = |level: Level| {
        split.nodes().iter().find_map(|node| match &node.op {
            Op::MatMul if node.fact.level == level => match &split.node(node.inputs[1]).op {
                Op::SliceRows { ranges } => Some(ranges.clone()),
                _ => None,
            },
            _ => None,
        })
    };
    assert_eq!(ranges(Level::Request), Some(vec![(0, 2), (5, 6), (7, 9)]));
    assert_eq!(ranges(Level::Candidate), Some(vec![(2, 5), (6, 7)]));
    assert_eq!(count(&split, "concat", Level::Request), 1, "shared by the experts");
    assert_eq!(count(&split, "concat", Level::Candidate), 1, "shared by the experts");
    assert_eq!(count(&split, "expand", Level::Candidate), 3, "one for each expert");
}

#[test]
fn other_meetings_of_levels_repeat_request_rows_once() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 3);
    let item = numbers(&mut graph, "item", 3);
    let user = linear(&mut graph, "user", user, 3);
    let product = graph.apply(Op::Mul, &[user, item]).unwrap();
    let sum = graph.apply(Op::Add, &[item, user]).unwrap();
    let joined = graph.apply(Op::Concat, &[item, user, sum]).unwrap();
    let activated = graph.apply(Op::Relu, &[joined]).unwrap();
    let gate = graph.apply(Op::Softmax, &[user]).unwrap();
    let mixture = graph.apply(Op::Mix, &[gate, product, sum, user]).unwrap();
    let columns = graph.apply(Op::SliceColumns { start: 2, end: 5 }, &[joined]).unwrap();
    for (name, id) in [("activated", activated), ("mixture", mixture), ("columns", columns), ("user", user)] {
        graph.output(name, id);
    }

    let split = check(&graph);
    assert_eq!(count(&split, "softmax", Level::Request), 1);
    assert_eq!(count(&split, "expand", Level::Candidate), 2, "the user's layer and the gate, each once");
    assert_eq!(split.fact(split.output_named("user").unwrap()).level, Level::Candidate);
}

#[test]
fn tables_sequences_and_scalars_are_looked_up_at_their_level() {
    let mut graph = Graph::new();
    let table =
        graph.parameter(Parameter { name: "table".into(), dims: vec![3, 2], init: Init::Zeros, table: true });
    let user = graph.input("user", Fact::i32(Level::Candidate, &[]));
    let user_recent = graph.input("user_recent", Fact::i32(Level::Candidate, &[4]));
    let item = graph.input("item", Fact::i32(Level::Candidate, &[]));
    let user = graph.apply(Op::Lookup, &[table, user]).unwrap();
    let recent = graph.apply(Op::LookupMean, &[table, user_recent]).unwrap();
    let item = graph.apply(Op::Lookup, &[table, item]).unwrap();
    let x = graph.apply(Op::Concat, &[user, recent, item]).unwrap();
    let logit = linear(&mut graph, "tower", x, 1);
    let logit = graph.apply(Op::Squeeze, &[logit]).unwrap();
    let half = graph.apply(Op::Scale(0.5), &[logit]).unwrap();
    let probability = graph.apply(Op::Sigmoid, &[half]).unwrap();
    graph.output("logit", logit);
    graph.output("probability", probability);

    let split = check(&graph);
    assert_eq!(count(&split, "lookup", Level::Request), 1);
    assert_eq!(count(&split, "lookup-mean", Level::Request), 1);
    assert_eq!(count(&split, "lookup", Level::Candidate), 1);
}

/// Target attention as in DIN: a network of the candidate, a position and their product weighs it.
fn attention(graph: &mut Graph, query: NodeId, keys: NodeId) -> NodeId {
    let length = graph.fact(keys).dims[0];
    let queries = graph.apply(Op::RepeatRows { length }, &[query]).unwrap();
    let products = graph.apply(Op::Mul, &[queries, keys]).unwrap();
    let x = graph.apply(Op::Concat, &[queries, keys, products]).unwrap();
    let columns = graph.fact(x).columns();
    let [first, second] = [("first", [columns, 3]), ("second", [3, 1])]
        .map(|(name, dims)| parameter(graph, &format!("attention.{name}"), &dims));
    let bias = parameter(graph, "attention.bias", &[3]);
    let hidden = graph.apply(Op::MatMul, &[x, first]).unwrap();
    let hidden = graph.apply(Op::Add, &[hidden, bias]).unwrap();
    let hidden = graph.apply(Op::Activation(Activation::Silu), &[hidden]).unwrap();
    let weights = graph.apply(Op::MatMul, &[hidden, second]).unwrap();
    let weights = graph.apply(Op::Squeeze, &[weights]).unwrap();
    graph.apply(Op::WeightedSum, &[weights, keys]).unwrap()
}

#[test]
fn sequences_are_read_once_a_request_and_attended_to_for_each_candidate() {
    let mut graph = Graph::new();
    let table =
        graph.parameter(Parameter { name: "table".into(), dims: vec![3, 4], init: Init::Zeros, table: true });
    let recent = graph.input("user_recent", Fact::i32(Level::Candidate, &[5]));
    let item = graph.input("item", Fact::i32(Level::Candidate, &[]));
    let keys = graph.apply(Op::LookupEach, &[table, recent]).unwrap();
    let query = graph.apply(Op::Lookup, &[table, item]).unwrap();
    let mut parts = vec![query, attention(&mut graph, query, keys)];
    for pool in [Pool::Sum, Pool::Mean, Pool::Max] {
        parts.push(graph.apply(Op::PoolSequence(pool), &[keys, recent]).unwrap());
    }
    let weights = [("w", vec![4, 6]), ("u", vec![2, 6]), ("b", vec![6]), ("c", vec![6])]
        .map(|(name, dims)| parameter(&mut graph, &format!("gru.{name}"), &dims));
    parts.push(graph.apply(Op::Gru, &[&[keys, recent], weights.as_slice()].concat()).unwrap());
    for (index, part) in parts.iter().enumerate() {
        graph.output(&format!("part.{index}"), *part);
    }
    let x = graph.apply(Op::Concat, &parts).unwrap();
    let logit = linear(&mut graph, "tower", x, 1);
    graph.output("logit", logit);

    let split = check(&graph);
    for op in ["lookup-each", "gru"] {
        assert_eq!(count(&split, op, Level::Request), 1, "{op}");
    }
    assert_eq!(count(&split, "pool-sequence", Level::Request), 3);
    assert_eq!(count(&split, "weighted-sum", Level::Candidate), 1);
    // The product with the keys alone, and the last layer's with what stands at request level.
    assert_eq!(count(&split, "matmul", Level::Request), 2);
}

#[test]
fn codes_of_the_request_do_not_meet_rows_of_candidates() {
    let mut graph = Graph::new();
    let recent = graph.input("user_recent", Fact::i32(Level::Candidate, &[5]));
    let item = numbers(&mut graph, "item", 2);
    let rows = graph.apply(Op::RepeatRows { length: 5 }, &[item]).unwrap();
    let pooled = graph.apply(Op::PoolSequence(Pool::Max), &[rows, recent]).unwrap();
    graph.output("pooled", pooled);
    let error = user_once(&graph, &is_request).unwrap_err().to_string();
    assert!(error.contains("codes of the request cannot be repeated for candidates"), "{error}");
}

#[test]
fn a_model_of_the_request_alone_is_repeated_at_its_outputs() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 3);
    let tower = linear(&mut graph, "tower", user, 1);
    let logit = graph.apply(Op::Squeeze, &[tower]).unwrap();
    graph.output("logit", logit);

    let split = check(&graph);
    assert_eq!(count(&split, "squeeze", Level::Request), 1);
    assert_eq!(split.fact(split.output_named("logit").unwrap()).level, Level::Candidate);
}

#[test]
fn a_model_of_items_alone_stays_as_it_is() {
    let mut graph = Graph::new();
    let item = numbers(&mut graph, "item", 3);
    let tower = linear(&mut graph, "tower", item, 1);
    graph.output("tower", tower);

    let split = check(&graph);
    assert_eq!(count(&split, "expand", Level::Candidate), 0);
    assert!(split.inputs().any(|(name, _)| name == REQUEST_OF), "callers give it to every split graph");
}

#[test]
fn a_loss_counts_a_request_once_for_each_candidate() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 2);
    let label = number(&mut graph, "u_label");
    let weight = number(&mut graph, "u_weight");
    let tower = linear(&mut graph, "tower", user, 1);
    let logit = graph.apply(Op::Squeeze, &[tower]).unwrap();
    let probability = graph.apply(Op::Sigmoid, &[label]).unwrap();
    let share = graph.apply(Op::Sigmoid, &[weight]).unwrap();
    for op in [Op::BceWithLogits, Op::SquaredError] {
        let name = op.name();
        let loss = graph.apply(op, &[logit, probability, share]).unwrap();
        graph.output(name, loss);
    }

    let split = check(&graph);
    assert_eq!(count(&split, "sigmoid", Level::Request), 2);
}

#[test]
fn a_mean_of_rows_counts_a_request_once_for_each_candidate() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 2);
    let weight = number(&mut graph, "weight");
    let own = graph.apply(Op::Activation(Activation::Tanh), &[user]).unwrap();
    let mean = graph.apply(Op::MeanRows, &[own]).unwrap();
    let weighted = graph.apply(Op::MeanRows, &[own, weight]).unwrap();
    let centered = graph.apply(Op::Add, &[own, mean]).unwrap();
    for (name, id) in [("mean", mean), ("weighted", weighted), ("centered", centered)] {
        graph.output(name, id);
    }

    let split = check(&graph);
    assert_eq!(count(&split, "tanh", Level::Request), 1);
    assert_eq!(count(&split, "add", Level::Request), 1, "the mean is a constant beside request rows");
}

#[test]
fn normalisation_by_the_batch_and_dropout_count_candidates() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 4);
    let item = numbers(&mut graph, "item", 2);
    let seed = graph.input("seed", Fact::i32(Level::Constant, &[]));
    let [gamma, beta] = ["gamma", "beta"].map(|name| parameter(&mut graph, name, &[4]));
    let mean = graph.apply(Op::MeanRows, &[user]).unwrap();
    let below = graph.apply(Op::Scale(-1.0), &[mean]).unwrap();
    let centered = graph.apply(Op::Add, &[user, below]).unwrap();
    let squares = graph.apply(Op::Mul, &[centered, centered]).unwrap();
    let variance = graph.apply(Op::MeanRows, &[squares]).unwrap();
    let normal = graph.apply(Op::BatchNorm { epsilon: 1e-5 }, &[user, mean, variance, gamma, beta]).unwrap();
    let layer = graph.apply(Op::LayerNorm { epsilon: 1e-5 }, &[user, gamma, beta]).unwrap();
    let dropped = graph.apply(Op::Dropout { rate: 0.4, salt: 3 }, &[layer, seed]).unwrap();
    let x = graph.apply(Op::Concat, &[normal, dropped, item]).unwrap();
    let first = linear(&mut graph, "first", x, 3);
    let penalty = graph.apply(Op::SumSquares, &[gamma]).unwrap();
    for (name, id) in [("mean", mean), ("variance", variance), ("first", first), ("penalty", penalty)] {
        graph.output(name, id);
    }

    let split = check(&graph);
    assert_eq!(count(&split, "batch-norm", Level::Request), 1);
    assert_eq!(count(&split, "layer-norm", Level::Request), 1);
    assert_eq!(count(&split, "dropout", Level::Candidate), 1, "zeros are those of a candidate's row");
}

#[test]
fn rows_of_both_levels_meet_in_a_product_and_a_mixture() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 3);
    let item = numbers(&mut graph, "item", 3);
    let units = parameter(&mut graph, "units", &[2]);
    let temperature = parameter(&mut graph, "temperature", &[]);
    let x = graph.apply(Op::Concat, &[user, item]).unwrap();
    let first = linear(&mut graph, "first", x, 3);
    let hidden = graph.apply(Op::Activation(Activation::Gelu), &[first]).unwrap();
    let stitched = graph.apply(Op::Mix, &[units, user, hidden]).unwrap();
    let of_user = graph.apply(Op::Mix, &[units, user, user]).unwrap();
    let product = graph.apply(Op::Dot, &[stitched, of_user]).unwrap();
    let warmer = graph.apply(Op::Mul, &[product, temperature]).unwrap();
    let power = graph.apply(Op::Exp, &[warmer]).unwrap();
    graph.output("power", power);

    let split = check(&graph);
    assert_eq!(count(&split, "mix", Level::Request), 1);
    assert_eq!(count(&split, "matmul", Level::Request), 1);
}

#[test]
fn a_graph_is_split_once_and_before_it_is_differentiated() {
    let mut graph = Graph::new();
    let user = numbers(&mut graph, "user", 2);
    let item = number(&mut graph, "item");
    let x = graph.apply(Op::Concat, &[user, item]).unwrap();
    let tower = linear(&mut graph, "tower", x, 1);
    let logit = graph.apply(Op::Squeeze, &[tower]).unwrap();
    let loss = graph.apply(Op::BceWithLogits, &[logit, item, item]).unwrap();
    graph.output("loss", loss);

    let split = user_once(&graph, &is_request).unwrap();
    let error = user_once(&split, &is_request).unwrap_err().to_string();
    assert!(error.contains("has request rows already"), "{error}");

    differentiate(&mut graph, loss).unwrap();
    let error = user_once(&graph, &is_request).unwrap_err().to_string();
    assert!(error.contains("before it is differentiated"), "{error}");
}

#[test]
fn pruning_keeps_what_the_outputs_need_in_order() {
    let mut graph = Graph::new();
    let unused = number(&mut graph, "unused");
    let item = numbers(&mut graph, "item", 2);
    let label = number(&mut graph, "label");
    let dropped = linear(&mut graph, "dropped", item, 1);
    let kept = linear(&mut graph, "kept", item, 1);
    let dropped = graph.apply(Op::Squeeze, &[dropped]).unwrap();
    let kept = graph.apply(Op::Squeeze, &[kept]).unwrap();
    let loss = graph.apply(Op::BceWithLogits, &[dropped, label, unused]).unwrap();
    graph.output("kept", kept);
    graph.output("loss", loss);
    graph.output("item", item);

    let pruned = prune(&graph, &["item", "kept"]).unwrap();
    let names = |graph: &Graph| graph.inputs().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&pruned), ["item"]);
    let parameters: Vec<_> = pruned.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(parameters, ["kept.weight", "kept.bias"]);
    let outputs: Vec<_> = pruned.outputs().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(outputs, ["item", "kept"]);
    // input, weight, bias, product, sum, squeeze
    assert_eq!(pruned.nodes().len(), 6);
    assert_same_function(&prune(&graph, &["kept", "item"]).unwrap(), &pruned, &|_| false);

    let error = prune(&graph, &["score"]).unwrap_err().to_string();
    assert!(error.contains("there is no output 'score' to keep; those are: kept, loss, item"), "{error}");
}
