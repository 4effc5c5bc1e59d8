//! Trainings that are killed, interrupted, or run out of disk, as real processes; and what they
//! write down meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use gatefold_proto::tensorboard::{Event, event::What, session_log::SessionStatus, summary::value::Value};
use gatefold_trainer::tensorboard::record;
use prost::Message as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/synthetic.toml");
const PATIENCE: Duration = Duration::from_secs(120);

/// A working folder with samples, and trainings that differ in nothing but their folders.
struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    fn new() -> Self {
        let work = Self { folder: tempfile::tempdir().unwrap() };
        let (logs, samples) = (work.path("logs"), work.path("samples"));
        work.succeed(&["synth", "--out", &logs, "--impressions", "20000", "--seed", "5"]);
        work.succeed(&["samples", "build", "--recipe", RECIPE, "--logs", &logs, "--out", &samples]);
        work
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The folder of the model that training `name` publishes.
    fn model(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).join("model")
    }

    fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let (samples, out) = (self.path("samples"), self.model(name).display().to_string());
        let fixed = ["train", "--recipe", RECIPE, "--samples", &samples, "--out", &out, "--epochs", "2"];
        let rest = ["--threads", "1", "--checkpoint-steps", "3"];
        fixed.iter().chain(&rest).chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    fn spawn(&self, name: &str, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.args(self.arguments(name, more)).env_remove("RUST_LOG");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn train(&self, name: &str, more: &[&str]) -> Output {
        self.spawn(name, more).wait_with_output().unwrap()
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_gatefold")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }

    fn checkpoint(&self, name: &str) -> PathBuf {
        self.model(name).join(".checkpoint/checkpoint.json")
    }

    /// Starts a training and waits until it has a checkpoint.
    fn spawn_until_checkpoint(&self, name: &str) -> Child {
        let child = self.spawn(name, &[]);
        let started = Instant::now();
        while !self.checkpoint(name).is_file() {
            assert!(started.elapsed() < PATIENCE, "a checkpoint must come");
            sleep(Duration::from_millis(2));
        }
        child
    }

    /// The files of the bundle that training `name` published.
    fn bundle(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        fn collect(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, root, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
                }
            }
        }
        let (root, mut found) = (self.model(name).join("1"), BTreeMap::new());
        collect(&root, &root, &mut found);
        found
    }

    #[track_caller]
    fn same_bundle(&self, expected: &str, found: &str) {
        let (expected, found) = (self.bundle(expected), self.bundle(found));
        assert!(expected.keys().eq(found.keys()));
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{} differs", name.display());
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn killed_at_any_moment_a_training_goes_on_to_the_same_bundle() {
    let work = Work::new();
    let started = Instant::now();
    let output = work.train("whole", &[]);
    assert!(output.status.success(), "{}", text(&output));
    let duration = started.elapsed().as_millis() as u64;
    assert!(!work.model("whole").join(".checkpoint").exists(), "nothing is left to go on with");

    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut killed_with_checkpoint = 0;
    for _ in 0..6 {
        let resume: &[&str] = if work.checkpoint("killed").is_file() { &["--resume"] } else { &[] };
        let mut child = work.spawn("killed", resume);
        // The first kill comes soon after the first checkpoint, however fast the machine is then.
        let first = killed_with_checkpoint == 0;
        while first && !work.checkpoint("killed").is_file() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(2));
        }
        let longest = if first { 20 } else { duration / 2 };
        sleep(Duration::from_millis(random.random_range(0..longest.max(1))));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed_with_checkpoint += usize::from(work.checkpoint("killed").is_file());
    }
    assert!(killed_with_checkpoint > 0, "at least one kill must come between checkpoints");
    if work.checkpoint("killed").is_file() {
        let output = work.train("killed", &["--resume"]);
        assert!(output.status.success(), "{}", text(&output));
    }
    work.same_bundle("whole", "killed");

    // Ctrl-C: a checkpoint, how to go on, exit code 130.
    let child = work.spawn_until_checkpoint("stopped");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    for part in ["go on with: ", " --resume", "training was interrupted after step", "the checkpoint of step"]
    {
        assert!(said.contains(part), "{said}\ndoes not contain\n{part}");
    }
    let output = work.train("stopped", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("holds an unfinished training"), "{}", text(&output));

    // No file may grow beyond 16 KiB: the next checkpoint does not fit, as on a full disk.
    let before = fs::read(work.checkpoint("stopped")).unwrap();
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gatefold")])
        .args(work.arguments("stopped", &["--resume"]))
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1), "{}", text(&limited));
    for part in ["cannot write", ".safetensors", "is complete: go on from it with --resume"] {
        assert!(text(&limited).contains(part), "{}\ndoes not contain\n{part}", text(&limited));
    }
    assert_eq!(fs::read(work.checkpoint("stopped")).unwrap(), before, "the old checkpoint stays");
    let output = work.train("stopped", &["--resume"]);
    assert!(output.status.success(), "{}", text(&output));
    work.same_bundle("whole", "stopped");
}

