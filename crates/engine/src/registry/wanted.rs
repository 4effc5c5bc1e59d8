//! What was asked of each model, kept in a file so that a restart keeps it.
//!
//! `registry.json` in the models folder holds the labels that were set, what `stable` moved the traffic
//! from, and the models that were unloaded. It is read again at every look at the folder: servers that share a folder share their
//! labels, and a person may edit it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use gatefold_schema::{ConfigError, strict};
use serde::{Deserialize, Serialize};

use super::RegistryError;

/// Name of the file in the models folder.
pub const STATE_FILE: &str = "registry.json";

/// What was asked of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WantedModel {
    /// Versions by label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, u64>,
    /// Whether none of its versions is to be loaded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) unloaded: bool,
    /// How the label `stable` last moved the traffic that names no version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) moved: Option<Moved>,
}

/// Versions between which traffic has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moved {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What was asked, by model.
pub(super) struct Wanted {
    path: PathBuf,
    models: BTreeMap<String, WantedModel>,
}

impl Wanted {
    /// Nothing yet: call [`read`](Self::read).
    pub(super) fn new(folder: &Path) -> Wanted {
        Wanted { path: folder.join(STATE_FILE), models: BTreeMap::new() }
    }

    /// What was asked of a model.
    pub(super) fn of(&self, model: &str) -> WantedModel {
        self.models.get(model).cloned().unwrap_or_default()
    }

    /// Reads the file; there may be none. An error changes nothing.
    pub(super) fn read(&mut self) -> Result<(), RegistryError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.models.clear();
                return Ok(());
            }
            Err(source) => return Err(RegistryError::ReadState { path: self.path.clone(), source }),
        };
        let origin = self.path.display().to_string();
        let models: BTreeMap<String, WantedModel> = strict::from_json(&text, &origin)?;
        for (model, wanted) in &models {
            for (label, version) in &wanted.labels {
                let fail = |what: String| ConfigError::new(format!("{origin}: model '{model}': {what}"));
                check_label(label).map_err(|error| fail(error.to_string()))?;
                if *version == 0 {
                    return Err(fail(format!("label '{label}' is 0: versions begin with 1")).into());
                }
            }
        }
        self.models = models;
        Ok(())
    }

    /// Changes what is asked of a model, and keeps it. On an error nothing has changed.
    pub(super) fn change(
        &mut self,
        model: &str,
        change: impl FnOnce(&mut WantedModel),
    ) -> Result<(), RegistryError> {
        // Another server, or a person, may have changed the file since.
        self.read()?;
        let mut models = self.models.clone();
        let entry = models.entry(model.to_owned()).or_default();
        change(entry);
        if *entry == WantedModel::default() {
            models.remove(model);
        }
        if models != self.models {
            self.write(&models)
                .map_err(|source| RegistryError::WriteState { path: self.path.clone(), source })?;
            self.models = models;
        }
        Ok(())
    }

    /// Puts the file in its place whole.
    fn write(&self, models: &BTreeMap<String, WantedModel>) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(models)?;
        text.push(b'\n');
        let temporary = self.path.with_file_name(format!(".{STATE_FILE}.{}", std::process::id()));
        let written = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Checks that a label can be told from a version.
///
/// # Errors
/// One that cannot, is empty or long, or has other characters than a label may have.
pub fn check_label(label: &str) -> Result<(), RegistryError> {
    let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let number = label.bytes().all(|byte| byte.is_ascii_digit());
    if label.is_empty() || label.len() > 64 || !letters || number {
        return Err(RegistryError::BadLabel { label: label.chars().take(80).collect() });
    }
    Ok(())
}
