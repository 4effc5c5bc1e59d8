//! The commands one after another on small synthetic logs, each reading what the one before wrote.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use polars::prelude::*;
use serde_json::Value;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/synthetic.toml");

/// A working folder with logs and samples of one seed.
struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    fn new(seed: &str) -> Self {
        let work = Self { folder: tempfile::tempdir().unwrap() };
        let logs = work.path("logs");
        work.json(&["synth", "--out", &logs, "--impressions", "30000", "--seed", seed, "--json"]);
        let samples = work.path("samples");
        work.json(&[
            "samples", "build", "--recipe", RECIPE, "--logs", &logs, "--out", &samples, "--raw", "test",
            "--json",
        ]);
        work
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.args(arguments).env_remove("RUST_LOG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The JSON object that a command prints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], expected: &[&str]) {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        for part in expected {
            assert!(text.contains(part), "{arguments:?} says\n{text}\nwhich does not contain\n{part}");
        }
    }

    fn train(&self, kind: &str) -> Value {
        let samples = self.path("samples");
        let model = self.path(&format!("models/{kind}"));
        self.json(&[
            "train",
            "--recipe",
            RECIPE,
            "--samples",
            &samples,
            "--out",
            &model,
            "--model",
            kind,
            "--epochs",
            "1",
            "--json",
        ])
    }
}

#[test]
fn from_logs_to_a_comparison() {
    let work = Work::new("1");
    let (samples, raw) = (work.path("samples"), work.path("samples/raw-test.parquet"));
    for kind in ["shared-bottom", "mmoe"] {
        let report = work.train(kind);
        assert_eq!(report["bundle"], Value::from(work.path(&format!("models/{kind}/1"))));
        for output in ["ctr", "cvr", "ctcvr"] {
            let auc = report["validation"][output]["auc"].as_f64().unwrap();
            assert!((0.4..1.0).contains(&auc), "{kind} {output}: {auc}");
        }
    }

    let model = work.path("models/mmoe");
    let scores: Vec<DataFrame> = [&[][..], &["--plain", "--threads", "1", "--batch-rows", "333"]]
        .into_iter()
        .map(|options| {
            let out = work.path(&format!("scores-{}.parquet", options.len()));
            let mut arguments = vec!["score", "--model", &model, "--input", &raw, "--out", &out, "--json"];
            arguments.extend(options);
            let report = work.json(&arguments);
            let scores = read(&out);
            assert_eq!(report["rows"], scores.height());
            scores
        })
        .collect();
    let rows = read(&raw);
    assert!(scores[0].column("request_id").unwrap().equals(rows.column("request_id").unwrap()));
    for output in ["ctr", "cvr", "ctcvr"] {
        let [user_once, plain] = [0, 1].map(|form: usize| {
            scores[form].column(output).unwrap().f32().unwrap().into_no_null_iter().collect::<Vec<f32>>()
        });
        assert!(user_once.iter().all(|score| (0.0..=1.0).contains(score)));
        let largest = user_once.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-5, "{output}: the two graphs differ by {largest}");
    }

    let report = work.path("report.html");
    let baseline = work.path("models/shared-bottom/1");
    let found = work.json(&["compare", "--samples", &samples, "--out", &report, &baseline, &model, "--json"]);
    let outputs = found["outputs"].as_array().unwrap();
    let names: Vec<(&str, &str)> = outputs
        .iter()
        .map(|output| (output["output"].as_str().unwrap(), output["space"].as_str().unwrap()))
        .collect();
    assert_eq!(names[0], ("ctr", "all impressions"));
    assert_eq!(names[2], ("ctcvr", "all impressions"));
    assert!(names.contains(&("cvr", "all impressions (potential outcome)")), "{names:?}");
    for output in outputs {
        let models: Vec<&str> = output["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["model"].as_str().unwrap())
            .collect();
        assert_eq!(models, ["shared-bottom", "mmoe", "oracle"]);
        for model in output["models"].as_array().unwrap() {
            let [low, auc, high] = ["low", "auc", "high"].map(|key| model[key].as_f64().unwrap());
            assert!(low <= auc && auc <= high, "{model}");
        }
    }
    // The exported graph, run on the test split through ONNX Runtime, and the scores of the raw
    // rows of the same split are the same scores: so is their AUC.
    let ctr: Vec<f32> = scores[0].column("ctr").unwrap().f32().unwrap().into_no_null_iter().collect();
    let click: Vec<f32> = label(&rows, "click");
    let auc = gatefold_metrics::auc(&ctr, &click, None).unwrap();
    assert!((auc - outputs[0]["models"][1]["auc"].as_f64().unwrap()).abs() < 1e-6);
    assert!(fs::read_to_string(&report).unwrap().starts_with("<!doctype html>"));
}

