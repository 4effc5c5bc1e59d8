//! Writes a bundle so that it appears whole or not at all.
//!
//! Files go into a hidden folder beside the versions; the manifest is written last, everything is
//! flushed to disk, and the folder is renamed to the next free version. Writers of one model may
//! run at the same time: a rename onto an existing version fails, and the next number is tried.
//! Each writer holds a lock on its folder, so that the next one can tell a folder that a killed
//! process left behind, and removes it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use gatefold_schema::{
    BundleManifest, EncoderSet, FileEntry, Golden, MODEL_NAME_RULE, Vocabulary, feature::hex, is_model_name,
    manifest::target_file,
};
use sha2::{Digest, Sha256};

use super::{Bundle, BundleError, GOLDEN_FILE, MANIFEST_FILE, check, versions, vocabulary_file};

const TEMPORARY_PREFIX: &str = ".writing-";
/// A folder younger than this may be one whose writer has not locked it yet.
const SETTLED: Duration = Duration::from_secs(60);

/// A bundle being written. Dropped before [`publish`](Self::publish), it leaves nothing behind.
#[derive(Debug)]
pub struct BundleWriter {
    model_folder: PathBuf,
    name: String,
    temporary: PathBuf,
    _lock: File,
    files: BTreeMap<String, FileEntry>,
    /// The version asked for; the next free one where `None`.
    version: Option<u64>,
}

impl BundleWriter {
    /// Begins a new version of the model in `model_folder` (`models/<name>`), which is created
    /// where it does not exist. The folder's name is the model's name.
    ///
    /// # Errors
    /// When the name cannot be a model's, or the folder cannot be written.
    pub fn create(model_folder: impl AsRef<Path>) -> Result<BundleWriter, BundleError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let model_folder = std::path::absolute(model_folder.as_ref())
            .map_err(|source| BundleError::Write { path: model_folder.as_ref().to_path_buf(), source })?;
        let name = model_folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !is_model_name(&name) {
            let reason = format!("'{name}' cannot be a model's name: {}", MODEL_NAME_RULE);
            return Err(BundleError::invalid(&model_folder, reason));
        }
        create_folder(&model_folder)?;
        remove_abandoned(&model_folder);
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = model_folder.join(format!("{TEMPORARY_PREFIX}{}-{counter}", std::process::id()));
        // A folder of that name is left from a killed process of the same number.
        let _ = fs::remove_dir_all(&temporary);
        let failed = |source| BundleError::Write { path: temporary.clone(), source };
        fs::create_dir(&temporary).map_err(failed)?;
        let lock = File::open(&temporary).map_err(failed)?;
        // Where the file system has no locks, a folder left behind is not cleaned up; no more.
        let _ = lock.try_lock();
        Ok(BundleWriter { model_folder, name, temporary, _lock: lock, files: BTreeMap::new(), version: None })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds what was written so far, so that it can be tried before it is published.
    pub fn folder(&self) -> &Path {
        &self.temporary
    }

    /// Asks for a version instead of the next free one.
    ///
    /// # Errors
    /// When the model has that version already.
    pub fn set_version(&mut self, version: u64) -> Result<(), BundleError> {
        self.version = Some(version);
        if versions(&self.model_folder)?.contains(&version) { Err(self.taken(version)) } else { Ok(()) }
    }

    fn taken(&self, version: u64) -> BundleError {
        let reason = "this version is there already; ask for another one, or for none to get the next";
        BundleError::invalid(&self.model_folder.join(version.to_string()), reason)
    }

