//! Foreign graphs in their user-once form, on ONNX Runtime beside the plain one: every way in which real
//! exports join the request and the candidates.

#[path = "split/net.rs"]
mod net;

use gatefold_onnx::split::SplitError;
use net::{Attribute as A, Net, compare, split};

/// Two user and two item embeddings, the user's history and a number on each side.
fn fields() -> Net {
    let mut net = Net::new();
    for (name, width) in [("u0", 3), ("i0", 2), ("u1", 4), ("i1", 5)] {
        net.codes(name, &[]);
        net.table(&format!("table.{name}"), 9, width);
        net.op("Gather", &[&format!("table.{name}"), name], &format!("e.{name}"), &[]);
    }
    net.numbers("u_age");
    net.numbers("i_price");
    net
}

/// A hidden layer and a probability after `x`, which has `width` columns.
fn head(net: &mut Net, x: &str, width: usize) {
    net.floats("w1", &[6, width]);
    net.floats("b1", &[6]);
    net.op("Gemm", &[x, "w1", "b1"], "h", &[A::Int("transB", 1)]);
    net.op("Relu", &["h"], "r", &[]);
    net.floats("w2", &[6, 1]);
    net.op("MatMul", &["r", "w2"], "z", &[]);
    net.output("z", "score");
}

/// Splits the net, compares both forms, and gives the operators of the split one with the share moved.
#[track_caller]
fn check(net: Net) -> (Vec<String>, f64) {
    let model = net.model();
    let split = split(&model).unwrap();
    let largest = compare(&model, &split.model);
    assert!(largest <= 1e-5, "largest difference {largest}");
    (net::operators(&split.model), split.moved)
}

fn count(operators: &[String], name: &str) -> usize {
    operators.iter().filter(|operator| *operator == name).count()
}

