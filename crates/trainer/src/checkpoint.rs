//! Checkpoints: an unfinished training on disk, which goes on as if it had never stopped.
//!
//! ```text
//! <folder>/checkpoint.json             what belongs together, with the hash of each file
//!          state-<step>.safetensors    parameters and what the optimizer remembers
//!          best-<step>.safetensors     the best parameters so far
//!          lock                        held by the training that uses the folder
//! ```
//!
//! `checkpoint.json` is written last and put in place by a rename, so that a crash at any moment
//! leaves the old checkpoint or the new one; files that it does not name are removed after it. The
//! best parameters are kept here and not in memory, where large tables would stand twice.

mod arrays;
mod error;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use gatefold_exec::{Optimizer, Parameters, StateArray};
use gatefold_schema::{CheckpointManifest, StoredFile, checkpoint::CHECKPOINT_FORMAT, strict};

pub use error::CheckpointError;

use arrays::{Source, Targets};

const MANIFEST_FILE: &str = "checkpoint.json";
const LOCK_FILE: &str = "lock";
/// Begins the name of an array of the optimizer; the others are parameters.
const OPTIMIZER: &str = "optimizer/";

/// A folder of checkpoints, which one training uses at a time.
#[derive(Debug)]
pub struct CheckpointFolder {
    path: PathBuf,
    /// The folder around it, where it was made for this one.
    created: Option<PathBuf>,
    _lock: File,
    /// The checkpoint that a reader would find.
    manifest: Option<CheckpointManifest>,
}

