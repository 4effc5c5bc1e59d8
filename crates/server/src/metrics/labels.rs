//! The sets of labels that series are told apart by.

use std::sync::Arc;

use gatefold_engine::ModelVersion;
use prometheus_client::encoding::EncodeLabelSet;
use tonic::Code;

use super::{Rejection, code_name};
use crate::experiments::Arm;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByModel {
    model: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByState {
    model: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByVersion {
    model: Arc<str>,
    version: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByFeature {
    model: Arc<str>,
    version: u64,
    feature: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByOutput {
    model: Arc<str>,
    version: u64,
    output: Arc<str>,
}

/// `version` is 0 where no loaded model was meant; `model` is then empty, or that of an experiment's arm.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByCode {
    model: Arc<str>,
    version: u64,
    code: &'static str,
}

/// As [`ByCode`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByReason {
    model: Arc<str>,
    version: u64,
    reason: &'static str,
}

/// `arm` is empty for the units that are in none.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ByArm {
    experiment: String,
    arm: String,
    code: &'static str,
}

impl ByArm {
    pub(super) fn new(arm: &Arm, code: Code) -> Self {
        Self { experiment: arm.experiment.clone(), arm: arm.name.clone(), code: code_name(code) }
    }
}

impl ByModel {
    pub(super) fn new(model: &ModelVersion) -> Self {
        Self { model: model.name.clone() }
    }
}

impl ByState {
    pub(super) fn new(model: &ModelVersion, state: &'static str) -> Self {
        Self { model: model.name.clone(), state }
    }
}

impl ByVersion {
    pub(super) fn new(model: &ModelVersion) -> Self {
        Self { model: model.name.clone(), version: model.version }
    }
}

impl ByFeature {
    pub(super) fn new(model: &ModelVersion, feature: &str) -> Self {
        Self { model: model.name.clone(), version: model.version, feature: feature.into() }
    }
}

impl ByOutput {
    pub(super) fn new(model: &ModelVersion, output: &str) -> Self {
        Self { model: model.name.clone(), version: model.version, output: output.into() }
    }
}

impl ByCode {
    pub(super) fn new(model: Option<&ModelVersion>, code: Code) -> Self {
        let (model, version) = name_and_version(model);
        Self { model, version, code: code_name(code) }
    }
}

impl ByReason {
    pub(super) fn new(model: Option<&ModelVersion>, reason: Rejection) -> Self {
        let (model, version) = name_and_version(model);
        Self { model, version, reason: reason.name() }
    }
}

fn name_and_version(model: Option<&ModelVersion>) -> (Arc<str>, u64) {
    model.map_or_else(|| ("".into(), 0), |model| (model.name.clone(), model.version))
}
