//! `gatefold load`: many requests to a server, and how long they took.
//!
//! The load is *open*: requests start at random times that were drawn before (a Poisson process),
//! whether or not earlier ones were answered, as page views do. Each latency counts from the
//! intended start, so that a server that stalls is not spared the requests that it held up.
//! `--rate max` is the closed loop that finds a server's capacity.
//!
//! Requests are encoded once and sent over and over, so that the generator takes little of the
//! processor it may share with the server.

pub(crate) mod generator;
pub(crate) mod report;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use gatefold_proto::ranking::v1 as api;
use gatefold_schema::{JsonRequest, strict};
use gatefold_server::client::{self, Client, Refused};
use prost::Message as _;

use self::generator::{Generator, Pace, Times};
use self::wire::{Connection, Prepared, Server};
use crate::console::Console;

/// Units of an experiment that are asked for before a load gives up.
const UNITS_TRIED: usize = 32;

/// Arguments of `gatefold load`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  gatefold load --model mmoe --requests work/samples/examples.json --candidates 200 --rate 200 --duration 30s"
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
    /// Experiment of the server's settings: each request is of a unit of its own, load-0, load-1, …, whose arm
    /// says what scores it; the models of all arms must take the features of the first that answers
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "version", "label"])]
    experiment: Option<String>,
    #[command(flatten)]
    access: client::Access,
    /// JSON file with an array of requests, sent in turn
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,
    /// Requests a second, or `max` for as many as the server answers
    #[arg(long, value_name = "RPS|max", value_parser = rate)]
    rate: Rate,
    /// Candidates a request: those of the file are cut or repeated; as in the file unless given
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// How long requests start for, such as 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    duration: Duration,
    /// How long to send before counting begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Deadline of each request
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    timeout: Duration,
    /// Connections, used in turn
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// With --rate max: requests waiting for their answer on each connection
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: u32,
    /// Outputs to ask for; all unless given
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// Priority of the requests, 0 to 9: the higher goes first in the queue
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u32,
    /// Seed of the starting times
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// How fast requests start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    /// As fast as earlier ones are answered.
    Max,
    /// So many a second on average, whatever happens to earlier ones.
    PerSecond(f64),
}

/// Sends the load and prints the report.
///
/// # Errors
/// A requests file that cannot be used, a server that does not answer, and a first request that is
/// refused: what no repetition would mend ends here.
pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let (prepared, connections) = runtime.block_on(prepare(&args))?;
    let bar = console.bar((args.warmup + args.duration).as_secs(), "s");
    let experiment = args.experiment;
    let server = Server { prepared, experiment, connections, timeout: args.timeout };
    let patience = args.timeout + Duration::from_secs(1);
    let times = Times { warmup: args.warmup, duration: args.duration, patience };
    let generator = Generator::new(server, times, bar)?;
    let pace = match args.rate {
        Rate::Max => Pace::Closed { in_flight: args.connections as usize * args.in_flight as usize },
        Rate::PerSecond(rate) => Pace::Open { rate, seed: args.seed },
    };
    let report = generator.run(&runtime, pace)?;
    if args.json { console.print_json(&report.json()) } else { console.print(&report.text()) }
}

/// Opens the connections, encodes every request, and scores the first of them to see that the
/// server takes it.
async fn prepare(args: &Args) -> anyhow::Result<(Vec<Prepared>, Vec<Connection>)> {
    let path = args.requests.display().to_string();
    let text = std::fs::read(&args.requests).with_context(|| format!("cannot read {path}"))?;
    let examples: Vec<JsonRequest> = strict::from_json(&text, &path)?;
    if examples.is_empty() {
        bail!("{path} holds no request: `gatefold samples build` writes examples.json with some");
    }
    if args.candidates == Some(0) {
        bail!("--candidates must be at least 1");
    }
    let channel = client::connect_with(&args.server, &args.access).await?;
    let mut first = Client::new(channel.clone());
    let model = answering(args, &mut first, &examples[0]).await?;
    let prepare = |example: &JsonRequest| {
        let message = request(args, example, &model).context(path.clone())?.encode_to_vec().into();
        Ok(Prepared { message, candidates: args.candidates.unwrap_or_else(|| example.candidates()) })
    };
    let prepared = examples.iter().map(prepare).collect::<anyhow::Result<_>>()?;
    let mut connections = vec![Connection::new(channel)];
    for _ in 1..args.connections {
        connections.push(Connection::new(client::connect_with(&args.server, &args.access).await?));
    }
    Ok((prepared, connections))
}

/// What answers the `example`: the model, or of an experiment what scores the first of some units that
/// is answered, since an arm may be broken.
async fn answering(args: &Args, client: &mut Client, example: &JsonRequest) -> anyhow::Result<api::Model> {
    let refused = match answer(args, client, example, 0).await {
        Ok(model) => return Ok(model),
        Err(refused) => refused,
    };
    for unit in 1..args.experiment.as_ref().map_or(1, |_| UNITS_TRIED) {
        if let Ok(model) = answer(args, client, example, unit).await {
            return Ok(model);
        }
    }
    Err(refused)
}

async fn answer(
    args: &Args,
    client: &mut Client,
    example: &JsonRequest,
    unit: usize,
) -> anyhow::Result<api::Model> {
    let experiment = args.experiment.as_deref().map(|name| wire::unit(name, unit));
    let wanted = api::GetModelRequest {
        model: args.model.clone(),
        version: args.version,
        label: args.label.clone(),
        experiment: experiment.clone(),
    };
    let model = client.get_model(wanted).await.map_err(Refused::from)?.into_inner();
    let example = request(args, example, &model).context("the first request")?;
    let asked = api::ScoreRequest { experiment, ..example };
    client.score(asked).await.map_err(Refused::from).context("the first request")?;
    Ok(model)
}

/// The example as `args` would have it, but for the unit of an experiment.
fn request(args: &Args, example: &JsonRequest, model: &api::Model) -> anyhow::Result<api::ScoreRequest> {
    let mut request = client::score_request(example, model)?;
    if args.experiment.is_some() {
        request.model.clear();
    }
    request.version = args.version;
    request.label.clone_from(&args.label);
    request.priority = args.priority;
    request.outputs.clone_from(&args.outputs);
    if let Some(candidates) = args.candidates {
        client::with_candidates(&mut request, candidates);
    }
    Ok(request)
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if rate.is_finite() && (1e-3..=1e6).contains(&rate) => Ok(Rate::PerSecond(rate)),
        _ => Err("give requests a second between 0.001 and 1000000, or `max`".into()),
    }
}

/// A [`duration`] in which something can happen.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("give a time above 0, such as 30s".into()),
        time => Ok(time),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("give a number and a unit: ms, s, m or h".into()),
    };
    match digits.parse::<f64>() {
        Ok(number) if (0.0..=604_800.0).contains(&(number * seconds)) => {
            Ok(Duration::from_secs_f64(number * seconds))
        }
        _ => Err("give a time between 0 and 168h, such as 30s".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_or_refused() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-1s", "1d", "nan", "infs", "9999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(some_time("0s").is_err() && some_time("1ms").is_ok());
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("250.5"), Ok(Rate::PerSecond(250.5)));
        for bad in ["0", "-3", "nan", "inf", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
