//! Everything about a server that a person may decide: one checked struct, read from a TOML file
//! with [`environment`] variables and flags over it, passed by value, with no global state.

pub mod environment;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::experiments::Experiments;
use crate::fusion::Formulas;
use gatefold_backend_ort::Device;
use gatefold_engine::{EngineSettings, GraphForm, RegistrySettings, VersionPolicy};
use gatefold_schema::{ConfigError, strict};
use schema::{Described, settings};
use serde::{Deserialize, Serialize};
use tonic::transport::Endpoint;

settings! {
    /// The settings of a server. Each has a value that suits one small machine; the text says why one
    /// would change it.
    pub struct Settings {
        /// Address of the gRPC port. `0.0.0.0:8500` to be reached from other machines.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8500)),
        /// Address of the admin port (`/livez`, `/readyz`, `/metrics`, plain HTTP). Open it to the
        /// probes and the metrics collector, never to callers.
        pub admin: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8501)),
        /// Folder of models: `<models>/<name>/<version>/`.
        pub models: PathBuf = PathBuf::from("models"),
        /// Seconds between two looks at the models folder for new versions; 0 never looks again.
        /// Shorter where a new version should take traffic sooner.
        pub poll_seconds: f64 = 2.0,
        /// Which versions of a model are loaded beside those that labels and experiments name: `mmoe = { latest = 2 }`
        /// or `mmoe = { named = [3, 5] }`. A model that is not listed has its newest. More than one
        /// keeps older versions ready for a rollback at once, and costs their memory.
        pub versions: BTreeMap<String, VersionPolicy> = BTreeMap::new(),
        /// Formulas by model and name, for requests that ask for a fused score by `formula_name`, such
        /// as `mmoe.revenue = "ctcvr * price"`.
        pub formulas: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new(),
        /// Online experiments by name, for requests that name one and a unit (`ScoreRequest.experiment`), such
        /// as `gates = { model = "mmoe", arms = [{ name = "control", share = 0.5 }, { name = "treatment", share
        /// = 0.5, label = "canary" }] }`. Every server of the same settings puts a unit into the same arm.
        pub experiments: BTreeMap<String, ExperimentSettings> = BTreeMap::new(),
        /// What runs models: `cpu`, or the GPU of a number, such as `cuda:0`, with an `ort_library` built
        /// for GPUs. A GPU that cannot be had ends the server: the processor never takes its place in
        /// silence.
        pub device: Device = Device::Cpu,
        /// Threads that run models, shared by all of them; 0 means as many as the cores allow
        /// (cores ÷ intra_threads, at most the container's share of the processor), and 1 on a GPU.
        /// Every model version has a session for each, so more cost memory; fewer leave cores to other
        /// programs.
        pub workers: usize = 0,
        /// Whether each worker stays on a core of its own. Steadies the tail where nothing else uses
        /// those cores; elsewhere workers wait for cores that others hold.
        pub pin_workers: bool = false,
        /// Threads that one batch is computed with. Above 1 a single large request is answered sooner,
        /// at the price of some throughput.
        pub intra_threads: usize = 1,
        /// Candidates computed together at most: a batch takes further requests while it has room. A
        /// single larger request still runs, alone. Larger batches share the cost of a run among small
        /// requests, until their values no longer fit the cache, and make those in them wait for each
        /// other. `gatefold tune` finds the best for a model and a machine.
        pub row_budget: usize = 256,
        /// Microseconds a worker waits for more requests while its batch has room; 0 takes what is
        /// there. A little waiting pays where requests are small and the load is high; `gatefold tune`
        /// tries it.
        pub batch_delay_us: u64 = 0,
        /// Candidates that may wait in a model's queue; beyond it requests are refused with
        /// RESOURCE_EXHAUSTED. The queue is a buffer for bursts: waiting time ≈ queue_rows ÷ throughput,
        /// so keep it below what callers are ready to wait.
        pub queue_rows: usize = 32_768,
        /// Of the scored requests to each model, how many of the last are kept (one a second at most) to
        /// warm the model's next version with. That version is refused where it has no score for one that
        /// its features and outputs fit, or where none fits and it would take the traffic that names no
        /// version; `gatefold models load` takes it in the second case. They are held in memory alone, in at
        /// most 8 MiB and 8192 candidates a model; one that would take over a quarter of either is not kept.
        /// Each is run on every worker's session, so many make a new version take longer to load; 0 keeps
        /// none.
        pub warm_up_requests: usize = 16,
        /// TLS on the gRPC port. Without a certificate it speaks plain text.
        pub tls: Tls = Tls::default(),
        /// TOML file of the callers that may call, with the SHA-256 of their tokens and their rights
        /// (`score`, `admin`); without it everybody may do everything. Followed when it changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tokens: Option<PathBuf> = None,
        /// Whether `/metrics` on the admin port asks for a token with the right `admin`. Probes never
        /// need one.
        pub admin_token: bool = false,
        /// Compression of messages.
        pub compression: Compression = Compression::default(),
        /// What a single request may ask for.
        pub limits: Limits = Limits::default(),
        /// A sample of the scored requests, as Parquet.
        pub request_log: RequestLogSettings = RequestLogSettings::default(),
        /// Traces of requests, sent to an OpenTelemetry collector.
        pub traces: TraceSettings = TraceSettings::default(),
        /// Seconds that requests in flight have to finish once the server is told to stop. Stay below
        /// the time after which the machine is taken away (30 s in Kubernetes).
        pub drain_seconds: f64 = 10.0,
        /// Path of `libonnxruntime.so`; without it `ORT_DYLIB_PATH`, then the cache that
        /// `cargo xtask setup` fills.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ort_library: Option<PathBuf> = None,
        /// Form of the log on stderr: `text` for people, `json` for collectors.
        pub log: LogFormat = LogFormat::Text,
    }
}

