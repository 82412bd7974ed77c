//! What a node counts, for Prometheus. Names are without the prefix `kite_`, which the registry adds. No instance has a line of its own.
//!
//! Nothing is counted a frame: streamers report about once in five seconds, and each report is one observation of a session. What there is at a
//! moment is counted when Prometheus asks, from the newest report to the control plane.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::content::ReplicaState;
use api::id::InstanceId;
use api::node::{InstanceState, NodeRefusal, ObservedInstance, ObservedNode, PlayerPresence};
use api::session::EndReason;
use api::streamer::StreamStatistics;
use content::Volume;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sandbox::Usage;
use tokio::sync::watch;

use crate::disk;
use crate::settings::NodeSettings;
use crate::steps::Stage;

type Word = [(&'static str, &'static str); 1];

/// No labels.
const NONE: [(&str, &str); 0] = [];

/// From directories (a millisecond) to a large release that is fetched.
const START_SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];
/// Around the rates that games and displays have.
const FRAMES_PER_SECOND: [f64; 12] = [1.0, 5.0, 10.0, 20.0, 25.0, 29.0, 40.0, 50.0, 55.0, 59.0, 75.0, 119.0];
/// Ways that are playable, and those that are not.
const ROUND_TRIP_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.08, 0.12, 0.25, 1.0];
/// From a picture at 120 a second (8 ms) to one that everybody sees lag.
const PHOTON_SECONDS: [f64; 11] = [0.008, 0.016, 0.025, 0.035, 0.05, 0.065, 0.08, 0.1, 0.15, 0.25, 1.0];
const ENCODE_SECONDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.033, 0.1];
const BITS_PER_SECOND: [f64; 10] = [1e5, 3e5, 1e6, 2e6, 4e6, 8e6, 12e6, 16e6, 24e6, 5e7];
const LOSS: [f64; 8] = [0.0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2];

