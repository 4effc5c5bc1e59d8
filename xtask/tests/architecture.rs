//! The walls between the crates, as `ARCHITECTURE.md` promises them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate, and the workspace crates that it may use directly.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("gatefold-proto", &[]),
    ("gatefold-schema", &[]),
    ("gatefold-features", &["schema"]),
    ("gatefold-formula", &[]),
    ("gatefold-metrics", &[]),
    ("gatefold-history", &[]),
    ("gatefold-graph", &[]),
    ("gatefold-exec", &["graph"]),
    ("gatefold-nn", &["graph", "schema"]),
    ("gatefold-onnx", &["graph", "schema", "proto"]),
    ("gatefold-dataset", &["schema", "features"]),
    ("gatefold-samples", &["schema", "features", "history", "metrics", "experiment"]),
    (
        "gatefold-trainer",
        &[
            "schema",
            "features",
            "dataset",
            "graph",
            "nn",
            "exec",
            "onnx",
            "proto",
            "metrics",
            "engine",
            "backend-ort",
        ],
    ),
    ("gatefold-engine", &["schema", "features"]),
    ("gatefold-backend-ort", &["engine", "schema", "features"]),
    ("gatefold-experiment", &["metrics", "schema"]),
    ("gatefold-server", &["proto", "schema", "features", "formula", "engine", "backend-ort", "experiment"]),
    (
        "gatefold",
        &[
            "proto",
            "schema",
            "features",
            "formula",
            "metrics",
            "graph",
            "exec",
            "nn",
            "onnx",
            "dataset",
            "history",
            "samples",
            "trainer",
            "engine",
            "backend-ort",
            "experiment",
            "server",
        ],
    ),
];

/// A heavy dependency, and the only packages that may name it.
const ONLY_NAMED_BY: [(&str, &[&str]); 6] = [
    ("polars", &["gatefold-samples", "gatefold-dataset", "gatefold", "gatefold-tests"]),
    ("ort", &["gatefold-backend-ort", "gatefold-tests"]),
    ("tonic", &["gatefold-proto", "gatefold-server", "gatefold", "gatefold-tests"]),
    ("gemm", &["gatefold-exec", "gatefold-tests"]),
    ("axum", &["gatefold-server"]),
    ("clap", &["gatefold", "gatefold-server", "gatefold-tests", "xtask"]),
];

/// A package, and what must not be anywhere in its tree.
const NOT_IN_TREE: [(&str, &[&str]); 6] = [
    ("gatefold-server", &["polars", "polars-core", "gemm", "gatefold-trainer", "gatefold-samples"]),
    ("gatefold-engine", &["ort", "tonic", "polars"]),
    ("gatefold-features", &["polars", "tokio", "ort"]),
    ("gatefold-schema", &["tokio", "ndarray", "polars"]),
    ("gatefold-graph", &["tokio", "ndarray", "gemm"]),
    ("xtask", &["polars", "ort", "tonic", "tokio"]),
];

#[test]
fn crates_use_only_what_they_may() {
    let allowed: BTreeMap<&str, BTreeSet<String>> = MAY_USE
        .iter()
        .map(|(name, uses)| (*name, uses.iter().map(|used| format!("gatefold-{used}")).collect()))
        .collect();
    let used = internal_dependencies();
    let crates: BTreeSet<&str> = used.keys().map(String::as_str).collect();
    assert_eq!(
        crates,
        allowed.keys().copied().collect(),
        "the table in this test and the folder crates/ differ"
    );
    for (name, uses) in &used {
        let beyond: Vec<_> = uses.difference(&allowed[name.as_str()]).collect();
        assert!(beyond.is_empty(), "{name} must not depend on {beyond:?}");
    }
}

#[test]
fn the_chain_of_crates_is_short_and_has_no_cycle() {
    let used = internal_dependencies();
    for name in used.keys() {
        let chain = longest_chain(name, &used, &mut Vec::new());
        assert!(chain.len() <= 6, "a chain of more than five dependencies: {chain:?}");
    }
}

