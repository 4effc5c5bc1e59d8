//! Model bundles: the folder `models/<name>/<version>/`, verified byte for byte when opened.
//!
//! A bundle is complete in itself: graphs, weights, encoders, golden rows and the manifest that
//! describes them. [`Bundle::open`] trusts nothing: every file has the size and hash that the
//! manifest states, every name stays inside the folder, the encoders are those the manifest's
//! fingerprint was taken of. [`BundleWriter`] makes a bundle appear whole or not at all.

mod check;
mod error;
mod writer;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use gatefold_features::Encoder;
use gatefold_schema::{
    BundleManifest, EncoderSet, FileEntry, Golden, GraphFile, TargetMeans, Vocabulary, feature::hex,
    manifest::BUNDLE_FORMAT, manifest::target_file, strict,
};
use sha2::{Digest, Sha256};

pub use error::BundleError;
pub use writer::BundleWriter;

use crate::GraphForm;

/// Name of the manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the golden rows.
pub const GOLDEN_FILE: &str = "golden.json";
/// Folder of the vocabularies.
pub const VOCABULARY_FOLDER: &str = "vocab";

/// Name of the file that holds a table's vocabulary, relative to the bundle.
pub fn vocabulary_file(table: &str) -> String {
    format!("{VOCABULARY_FOLDER}/{table}.json")
}

/// An opened, verified bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    manifest: BundleManifest,
    golden: Golden,
    encoder: Arc<Encoder>,
}

impl Bundle {
    /// Opens and verifies the bundle in `path`.
    ///
    /// # Errors
    /// Names the file, what was found and what to do: no manifest, an unknown key, another format,
    /// a missing file, a changed byte, encoders that are not those of the manifest.
    pub fn open(path: impl AsRef<Path>) -> Result<Bundle, BundleError> {
        let path = path.as_ref().to_path_buf();
        let manifest_path = path.join(MANIFEST_FILE);
        if !manifest_path.is_file() {
            return Err(BundleError::NotABundle { path });
        }
        let manifest = read_manifest(&manifest_path)?;
        check::manifest(&path, &manifest)?;
        for (name, entry) in &manifest.files {
            verify_file(&path, name, entry)?;
        }
        let encoders = EncoderSet {
            features: manifest.features.clone(),
            vocabularies: read_vocabularies(&path, &manifest)?,
            targets: read_targets(&path, &manifest)?,
        };
        let encoder = Encoder::new(encoders)
            .map_err(|error| BundleError::invalid(&manifest_path, error.to_string()))?;
        if encoder.fingerprint() != manifest.fingerprint {
            let found = encoder.fingerprint().to_owned();
            return Err(BundleError::Fingerprint { path, expected: manifest.fingerprint, found });
        }
        let golden_path = path.join(GOLDEN_FILE);
        let golden: Golden = strict::from_json(&read(&golden_path)?, &golden_path.display().to_string())?;
        check::golden(&golden_path, &manifest, &golden)?;
        Ok(Bundle { path, manifest, golden, encoder: Arc::new(encoder) })
    }

    /// Opens `path` where it is a bundle, else the latest version in it where it is a model's
    /// folder (`models/<name>`).
    ///
    /// # Errors
    /// As [`Bundle::open`], or when there is neither.
    pub fn open_latest(path: impl AsRef<Path>) -> Result<Bundle, BundleError> {
        let path = path.as_ref();
        if path.join(MANIFEST_FILE).is_file() {
            return Self::open(path);
        }
        match versions(path)?.last() {
            Some(version) => Self::open(path.join(version.to_string())),
            None => Err(BundleError::NotABundle { path: path.to_path_buf() }),
        }
    }

    /// The bundle's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// Requests and the scores they must get.
    pub fn golden(&self) -> &Golden {
        &self.golden
    }

    /// The bundle's encoders.
    pub fn encoder(&self) -> &Arc<Encoder> {
        &self.encoder
    }

