//! `gatefold request`: one `Score` call, from a JSON file or from a row of a Parquet file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use gatefold_proto::ranking::v1 as api;
use gatefold_samples::RawTable;
use gatefold_schema::{
    Encoder, EncoderSet, EncoderState, Feature, FittedFeature, JsonRequest, Kind, Pooling, Side, ValueType,
    strict,
};
use gatefold_server::client::{self, Client, Refused};
use serde_json::{Value, json};

use crate::console::Console;

/// Arguments of `gatefold request`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  gatefold request --model mmoe --file work/samples/examples.json --top-k 5 --output ctr\n  \
                  gatefold request --model mmoe --parquet work/samples/raw-test.parquet --row 0 --json\n  \
                  gatefold request --experiment gates --unit user-1 --file work/samples/examples.json"
)]
pub(crate) struct Args {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8500")]
    server: String,
    /// Model to score with; may be left out when the server has only one
    #[arg(long, value_name = "NAME", default_value = "")]
    model: String,
    /// Version of the model; 0 means the one that takes traffic
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u64,
    /// Label of the version, such as canary, in place of its number
    #[arg(long, value_name = "LABEL", default_value = "", conflicts_with = "version")]
    label: String,
    /// Experiment of the server's settings that says what scores the --unit
    #[arg(long, value_name = "NAME", requires = "unit", conflicts_with_all = ["model", "version", "label"])]
    experiment: Option<String>,
    /// Unit of the --experiment, such as the user's id
    #[arg(long, value_name = "UNIT", requires = "experiment")]
    unit: Option<String>,
    #[command(flatten)]
    access: client::Access,
    #[command(flatten)]
    source: Source,
    /// Request that holds this row, counted from 0: of the Parquet file, or of a JSON array
    #[arg(long, value_name = "N", conflicts_with = "request")]
    row: Option<usize>,
    /// Request with this identifier
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Outputs to return; all unless given
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// Return only so many candidates, best first
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Output that --top-k ranks by; may be left out with a single --output
    #[arg(long, value_name = "NAME", default_value = "")]
    top_k_by: String,
    /// Formula of a fused score, such as "ctr ^ 0.6 * ctcvr"; --top-k ranks by it
    #[arg(long, value_name = "FORMULA", default_value = "")]
    formula: String,
    /// Formula of a fused score by its name in the server's settings
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "formula")]
    formula_name: String,
    /// Priority, 0 to 9: the higher goes first in the queue
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u32,
    /// Show how the model weighed its experts for each candidate
    #[arg(long)]
    explain_gates: bool,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// Print the reply as one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the values come from.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// JSON file with a request, or with an array of requests
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Parquet file with raw feature values, one row a candidate
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

/// Sends the request and prints its scores.
///
/// # Errors
/// A file that cannot be used, a server that does not answer, and what it refuses.
pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<()> {
    if !(args.timeout > 0.0 && args.timeout <= 86_400.0) {
        bail!("--timeout is {}: give seconds above 0, at most 86400", args.timeout);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut client, model) = runtime.block_on(describe(&args))?;
    // Not within the runtime: reading Parquet blocks, and brings a runtime of its own.
    let json = match (&args.source.file, &args.source.parquet) {
        (Some(file), _) => from_file(file, &args)?,
        (None, Some(parquet)) => from_parquet(parquet, &args, &model)?,
        (None, None) => bail!("give --file or --parquet"),
    };
    let mut request = client::score_request(&json, &model)?;
    request.experiment = experiment(&args);
    if request.experiment.is_some() {
        request.model.clear();
    }
    request.version = args.version;
    request.label.clone_from(&args.label);
    request.outputs.clone_from(&args.outputs);
    request.top_k = args.top_k;
    request.priority = args.priority;
    request.explain_gates = args.explain_gates;
    request.formula.clone_from(&args.formula);
    request.formula_name.clone_from(&args.formula_name);
    request.top_k_by.clone_from(&args.top_k_by);
    let mut request = tonic::Request::new(request);
    let timeout = Duration::from_secs_f64(args.timeout);
    request.set_timeout(timeout);
    let reply = runtime.block_on(client.score(request));
    let reply = reply.map_err(|status| Refused::within(timeout, status))?.into_inner();
    if args.json { console.print_json(&as_json(&reply)) } else { console.print(&as_table(&reply)) }
}

/// Connects, and asks what the model wants.
async fn describe(args: &Args) -> anyhow::Result<(Client, api::Model)> {
    let mut client = Client::new(client::connect_with(&args.server, &args.access).await?);
    let wanted = api::GetModelRequest {
        model: args.model.clone(),
        version: args.version,
        label: args.label.clone(),
        experiment: experiment(args),
    };
    let model = client.get_model(wanted).await.map_err(Refused::from)?.into_inner();
    Ok((client, model))
}

/// The unit that is to be scored by its arm.
fn experiment(args: &Args) -> Option<api::ExperimentUnit> {
    let (name, unit) = args.experiment.clone().zip(args.unit.clone())?;
    Some(api::ExperimentUnit { name, unit })
}

/// A JSON file's request: the only one, or the one asked for of an array.
fn from_file(file: &std::path::Path, args: &Args) -> anyhow::Result<JsonRequest> {
    let name = file.display().to_string();
    let text = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let is_array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let requests: Vec<JsonRequest> =
        if is_array { strict::from_json(&text, &name)? } else { vec![strict::from_json(&text, &name)?] };
    let count = requests.len();
    let found = match &args.request {
        Some(id) => requests.into_iter().find(|request| request.request_id == *id),
        None => requests.into_iter().nth(args.row.unwrap_or(0)),
    };
    found.with_context(|| match &args.request {
        Some(id) => format!("{name} has no request with request_id \"{id}\" among its {count}"),
        None => format!("{name} has {count} requests: --row must be below that"),
    })
}

