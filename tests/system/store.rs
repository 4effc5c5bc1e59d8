//! Logs in a store that speaks the protocol of S3: moto, which asks for the right key.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use gatefold_tests::{gatefold, python, run_json, tests_folder};

/// Names the interpreter of an environment with `tests/store/requirements.txt`; `cargo xtask test` makes one.
const PYTHON: &str = "STORE_PYTHON";

/// A store that is stopped when dropped.
struct Store {
    child: Child,
    about: serde_json::Value,
}

impl Store {
    fn start(bucket: &str, folder: &Path) -> Option<Store> {
        let python = python(PYTHON, "the test of logs in S3")?;
        let mut command = Command::new(python);
        command.arg(tests_folder().join("store/serve.py")).arg(bucket).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the interpreter starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a line");
        let about =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: the store said {line:?}"));
        Some(Store { child, about })
    }

    fn about(&self, what: &str) -> &str {
        self.about[what].as_str().expect("a text")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The recipe of the small world with other names of files.
fn recipe(folder: &Path, name: &str, files: impl Fn(&str) -> String) -> String {
    let mut text = fs::read_to_string(tests_folder().join("recipes/small.toml")).expect("a recipe");
    for log in ["impressions", "clicks", "conversions", "users", "items"] {
        text = text.replace(&format!("\n{log} = \"{log}.parquet\""), &format!("\n{log} = {}", files(log)));
    }
    text = text.replace("audit = \"truth.parquet\"", &format!("audit = {}", files("truth")));
    let path = folder.join(name);
    fs::write(&path, text).expect("the recipe is written");
    path.to_str().expect("UTF-8").to_owned()
}

/// The files of a sample set, one after another.
fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(bytes(&path));
        } else {
            found.push((
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                fs::read(&path).expect("a file"),
            ));
        }
    }
    found.sort();
    found
}

#[test]
fn logs_in_a_store_give_the_samples_of_local_ones() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let (logs, local, remote) = (path("logs"), path("local"), path("remote"));
    run_json(&["synth", "--out", &logs, "--impressions", "4000", "--seed", "5"]);
    let partition = Path::new(&logs).join("shown/site=a");
    fs::create_dir_all(&partition).expect("a folder");
    fs::copy(Path::new(&logs).join("impressions.parquet"), partition.join("0.parquet")).expect("a copy");
    let Some(store) = Store::start("events", Path::new(&logs)) else { return };
    let build = |recipe: &str, out: &str, key: (&str, &str)| {
        gatefold(&["samples", "build", "--recipe", recipe, "--logs", &logs, "--out", out, "--raw", "test"])
            .env("AWS_ENDPOINT_URL", store.about("endpoint"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", key.0)
            .env("AWS_SECRET_ACCESS_KEY", key.1)
            .output()
            .expect("gatefold starts")
    };
    let key = (store.about("id"), store.about("secret"));
    let local_recipe = recipe(home.path(), "local.toml", |log| format!("\"{log}.parquet\""));
    // Partitions, a pattern, a list and plain names.
    let remote_recipe = recipe(home.path(), "remote.toml", |log| match log {
        "impressions" => "{ files = \"s3://events/shown/**/*.parquet\", where = \"site = 'a'\" }".to_owned(),
        "clicks" => "\"s3://events/click*.parquet\"".to_owned(),
        "items" => "[\"s3://events/items.parquet\"]".to_owned(),
        log => format!("\"s3://events/{log}.parquet\""),
    });
    for (recipe, out) in [(&local_recipe, &local), (&remote_recipe, &remote)] {
        let output = build(recipe, out, key);
        assert!(output.status.success(), "{out}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(bytes(Path::new(&local)) == bytes(Path::new(&remote)), "the samples differ");

    let nowhere = recipe(home.path(), "nowhere.toml", |log| format!("\"s3://nowhere/{log}.parquet\""));
    let unnamed = recipe(home.path(), "unnamed.toml", |log| format!("\"s3://events/{log}-of-old.parquet\""));
    let wrong = "wrong/secret/of/nobody";
    for (recipe, key, expected) in [
        (&nowhere, key, "cannot read s3://nowhere/impressions.parquet ("),
        (&unnamed, key, "cannot read s3://events/impressions-of-old.parquet ("),
        (&remote_recipe, (key.0, wrong), "cannot read s3://events/shown/**/*.parquet ("),
        (&remote_recipe, ("NOBODY", wrong), "cannot read s3://events/shown/**/*.parquet ("),
    ] {
        let output = build(recipe, &path("none"), key);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(expected) && said.contains("AWS_ENDPOINT_URL"),
            "{said}"
        );
        assert!(!said.contains(key.1) && !said.contains(store.about("secret")), "a secret is told: {said}");
        assert!(!Path::new(&path("none")).exists());
    }
}