settings! {
    /// Bounds on a single request, so that one caller cannot exhaust the server.
    pub struct Limits {
        /// Bytes of a request message. Raise it with `candidates` or for many long text columns.
        pub message_bytes: usize = 4 << 20,
        /// Bytes of a reply message. Clients refuse more than 4 MiB unless they are told otherwise.
        pub reply_bytes: usize = 4 << 20,
        /// Candidates a request. Raise it where a caller ranks more in one call.
        pub candidates: usize = 10_000,
        /// Elements of one sequence, whatever a model would accept.
        pub sequence_length: usize = 10_000,
        /// Bytes of one text value.
        pub text_bytes: usize = 4096,
        /// Columns a request.
        pub columns: usize = 1024,
        /// Scoring requests that the server holds at once, whatever connections they came by. Beyond it
        /// a call is refused with RESOURCE_EXHAUSTED before its message is read, and streams are not
        /// read on. A bound on memory: where callers are not trusted, keep `requests` × `message_bytes`
        /// far below what the machine has, as a message made to do harm (millions of empty words)
        /// takes up to 25 times its bytes.
        pub requests: usize = 2048,
        /// Seconds from the beginning of a scoring call to its answer, whatever longer time the caller
        /// would wait; beyond it the call is answered DEADLINE_EXCEEDED. It bounds how long a caller
        /// who is slow to send its message keeps one of the `requests`.
        pub request_seconds: f64 = 60.0,
        /// Requests of one stream that are worked on at once; the next is read when one is answered.
        pub stream_requests: usize = 32,
        /// Connections that may be open at once; further ones are closed at once.
        pub connections: usize = 10_000,
        /// Calls that one connection may have open at once; a client waits before it opens more.
        pub connection_calls: u32 = 1024,
    }
}

settings! {
    /// An online experiment: units, such as users, are divided among arms by a hash.
    pub struct ExperimentSettings {
        /// Model of the arms that name none, and of the units that are in no arm.
        pub model: String,
        /// What is hashed with a unit; the name of the experiment unless given. Another salt divides the
        /// units anew, the same one divides them alike.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub salt: Option<String>,
        /// The arms, of which each takes the units behind those of the one before. The last may grow while
        /// the experiment runs: the others keep their units.
        pub arms: Vec<ArmSettings>,
    }
}

