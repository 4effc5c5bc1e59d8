//! The life of a server: start, load, serve, drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use gatefold_backend_ort::{OrtLoader, OrtSettings};
use gatefold_engine::{BackendLoader, Engine, ModelState, Registry};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::admin::{self, Shown};
use crate::connections::{self, Terms};
use crate::experiments::Experiments;
use crate::flags::Flags;
use crate::fusion::Formulas;
use crate::gate::Gate;
use crate::health::{EngineListener, Health};
use crate::inference::InferenceService;
use crate::listen;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::port::{self, Door};
use crate::readiness::Readiness;
use crate::refusals::Refusals;
use crate::request_log::RequestLog;
use crate::scorer::Scorer;
use crate::service::Service;
use crate::settings::Settings;
use crate::signals;
use crate::statistics::Statistics;
use crate::telemetry;
use crate::tls;
use crate::tokens::{self, Guard};
use crate::unfit::Watch;

/// How long the last spans are waited for.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What `gatefold-server` and `gatefold serve` do: a server with these flags, until SIGTERM or
/// ctrl-c.
///
/// # Errors
/// Settings that are not usable, a port in use, no ONNX Runtime, and models none of which can be
/// loaded.
pub fn serve(flags: &Flags) -> anyhow::Result<()> {
    if let Some(text) = flags.printed()? {
        use std::io::Write;
        write!(std::io::stdout().lock(), "{text}")?;
        return Ok(());
    }
    let settings = flags.settings(std::env::vars_os())?;
    let exporter = telemetry::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let listener = listen::bind("listen", settings.listen).await?;
        let admin = listen::bind("admin", settings.admin).await?;
        let (stop, stopped) = oneshot::channel();
        let exported = tokio::spawn(async move {
            if let Some(exporter) = exporter {
                exporter.run(stopped).await;
            }
        });
        let result = run(settings, listener, admin, signals::shutdown()?).await;
        // The last spans are worth a moment, not more.
        drop(stop);
        let _ = tokio::time::timeout(LAST_SPANS, exported).await;
        result
    });
    // A model that is being loaded is not waited for.
    runtime.shutdown_background();
    result
}

/// Runs a server on ONNX Runtime until `shutdown` completes, then drains it.
///
/// # Errors
/// When ONNX Runtime or the device cannot be had, and as [`run_with`].
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let Settings { ort_library, intra_threads, device, .. } = &settings;
    let runtime =
        OrtSettings { library: ort_library.clone(), intra_threads: *intra_threads, device: *device };
    let loader = Arc::new(OrtLoader::new(runtime)?);
    run_with(settings, loader, listener, admin_listener, shutdown).await
}