fn from_parquet(file: &std::path::Path, args: &Args, model: &api::Model) -> anyhow::Result<JsonRequest> {
    let set = declared(model);
    let mut table = RawTable::open(file, &set)?;
    let rows = match &args.request {
        Some(id) => table.request_of_id(id)?,
        None => table.request_of_row(args.row.unwrap_or(0))?,
    };
    let requests = rows.batch()?.to_json(&set, &rows.request_ids());
    requests.into_iter().next().with_context(|| format!("{} holds no row", file.display()))
}

/// The features that the server's description of a model declares. Raw values are read by name and
/// type; how they are encoded is the server's business, so the encoders here stand for nothing.
fn declared(model: &api::Model) -> EncoderSet {
    let feature = |feature: &api::Feature| {
        let value_type = match feature.r#type() {
            api::ValueType::Float => ValueType::Float,
            api::ValueType::Text => ValueType::Text,
            api::ValueType::Int | api::ValueType::Unspecified => ValueType::Int,
        };
        let side = match feature.side() {
            api::Side::User => Side::User,
            api::Side::Context => Side::Context,
            api::Side::Item | api::Side::Unspecified => Side::Item,
        };
        let feature = Feature {
            name: feature.name.clone(),
            side,
            kind: if feature.sequence { Kind::Sequence } else { Kind::Categorical },
            value_type,
            column: None,
            cross: Vec::new(),
            clip: None,
            fit: true,
            encoder: Encoder::None,
            embedding: None,
            table: None,
            max_len: feature.sequence.then_some(feature.max_len as usize),
            pooling: Pooling::Mean,
            query: None,
        };
        FittedFeature { feature, state: EncoderState::Stateless }
    };
    EncoderSet { features: model.features.iter().map(feature).collect(), ..EncoderSet::default() }
}

fn as_json(reply: &api::ScoreResponse) -> Value {
    let scores: serde_json::Map<_, _> =
        reply.outputs.iter().map(|output| (output.name.clone(), json!(output.scores))).collect();
    let mut value = json!({
        "model": reply.model,
        "version": reply.version,
        "request_id": reply.request_id,
        "scores": scores,
    });
    if !reply.candidates.is_empty() {
        value["candidates"] = json!(reply.candidates);
    }
    if !reply.labels.is_empty() {
        value["labels"] = json!(reply.labels);
    }
    if !reply.experiment.is_empty() {
        value["experiment"] = json!(reply.experiment);
        value["arm"] = json!(reply.arm);
    }
    if !reply.fused.is_empty() {
        value["fused"] = json!(reply.fused);
    }
    if !reply.gates.is_empty() {
        let gate = |gate: &api::GateWeights| {
            json!({
                "gate": gate.gate,
                "tasks": gate.tasks,
                "experts": gate.experts,
                "weights": weight_rows(gate).collect::<Vec<_>>(),
            })
        };
        value["gates"] = reply.gates.iter().map(gate).collect();
    }
    if let Some(timings) = &reply.timings {
        value["timings_us"] = json!({
            "encode": timings.encode_us,
            "queue": timings.queue_us,
            "infer": timings.infer_us,
            "rank": timings.rank_us,
            "total": timings.total_us,
        });
    }
    value
}

/// A gate's weights, candidate by candidate.
fn weight_rows(gate: &api::GateWeights) -> impl Iterator<Item = &[f32]> {
    gate.weights.chunks(gate.experts.len().max(1))
}

/// The place in the request of a returned row.
fn place(reply: &api::ScoreResponse, row: usize) -> usize {
    reply.candidates.get(row).map_or(row, |place| *place as usize)
}

fn gate_table(reply: &api::ScoreResponse, gate: &api::GateWeights) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once("candidate").chain(gate.experts.iter().map(String::as_str)));
    for (row, weights) in weight_rows(gate).enumerate() {
        let weights = weights.iter().map(|weight| format!("{weight:.4}"));
        table.add_row(std::iter::once(place(reply, row).to_string()).chain(weights));
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{} ({})\n\n{table}\n\n", gate.gate, gate.tasks.join(", "))
}

fn as_table(reply: &api::ScoreResponse) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let names = reply.outputs.iter().map(|output| output.name.as_str());
    let fused = (!reply.fused.is_empty()).then_some("fused");
    table.set_header(std::iter::once("candidate").chain(names).chain(fused));
    let rows = reply.outputs.first().map_or(0, |output| output.scores.len());
    for row in 0..rows {
        let candidate = place(reply, row);
        let scores = reply.outputs.iter().map(|output| output.scores.get(row));
        let scores = scores.map(|score| score.map_or_else(String::new, |score| format!("{score:.6}")));
        let fused = reply.fused.get(row).map(|fused| format!("{fused:.6}"));
        table.add_row(std::iter::once(candidate.to_string()).chain(scores).chain(fused));
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let gates: String = reply.gates.iter().map(|gate| gate_table(reply, gate)).collect();
    let timings = reply.timings.unwrap_or_default();
    let arm = match (reply.experiment.as_str(), reply.arm.as_str()) {
        ("", _) => String::new(),
        (experiment, "") => format!(", in no arm of experiment '{experiment}'"),
        (experiment, arm) => format!(", arm '{arm}' of experiment '{experiment}'"),
    };
    format!(
        "{} version {}{arm}, request '{}'\n\n{table}\n\n{gates}encode {} us, queue {} us, infer {} us, total {} us",
        reply.model,
        reply.version,
        reply.request_id,
        timings.encode_us,
        timings.queue_us,
        timings.infer_us,
        timings.total_us
    )
}