/// The counters of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    starts: Family<Word, Histogram>,
    start_failures: Family<Word, Counter>,
    ends: Family<Word, Counter>,
    frames: Histogram,
    bits: Histogram,
    encode: Histogram,
    round_trip: Histogram,
    loss: Histogram,
    photon: Histogram,
    age: Histogram,
    cpu: Counter<f64>,
    /// What each game used at the last look: the counter gets the difference.
    used: Mutex<BTreeMap<InstanceId, Usage>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            starts: Family::new_with_constructor(|| Histogram::new(START_SECONDS)),
            start_failures: Family::default(),
            ends: Family::default(),
            frames: Histogram::new(FRAMES_PER_SECOND),
            bits: Histogram::new(BITS_PER_SECOND),
            encode: Histogram::new(ENCODE_SECONDS),
            round_trip: Histogram::new(ROUND_TRIP_SECONDS),
            loss: Histogram::new(LOSS),
            photon: Histogram::new(PHOTON_SECONDS),
            age: Histogram::new(PHOTON_SECONDS),
            cpu: Counter::default(),
            used: Mutex::default(),
        };
        // From the beginning, so that the first event is a step up and no new line, which rates do not see.
        for stage in Stage::ALL {
            drop(metrics.starts.get_or_create(&[("stage", stage.word())]));
            drop(metrics.start_failures.get_or_create(&[("stage", stage.word())]));
        }
        for reason in EndReason::ALL {
            drop(metrics.ends.get_or_create(&[("reason", reason.word())]));
        }
        metrics
    }

    fn register(&self, r: &mut Registry) {
        r.register("instance_start_seconds", "How long a stage of an instance's start took", self.starts.clone());
        let help = "Stages of an instance's start that went wrong";
        r.register("instance_start_failures", help, self.start_failures.clone());
        r.register("instance_ends", "Instances that ended, by reason", self.ends.clone());
        r.register("instance_cpu_seconds", "Processor time that games used", self.cpu.clone());
        let help = "Frames sent a second, about every five seconds of a session";
        r.register("stream_frames_per_second", help, self.frames.clone());
        let help = "Video bits a second, about every five seconds of a session";
        r.register("stream_video_bits_per_second", help, self.bits.clone());
        let help = "Median time of encoding, about every five seconds of a session";
        r.register("stream_encode_seconds", help, self.encode.clone());
        let help = "Round trip to the player, about every five seconds of a session; unknown ones are left out";
        r.register("stream_round_trip_seconds", help, self.round_trip.clone());
        let help = "Share of packets that were lost, 0 to 1, about every five seconds of a session";
        r.register("stream_loss_ratio", help, self.loss.clone());
        let help = "Median time from an input to the frame that shows it, as the player measured it; unknown ones are left out";
        r.register("stream_input_to_photon_seconds", help, self.photon.clone());
        let help = "Median age of a frame when it is shown, as the player measured it; unknown ones are left out";
        r.register("stream_frame_age_seconds", help, self.age.clone());
    }

    /// A stage of a start is over.
    pub(crate) fn stage(&self, stage: Stage, took: Duration, has_failed: bool) {
        let labels = [("stage", stage.word())];
        self.starts.get_or_create(&labels).observe(took.as_secs_f64());
        if has_failed {
            self.start_failures.get_or_create(&labels).inc();
        }
    }

    pub(crate) fn ended(&self, reason: EndReason) {
        self.ends.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// A streamer reported.
    pub(crate) fn stream(&self, figures: &StreamStatistics) {
        self.frames.observe(figures.frames_per_second.into());
        self.bits.observe(f64::from(figures.video_kbps) * 1000.0);
        self.loss.observe(figures.loss.into());
        let measured = [
            (&self.encode, figures.encode_ms),
            (&self.round_trip, figures.round_trip_ms),
            (&self.photon, figures.input_to_photon_ms),
            (&self.age, figures.frame_age_ms),
        ];
        for (histogram, ms) in measured.into_iter().filter(|(_, ms)| *ms > 0.0) {
            histogram.observe(f64::from(ms) / 1000.0);
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Usage>> {
        // No code between lock and unlock can panic halfway through a change.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A game used so much until now.
    pub(crate) fn usage(&self, instance: InstanceId, usage: Usage) {
        let before = self.used().insert(instance, usage).map_or(Duration::ZERO, |before| before.cpu_time);
        self.cpu.inc_by(usage.cpu_time.saturating_sub(before).as_secs_f64());
    }

    /// Nothing of an instance is left.
    pub(crate) fn gone(&self, instance: InstanceId) {
        self.used().remove(&instance);
    }
}

/// All that there is to be counted.
pub(crate) fn registry(
    metrics: &Arc<Metrics>,
    settings: Arc<NodeSettings>,
    volume: Volume,
    newest: watch::Receiver<Option<ObservedNode>>,
) -> Registry {
    let mut registry = Registry::with_prefix("kite");
    metrics.register(&mut registry);
    registry.register_collector(Box::new(Machine { metrics: Arc::clone(metrics), settings, volume, newest }));
    registry
}

/// Tells Prometheus what there is.
#[derive(Debug)]
struct Machine {
    metrics: Arc<Metrics>,
    settings: Arc<NodeSettings>,
    volume: Volume,
    newest: watch::Receiver<Option<ObservedNode>>,
}

const fn state_word(state: &InstanceState) -> &'static str {
    match state {
        InstanceState::ContentFetching => "content_fetching",
        InstanceState::StreamerStarting => "streamer_starting",
        InstanceState::Prepared => "prepared",
        InstanceState::GameStarting => "game_starting",
        InstanceState::Running { .. } => "running",
        InstanceState::Stopping { .. } => "stopping",
        InstanceState::Ended { .. } => "ended",
    }
}

const STATES: [&str; 7] =
    ["content_fetching", "streamer_starting", "prepared", "game_starting", "running", "stopping", "ended"];

const fn replica_word(state: &ReplicaState) -> &'static str {
    match state {
        ReplicaState::Absent => "absent",
        ReplicaState::Replicating { .. } => "replicating",
        ReplicaState::Present { .. } => "present",
        ReplicaState::Verifying { .. } => "verifying",
        ReplicaState::Corrupt { .. } => "corrupt",
        ReplicaState::Failed { .. } => "failed",
        ReplicaState::Evicting => "evicting",
    }
}

const REPLICAS: [&str; 7] = ["absent", "replicating", "present", "verifying", "corrupt", "failed", "evicting"];

const fn refusal_word(refusal: &NodeRefusal) -> &'static str {
    match refusal {
        NodeRefusal::DiskFull { .. } => "disk_full",
        NodeRefusal::Stopping => "stopping",
    }
}

impl Collector for Machine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        // Not held: who reports would wait.
        let observed = self.newest.borrow().clone();
        self.instances(e, observed.as_ref())?;
        self.volume(e, observed.as_ref())?;
        self.disks(e)
    }
}

