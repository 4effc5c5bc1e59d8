//! Output folders that are complete or absent.
//!
//! Everything is written into a hidden folder beside the target, which is renamed into place when
//! it is whole. An output that exists already is moved aside just before and removed just after,
//! so that a crash leaves the old output, the new one, or (between two renames) neither; never a
//! mixture.

use std::fs;
use std::path::{Path, PathBuf};

use crate::SamplesError;

/// A folder being filled; removed again unless it is committed.
#[derive(Debug)]
pub(crate) struct StagedFolder {
    target: PathBuf,
    staging: PathBuf,
    committed: bool,
}

impl StagedFolder {
    /// Begins an output at `target`. An existing folder is replaced only if `overwrite` is set and
    /// it holds `marker`, the file that tells an earlier output of the same kind from anything
    /// else.
    pub(crate) fn new(target: &Path, marker: &str, overwrite: bool) -> Result<Self, SamplesError> {
        let refuse =
            |text: &str| Err(SamplesError::Output { path: target.to_owned(), text: text.to_owned() });
        let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
            return refuse("is not the name of a folder; give one");
        };
        if target.exists() && !is_empty_folder(target) {
            if !target.join(marker).is_file() {
                return refuse(&format!(
                    "exists and holds no {marker}, so it is not an earlier output; choose another folder or remove it"
                ));
            }
            if !overwrite {
                return refuse("exists; choose another folder, or replace it with --overwrite");
            }
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(SamplesError::io("create", parent))?;
        let staging = parent.join(format!(".{name}.{:016x}.partial", unlike_any_other()));
        fs::create_dir(&staging).map_err(SamplesError::io("create", &staging))?;
        Ok(Self { target: target.to_owned(), staging, committed: false })
    }

    /// Path of the file `name` inside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    /// Puts the finished folder in its place.
    pub(crate) fn commit(mut self) -> Result<(), SamplesError> {
        let aside = self.staging.with_extension("replaced");
        let existed = self.target.exists();
        if existed {
            fs::rename(&self.target, &aside).map_err(SamplesError::io("move aside", &self.target))?;
        }
        fs::rename(&self.staging, &self.target)
            .map_err(SamplesError::io("rename into place", &self.target))?;
        self.committed = true;
        if existed {
            fs::remove_dir_all(&aside).map_err(SamplesError::io("remove", &aside))?;
        }
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here, and the error that led here is reported.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// A number that no other process draws: several may make the same output, and the numbers of processes
/// repeat on other machines.
#[expect(clippy::disallowed_methods, reason = "names and marks alone follow from it, never a sample")]
pub(crate) fn unlike_any_other() -> u64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_appears_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("out");
        let folder = StagedFolder::new(&target, "manifest.json", false).unwrap();
        fs::write(folder.path("a"), "1").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);

        let folder = StagedFolder::new(&target, "manifest.json", false).unwrap();
        fs::write(folder.path("manifest.json"), "1").unwrap();
        folder.commit().unwrap();
        let names: Vec<_> =
            fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["out"]);
    }

    #[test]
    fn only_an_earlier_output_is_replaced_and_only_when_asked() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("out");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.txt"), "dear").unwrap();
        let error = StagedFolder::new(&target, "manifest.json", true).unwrap_err().to_string();
        assert!(error.contains("holds no manifest.json"), "{error}");

        fs::write(target.join("manifest.json"), "old").unwrap();
        let error = StagedFolder::new(&target, "manifest.json", false).unwrap_err().to_string();
        assert!(error.contains("--overwrite"), "{error}");

        let folder = StagedFolder::new(&target, "manifest.json", true).unwrap();
        fs::write(folder.path("manifest.json"), "new").unwrap();
        folder.commit().unwrap();
        assert_eq!(fs::read_to_string(target.join("manifest.json")).unwrap(), "new");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    }
}