/// Runs a server whose models are run by what `loader` opens, until `shutdown` completes, then
/// drains it: health says NOT_SERVING, no connection is accepted, requests in flight have
/// [`Settings::drain_seconds`] to finish.
///
/// # Errors
/// Settings that are not usable, a folder of the request log that cannot be written, a models folder
/// that cannot be read, and models none of which can be loaded.
pub async fn run_with(
    settings: Settings,
    loader: Arc<dyn BackendLoader>,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    settings.check()?;
    let tls = tls::follow(&settings.tls).context("TLS")?;
    let metrics = Arc::new(Metrics::default());
    let experiments = Experiments::new(&settings.experiments)?;
    metrics.experiments(&experiments);
    let refusals = Arc::new(Refusals::default());
    let guard = settings.tokens.clone().map(|file| Guard::new(file, metrics.clone(), refusals.clone()));
    let guard = guard.transpose().context("tokens")?;
    let request_log = RequestLog::start(&settings.request_log, metrics.request_log.clone())?.map(Arc::new);
    let (changed, changes) = watch::channel(());
    let statistics = Arc::new(Statistics::default());
    let engine_listener = EngineListener::new(metrics.clone(), statistics.clone(), changed.clone());
    let engine = Engine::start(settings.engine(), loader, Arc::new(engine_listener))?;
    let mut registry = Registry::new(settings.registry(), engine.clone());
    registry.watch()?;
    let registry = Arc::new(registry);
    let readiness = Arc::new(Readiness::new(engine.clone(), registry.clone()));
    let (stop, stopping) = watch::channel(false);
    tracing::info!(
        listen = %listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        models = %settings.models.display(),
        tls = tls.is_some(),
        tokens = guard.is_some(),
        "starting"
    );

    let mut admin = admin::routes(Shown { metrics: metrics.clone(), readiness: readiness.clone() });
    if let Some(guard) = guard.clone().filter(|_| settings.admin_token) {
        admin = admin.layer(axum::middleware::from_fn_with_state(guard, tokens::enforce_http));
    }
    let admin = tokio::spawn(axum::serve(admin_listener, admin).into_future());
    let reporter = HealthReporter::new();
    let health = Health::new(reporter.clone(), engine.clone(), readiness.clone()).await;
    tokio::spawn(health.follow(changes, stopping.clone()));
    let gate = Gate::new(settings.limits.requests, metrics.clone(), refusals.clone());
    let scorer = Arc::new(Scorer {
        engine: engine.clone(),
        limits: settings.limits.clone(),
        experiments,
        gate: gate.clone(),
        metrics: metrics.clone(),
        refusals,
        statistics,
        request_log: request_log.clone(),
        stop: stopping.clone(),
    });
    let operator = Operator::new(registry.clone());
    let inference =
        InferenceService::new(scorer.clone(), registry.clone(), operator.clone(), readiness.clone());
    let formulas = Arc::new(Formulas::new(&settings.formulas)?);
    let unfit = Watch { scorer: scorer.clone(), formulas: formulas.clone(), readiness: readiness.clone() };
    tokio::spawn(unfit.follow(changed.subscribe()));
    let service = Service::new(scorer, formulas);
    let routes = routes(&settings, reporter, service, operator, inference)?;
    let door = Door { gate, guard };
    let terms = Terms { most: settings.limits.connections, tls, metrics };
    let connections = connections::accept(listener, terms, stopping.clone());
    let grpc = port::serve(&settings, connections, routes, door, stopping);
    let mut grpc = tokio::spawn(grpc);

    let result = tokio::select! {
        () = shutdown => Ok(()),
        ended = &mut grpc => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("the gRPC port closed by itself")),
            Ok(Err(error)) => Err(error).context("the gRPC port"),
            Err(error) => Err(error).context("the gRPC port"),
        },
        error = async {
            match first_look(&settings, registry.clone(), &engine).await {
                Err(error) => error,
                Ok(()) => {
                    readiness.looked();
                    changed.send_replace(());
                    std::future::pending().await
                }
            }
        } => Err(error),
    };

    let deadline = Instant::now() + settings.drain();
    readiness.stop();
    stop.send_replace(true);
    if result.is_ok() && tokio::time::timeout_at(deadline.into(), &mut grpc).await.is_err() {
        tracing::warn!(seconds = settings.drain_seconds, "connections are still open; they are cut");
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let drained = tokio::task::spawn_blocking(move || engine.shutdown(left)).await?;
    if let Some(log) = request_log {
        tokio::task::spawn_blocking(move || log.close()).await?;
    }
    admin.abort();
    match (drained.abandoned, drained.complete) {
        (0, true) => tracing::info!("stopped"),
        (abandoned, complete) => tracing::warn!(abandoned, complete, "stopped before all work was done"),
    }
    result
}

/// The services of the gRPC port: `Ranking`, `Admin`, the Open Inference Protocol, health and
/// reflection.
fn routes(
    settings: &Settings,
    reporter: HealthReporter,
    ranking: Service,
    operator: Operator,
    inference: InferenceService,
) -> anyhow::Result<Routes> {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(gatefold_proto::ranking::v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(gatefold_proto::inference::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(ranking.into_server(settings))
        .add_service(operator.into_server(settings))
        .add_service(inference.into_server(settings))
        .add_service(HealthServer::new(HealthService::from_health_reporter(reporter)))
        .add_service(described().build_v1()?)
        // Many tools still ask for the older version of the protocol.
        .add_service(described().build_v1alpha()?))
}

/// Loads the models for the first time. An empty folder is no error: it is waited on.
///
/// # Errors
/// Without a folder, or when none of the models found can be loaded.
async fn first_look(settings: &Settings, registry: Arc<Registry>, engine: &Engine) -> anyhow::Result<()> {
    let looked = registry.clone();
    tokio::task::spawn_blocking(move || looked.refresh()).await??;
    let serving = engine.models();
    let names: Vec<String> = serving.iter().map(|info| info.model.to_string()).collect();
    if !names.is_empty() {
        tracing::info!(models = names.join(", "), "ready");
        return Ok(());
    }
    let status = registry.status();
    let unloaded = !status.is_empty();
    let refused = status.into_iter().filter_map(|status| match status.state {
        ModelState::Refused { reason } => Some(format!("{}: {reason}", status.model)),
        _ => None,
    });
    let refused: Vec<String> = refused.collect();
    let folder = settings.models.display();
    if !refused.is_empty() {
        bail!("none of the models in {folder} can be loaded: {}", refused.join("; "));
    }
    if unloaded {
        tracing::warn!(%folder, "all models are unloaded; waiting for one to be loaded");
        return Ok(());
    }
    if settings.poll_interval().is_none() {
        bail!(
            "{folder} holds no model (<name>/<version>/manifest.json), and poll_seconds = 0 never looks again"
        );
    }
    tracing::warn!(%folder, "no model yet (<name>/<version>/manifest.json); waiting for one");
    Ok(())
}
