use std::{fs, path::Path, sync::Barrier};

use tempfile::TempDir;

use super::*;
use crate::testing::{encoders, filled_writer, manifest, publish};

fn published() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = publish(folder.path(), "shop").path().to_path_buf();
    (folder, path)
}

/// Changes a published bundle and expects that it no longer opens, with these words.
#[track_caller]
fn refuse(change: impl FnOnce(&Path), words: &[&str]) {
    let (_folder, path) = published();
    change(&path);
    let error = Bundle::open(&path).expect_err("the bundle opens");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text}\nlacks {word}");
    }
}

/// Edits the manifest of a published bundle, keeping it otherwise valid.
fn edit(path: &Path, change: impl FnOnce(&mut BundleManifest)) {
    let file = path.join(MANIFEST_FILE);
    let mut manifest: BundleManifest = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(file, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn what_is_written_opens_again() {
    let (folder, path) = published();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.path(), folder.path().join("shop/1"));
    assert_eq!((bundle.manifest().name.as_str(), bundle.manifest().version), ("shop", 1));
    assert_eq!(bundle.encoder().set(), &encoders());
    assert_eq!(bundle.golden().requests.len(), 2);
    assert_eq!(bundle.output_index("ctcvr"), Some(2));
    let files: Vec<&String> = bundle.manifest().files.keys().collect();
    assert_eq!(files, ["golden.json", "model.onnx", "model.user_once.onnx", "vocab/country.json"]);
    // sha256 of the five bytes `plain`, by `printf plain | sha256sum`.
    let expected = FileEntry {
        bytes: 5,
        sha256: "a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475".into(),
    };
    assert_eq!(bundle.manifest().files["model.onnx"], expected);
    assert_eq!(bundle.form(GraphForm::UserOnce), GraphForm::UserOnce);
}

#[test]
fn a_changed_byte_names_file_and_hashes() {
    refuse(
        |path| fs::write(path.join("model.onnx"), b"plaim").unwrap(),
        &[
            "shop/1/model.onnx was changed: its sha256 is ",
            "the manifest says ",
            "copy the whole bundle again",
        ],
    );
}

#[test]
fn a_cut_file_names_file_and_sizes() {
    refuse(
        |path| fs::write(path.join("model.onnx"), b"pl").unwrap(),
        &["shop/1/model.onnx has 2 bytes, the manifest says 5"],
    );
}

#[test]
fn a_missing_file_is_named() {
    refuse(
        |path| fs::remove_file(path.join("vocab/country.json")).unwrap(),
        &["shop/1/vocab/country.json is missing"],
    );
}

#[test]
fn a_folder_without_manifest_is_no_bundle() {
    refuse(
        |path| fs::remove_file(path.join(MANIFEST_FILE)).unwrap(),
        &["is not a model bundle", "models/<name>/<version>"],
    );
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    refuse(
        |path| {
            let file = path.join(MANIFEST_FILE);
            let text = fs::read_to_string(&file).unwrap().replacen("\"provenance\"", "\"provenence\"", 1);
            fs::write(file, text).unwrap();
        },
        &["manifest.json:", "unknown field `provenence`", "did you mean `provenance`?"],
    );
}

#[test]
fn another_format_is_told_before_its_keys() {
    refuse(
        |path| {
            let file = path.join(MANIFEST_FILE);
            let text =
                fs::read_to_string(&file).unwrap().replacen("\"format\": 1", "\"format\": 9, \"new\": 0", 1);
            fs::write(file, text).unwrap();
        },
        &["bundle format 9, this program reads format 1"],
    );
}

#[test]
fn names_that_leave_the_bundle_are_refused() {
    for name in ["../secret", "/etc/passwd", "a/b/c", "..", "a//b", "a\\b", "./a", "c:evil", ""] {
        refuse(
            |path| {
                edit(path, |manifest| {
                    let entry = manifest.files["model.onnx"].clone();
                    manifest.files.insert(name.into(), entry);
                })
            },
            &["does not stay inside the bundle"],
        );
    }
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    refuse(|path| edit(path, |manifest| manifest.name = "../shop".into()), &["model name '../shop'"]);
    refuse(
        |path| edit(path, |manifest| manifest.plain.file = "other.onnx".into()),
        &["'other.onnx' is needed"],
    );
    refuse(
        |path| edit(path, |manifest| manifest.plain.inputs[0].feature = "agee".into()),
        &["graph model.onnx", "unknown feature 'agee'"],
    );
    refuse(
        |path| edit(path, |manifest| manifest.plain.inputs[0].level = gatefold_schema::Level::Request),
        &["the plain graph's input 'age' is at request level"],
    );
    refuse(
        |path| {
            edit(path, |manifest| {
                let graph = manifest.user_once.as_mut().unwrap();
                graph.inputs[2].level = gatefold_schema::Level::Request;
            })
        },
        &["'price' has one value a candidate"],
    );
    refuse(
        |path| edit(path, |manifest| manifest.user_once.as_mut().unwrap().request_of = None),
        &["names no request_of"],
    );
    refuse(|path| edit(path, |manifest| drop(manifest.outputs.pop())), &["outputs are [ctr, cvr]"]);
    refuse(
        |path| edit(path, |manifest| manifest.gate_outputs[1].name = "ctr".into()),
        &["gate output 'ctr' has the name of another output"],
    );
    refuse(
        |path| edit(path, |manifest| manifest.gate_outputs[0].experts.clear()),
        &["gate output 'gate.ctr' lists no experts"],
    );
    refuse(
        |path| edit(path, |manifest| manifest.gate_outputs[0].tasks[0] = "ctcvr".into()),
        &["gate output 'gate.ctr' is of 'ctcvr', which is no task of the model"],
    );
    refuse(|path| edit(path, |manifest| manifest.vocabularies.clear()), &["'country' needs the vocabulary"]);
    refuse(
        |path| edit(path, |manifest| manifest.fingerprint = "00".into()),
        &["fingerprint is ", "the manifest says 00"],
    );
}

#[test]
fn golden_rows_must_be_there_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let check = |golden: Golden, words: &str| {
        let mut writer = BundleWriter::create(folder.path().join("shop")).unwrap();
        writer.write("model.onnx", b"plain").unwrap();
        writer.write("model.user_once.onnx", b"once").unwrap();
        writer.write_vocabulary(&encoders().vocabularies["country"]).unwrap();
        writer.write_golden(&golden).unwrap();
        let error = writer.publish(manifest(), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("golden.json") && error.contains(words), "{error}");
    };
    check(Golden::default(), "there is no golden request");
    let mut request = crate::testing::golden_request(1.0, &[1.0, 2.0]);
    request.scores.get_mut("cvr").unwrap().pop();
    check(
        Golden { requests: vec![request.clone()] },
        "request 0 has 2 candidates but 1 scores for output 'cvr'",
    );
    request.scores.remove("cvr");
    check(Golden { requests: vec![request] }, "request 0 has no scores for output 'cvr'");
    assert_eq!(fs::read_dir(folder.path().join("shop")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_refused_bundle_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("shop");
    let error = filled_writer(&model).publish(manifest(), |_| Err("scores differ".into())).unwrap_err();
    assert!(error.to_string().contains("scores differ"), "{error}");
    drop(filled_writer(&model));
    assert_eq!(fs::read_dir(&model).unwrap().count(), 0);
}

#[test]
fn a_written_name_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = BundleWriter::create(folder.path().join("shop")).unwrap();
    assert!(writer.write("../x", b"").is_err());
    assert!(writer.write(MANIFEST_FILE, b"").is_err(), "the manifest is written by publish");
    writer.write("x", b"1").unwrap();
    assert!(writer.write("x", b"2").is_err(), "a file is written once");
    let error = BundleWriter::create(folder.path().join(".hidden")).unwrap_err().to_string();
    assert!(error.contains("'.hidden' cannot be a model's name"), "{error}");
}

#[test]
fn versions_follow_the_highest_and_other_names_are_not_looked_at() {
    let (folder, _) = published();
    let model = folder.path().join("shop");
    for name in ["7", "007", "notes", ".writing-1-1", "0"] {
        fs::create_dir(model.join(name)).unwrap();
    }
    fs::write(model.join("12"), "a file").unwrap();
    assert_eq!(versions(&model).unwrap(), [1, 7]);
    assert_eq!(publish(folder.path(), "shop").manifest().version, 8);
    assert_eq!(Bundle::open_latest(&model).unwrap().manifest().version, 8);
    assert_eq!(Bundle::open_latest(model.join("1")).unwrap().manifest().version, 1);
}

#[test]
fn writers_at_the_same_time_get_versions_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("shop");
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let writer = filled_writer(&model);
                barrier.wait();
                let bundle = writer.publish(manifest(), |_| Ok(())).unwrap();
                assert_eq!(bundle.path(), model.join(bundle.manifest().version.to_string()));
            });
        }
    });
    assert_eq!(versions(&model).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    for version in 1..=8u64 {
        let bundle = Bundle::open(model.join(version.to_string())).unwrap();
        assert_eq!(bundle.manifest().version, version);
    }
}

#[test]
fn a_folder_whose_writer_was_killed_is_removed_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("shop");
    let live = filled_writer(&model);
    let dead = model.join(".writing-0-0");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("model.onnx"), "half").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for entry in fs::read_dir(&model).unwrap() {
        File::open(entry.unwrap().path()).unwrap().set_modified(long_ago).unwrap();
    }
    drop(BundleWriter::create(&model).unwrap());
    assert!(!dead.exists());
    assert_eq!(live.publish(manifest(), |_| Ok(())).unwrap().manifest().version, 1);
}
