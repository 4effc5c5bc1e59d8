//! The features, tasks and model that the tests build on.

use gatefold_schema::{
    Derived, Encoder, EncoderState, Feature, FittedFeature, Kind, Loss, ModelConfig, ModelKind, Pooling,
    Side, Task, ValueType,
};

/// 5 codes (padding, missing, 3 buckets) in tables of width 4: `city` (user) and `product` (item,
/// shared with the user's sequence `recent`), and one number on each side.
pub(crate) fn features() -> Vec<FittedFeature> {
    vec![
        coded("product", Side::Item, None, None),
        coded("city", Side::User, None, None),
        numeric("price", Side::Item),
        coded("recent", Side::User, Some(6), Some("product")),
        numeric("hour", Side::Context),
    ]
}

pub(crate) fn coded(name: &str, side: Side, max_len: Option<usize>, table: Option<&str>) -> FittedFeature {
    let kind = if max_len.is_some() { Kind::Sequence } else { Kind::Categorical };
    let feature = Feature {
        name: name.into(),
        side,
        kind,
        value_type: ValueType::Int,
        column: None,
        cross: Vec::new(),
        clip: None,
        fit: true,
        encoder: Encoder::Hash { buckets: 3, seed: 0 },
        embedding: Some(4),
        table: table.map(str::to_owned),
        max_len,
        pooling: Pooling::Mean,
        query: None,
    };
    FittedFeature { feature, state: EncoderState::Stateless }
}

pub(crate) fn numeric(name: &str, side: Side) -> FittedFeature {
    let mut fitted = coded(name, side, None, None);
    fitted.feature.kind = Kind::Numeric;
    fitted.feature.encoder = Encoder::None;
    fitted.feature.embedding = None;
    fitted
}

pub(crate) fn tasks() -> Vec<Task> {
    let task = |name: &str, given: Option<&str>, weight: f32| Task {
        name: name.into(),
        label: name.into(),
        given: given.map(str::to_owned),
        weight,
        loss: Loss::CrossEntropy,
        fake_negatives: None,
        potential_label: None,
        oracle: None,
    };
    vec![task("ctr", None, 1.0), task("cvr", Some("ctr"), 0.5)]
}

pub(crate) fn derived() -> Vec<Derived> {
    vec![Derived {
        name: "ctcvr".into(),
        product: vec!["ctr".into(), "cvr".into()],
        label: "conversion".into(),
    }]
}

pub(crate) fn model(kind: ModelKind) -> ModelConfig {
    ModelConfig {
        bottom: vec![7, 6],
        experts: 3,
        task_experts: 2,
        levels: 2,
        expert: vec![7, 6],
        gate: vec![],
        tower: vec![5],
        ..ModelConfig::new(kind)
    }
}
