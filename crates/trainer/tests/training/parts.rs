//! The parts of models, combined: what is trained with them learns the rule, and both exported
//! graphs give its scores (which publishing proves before it publishes).

use gatefold_schema::{Activation, ModelKind, Normalization, Pooling, Recipe};
use gatefold_trainer::{Silent, publish, train};

use crate::{ONE_THREAD, loader, tiny};

#[track_caller]
fn check(kind: ModelKind, change: impl Fn(&mut Recipe)) {
    let mut data = tiny::sample();
    let mut recipe = tiny::recipe(kind);
    change(&mut recipe);
    for (fitted, feature) in data.encoders.features.iter_mut().zip(&recipe.features) {
        fitted.feature = feature.clone();
    }
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
    check(ModelKind::Mmoe, |recipe| {
        recipe.model.normalization = Normalization::Batch;
        recipe.model.dropout = 0.1;
    });
}

#[test]
fn layer_normalization_and_gelu_in_several_levels() {
    check(ModelKind::Ple, |recipe| {
        recipe.model.normalization = Normalization::Layer;
        recipe.model.activation = Activation::Gelu;
        recipe.model.levels = 3;
        recipe.model.gate = vec![8];
    });
}

#[test]
fn batch_normalization_along_the_transfer() {
    check(ModelKind::Aitm, |recipe| {
        recipe.model.normalization = Normalization::Batch;
        recipe.model.activation = Activation::Silu;
    });
}

#[test]
fn sequences_pooled_in_every_way() {
    for pooling in [Pooling::Sum, Pooling::Max, Pooling::Attention, Pooling::Gru] {
        check(ModelKind::SharedBottom, |recipe| {
            let history = &mut recipe.features[3];
            assert_eq!(history.name, "history");
            history.pooling = pooling;
            history.query = (pooling == Pooling::Attention).then(|| "item".into());
        });
    }
}