impl Machine {
    fn instances(&self, e: &mut DescriptorEncoder<'_>, observed: Option<&ObservedNode>) -> Result<(), fmt::Error> {
        let instances = observed.map_or(&[][..], |observed| &observed.instances);
        let mut states: BTreeMap<&str, i64> = STATES.into_iter().map(|state| (state, 0)).collect();
        for instance in instances {
            *states.entry(state_word(&instance.state)).or_default() += 1;
        }
        let players = instances.iter().filter(|instance| instance.player == PlayerPresence::Connected).count();
        let lines = states.into_iter().map(|(state, n)| ([("state", state)], n));
        gauges(e, "instances", "Instances that the node has, by state; ended ones are forgotten soon", lines)?;
        gauge(e, "instance_players", "Instances whose player is connected", whole(players as u64))?;
        let capacity = self.settings.capacity;
        gauge(e, "node_places", "Sessions that the node can hold", i64::from(capacity.sessions))?;
        let pixels = whole(capacity.pixels_per_second);
        gauge(e, "node_encoder_pixels_per_second", "Pixels a second that it can encode", pixels)?;
        let processors = capacity.cpu_milli.map(|milli| f64::from(milli) / 1000.0);
        let help = "Processors that are sold; without a line when they are not limited";
        gauges(e, "node_processors", help, processors.into_iter().map(|amount| (NONE, amount)))?;
        let memory = capacity.memory_mib.map(|mib| whole(u64::from(mib) << 20));
        let help = "Memory that is sold; without a line when it is not limited";
        gauges(e, "node_memory_bytes", help, memory.into_iter().map(|amount| (NONE, amount)))?;
        let egress = capacity.egress_kbps.map(|kbps| whole(u64::from(kbps) * 1000));
        let help = "What may go out to players, in bits a second; without a line when it is not limited";
        gauges(e, "node_egress_bits_per_second", help, egress.into_iter().map(|amount| (NONE, amount)))?;
        self.measured(e, instances)?;
        let refusal = observed.and_then(|observed| observed.refuses.as_ref()).map(refusal_word);
        let lines = ["disk_full", "stopping"].map(|word| ([("reason", word)], i64::from(refusal == Some(word))));
        gauges(e, "node_refusing", "1 while the node takes no new instance for this reason", lines.into_iter())?;
        let memory = self.metrics.used().values().map(|usage| usage.memory_bytes).sum();
        gauge(e, "instance_memory_bytes", "Memory that games have together", whole(memory))
    }

    /// What was measured of all that are played, together.
    fn measured(&self, e: &mut DescriptorEncoder<'_>, instances: &[ObservedInstance]) -> Result<(), fmt::Error> {
        let played = || instances.iter().filter(|instance| instance.player == PlayerPresence::Connected);
        let usages = || played().filter_map(|instance| instance.usage);
        let milli: u64 = usages().map(|usage| u64::from(usage.cpu_milli)).sum();
        let help = "Processors that instances with a player took at the last look, their streamers included";
        gauges(e, "instance_processors", help, std::iter::once((NONE, milli as f64 / 1000.0)))?;
        let mib: u64 = usages().map(|usage| u64::from(usage.memory_mib)).sum();
        let help = "Memory that could not be taken from them, their streamers included";
        gauge(e, "instance_working_set_bytes", help, whole(mib << 20))?;
        let kbps: u64 = usages().map(|usage| u64::from(usage.egress_kbps)).sum();
        gauge(e, "instance_egress_bits_per_second", "What went out to their players", whole(kbps * 1000))
    }

    fn volume(&self, e: &mut DescriptorEncoder<'_>, observed: Option<&ObservedNode>) -> Result<(), fmt::Error> {
        let mut states: BTreeMap<&str, i64> = REPLICAS.into_iter().map(|state| (state, 0)).collect();
        let mut bytes = 0;
        for replica in observed.map_or(&[][..], |observed| &observed.replicas) {
            *states.entry(replica_word(&replica.state)).or_default() += 1;
            bytes += match replica.state {
                ReplicaState::Present { bytes } => bytes,
                ReplicaState::Replicating { bytes_done, .. } => bytes_done,
                ReplicaState::Verifying { bytes_total, .. } => bytes_total,
                ReplicaState::Absent
                | ReplicaState::Corrupt { .. }
                | ReplicaState::Failed { .. }
                | ReplicaState::Evicting => 0,
            };
        }
        let lines = states.into_iter().map(|(state, n)| ([("state", state)], n));
        gauges(e, "volume_replicas", "Releases on the site's volume, by what becomes of them", lines)?;
        let help = "Bytes of the releases on the volume; files that releases share count in each";
        gauge(e, "volume_bytes", help, whole(bytes))?;
        let help = "Bytes that were fetched to the volume";
        let mut metric = e.encode_descriptor("volume_fetched_bytes", help, None, MetricType::Counter)?;
        metric.encode_counter::<[(&str, &str); 0], _, u64>(&self.volume.fetched_bytes(), None)
    }

    fn disks(&self, e: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let settings = &self.settings;
        let dirs: [(&str, &Path); 3] =
            [("data", &settings.data_dir), ("work", &settings.work_dir), ("volume", &settings.volume.dir)];
        // What cannot be looked at has no line: an alert on absence sees that.
        let spaces: Vec<_> = dirs.into_iter().filter_map(|(of, dir)| Some((of, disk::space(dir).ok()?))).collect();
        let lines = spaces.iter().map(|(of, space)| ([("of", *of)], whole(space.free_bytes)));
        gauges(e, "disk_free_bytes", "Free bytes where the node keeps its data, instances, releases", lines)?;
        let lines = spaces.iter().map(|(of, space)| ([("of", *of)], whole(space.total_bytes)));
        gauges(e, "disk_size_bytes", "Bytes of the same disks", lines)
    }
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

/// One gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
