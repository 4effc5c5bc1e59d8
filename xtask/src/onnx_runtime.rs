//! Brings in the ONNX Runtime library: pinned, checked by hash, kept in a cache folder.
//!
//! The library comes out of the wheel on the Python package index, the one place that a fresh
//! machine with cargo and pip can surely reach. The same wheel is taken for any Python version,
//! because only the shared library inside is used. The file in the cache is whole or not there:
//! it is unpacked beside its place and then renamed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The version that `ort` is built against (`api-31`).
const VERSION: &str = "1.31.1";
const LIBRARY: &str = "libonnxruntime.so.1.31.1";

/// One wheel on the package index, and the library inside.
struct Wheel {
    architecture: &'static str,
    platform: &'static str,
    wheel_sha256: &'static str,
    library_sha256: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel {
        architecture: "x86_64",
        platform: "manylinux_2_28_x86_64",
        wheel_sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    },
    Wheel {
        architecture: "aarch64",
        platform: "manylinux_2_28_aarch64",
        wheel_sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    },
];

/// The path of the library, fetched first if it is not there yet.
///
/// `ORT_DYLIB_PATH` names another library and is taken as it is.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("ORT_DYLIB_PATH names {}, which is not a file: correct it or unset it", path.display());
        }
        return Ok(path);
    }
    ensure_in(&cache_folder()?)
}

/// Sets for `command` what every program that loads ONNX Runtime needs.
pub(crate) fn set_environment(command: &mut Command, library: &Path) {
    command.env("ORT_DYLIB_PATH", library).env("ORT_DISABLE_TELEMETRY", "1");
}

/// `$GATEFOLD_CACHE`, or `gatefold` in the user's cache folder.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("GATEFOLD_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("gatefold")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/gatefold")))
        .context("no place for the cache: set GATEFOLD_CACHE to a folder")?;
    std::path::absolute(&folder).with_context(|| format!("{} is not a usable path", folder.display()))
}

fn ensure_in(cache: &Path) -> Result<PathBuf> {
    let library = cache.join(format!("onnxruntime-{VERSION}")).join(LIBRARY);
    let wheel = wheel_of_this_machine()?;
    if library.is_file() {
        if sha256_of(&library)? == wheel.library_sha256 {
            return Ok(library);
        }
        eprintln!(
            "{} is not the library it should be (its sha256 differs): fetching it again",
            library.display()
        );
    }
    fetch(wheel, cache, &library).with_context(|| {
        format!(
            "ONNX Runtime {VERSION} could not be set up; without a network, put {LIBRARY} (sha256 {}) \
             from the wheel onnxruntime-{VERSION}-cp311-cp311-{}.whl at {}, or set ORT_DYLIB_PATH to it",
            wheel.library_sha256,
            wheel.platform,
            library.display()
        )
    })?;
    Ok(library)
}

fn wheel_of_this_machine() -> Result<&'static Wheel> {
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    WHEELS.iter().find(|wheel| system == "linux" && wheel.architecture == architecture).with_context(|| {
        format!(
            "no ONNX Runtime is pinned for {system} on {architecture}: set ORT_DYLIB_PATH to \
                 the shared library of ONNX Runtime {VERSION}"
        )
    })
}

/// Downloads the wheel, checks it, unpacks it and renames the library into place.
fn fetch(wheel: &Wheel, cache: &Path, library: &Path) -> Result<()> {
    eprintln!("==> setup: fetching ONNX Runtime {VERSION} from the Python package index (about 20 MB)");
    let scratch = cache.join(format!(".onnxruntime-{VERSION}-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let result = fetch_by_way_of(&scratch, wheel, library);
    // What is left in the scratch folder is of no use to anyone, whatever happened.
    let _ = fs::remove_dir_all(&scratch);
    result
}

fn fetch_by_way_of(scratch: &Path, wheel: &Wheel, library: &Path) -> Result<()> {
    let requirements = scratch.join("requirements.txt");
    let pinned = format!("onnxruntime=={VERSION} --hash=sha256:{}\n", wheel.wheel_sha256);
    fs::write(&requirements, pinned).with_context(|| format!("cannot write {}", requirements.display()))?;
    python(
        Command::new("python3")
            .args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"])
            .args(["--require-hashes", "--only-binary=:all:", "--implementation", "cp"])
            .args(["--python-version", "3.11", "--abi", "cp311", "--platform", wheel.platform])
            .arg("--dest")
            .arg(scratch)
            .arg("--requirement")
            .arg(&requirements),
    )?;
    let archive = fs::read_dir(scratch)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip reported success but left no wheel")?;
    let unpacked = scratch.join("unpacked");
    python(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&archive).arg(&unpacked))?;
    let found = unpacked.join("onnxruntime/capi").join(LIBRARY);
    let hash = sha256_of(&found)?;
    if hash != wheel.library_sha256 {
        bail!("{LIBRARY} in the wheel has sha256 {hash}, not the pinned {}", wheel.library_sha256);
    }
    let folder = library.parent().context("the library has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::rename(&found, library).with_context(|| format!("cannot move the library to {}", library.display()))
}

fn python(command: &mut Command) -> Result<()> {
    let output = command.output().context("python3 cannot be run: install Python 3 with pip")?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            crate::workspace::display(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_takes_the_same_wheels() {
        let requirements = include_str!("../../deploy/onnxruntime.txt");
        assert!(requirements.contains(&format!("onnxruntime=={VERSION} ")), "{requirements}");
        for wheel in WHEELS {
            assert!(requirements.contains(wheel.wheel_sha256), "{} in {requirements}", wheel.architecture);
        }
    }

    #[test]
    fn hash_of_a_file_is_the_published_one() {
        // FIPS 180-2, appendix B.1: the message "abc".
        let folder = std::env::temp_dir().join(format!("xtask-hash-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("abc");
        fs::write(&path, "abc").unwrap();
        let hash = sha256_of(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
