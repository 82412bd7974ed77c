//! Watches what becomes of sessions: counts it, and writes the spans of their traces. Whatever is wrong with it changes nothing for a session.
//!
//! The ways of sessions ([`crate::journey`]) are in memory alone: a process that begins anew knows no traces of the sessions that it finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::SessionState;
use api::trace::{SpanId, SpanSink, TraceId, TraceParent};
use prometheus_client::registry::Registry;

use crate::coordinator::Coordinator;
use crate::coordinator::fleet::Nodes;
use crate::journey::{self, Journey, Moment, Trace};
use crate::metrics::fleet::{Fleet, Newest};
use crate::metrics::{Metrics, SaveStep};
use crate::store::{SessionRecord, Store};

/// Ways that are remembered. There are as many as sessions live; what is beyond are sessions whose end another process saw.
const MOST_JOURNEYS: usize = 65_536;

/// What is known of sessions' ways, and where it is counted.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Metrics,
    newest: Arc<Newest>,
    journeys: Mutex<BTreeMap<SessionId, Journey>>,
    spans: Option<SpanSink>,
}

impl Observer {
    pub(crate) fn new(spans: Option<SpanSink>) -> Self {
        Self { metrics: Metrics::new(), newest: Arc::default(), journeys: Mutex::default(), spans }
    }

    /// All that there is to be counted.
    pub(crate) fn registry(&self, store: &Store, coordinator: &Arc<Coordinator>) -> Registry {
        let mut registry = Registry::with_prefix("kite");
        self.metrics.register(&mut registry);
        store.calls().register(&mut registry);
        registry.register_collector(Box::new(Fleet {
            coordinator: Arc::clone(coordinator),
            newest: Arc::clone(&self.newest),
            spans: self.spans.clone(),
        }));
        registry
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Journey>> {
        // No code between lock and unlock can panic halfway through a change.
        self.journeys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session is asked for, by a client that said what it belongs to, or did not. Before anything becomes of it.
    pub(crate) fn asked(&self, record: &SessionRecord, parent: Option<TraceParent>) {
        let trace = match parent {
            Some(parent) => Some(Trace {
                trace: parent.trace,
                parent: Some(parent.span),
                span: SpanId::new(random()),
                sampled: parent.sampled,
            }),
            // Of a client that knows nothing of traces: it begins here, where somebody wants to see it.
            None => self.spans.as_ref().map(|_| Trace {
                trace: TraceId::new(random()),
                parent: None,
                span: SpanId::new(random()),
                sampled: true,
            }),
        };
        let mut journeys = self.lock();
        journeys.insert(record.id, Journey::new(record.created_at, trace));
        if journeys.len() > MOST_JOURNEYS {
            // Ids are in the order of their coming.
            journeys.pop_first();
        }
    }

    /// The session was not made.
    pub(crate) fn forget(&self, id: SessionId) {
        self.lock().remove(&id);
    }

    /// A session that was there before this process.
    pub(crate) fn adopt(&self, record: &SessionRecord, now: UtcTime) {
        if record.pool.is_some() {
            return;
        }
        self.lock().entry(record.id).or_insert_with(|| Journey::adopted(record, now));
    }

    /// Where a session's work belongs.
    pub(crate) fn trace(&self, id: SessionId) -> Option<TraceParent> {
        self.lock().get(&id).and_then(|journey| journey.trace).map(Trace::below)
    }

    /// A session is something else now.
    pub(crate) fn changed(&self, record: &SessionRecord, site: &str, now: UtcTime) {
        // A warm instance is nobody's way.
        if record.pool.is_some() {
            return;
        }
        let mut journeys = self.lock();
        let journey = journeys.entry(record.id).or_insert_with(|| met(record, now));
        let moments = journey.step(record, now);
        let (trace, has_queued) = (journey.trace, journey.has_queued);
        if record.state.is_ended() {
            journeys.remove(&record.id);
        }
        drop(journeys);
        for moment in moments {
            self.count(moment, site, has_queued);
            if let (Moment::Passed { name, from, failure }, Some(trace), Some(spans)) = (moment, trace, &self.spans)
                && trace.sampled
            {
                spans.record(journey::span(trace, (name, from, now), failure, SpanId::new(random()), record));
            }
        }
    }

    fn count(&self, moment: Moment, site: &str, has_queued: bool) {
        let metrics = &self.metrics;
        match moment {
            Moment::Placed { waited } => metrics.placed(site, waited),
            Moment::Reached { stage, after } => metrics.reached(stage, after, has_queued),
            Moment::Started(outcome) => metrics.started(site, outcome),
            Moment::Played(time) => metrics.played(time),
            Moment::Interrupted => metrics.interrupted(),
            Moment::InterruptedFor(time) => metrics.interrupted_for(time),
            Moment::Recovering => metrics.recovering(),
            Moment::Ended { reason, party } => metrics.ended(reason, party),
            Moment::Unsaved => metrics.save_failed(SaveStep::Capture),
            Moment::Passed { .. } => {}
        }
    }

    /// All nodes, and all sessions that live.
    pub(crate) fn looked<'a>(&self, nodes: &Nodes, live: impl Iterator<Item = &'a SessionRecord>) {
        self.newest.look(nodes, live);
        for node in nodes.values() {
            self.metrics.meet_site(&node.record.site);
        }
    }

    /// A pass over everything is over.
    pub(crate) fn passed(&self, took: Duration, is_good: bool, now: UtcTime) {
        self.metrics.passed(took, is_good.then_some(now));
    }
}

/// The way of a session of which this process hears for the first time: another one began it.
fn met(record: &SessionRecord, now: UtcTime) -> Journey {
    match record.state {
        SessionState::Requested
        | SessionState::Queued { .. }
        | SessionState::Offered { .. }
        | SessionState::Reserved
        | SessionState::Preparing { .. } => Journey::new(record.created_at, None),
        SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. }
        | SessionState::Recovering { .. }
        | SessionState::Stopping { .. }
        | SessionState::Ended { .. } => Journey::adopted(record, now),
    }
}

/// Random bytes for an id. Without any, which no Linux has come to, traces of sessions run together and nothing else happens.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::debug!("no random bytes for a trace");
    }
    bytes
}
