//! What is no ONNX Runtime is refused with a remedy, and does not keep a right one from loading
//! later: in a process of its own, where nothing is loaded yet.

use gatefold_backend_ort::{OrtLoader, OrtSettings};

#[test]
fn a_file_that_is_no_library_is_refused_and_a_right_one_loads_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    std::fs::write(&library, "not a library").unwrap();
    let settings = OrtSettings { library: Some(library), ..OrtSettings::default() };
    let error = OrtLoader::new(settings).unwrap_err().to_string();
    assert!(error.contains("libonnxruntime.so: ONNX Runtime cannot be loaded"), "{error}");
    assert!(error.contains("cargo xtask setup"), "{error}");
    OrtLoader::new(OrtSettings::default()).unwrap();
}
