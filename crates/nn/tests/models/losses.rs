//! Losses against the scores that they are made of.

use gatefold_graph::ElementType;
use gatefold_nn::training;
use gatefold_schema::{ModelConfig, ModelKind};

use crate::{
    evaluate::{Values, evaluate, pseudo_random},
    world::{derived, features, model, tasks},
};

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
    let products: Vec<f64> = found["ctr"].iter().zip(&found["cvr"]).map(|(ctr, cvr)| ctr * cvr).collect();
    assert_eq!(found["ctcvr"], products);
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