    /// Writes one file; `name` is plain, or one folder and a name.
    ///
    /// # Errors
    /// When the name leaves the bundle or was written before, or the disk refuses.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.write_with(name, |file| file.write_all(bytes))
    }

    /// Writes one file through `fill`, for what is too large to stand in memory twice.
    ///
    /// # Errors
    /// As [`write`](Self::write), or what `fill` fails with.
    pub fn write_with(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), BundleError> {
        let path = self.temporary.join(name);
        if !check::is_inside(name) || self.files.contains_key(name) {
            let reason = "a bundle's file needs a new name: a plain one, or one folder and a name";
            return Err(BundleError::invalid(&path, reason));
        }
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        let write = || -> io::Result<FileEntry> {
            let mut file = HashedFile { file: File::create_new(&path)?, hash: Sha256::new(), bytes: 0 };
            fill(&mut file)?;
            file.file.sync_all()?;
            Ok(FileEntry { bytes: file.bytes, sha256: hex(&file.hash.finalize()) })
        };
        let entry = write().map_err(|source| BundleError::Write { path: path.clone(), source })?;
        self.files.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Writes a vocabulary in its place.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_vocabulary(&mut self, vocabulary: &Vocabulary) -> Result<(), BundleError> {
        self.write(&vocabulary_file(&vocabulary.table), &json(vocabulary)?)
    }

    /// Writes the vocabularies and means of `encoders` in their places.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_encoders(&mut self, encoders: &EncoderSet) -> Result<(), BundleError> {
        for vocabulary in encoders.vocabularies.values() {
            self.write_vocabulary(vocabulary)?;
        }
        for means in encoders.targets.values() {
            self.write(&target_file(&means.feature), &json(means)?)?;
        }
        Ok(())
    }

    /// Writes the golden rows in their place.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_golden(&mut self, golden: &Golden) -> Result<(), BundleError> {
        self.write(GOLDEN_FILE, &json(golden)?)
    }

    /// Writes the manifest, opens the bundle as a reader would, lets `verify` judge it, and gives
    /// it the next free version, or the one asked for.
    ///
    /// Format, name, version and files of `manifest` are filled in here. Until the bundle is
    /// published `verify` sees it in its temporary folder.
    ///
    /// # Errors
    /// When the bundle does not open, `verify` refuses it ([`BundleError::Refused`]), or the disk
    /// does. Nothing is left behind then.
    pub fn publish(
        self,
        mut manifest: BundleManifest,
        verify: impl FnOnce(&Bundle) -> Result<(), String>,
    ) -> Result<Bundle, BundleError> {
        manifest.format = gatefold_schema::manifest::BUNDLE_FORMAT;
        manifest.name.clone_from(&self.name);
        manifest.files.clone_from(&self.files);
        manifest.version = match self.version {
            Some(version) => version,
            None => self.next_version()?,
        };
        self.write_manifest(&manifest)?;
        let mut bundle = Bundle::open(&self.temporary)?;
        verify(&bundle).map_err(BundleError::Refused)?;
        let path = loop {
            let target = self.model_folder.join(manifest.version.to_string());
            match fs::rename(&self.temporary, &target) {
                Ok(()) => break target,
                Err(_) if target.exists() && self.version.is_some() => {
                    return Err(self.taken(manifest.version));
                }
                // Another writer took this version in the meantime.
                Err(_) if target.exists() => {
                    manifest.version = self.next_version()?;
                    self.write_manifest(&manifest)?;
                }
                Err(source) => return Err(BundleError::Write { path: target, source }),
            }
        };
        sync_folder(&self.model_folder)?;
        bundle.path = path;
        bundle.manifest = manifest;
        Ok(bundle)
    }

    fn next_version(&self) -> Result<u64, BundleError> {
        Ok(versions(&self.model_folder)?.last().map_or(1, |latest| latest + 1))
    }

    fn write_manifest(&self, manifest: &BundleManifest) -> Result<(), BundleError> {
        let path = self.temporary.join(MANIFEST_FILE);
        let text = json(manifest)?;
        let write = || -> io::Result<()> {
            let mut file = File::create(&path)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(|source| BundleError::Write { path: path.clone(), source })?;
        for name in self.files.keys() {
            if let Some(folder) = self.temporary.join(name).parent() {
                sync_folder(folder)?;
            }
        }
        sync_folder(&self.temporary)
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        // After a publish the folder has another name, and this finds nothing.
        let _ = fs::remove_dir_all(&self.temporary);
    }
}

/// Counts and hashes what passes through.
struct HashedFile {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, BundleError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| BundleError::invalid(Path::new(MANIFEST_FILE), error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

fn create_folder(path: &Path) -> Result<(), BundleError> {
    fs::create_dir_all(path).map_err(|source| BundleError::Write { path: path.to_path_buf(), source })
}

fn sync_folder(path: &Path) -> Result<(), BundleError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| BundleError::Write { path: path.to_path_buf(), source })
}

/// Removes folders whose writer is gone: nobody holds their lock.
fn remove_abandoned(model_folder: &Path) {
    let Ok(entries) = fs::read_dir(model_folder) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX));
        let settled = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > SETTLED));
        if ours
            && settled
            && let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
