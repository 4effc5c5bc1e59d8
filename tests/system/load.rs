//! A server under load answers everything, stops when told, and leaves nothing behind.

use gatefold_tests::{
    World, run_json,
    server::{Server, get},
};

/// Resident memory may move by a few pages between two looks; a leak of one request a hundred would
/// be far above this.
const MEMORY_SLACK_KIB: u64 = 16 * 1024;

#[test]
fn steady_load_has_no_error_and_flat_memory() {
    let server = Server::start(&World::get().path("models"), &[]);
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
            "3s",
            "--seed",
            seed,
        ])
    };
    load("1");
    let warm = server.resident_kib();
    let report = load("2");
    assert_eq!(report["errors"].as_object().map(serde_json::Map::len), Some(0), "{report}");
    assert!(report["requests"].as_u64() > Some(100), "{report}");
    assert!(report["latency_ms"]["p99"].as_f64() > Some(0.0), "{report}");
    let after = server.resident_kib();
    assert!(after <= warm + MEMORY_SLACK_KIB, "resident memory grew from {warm} to {after} KiB");

    let (code, metrics) = get(&server.admin, "/metrics").expect("the admin port answers");
    assert_eq!(code, 200);
    assert!(metrics.contains("mmoe"), "metrics name the model: {metrics}");
    assert!(server.terminate().success(), "SIGTERM is a clean end");
}