#[test]
fn what_happens_is_written_down_for_machines() {
    let work = Work::new();
    let (board, log) = (work.path("board"), work.path("log.jsonl"));
    let output = work.train("logged", &["--tensorboard", &board, "--log-json", &log, "--log-every", "2"]);
    assert!(output.status.success(), "{}", text(&output));

    let lines: Vec<serde_json::Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    assert_eq!((of("started").len(), of("evaluation").len(), of("published").len()), (1, 2, 1));
    assert_eq!(of("published")[0]["version"], 1);
    let steps = of("step");
    let last = of("started")[0]["steps"].as_u64().unwrap();
    assert_eq!(steps.last().unwrap()["step"].as_u64(), Some(last));
    for step in &steps {
        assert!(
            step["losses"]["ctr"].as_f64().unwrap() > 0.0
                && step["samples_per_second"].as_f64().unwrap() > 0.0
        );
    }
    assert_eq!(steps.last().unwrap()["seconds_left"], 0.0);

    let file = fs::read_dir(&board).unwrap().next().unwrap().unwrap().path();
    let mut bytes: &[u8] = &fs::read(&file).unwrap();
    let mut events = Vec::new();
    while let Some(data) = record::read(&mut bytes).unwrap() {
        events.push(Event::decode(data.as_slice()).unwrap());
    }
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    let Some(What::SessionLog(session)) = &events[1].what else { panic!("{:?}", events[1]) };
    assert_eq!((session.status, events[1].step), (SessionStatus::Start as i32, 1));
    let mut scalars = BTreeMap::new();
    for event in &events[2..] {
        let Some(What::Summary(summary)) = &event.what else { panic!("{event:?}") };
        for value in &summary.value {
            let Some(Value::SimpleValue(number)) = value.value else { panic!("{value:?}") };
            scalars.insert((value.tag.clone(), event.step as u64), number);
        }
    }
    for step in &steps {
        let logged = scalars[&("loss/ctr".to_owned(), step["step"].as_u64().unwrap())];
        assert_eq!(logged, step["losses"]["ctr"].as_f64().unwrap() as f32);
    }
    let auc = of("evaluation")[1]["metrics"]["ctr auc"].as_f64().unwrap() as f32;
    assert_eq!(scalars[&("valid/ctr auc".to_owned(), last)], auc);
    read_by_tensorboard(&board, last, auc);
}

/// The same through TensorBoard itself, where the reference environment is installed.
fn read_by_tensorboard(folder: &str, step: u64, auc: f32) {
    let cache = std::env::var("HOME").map(|home| format!("{home}/.cache/gatefold")).unwrap_or_default();
    let python = format!("{cache}/venv-reference/bin/python");
    if !Path::new(&python).is_file() {
        eprintln!("TensorBoard itself was not asked: there is no {python}");
        return;
    }
    let script = "import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
last = events.Scalars('valid/ctr auc')[-1]
print(last.step, repr(last.value))";
    let output = Command::new(python).args(["-c", script, folder]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words.len(), 2, "{said}{}", text(&output));
    assert_eq!(words[0].parse::<u64>().unwrap(), step);
    assert_eq!(words[1].parse::<f64>().unwrap() as f32, auc);
}