settings! {
    /// An arm of an experiment, and what scores its units.
    pub struct ArmSettings {
        /// Name in replies, the request log and metrics.
        pub name: String,
        /// Share of the units, above 0. What all leave of 1 is in no arm.
        pub share: f64,
        /// Model, where it is not that of the experiment.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub model: Option<String>,
        /// Version of the model; it stays loaded while newer ones come.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub version: Option<u64>,
        /// Label of the version, in place of its number. Without both the version that takes the traffic
        /// which names none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub label: Option<String>,
    }
}

settings! {
    /// TLS: PEM files, read again when they change.
    pub struct Tls {
        /// PEM file of the server's certificate and those between it and an authority that callers
        /// trust. A bad new one is logged, and the one before stays in use.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub certificate: Option<PathBuf> = None,
        /// PEM file of the certificate's private key.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub key: Option<PathBuf> = None,
        /// PEM file of the authorities whose clients may connect (mutual TLS): a client must show a
        /// certificate that one of them signed. Without it no client is asked for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub client_ca: Option<PathBuf> = None,
    }
}

settings! {
    /// Traces of requests: what each spent its time on, and with whom it shared a batch.
    pub struct TraceSettings {
        /// The collector: where it takes OTLP over gRPC, such as `http://127.0.0.1:4317`. Without it
        /// nothing is traced.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub endpoint: Option<String> = None,
        /// Share of the requests, 0 to 1, that are traced where the caller does not say: one that sends
        /// a `traceparent` decides itself.
        pub share: f64 = 0.01,
    }
}

settings! {
    /// A sample of the scored requests: features as received, and scores.
    pub struct RequestLogSettings {
        /// Folder of the log: `<folder>/<model>/<time>-<number>.parquet`. Without it nothing is logged.
        /// It holds what callers send: guard it as the data that models learn from.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub folder: Option<PathBuf> = None,
        /// Share of the requests, 0 to 1, chosen by a hash of the request id.
        pub share: f64 = 0.01,
        /// Bytes at which a file is put in place and the next begun.
        pub file_bytes: usize = 128 << 20,
        /// Seconds after which a file is put in place, however small: what is younger is lost when the
        /// process is killed.
        pub file_seconds: f64 = 300.0,
        /// Bytes of requests that may wait to be written; beyond it they are given up and counted.
        pub queue_bytes: usize = 64 << 20,
    }
}

settings! {
    /// Encodings of messages. They save network and cost processor time on both sides: 200 candidates
    /// are a few kilobytes, which are sent sooner than compressed.
    pub struct Compression {
        /// Encodings of requests that are accepted; others are answered UNIMPLEMENTED. A message
        /// that is larger than `limits.message_bytes` once decompressed is refused.
        pub accept: Vec<Encoding> = vec![Encoding::Zstd, Encoding::Gzip],
        /// Encodings of replies, used for callers who say that they accept one. Many clients accept
        /// gzip without being asked, so naming it here compresses for all of them.
        pub reply: Vec<Encoding> = Vec::new(),
    }
}

