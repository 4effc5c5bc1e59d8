//! A server under load answers everything, leaves nothing behind and stops when told; without load
//! it does nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gatefold_tests::{
    KINDS, World, copy_folder, run_json,
    server::{Server, get},
};

/// Resident memory may move by a few pages between two looks; a leak of one request a hundred would
/// be far above this.
const MEMORY_SLACK_KIB: u64 = 16 * 1024;
/// Handles may come and go a little; each load below opens five connections.
const HANDLE_SLACK: usize = 3;
/// Share of one core that a server without requests may use.
const IDLE_SHARE: f64 = 0.01;

#[test]
fn steady_load_has_no_error_and_leaves_memory_and_handles_flat() {
    let server = Server::start(&World::get().path("models"), &[]);
    let idle_handles = server.handles();
    let examples = World::get().path("samples/examples.json");
    let load = |seed: &str| {
        run_json(&[
            "load",
            "--server",
            &server.url,
            "--model",
            "mmoe",
            "--requests",
            &examples,
            "--candidates",
            "200",
            "--rate",
            "100",
            "--duration",
            "2s",
            "--seed",
            seed,
        ])
    };
    load("1");
    let warm = server.resident_kib();
    for seed in ["2", "3", "4"] {
        let report = load(seed);
        assert_eq!(report["errors"].as_object().map(serde_json::Map::len), Some(0), "{report}");
        assert!(report["requests"].as_u64() > Some(100), "{report}");
        assert!(report["latency_ms"]["p99"].as_f64() > Some(0.0), "{report}");
    }
    let after = server.resident_kib();
    assert!(after <= warm + MEMORY_SLACK_KIB, "resident memory grew from {warm} to {after} KiB");
    // The server learns that the last connections are closed a moment after they are.
    let closed = Instant::now();
    while server.handles() > idle_handles + HANDLE_SLACK {
        let handles = server.handles();
        assert!(closed.elapsed() < Duration::from_secs(10), "{handles} handles, {idle_handles} before");
        std::thread::sleep(Duration::from_millis(20));
    }

    let (code, metrics) = get(&server.admin, "/metrics").expect("the admin port answers");
    assert_eq!(code, 200);
    assert!(metrics.contains("mmoe"), "metrics name the model: {metrics}");
    assert!(server.terminate().success(), "SIGTERM is a clean end");
}

#[test]
fn an_idle_server_with_four_models_uses_hardly_any_processor_time() {
    let models = tempfile::tempdir().expect("a temporary folder");
    copy_folder(Path::new(&World::get().path("models")), models.path());
    let fourth = models.path().join("fourth/1");
    copy_folder(&models.path().join("mmoe/1"), &fourth);
    let manifest = fourth.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let renamed = text.replacen("\"name\": \"mmoe\"", "\"name\": \"fourth\"", 1);
    std::fs::write(&manifest, renamed).expect("it can be written");
    // With threads of ONNX Runtime's own, which would spin by its defaults.
    let server = Server::start(models.path().to_str().expect("UTF-8 path"), &["--intra-threads", "2"]);
    let (_, metrics) = get(&server.admin, "/metrics").expect("the admin port answers");
    for model in KINDS.iter().chain(&["fourth"]) {
        assert!(metrics.contains(model), "{model} is served: {metrics}");
    }
    std::thread::sleep(Duration::from_secs(1));
    let (before, started) = (server.cpu_seconds(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let share = (server.cpu_seconds() - before) / started.elapsed().as_secs_f64();
    assert!(share < IDLE_SHARE, "an idle server uses {:.2} % of a core", share * 100.0);
}
