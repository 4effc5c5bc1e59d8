//! A model folder, a backend and a running server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gatefold_engine::{Backend, BackendError, BackendLoader, Bundle, BundleWriter, GraphForm};
use gatefold_features::{FeatureBatch, FeatureColumn};
use gatefold_proto::ranking::v1 as wire;
use gatefold_schema::{
    BundleManifest, Derived, EncoderSet, Feature, FittedFeature, GateOutput, Golden, GoldenRequest,
    GraphFile, GraphInput, JsonRequest, Level, Task, task,
};
use gatefold_server::{Settings, client};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on free ports, stopped when told to.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Milliseconds that a batch takes.
    pub(crate) delay: Arc<AtomicU64>,
    /// While true, no backend can be opened.
    pub(crate) broken: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// A server of the model `demo`, version 1, that is ready; `change` changes its settings.
    pub(crate) async fn start(change: impl FnOnce(&mut Settings)) -> Running {
        let folder = TempDir::new().unwrap();
        publish(folder.path(), "demo", 0.0);
        let running = Self::start_in(folder, change).await;
        running.ready().await;
        running
    }

    /// A server of the models in `folder`.
    pub(crate) async fn start_in(folder: TempDir, change: impl FnOnce(&mut Settings)) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, admin) = (listener.local_addr().unwrap(), admin_listener.local_addr().unwrap());
        let mut settings = Settings {
            models: folder.path().to_owned(),
            workers: 2,
            poll_seconds: 0.02,
            ..Settings::default()
        };
        change(&mut settings);
        let (stop, stopped) = oneshot::channel();
        let (delay, broken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let loader = Arc::new(FormulaLoader { delay: delay.clone(), broken: broken.clone() });
        let task = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            gatefold_server::run_with(settings, loader, listener, admin_listener, shutdown).await
        });
        Running { folder, address, admin, delay, broken, stop: Some(stop), task }
    }

    pub(crate) async fn client(&self) -> client::Client {
        client::Client::new(self.channel().await)
    }

    pub(crate) async fn channel(&self) -> gatefold_server::client::Link {
        client::connect(&format!("http://{}", self.address)).await.unwrap()
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn ready(&self) {
        eventually(async || self.get("/readyz").await.starts_with("HTTP/1.1 200")).await;
    }

    /// The whole HTTP reply of the admin port.
    pub(crate) async fn get(&self, path: &str) -> String {
        self.get_with(path, "").await
    }

    /// As `get`, with further header lines.
    pub(crate) async fn get_with(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// The result of the server, once it has ended.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        self.end().await.1
    }

    /// The folder of a server that ended well.
    pub(crate) async fn ended_in(self) -> TempDir {
        let (folder, result) = self.end().await;
        result.unwrap();
        folder
    }

    async fn end(self) -> (TempDir, anyhow::Result<()>) {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        (self.folder, ended.expect("the server did not end").unwrap())
    }
}

/// Waits for `condition`, which must come within half a minute.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("the condition never came");
}

/// Publishes the next version of the model `name`: `ctr = age/1000 + price/100 + offset`,
/// `cvr = price/200`, `ctcvr = ctr · cvr`.
pub(crate) fn publish(models: &Path, name: &str, offset: f32) {
    publish_changed(models, name, offset, |_, _| {});
}

