//! A server whose model is replaced, or which is killed, while callers send requests: what they see.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gatefold_engine::Bundle;
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::Golden;
use gatefold_server::client::{self, Client};
use gatefold_tests::{World, copy_folder, run_json, server::Server};
use tonic::{Code, Status};

const MODEL: &str = "mmoe";
/// Each sends its next request when the last one is answered.
const CALLERS: usize = 4;
/// Answers that are waited for before and after what happens to the server.
const ANSWERS: usize = 100;
/// How long anything may take: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between a score and the trainer's own of the same candidate.
const TOLERANCE: f32 = 1e-5;

/// A models folder with the first of two versions, which give other scores; the second lies ready.
struct Models {
    folder: tempfile::TempDir,
    /// The same requests with the scores that each version must give, the first version's first.
    golden: [Golden; 2],
}

impl Models {
    fn new() -> Models {
        let (world, folder) = (World::get(), tempfile::tempdir().expect("a temporary folder"));
        let first = world.path(&format!("models/{MODEL}/1"));
        let staged = folder.path().join("staged").join(MODEL);
        copy_folder(Path::new(&first), &staged.join("1"));
        copy_folder(Path::new(&first), &folder.path().join("models").join(MODEL).join("1"));
        let (samples, out) = (world.path("samples"), staged.to_str().expect("UTF-8 path"));
        let recipe = World::recipe();
        let train = ["train", "--recipe", &recipe, "--samples", &samples, "--model", MODEL, "--out", out];
        run_json(&[&train[..], &["--seed", "2", "--epochs", "1", "--threads", "2"]].concat());
        let golden = ["1", "2"]
            .map(|version| Bundle::open(staged.join(version)).expect("a published version").golden().clone());
        for (first, second) in golden[0].requests.iter().zip(&golden[1].requests) {
            assert_eq!(first.request, second.request);
            let apart = |scores: (&f32, &f32)| (scores.0 - scores.1).abs() > 100.0 * TOLERANCE;
            let other = first.scores["ctr"].iter().zip(&second.scores["ctr"]).any(apart);
            assert!(other, "the versions could not be told apart by their scores");
        }
        Models { folder, golden }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Puts the second version into the models folder as publishing does: whole, by a rename.
    fn publish_second(&self) {
        let staged = self.folder.path().join("staged").join(MODEL).join("2");
        std::fs::rename(staged, self.path().join(MODEL).join("2")).expect("the version can be moved");
    }
}

/// What callers saw so far.
#[derive(Debug, Default)]
struct Seen {
    /// Answers with the right scores, by version.
    answered: [AtomicUsize; 2],
    /// Calls that were sent again.
    retried: AtomicUsize,
    /// The first answer that is none, or is wrong.
    failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Seen {
    fn answered(&self, version: usize) -> usize {
        self.answered[version - 1].load(Ordering::SeqCst)
    }

    fn retried(&self) -> usize {
        self.retried.load(Ordering::SeqCst)
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().expect("nobody panics with it").clone()
    }

    /// Waits until callers have seen enough; a failed call ends the test.
    #[track_caller]
    fn wait_until(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let started = Instant::now();
        while !enough(self) {
            assert_eq!(self.failure(), None, "waiting for {what}: {self:?}");
            assert!(started.elapsed() < PATIENCE, "no {what}: {self:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Tells callers to stop, also where a failed assertion unwinds.
struct StopAtEnd<'s>(&'s Seen);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Runs `happens` while callers send golden requests and check every score of every answer.
#[track_caller]
fn under_load(url: &str, golden: &[Golden; 2], retry: bool, happens: impl FnOnce(&Seen)) -> Seen {
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&seen);
        for _ in 0..CALLERS {
            scope.spawn(|| {
                if let Err(failure) = call(url, golden, retry, &seen) {
                    seen.failure.lock().expect("nobody panics with it").get_or_insert(failure);
                }
            });
        }
        happens(&seen);
    });
    assert_eq!(seen.failure(), None, "{seen:?}");
    seen
}

/// One caller: every request in turn until told to stop.
#[tokio::main(flavor = "current_thread")]
async fn call(url: &str, golden: &[Golden; 2], retry: bool, seen: &Seen) -> Result<(), String> {
    let words = |status: Status| format!("{}: {}", status.code(), status.message());
    let mut client = Client::new(client::connect(url).await.map_err(|error| error.to_string())?);
    let wanted = wire::GetModelRequest { model: MODEL.into(), ..wire::GetModelRequest::default() };
    let model = client.get_model(wanted).await.map_err(words)?.into_inner();
    let requests: Result<Vec<_>, _> =
        golden[0].requests.iter().map(|golden| client::score_request(&golden.request, &model)).collect();
    let requests = requests.map_err(|error| error.to_string())?;
    for place in (0..requests.len()).cycle() {
        if seen.stop.load(Ordering::SeqCst) {
            break;
        }
        let started = Instant::now();
        let reply = loop {
            match client.score(requests[place].clone()).await {
                Ok(reply) => break reply.into_inner(),
                Err(status) if retry && is_unavailable(&status) && started.elapsed() < PATIENCE => {
                    seen.retried.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => return Err(words(status)),
            }
        };
        check(&reply, golden, place)?;
        seen.answered[reply.version as usize - 1].fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Whether the server did not answer. The clients of gRPC itself call a connection that breaks in the
/// middle of a call UNAVAILABLE; tonic calls it UNKNOWN or as HTTP/2 says, with the error beneath, which
/// a status from the server never has.
fn is_unavailable(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}

/// Every score is that of the version which says that it answered.
fn check(reply: &wire::ScoreResponse, golden: &[Golden; 2], place: usize) -> Result<(), String> {
    let version = reply.version as usize;
    let golden = version.checked_sub(1).and_then(|version| golden.get(version));
    let golden = golden.ok_or_else(|| format!("answered by version {version}"))?;
    let expected = &golden.requests[place].scores;
    if reply.outputs.len() != expected.len() {
        return Err(format!("{} outputs, not {}", reply.outputs.len(), expected.len()));
    }
    for output in &reply.outputs {
        let expected = expected.get(&output.name).ok_or_else(|| format!("an output '{}'", output.name))?;
        let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= TOLERANCE;
        if output.scores.len() != expected.len() || !output.scores.iter().zip(expected).all(near) {
            let (name, scores) = (&output.name, &output.scores);
            return Err(format!("{name} of version {version}: {scores:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

#[test]
fn a_new_version_takes_over_under_load_without_a_failed_request() {
    let models = Models::new();
    let folder = models.path();
    let server = Server::start(folder.to_str().expect("UTF-8 path"), &["--poll-seconds", "0.2"]);
    let seen = under_load(&server.url, &models.golden, false, |seen| {
        seen.wait_until("answers of the first version", |seen| seen.answered(1) >= ANSWERS);
        models.publish_second();
        seen.wait_until("answers of the second version", |seen| seen.answered(2) >= ANSWERS);
    });
    assert_eq!(seen.retried(), 0);
    // Once the second has taken over, the first answers no more.
    let seen = under_load(&server.url, &models.golden, false, |seen| {
        seen.wait_until("further answers", |seen| seen.answered(2) >= ANSWERS);
    });
    assert_eq!(seen.answered(1), 0, "{seen:?}");
    assert!(server.terminate().success(), "SIGTERM is a clean end");
}

#[test]
fn a_killed_server_that_starts_again_answers_every_request_in_the_end() {
    let models = Models::new();
    let mut server = Server::start(models.path().to_str().expect("UTF-8 path"), &[]);
    let url = server.url.clone();
    let seen = under_load(&url, &models.golden, true, |seen| {
        for round in 1..=2 {
            seen.wait_until("answers", |seen| seen.answered(1) >= round * ANSWERS);
            let retried = seen.retried();
            server.kill();
            // Callers have noticed before the server is there again.
            seen.wait_until("retries", |seen| seen.retried() >= retried + CALLERS);
            server.restart();
        }
        let answered = seen.answered(1);
        seen.wait_until("answers of the last server", |seen| seen.answered(1) >= answered + ANSWERS);
    });
    assert_eq!(seen.answered(2), 0, "{seen:?}");
    assert!(server.terminate().success(), "SIGTERM is a clean end");
}
