//! What a program tells of itself: metrics that Prometheus fetches, spans that go to an OpenTelemetry collector. Off unless somebody asks for it.
//!
//! Deliberately absent: what is counted. That is `control`'s and `node`'s; here are the ways out.

mod link;
mod listener;
mod process;
mod traces;

use std::sync::Arc;

use api::trace::SpanSink;
use prometheus_client::registry::Registry;

pub(crate) use self::link::watch_link;
pub(crate) use self::listener::{Listen, Listener};
pub(crate) use self::traces::Exporter;

/// What the configuration says of both.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    pub(crate) listen: Option<Listen>,
    /// Address of the collector's spans.
    pub(crate) traces: Option<String>,
}

/// Both, begun as far as it goes before there is anything to tell.
#[derive(Debug)]
pub(crate) struct Begun {
    listener: Option<Listener>,
    exporter: Option<Exporter>,
}

impl Telemetry {
    /// Binds the listener and makes the exporter, so that what is wrong with either is said before anything is started.
    pub(crate) async fn begin(self, program: &'static str) -> anyhow::Result<Begun> {
        let listener = match self.listen {
            Some(listen) => Some(Listener::bind(listen).await?),
            None => None,
        };
        let exporter = self.traces.map(|endpoint| Exporter::start(&endpoint, program)).transpose()?;
        Ok(Begun { listener, exporter })
    }
}

impl Begun {
    /// Where spans go.
    pub(crate) fn spans(&self) -> Option<SpanSink> {
        self.exporter.as_ref().map(Exporter::sink)
    }

    /// Serves these, and the process's own, until the program ends.
    pub(crate) fn serve(&mut self, registries: Vec<Arc<Registry>>) {
        if let Some(listener) = self.listener.take() {
            listener.spawn(registries);
        }
    }

    /// Sends what is left, bounded.
    pub(crate) async fn end(self) {
        if let Some(exporter) = self.exporter {
            exporter.end().await;
        }
    }
}
