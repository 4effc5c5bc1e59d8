//! What the server does beside answering: swapping models, shedding load, idling, sharing memory.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Durations;
use super::competitor::{Competitor, loaded};
use super::quiet::Windows;
use super::throughput::Throughput;
use super::world::{Workload, World};
use crate::bars::{Bars, Limit};
use crate::program::{Programs, last_json, number};

/// Deadline of the requests of an overload, in milliseconds.
const DEADLINE: &str = "100ms";
/// Rows of each table of the large bundle: 2.2 GB of embeddings.
const LARGE_BUCKETS: &str = "1300000";

/// Everything that the operation of a server is measured with.
pub(super) struct Operation<'a> {
    pub(super) programs: &'a Programs,
    pub(super) world: &'a World,
    /// The user-once bundle's server.
    pub(super) competitor: &'a Competitor,
    pub(super) throughput: &'a Throughput,
    /// 200 candidates a request.
    pub(super) workload: &'a Workload,
    pub(super) durations: &'a Durations,
}

impl Operation<'_> {
    /// Measures all of it; what was printed.
    pub(super) fn measure(&self, quick: bool, bars: &mut Bars) -> Result<Value> {
        let mut raw = json!({
            "outside": self.outside(bars)?,
            "overload": self.overload(bars)?,
            "swap": self.swap(bars)?,
            "idle": self.idle(bars)?,
        });
        if quick {
            eprintln!("==> the bundle of more than 2 GB is left out of a quick run");
        } else {
            raw["large"] = self.large(bars)?;
        }
        Ok(raw)
    }

    fn load(&self, flags: &[&str]) -> Result<Value> {
        let server = self.competitor.server().context("a bare loop has no server")?;
        let requests = self.world.requests(self.workload);
        loaded(
            self.programs,
            server,
            &[requests.iter().map(String::as_str).collect(), flags.to_vec()].concat(),
        )
    }

    /// Requests a second at full load.
    fn capacity(&self) -> f64 {
        self.throughput.capacity(self.workload, self.competitor.letter) / self.world.candidates(self.workload)
    }

    /// The share of a request's processor time that is not spent in the model, and where it goes. One
    /// request at a time, so that the model's time by the clock is its time on the processor.
    fn outside(&self, bars: &mut Bars) -> Result<Value> {
        let server = self.competitor.server().context("a bare loop has no server")?;
        let seconds = |name: &str| server.metric(&format!("gatefold_{name}_seconds_sum"));
        let before = [seconds("infer")?, seconds("encode")?];
        let duration = format!("{}s", self.durations.load);
        let one = ["--rate", "max", "--connections", "1", "--in-flight", "1", "--duration", &duration];
        let raw = self.load(&one)?;
        let [infer, encode] = [seconds("infer")? - before[0], seconds("encode")? - before[1]];
        let (cpu, requests) = (number(&raw, "cpu_seconds")?, number(&raw, "answered")?);
        bars.bar("server CPU outside ONNX Runtime, 200", 1.0 - infer / cpu, Limit::AtMost(0.15));
        for (name, seconds) in [("all", cpu), ("infer", infer), ("check and encode", encode)] {
            bars.figure(format!("(d) us a request, {name}, 200"), seconds / requests * 1e6);
        }
        bars.figure("(d) us a request, wire and queue, 200", (cpu - infer - encode) / requests * 1e6);
        Ok(raw)
    }

    /// Three times as much as the server can score. What the load generator takes of the cores, which is
    /// more then, is no capacity of the server: both throughputs are a second of the cores that it leaves.
    fn overload(&self, bars: &mut Bars) -> Result<Value> {
        let capacity = self.capacity();
        let (rate, duration) = (format!("{:.3}", 3.0 * capacity), format!("{}s", self.durations.load));
        let windows = Windows::measure(self.durations.windows, || {
            self.load(&["--rate", &rate, "--timeout", DEADLINE, "--duration", &duration])
        })?;
        let late = windows.sum("errors/DEADLINE_EXCEEDED");
        let late = late / (late + windows.sum("answered"));
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| usize::from(cores) as f64);
        let generator = windows.median("generator_cpu_seconds")? / windows.median("seconds")?;
        let left = cores - generator;
        let left_at_capacity = cores - self.throughput.generator(self.workload, self.competitor.letter);
        let answered_per_second = windows.median("answered_per_second")?;
        let goodput = (answered_per_second / left) / (capacity / left_at_capacity);
        bars.figure("3 x capacity: the same with the generator's cores", answered_per_second / capacity);
        bars.figure("3 x capacity: taken by the host, share", windows.stolen());
        bars.bar("3 x capacity: answered in time over capacity", goodput, Limit::AtLeast(0.9));
        bars.bar("3 x capacity: accepted and late, share", late, Limit::AtMost(0.001));
        bars.bar("3 x capacity: p99 of refusals, ms", windows.median("error_ms/p99")?, Limit::AtMost(5.0));
        Ok(windows.raw())
    }

    /// The same load without and with a new version that is loaded and swapped in meanwhile.
    fn swap(&self, bars: &mut Bars) -> Result<Value> {
        let server = self.competitor.server().context("a bare loop has no server")?;
        // Loading takes a while, the more so where the cores are busy.
        let seconds = (2.0 * self.durations.load).max(12.0);
        let (rate, duration) = (format!("{:.3}", self.capacity() / 2.0), format!("{seconds}s"));
        let load = || self.load(&["--rate", &rate, "--duration", &duration]);
        let steady = load()?;
        let (swapped, copied) = std::thread::scope(|scope| {
            let load = scope.spawn(load);
            std::thread::sleep(Duration::from_secs_f64(seconds / 10.0));
            let mut copy = self.programs.command("gatefold-bench");
            copy.args(["copy", "--model", &self.world.path("user-once/mmoe")]);
            let copied = last_json(copy.args(["--to", &self.world.path("user-once/mmoe")]));
            (load.join(), copied)
        });
        let version = number(&copied?, "version")?;
        let swapped = swapped.map_err(|_| anyhow::anyhow!("the load panicked"))??;
        let serving = server.metric("gatefold_model_version{")?;
        bars.bar("version that serves at the end of the load", serving, Limit::AtLeast(version));
        let p99 = |raw: &Value| number(raw, "latency_ms/p99");
        bars.bar(
            "p99 while a model is swapped in over steady",
            p99(&swapped)? / p99(&steady)?,
            Limit::AtMost(1.3),
        );
        let errors = number(&swapped, "requests")? - number(&swapped, "answered")?;
        bars.bar("failed requests while a model is swapped in", errors, Limit::AtMost(0.0));
        Ok(json!({ "steady": steady, "swapped": swapped }))
    }

    /// A server with four models and nothing to do.
    fn idle(&self, bars: &mut Bars) -> Result<Value> {
        for name in ["first", "second", "third", "fourth"] {
            let mut copy = self.programs.command("gatefold-bench");
            copy.args(["copy", "--model", &self.world.path("plain/mmoe")]);
            last_json(copy.args(["--to", &self.world.path(&format!("idle/{name}"))]))?;
        }
        let server = self.programs.serve(&self.world.path("idle"), &[])?;
        // What is left of starting settles first.
        std::thread::sleep(Duration::from_secs(1));
        let before = server.process().cpu_seconds()?;
        std::thread::sleep(Duration::from_secs_f64(self.durations.load));
        let share = (server.process().cpu_seconds()? - before) / self.durations.load;
        server.stop()?;
        bars.bar("idle server with 4 models, % of a core", share * 100.0, Limit::AtMost(1.0));
        Ok(json!({ "share_of_a_core": share, "seconds": self.durations.load }))
    }

    /// A bundle of more than 2 GB, in one session and in four.
    fn large(&self, bars: &mut Bars) -> Result<Value> {
        let requests = self.world.path("large");
        let mut publish = self.programs.command("gatefold-bench");
        publish.args(["bundle", "--model", &self.world.path("large/models/mmoe"), "--requests", &requests]);
        // So many different rows that every page of the items' tables is touched.
        publish.args(["--buckets", LARGE_BUCKETS, "--count", "400", "--candidates", "1000"]);
        last_json(&mut publish)?;
        let file = self.world.path("large/requests.json");
        let resident = |workers: &str| -> Result<f64> {
            let server = self.programs.serve(&self.world.path("large/models"), &["--workers", workers])?;
            self.programs.load(&server, &["--requests", &file, "--rate", "max", "--duration", "20s"])?;
            let resident = server.process().resident_mb()?;
            server.stop()?;
            Ok(resident)
        };
        let [one, four] = [resident("1")?, resident("4")?];
        bars.bar("a bundle over 2 GB loads", 1.0, Limit::AtLeast(1.0));
        bars.bar("4 sessions of 2.2 GB of embeddings over 1, resident", four / one, Limit::AtMost(1.1));
        bars.figure("1 session of 2.2 GB of embeddings, resident MB", one);
        Ok(json!({ "one_session_mb": one, "four_sessions_mb": four }))
    }
}
