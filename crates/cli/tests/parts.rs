//! Samples made within a memory limit and in parts, by real processes, which are killed at any moment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../training/recipes/synthetic.toml");

struct Work(tempfile::TempDir);

impl Work {
    fn with_logs(impressions: &str) -> Self {
        let work = Self(tempfile::tempdir().unwrap());
        work.succeed(&["synth", "--out", "logs", "--impressions", impressions, "--seed", "5"]);
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.args(arguments).current_dir(self.0.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command that is killed at a random moment before `most` has passed.
    fn kill(&self, arguments: &[&str], most: Duration, random: &mut ChaCha8Rng) {
        let mut child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(most.mul_f64(random.random()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Files below a folder and what is in them; `None` where there is no such folder.
fn files(folder: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.unwrap().path();
        match files(&path) {
            Some(inner) => found.extend(inner),
            None => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    let below = |(path, bytes): (PathBuf, Vec<u8>)| {
        (path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path), bytes)
    };
    Some(found.into_iter().map(below).collect())
}

#[test]
fn a_kill_leaves_the_old_output_or_the_new_or_none() {
    let work = Work::with_logs("20000");
    let build = |out| ["samples", "build", "--recipe", RECIPE, "--logs", "logs", "--out", out];
    let plan = ["samples", "plan", "--recipe", RECIPE, "--logs", "logs", "--plan", "plan", "--shards", "3"];
    let run = |shard| ["samples", "run", "--plan", "plan", "--shard", shard];
    let finalize = ["samples", "finalize", "--plan", "plan", "--out", "samples", "--overwrite"];
    let started = Instant::now();
    work.succeed(&build("whole"));
    let most = started.elapsed().mul_f64(1.2);
    let whole = files(&work.path("whole")).unwrap();
    // An earlier output, of other logs.
    work.succeed(&["synth", "--out", "logs/old", "--impressions", "5000", "--seed", "6"]);
    let logs_before = ["--logs", "logs/old", "--out", "samples"];
    work.succeed(&[&["samples", "build", "--recipe", RECIPE][..], &logs_before].concat());
    let old = files(&work.path("samples")).unwrap();
    fs::remove_dir_all(work.path("logs/old")).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(11);

    for _ in 0..10 {
        work.kill(&plan, most, &mut random);
        assert!(!work.path("plan").exists() || work.path("plan/plan.json").is_file());
        let _ = fs::remove_dir_all(work.path("plan"));
    }
    work.succeed(&plan);
    for _ in 0..10 {
        work.kill(&run("1/3"), most, &mut random);
        let part = work.path("plan/shards/0001");
        assert!(!part.exists() || part.join("part.json").is_file());
    }
    ["1/3", "0/3", "2/3"].map(run).iter().for_each(|arguments| work.succeed(arguments));
    for _ in 0..10 {
        work.kill(&finalize, most, &mut random);
        let found = files(&work.path("samples"));
        assert!(found.is_none_or(|found| found == old || found == whole), "finalize left something else");
    }
    work.succeed(&finalize);
    assert!(files(&work.path("samples")).unwrap() == whole);
    for _ in 0..10 {
        work.kill(&build("killed"), most, &mut random);
        assert!(files(&work.path("killed")).is_none_or(|found| found == whole), "build left something else");
        let _ = fs::remove_dir_all(work.path("killed"));
    }
}

/// The most memory that a process has had, in MiB, as the system accounts it.
fn peak(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) >> 10);
        sleep(Duration::from_millis(5));
    };
    assert!(status.success());
    peak
}

#[test]
fn a_build_keeps_to_its_memory_limit() {
    let work = Work::with_logs("2500000");
    let recipe =
        fs::read_to_string(RECIPE).unwrap().replacen("[samples]", "[samples]\nrows_per_shard = 50000", 1);
    fs::write(work.path("recipe.toml"), recipe).unwrap();
    let build =
        |out| ["samples", "build", "--recipe", "recipe.toml", "--logs", "logs", "--json", "--out", out];
    let quiet = |arguments: &[&str]| {
        let mut command = work.command(arguments);
        command.stdout(Stdio::null());
        command
    };
    let free = peak(&mut quiet(&build("whole")));
    let limited = peak(&mut quiet(&[&build("limited")[..], &["--memory", "420MiB"]].concat()));
    eprintln!("resident at most: {free} MiB without a limit, {limited} MiB within 420 MiB");
    if cfg!(target_os = "linux") {
        assert!(free > 420 && limited <= 420, "{free} and {limited} MiB");
    }
    assert!(files(&work.path("whole")) == files(&work.path("limited")));
    let names: Vec<_> =
        fs::read_dir(work.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "something is left beside the outputs: {names:?}");
}