#[test]
fn a_model_and_its_stored_scores_get_the_same_figures() {
    let work = Work::new("5");
    let (samples, raw) = (work.path("samples"), work.path("samples/raw-test.parquet"));
    let (model, scores, report) =
        (work.path("models/mmoe"), work.path("scores.parquet"), work.path("evaluation.html"));
    let trained = work.train("mmoe");
    work.json(&["score", "--model", &model, "--input", &raw, "--out", &scores, "--json"]);
    let evaluate =
        |more: &[&str]| work.json(&[&["evaluate", "--samples", &samples, "--json"], more].concat());
    let of_model = evaluate(&["--model", &model, "--gates", "--out", &report]);
    let of_scores = evaluate(&["--scores", &scores]);
    let names = |found: &Value| -> Vec<String> {
        let outputs = found["outputs"].as_array().unwrap().iter();
        outputs.map(|output| output["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&of_model),
        [
            "ctr | all impressions",
            "cvr | impressions with click = 1",
            "ctcvr | all impressions",
            "cvr | all impressions (potential outcome)"
        ]
    );
    assert_eq!(names(&of_scores), names(&of_model));
    let metric = |found: &Value, output: usize, name: &str| {
        found["outputs"][output]["metrics"][name].as_f64().unwrap_or_else(|| panic!("{name} of {output}"))
    };
    let metrics = ["auc", "gauc", "ndcg", "log_loss", "normalized_entropy", "pcoc", "ece", "ece_equal_width"];
    for output in 0..4 {
        for name in metrics {
            let [a, b] = [&of_model, &of_scores].map(|found| metric(found, output, name));
            assert!((a - b).abs() < 1e-5, "{name} of output {output}: {a} of the model, {b} of its scores");
        }
    }
    // Figures of the stored scores, from the file itself.
    let (rows, stored) = (read(&raw), read(&scores));
    let (ctr, click) = (label(&stored, "ctr"), label(&rows, "click"));
    let auc = gatefold_metrics::auc(&ctr, &click, None).unwrap();
    assert!((auc - metric(&of_scores, 0, "auc")).abs() < 1e-12);
    let users = rows.column("user_id").unwrap().cast(&DataType::UInt32).unwrap();
    let users: Vec<u32> = users.u32().unwrap().into_no_null_iter().collect();
    let by_user = evaluate(&["--model", &model, "--group", "user_id"]);
    let gauc = gatefold_metrics::gauc(&ctr, &click, None, &users).unwrap();
    assert!((gauc.value - metric(&by_user, 0, "gauc")).abs() < 1e-5);
    assert_eq!(by_user["outputs"][0]["gauc_groups"]["used"], gauc.groups_used);
    assert_ne!(metric(&by_user, 0, "gauc"), metric(&of_model, 0, "gauc"));

    assert_eq!(of_model["gates"], trained["gates"]);
    let alone = work.json(&["evaluate", "--model", &model, "--gates", "--json"]);
    assert_eq!(alone["gates"], trained["gates"]);
    assert!(fs::read_to_string(&report).unwrap().starts_with("<!doctype html>"));

    work.fails(
        &["evaluate", "--samples", &samples, "--split", "valid", "--scores", &scores],
        &["scores.parquet has", "score the rows of this split"],
    );
    work.fails(
        &["evaluate", "--samples", &samples, "--model", &model, "--group", "member"],
        &["raw-test.parquet has no column 'member' to group by"],
    );
    work.fails(
        &["evaluate", "--samples", &samples, "--split", "valid", "--model", &model, "--group", "user_id"],
        &["raw-valid.parquet", "build the samples with --raw valid, or group by request"],
    );
    // The same number of rows in another order is not the split.
    let mut turned = stored.reverse();
    let place = work.path("turned.parquet");
    ParquetWriter::new(fs::File::create(&place).unwrap()).finish(&mut turned).unwrap();
    work.fails(
        &["evaluate", "--samples", &samples, "--scores", &place],
        &["the rows must be those of the split, in its order"],
    );
}

#[test]
fn a_bundle_in_fewer_bits_is_published_where_no_auc_moves() {
    let work = Work::new("3");
    let (samples, model) = (work.path("samples"), work.path("models/mmoe"));
    work.train("mmoe");
    let of_version = |version: &str| format!("{model}/{version}");
    let quantize = |version: &str, more: &[&str]| {
        let bundle = of_version(version);
        let fixed = ["bundle", "quantize", &bundle, "--samples", &samples];
        [&fixed[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |version: &str, more: &[&str]| {
        let arguments = quantize(version, more);
        work.json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refuse = |version: &str, more: &[&str], expected: &str| {
        let arguments = quantize(version, more);
        work.fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[expected]);
    };
    refuse("1", &[], "give --experts, --tables or both");
    let all = ["--experts", "int8", "--tables", "int8", "--force"];
    let elsewhere = work.path("elsewhere");
    let tight = [&all[..], &["--max-auc-change", "1e-12", "--out", &elsewhere]].concat();
    refuse("1", &tight, "nothing is published: the AUC of");
    assert!(!Path::new(&elsewhere).exists());
    assert_eq!(versions(Path::new(&model)), [PathBuf::from(of_version("1"))]);

    let found = run("1", &["--tables", "f16", "--json"]);
    assert_eq!((&found["version"], &found["products"]), (&Value::from(2), &Value::from(0)));
    let found = run("1", &[&all[..], &["--max-auc-change", "0.05", "--json"]].concat());
    assert_eq!(found["version"], 3);
    for count in ["tables", "products"] {
        assert!(found[count].as_u64().unwrap() > 0, "{found}");
    }
    assert!(found["bytes"]["after"].as_u64().unwrap() < found["bytes"]["before"].as_u64().unwrap());
    // The version is served as any other, and what was said of it is so.
    let evaluation =
        work.json(&["evaluate", "--samples", &samples, "--model", &model, "--split", "valid", "--json"]);
    let ctr = evaluation["outputs"].as_array().unwrap()[0]["metrics"]["auc"].as_f64().unwrap();
    // Rows have the same codes in whatever batch.
    assert!((ctr - found["auc"]["after"]["ctr"].as_f64().unwrap()).abs() < 1e-5, "{ctr} and {found}");
    refuse("3", &["--tables", "f16"], "is in fewer bits already");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let work = Work::new("2");
    let other = Work::new("3");
    work.train("shared-bottom");
    let (samples, model, report) =
        (work.path("samples"), work.path("models/shared-bottom"), work.path("r.html"));

    work.fails(
        &["compare", "--samples", &other.path("samples"), "--out", &report, &model],
        &["was trained on samples that were encoded differently", "or train it again on these"],
    );
    work.fails(
        &["compare", "--samples", &samples, "--split", "tset", "--out", &report, &model],
        &["there is no split 'tset'; the sample set has: test, train, valid"],
    );

    let raw = fs::read(work.path("samples/raw-test.parquet")).unwrap();
    let cut = work.path("cut.parquet");
    fs::write(&cut, &raw[..raw.len() / 2]).unwrap();
    let out = work.path("scores.parquet");
    work.fails(
        &["score", "--model", &model, "--input", &cut, "--out", &out],
        &["cannot score", "cut.parquet"],
    );

    let weights = work.path("models/shared-bottom/1/weights.bin");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    work.fails(
        &["score", "--model", &model, "--input", &work.path("samples/raw-test.parquet"), "--out", &out],
        &["weights.bin was changed: its sha256 is"],
    );

    let shard = work.path("samples/train-00000.parquet");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 100]).unwrap();
    work.fails(
        &["train", "--recipe", RECIPE, "--samples", &samples, "--out", &work.path("models/new")],
        &["train-00000.parquet", "cut off"],
    );
    for path in [&out, &report, &work.path("models/new")] {
        assert!(!Path::new(path).exists(), "{path} was left behind");
    }
}

#[test]
fn a_killed_training_leaves_no_version() {
    let work = Work::new("4");
    let models = work.path("models/m");
    let mut training = work
        .command(&[
            "train",
            "--recipe",
            RECIPE,
            "--samples",
            &work.path("samples"),
            "--out",
            &models,
            "--epochs",
            "100000",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(training.stderr.take().unwrap()).lines();
    let is_under_way =
        |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| line.contains("epoch 1,"));
    assert!(lines.any(|line| is_under_way(&line)), "the training must have begun");
    training.kill().unwrap();
    training.wait().unwrap();
    assert_eq!(versions(Path::new(&models)), Vec::<PathBuf>::new());
}

fn versions(model: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(model) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    // What is hidden is no version: an unfinished training, or a bundle being written.
    paths.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

fn read(path: &str) -> DataFrame {
    ParquetReader::new(fs::File::open(path).unwrap()).finish().unwrap()
}

fn label(rows: &DataFrame, name: &str) -> Vec<f32> {
    let column = rows.column(name).unwrap().cast(&DataType::Float32).unwrap();
    column.f32().unwrap().into_no_null_iter().collect()
}
