//! Models as the protocol describes them: metadata, and Triton's configuration.

use gatefold_engine::{EngineSettings, ModelInfo};
use gatefold_proto::inference as wire;
use gatefold_schema::{Feature, Kind, Level, ValueType};
use wire::model_config::SchedulingChoice;
use wire::model_metadata_response::TensorMetadata;

use super::request::{LENGTH, MISSING};
use super::tensor::Datatype;

/// What stands under models here, as Triton names it.
const PLATFORM: &str = "gatefold";

/// A dimension of any size.
const ANY: i64 = -1;

/// The datatype that a feature is declared with; [`super::request`] takes some others as well.
pub(super) fn datatype(feature: &Feature) -> Datatype {
    match feature.value_type {
        ValueType::Int => Datatype::Int64,
        // As samples and `Score` have them; FP32 is taken, and has rounded what it holds.
        ValueType::Float => Datatype::Fp64,
        ValueType::Text => Datatype::Bytes,
    }
}

/// One row a request for user and context, one a candidate for items.
fn shape(feature: &Feature) -> Vec<i64> {
    let rows = match feature.side.level() {
        Level::Request => 1,
        Level::Candidate => ANY,
    };
    match feature.kind {
        Kind::Sequence => vec![rows, ANY],
        Kind::Categorical | Kind::Numeric => vec![rows],
    }
}

/// What a request must give, and what it gets; `versions` take traffic.
pub(super) fn metadata(info: &ModelInfo, versions: &[u64]) -> wire::ModelMetadataResponse {
    let manifest = info.bundle.manifest();
    let input = |feature: &Feature| TensorMetadata {
        name: feature.name.clone(),
        datatype: datatype(feature).name().to_owned(),
        shape: shape(feature),
    };
    let output = |name: &String| TensorMetadata {
        name: name.clone(),
        datatype: Datatype::Fp32.name().to_owned(),
        shape: vec![ANY],
    };
    wire::ModelMetadataResponse {
        name: info.model.name.to_string(),
        versions: versions.iter().map(u64::to_string).collect(),
        platform: PLATFORM.to_owned(),
        inputs: info.bundle.encoder().set().sent().map(input).collect(),
        outputs: manifest.outputs.iter().map(|info| output(&info.name)).collect(),
    }
}

/// As [`metadata`], with the inputs that a request may leave out, and how the model is run.
pub(super) fn config(info: &ModelInfo, engine: &EngineSettings) -> wire::ModelConfig {
    let manifest = info.bundle.manifest();
    let graph = info.bundle.graph(info.bundle.form(engine.form));
    let output = |name: &String| wire::ModelOutput {
        name: name.clone(),
        data_type: wire::DataType::TypeFp32.into(),
        dims: vec![ANY],
    };
    let delay = u64::try_from(engine.batch_delay.as_micros()).unwrap_or(u64::MAX);
    let mut parameters = vec![
        ("version".to_owned(), info.model.version.to_string()),
        ("user_once".to_owned(), manifest.user_once.is_some().to_string()),
    ];
    parameters
        .extend(manifest.outputs.iter().map(|info| (format!("space.{}", info.name), info.space.clone())));
    let parameter = |(name, value)| (name, wire::ModelParameter { string_value: value });
    wire::ModelConfig {
        name: info.model.name.to_string(),
        platform: PLATFORM.to_owned(),
        backend: PLATFORM.to_owned(),
        max_batch_size: 0,
        input: info.bundle.encoder().set().sent().flat_map(inputs).collect(),
        output: manifest.outputs.iter().map(|info| output(&info.name)).collect(),
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(wire::ModelDynamicBatching {
            max_queue_delay_microseconds: delay,
        })),
        instance_group: vec![wire::ModelInstanceGroup {
            name: info.model.name.to_string(),
            count: i32::try_from(engine.workers).unwrap_or(i32::MAX),
            kind: wire::model_instance_group::Kind::Cpu.into(),
        }],
        default_model_filename: graph.map(|graph| graph.file.clone()).unwrap_or_default(),
        parameters: parameters.into_iter().map(parameter).collect(),
        model_transaction_policy: Some(wire::ModelTransactionPolicy { decoupled: false }),
    }
}

/// The inputs of one feature: its values, the lengths of its rows, and which are missing.
fn inputs(feature: &Feature) -> Vec<wire::ModelInput> {
    let data_type = match feature.value_type {
        ValueType::Int => wire::DataType::TypeInt64,
        ValueType::Float => wire::DataType::TypeFp64,
        ValueType::Text => wire::DataType::TypeString,
    };
    let dims = shape(feature);
    let optional = |suffix, data_type: wire::DataType| wire::ModelInput {
        name: format!("{}{suffix}", feature.name),
        data_type: data_type.into(),
        dims: dims[..1].to_vec(),
        optional: true,
    };
    let value = wire::ModelInput {
        name: feature.name.clone(),
        data_type: data_type.into(),
        dims: dims.clone(),
        optional: false,
    };
    let length = (feature.kind == Kind::Sequence).then(|| optional(LENGTH, wire::DataType::TypeInt64));
    let missing = optional(MISSING, wire::DataType::TypeBool);
    [Some(value), length, Some(missing)].into_iter().flatten().collect()
}
