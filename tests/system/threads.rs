//! The threads and the device of a server.

use std::{collections::BTreeSet, fs};

use gatefold_tests::{World, run_failing, server::Server};

/// Ports that are free, for a server that must not get as far as using them.
const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// The cores that each thread `score-<n>` of a process may run on, as Linux lists them.
fn cores_of_workers(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("Linux /proc");
    let folders = threads.map(|thread| thread.expect("a readable entry").path());
    let workers = folders.filter(|folder| {
        fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.starts_with("score-"))
    });
    let cores = workers.map(|folder| {
        let status = fs::read_to_string(folder.join("status")).expect("Linux /proc");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.expect("a list of cores").trim().to_owned()
    });
    cores.collect()
}

#[test]
fn pinned_workers_have_a_core_each_and_others_have_all() {
    let models = World::get().path("models");
    let available = std::thread::available_parallelism().expect("a number of cores").get();
    let server = Server::start(&models, &["--pin-workers"]);
    let cores = cores_of_workers(server.pid());
    assert_eq!(cores.len(), available);
    assert!(cores.iter().all(|list| list.parse::<usize>().is_ok()), "one core each: {cores:?}");
    assert_eq!(cores.iter().collect::<BTreeSet<_>>().len(), available, "cores of their own: {cores:?}");
    let server = Server::start(&models, &[]);
    let cores = cores_of_workers(server.pid());
    assert_eq!(cores.iter().collect::<BTreeSet<_>>().len(), 1, "the same for all: {cores:?}");
    let more = (available + 1).to_string();
    let serve = ["serve", "--models", &models, "--pin-workers", "--workers", &more];
    let refused = run_failing(&[&serve[..], &PORTS].concat());
    assert!(refused.contains("pin_workers"), "{refused}");
}

#[test]
fn a_gpu_that_is_not_there_is_refused_and_the_processor_does_not_take_its_place() {
    let world = World::get();
    // A number that no machine has, whatever build of ONNX Runtime this is.
    let device = ["--device", "cuda:999"];
    let models = world.path("models");
    let refused = run_failing(&[&["serve", "--models", &models], &device[..], &PORTS].concat());
    let (model, input) = (world.path("models/mmoe"), world.path("samples/raw-test.parquet"));
    let out = world.path("on-a-gpu.parquet");
    let score = ["score", "--model", &model, "--input", &input, "--out", &out];
    for said in [refused, run_failing(&[&score[..], &device[..]].concat())] {
        for part in ["cuda:999 cannot run models: ", "onnxruntime-gpu 1.31.1", "set device to cpu"] {
            assert!(said.contains(part), "{said}\nlacks {part}");
        }
    }
    assert!(!fs::exists(&out).expect("a readable folder"), "nothing is scored");
}
