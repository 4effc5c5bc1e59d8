//! Refused requests of `Ranking.Score`.

use gatefold_proto::ranking::v1 as wire;
use tonic::Code;
use wire::column::Values;

use super::Row;
use super::Sent::Score;
use crate::support::column;

pub(super) const ROWS: &[Row] = &[
    (
        "unknown model",
        Score(|request| request.model = "dome".into()),
        Code::NotFound,
        "no model is named 'dome'; loaded: demo",
    ),
    (
        "no name of a model where there are two",
        Score(|request| request.model = String::new()),
        Code::NotFound,
        "the request names no model: name one; loaded: demo, other",
    ),
    (
        "unknown version",
        Score(|request| request.version = 9),
        Code::NotFound,
        "model 'demo' has no version 9 loaded; loaded: 1",
    ),
    (
        "unknown output",
        Score(|request| request.outputs = vec!["ctvr".into()]),
        Code::InvalidArgument,
        "no output 'ctvr'; it has: ctr, cvr, ctcvr",
    ),
    (
        "repeated output",
        Score(|request| request.outputs = vec!["ctr".into(), "ctr".into()]),
        Code::InvalidArgument,
        "output 'ctr' is asked for twice",
    ),
    (
        "unknown feature",
        Score(|request| request.items.push(column("prise", ints(&[1, 2])))),
        Code::InvalidArgument,
        "unknown feature 'prise' (did you mean 'price'?)",
    ),
    (
        "missing column",
        Score(|request| {
            request.items.pop();
        }),
        Code::InvalidArgument,
        "feature 'price' (item side) has no values",
    ),
    (
        "repeated column",
        Score(|request| request.items.push(request.items[0].clone())),
        Code::InvalidArgument,
        "feature 'item_id' is given twice",
    ),
    (
        "wrong side",
        Score(|request| {
            let age = request.user.remove(0);
            request.context.push(age);
        }),
        Code::InvalidArgument,
        "context 'age': is a user feature: move it to `user`",
    ),
    (
        "an item feature of the user",
        Score(|request| request.user.push(column("price", floats(&[1.0])))),
        Code::InvalidArgument,
        "user 'price': is an item feature: move it to `items`",
    ),
    (
        "wrong type",
        Score(|request| request.items[0].values = Some(texts(&["a", "b"]))),
        Code::InvalidArgument,
        "feature 'item_id' (item side) has values of type text, expected int",
    ),
    (
        "scalar for a sequence",
        Score(|request| request.user[1].values = Some(ints(&[1]))),
        Code::InvalidArgument,
        "feature 'recent' (user side) has values of type int, expected list of int",
    ),
    (
        "no values",
        Score(|request| request.items[1].values = None),
        Code::InvalidArgument,
        "items 'price': has no values: set one of ints",
    ),
    (
        "wrong row count",
        Score(|request| request.items[1].values = Some(floats(&[1.0, 2.0, 3.0]))),
        Code::InvalidArgument,
        "items 'price': 3 rows, but items 'item_id' has 2",
    ),
    (
        "wrong row count of a user column",
        Score(|request| request.user[0].values = Some(floats(&[1.0, 2.0]))),
        Code::InvalidArgument,
        "feature 'age' (user side) has 2 rows, expected 1",
    ),
    (
        "another number of candidates",
        Score(|request| request.candidates = 3),
        Code::InvalidArgument,
        "items 'item_id': 2 rows, but candidates has 3",
    ),
    (
        "zero candidates",
        Score(|request| {
            request.items[0].values = Some(ints(&[]));
            request.items[1].values = Some(floats(&[]));
        }),
        Code::InvalidArgument,
        "candidates: the request has none",
    ),
    (
        "too many candidates",
        Score(|request| {
            request.items[0].values = Some(ints(&[1; 9]));
            request.items[1].values = Some(floats(&[1.0; 9]));
        }),
        Code::InvalidArgument,
        "candidates: 9 candidates, at most 8 are accepted (limits.candidates)",
    ),
    (
        "NaN",
        Score(|request| request.items[1].values = Some(floats(&[1.0, f64::NAN]))),
        Code::InvalidArgument,
        "feature 'price' (item side), row 1: NaN is not a finite",
    ),
    (
        "infinity",
        Score(|request| request.user[0].values = Some(floats(&[f64::INFINITY]))),
        Code::InvalidArgument,
        "feature 'age' (user side), row 0: inf is not a finite",
    ),
    (
        "over-long sequence",
        Score(|request| request.user[1].values = Some(lists(&[1, 2, 3, 4], &[0, 4]))),
        Code::InvalidArgument,
        "feature 'recent' (user side), row 0: 4 elements, at most 3 are accepted",
    ),
    (
        "sequence over the server's limit",
        Score(|request| request.user[1].values = Some(lists(&[1; 7], &[0, 7]))),
        Code::InvalidArgument,
        "user 'recent': row 0 has 7 elements, at most 6 are accepted (limits.sequence_length)",
    ),
    (
        "no offsets",
        Score(|request| request.user[1].values = Some(lists(&[1], &[]))),
        Code::InvalidArgument,
        "user 'recent': offsets are empty",
    ),
    (
        "offsets that do not start with 0",
        Score(|request| request.user[1].values = Some(lists(&[1, 2], &[1, 2]))),
        Code::InvalidArgument,
        "user 'recent': offsets start with 1",
    ),
    (
        "falling offsets",
        Score(|request| request.user[1].values = Some(lists(&[1, 2], &[0, 2, 1]))),
        Code::InvalidArgument,
        "user 'recent': offsets fall from 2 to 1 at row 1",
    ),
    (
        "offsets beyond the values",
        Score(|request| request.user[1].values = Some(lists(&[1, 2], &[0, 3]))),
        Code::InvalidArgument,
        "user 'recent': offsets end with 3, but there are 2 values",
    ),
    (
        "values beyond the offsets",
        Score(|request| request.user[1].values = Some(lists(&[1, 2], &[0, 1]))),
        Code::InvalidArgument,
        "user 'recent': offsets end with 1, but there are 2 values",
    ),
    (
        "missing row that is none",
        Score(|request| request.items[0].missing = vec![2]),
        Code::InvalidArgument,
        "items 'item_id': row 2 is marked missing, but the column has 2 rows",
    ),
    (
        "missing rows out of order",
        Score(|request| request.items[0].missing = vec![1, 0]),
        Code::InvalidArgument,
        "items 'item_id': missing rows must be strictly ascending",
    ),
    (
        "long text",
        Score(|request| request.context[0].values = Some(texts(&["0123456789abcdefg"]))),
        Code::InvalidArgument,
        "context 'country': value 0 has 17 bytes, at most 16 are accepted (limits.text_bytes)",
    ),
    (
        "too many columns",
        Score(|request| (0..8).for_each(|_| request.user.push(request.user[0].clone()))),
        Code::InvalidArgument,
        "columns: 13 columns, at most 12 are accepted (limits.columns)",
    ),
    (
        "top_k without an output",
        Score(|request| request.top_k = 1),
        Code::InvalidArgument,
        "top_k_by: is empty: name the output to rank by",
    ),
    (
        "top_k_by without top_k",
        Score(|request| request.top_k_by = "ctr".into()),
        Code::InvalidArgument,
        "top_k_by: is 'ctr' without top_k",
    ),
    (
        "top_k_by of no output",
        Score(|request| (request.top_k, request.top_k_by) = (1, "rank".into())),
        Code::InvalidArgument,
        "top_k_by: no output 'rank'; the model has: ctr, cvr, ctcvr",
    ),
    (
        "unknown label",
        Score(|request| request.label = "blue".into()),
        Code::NotFound,
        "model 'demo' has no version labelled 'blue'; labels: stable (1)",
    ),
    (
        "a label beside a version",
        Score(|request| (request.label, request.version) = ("blue".into(), 1)),
        Code::InvalidArgument,
        "label: is 'blue' beside version 1: give one of them",
    ),
    (
        "unknown experiment",
        Score(|request| of_unit(request, "gate", "user-1")),
        Code::NotFound,
        "no experiment is named 'gate'; the server's settings have: gates",
    ),
    (
        "no name of an experiment",
        Score(|request| of_unit(request, "", "user-1")),
        Code::InvalidArgument,
        "experiment.name: is empty: name an experiment of the server's settings",
    ),
    (
        "an experiment without a unit",
        Score(|request| of_unit(request, "gates", "")),
        Code::InvalidArgument,
        "experiment.unit: is empty: give what is assigned, such as the user's id",
    ),
    (
        "a long unit",
        Score(|request| of_unit(request, "gates", "0123456789abcdefg")),
        Code::InvalidArgument,
        "experiment.unit: has 17 bytes, at most 16 are accepted (limits.text_bytes)",
    ),
    (
        "a model beside an experiment",
        Score(|request| {
            of_unit(request, "gates", "user-1");
            request.model = "demo".into();
        }),
        Code::InvalidArgument,
        "model: is 'demo' beside experiment 'gates', which says what scores: leave it out",
    ),
    (
        "a version beside an experiment",
        Score(|request| {
            of_unit(request, "gates", "user-1");
            request.version = 1;
        }),
        Code::InvalidArgument,
        "version: is '1' beside experiment 'gates'",
    ),
    (
        "a label beside an experiment",
        Score(|request| {
            of_unit(request, "gates", "user-1");
            request.label = "canary".into();
        }),
        Code::InvalidArgument,
        "label: is 'canary' beside experiment 'gates'",
    ),
    (
        "a priority above the highest",
        Score(|request| request.priority = 10),
        Code::InvalidArgument,
        "priority: is 10: it must be between 0 and 9",
    ),
    (
        "gate weights of a model without experts",
        Score(|request| (request.model, request.explain_gates) = ("other".into(), true)),
        Code::InvalidArgument,
        "model 'other/1' gives no gate weights: it has no experts",
    ),
    (
        "a formula that is none",
        Score(|request| fuse(request, "ctr * (bid")),
        Code::InvalidArgument,
        "formula: expected an operator or ')' after '(', found the end, at character 11",
    ),
    (
        "a formula over nothing known",
        Score(|request| fuse(request, "ctr * prize")),
        Code::InvalidArgument,
        "formula: 'prize' is neither an output (ctr, cvr, ctcvr) nor an int or float column of items (item_id, \
         price, bid); did you mean 'price'?",
    ),
    (
        "a formula over a column of the user",
        Score(|request| fuse(request, "ctr * age")),
        Code::InvalidArgument,
        "formula: 'age' is neither an output",
    ),
    (
        "a formula over a column of no single numbers",
        Score(|request| {
            fuse(request, "ctr * bid");
            request.items[2].values = Some(texts(&["a", "b"]));
        }),
        Code::InvalidArgument,
        "formula: 'bid' is of type text: a formula takes ints and floats",
    ),
    (
        "a formula without a finite result",
        Score(|request| fuse(request, "ctr / (bid - bid)")),
        Code::InvalidArgument,
        "formula: row 0: 'ctr / (bid - bid)' is infinite where ctr is",
    ),
    (
        "a formula of a missing value",
        Score(|request| {
            fuse(request, "ctr * bid");
            request.items[2].missing = vec![1];
        }),
        Code::InvalidArgument,
        "formula: row 1: 'ctr * bid' is not a number where ctr is",
    ),
    (
        "a column of which two are given to a formula",
        Score(|request| {
            fuse(request, "ctr * bid");
            request.items.push(request.items[2].clone());
        }),
        Code::InvalidArgument,
        "items 'bid': is given twice: keep one of them",
    ),
    (
        "a column that the formula does not name",
        Score(|request| fuse(request, "ctr")),
        Code::InvalidArgument,
        "unknown feature 'bid'",
    ),
    (
        "unknown formula",
        Score(|request| request.formula_name = "value".into()),
        Code::InvalidArgument,
        "formula_name: model 'demo' has no formula 'value' in the server's settings; it has: revenue",
    ),
    (
        "a formula of the settings that does not fit the request",
        Score(|request| request.formula_name = "revenue".into()),
        Code::InvalidArgument,
        "formula_name: 'revenue' of the server's settings: 'bid' is neither an output (ctr, cvr, ctcvr) nor an \
         int or float column of items (item_id, price)",
    ),
    (
        "a formula of the settings that has no finite result",
        Score(|request| {
            request.formula_name = "revenue".into();
            request.items.push(wire::Column { missing: vec![1], ..column("bid", ints(&[3, 4])) });
        }),
        Code::InvalidArgument,
        "formula_name: 'revenue' of the server's settings: row 1: 'ctcvr * bid' is not a number",
    ),
    (
        "a formula of the settings that does not fit the model of an arm",
        Score(|request| {
            of_unit(request, "gates", "user-1");
            request.formula_name = "revenue".into();
        }),
        Code::InvalidArgument,
        "experiment 'gates', arm 'control': formula_name: 'revenue' of the server's settings: 'bid' is neither",
    ),
    (
        "a formula beside the name of one",
        Score(|request| (request.formula, request.formula_name) = ("ctr".into(), "revenue".into())),
        Code::InvalidArgument,
        "formula_name: is 'revenue' beside a formula: give one of them",
    ),
];

/// Names the experiment and the unit, and no model.
fn of_unit(request: &mut wire::ScoreRequest, name: &str, unit: &str) {
    request.model = String::new();
    request.experiment = Some(wire::ExperimentUnit { name: name.into(), unit: unit.into() });
}

/// Asks for a fused score, of a further column `bid` for all that it names.
fn fuse(request: &mut wire::ScoreRequest, formula: &str) {
    request.formula = formula.into();
    request.items.push(column("bid", ints(&[3, 4])));
}

fn ints(values: &[i64]) -> Values {
    Values::Ints(wire::Ints { values: values.to_vec() })
}

fn floats(values: &[f64]) -> Values {
    Values::Floats(wire::Floats { values: values.to_vec() })
}

fn texts(values: &[&str]) -> Values {
    Values::Texts(wire::Texts { values: values.iter().map(|text| (*text).to_owned()).collect() })
}

fn lists(values: &[i64], offsets: &[u32]) -> Values {
    Values::IntLists(wire::IntLists { values: values.to_vec(), offsets: offsets.to_vec() })
}
