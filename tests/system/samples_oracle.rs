//! Samples of the job in `../shared/bench/samples/SPEC.md` equal those of its oracle, which looks at every event
//! for every impression: every column of every row, and the vocabularies.

use std::path::Path;
use std::process::Command;

use gatefold_tests::{python, run_json, shared_folder, tests_folder};

/// Logs of 20,000 impressions, as the peers' `check.py` takes them: to the millisecond, with many equal times and
/// borders of windows that are hit, with few users and items. Its fourth, in which the rows of a request have times
/// of their own, is no case here: a request is one instant, at which all of its features are known.
const CASES: [(&str, &[&str]); 3] = [
    ("exact", &["--seed", "1", "--items", "6000"]),
    ("ties", &["--seed", "2", "--tick-us", "3600000000"]),
    ("dense", &["--seed", "3", "--users", "60", "--items", "100", "--tick-us", "60000000"]),
];

#[test]
fn samples_equal_those_of_the_naive_oracle() {
    let Some(peers) =
        shared_folder().map(|shared| shared.join("bench/samples")).filter(|peers| peers.is_dir())
    else {
        eprintln!("skipped: the folder shared/bench/samples is not beside the checkout");
        return;
    };
    let Some(python) = python("SAMPLES_PYTHON", "the oracle of samples") else { return };
    let script = |script: &Path, arguments: &[&str]| {
        let output = Command::new(&python).arg(script).args(arguments).output().expect("Python starts");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{} {}: {}", script.display(), arguments.join(" "), text.concat());
        text[0].clone()
    };
    let benches = tests_folder().join("../benches/samples");
    let recipe = benches.join("samples.toml");
    let work = tempfile::tempdir().expect("a new folder");
    for (case, arguments) in CASES {
        let [logs, oracle, samples, converted] = ["logs", "oracle", "samples", "converted"]
            .map(|name| work.path().join(format!("{case}-{name}")).to_str().expect("UTF-8").to_owned());
        let make = ["--impressions", "20000", "--out", &logs];
        script(&peers.join("gen.py"), &[&make[..], arguments].concat());
        script(&peers.join("naive.py"), &["--data", &logs, "--out", &oracle]);
        let recipe = recipe.to_str().expect("UTF-8");
        let build = ["samples", "build", "--recipe", recipe, "--logs", &logs, "--out", &samples];
        run_json(&[&build[..], &["--raw", "train", "--raw", "valid", "--raw", "test"]].concat());
        script(&benches.join("convert.py"), &["--samples", &samples, "--out", &converted]);
        let said = script(&peers.join("check.py"), &["--compare", &oracle, &converted]);
        // All of SPEC.md's 31 columns, and the raw counts and sequences.
        assert!(said.contains("equal: 20000 rows, 44 columns, 2 outputs"), "{case}: {said}");
    }
}
