//! Writes an MMoE model with random weights in both forms, for measuring what a form costs in
//! ONNX Runtime: `cargo run --release -p gatefold-onnx --example mmoe_forms -- FOLDER`.
//!
//! 18 user and 8 item fields of width 16 with 10,000 codes each, 8 experts 256-128, 2 towers of 64.

use std::{collections::BTreeMap, env, fs, io::BufWriter, path::PathBuf};

use anyhow::Context as _;
use gatefold_graph::passes;
use gatefold_onnx::{ExportOptions, ExternalWeights, export};
use gatefold_schema::{
    Derived, Encoder, EncoderState, Feature, FittedFeature, Kind, Loss, ModelConfig, ModelKind, Pooling,
    Side, Task, ValueType,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::args().nth(1).context("name the folder to write to")?);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;

    let features: Vec<FittedFeature> =
        (0..26).map(|index| field(index, if index < 18 { Side::User } else { Side::Item })).collect();
    let tasks = [task("ctr", None), task("cvr", Some("ctr"))];
    let derived = [Derived {
        name: "ctcvr".into(),
        product: vec!["ctr".into(), "cvr".into()],
        label: "conversion".into(),
    }];
    let model = ModelConfig::new(ModelKind::Mmoe);
    let plain = gatefold_nn::forward(&features, &tasks, &derived, &model)?;
    let split = passes::user_once(&plain, &|input| input.starts_with("user"))?;

    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut weights = BTreeMap::new();
    for parameter in plain.parameters() {
        let scale = if parameter.table { 0.5 } else { (3.0 / parameter.dims[0] as f32).sqrt() };
        let len = parameter.dims.iter().product();
        let mut values: Vec<f32> = (0..len).map(|_| scale * (2.0 * random.random::<f32>() - 1.0)).collect();
        if parameter.table {
            values[..parameter.dims[1]].fill(0.0);
        }
        weights.insert(parameter.name.as_str(), values);
    }

    let mut external = ExternalWeights::new("weights.bin");
    let values = |name: &str| weights.get(name).map(Vec::as_slice);
    for (graph, file) in [(&plain, "model.onnx"), (&split, "model.user_once.onnx")] {
        let options = ExportOptions { name: "mmoe".into(), ..ExportOptions::default() };
        let bytes = export(graph, &values, &mut external, &options)?;
        fs::write(folder.join(file), bytes).with_context(|| format!("cannot write {file}"))?;
    }
    let file = fs::File::create(folder.join(external.file_name()))?;
    external.write_to(BufWriter::new(file))?;
    Ok(())
}

fn field(index: usize, side: Side) -> FittedFeature {
    let feature = Feature {
        name: format!("{}_{index}", side.name()),
        side,
        kind: Kind::Categorical,
        value_type: ValueType::Int,
        column: None,
        cross: Vec::new(),
        clip: None,
        fit: true,
        encoder: Encoder::Hash { buckets: 9_998, seed: 0 },
        embedding: Some(16),
        table: None,
        max_len: None,
        pooling: Pooling::Mean,
        query: None,
    };
    FittedFeature { feature, state: EncoderState::Stateless }
}

fn task(name: &str, given: Option<&str>) -> Task {
    Task {
        name: name.into(),
        label: name.into(),
        given: given.map(str::to_owned),
        weight: 1.0,
        loss: Loss::CrossEntropy,
        fake_negatives: None,
        potential_label: None,
        oracle: None,
    }
}
