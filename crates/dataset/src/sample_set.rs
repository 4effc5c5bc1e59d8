//! The folder of a sample set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gatefold_schema::{
    EncoderSet, JsonRequest, SampleManifest, ShardInfo, SplitInfo, Vocabulary, manifest::SAMPLES_FORMAT,
    strict::from_json,
};

use crate::{DatasetError, Split, shard};

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
        let encoders = EncoderSet { features: manifest.features.clone(), vocabularies };
        let found = encoders.fingerprint();
        if found != manifest.fingerprint {
            return Err(DatasetError::content(
                &path,
                format!(
                    "the encoders have fingerprint {found}, but the samples were encoded by {}; \
                     a vocabulary has been changed: build the samples again",
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

    /// Reads the split `name` into memory.
    ///
    /// # Errors
    /// An unknown split; a shard that is missing, of another size than the manifest says, damaged,
    /// without a column, with a label other than 0 and 1 or a code outside its table.
    pub fn load(&self, name: &str) -> Result<Split, DatasetError> {
        let info = self.manifest.splits.get(name).ok_or_else(|| DatasetError::UnknownSplit {
            name: name.to_owned(),
            known: self.manifest.splits.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        for shard in &info.shards {
            check_size(&self.folder.join(&shard.file), shard)?;
        }
        let mut split = Split::empty(&self.manifest);
        for info in &info.shards {
            shard::read(&self.folder.join(&info.file), &self.manifest, info.rows, &mut split)?;
        }
        self.check_rows(name, info, &split)?;
        Ok(split)
    }

    fn check_rows(&self, name: &str, info: &SplitInfo, split: &Split) -> Result<(), DatasetError> {
        let requests = split.request.last().map_or(0, |last| u64::from(*last) + 1);
        let in_order = split.request.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1);
        if split.rows as u64 == info.rows && requests == info.requests && in_order {
            return Ok(());
        }
        Err(DatasetError::content(
            &self.folder,
            format!(
                "split '{name}' has {} rows in {requests} requests, expected {} in {}, in order; \
                 shards have been changed: build the samples again",
                split.rows, info.rows, info.requests
            ),
        ))
    }
}

fn check_size(path: &Path, shard: &ShardInfo) -> Result<(), DatasetError> {
    let found = fs::metadata(path).map_err(DatasetError::io(path))?.len();
    if found == shard.bytes {
        return Ok(());
    }
    Err(DatasetError::content(
        path,
        format!(
            "has {found} bytes, expected {}; it was cut off or changed: build the samples again",
            shard.bytes
        ),
    ))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, DatasetError> {
    let text = fs::read(path).map_err(DatasetError::io(path))?;
    Ok(from_json(&text, &path.display().to_string())?)
}
