//! What a run refuses, word for word.

use gatefold_exec::{ExecError, Executor, InputValue, Parameters, Plan};
use gatefold_graph::{Fact, Graph, Init, Level, NodeId, Op, Parameter};

struct Sum {
    graph: Graph,
    output: NodeId,
}

/// `user` (3 rows a table, request level) expanded to candidates, times `price`.
fn graph() -> Sum {
    let mut graph = Graph::new();
    let table =
        |name: &str| Parameter { name: name.into(), dims: vec![3, 2], init: Init::Normal(1.0), table: true };
    let table = graph.parameter(table("embedding.user"));
    let user = graph.input("user", Fact::i32(Level::Request, &[2]));
    let request_of = graph.input("request_of", Fact::i32(Level::Candidate, &[]));
    let price = graph.input("price", Fact::f32(Level::Candidate, &[2]));
    let user = graph.apply(Op::LookupMean, &[table, user]).unwrap();
    let user = graph.apply(Op::Expand, &[user, request_of]).unwrap();
    let output = graph.apply(Op::Mul, &[user, price]).unwrap();
    Sum { graph, output }
}

const PRICE: InputValue<'_> = InputValue::F32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
const USER: InputValue<'_> = InputValue::I32(&[1, 2, 0, 2]);
const REQUEST_OF: InputValue<'_> = InputValue::I32(&[0, 0, 1]);

/// Runs two requests and three candidates, and a good batch afterwards.
#[track_caller]
fn check(inputs: &[(&str, InputValue<'_>)], expected: &str) {
    let Sum { graph, output } = graph();
    let parameters = Parameters::initialise(graph.parameters(), 1);
    let mut executor = Executor::new(Plan::compile(&graph, &[output]).unwrap(), 1).unwrap();
    let error = executor.run(&parameters, 2, 3, inputs).unwrap_err();
    assert_eq!(error.to_string(), expected);
    let good = [("price", PRICE), ("request_of", REQUEST_OF), ("user", USER), ("another", USER)];
    executor.run(&parameters, 2, 3, &good).unwrap();
    assert_eq!(executor.value(output).len(), 6);
}

#[test]
fn inputs_that_do_not_fit() {
    check(
        &[("user", USER), ("price", PRICE)],
        "input `request_of` is missing: give one value for each input of the graph",
    );
    check(
        &[("user", PRICE), ("price", PRICE), ("request_of", REQUEST_OF)],
        "input `user` must hold I32 elements, found F32",
    );
    check(
        &[("user", USER), ("price", InputValue::F32(&[1.0; 5])), ("request_of", REQUEST_OF)],
        "input `price` must hold 3 rows of 2, found 5 elements",
    );
    check(
        &[("user", InputValue::I32(&[1, 2, 0, 3])), ("price", PRICE), ("request_of", REQUEST_OF)],
        "input `user`, row 1: code 3 is outside the table of 3 rows",
    );
    check(
        &[("user", InputValue::I32(&[1, -7, 0, 2])), ("price", PRICE), ("request_of", REQUEST_OF)],
        "input `user`, row 0: code -7 is outside the table of 3 rows",
    );
    check(
        &[("user", USER), ("price", PRICE), ("request_of", InputValue::I32(&[0, 0, 2]))],
        "input `request_of`, row 2: request 2 does not exist, the batch has 2",
    );
    check(
        &[("user", USER), ("price", PRICE), ("request_of", InputValue::I32(&[0, 1, 0]))],
        "input `request_of`, row 2: request 0 comes after 1, sort the candidates by request",
    );
}

#[test]
fn parameters_of_another_graph() {
    let Sum { graph, output } = graph();
    let mut executor = Executor::new(Plan::compile(&graph, &[output]).unwrap(), 1).unwrap();
    let inputs = [("price", PRICE), ("request_of", REQUEST_OF), ("user", USER)];
    let other = Parameter { name: "embedding.item".into(), dims: vec![3, 2], init: Init::Zeros, table: true };
    let error = executor.run(&Parameters::initialise(&[other], 1), 2, 3, &inputs).unwrap_err();
    let expected = "parameter 0 must be `embedding.user` with 6 numbers, found `embedding.item` with 6";
    assert_eq!(error.to_string(), expected);
    let error = executor.run(&Parameters::initialise(&[], 1), 2, 3, &inputs).unwrap_err();
    assert_eq!(error.to_string(), "parameter 0 must be `embedding.user` with 6 numbers, found nothing");
}

#[test]
fn targets_that_are_not_computed() {
    let Sum { graph, .. } = graph();
    for node in [0, 99] {
        assert_eq!(Plan::compile(&graph, &[NodeId(node)]).unwrap_err(), ExecError::BadTarget { node });
    }
}
