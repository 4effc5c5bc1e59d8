//! Triton's own client against a real server: the suite in `tests/python`.

use std::{path::Path, process::Command};

use gatefold_tests::{World, copy_folder, gatefold_binary, python, server::Server, tests_folder};

/// Names the interpreter of an environment with `tests/python/requirements.txt`; `cargo xtask test`
/// makes one.
const PYTHON: &str = "TRITONCLIENT_PYTHON";

#[test]
fn tritonclient_works_unchanged() {
    let Some(python) = python(PYTHON, "tests/python") else { return };
    let (world, model) = (World::get(), "mmoe");
    // A copy, as the suite loads and unloads models.
    let models = tempfile::tempdir().expect("a temporary folder");
    copy_folder(Path::new(&world.path("models")).join(model).as_path(), &models.path().join(model));
    let server = Server::start(models.path().to_str().expect("UTF-8 path"), &[]);
    let output = Command::new(python)
        .args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .arg(tests_folder().join("python"))
        .env("SUITE_SERVER", server.url.trim_start_matches("http://"))
        .env("SUITE_MODEL", model)
        .env("SUITE_MODELS", models.path())
        .env("SUITE_EXAMPLES", world.path("samples/examples.json"))
        .env("SUITE_BINARY", gatefold_binary())
        .output()
        .expect("the interpreter starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(server.terminate().success(), "SIGTERM is a clean end");
}
