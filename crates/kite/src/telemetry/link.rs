//! A node's link to its control plane, counted.

use std::fmt;
use std::sync::Arc;

use link::ConnectionState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

#[derive(Debug)]
struct State(watch::Receiver<ConnectionState>);

/// Counts until the link has ended.
pub(crate) fn watch_link(state: watch::Receiver<ConnectionState>) -> Arc<Registry> {
    let mut registry = Registry::with_prefix("kite");
    let connections: Counter = Counter::default();
    let help = "How often the node was connected to a control plane; more than once are reconnects";
    registry.register("node_link_connections", help, connections.clone());
    registry.register_collector(Box::new(State(state.clone())));
    tokio::spawn(count(state, connections));
    Arc::new(registry)
}

/// One that breaks and stands again between two looks counts once.
async fn count(mut state: watch::Receiver<ConnectionState>, connections: Counter) {
    loop {
        if matches!(&*state.borrow_and_update(), ConnectionState::Connected { .. }) {
            connections.inc();
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let silence = match &*self.0.borrow() {
            ConnectionState::Connected { heard, .. } => Some(heard.silent_for()),
            ConnectionState::Connecting { .. } | ConnectionState::Refused(_) | ConnectionState::Closed => None,
        };
        let help = "1 while a control plane is connected";
        let mut metric = encoder.encode_descriptor("node_link_connected", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&i64::from(silence.is_some()))?;
        let help = "How long nothing was heard of the control plane, while one is connected";
        let mut metric = encoder.encode_descriptor("node_link_silence_seconds", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&silence.unwrap_or_default().as_secs_f64())
    }
}
