//! What several commands need: recipes, bundles, thread counts, files written whole.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use gatefold_backend_ort::{Device, OrtLoader, OrtSettings};
use gatefold_dataset::SampleSet;
use gatefold_engine::Bundle;
use gatefold_schema::{EncoderSet, Recipe};

/// Reads and checks a recipe.
pub(crate) fn read_recipe(path: &Path) -> Result<Recipe> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the recipe {}", path.display()))?;
    Ok(Recipe::parse(&text, &path.display().to_string())?)
}

/// The encoders of a sample set or of a bundle, which is the latest version where `folder` is a model's.
pub(crate) fn read_encoders(folder: &Path) -> Result<EncoderSet> {
    let failed = || format!("cannot take the encoders of {}", folder.display());
    let manifest = fs::read(folder.join("manifest.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    // Of the two kinds of manifest only that of a sample set has splits.
    if manifest.get("splits").is_some() {
        return Ok(SampleSet::open(folder).with_context(failed)?.encoders);
    }
    Ok(Bundle::open_latest(folder).with_context(failed)?.encoder().set().clone())
}

/// One thread per core.
pub(crate) fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Opens backends that compute in one thread each, as those who run several side by side want.
pub(crate) fn loader() -> Result<OrtLoader> {
    loader_on(Device::Cpu)
}

/// As [`loader`], for backends on `device`.
pub(crate) fn loader_on(device: Device) -> Result<OrtLoader> {
    Ok(OrtLoader::new(OrtSettings { intra_threads: 1, device, ..OrtSettings::default() })?)
}

/// A file that appears whole or not at all: written beside its place under another name, then
/// renamed. Dropped before [`Self::finish`], it leaves nothing.
pub(crate) struct WholeFile {
    place: PathBuf,
    temporary: PathBuf,
    file: fs::File,
}

impl WholeFile {
    /// Begins a file that will stand at `place`.
    pub(crate) fn create(place: &Path) -> Result<Self> {
        let name = place.file_name().with_context(|| format!("{} names no file", place.display()))?;
        let temporary =
            place.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let file = fs::File::create(&temporary)
            .with_context(|| format!("cannot write into the folder of {}", place.display()))?;
        Ok(Self { place: place.to_owned(), temporary, file })
    }

    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.place.display()))
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Result<()> {
        let failed = || format!("cannot write {}", self.place.display());
        self.file.sync_all().with_context(failed)?;
        fs::rename(&self.temporary, &self.place).with_context(failed)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // After a rename there is nothing to remove, and that is no error.
        let _ = fs::remove_file(&self.temporary);
    }
}
