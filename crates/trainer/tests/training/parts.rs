//! The parts of models, combined: what is trained with them learns the rule, and both exported
//! graphs give its scores (which publishing proves before it publishes).

use gatefold_schema::{Activation, ModelConfig, ModelKind, Normalization};
use gatefold_trainer::{Silent, publish, train};

use crate::{ONE_THREAD, loader, tiny};

#[track_caller]
fn check(kind: ModelKind, change: impl Fn(&mut ModelConfig)) {
    let data = tiny::sample();
    let mut recipe = tiny::recipe(kind);
    change(&mut recipe.model);
    let trained = train(&recipe, &data, &ONE_THREAD, &mut Silent).unwrap();
    let truth = tiny::oracle(&tiny::rows(&data.valid));
    for (output, oracle) in trained.evaluation.outputs.iter().zip(&truth) {
        let auc = output.figures.auc.unwrap();
        assert!(auc > oracle - 0.04, "{}: {auc:.3} of {oracle:.3}", output.output);
    }
    let folder = tempfile::tempdir().unwrap();
    publish(&recipe, &data, &trained, &folder.path().join("tiny"), &loader(), &mut Silent).unwrap();
}

#[test]
fn batch_normalization_and_dropout() {
    check(ModelKind::Mmoe, |model| {
        model.normalization = Normalization::Batch;
        model.dropout = 0.1;
    });
}

#[test]
fn layer_normalization_and_gelu_in_several_levels() {
    check(ModelKind::Ple, |model| {
        model.normalization = Normalization::Layer;
        model.activation = Activation::Gelu;
        model.levels = 3;
        model.gate = vec![8];
    });
}

#[test]
fn batch_normalization_along_the_transfer() {
    check(ModelKind::Aitm, |model| {
        model.normalization = Normalization::Batch;
        model.activation = Activation::Silu;
    });
}
