//! The spans of `tracing` as OTLP spans: ids and times from their beginning to their end.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gatefold_proto::opentelemetry as otlp;
use otlp::any_value::Value;
use tokio::sync::mpsc::Sender;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context as Spans, Layer};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::context::{Context, Sampling};

/// Follows the spans and passes those that end on to the exporter.
#[derive(Debug)]
pub struct TraceLayer {
    sampling: Sampling,
    ended: Sender<otlp::Span>,
}

/// What is kept with a span until it ends.
struct Open {
    context: Context,
    /// Whether it is recorded as soon as one of those is that it follows, as a batch its requests.
    follows: bool,
    begun: Instant,
    span: otlp::Span,
}

impl TraceLayer {
    pub(super) fn new(sampling: Sampling, ended: Sender<otlp::Span>) -> Self {
        Self { sampling, ended }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, spans: Spans<'_, S>) {
        let Some(span) = spans.span(id) else { return };
        let parent = match attributes.parent() {
            Some(parent) => spans.span(parent),
            None if attributes.is_contextual() => spans.lookup_current(),
            None => None,
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = parent.as_ref().and_then(context).or_else(|| Context::parse(&fields.traceparent));
        let context = match parent {
            Some(parent) => Context { span: self.sampling.id(), ..parent },
            // Nothing caused it so far; what it follows may.
            None if attributes.is_root() => Context { sampled: false, ..self.sampling.begin() },
            None => self.sampling.begin(),
        };
        let mut open = otlp::Span::default();
        if context.sampled || attributes.is_root() {
            open.trace_id = context.trace.to_be_bytes().to_vec();
            open.span_id = context.span.to_be_bytes().to_vec();
            open.parent_span_id = parent.map_or_else(Vec::new, |parent| parent.span.to_be_bytes().to_vec());
            open.name = fields.name.unwrap_or_else(|| attributes.metadata().name().to_owned());
            open.kind = fields.kind.into();
            open.start_time_unix_nano = nanoseconds(SystemTime::now());
            open.attributes = fields.attributes;
        }
        let open = Open { context, follows: attributes.is_root(), begun: Instant::now(), span: open };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, spans: Spans<'_, S>) {
        let Some(span) = spans.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>()
            && open.context.sampled
        {
            let mut fields = Fields::default();
            values.record(&mut fields);
            open.span.attributes.append(&mut fields.attributes);
            if let Some(message) = fields.error {
                let code = otlp::status::Code::Error.into();
                open.span.status = Some(otlp::Status { message, code });
            }
        }
    }

    fn on_follows_from(&self, id: &Id, followed: &Id, spans: Spans<'_, S>) {
        let (Some(span), Some(followed)) = (spans.span(id), spans.span(followed)) else { return };
        let Some(followed) = context(&followed).filter(|followed| followed.sampled) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            open.context.sampled |= open.follows;
            open.span.links.push(otlp::Link {
                trace_id: followed.trace.to_be_bytes().to_vec(),
                span_id: followed.span.to_be_bytes().to_vec(),
            });
        }
    }

    fn on_close(&self, id: Id, spans: Spans<'_, S>) {
        let Some(open) = spans.span(&id).and_then(|span| span.extensions_mut().remove::<Open>()) else {
            return;
        };
        if !open.context.sampled {
            return;
        }
        let mut span = open.span;
        span.end_time_unix_nano = span.start_time_unix_nano + open.begun.elapsed().as_nanos() as u64;
        // A full queue is the exporter's to speak of; nothing waits here.
        let _ = self.ended.try_send(span);
    }
}

fn context<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<Context> {
    span.extensions().get::<Open>().map(|open| open.context)
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// The fields of a span: those that say what it is, and the others.
#[derive(Default)]
struct Fields {
    name: Option<String>,
    kind: otlp::span::Kind,
    traceparent: String,
    error: Option<String>,
    attributes: Vec<otlp::KeyValue>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let value = Some(otlp::AnyValue { value: Some(value) });
        self.attributes.push(otlp::KeyValue { key: field.name().to_owned(), value });
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = Some(value.to_owned()),
            "otel.kind" if value == "server" => self.kind = otlp::span::Kind::Server,
            "traceparent" => self.traceparent = value.to_owned(),
            "error" => self.error = Some(value.to_owned()),
            _ => self.add(field, Value::StringValue(value.to_owned())),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::BoolValue(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::IntValue(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::DoubleValue(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
