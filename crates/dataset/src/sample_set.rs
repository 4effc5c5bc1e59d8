//! The folder of a sample set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gatefold_schema::{
    EncoderSet, JsonRequest, SampleManifest, TargetMeans, Vocabulary,
    manifest::{SAMPLES_FORMAT, target_file},
    strict::from_json,
};

use crate::{
    DatasetError, Split,
    shards::{Columns, Shards},
};

/// A complete sample set.
#[derive(Clone, Debug)]
pub struct SampleSet {
    folder: PathBuf,
    /// What the set holds.
    pub manifest: SampleManifest,
    /// The fitted encoders with their vocabularies.
    pub encoders: EncoderSet,
}

impl SampleSet {
    /// Opens the sample set in `folder`: reads the manifest and the vocabularies and checks them
    /// against each other. Shards are checked when they are loaded.
    ///
    /// # Errors
    /// A folder without a manifest, a manifest of another version, a vocabulary that is missing or
    /// does not belong to it.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        let path = folder.join("manifest.json");
        if !path.is_file() {
            return Err(DatasetError::content(
                folder,
                "is no sample set: there is no manifest.json; make one by `gatefold samples build`",
            ));
        }
        let manifest: SampleManifest = read_json(&path)?;
        if manifest.format != SAMPLES_FORMAT {
            return Err(DatasetError::content(
                &path,
                format!(
                    "format {} is not known, expected {SAMPLES_FORMAT}; build the samples again",
                    manifest.format
                ),
            ));
        }
        let mut vocabularies = BTreeMap::new();
        for table in &manifest.vocabularies {
            let vocabulary: Vocabulary = read_json(&folder.join("vocab").join(format!("{table}.json")))?;
            vocabularies.insert(table.clone(), vocabulary);
        }
        let mut targets = BTreeMap::new();
        for feature in EncoderSet::with_means(&manifest.features) {
            let means: TargetMeans = read_json(&folder.join(target_file(feature)))?;
            targets.insert(feature.to_owned(), means);
        }
        let encoders = EncoderSet { features: manifest.features.clone(), vocabularies, targets };
        let found = encoders.fingerprint();
        if found != manifest.fingerprint {
            return Err(DatasetError::content(
                &path,
                format!(
                    "the encoders have fingerprint {found}, but the samples were encoded by {}; \
                     a vocabulary has been changed, or a target mean: build the samples again",
                    manifest.fingerprint
                ),
            ));
        }
        Ok(Self { folder: folder.to_owned(), manifest, encoders })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Requests with raw values, from the validation split.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn examples(&self) -> Result<Vec<JsonRequest>, DatasetError> {
        read_json(&self.folder.join("examples.json"))
    }

    /// The shards of the split `name`, to be decoded when they are needed.
    ///
    /// # Errors
    /// An unknown split; a shard that is missing, or of another size than the manifest says.
    pub fn shards(&self, name: &str) -> Result<Shards, DatasetError> {
        Shards::on_disk(&self.folder, &self.manifest, name)
    }

    /// Reads the split `name` into memory as one.
    ///
    /// # Errors
    /// As [`Self::shards`] and [`Shards::scan`].
    pub fn load(&self, name: &str) -> Result<Split, DatasetError> {
        let shards = self.shards(name)?;
        let mut split = Split::empty(&self.manifest);
        let columns = Columns { features: true, labels: &self.manifest.labels, time: true };
        shards.scan(columns, |part| {
            split.append(part);
            Ok::<(), DatasetError>(())
        })?;
        Ok(split)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, DatasetError> {
    let text = fs::read(path).map_err(DatasetError::io(path))?;
    Ok(from_json(&text, &path.display().to_string())?)
}