impl CheckpointFolder {
    /// Opens a folder, which is created where it does not exist, and reads the checkpoint in it.
    ///
    /// # Errors
    /// When another training uses the folder, or its checkpoint cannot be understood.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let failed = |source| CheckpointError::Folder { path: path.to_owned(), source };
        let created = path.parent().filter(|parent| !parent.exists()).map(Path::to_owned);
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK_FILE)).map_err(failed)?;
        if let Err(fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(CheckpointError::InUse { path: path.to_owned() });
        }
        let manifest = read_manifest(&path.join(MANIFEST_FILE))?;
        Ok(Self { path: path.to_owned(), created, _lock: lock, manifest })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint in the folder.
    pub fn manifest(&self) -> Option<&CheckpointManifest> {
        self.manifest.as_ref()
    }

    /// Forgets the checkpoint in the folder.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&mut self) -> Result<(), CheckpointError> {
        if self.manifest.take().is_some() {
            let path = self.path.join(MANIFEST_FILE);
            fs::remove_file(&path).map_err(|source| CheckpointError::Folder { path, source })?;
        }
        self.tidy(None);
        Ok(())
    }

    /// Removes the checkpoint, and the folder where nothing else is in it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(mut self) -> Result<(), CheckpointError> {
        self.clear()
    }

    /// Writes the best parameters, those after `step` steps; they belong to the next checkpoint.
    pub(crate) fn write_best(
        &mut self,
        step: usize,
        parameters: &Parameters,
    ) -> Result<StoredFile, CheckpointError> {
        let arrays: Vec<Source<'_>> = parameter_arrays(parameters).collect();
        let file = self.write_arrays(format!("best-{step}.safetensors"), &arrays)?;
        self.tidy(Some(&file));
        Ok(file)
    }

    /// Reads parameters that [`Self::write_best`] wrote.
    pub(crate) fn read_best(
        &self,
        file: &StoredFile,
        parameters: &mut Parameters,
    ) -> Result<(), CheckpointError> {
        self.read_arrays(file, parameter_targets(parameters).collect())
    }

    /// Writes a checkpoint after `step` steps; `manifest` describes it, given where the state is.
    pub(crate) fn write(
        &mut self,
        step: usize,
        parameters: &Parameters,
        optimizer: &Optimizer,
        manifest: impl FnOnce(StoredFile) -> CheckpointManifest,
    ) -> Result<(), CheckpointError> {
        let of_optimizer = optimizer.state().map(|(name, array)| (format!("{OPTIMIZER}{name}"), array));
        let arrays: Vec<Source<'_>> = parameter_arrays(parameters).chain(of_optimizer).collect();
        let manifest = manifest(self.write_arrays(format!("state-{step}.safetensors"), &arrays)?);
        self.put(MANIFEST_FILE, |path| {
            let mut file = File::create(path)?;
            file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
            file.sync_all()
        })?;
        self.manifest = Some(manifest);
        self.tidy(None);
        Ok(())
    }

    /// Reads what [`Self::write`] wrote beside the manifest.
    pub(crate) fn read_state(
        &self,
        state: &StoredFile,
        parameters: &mut Parameters,
        optimizer: &mut Optimizer,
    ) -> Result<(), CheckpointError> {
        let of_optimizer = optimizer.state_mut().map(|(name, array)| (format!("{OPTIMIZER}{name}"), array));
        self.read_arrays(state, parameter_targets(parameters).chain(of_optimizer).collect())
    }

    fn read_arrays(&self, file: &StoredFile, targets: Targets<'_>) -> Result<(), CheckpointError> {
        let path = self.path.join(&file.name);
        arrays::read(&path, &file.entry, targets).map_err(|source| CheckpointError::Damaged { path, source })
    }

    fn write_arrays(&self, name: String, arrays: &[Source<'_>]) -> Result<StoredFile, CheckpointError> {
        let entry = self.put(&name, |path| arrays::write(path, arrays))?;
        Ok(StoredFile { name, entry })
    }

    /// Writes a file under another name, and gives it `name` when the disk has all of it.
    fn put<T>(&self, name: &str, write: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, CheckpointError> {
        let temporary = self.path.join(format!("{name}.writing"));
        let put = || {
            let written = write(&temporary)?;
            fs::rename(&temporary, self.path.join(name))?;
            File::open(&self.path)?.sync_all()?;
            Ok(written)
        };
        put().map_err(|source| {
            // What was written of it takes the room that the disk lacks.
            let _ = fs::remove_file(&temporary);
            let kept = self.manifest.as_ref().map(|manifest| manifest.step);
            CheckpointError::Write { path: self.path.join(name), kept: error::Kept(kept), source }
        })
    }

    /// Removes files that neither the checkpoint nor `also` needs. One that cannot be removed takes
    /// room and does no harm.
    fn tidy(&self, also: Option<&StoredFile>) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let best = self.manifest.as_ref().and_then(|manifest| manifest.best.as_ref());
        let state = self.manifest.as_ref().map(|manifest| &manifest.state);
        let files = [state, best.map(|best| &best.parameters), also];
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name
                .to_str()
                .is_some_and(|name| name.ends_with(".writing") || name.ends_with(".safetensors"));
            if is_ours && files.iter().flatten().all(|file| *file.name != *name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A folder without a checkpoint is of no use.
impl Drop for CheckpointFolder {
    fn drop(&mut self) {
        if self.manifest.is_none() {
            self.tidy(None);
            let _ = fs::remove_file(self.path.join(LOCK_FILE));
            // These fail where anything else is in them.
            let _ = fs::remove_dir(&self.path);
            if let Some(created) = &self.created {
                let _ = fs::remove_dir(created);
            }
        }
    }
}

fn parameter_arrays(parameters: &Parameters) -> impl Iterator<Item = Source<'_>> {
    parameters.iter().map(|(declared, values)| (declared.name.clone(), StateArray::F32(values)))
}

fn parameter_targets(
    parameters: &mut Parameters,
) -> impl Iterator<Item = (String, StateArray<&mut [f32], &mut [u64]>)> {
    parameters.iter_mut().map(|(declared, values)| (declared.name.clone(), StateArray::F32(values)))
}

fn read_manifest(path: &Path) -> Result<Option<CheckpointManifest>, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| CheckpointError::Folder { path: path.to_owned(), source })?,
    };
    // The format is looked at first: another one may have keys that this program does not know.
    if let Ok(Format { format }) = serde_json::from_slice(&text)
        && format != CHECKPOINT_FORMAT
    {
        return Err(CheckpointError::Format { path: path.to_owned(), found: format });
    }
    let manifest: CheckpointManifest =
        strict::from_json(&text, &path.display().to_string()).map_err(CheckpointError::Manifest)?;
    Ok(Some(manifest))
}

#[cfg(test)]
mod tests;
