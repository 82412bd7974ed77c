//! What there is at a moment: sessions, nodes, links. Counted when Prometheus asks, from what is in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::fleet::{Duty, Health};
use api::node::Capacity;
use api::session::{SessionState, WaitCause};
use api::trace::SpanSink;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;

use crate::coordinator::Coordinator;
use crate::coordinator::fleet::Nodes;
use crate::store::SessionRecord;

/// Tenants that have a line of their own: those with the most sessions. More would make a line for each customer that ever played.
const TENANTS: usize = 32;

/// The label of all others.
const OTHER_TENANTS: &str = "other";

/// How often sessions are counted at most. Prometheus asks every 15 s; a busy control plane makes many passes a second.
const PERIOD: Duration = Duration::from_secs(1);

/// Sessions, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By site and state.
    sessions: BTreeMap<(String, &'static str), u64>,
    /// Instances of pools by site, and whether anybody could have them.
    warm: BTreeMap<(String, &'static str), u64>,
    queue: BTreeMap<&'static str, u64>,
    tenants: BTreeMap<String, u64>,
    /// What sessions have of nodes, by site and class.
    used: BTreeMap<(String, String), Sum>,
}

/// What nodes have together, or sessions take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    places: u64,
    pixels: u64,
    cpu_milli: u64,
    memory_mib: u64,
    egress_kbps: u64,
}

impl Sum {
    fn add_session(&mut self, record: &SessionRecord) {
        self.places += 1;
        self.pixels = self.pixels.saturating_add(record.spec.pixels_per_second());
        self.cpu_milli += u64::from(record.demand.cpu_milli);
        self.memory_mib += u64::from(record.demand.memory_mib);
        self.egress_kbps += u64::from(record.demand.egress_kbps);
    }

    /// What a node does not limit has no number.
    fn add_node(&mut self, capacity: Capacity) {
        self.places += u64::from(capacity.sessions);
        self.pixels = self.pixels.saturating_add(capacity.pixels_per_second);
        self.cpu_milli += capacity.cpu_milli.map_or(0, u64::from);
        self.memory_mib += capacity.memory_mib.map_or(0, u64::from);
        self.egress_kbps += capacity.egress_kbps.map_or(0, u64::from);
    }
}

impl Counts {
    /// Of all that live.
    pub(crate) fn of<'a>(nodes: &Nodes, live: impl Iterator<Item = &'a SessionRecord>) -> Self {
        let mut counts = Self::default();
        for cause in [WaitCause::Quota, WaitCause::Capacity] {
            counts.queue.insert(cause_word(cause), 0);
        }
        let mut tenants: BTreeMap<&str, u64> = BTreeMap::new();
        for record in live {
            let node = record.node.and_then(|id| nodes.get(&id));
            let site = node.map_or_else(String::new, |node| node.record.site.clone());
            if let Some(node) = node {
                counts.used.entry((site.clone(), node.record.class.clone())).or_default().add_session(record);
            }
            if record.pool.is_some() {
                let is_ready = matches!(record.state, SessionState::Ready { .. });
                *counts.warm.entry((site, if is_ready { "ready" } else { "other" })).or_default() += 1;
                continue;
            }
            *counts.sessions.entry((site, record.state.name())).or_default() += 1;
            *tenants.entry(&record.tenant).or_default() += 1;
            if let SessionState::Queued { cause } = record.state {
                *counts.queue.entry(cause_word(cause)).or_default() += 1;
            }
        }
        let mut tenants: Vec<_> = tenants.into_iter().collect();
        tenants.sort_by_key(|(name, sessions)| (std::cmp::Reverse(*sessions), *name));
        for (rank, (name, sessions)) in tenants.into_iter().enumerate() {
            let name = if rank < TENANTS { name } else { OTHER_TENANTS };
            *counts.tenants.entry(name.to_owned()).or_default() += sessions;
        }
        counts
    }
}

const fn cause_word(cause: WaitCause) -> &'static str {
    match cause {
        WaitCause::Quota => "quota",
        WaitCause::Capacity => "capacity",
    }
}

const fn health_word(health: Health) -> &'static str {
    match health {
        Health::Awaited => "awaited",
        Health::Alive => "alive",
        Health::Suspect => "suspect",
        Health::Lost => "lost",
    }
}

/// The newest counts.
#[derive(Debug, Default)]
pub(crate) struct Newest(Mutex<(Option<Instant>, Counts)>);