#[test]
fn interleaved_columns() {
    let mut net = fields();
    net.op("Concat", &["e.u0", "e.i0", "e.u1", "e.i1"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 14);
    let (operators, moved) = check(net);
    assert!((moved - 42.0 / 90.0).abs() < 1e-9, "7 of 14 columns of the first layer's 84 and 6: {moved}");
    // Each level's columns once, and nothing of the request repeated but its share of the product.
    assert_eq!((count(&operators, "Concat"), count(&operators, "Gather")), (2, 5), "{operators:?}");
}

#[test]
fn several_layers_share_their_columns() {
    let mut net = fields();
    net.op("Concat", &["e.u0", "e.i0", "e.u1", "e.i1"], "x", &[A::Int("axis", -1)]);
    for expert in 0..3 {
        let name = |part: &str| format!("{part}{expert}");
        net.floats(&name("expert"), &[14, 4]);
        net.op("MatMul", &["x", &name("expert")], &name("product"), &[]);
        net.floats(&name("bias"), &[4]);
        net.op("Add", &[&name("bias"), &name("product")], &name("sum"), &[]);
    }
    net.op("Sum", &["sum0", "sum1", "sum2"], "all", &[]);
    net.ints("last", &[1]);
    net.op("ReduceSum", &["all", "last"], "z", &[]);
    net.output("z", "score");
    let (operators, _) = check(net);
    // The bias is the request's.
    assert_eq!((count(&operators, "Gemm"), count(&operators, "Concat")), (6, 2), "{operators:?}");
    assert_eq!(count(&operators, "Add"), 0, "{operators:?}");
}

#[test]
fn nested_joins_with_changes_of_shape() {
    let mut net = fields();
    net.ints("one", &[1]);
    net.ints("keep", &[0, -1]);
    net.ints("rows and 7", &[-1, 7]);
    for name in ["e.u0", "e.i0", "u_age", "i_price"] {
        net.op("Unsqueeze", &[name, "one"], &format!("{name}.1"), &[]);
    }
    net.op("Concat", &["e.u0.1", "e.i0.1"], "first", &[A::Int("axis", 2)]);
    net.op("Squeeze", &["first", "one"], "first.flat", &[]);
    net.op("Concat", &["u_age.1", "i_price.1"], "dense", &[A::Int("axis", -1)]);
    net.op("Concat", &["first.flat", "dense"], "left", &[A::Int("axis", 1)]);
    net.op("Reshape", &["left", "rows and 7"], "left.7", &[]);
    net.op("Concat", &["e.u1", "e.i1"], "right", &[A::Int("axis", 1)]);
    net.op("Unsqueeze", &["right", "one"], "right.1", &[]);
    net.op("Flatten", &["right.1"], "right.flat", &[A::Int("axis", 1)]);
    net.op("Identity", &["right.flat"], "right.same", &[]);
    net.op("Concat", &["left.7", "right.same"], "x", &[A::Int("axis", 1)]);
    net.op("Reshape", &["x", "keep"], "x.flat", &[]);
    head(&mut net, "x.flat", 16);
    let (operators, moved) = check(net);
    assert!((moved - 48.0 / 102.0).abs() < 1e-9, "8 of 16 columns: {moved}");
    assert_eq!(count(&operators, "Concat"), 2, "{operators:?}");
}

#[test]
fn stacked_and_turned_embeddings() {
    let mut net = Net::new();
    net.ints("one", &[1]);
    let names = ["u0", "i0", "u1", "i1"];
    for name in names {
        net.codes(name, &[]);
        net.table(&format!("table.{name}"), 9, 3);
        net.op("Gather", &[&format!("table.{name}"), name], &format!("e.{name}"), &[]);
        net.op("Unsqueeze", &[&format!("e.{name}"), "one"], &format!("s.{name}"), &[]);
    }
    let stacked = names.map(|name| format!("s.{name}"));
    net.op("Concat", &stacked.each_ref().map(String::as_str), "stack", &[A::Int("axis", 1)]);
    net.op("Transpose", &["stack"], "turned", &[A::Ints("perm", &[0, 2, 1])]);
    net.op("Flatten", &["turned"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 12);
    let (operators, _) = check(net);
    assert_eq!(count(&operators, "Transpose"), 0, "the weight's rows are turned instead: {operators:?}");
}

#[test]
fn masked_pooling_and_one_table_for_both_sides() {
    let mut net = Net::new();
    net.table("items", 9, 4);
    net.codes("u_history", &[5]);
    net.codes("i_item", &[]);
    net.ints("zero", &[0]);
    net.ints("one", &[1]);
    net.ints("last", &[-1]);
    net.op("Gather", &["items", "u_history"], "rows", &[]);
    net.op("Equal", &["u_history", "zero32"], "padding", &[]);
    net.int32("zero32", 0);
    net.op("Not", &["padding"], "valid", &[]);
    net.op("Cast", &["valid"], "mask", &[A::Int("to", 1)]);
    net.op("Unsqueeze", &["mask", "last"], "weights", &[]);
    net.op("Mul", &["rows", "weights"], "kept", &[]);
    net.op("ReduceSum", &["kept", "one"], "sum", &[A::Int("keepdims", 0)]);
    net.op("ReduceSum", &["mask", "one"], "count", &[A::Int("keepdims", 1)]);
    net.scalar("small", 1e-6);
    net.op("Add", &["count", "small"], "divisor", &[]);
    net.op("Div", &["sum", "divisor"], "mean", &[]);
    net.op("Gather", &["items", "i_item"], "item", &[]);
    net.op("Concat", &["mean", "item"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 8);
    let (operators, _) = check(net);
    assert_eq!(count(&operators, "Gather"), 3, "two lookups and the request's share: {operators:?}");
}

#[test]
fn ids_cut_out_of_one_matrix() {
    let mut net = Net::new();
    net.ints("column", &[-1, 1]);
    let columns = ["u0", "i0", "u1", "i1"];
    for name in columns {
        net.codes(name, &[]);
        net.op("Cast", &[name], &format!("{name}.float"), &[A::Int("to", 1)]);
        net.op("Reshape", &[&format!("{name}.float"), "column"], &format!("{name}.column"), &[]);
    }
    net.numbers("i_price");
    net.op("Reshape", &["i_price", "column"], "i_price.column", &[]);
    net.op(
        "Concat",
        &["u0.column", "i0.column", "u1.column", "i1.column", "i_price.column"],
        "X",
        &[A::Int("axis", 1)],
    );
    // One column by `Slice`, one by `Gather`, two by `Split`, the number by `Slice` to the end.
    for (name, at) in [("zero", 0), ("one", 1), ("two", 2), ("four", 4)] {
        net.ints(name, &[at]);
    }
    net.int64("first", 1);
    net.ints("end", &[i64::MAX]);
    net.ints("parts", &[2, 3]);
    net.ints("halves", &[1, 2]);
    net.op("Slice", &["X", "zero", "one", "one"], "c0", &[]);
    net.op("Gather", &["X", "first"], "c1", &[A::Int("axis", 1)]);
    net.ops("Split", &["X", "parts"], &["before", "after"], &[A::Int("axis", 1)]);
    net.ops("Split", &["after", "halves"], &["c2", "rest"], &[A::Int("axis", -1)]);
    net.op("Slice", &["rest", "zero", "one", "one"], "c3", &[]);
    net.op("Slice", &["X", "four", "end", "one"], "c4", &[]);
    for name in ["c0", "c1", "c2", "c3"] {
        net.op("Cast", &[name], &format!("{name}.id"), &[A::Int("to", 7)]);
        net.table(&format!("table.{name}"), 9, 3);
        net.op("Gather", &[&format!("table.{name}"), &format!("{name}.id")], &format!("{name}.rows"), &[]);
        net.op("Flatten", &[&format!("{name}.rows")], &format!("{name}.flat"), &[A::Int("axis", 1)]);
    }
    net.op("Concat", &["c0.flat", "c1.flat", "c2.flat", "c3.flat", "c4"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 13);
    let (operators, moved) = check(net);
    assert!((moved - 36.0 / 84.0).abs() < 1e-9, "6 of 13 columns: {moved}");
    // What is cut out of the candidate's columns alone may stay as it is.
    assert_eq!((count(&operators, "Slice"), count(&operators, "Split")), (1, 0), "{operators:?}");
}

#[test]
fn one_table_with_offsets_read_by_a_matrix_of_ids() {
    let mut net = Net::new();
    net.ints("column", &[-1, 1]);
    for name in ["u0", "i0", "u1"] {
        net.codes(name, &[]);
        net.op("Cast", &[name], &format!("{name}.64"), &[A::Int("to", 7)]);
        net.op("Reshape", &[&format!("{name}.64"), "column"], &format!("{name}.column"), &[]);
    }
    net.op("Concat", &["u0.column", "i0.column", "u1.column"], "ids", &[A::Int("axis", 1)]);
    net.ints("offsets", &[0, 9, 18]);
    net.op("Add", &["ids", "offsets"], "places", &[]);
    net.table("table", 27, 4);
    net.op("Gather", &["table", "places"], "rows", &[]);
    net.op("Flatten", &["rows"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 12);
    let (operators, moved) = check(net);
    assert!((moved - 48.0 / 78.0).abs() < 1e-9, "8 of 12 columns: {moved}");
    assert_eq!(count(&operators, "Add"), 2, "each level has its own offsets: {operators:?}");
}

#[test]
fn columns_that_are_normalised_and_scaled_before_the_first_layer() {
    let mut net = fields();
    net.op("Concat", &["e.u0", "e.i0", "e.u1", "e.i1"], "joined", &[A::Int("axis", 1)]);
    net.norm("norm", 14);
    net.op("BatchNormalization", &["joined", "norm.s", "norm.b", "norm.m", "norm.v"], "normal", &[]);
    net.floats("scale", &[1, 14]);
    net.op("Mul", &["normal", "scale"], "scaled", &[]);
    net.scalar("half", 0.5);
    net.op("Sub", &["half", "scaled"], "shifted", &[]);
    net.op("Tanh", &["shifted"], "x", &[]);
    head(&mut net, "x", 14);
    let (operators, moved) = check(net);
    assert!((moved - 42.0 / 90.0).abs() < 1e-9, "{moved}");
    assert_eq!((count(&operators, "BatchNormalization"), count(&operators, "Tanh")), (2, 2), "{operators:?}");
}

#[test]
fn batch_normalisation_after_the_product() {
    let layer = |read_between: bool| {
        let mut net = fields();
        net.op("Concat", &["e.u0", "e.i0", "e.u1", "e.i1"], "x", &[A::Int("axis", 1)]);
        net.floats("w", &[14, 6]);
        net.floats("b", &[6]);
        net.op("MatMul", &["x", "w"], "product", &[]);
        net.op("Add", &["product", "b"], "h", &[]);
        net.norm("norm", 6);
        net.op("BatchNormalization", &["h", "norm.s", "norm.b", "norm.m", "norm.v"], "n", &[]);
        net.op("Add", &["n", if read_between { "h" } else { "b" }], "sum", &[]);
        net.ints("last", &[1]);
        net.op("ReduceSum", &["sum", "last"], "z", &[]);
        net.output("z", "score");
        count(&check(net).0, "BatchNormalization")
    };
    assert_eq!(layer(false), 0, "it is part of the weights");
    assert_eq!(layer(true), 1, "what is read before it must be there");
}

#[test]
fn products_in_other_forms() {
    let mut net = fields();
    net.op("Concat", &["e.u0", "e.i0", "e.u1", "e.i1"], "x", &[A::Int("axis", 1)]);
    net.floats("w1", &[14, 6]);
    net.scalar("b1", 0.3);
    let factors = [A::Float("alpha", 0.5), A::Float("beta", 2.0)];
    net.op("Gemm", &["x", "w1", "b1"], "h1", &factors);
    net.ints("one", &[1]);
    net.op("Unsqueeze", &["x", "one"], "x.1", &[]);
    net.floats("w2", &[14, 6]);
    net.op("MatMul", &["x.1", "w2"], "h2.1", &[]);
    net.op("Squeeze", &["h2.1", "one"], "h2", &[]);
    // A weight that a node makes.
    net.floats("w3.turned", &[6, 14]);
    net.op("Transpose", &["w3.turned"], "w3", &[A::Ints("perm", &[1, 0])]);
    net.op("MatMul", &["x", "w3"], "h3", &[]);
    net.op("Sum", &["h1", "h2", "h3"], "h", &[]);
    net.op("ReduceSum", &["h", "one"], "z", &[]);
    net.output("z", "score");
    let (operators, moved) = check(net);
    assert!((moved - 0.5).abs() < 1e-9, "{moved}");
    assert_eq!(count(&operators, "Transpose"), 0, "{operators:?}");
}

#[test]
fn shapes_that_take_the_number_of_rows_from_a_user_tensor() {
    let mut net = fields();
    net.int64("zero", 0);
    net.ints("axis", &[0]);
    net.ints("sixteen", &[16]);
    net.ints("ones", &[1]);
    net.ints("start", &[0]);
    net.op("Shape", &["e.u0"], "shape", &[]);
    net.op("Gather", &["shape", "zero"], "rows", &[]);
    net.op("Unsqueeze", &["rows", "axis"], "rows.1", &[]);
    net.op("Concat", &["rows.1", "sixteen"], "wanted", &[A::Int("axis", 0)]);
    // As many ones as the user has rows, beside the item; the item's own rows counted from the user's.
    net.op("Concat", &["rows.1", "ones"], "column", &[A::Int("axis", 0)]);
    net.op("ConstantOfShape", &["column"], "filled", &[]);
    net.op("Reshape", &["i_price", "column"], "price", &[]);
    net.op("Slice", &["shape", "start", "ones"], "rows.sliced", &[]);
    net.op("Concat", &["rows.sliced", "ones"], "column.sliced", &[A::Int("axis", 0)]);
    net.op("Reshape", &["u_age", "column.sliced"], "age", &[]);
    net.op("Concat", &["e.u0", "e.i0", "price", "e.u1", "filled", "age"], "joined", &[A::Int("axis", 1)]);
    net.op("Concat", &["joined", "e.i1"], "more", &[A::Int("axis", 1)]);
    net.ints("seventeen", &[17]);
    net.op("Concat", &["rows.1", "seventeen"], "whole", &[A::Int("axis", 0)]);
    net.op("Reshape", &["more", "whole"], "x", &[]);
    net.op("Relu", &["x"], "x.positive", &[]);
    head(&mut net, "x.positive", 17);
    let (_, moved) = check(net);
    assert!((moved - 54.0 / 108.0).abs() < 1e-9, "9 of 17 columns, the filled one among them: {moved}");
}

#[test]
fn a_cross_is_gathered_and_the_layer_after_it_still_split() {
    let mut net = fields();
    net.table("table.cross", 9, 5);
    net.op("Gather", &["table.cross", "u0"], "e.cross", &[]);
    net.op("Mul", &["e.cross", "e.i1"], "cross", &[]);
    net.op("Concat", &["e.u0", "e.u1", "cross", "e.i0"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 14);
    let (operators, moved) = check(net);
    assert!((moved - 42.0 / 90.0).abs() < 1e-9, "{moved}");
    assert_eq!(count(&operators, "Mul"), 1);
}

#[test]
fn target_attention_keeps_what_the_request_has_of_its_own() {
    let mut net = Net::new();
    net.table("items", 9, 4);
    net.codes("u_history", &[5]);
    net.codes("i_item", &[]);
    net.codes("u0", &[]);
    net.table("users", 9, 24);
    net.ints("two", &[2]);
    net.ints("one", &[1]);
    net.op("Gather", &["items", "u_history"], "rows", &[]);
    net.op("Gather", &["items", "i_item"], "item", &[]);
    net.op("Unsqueeze", &["item", "two"], "item.column", &[]);
    net.op("MatMul", &["rows", "item.column"], "likeness", &[]);
    net.op("Softmax", &["likeness"], "weights", &[A::Int("axis", 1)]);
    net.op("Mul", &["rows", "weights"], "weighted", &[]);
    net.op("ReduceSum", &["weighted", "one"], "interest", &[A::Int("keepdims", 0)]);
    net.op("Gather", &["users", "u0"], "user", &[]);
    net.op("Concat", &["user", "interest", "item"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 32);
    let (_, moved) = check(net);
    assert!((moved - 144.0 / 218.0).abs() < 1e-9, "{moved}");
}

#[test]
fn a_tower_of_the_user_and_a_recurrent_layer() {
    let mut net = Net::new();
    net.table("items", 9, 4);
    net.codes("u_history", &[5]);
    net.codes("i_item", &[]);
    net.op("Gather", &["items", "u_history"], "rows", &[]);
    net.op("Transpose", &["rows"], "steps", &[A::Ints("perm", &[1, 0, 2])]);
    net.floats("gru.w", &[1, 12, 4]);
    net.floats("gru.r", &[1, 12, 4]);
    net.ops("GRU", &["steps", "gru.w", "gru.r"], &["", "last"], &[A::Int("hidden_size", 4)]);
    net.ints("first", &[0]);
    net.op("Squeeze", &["last", "first"], "state", &[]);
    net.floats("tower", &[4, 4]);
    net.op("MatMul", &["state", "tower"], "hidden", &[]);
    net.op("Tanh", &["hidden"], "user", &[]);
    net.op("Gather", &["items", "i_item"], "item", &[]);
    net.op("Mul", &["user", "item"], "product", &[]);
    net.ints("one", &[1]);
    net.op("ReduceSum", &["product", "one"], "z", &[]);
    net.output("z", "score");
    assert_eq!(check(net).1, 1.0, "nothing but the lookup and the inner product is the candidate's");
}

#[test]
fn values_without_rows_of_their_own_are_computed_where_they_are_read() {
    let mut net = Net::new();
    net.table("items", 9, 4);
    net.codes("u_history", &[5]);
    net.codes("u0", &[]);
    net.codes("i_item", &[]);
    net.op("Gather", &["items", "u_history"], "rows", &[]);
    net.ints("flat", &[-1, 4]);
    net.ints("sequence", &[-1, 5, 4]);
    net.op("Reshape", &["rows", "flat"], "rows.flat", &[]);
    net.floats("w", &[4, 4]);
    net.op("MatMul", &["rows.flat", "w"], "turned.flat", &[]);
    net.op("Reshape", &["turned.flat", "sequence"], "turned", &[]);
    net.op("Gather", &["items", "i_item"], "item", &[]);
    net.ints("one", &[1]);
    net.op("Unsqueeze", &["item", "one"], "item.1", &[]);
    net.op("Mul", &["turned", "item.1"], "both", &[]);
    // The same rows without a sequence, read by the candidate as well.
    net.op("Reshape", &["both", "flat"], "both.flat", &[]);
    net.op("Add", &["both.flat", "turned.flat"], "sum.flat", &[]);
    net.op("Reshape", &["sum.flat", "sequence"], "sum", &[]);
    net.op("ReduceSum", &["sum", "one"], "pooled", &[A::Int("keepdims", 0)]);
    net.table("users", 9, 24);
    net.op("Gather", &["users", "u0"], "user", &[]);
    net.op("Concat", &["user", "pooled"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 28);
    check(net);
}

#[test]
fn an_output_of_the_request_alone_has_a_row_a_candidate() {
    let mut net = fields();
    net.floats("w", &[3, 1]);
    net.op("MatMul", &["e.u0", "w"], "activity", &[]);
    net.output("activity", "active");
    net.op("Concat", &["e.u0", "e.i0"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 5);
    check(net);
}

#[test]
fn what_is_not_worth_it_is_refused_with_the_place() {
    let mut net = fields();
    net.floats("one", &[3, 5]);
    net.op("MatMul", &["e.u0", "one"], "user", &[]);
    net.op("Mul", &["user", "e.i1"], "cross", &[]);
    net.floats("w", &[5, 100]);
    net.op("MatMul", &["cross", "w"], "wide", &[]);
    net.ints("last", &[1]);
    net.op("ReduceSum", &["wide", "last"], "z", &[]);
    net.output("z", "score");
    let error = split(&net.model()).unwrap_err().to_string();
    let expected = "2.9 % of the multiply-adds depend on the request alone, too little for a graph of its own: \
                    Mul 'cross' reads 'user' of the request together with 'e.i1' of the candidate";
    assert_eq!(error, expected);
}

#[test]
fn a_graph_inside_a_node_is_refused() {
    let mut net = fields();
    net.op("Concat", &["e.u0", "e.i0"], "x", &[A::Int("axis", 1)]);
    net.floats("one", &[1]);
    net.branch("e.u0", "chosen");
    head(&mut net, "x", 5);
    net.output("chosen", "other");
    let error = split(&net.model()).unwrap_err();
    assert!(matches!(&error, SplitError::InnerGraph { operator, .. } if operator == "If"), "{error}");
}

#[test]
fn a_graph_that_mixes_rows_is_found_out_by_running_it() {
    let mut net = fields();
    net.ints("rows", &[0]);
    net.op("ReduceMean", &["e.u0"], "mean", &[A::Ints("axes", &[0])]);
    net.op("Sub", &["e.u0", "mean"], "centred", &[]);
    net.op("Concat", &["centred", "e.i0"], "x", &[A::Int("axis", 1)]);
    head(&mut net, "x", 5);
    let model = net.model();
    let split = split(&model).unwrap();
    assert!(compare(&model, &split.model) > 1e-3, "the comparison must see it");
}
