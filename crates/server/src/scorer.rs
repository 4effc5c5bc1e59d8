//! The path that every scoring call takes, whatever its protocol: find the model, read the message,
//! score, reply; with one deadline, one set of metrics and one log line.

use std::sync::Arc;
use std::time::Instant;

use gatefold_engine::{Engine, Features, ModelInfo, ScoreError, ScoreJob, ScoreReply};
use gatefold_features::RawBatch;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument;
use tracing::field::Empty;

use crate::convert::{FieldError, Wanted};
use crate::deadline::Deadline;
use crate::experiments::{Arm, Experiments, Route};
use crate::gate::{Gate, Taken};
use crate::metrics::{Answered, InFlight, Metrics};
use crate::refusals::Refusals;
use crate::request_log::{Record, RequestLog};
use crate::settings::Limits;
use crate::statistics::Statistics;
use crate::status::Refusal;

/// What the scoring services share.
pub struct Scorer {
    /// The engine that scores.
    pub engine: Engine,
    /// What a single request may ask for.
    pub limits: Limits,
    /// Which model scores a unit of an experiment.
    pub experiments: Experiments,
    /// Places for requests.
    pub gate: Gate,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is said of refused requests.
    pub refusals: Arc<Refusals>,
    /// What each model has done.
    pub statistics: Arc<Statistics>,
    /// Where a sample of the requests is kept.
    pub request_log: Option<Arc<RequestLog>>,
    /// True once the server is stopping.
    pub stop: watch::Receiver<bool>,
}

/// A scoring request as one of the protocols has it.
pub(crate) trait Call {
    /// The answer.
    type Reply;
    /// What the request says about its answer, carried from [`Call::read`] to [`Call::reply`].
    type Selection: Send;

    /// The caller's name for the request.
    fn request_id(&self) -> &str;

    /// Who is asked to score.
    fn wanted(&self, limits: &Limits) -> Result<Wanted<'_>, FieldError>;

    /// What is to be scored, with values borrowed from the message.
    fn read(&self, model: &ModelInfo, limits: &Limits)
    -> Result<(Question<'_>, Self::Selection), FieldError>;

    /// The fused score of each candidate, where the request asks for one.
    fn fused(_selection: &Self::Selection, _reply: &ScoreReply) -> Result<Option<Vec<f64>>, FieldError> {
        Ok(None)
    }

    /// The answer to a request whose unit is in `arm`; `started` is when the message had been decoded.
    fn reply(
        self,
        selection: Self::Selection,
        arm: Option<&Arm>,
        reply: ScoreReply,
        started: Instant,
    ) -> Result<Self::Reply, FieldError>;
}

/// What is to be scored.
pub(crate) struct Question<'a> {
    /// The candidates.
    pub(crate) batch: RawBatch<'a>,
    /// Outputs to compute; empty means all.
    pub(crate) outputs: Vec<String>,
    /// Whether gate weights are to be computed, too.
    pub(crate) gates: bool,
    /// When the message says the caller stops waiting, beside the deadline of the call.
    pub(crate) deadline: Option<Instant>,
    /// As in [`ScoreJob`].
    pub(crate) priority: u8,
}

/// Bytes of a request's id that the request log, traces and stderr have: callers choose it, and it is
/// kept once for each candidate.
const ID_BYTES: usize = 256;

fn short(request_id: &str) -> &str {
    &request_id[..request_id.floor_char_boundary(ID_BYTES)]
}

impl Scorer {
    /// Answers a call of one request, which `call` makes of its message.
    pub(crate) async fn answer_call<Message, C: Call>(
        &self,
        request: Request<Message>,
        call: impl FnOnce(Message) -> C,
    ) -> Result<Response<C::Reply>, Status> {
        let (_, extensions, message) = request.into_parts();
        if let Some(taken) = extensions.get::<Taken>() {
            taken.note();
        }
        let deadline = extensions.get::<Deadline>().copied();
        self.answer(call(message), deadline).await.map(Response::new)
    }