impl Newest {
    /// Counts anew, unless that was done a moment ago.
    pub(crate) fn look<'a>(&self, nodes: &Nodes, live: impl Iterator<Item = &'a SessionRecord>) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0.is_none_or(|at| at.elapsed() >= PERIOD) {
            *newest = (Some(Instant::now()), Counts::of(nodes, live));
        }
    }

    fn get(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// Tells Prometheus what there is.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) newest: Arc<Newest>,
    pub(crate) spans: Option<SpanSink>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct NodeLabels {
    site: String,
    class: String,
    duty: &'static str,
    health: &'static str,
}

type Two<'a> = [(&'static str, &'a str); 2];

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.newest.get();
        let nodes = self.coordinator.fleet.nodes();
        let e = &mut encoder;
        let sessions = counts.sessions.iter().map(|((site, state), n)| (two("site", site, "state", state), whole(*n)));
        gauges(
            e,
            "sessions",
            "Sessions that live, by where they are; site is empty where they have no place",
            sessions,
        )?;
        let warm = counts.warm.iter().map(|((site, state), n)| (two("site", site, "state", state), whole(*n)));
        let help = "Instances of pools: ready for whoever asks, or on their way to that, or to their end";
        gauges(e, "warm_instances", help, warm)?;
        let queue = counts.queue.iter().map(|(cause, n)| ([("cause", *cause)], whole(*n)));
        gauges(e, "session_queue_length", "Sessions that wait for a place", queue)?;
        let tenants = counts.tenants.iter().map(|(name, n)| ([("tenant", name.as_str())], whole(*n)));
        gauges(e, "tenant_sessions", "Sessions of the 32 tenants that have the most, and of all others", tenants)?;
        encode_nodes(e, &nodes, &counts)?;
        let silent = self.coordinator.fleet.silences();
        let silent = silent.iter().map(|(site, silence)| ([("site", site.as_str())], silence.as_secs_f64()));
        let help =
            "How long nothing was heard of the node of a site that is silent for longest; lost ones do not count";
        gauges(e, "node_silence_seconds", help, silent)?;
        gauge(e, "links", "Links of players that are open", whole(self.coordinator.links()))?;
        let dropped = self.spans.as_ref().map_or(0, SpanSink::dropped);
        let mut metric =
            e.encode_descriptor("trace_spans_dropped", "Spans that found no room", None, MetricType::Counter)?;
        metric.encode_counter::<[(&str, &str); 0], _, u64>(&dropped, None)
    }
}

fn encode_nodes(e: &mut DescriptorEncoder<'_>, nodes: &Nodes, counts: &Counts) -> Result<(), fmt::Error> {
    let mut by_state: BTreeMap<NodeLabels, u64> = BTreeMap::new();
    let mut capacity: BTreeMap<(String, String), Sum> = BTreeMap::new();
    for node in nodes.values().filter(|node| node.record.duty != Duty::Retired) {
        let record = &node.record;
        let labels = NodeLabels {
            site: record.site.clone(),
            class: record.class.clone(),
            duty: record.duty.word(),
            health: health_word(node.health),
        };
        *by_state.entry(labels).or_default() += 1;
        let sum = capacity.entry((record.site.clone(), record.class.clone())).or_default();
        if node.is_of_use() {
            sum.add_node(node.capacity());
        }
    }
    let nodes = by_state.into_iter().map(|(labels, n)| (labels, whole(n)));
    gauges(e, "nodes", "Nodes of the fleet; a node that was retired is none", nodes)?;
    let each = |of: fn(Sum) -> u64, from: &BTreeMap<(String, String), Sum>| {
        let line = |(site, class): &(String, String)| {
            let amount = from.get(&(site.clone(), class.clone())).copied().unwrap_or_default();
            (vec![("site", site.clone()), ("class", class.clone())], whole(of(amount)))
        };
        capacity.keys().map(line).collect::<Vec<_>>().into_iter()
    };
    let (has, used) = (&capacity, &counts.used);
    let help = "Sessions that nodes can hold together, of those that take any";
    gauges(e, "places", help, each(|sum| sum.places, has))?;
    gauges(e, "places_used", "Sessions that have a place there", each(|sum| sum.places, used))?;
    let help = "What nodes can encode together, of those that take any, in pixels a second";
    gauges(e, "encoder_pixels_per_second", help, each(|sum| sum.pixels, has))?;
    let help = "What sessions with a place there may need of it, in pixels a second";
    gauges(e, "encoder_used_pixels_per_second", help, each(|sum| sum.pixels, used))?;
    let processors = |from| each(|sum| sum.cpu_milli, from).map(|(labels, milli)| (labels, milli as f64 / 1000.0));
    let help = "Processors that nodes sell together, of those that take any and limit it";
    gauges(e, "processors", help, processors(has))?;
    let help = "What sessions with a place there take of it, as was learnt of their kind, or measured of them";
    gauges(e, "processors_used", help, processors(used))?;
    let help = "Memory that nodes sell together, of those that take any and limit it";
    gauges(e, "memory_bytes", help, each(|sum| sum.memory_mib << 20, has))?;
    let help = "What sessions with a place there take of it, as was learnt of their kind, or measured of them";
    gauges(e, "memory_used_bytes", help, each(|sum| sum.memory_mib << 20, used))?;
    let help = "What nodes can send to players together, of those that take any and limit it, in bits a second";
    gauges(e, "egress_bits_per_second", help, each(|sum| sum.egress_kbps * 1000, has))?;
    let help = "What sessions with a place there take of it, as was learnt of their kind, or measured of them";
    gauges(e, "egress_used_bits_per_second", help, each(|sum| sum.egress_kbps * 1000, used))
}

/// One family of gauges with its lines.
fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    lines: impl Iterator<Item = (L, V)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in lines {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn two<'a>(first: &'static str, value: &'a str, second: &'static str, other: &'a str) -> Two<'a> {
    [(first, value), (second, other)]
}

/// One gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
