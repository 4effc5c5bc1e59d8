//! Finds and loads the ONNX Runtime library, once a process.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::OrtError;

/// Version of ONNX Runtime that Gatefold is tested with and that the set-up brings in.
pub const ONNX_RUNTIME_VERSION: &str = "1.31.1";
/// Name of the library in the cache.
pub const LIBRARY_FILE: &str = "libonnxruntime.so.1.31.1";

/// Environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Environment variable that keeps official builds of the library from sending telemetry; it is
/// read when the library starts.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Path of the library: `setting`, else `ORT_DYLIB_PATH`, else the cache
/// (`${GATEFOLD_CACHE or XDG_CACHE_HOME/gatefold or ~/.cache/gatefold}/onnxruntime-<version>/`).
/// A path that is given and does not exist is an error: another library is not taken in silence.
///
/// # Errors
/// [`OrtError::NoLibrary`], which names all three places.
pub fn find_library(setting: Option<&Path>) -> Result<PathBuf, OrtError> {
    find(setting, &|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn find(setting: Option<&Path>, variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, OrtError> {
    let mut tried = Vec::new();
    let given =
        [("the setting", setting.map(Path::to_path_buf)), (LIBRARY_VARIABLE, variable(LIBRARY_VARIABLE))];
    for (source, path) in given {
        match path {
            Some(path) if path.is_file() => return Ok(path),
            Some(path) => {
                tried.push(format!("{source} names {}, which is no file", path.display()));
                return Err(OrtError::NoLibrary { tried });
            }
            None => tried.push(format!("{source} is not given")),
        }
    }
    let cache = variable("GATEFOLD_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("gatefold")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache").join("gatefold")));
    let Some(cache) = cache else {
        tried.push(
            "there is no cache folder, as neither GATEFOLD_CACHE, XDG_CACHE_HOME nor HOME is set".into(),
        );
        return Err(OrtError::NoLibrary { tried });
    };
    let path = cache.join(format!("onnxruntime-{ONNX_RUNTIME_VERSION}")).join(LIBRARY_FILE);
    if path.is_file() {
        return Ok(path);
    }
    tried.push(format!("the cache has no {}", path.display()));
    Err(OrtError::NoLibrary { tried })
}

/// The process-wide environment, loading `library` at the first call.
pub(crate) fn environment(library: &Path) -> Result<Environment, OrtError> {
    // Kept for the life of the process: ONNX Runtime allows one environment and no second one.
    static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
    let library = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = loaded.as_ref() {
        if *path != library {
            return Err(OrtError::OtherLibrary { loaded: path.clone(), asked: library });
        }
        return Ok(environment.clone());
    }
    disable_telemetry();
    let failed = |reason: String| OrtError::Load { library: library.clone(), reason };
    let environment = ort::init_from(&library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("gatefold")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some((library, environment.clone()));
    Ok(environment)
}

/// Sets [`TELEMETRY_VARIABLE`] unless the process was started with it.
fn disable_telemetry() {
    if std::env::var_os(TELEMETRY_VARIABLE).is_some_and(|value| value == "1") {
        return;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the library takes this setting from the environment alone"
    )]
    // SAFETY: Rust code reads and writes the environment under one lock, so only C code that reads
    // it at this very moment could be disturbed. This runs once, before the only C library that
    // is loaded here, and programs open their loader at start, before they serve or compute.
    unsafe {
        std::env::set_var(TELEMETRY_VARIABLE, "1");
    }
}

/// Passes the runtime's messages on.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => {
            tracing::error!(target: "onnxruntime", category, location, "{message}")
        }
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Info | LogLevel::Verbose => {
            tracing::debug!(target: "onnxruntime", category, location, "{message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &Path)], setting: Option<&Path>, expected: Result<&Path, &[&str]>) {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_path_buf());
        match (find(setting, &variable), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(parts)) => {
                let text = error.to_string();
                for part in parts {
                    assert!(text.contains(part), "{text}\nlacks {part}");
                }
            }
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_setting_comes_first_then_the_variable_then_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cached = folder.path().join("cache/onnxruntime-1.31.1").join(LIBRARY_FILE);
        std::fs::create_dir_all(cached.parent().unwrap()).unwrap();
        let given = folder.path().join("given.so");
        let named = folder.path().join("named.so");
        for file in [&cached, &given, &named] {
            std::fs::write(file, "").unwrap();
        }
        let cache = folder.path().join("cache");
        let variables = [(LIBRARY_VARIABLE, named.as_path()), ("GATEFOLD_CACHE", cache.as_path())];
        check(&variables, Some(&given), Ok(&given));
        check(&variables, None, Ok(&named));
        check(&variables[1..], None, Ok(&cached));
    }

    #[test]
    fn cache_folders_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let in_home = folder.path().join(".cache/gatefold/onnxruntime-1.31.1").join(LIBRARY_FILE);
        let in_xdg = folder.path().join("xdg/gatefold/onnxruntime-1.31.1").join(LIBRARY_FILE);
        for file in [&in_home, &in_xdg] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let xdg = folder.path().join("xdg");
        check(&[("HOME", folder.path())], None, Ok(&in_home));
        check(&[("HOME", folder.path()), ("XDG_CACHE_HOME", &xdg)], None, Ok(&in_xdg));
    }

    #[test]
    fn what_is_not_there_names_every_place_and_the_remedy() {
        let nowhere = Path::new("/nowhere");
        check(
            &[("HOME", nowhere)],
            None,
            Err(&[
                "the setting is not given",
                "ORT_DYLIB_PATH is not given",
                "/nowhere/.cache/gatefold/onnxruntime-1.31.1/libonnxruntime.so.1.31.1",
                "cargo xtask setup",
            ]),
        );
        check(&[], Some(nowhere), Err(&["the setting names /nowhere, which is no file"]));
        check(&[(LIBRARY_VARIABLE, nowhere)], None, Err(&["ORT_DYLIB_PATH names /nowhere"]));
        check(&[], None, Err(&["neither GATEFOLD_CACHE, XDG_CACHE_HOME nor HOME is set"]));
    }
}
