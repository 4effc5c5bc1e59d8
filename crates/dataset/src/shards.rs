//! The shards of one split: decoded each time they are asked for, or kept in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gatefold_features::FeatureColumn;
use gatefold_schema::{SampleManifest, ShardInfo};

use crate::{DatasetError, Split, shard};

/// The rows of a split, shard by shard; cheap to clone. Whoever reads them need not know whether
/// they lie in files or in memory.
#[derive(Clone, Debug)]
pub struct Shards {
    /// Rows of each shard.
    rows: Vec<usize>,
    /// Numbers that the features of a row are made of.
    row_numbers: usize,
    labels: Vec<String>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Files(Arc<Files>),
    Memory(Arc<[Arc<Split>]>),
}

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    manifest: SampleManifest,
    shards: Vec<ShardInfo>,
}

/// What is decoded of a shard beside the request of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    /// Whether the features are.
    pub features: bool,
    /// The label and audit columns that are.
    pub labels: &'a [String],
    /// Whether the time of each request is, where the source has one.
    pub time: bool,
}

impl Shards {
    /// The shards of split `name`, to be decoded when they are needed.
    pub(crate) fn on_disk(
        folder: &Path,
        manifest: &SampleManifest,
        name: &str,
    ) -> Result<Self, DatasetError> {
        let info = manifest.splits.get(name).ok_or_else(|| DatasetError::UnknownSplit {
            name: name.to_owned(),
            known: manifest.splits.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        for shard in &info.shards {
            check_size(&folder.join(&shard.file), shard)?;
        }
        Ok(Self {
            rows: info.shards.iter().map(|shard| shard.rows as usize).collect(),
            row_numbers: manifest.features.iter().map(|fitted| fitted.feature.width()).sum(),
            labels: manifest.labels.clone(),
            place: Place::Files(Arc::new(Files {
                folder: folder.to_owned(),
                manifest: manifest.clone(),
                shards: info.shards.clone(),
            })),
        })
    }

    /// Shards that are in memory already: the parts of a split in order, numbered by one row of
    /// request numbers.
    pub fn in_memory(parts: Vec<Split>) -> Self {
        let numbers = |column: &FeatureColumn| match column {
            FeatureColumn::Codes { width, .. } => *width,
            FeatureColumn::Numbers(_) => 1,
        };
        Self {
            rows: parts.iter().map(|part| part.rows).collect(),
            row_numbers: parts.first().map_or(0, |part| part.columns.iter().map(numbers).sum()),
            labels: parts.first().map_or_else(Vec::new, |part| part.labels.keys().cloned().collect()),
            place: Place::Memory(parts.into_iter().map(Arc::new).collect()),
        }
    }

    /// The same shards, decoded once and kept.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn keep(self) -> Result<Self, DatasetError> {
        let labels = self.labels.clone();
        let mut parts = Vec::with_capacity(self.count());
        self.scan(Columns { features: true, labels: &labels, time: true }, |part| {
            parts.push(Arc::clone(part));
            Ok::<(), DatasetError>(())
        })?;
        Ok(Self { place: Place::Memory(parts.into()), ..self })
    }

    /// Number of shards.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Rows over all shards.
    pub fn rows(&self) -> usize {
        self.rows.iter().sum()
    }

    /// Rows of the shard `index`.
    ///
    /// # Panics
    /// When there are not that many shards.
    pub fn rows_of(&self, index: usize) -> usize {
        self.rows[index]
    }

    /// The label and audit columns that the shards have.
    pub fn label_names(&self) -> &[String] {
        &self.labels
    }

    /// Bytes that a row takes in memory with its features and `labels` further columns.
    pub fn row_bytes(&self, labels: usize) -> usize {
        // One number each, and the request.
        4 * (self.row_numbers + labels + 1)
    }

    /// Reads the shard `index`; one in memory is handed out as it is, with all its columns.
    ///
    /// # Errors
    /// A shard that is missing, damaged, of other encoders than the manifest's, without a column,
    /// with a label other than 0 and 1 or a code outside its table.
    ///
    /// # Panics
    /// When there are not that many shards.
    pub fn read(&self, index: usize, columns: Columns<'_>) -> Result<Arc<Split>, DatasetError> {
        match &self.place {
            Place::Memory(parts) => Ok(Arc::clone(&parts[index])),
            Place::Files(files) => {
                let info = &files.shards[index];
                let path = files.folder.join(&info.file);
                check_size(&path, info)?;
                Ok(Arc::new(shard::read(&path, &files.manifest, info.rows, columns)?))
            }
        }
    }

    /// Reads the shards one after another, and checks that each begins with the request after the
    /// last one of the shard before, so that no request is torn.
    ///
    /// # Errors
    /// As [`Self::read`]; a request in two shards; what `each` answers.
    pub fn scan<E: From<DatasetError>>(
        &self,
        columns: Columns<'_>,
        mut each: impl FnMut(&Arc<Split>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = 0;
        for index in 0..self.count() {
            let part = self.read(index, columns)?;
            if let (Some(first), Some(last)) = (part.request.first(), part.request.last()) {
                if *first != next {
                    return Err(DatasetError::Order {
                        shard: self.name(index),
                        found: *first,
                        expected: next,
                    }
                    .into());
                }
                next = last + 1;
            }
            each(&part)?;
        }
        Ok(())
    }

    /// The label columns `names` of all rows.
    ///
    /// # Errors
    /// As [`Self::scan`]; a column that there is not.
    pub fn labels(&self, names: &[String]) -> Result<BTreeMap<String, Vec<f32>>, DatasetError> {
        self.check_labels(names)?;
        let mut all: BTreeMap<String, Vec<f32>> =
            names.iter().map(|name| (name.clone(), Vec::with_capacity(self.rows()))).collect();
        self.scan(Columns { features: false, labels: names, time: false }, |part| {
            for (name, values) in &mut all {
                values.extend_from_slice(&part.labels[name]);
            }
            Ok::<(), DatasetError>(())
        })?;
        Ok(all)
    }

    pub(crate) fn check_labels(&self, names: &[String]) -> Result<(), DatasetError> {
        match names.iter().find(|name| !self.labels.contains(name)) {
            None => Ok(()),
            Some(missing) => {
                Err(DatasetError::UnknownLabel { name: missing.clone(), known: self.labels.join(", ") })
            }
        }
    }

    /// The shard's file, or its number where it has none.
    pub(crate) fn name(&self, index: usize) -> String {
        match &self.place {
            Place::Files(files) => files.folder.join(&files.shards[index].file).display().to_string(),
            Place::Memory(_) => format!("part {index}"),
        }
    }
}

impl From<Split> for Shards {
    fn from(split: Split) -> Self {
        Self::in_memory(vec![split])
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
