//! What is made of files, made again when they change, without a restart.
//!
//! A change that cannot be used is logged once and what was there stays, so that a half-written file
//! or a certificate that arrives before its key does no harm.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

/// Time between two looks at the files.
const PERIOD: Duration = Duration::from_secs(1);

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct FileError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong and what to do.
    pub problem: String,
}

impl FileError {
    /// An error of `file`.
    pub fn new(file: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self { file: file.into(), problem: problem.into() }
    }
}

/// Contents of the files, in the order they were named.
type Contents = Vec<Vec<u8>>;

/// A value that follows its files for as long as it is held.
#[derive(Debug)]
pub struct Reloaded<T> {
    value: RwLock<Arc<T>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value of the contents of `files`, and again whenever these change. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When a file cannot be read, or `make` refuses it now; later refusals are logged.
    pub fn follow(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + 'static,
    ) -> Result<Arc<Self>, FileError> {
        let contents = read(&files)?;
        let value = make(&contents)?;
        let reloaded = Arc::new(Self { value: RwLock::new(Arc::new(value)) });
        tokio::spawn(watch(Arc::downgrade(&reloaded), what, files, contents, make));
        Ok(reloaded)
    }

    /// The value as the files last had it.
    pub fn get(&self) -> Arc<T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn watch<T>(
    reloaded: Weak<Reloaded<T>>,
    what: &'static str,
    files: Vec<PathBuf>,
    contents: Contents,
    make: impl Fn(&[Vec<u8>]) -> Result<T, FileError>,
) {
    let mut seen = Ok(contents);
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(reloaded) = reloaded.upgrade() else { return };
        // A few small files: as quick to read as to hand to another thread.
        let found = read(&files);
        if found == seen {
            continue;
        }
        match found.as_deref().map_err(Clone::clone).and_then(&make) {
            Ok(value) => {
                *reloaded.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!("{what} changed and is in use");
            }
            Err(error) => tracing::error!("{what} changed and cannot be used, the one before stays: {error}"),
        }
        seen = found;
    }
}

fn read(files: &[PathBuf]) -> Result<Contents, FileError> {
    let read = |file: &PathBuf| {
        std::fs::read(file).map_err(|error| FileError::new(file, format!("cannot be read: {error}")))
    };
    files.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_followed_and_a_bad_one_is_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("number");
        let number = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            text.parse::<u32>().map_err(|_| FileError::new("number", format!("'{text}' is no number")))
        };
        let missing = Reloaded::follow("the number", vec![file.clone()], number).unwrap_err().to_string();
        assert!(
            missing.ends_with("number: cannot be read: No such file or directory (os error 2)"),
            "{missing}"
        );
        std::fs::write(&file, "1").unwrap();
        let reloaded = Reloaded::follow("the number", vec![file.clone()], number).unwrap();
        for (text, expected) in [(Some("2"), 2), (Some("x"), 2), (None, 2), (Some("3"), 3)] {
            match text {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            tokio::time::sleep(PERIOD * 2).await;
            assert_eq!(*reloaded.get(), expected, "{text:?}");
        }
    }
}