    /// The graph of that form, where there is one.
    pub fn graph(&self, form: GraphForm) -> Option<&GraphFile> {
        match form {
            GraphForm::Plain => Some(&self.manifest.plain),
            GraphForm::UserOnce => self.manifest.user_once.as_ref(),
        }
    }

    /// `wanted` where the bundle has it, else the plain form.
    pub fn form(&self, wanted: GraphForm) -> GraphForm {
        if self.graph(wanted).is_some() { wanted } else { GraphForm::Plain }
    }

    /// Position of an output in the manifest's list.
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.manifest.outputs.iter().position(|output| output.name == name)
    }

    /// The outputs' names, joined for a message.
    pub(crate) fn output_names(&self) -> String {
        let names: Vec<&str> = self.manifest.outputs.iter().map(|output| output.name.as_str()).collect();
        names.join(", ")
    }
}

/// Versions in a model's folder, rising. What is not named by a whole number is not looked at.
///
/// # Errors
/// When the folder cannot be read.
pub fn versions(folder: &Path) -> Result<Vec<u64>, BundleError> {
    let entries = std::fs::read_dir(folder)
        .map_err(|source| BundleError::Read { path: folder.to_path_buf(), source })?;
    let mut versions = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| BundleError::Read { path: folder.to_path_buf(), source })?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.parse::<u64>().ok());
        // `007` is not version 7: each version has one name.
        let version = version.filter(|version| *version > 0 && version.to_string().as_str() == name);
        if let Some(version) = version
            && entry.path().is_dir()
        {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

fn read_manifest(path: &Path) -> Result<BundleManifest, BundleError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let text = read(path)?;
    // The format is looked at first: a later one may have keys that this program does not know.
    if let Ok(Format { format }) = serde_json::from_slice(&text)
        && format != BUNDLE_FORMAT
    {
        return Err(BundleError::Format { path: path.to_path_buf(), found: format });
    }
    Ok(strict::from_json(&text, &path.display().to_string())?)
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    std::fs::read(path).map_err(|source| BundleError::Read { path: path.to_path_buf(), source })
}

fn read_vocabularies(
    path: &Path,
    manifest: &BundleManifest,
) -> Result<BTreeMap<String, Vocabulary>, BundleError> {
    let mut vocabularies = BTreeMap::new();
    for table in &manifest.vocabularies {
        let file = path.join(vocabulary_file(table));
        let vocabulary: Vocabulary = strict::from_json(&read(&file)?, &file.display().to_string())?;
        if vocabulary.table != *table {
            let reason = format!("holds the vocabulary of table '{}', expected '{table}'", vocabulary.table);
            return Err(BundleError::invalid(&file, reason));
        }
        vocabularies.insert(table.clone(), vocabulary);
    }
    Ok(vocabularies)
}

fn read_targets(
    path: &Path,
    manifest: &BundleManifest,
) -> Result<BTreeMap<String, TargetMeans>, BundleError> {
    let mut targets = BTreeMap::new();
    for feature in EncoderSet::with_means(&manifest.features) {
        let file = path.join(target_file(feature));
        let means: TargetMeans = strict::from_json(&read(&file)?, &file.display().to_string())?;
        if means.feature != feature {
            let reason = format!("holds the means of feature '{}', expected '{feature}'", means.feature);
            return Err(BundleError::invalid(&file, reason));
        }
        targets.insert(feature.to_owned(), means);
    }
    Ok(targets)
}

/// Checks one file's size, then its hash.
fn verify_file(folder: &Path, name: &str, entry: &FileEntry) -> Result<(), BundleError> {
    let path = folder.join(name);
    let read_error = |source| BundleError::Read { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(BundleError::MissingFile { path });
        }
        Err(error) => return Err(read_error(error)),
    };
    let found = file.metadata().map_err(read_error)?.len();
    if found != entry.bytes {
        return Err(BundleError::Size { path, expected: entry.bytes, found });
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(read_error)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let found = hex(&hash.finalize());
    if found != entry.sha256 {
        return Err(BundleError::Hash { path, expected: entry.sha256.clone(), found });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