/// As [`publish`], with another manifest and golden request.
pub(crate) fn publish_changed(
    models: &Path,
    name: &str,
    offset: f32,
    change: impl FnOnce(&mut BundleManifest, &mut GoldenRequest),
) {
    let features = features(name);
    let tasks: Vec<Task> = serde_json::from_value(json!([
        {"name": "ctr", "label": "click"},
        {"name": "cvr", "label": "conversion", "given": "ctr"},
    ]))
    .unwrap();
    let derived: Vec<Derived> =
        serde_json::from_value(json!([{"name": "ctcvr", "product": ["ctr", "cvr"], "label": "conversion"}]))
            .unwrap();
    let set = EncoderSet { features: features.clone(), ..EncoderSet::default() };
    let plain = GraphFile {
        file: "model.onnx".into(),
        inputs: features
            .iter()
            .map(|fitted| GraphInput {
                name: fitted.feature.name.clone(),
                feature: fitted.feature.name.clone(),
                level: Level::Candidate,
            })
            .collect(),
        request_of: None,
    };
    let mut manifest = BundleManifest {
        format: 0,
        name: String::new(),
        version: 0,
        model: None,
        fingerprint: set.fingerprint(),
        features,
        vocabularies: Vec::new(),
        outputs: task::outputs(&tasks, &derived),
        tasks,
        derived,
        plain,
        user_once: None,
        metrics: BTreeMap::new(),
        calibrations: Vec::new(),
        gates: None,
        gate_outputs: if name == "demo" { gate_outputs() } else { Vec::new() },
        golden_tolerance: None,
        provenance: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let request: JsonRequest = serde_json::from_value(json!({
        "user": {"age": 31.0, "recent": [1]}, "context": {"country": "de"},
        "items": {"item_id": [1, 2], "price": [20.0, 50.0]},
    }))
    .unwrap();
    let rows = [(31.0, 20.0), (31.0, 50.0)].map(|(age, price)| formula(age, price, offset));
    let scores = ["ctr", "cvr", "ctcvr"].iter().enumerate();
    let scores = scores.map(|(at, name)| ((*name).to_owned(), rows.iter().map(|row| row[at]).collect()));
    let mut golden = GoldenRequest { request, scores: scores.collect() };
    change(&mut manifest, &mut golden);
    let golden = Golden { requests: vec![golden] };
    let mut writer = BundleWriter::create(models.join(name)).unwrap();
    // The backend reads this file in place of a graph.
    writer.write("model.onnx", offset.to_string().as_bytes()).unwrap();
    writer.write_golden(&golden).unwrap();
    writer.publish(manifest, |_| Ok(())).unwrap();
}

/// `ctr`, `cvr` and `ctcvr` of one candidate.
pub(crate) fn formula(age: f32, price: f32, offset: f32) -> [f32; 3] {
    let (ctr, cvr) = (age / 1000.0 + price / 100.0 + offset, price / 200.0);
    [ctr, cvr, ctr * cvr]
}

/// Gates of `ctr` and `cvr`; only the model `demo` has them.
fn gate_outputs() -> Vec<GateOutput> {
    serde_json::from_value(json!([
        {"name": "gate.ctr", "tasks": ["ctr"], "experts": ["expert.ctr.0", "expert.shared.0"]},
        {"name": "gate.cvr", "tasks": ["cvr"],
         "experts": ["expert.cvr.0", "expert.cvr.1", "expert.shared.0"]},
    ]))
    .unwrap()
}

/// Weights of the gates of one candidate.
pub(crate) fn gate_weights(price: f32) -> [Vec<f32>; 2] {
    let first = price / 128.0;
    [vec![first, 1.0 - first], vec![first, 0.5, 0.5 - first]]
}

/// What every model reads; the model `crossed` has a crossed feature after it.
fn features(model: &str) -> Vec<FittedFeature> {
    let mut features: Vec<Feature> = serde_json::from_value(json!([
        {"name": "age", "side": "user", "kind": "numeric", "type": "float", "encoder": {"kind": "none"}},
        {"name": "recent", "side": "user", "kind": "sequence", "type": "int", "max_len": 3, "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 50}},
        {"name": "country", "side": "context", "kind": "categorical", "type": "text", "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 20}},
        {"name": "item_id", "side": "item", "kind": "categorical", "type": "int", "embedding": 2,
         "encoder": {"kind": "hash", "buckets": 100}},
        {"name": "price", "side": "item", "kind": "numeric", "type": "float", "encoder": {"kind": "none"}},
    ]))
    .unwrap();
    if model == "crossed" {
        let crossed = json!({
            "name": "country_x_item", "side": "item", "kind": "categorical", "type": "text", "embedding": 2,
            "cross": ["country", "item_id"], "encoder": {"kind": "hash", "buckets": 100},
        });
        features.push(serde_json::from_value(crossed).unwrap());
    }
    let state = gatefold_schema::EncoderState::Stateless;
    features.into_iter().map(|feature| FittedFeature { feature, state: state.clone() }).collect()
}

/// A request of user age 31 and candidates of these prices.
pub(crate) fn request(prices: &[f64]) -> wire::ScoreRequest {
    use wire::column::Values;
    let ids = (0..prices.len() as i64).collect();
    wire::ScoreRequest {
        request_id: "r1".into(),
        user: vec![
            column("age", Values::Floats(wire::Floats { values: vec![31.0] })),
            column("recent", Values::IntLists(wire::IntLists { values: vec![7, 8], offsets: vec![0, 2] })),
        ],
        context: vec![column("country", Values::Texts(wire::Texts { values: vec!["de".into()] }))],
        items: vec![
            column("item_id", Values::Ints(wire::Ints { values: ids })),
            column("price", Values::Floats(wire::Floats { values: prices.to_vec() })),
        ],
        ..wire::ScoreRequest::default()
    }
}

pub(crate) fn column(name: &str, values: wire::column::Values) -> wire::Column {
    wire::Column { name: name.into(), values: Some(values), missing: Vec::new() }
}

/// Opens [`Formula`]s.
struct FormulaLoader {
    delay: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

/// Computes [`formula`], after a while.
struct Formula {
    offset: f32,
    delay: Arc<AtomicU64>,
}

impl BackendLoader for FormulaLoader {
    fn open(&self, bundle: &Bundle, _form: GraphForm) -> Result<Box<dyn Backend>, BackendError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(BackendError::Unavailable("the device is gone".into()));
        }
        let file = bundle.path().join("model.onnx");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let offset = text.parse().map_err(|_| BackendError::Load { file, reason: "not a formula".into() })?;
        Ok(Box::new(Formula { offset, delay: self.delay.clone() }))
    }
}

impl Backend for Formula {
    fn run(&mut self, batch: &FeatureBatch, outputs: &[usize]) -> Result<Vec<Vec<f32>>, BackendError> {
        std::thread::sleep(Duration::from_millis(self.delay.load(Ordering::Relaxed)));
        let (FeatureColumn::Numbers(age), FeatureColumn::Numbers(price)) =
            (&batch.columns[0], &batch.columns[4])
        else {
            return Err(BackendError::Batch("age and price are numbers".into()));
        };
        // The price 66 stands for a model that fails.
        if price.contains(&66.0) {
            return Err(BackendError::Run("a price of 66".into()));
        }
        assert!(!price.contains(&99.0), "the price 99 stands for a model that panics");
        // The price 77 stands for one that a new version has no score for: its offset is another.
        let offset = |price: f32| if price == 77.0 && self.offset != 0.0 { f32::NAN } else { self.offset };
        let rows: Vec<[f32; 3]> = (0..batch.candidates)
            .map(|row| formula(age[batch.request_of[row] as usize], price[row], offset(price[row])))
            .collect();
        let column = |&output: &usize| match output.checked_sub(3) {
            None => rows.iter().map(|row| row[output]).collect(),
            Some(gate) => price.iter().flat_map(|price| gate_weights(*price)[gate].clone()).collect(),
        };
        Ok(outputs.iter().map(column).collect())
    }
}

/// Sends bytes as they are, and takes any reply.
pub(crate) struct Bytes;

impl tonic::codec::Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl tonic::codec::Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        buffer: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Bytes {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        prost::bytes::Buf::advance(buffer, prost::bytes::Buf::remaining(buffer));
        Ok(Some(()))
    }
}
