//! From trained parameters to a bundle that has proved itself: exported in both forms, run in the
//! runtime that will serve it, compared with the trainer's own scores, and only then published.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gatefold_dataset::Columns;
use gatefold_engine::{BackendLoader, Bundle, BundleWriter, GOLDEN_TOLERANCE, GraphForm, golden};
use gatefold_features::{Encoder, FeatureBatch, RawBatch, Strictness};
use gatefold_onnx::{ExportOptions, ExternalWeights, export, fold};
use gatefold_schema::{
    BundleManifest, FittedFeature, GateOutput, Golden, GoldenRequest, GraphFile, GraphInput, Level,
    REQUEST_OF, Recipe, task,
};

use crate::{
    calibration,
    data::TrainingData,
    error::TrainError,
    forward::Forward,
    levels,
    progress::{Event, Progress},
    train::Trained,
};

/// File of the graph whose inputs all have one row a candidate.
const PLAIN_FILE: &str = "model.onnx";
/// File of the graph whose request-level inputs have one row a request.
const USER_ONCE_FILE: &str = "model.user_once.onnx";
/// File of the embedding tables, which both graphs refer to.
const WEIGHTS_FILE: &str = "weights.bin";
/// Validation rows that the exported graphs are compared on.
const COMPARED_ROWS: usize = 4096;

/// A published bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its folder.
    pub folder: PathBuf,
    /// Its version.
    pub version: u64,
}

/// Publishes `trained` as the next version in `model_folder` (`models/<name>`).
///
/// Both ONNX graphs are run by `loader`'s backends on the golden requests and on some thousand
/// validation rows; unless every score is within [`GOLDEN_TOLERANCE`] of the trainer's, nothing is
/// published. The bundle's bytes depend on recipe, samples, seed, name and version alone.
///
/// # Errors
/// When the model cannot be exported, run or written, or gives other scores. The model's folder is
/// then as it was.
pub fn publish(
    recipe: &Recipe,
    data: &TrainingData,
    trained: &Trained,
    model_folder: &Path,
    loader: &dyn BackendLoader,
    progress: &mut dyn Progress,
) -> Result<Published, TrainError> {
    let failed = |source| TrainError::Bundle { path: model_folder.to_owned(), source };
    let calibrators = calibration::calibrators(&trained.calibrations);
    let Recipe { tasks, derived, model, .. } = recipe;
    let (graph, gates) =
        gatefold_nn::explained(&data.encoders.features, tasks, derived, model, &calibrators)?;
    let targets = graph.outputs().iter().map(|(_, node)| *node).collect();
    let mut forward = Forward::with_targets(graph, targets, recipe, &data.encoders, 1)?;
    let golden = golden_requests(data, trained, &mut forward, tasks.len() + derived.len())?;

    let folded = fold(forward.graph(), &|name| trained.parameters.by_name(name))?;
    let user_once = levels::user_once(&data.encoders, &folded.graph)?;
    let mut writer = BundleWriter::create(model_folder).map_err(failed)?;
    let mut weights = ExternalWeights::new(WEIGHTS_FILE);
    let options = ExportOptions { name: writer.name().to_owned(), ..ExportOptions::default() };
    let graphs = [(PLAIN_FILE, Some(&folded.graph)), (USER_ONCE_FILE, user_once.as_ref())];
    for (file, graph) in graphs {
        let Some(graph) = graph else { continue };
        let values = |name: &str| {
            folded.values.get(name).map(Vec::as_slice).or_else(|| trained.parameters.by_name(name))
        };
        let bytes = export(graph, &values, &mut weights, &options)?;
        writer.write(file, &bytes).map_err(failed)?;
    }
    if !weights.is_empty() {
        writer.write_with(WEIGHTS_FILE, |file| weights.write_to(file)).map_err(failed)?;
    }
    writer.write_encoders(&data.encoders).map_err(failed)?;
    writer.write_golden(&golden).map_err(failed)?;

    let mut refusal = None;
    let manifest = manifest(recipe, data, trained, gates, user_once.is_some());
    let published = writer.publish(manifest, |bundle| {
        compare_graphs(bundle, data, trained, &mut forward, loader, progress).map_err(|error| {
            let text = error.to_string();
            refusal = Some(error);
            text
        })
    });
    match (published, refusal) {
        (Ok(bundle), _) => Ok(Published {
            folder: model_folder.join(bundle.manifest().version.to_string()),
            version: bundle.manifest().version,
        }),
        (Err(_), Some(refusal)) => Err(refusal),
        (Err(error), None) => Err(failed(error)),
    }
}

