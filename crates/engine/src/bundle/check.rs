//! Checks that the parts of a bundle agree, before any of them is used.

use std::{collections::BTreeSet, path::Path};

use gatefold_schema::{
    BundleManifest, Encoder, EncoderSet, Feature, Golden, GraphFile, Level, MODEL_NAME_RULE, feature,
    is_model_name, manifest::target_file, task,
};

use super::{BundleError, GOLDEN_FILE, MANIFEST_FILE, vocabulary_file};

/// Checks the manifest alone: names, features, tasks, outputs, graphs, and that every file a part
/// needs is among the hashed files.
pub(super) fn manifest(folder: &Path, manifest: &BundleManifest) -> Result<(), BundleError> {
    let path = folder.join(MANIFEST_FILE);
    let fail = |reason: String| Err(BundleError::invalid(&path, reason));
    if !is_model_name(&manifest.name) {
        return fail(format!("model name '{}': {MODEL_NAME_RULE}", manifest.name));
    }
    if manifest.version == 0 {
        return fail("version 0: versions begin with 1".into());
    }
    if let Some(name) = manifest.files.keys().find(|name| !is_inside(name)) {
        return fail(format!(
            "file '{name}' does not stay inside the bundle: use a plain name or one folder and a name"
        ));
    }
    let features: Vec<Feature> = manifest.features.iter().map(|fitted| fitted.feature.clone()).collect();
    feature::check_features(&features).or_else(|error| fail(error.to_string()))?;
    task::check_tasks(&manifest.tasks, &manifest.derived).or_else(|error| fail(error.to_string()))?;
    let expected = task::outputs(&manifest.tasks, &manifest.derived);
    let names = |outputs: &[gatefold_schema::OutputInfo]| {
        outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>()
    };
    if names(&expected) != names(&manifest.outputs) {
        return fail(format!(
            "outputs are [{}] but tasks and derived outputs are [{}]: publish the model again",
            names(&manifest.outputs).join(", "),
            names(&expected).join(", ")
        ));
    }
    gates(&path, manifest)?;
    graph(&path, manifest, &manifest.plain)?;
    if let Some(input) = manifest.plain.inputs.iter().find(|input| input.level == Level::Request) {
        return fail(format!(
            "the plain graph's input '{}' is at request level; only a user-once graph has such inputs",
            input.name
        ));
    }
    if let Some(user_once) = &manifest.user_once {
        graph(&path, manifest, user_once)?;
        if user_once.request_of.is_none() {
            return fail("the user-once graph names no request_of input".into());
        }
    }
    for table in &manifest.vocabularies {
        needs_file(&path, manifest, &vocabulary_file(table))?;
    }
    for feature in EncoderSet::with_means(&manifest.features) {
        needs_file(&path, manifest, &target_file(feature))?;
    }
    for fitted in &manifest.features {
        let table = fitted.feature.table_name();
        if matches!(fitted.feature.encoder, Encoder::Vocab { .. })
            && !manifest.vocabularies.iter().any(|name| name == table)
        {
            return fail(format!(
                "feature '{}' needs the vocabulary of table '{table}', which is not listed",
                fitted.feature.name
            ));
        }
    }
    if let Some(tolerance) = manifest.golden_tolerance
        && !(tolerance > 0.0 && tolerance <= 1.0)
    {
        return fail(format!("golden_tolerance is {tolerance}: it must be above 0 and at most 1"));
    }
    needs_file(&path, manifest, GOLDEN_FILE)
}

fn gates(path: &Path, manifest: &BundleManifest) -> Result<(), BundleError> {
    let mut names: BTreeSet<&String> = manifest.outputs.iter().map(|output| &output.name).collect();
    for gate in &manifest.gate_outputs {
        let fail =
            |reason: String| Err(BundleError::invalid(path, format!("gate output '{}' {reason}", gate.name)));
        if !names.insert(&gate.name) {
            return fail("has the name of another output".into());
        }
        if gate.experts.is_empty() {
            return fail("lists no experts".into());
        }
        if let Some(unknown) =
            gate.tasks.iter().find(|name| !manifest.tasks.iter().any(|task| task.name == **name))
        {
            return fail(format!("is of '{unknown}', which is no task of the model"));
        }
    }
    Ok(())
}

fn graph(path: &Path, manifest: &BundleManifest, graph: &GraphFile) -> Result<(), BundleError> {
    let fail = |reason: String| Err(BundleError::invalid(path, format!("graph {}: {reason}", graph.file)));
    needs_file(path, manifest, &graph.file)?;
    let mut names = BTreeSet::new();
    for input in &graph.inputs {
        if !names.insert(&input.name) {
            return fail(format!("input '{}' is listed twice", input.name));
        }
        let Some(fitted) = manifest.features.iter().find(|fitted| fitted.feature.name == input.feature)
        else {
            return fail(format!("input '{}' carries the unknown feature '{}'", input.name, input.feature));
        };
        if input.level == Level::Request && fitted.feature.side.level() == Level::Candidate {
            return fail(format!(
                "input '{}' is at request level but its feature '{}' has one value a candidate",
                input.name, input.feature
            ));
        }
    }
    if let Some(request_of) = &graph.request_of
        && !names.insert(request_of)
    {
        return fail(format!("input '{request_of}' is listed twice"));
    }
    Ok(())
}

fn needs_file(path: &Path, manifest: &BundleManifest, name: &str) -> Result<(), BundleError> {
    if manifest.files.contains_key(name) {
        return Ok(());
    }
    Err(BundleError::invalid(path, format!("file '{name}' is needed but not among the listed files")))
}

/// Checks golden rows against the manifest: there are some, for outputs that exist, with finite
/// scores for every candidate.
pub(super) fn golden(path: &Path, manifest: &BundleManifest, golden: &Golden) -> Result<(), BundleError> {
    let fail = |reason: String| Err(BundleError::invalid(path, reason));
    if golden.requests.is_empty() {
        return fail(
            "there is no golden request, so that the model cannot be checked: publish it again".into(),
        );
    }
    for (index, entry) in golden.requests.iter().enumerate() {
        for output in &manifest.outputs {
            let Some(scores) = entry.scores.get(&output.name) else {
                return fail(format!("request {index} has no scores for output '{}'", output.name));
            };
            let candidates = entry.request.candidates();
            if !entry.request.items.is_empty() && scores.len() != candidates {
                return fail(format!(
                    "request {index} has {candidates} candidates but {} scores for output '{}'",
                    scores.len(),
                    output.name
                ));
            }
            if scores.iter().any(|score| !score.is_finite()) {
                return fail(format!("request {index}: a score of output '{}' is not finite", output.name));
            }
        }
        if let Some(name) =
            entry.scores.keys().find(|name| !manifest.outputs.iter().any(|output| output.name == **name))
        {
            return fail(format!("request {index} has scores for the unknown output '{name}'"));
        }
    }
    Ok(())
}

/// Whether a file name of a manifest stays inside the bundle: a plain name, or one folder and a
/// plain name, such as `vocab/country.json`.
pub(super) fn is_inside(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let plain =
        |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(['\\', '\0', ':']);
    parts.len() <= 2 && parts.iter().all(plain) && name != MANIFEST_FILE
}
