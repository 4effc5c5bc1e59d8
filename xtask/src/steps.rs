//! Steps whose results are kept, so that a second run does not repeat them.
//!
//! A step's JSON result is written under `.steps/` after the step has ended; it is reused while
//! the step is asked for with the same arguments and its outputs exist. Outputs of a step that
//! did not end are removed before it runs again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::program::last_json;

pub(crate) struct Steps {
    folder: PathBuf,
}

impl Steps {
    /// The steps of the working folder `work`; `fresh` forgets all of them.
    pub(crate) fn open(work: &Path, fresh: bool) -> Result<Self> {
        let folder = work.join(".steps");
        if fresh && folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Runs a program that prints JSON last, unless its result is kept; `outputs` are what it
    /// writes, relative to the folder it runs in.
    pub(crate) fn command(&self, name: &str, outputs: &[&str], command: &mut Command) -> Result<Value> {
        let arguments: Vec<String> =
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let base = command.get_current_dir().map(Path::to_path_buf).unwrap_or_default();
        let outputs: Vec<PathBuf> = outputs.iter().map(|output| base.join(output)).collect();
        self.kept(name, &json!(arguments), &outputs, || last_json(command))
    }

    /// As [`Steps::command`], for work that is more than one program.
    pub(crate) fn run(
        &self,
        name: &str,
        outputs: &[PathBuf],
        work: impl FnOnce() -> Result<Value>,
    ) -> Result<Value> {
        self.kept(name, &Value::Null, outputs, work)
    }

    fn kept(
        &self,
        name: &str,
        arguments: &Value,
        outputs: &[PathBuf],
        work: impl FnOnce() -> Result<Value>,
    ) -> Result<Value> {
        let path = self.folder.join(format!("{name}.json"));
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if let Some(kept) = kept
            && kept["arguments"] == *arguments
            && outputs.iter().all(|output| output.exists())
        {
            eprintln!("==> {name}: reused");
            return Ok(kept["result"].clone());
        }
        remove(&path)?;
        for output in outputs {
            remove(output)?;
        }
        let result = work().with_context(|| format!("step {name}"))?;
        let text = json!({ "arguments": arguments, "result": result }).to_string();
        let scratch = path.with_extension("partial");
        fs::write(&scratch, text).with_context(|| format!("cannot write {}", scratch.display()))?;
        fs::rename(&scratch, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(result)
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_again_only_when_it_must() {
        let work = std::env::temp_dir().join(format!("xtask-steps-{}", std::process::id()));
        let output = work.join("output");
        let make = |text: &'static str| {
            let output = output.clone();
            move || {
                fs::write(&output, text)?;
                Ok(json!(text))
            }
        };
        let steps = Steps::open(&work, false).unwrap();
        let outputs = [output.clone()];
        let ask = |arguments: u32, text| steps.kept("step", &json!(arguments), &outputs, make(text)).unwrap();
        assert_eq!(ask(1, "first"), "first");
        assert_eq!(ask(1, "second"), "first", "the same arguments: the result is kept");
        assert_eq!(ask(2, "third"), "third", "other arguments: the step runs again");
        fs::remove_file(&output).unwrap();
        assert_eq!(ask(2, "fourth"), "fourth", "its output is gone: the step runs again");

        let failed = steps.kept("step", &json!(3), &outputs, || anyhow::bail!("stopped"));
        assert_eq!(format!("{:#}", failed.unwrap_err()), "step step: stopped");
        assert!(!output.exists(), "what an earlier run left is removed before the step runs");
        assert_eq!(ask(2, "fifth"), "fifth", "a step that failed leaves nothing to reuse");
        fs::remove_dir_all(&work).unwrap();
    }
}