    /// Answers one request; counts and logs what became of it.
    pub(crate) async fn answer<C: Call>(
        &self,
        call: C,
        deadline: Option<Deadline>,
    ) -> Result<C::Reply, Status> {
        let started = Instant::now();
        let mut in_flight = self.metrics.arrived(deadline.map(|deadline| deadline.0));
        let span = tracing::debug_span!(
            "score",
            request_id = short(call.request_id()),
            experiment = Empty,
            arm = Empty,
            model = Empty,
            version = Empty,
            candidates = Empty,
            error = Empty
        );
        let request_id = short(call.request_id()).to_owned();
        let result = self.score(call, deadline, started, &mut in_flight).instrument(span.clone()).await;
        let (model, arm) = in_flight.ended(result.as_ref().map_or_else(Refusal::code, |_| Code::Ok));
        result.map_err(|refusal| {
            let refusal = refusal.in_arm(arm.as_ref());
            let _entered = span.entered();
            if let Some(model) = &model {
                self.statistics.failed(model, started.elapsed());
            }
            self.metrics.refused(model.as_ref(), arm.as_deref(), refusal.code(), refusal.reason());
            tracing::Span::current().record("error", refusal.reason().name());
            self.refusals.note(refusal.reason(), model.as_ref(), arm.as_deref(), &request_id);
            tracing::debug!("{refusal}");
            refusal.into()
        })
    }

    /// Scores one request; `in_flight` learns which arm and model it is for as soon as that is known.
    async fn score<C: Call>(
        &self,
        call: C,
        deadline: Option<Deadline>,
        started: Instant,
        in_flight: &mut InFlight<'_>,
    ) -> Result<C::Reply, Refusal> {
        let route = self.experiments.route(call.wanted(&self.limits)?)?;
        if let Some(arm) = route.arm {
            in_flight.is_in(arm);
            tracing::Span::current().record("experiment", &*arm.experiment).record("arm", &*arm.name);
        }
        let info = self.find(&route)?;
        in_flight.is_for(&info.model);
        let (question, selection) = call.read(&info, &self.limits)?;
        let candidates = question.batch.candidates;
        tracing::Span::current()
            .record("model", &*info.model.name)
            .record("version", info.model.version)
            .record("candidates", candidates);
        let checked = started.elapsed();
        let job = ScoreJob {
            model: &info.model.name,
            version: route.version,
            features: Features::Raw(&question.batch),
            outputs: &question.outputs,
            gates: question.gates,
            deadline: deadline.map(|deadline| deadline.0).into_iter().chain(question.deadline).min(),
            priority: question.priority,
        };
        let mut reply = self.engine.score(job).await?;
        let arm = route.arm.cloned();
        self.log::<C>(short(call.request_id()), arm.clone(), &info, &question.batch, &selection, &reply);
        drop(question);
        reply.timings.encode += checked;
        let (model, timings) = (reply.model.clone(), reply.timings);
        let reply = tracing::debug_span!("reply")
            .in_scope(|| call.reply(selection, arm.as_deref(), reply, started))?;
        let total = started.elapsed();
        let (encode, queue) = (timings.encode, timings.queue);
        self.metrics.answered(&model, &Answered { candidates, encode, queue, total });
        self.statistics.answered(&model, candidates, &timings, total);
        Ok(reply)
    }

    /// Keeps the request where it is one of the sample. Not one whose model version was swapped while
    /// it was being scored: its features may be others.
    fn log<C: Call>(
        &self,
        request_id: &str,
        arm: Option<Arc<Arm>>,
        info: &ModelInfo,
        batch: &RawBatch<'_>,
        selection: &C::Selection,
        reply: &ScoreReply,
    ) {
        if let Some(log) = &self.request_log
            && let Some(id) = log.sample(request_id)
            && reply.model == info.model
            && let Ok(fused) = C::fused(selection, reply)
        {
            log.push(Record::new(id, arm, &info.bundle, batch, reply, fused));
        }
    }

    /// The version of a model that takes a request.
    pub(crate) fn find(&self, route: &Route<'_>) -> Result<ModelInfo, Refusal> {
        self.engine.model(route.model, route.version).map_err(|error| match error {
            ScoreError::UnknownModel { .. } if self.engine.models().is_empty() => Refusal::NoModel,
            error => error.into(),
        })
    }

    /// Loaded versions of a model, ascending.
    pub(crate) fn versions(&self, name: &str) -> Vec<u64> {
        let models = self.engine.models();
        models.iter().filter(|info| *info.model.name == *name).map(|info| info.model.version).collect()
    }
}
