//! What cannot be built, and in which words it is refused.

use gatefold_graph::Graph;
use gatefold_nn::{NnError, forward};
use gatefold_schema::{Encoder, ModelKind, Pooling};

use crate::world::{derived, features, model, tasks};

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

    let mut unasked = features();
    unasked[3].feature.pooling = Pooling::Attention;
    unasked[3].feature.query = Some("price".into());
    check_refused(
        forward(&unasked, &tasks(), &[], &mmoe),
        "feature 'recent': its query 'price' is no categorical feature",
    );

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
