//! `gatefold bundle import`: a bundle of an ONNX model that another program wrote.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gatefold_backend_ort::OrtLoader;
use gatefold_engine::{BackendLoader as _, Bundle, BundleWriter, GraphForm, golden};
use gatefold_features::Encoder;
use gatefold_onnx::{ExternalWeights, foreign::ForeignModel};
use gatefold_schema::{
    BundleManifest, FittedFeature, GraphFile, GraphInput, ImportMap, Level, REQUEST_OF, task,
};
use serde_json::json;

use super::{encoders::encoders, golden as requests, trial::Trial, user_once};
use crate::{bundles, console::Console};

const PLAIN_FILE: &str = "model.onnx";
const USER_ONCE_FILE: &str = "model.user_once.onnx";
const WEIGHTS_FILE: &str = "weights.bin";

/// Make a bundle of an ONNX model that another program wrote.
///
/// The map says which inputs and outputs of the graph are which features and tasks; --suggest prints
/// one to begin with. The model is run on golden requests before the bundle appears. Where its first
/// layers can be split into the request's part and the candidate's, and the result gives the same
/// scores, the bundle gets that form beside the plain one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  gatefold bundle import model.onnx --suggest > map.toml\n  \
                        gatefold bundle import model.onnx --map map.toml --out work/models")]
