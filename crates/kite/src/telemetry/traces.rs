//! Spans on their way to an OpenTelemetry collector, by OTLP over HTTP (protobuf).
//!
//! The exporter is OpenTelemetry's own; it reads the variables of the standard (`OTEL_EXPORTER_OTLP_HEADERS`, `..._TIMEOUT` and others). Spans
//! come ready-made, so that its tracers, which make spans of functions' calls, are not needed: what is followed here outlives every call.

use std::time::Duration;

use anyhow::Context;
use api::trace::{Span, SpanSink};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, TraceId};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Spans of one message. More make messages that collectors refuse.
const MOST: usize = 512;

/// How long spans wait for others, so that those of one start go together.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take for a message. Meanwhile spans wait, and are dropped when there are too many.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the end of the program waits for the last ones.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The way to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    sink: SpanSink,
    ending: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Begins to export to the collector whose address of spans is `endpoint`.
    pub(crate) fn start(endpoint: &str, program: &'static str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(LIMIT).build().context("no client for traces can be made")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(LIMIT)
            .build();
        let mut exporter = exporter.context("traces cannot be exported: check traces.endpoint")?;
        let attributes = [
            KeyValue::new("service.namespace", "kite"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", host_name()),
        ];
        exporter
            .set_resource(&Resource::builder_empty().with_service_name(program).with_attributes(attributes).build());
        let (sink, spans) = SpanSink::new();
        let (ending, ended) = oneshot::channel();
        let task = tokio::spawn(export(exporter, spans, ended));
        info!("traces are exported");
        Ok(Self { sink, ending, task })
    }

    pub(super) fn sink(&self) -> SpanSink {
        self.sink.clone()
    }

    /// Sends what is left.
    pub(super) async fn end(mut self) {
        // Without a receiver the task has ended already.
        let _ended = self.ending.send(());
        if timeout(LAST_WORDS, &mut self.task).await.is_err() {
            self.task.abort();
            warn!("the last spans could not be sent in time");
        }
    }
}

async fn export(exporter: SpanExporter, mut spans: mpsc::Receiver<Span>, mut ending: oneshot::Receiver<()>) {
    let mut batch = Vec::with_capacity(MOST);
    let mut is_failing = false;
    let mut is_ending = false;
    while !is_ending || !spans.is_empty() {
        if !is_ending {
            tokio::select! {
                biased;
                _ = &mut ending => is_ending = true,
                got = spans.recv_many(&mut batch, MOST) => if got == 0 { return },
            }
        }
        if !is_ending {
            tokio::select! { _ = &mut ending => is_ending = true, () = sleep(GATHER) => {} }
        }
        while batch.len() < MOST
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        if batch.is_empty() {
            continue;
        }
        let sent = exporter.export(batch.drain(..).map(span_data).collect()).await;
        // Once, not with every batch. What was not sent is gone: it is not worth a disk.
        match sent {
            Ok(()) => is_failing = false,
            Err(error) if !is_failing => {
                is_failing = true;
                warn!(%error, "traces cannot be exported");
            }
            Err(_same) => {}
        }
    }
}

fn span_data(span: Span) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.trace.bytes()),
        SpanId::from_bytes(span.id.bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.bytes())),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("kite").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