/// The example requests with the scores that the trainer gives them: the first `outputs` of what
/// `forward` computes.
fn golden_requests(
    data: &TrainingData,
    trained: &Trained,
    forward: &mut Forward,
    outputs: usize,
) -> Result<Golden, TrainError> {
    if data.examples.is_empty() {
        return Err(TrainError::NoExamples);
    }
    let encoder = Encoder::new(data.encoders.clone()).map_err(TrainError::Recipe)?;
    let mut requests = Vec::with_capacity(data.examples.len());
    for example in &data.examples {
        let batch = RawBatch::from_json(std::slice::from_ref(example), encoder.set())
            .and_then(|raw| encoder.encode(&raw, Strictness::Refuse))
            .map_err(|source| TrainError::Example { request: example.request_id.clone(), source })?;
        let scores = forward.score(&trained.parameters, &batch)?;
        let names = forward.output_names().map(str::to_owned);
        let scores = names.zip(scores).take(outputs).collect();
        requests.push(GoldenRequest { request: example.clone(), scores });
    }
    Ok(Golden { requests })
}

/// Runs both graphs of a written bundle and compares their scores and gate weights with the trainer's.
fn compare_graphs(
    bundle: &Bundle,
    data: &TrainingData,
    trained: &Trained,
    forward: &mut Forward,
    loader: &dyn BackendLoader,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    let part = data.valid.read(0, Columns { features: true, labels: &[], time: false })?;
    let rows = part.rows.min(COMPARED_ROWS);
    let batch: FeatureBatch = part.request_batch(0..rows);
    let native = forward.score(&trained.parameters, &batch)?;
    let outputs: Vec<usize> = (0..native.len()).collect();
    for (form, name) in [(GraphForm::Plain, "plain"), (GraphForm::UserOnce, "user-once")] {
        if bundle.graph(form).is_none() {
            continue;
        }
        let mut backend = loader.open(bundle, form)?;
        let golden = golden::check(bundle, backend.as_mut())
            .map_err(|source| TrainError::Golden { form: name, source })?;
        let exported = backend.run(&batch, &outputs)?;
        let mut largest_difference = golden.largest_difference;
        for ((output, exported), native) in forward.output_names().zip(&exported).zip(&native) {
            let width = native.len() / rows.max(1);
            for (place, (exported, native)) in exported.iter().zip(native).enumerate() {
                let difference = (exported - native).abs();
                if difference.is_nan() || difference > GOLDEN_TOLERANCE {
                    return Err(TrainError::Parity {
                        form: name,
                        output: output.to_owned(),
                        row: place / width.max(1),
                        exported: *exported,
                        native: *native,
                    });
                }
                largest_difference = largest_difference.max(difference);
            }
        }
        progress.report(&Event::Verified { form: name, rows: rows + golden.candidates, largest_difference });
    }
    Ok(())
}

/// The manifest, without what the writer fills in.
fn manifest(
    recipe: &Recipe,
    data: &TrainingData,
    trained: &Trained,
    gate_outputs: Vec<GateOutput>,
    has_user_once: bool,
) -> BundleManifest {
    let inputs = |user_once: bool| {
        let input = |fitted: &FittedFeature| GraphInput {
            name: fitted.feature.name.clone(),
            feature: fitted.feature.name.clone(),
            level: if user_once { fitted.feature.side.level() } else { Level::Candidate },
        };
        data.encoders.features.iter().map(input).collect()
    };
    let graph = |file: &str, user_once: bool| GraphFile {
        file: file.to_owned(),
        inputs: inputs(user_once),
        request_of: user_once.then(|| REQUEST_OF.to_owned()),
    };
    let warm_start = trained.warm_start.clone().map(|from| ("warm start", from));
    let provenance = [
        ("recipe", recipe.name.clone()),
        ("training", serde_json::to_string(&recipe.train).unwrap_or_default()),
        ("seed", recipe.train.seed.to_string()),
        ("best step", trained.report.best_step.to_string()),
        ("program", format!("gatefold {}", env!("CARGO_PKG_VERSION"))),
    ];
    BundleManifest {
        format: 0,
        name: String::new(),
        version: 0,
        model: Some(recipe.model.clone()),
        fingerprint: data.encoders.fingerprint(),
        features: data.encoders.features.clone(),
        vocabularies: data.encoders.vocabularies.keys().cloned().collect(),
        tasks: recipe.tasks.clone(),
        derived: recipe.derived.clone(),
        outputs: task::outputs(&recipe.tasks, &recipe.derived),
        plain: graph(PLAIN_FILE, false),
        user_once: has_user_once.then(|| graph(USER_ONCE_FILE, true)),
        metrics: trained.evaluation.by_name(),
        calibrations: trained.calibrations.clone(),
        gates: trained.gates.clone(),
        gate_outputs,
        golden_tolerance: None,
        provenance: provenance
            .into_iter()
            .chain(warm_start)
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        files: BTreeMap::new(),
    }
}
