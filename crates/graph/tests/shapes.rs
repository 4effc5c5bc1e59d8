//! What the shape rules of ops give and refuse.

use gatefold_graph::{Activation, Fact, Level, Op, Pool};

fn rows(dims: &[usize]) -> Fact {
    Fact::f32(Level::Candidate, dims)
}

fn constant(dims: &[usize]) -> Fact {
    Fact::f32(Level::Constant, dims)
}

fn codes(dims: &[usize]) -> Fact {
    Fact::i32(Level::Candidate, dims)
}

#[track_caller]
fn check(op: &Op, inputs: &[Fact], expected: Result<Fact, &str>) {
    let found = op.infer(&inputs.iter().collect::<Vec<_>>());
    assert_eq!(found, expected.map_err(str::to_owned), "{}", op.name());
}

#[test]
fn rows_of_sequences_are_rows() {
    check(&Op::LookupEach, &[constant(&[9, 4]), codes(&[5])], Ok(rows(&[5, 4])));
    check(&Op::RepeatRows { length: 5 }, &[rows(&[4])], Ok(rows(&[5, 4])));
    check(&Op::Concat, &[rows(&[5, 4]), rows(&[5, 1])], Ok(rows(&[5, 5])));
    check(&Op::MatMul, &[rows(&[5, 4]), constant(&[4, 2])], Ok(rows(&[5, 2])));
    check(&Op::Add, &[rows(&[5, 2]), constant(&[2])], Ok(rows(&[5, 2])));
    check(&Op::Mul, &[constant(&[]), rows(&[5, 2])], Ok(rows(&[5, 2])));
    check(&Op::SliceColumns { start: 1, end: 2 }, &[rows(&[5, 2])], Ok(rows(&[5, 1])));
    check(&Op::Squeeze, &[rows(&[5, 1])], Ok(rows(&[5])));
    check(&Op::WeightedSum, &[rows(&[5]), rows(&[5, 4])], Ok(rows(&[4])));
    check(&Op::PoolSequence(Pool::Max), &[rows(&[5, 4]), codes(&[5])], Ok(rows(&[4])));
    let gru = [constant(&[4, 6]), constant(&[2, 6]), constant(&[6]), constant(&[6])];
    check(&Op::Gru, &[[rows(&[5, 4]), codes(&[5])].as_slice(), &gru].concat(), Ok(rows(&[2])));
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    check(
        &Op::Concat,
        &[rows(&[5, 4]), rows(&[3, 4])],
        Err("joins rows of equal number, found F32 [candidates [3, 4]] beside F32 [candidates [5, 4]]"),
    );
    check(
        &Op::Add,
        &[rows(&[5, 2]), constant(&[5])],
        Err("dimensions differ: F32 [candidates [5, 2]] and F32 [[5]]"),
    );
    check(
        &Op::Add,
        &[rows(&[2]), rows(&[])],
        Err("dimensions differ: F32 [candidates [2]] and F32 [candidates []]"),
    );
    check(
        &Op::WeightedSum,
        &[rows(&[4]), rows(&[5, 4])],
        Err("cannot weigh F32 [candidates [5, 4]] by F32 [candidates [4]]"),
    );
    check(
        &Op::PoolSequence(Pool::Sum),
        &[rows(&[5, 4]), codes(&[4])],
        Err("F32 [candidates [5, 4]] is no sequence of the codes I32 [candidates [4]]"),
    );
    let gru = [constant(&[4, 6]), constant(&[2, 6]), constant(&[6]), constant(&[3])];
    check(
        &Op::Gru,
        &[[rows(&[5, 4]), codes(&[5])].as_slice(), &gru].concat(),
        Err("needs a constant of [6], found F32 [[3]]"),
    );
    check(
        &Op::Mix,
        &[Fact::f32(Level::Request, &[1]), rows(&[4])],
        Err("the gate F32 [requests [1]] and F32 [candidates [4]] stand at different levels: expand first"),
    );
    check(
        &Op::Dropout { rate: 1.0, salt: 0 },
        &[rows(&[4]), Fact::i32(Level::Constant, &[])],
        Err("zeroes rows at a rate in [0, 1), found F32 [candidates [4]] and 1"),
    );
    check(
        &Op::Calibrate,
        &[rows(&[]), constant(&[1]), constant(&[1])],
        Err("maps rows by at least two knots, found F32 [candidates []] and F32 [[1]]"),
    );
    check(&Op::TraceNorm, &[constant(&[2])], Err("needs at least two constants, found 1"));
    check(
        &Op::BatchNorm { epsilon: 1e-5 },
        &[rows(&[4]), constant(&[4]), constant(&[3]), constant(&[4]), constant(&[4])],
        Err("needs a constant of [4], found F32 [[3]]"),
    );
    check(
        &Op::MeanRows,
        &[constant(&[4])],
        Err("averages rows of one value, found 1 inputs, F32 [[4]] first"),
    );
    check(
        &Op::Activation(Activation::Gelu),
        &[codes(&[])],
        Err("needs elements F32, found I32 [candidates []]"),
    );
}