pub(crate) struct Args {
    /// The model; files that hold its tensors are taken along.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What its inputs and outputs are (TOML).
    #[arg(long, value_name = "FILE", required_unless_present = "suggest")]
    map: Option<PathBuf>,
    /// Folder of models; the bundle becomes the next version of the model that the map names.
    #[arg(long, value_name = "DIR", required_unless_present = "suggest")]
    out: Option<PathBuf>,
    /// Print a map to begin with instead, made from what the graph shows of itself.
    #[arg(long, conflicts_with_all = ["map", "out"])]
    suggest: bool,
    /// Keep the graph as it is alone, without a form that computes the request once.
    #[arg(long)]
    plain: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> Result<()> {
    let model = ForeignModel::open(&args.model)?;
    let (Some(map), Some(out)) = (&args.map, &args.out) else {
        let name = args.model.file_stem().map(|name| name.to_string_lossy().replace(['.', ' '], "_"));
        return console.print(&model.suggest(&name.unwrap_or_default())?);
    };
    let text =
        std::fs::read_to_string(map).with_context(|| format!("cannot read the map {}", map.display()))?;
    let map_folder = map.parent().unwrap_or(Path::new(""));
    let map = ImportMap::parse(&text, &map.display().to_string())?;
    let encoder = Encoder::new(encoders(&map, map_folder)?)?;
    let failed = || format!("cannot import {}", args.model.display());

    let mut weights = ExternalWeights::new(WEIGHTS_FILE);
    let plain = model.adapt(&map, &mut weights).with_context(failed)?;
    let loader = bundles::loader()?;
    let mut writer = BundleWriter::create(out.join(&map.name))?;
    if let Some(version) = map.version {
        writer.set_version(version)?;
    }
    writer.write(PLAIN_FILE, &plain)?;
    take_along(&model, &mut writer).with_context(failed)?;
    if !weights.is_empty() {
        writer.write_with(WEIGHTS_FILE, |file| weights.write_to(file))?;
    }
    writer.write_encoders(encoder.set())?;
    let trial = Trial { map: &map, encoder: &encoder };
    let mut graph = loader.open_graph(&plain, writer.folder()).with_context(failed)?;
    let golden = trial.golden(&mut graph, requests::requests(&map.golden, map_folder, encoder.set())?)?;
    writer.write_golden(&golden)?;
    let once = match args.plain {
        true => Err("it was not asked for".to_owned()),
        false => user_once::form(&encoder, &map.outputs(), &plain, writer.folder(), &loader, &mut graph)
            .map_err(|error| format!("{error:#}")),
    };
    drop(graph);
    if let Ok(once) = &once {
        writer.write(USER_ONCE_FILE, &once.model)?;
    }
    let manifest = manifest(&map, &encoder, &model, once.is_ok());
    let bundle =
        writer.publish(manifest, |bundle| replay(bundle, &loader).map_err(|error| format!("{error:#}")))?;
    report(&bundle, &once, args.json, console)
}

/// Replays the golden requests as a server will before it takes traffic.
fn replay(bundle: &Bundle, loader: &OrtLoader) -> Result<()> {
    for form in [GraphForm::Plain, GraphForm::UserOnce] {
        if bundle.graph(form).is_some() {
            golden::check(bundle, loader.open(bundle, form)?.as_mut())?;
        }
    }
    Ok(())
}

/// Copies the files that hold the model's tensors into the bundle.
fn take_along(model: &ForeignModel, writer: &mut BundleWriter) -> Result<()> {
    let folder = model.path().parent().unwrap_or(Path::new(""));
    for name in model.external_files()? {
        let path = folder.join(&name);
        let mut file = File::open(&path)
            .with_context(|| format!("cannot read {}, where tensors of the model stand", path.display()))?;
        writer.write_with(&name, |bundled| std::io::copy(&mut file, bundled).map(drop))?;
    }
    Ok(())
}

/// The manifest, without what the writer fills in.
fn manifest(map: &ImportMap, encoder: &Encoder, model: &ForeignModel, has_user_once: bool) -> BundleManifest {
    let set = encoder.set();
    let graph = |file: &str, user_once: bool| {
        let input = |fitted: &FittedFeature| GraphInput {
            name: fitted.feature.name.clone(),
            feature: fitted.feature.name.clone(),
            level: if user_once { fitted.feature.side.level() } else { Level::Candidate },
        };
        GraphFile {
            file: file.to_owned(),
            inputs: set.features.iter().map(input).collect(),
            request_of: user_once.then(|| REQUEST_OF.to_owned()),
        }
    };
    let source = model.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let provenance = [
        ("imported from", source.unwrap_or_default()),
        ("producer", model.producer()),
        ("program", format!("gatefold {}", env!("CARGO_PKG_VERSION"))),
    ];
    BundleManifest {
        format: 0,
        name: String::new(),
        version: 0,
        model: None,
        fingerprint: encoder.fingerprint().to_owned(),
        features: set.features.clone(),
        vocabularies: set.vocabularies.keys().cloned().collect(),
        tasks: map.tasks(),
        derived: map.derived.clone(),
        outputs: task::outputs(&map.tasks(), &map.derived),
        plain: graph(PLAIN_FILE, false),
        user_once: has_user_once.then(|| graph(USER_ONCE_FILE, true)),
        metrics: BTreeMap::new(),
        calibrations: Vec::new(),
        gates: None,
        gate_outputs: Vec::new(),
        golden_tolerance: None,
        provenance: provenance.map(|(key, value)| (key.to_owned(), value)).into(),
        files: BTreeMap::new(),
    }
}

fn report(
    bundle: &Bundle,
    once: &Result<user_once::Form, String>,
    as_json: bool,
    console: &Console,
) -> Result<()> {
    let manifest = bundle.manifest();
    let outputs: Vec<&str> = manifest.outputs.iter().map(|output| output.name.as_str()).collect();
    let golden = bundle.golden();
    let candidates: usize = golden.requests.iter().map(|entry| entry.request.candidates()).sum();
    if as_json {
        return console.print_json(&json!({
            "bundle": bundle.path(),
            "name": manifest.name,
            "version": manifest.version,
            "features": manifest.features.len(),
            "outputs": outputs,
            "user_once": match once {
                Ok(form) => json!({
                    "kept": true,
                    "multiply_adds_moved": form.moved,
                    "rows_compared": form.rows,
                    "largest_difference": form.largest_difference,
                }),
                Err(reason) => json!({ "kept": false, "reason": reason }),
            },
        }));
    }
    let once = match once {
        Ok(form) => format!(
            "user once: {:.1} % of the multiply-adds are computed once a request; largest difference {:.1e} on {} \
             rows",
            form.moved * 100.0,
            form.largest_difference,
            form.rows
        ),
        Err(reason) => format!("user once: only the plain form is kept: {reason}"),
    };
    console.print(&format!(
        "{} features, outputs {}; {} golden requests with {candidates} candidates\n{once}\n{}",
        manifest.features.len(),
        outputs.join(", "),
        golden.requests.len(),
        bundle.path().display()
    ))
}