/// Encoding of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Described for Encoding {
    fn schema() -> serde_json::Value {
        schema::choice::<Self>()
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

impl Described for LogFormat {
    fn schema() -> serde_json::Value {
        schema::choice::<Self>()
    }
}

impl Settings {
    /// Settings from the text of a TOML file; `origin` is the file's name as the person knows it.
    ///
    /// # Errors
    /// A syntax error, wrong type or unknown key, with its line and the nearest known key.
    pub fn from_toml(text: &str, origin: &str) -> Result<Settings, ConfigError> {
        strict::from_toml(text, origin)
    }

    /// Checks that every setting is usable and that they fit each other.
    ///
    /// # Errors
    /// A sentence that names the setting, its value and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::new(text));
        if self.listen == self.admin && self.listen.port() != 0 {
            return fail(format!("listen and admin are both {}: give each its own port", self.listen));
        }
        let counts = [
            ("intra_threads", self.intra_threads, 256),
            ("row_budget", self.row_budget, 1 << 24),
            ("queue_rows", self.queue_rows, 1 << 30),
            ("limits.message_bytes", self.limits.message_bytes, 1 << 30),
            ("limits.reply_bytes", self.limits.reply_bytes, 1 << 30),
            ("limits.connections", self.limits.connections, 1 << 20),
            ("limits.candidates", self.limits.candidates, 1 << 24),
            ("limits.sequence_length", self.limits.sequence_length, 1 << 24),
            ("limits.text_bytes", self.limits.text_bytes, 1 << 24),
            // A message of that many columns stays within the fields that one may have.
            ("limits.columns", self.limits.columns, gatefold_proto::bounded::MOST_FIELDS / 4),
            ("limits.requests", self.limits.requests, 1 << 20),
            ("limits.stream_requests", self.limits.stream_requests, 1 << 16),
            ("limits.connection_calls", self.limits.connection_calls as usize, 1 << 20),
            ("request_log.file_bytes", self.request_log.file_bytes, 1 << 40),
            ("request_log.queue_bytes", self.request_log.queue_bytes, 1 << 40),
        ];
        for (name, value, most) in counts {
            if !(1..=most).contains(&value) {
                return fail(format!("{name} is {value}: it must be between 1 and {most}"));
            }
        }
        if self.pin_workers && self.intra_threads > 1 {
            return fail(format!(
                "pin_workers is for workers that compute alone, and intra_threads is {}: set it to 1, or \
                 pin_workers to false",
                self.intra_threads
            ));
        }
        for (name, value) in [("workers", self.workers), ("warm_up_requests", self.warm_up_requests)] {
            if value > 1024 {
                return fail(format!("{name} is {value}: it must be at most 1024"));
            }
        }
        let seconds = [
            ("poll_seconds", self.poll_seconds),
            ("drain_seconds", self.drain_seconds),
            ("request_log.file_seconds", self.request_log.file_seconds),
        ];
        for (name, value) in seconds {
            if !(0.0..=86_400.0).contains(&value) {
                return fail(format!("{name} is {value}: it must be between 0 and 86400"));
            }
        }
        for (name, share) in [("request_log", self.request_log.share), ("traces", self.traces.share)] {
            if !(0.0..=1.0).contains(&share) {
                return fail(format!("{name}.share is {share}: it must be between 0 and 1"));
            }
        }
        if let Some(endpoint) = &self.traces.endpoint
            && (!endpoint.starts_with("http://") || Endpoint::from_shared(endpoint.clone()).is_err())
        {
            return fail(format!("traces.endpoint is '{endpoint}': write it as http://127.0.0.1:4317"));
        }
        if !(0.001..=86_400.0).contains(&self.limits.request_seconds) {
            return fail(format!(
                "limits.request_seconds is {}: it must be between 0.001 and 86400",
                self.limits.request_seconds
            ));
        }
        if self.batch_delay_us > 1_000_000 {
            return fail(format!("batch_delay_us is {}: it must be at most 1000000", self.batch_delay_us));
        }
        Formulas::new(&self.formulas)?;
        Experiments::new(&self.experiments)?;
        match &self.tls {
            Tls { certificate: Some(_), key: None, .. } => {
                return fail("tls.certificate is set and tls.key is not: give both".into());
            }
            Tls { certificate: None, key: Some(_), .. } => {
                return fail("tls.key is set and tls.certificate is not: give both".into());
            }
            Tls { certificate: None, client_ca: Some(_), .. } => {
                return fail(
                    "tls.client_ca is set without a certificate: give tls.certificate and tls.key".into(),
                );
            }
            _ => {}
        }
        if self.admin_token && self.tokens.is_none() {
            return fail("admin_token is true without a tokens file: set `tokens`".into());
        }
        self.registry().check().map_err(|error| ConfigError::new(error.to_string()))?;
        if self.limits.candidates > self.queue_rows {
            return fail(format!(
                "limits.candidates ({}) is above queue_rows ({}): such a request could never be queued; \
                 raise queue_rows or lower limits.candidates",
                self.limits.candidates, self.queue_rows
            ));
        }
        Ok(())
    }

    /// The engine's part of the settings.
    pub fn engine(&self) -> EngineSettings {
        EngineSettings {
            workers: self.worker_count(),
            pin_workers: self.pin_workers,
            queue_rows: self.queue_rows,
            request_rows: self.limits.candidates,
            batch_rows: self.row_budget,
            batch_delay: Duration::from_micros(self.batch_delay_us),
            warm_up_requests: self.warm_up_requests,
            form: GraphForm::UserOnce,
        }
    }

    /// The registry's part of the settings.
    pub fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            folder: self.models.clone(),
            poll: self.poll_interval(),
            policies: self.versions.clone(),
            pinned: self.pinned(),
        }
    }

    /// Versions that arms of experiments name, by model: they stay loaded while newer ones come.
    fn pinned(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let mut pinned: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for experiment in self.experiments.values() {
            for arm in &experiment.arms {
                let model = arm.model.as_ref().unwrap_or(&experiment.model);
                pinned.entry(model.clone()).or_default().extend(arm.version);
            }
        }
        pinned
    }

    /// Time between two looks at the models folder; `None` when it is read only once.
    pub fn poll_interval(&self) -> Option<Duration> {
        (self.poll_seconds > 0.0).then(|| Duration::from_secs_f64(self.poll_seconds))
    }

    /// Time that requests in flight have to finish.
    pub fn drain(&self) -> Duration {
        Duration::from_secs_f64(self.drain_seconds)
    }

    /// Number of worker threads, with 0 resolved to what the device and the cores allow.
    pub fn worker_count(&self) -> usize {
        // Respects the processor share a container is given.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        match (self.workers, self.device) {
            (0, Device::Cpu) => (cores / self.intra_threads).max(1),
            (0, Device::Cuda(_)) => 1,
            (count, _) => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuse(text: &str, expected: &str) {
        let result = Settings::from_toml(text, "server.toml").and_then(|settings| settings.check());
        let message = result.expect_err("these settings are not usable").to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn the_defaults_are_usable_and_survive_toml() {
        let settings = Settings::default();
        settings.check().unwrap();
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(Settings::from_toml(&text, "server.toml").unwrap(), settings);
    }

    #[test]
    fn a_file_names_only_what_differs() {
        let text = "listen = \"0.0.0.0:9000\"\nlog = \"json\"\n[limits]\ncandidates = 500\n";
        let settings = Settings::from_toml(text, "server.toml").unwrap();
        assert_eq!(settings.listen.port(), 9000);
        assert_eq!(settings.log, LogFormat::Json);
        assert_eq!(settings.limits.candidates, 500);
        assert_eq!(settings.limits.columns, Limits::default().columns);
        assert_eq!(settings.row_budget, Settings::default().row_budget);
    }

    #[test]
    fn workers_are_as_many_as_the_device_and_the_cores_allow() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let count = |text: &str| Settings::from_toml(text, "server.toml").unwrap().worker_count();
        assert_eq!(count(""), cores);
        assert_eq!(count(&format!("intra_threads = {}\n", 2 * cores)), 1);
        assert_eq!(count("device = \"cuda:0\"\n"), 1);
        assert_eq!(count("device = \"cuda:0\"\nworkers = 3\n"), 3);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        refuse("row_buget = 3\n", "server.toml:1: unknown field `row_buget`");
        refuse("row_buget = 3\n", "did you mean `row_budget`?");
        refuse("workers = 2\n[limits]\ncandidate = 3\n", "server.toml:3: unknown field `candidate`");
        refuse("listen = \"here\"\n", "server.toml:1: ");
        refuse("device = \"gpu\"\n", "server.toml:1: a device is `cpu` or `cuda:0`");
        refuse("pin_workers = true\nintra_threads = 4\n", "intra_threads is 4: set it to 1");
        refuse("log = \"xml\"\n", "unknown variant `xml`");
        refuse("row_budget = 0\n", "row_budget is 0: it must be between 1");
        refuse("warm_up_requests = 1025\n", "warm_up_requests is 1025: it must be at most 1024");
        refuse("poll_seconds = -1.0\n", "poll_seconds is -1");
        refuse(
            "[traces]\nendpoint = \"collector:4317\"\n",
            "traces.endpoint is 'collector:4317': write it as",
        );
        refuse("[traces]\nshare = -0.1\n", "traces.share is -0.1: it must be between 0 and 1");
        refuse("[request_log]\nshare = 1.5\n", "request_log.share is 1.5: it must be between 0 and 1");
        refuse("[request_log]\nfile_bytes = 0\n", "request_log.file_bytes is 0: it must be between 1");
        refuse("drain_seconds = nan\n", "drain_seconds is NaN");
        refuse("queue_rows = 100\n", "limits.candidates (10000) is above queue_rows (100)");
        let problem =
            "formulas.mmoe.value: expected a number, a column or '(', found the end, at character 6";
        refuse("[formulas.mmoe]\nvalue = \"ctr *\"\n", problem);
        refuse("[experiments.gates]\nmodel = \"mmoe\"\n", "server.toml:1: missing field `arms`");
        refuse(
            "[experiments.gates]\nmodel = \"mmoe\"\narms = [{ name = \"a\", shares = 1 }]\n",
            "server.toml:3: unknown field `shares`, expected one of `name`, `share`, `model`, `version`, `label`; \
             did you mean `share`?",
        );
        for (arms, expected) in [
            ("[]", "experiments.gates.arms: there are none; give at least one, with name and share"),
            (
                "[{ name = \"a\", share = 0.6 }, { name = \"b\", share = 0.5 }]",
                "experiments.gates.arms: the shares sum to 1.1: at most 1 can be given",
            ),
            (
                "[{ name = \"a\", share = 1, version = 3, label = \"canary\" }]",
                "experiments.gates.arms: 'a': label is 'canary' beside version 3: give one of them",
            ),
            (
                "[{ name = \"a\", share = 1, version = 0 }]",
                "experiments.gates.arms: 'a': version is 0: versions begin with 1",
            ),
            (
                "[{ name = \"a\", share = 1, label = \"7\" }]",
                "experiments.gates.arms: 'a': label: '7' is no label: use 1 to 64 letters",
            ),
            (
                "[{ name = \"a\", share = 1, model = \"\" }]",
                "experiments.gates.arms: 'a': model is empty: leave it out for that of the experiment",
            ),
        ] {
            refuse(&format!("[experiments.gates]\nmodel = \"mmoe\"\narms = {arms}\n"), expected);
        }
        let arms = "arms = [{ name = \"a\", share = 1 }]\n";
        refuse(
            &format!("[experiments.gates]\nmodel = \"\"\n{arms}"),
            "experiments.gates.model: is empty; name the model",
        );
        refuse(
            &format!("[experiments.gates]\nmodel = \"mmoe\"\nsalt = \"\"\n{arms}"),
            "experiments.gates.salt: is empty; leave it out for the name of the experiment",
        );
        refuse(
            &format!("[experiments.\"\"]\nmodel = \"mmoe\"\n{arms}"),
            "experiments: the name '' has 0 bytes: it must have between 1 and 64",
        );
        refuse("[versions]\nmmoe = { latest = 0 }\n", "versions of model 'mmoe': latest is 0");
        refuse("[versions]\nmmoe = { named = [] }\n", "versions of model 'mmoe': named lists no version");
        refuse("[versions]\nmmoe = { newest = 1 }\n", "unknown variant `newest`");
        refuse("[tls]\ncertificate = \"a.pem\"\n", "tls.certificate is set and tls.key is not");
        refuse("[tls]\nkey = \"a.pem\"\n", "tls.key is set and tls.certificate is not");
        refuse("[tls]\nclient_ca = \"a.pem\"\n", "tls.client_ca is set without a certificate");
        refuse("admin_token = true\n", "admin_token is true without a tokens file");
        refuse("[compression]\nreply = [\"gzp\"]\n", "did you mean `gzip`?");
        refuse("[limits]\nreply_bytes = 0\n", "limits.reply_bytes is 0");
        refuse("[limits]\nrequest_seconds = 0.0\n", "limits.request_seconds is 0: it must be between 0.001");
        refuse("listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:1\"\n", "give each its own port");
    }
}