#[test]
fn heavy_dependencies_are_named_at_one_place() {
    let named = external_dependencies();
    for (dependency, allowed) in ONLY_NAMED_BY {
        for (package, dependencies) in &named {
            let wrong = dependencies.contains(dependency) && !allowed.contains(&package.as_str());
            assert!(!wrong, "{package} must not name {dependency}");
        }
    }
}

#[test]
fn trees_stay_free_of_what_they_must_not_pull_in() {
    for (package, forbidden) in NOT_IN_TREE {
        let tree = tree_of(package);
        assert!(tree.contains(package), "cargo tree of {package} does not name it: {tree:?}");
        for dependency in forbidden {
            assert!(!tree.contains(*dependency), "{dependency} is in the tree of {package}");
        }
    }
    assert!(tree_of("gatefold-samples").contains("polars"), "the check above would not see polars");
}

#[test]
fn the_architecture_names_every_crate_and_no_other() {
    let path = root().join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let named: BTreeSet<String> = text
        .match_indices("crates/")
        .map(|(at, prefix)| {
            let rest = &text[at + prefix.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(named, crate_folders(), "ARCHITECTURE.md and the folder crates/ differ");
}

#[test]
fn every_folder_of_crates_is_a_package_of_its_name() {
    let packages: BTreeMap<String, PathBuf> = packages()
        .iter()
        .map(|package| (text(&package["name"]), PathBuf::from(text(&package["manifest_path"]))))
        .collect();
    for folder in crate_folders() {
        let name = if folder == "cli" { "gatefold".to_owned() } else { format!("gatefold-{folder}") };
        let manifest = root().join("crates").join(&folder).join("Cargo.toml");
        let found = packages.get(&name).unwrap_or_else(|| panic!("no package {name}"));
        assert_eq!(
            found.canonicalize().unwrap(),
            manifest.canonicalize().unwrap(),
            "crates/{folder} holds another package"
        );
    }
}

fn root() -> PathBuf {
    // Read when the test runs: a build folder may serve several checkouts.
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    Path::new(&folder).parent().expect("xtask lies in the workspace").to_path_buf()
}

fn crate_folders() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("crates")).expect("crates/ can be read");
    entries
        .map(|entry| entry.expect("crates/ can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a crate's folder has a plain name"))
        .collect()
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .current_dir(root())
        // The tree of one package as it is, not with the features of the whole workspace.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .args(arguments)
        .output()
        .expect("cargo runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {message}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn packages() -> Vec<Value> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"]))
        .expect("cargo prints JSON");
    metadata["packages"].as_array().expect("metadata lists packages").clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// Every package of the workspace with the names of its dependencies, those of tests left out.
fn external_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    packages()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a package lists dependencies");
            let shipped = dependencies.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
            (text(&package["name"]), shipped.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

/// The packages under `crates/` with the workspace packages that they use.
fn internal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let all = external_dependencies();
    let outside = ["gatefold-tests", "xtask"];
    let internal = |name: &str| all.contains_key(name);
    all.iter()
        .filter(|(name, _)| !outside.contains(&name.as_str()))
        .map(|(name, uses)| (name.clone(), uses.iter().filter(|used| internal(used)).cloned().collect()))
        .collect()
}

fn longest_chain(
    name: &str,
    used: &BTreeMap<String, BTreeSet<String>>,
    above: &mut Vec<String>,
) -> Vec<String> {
    assert!(!above.iter().any(|other| other == name), "a cycle: {above:?} and {name}");
    above.push(name.to_owned());
    let below = used[name].iter().map(|next| longest_chain(next, used, above)).max_by_key(Vec::len);
    above.pop();
    let mut chain = vec![name.to_owned()];
    chain.extend(below.unwrap_or_default());
    chain
}

/// The names of all packages that `package` is built from.
fn tree_of(package: &str) -> BTreeSet<String> {
    let printed = cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    printed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
