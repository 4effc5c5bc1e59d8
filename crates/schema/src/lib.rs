//! The words every part of Gatefold shares: features, tasks, recipes and manifests.
//!
//! These are the only types that are written to disk. They hold no logic beyond checking
//! themselves: what reads files, runs models or serves requests lives elsewhere and depends on
//! this crate, so that one definition of a feature or a task is used by sample building,
//! training, batch scoring and serving alike.
//!
//! - [`feature`]: what a feature is, how it is encoded, and the state its encoder was fitted to.
//! - [`calibration`]: what makes a probability hold, and the record of it.
//! - [`gates`]: what a look into a model's gates and hidden layers found.
//! - [`task`]: what is predicted, on which sample space, and what is derived from it.
//! - [`recipe`]: the TOML file a person writes.
//! - [`manifest`]: the JSON files that describe sample shards and model bundles.
//! - [`checkpoint`]: the JSON file that describes an unfinished training.
//! - [`import_map`]: the TOML file that says what the inputs and outputs of a foreign graph are.
//! - [`request`]: one request's raw feature values as JSON.
//! - [`span`]: lengths of time and instants as people write them.
//! - [`strict`]: parsing that refuses unknown keys, naming the line and the nearest known key.

pub mod calibration;
pub mod checkpoint;
pub mod feature;
pub mod gates;
pub mod import_map;
pub mod manifest;
pub mod recipe;
pub mod request;
pub mod span;
pub mod strict;
pub mod task;

pub use calibration::{Calibration, CalibrationFigures, CalibrationMethod, Calibrator};
pub use checkpoint::{CheckpointManifest, SamplesIdentity, StoredBest, StoredFile};
pub use feature::{
    Clip, Encoder, EncoderSet, EncoderState, Feature, FittedFeature, Kind, Level, Pooling, Side, TargetBy,
    TargetMeans, ValueType, Vocabulary, VocabularyValues,
};
pub use gates::{CapturedExpert, ExpertWeight, GateFigures, GateReport, LayerFigures};
pub use import_map::{GoldenConfig, ImportMap, MappedFeature, MappedTask};
pub use manifest::{
    BundleManifest, FileEntry, GateOutput, Golden, GoldenRequest, GraphFile, GraphInput, MODEL_NAME_RULE,
    OutputInfo, SampleManifest, ShardInfo, SplitInfo, is_model_name,
};
pub use recipe::{
    Activation, AdultFiles, Aggregate, BY_ITEM, BY_USER, BalanceConfig, CLICK_LABEL, CONVERSION_LABEL,
    CensusFile, ClickKey, ConversionPolicy, Correction, EventKind, EventLogs, Files, JOINT, LATE_COLUMN,
    LabelConfig, Log, Maturity, ModelConfig, ModelKind, Normalization, OBSERVED, OnBadRow, OptimizerConfig,
    OutsideSpace, Profiles, Recipe, SESSION, SESSION_POSITION, SHARED, SampleSource, SamplesConfig,
    SamplingConfig, ScheduleConfig, SelectConfig, SelectMetric, SequenceConfig, Served, SplitBy, SplitConfig,
    Statistic, TimeUnit, TrainConfig, VIEW_LABEL, ValueLabel, WEIGHT_COLUMN,
};
pub use request::JsonRequest;
pub use span::{Instant, Span};
pub use strict::ConfigError;
pub use task::{Derived, FakeNegatives, Loss, Task};

/// Code of a padded position in a sequence; row 0 of every embedding table is zero.
pub const PADDING_CODE: i32 = 0;
/// Code of a value that is absent.
pub const MISSING_CODE: i32 = 1;
/// First code that stands for a value: out-of-vocabulary buckets begin here.
pub const FIRST_VALUE_CODE: i32 = 2;
/// Name of the graph input that maps each candidate row to its request row.
pub const REQUEST_OF: &str = "request_of";
