//! The reconciler: one task that compares what is desired with what is there.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::content::{ReplicaPolicy, ReplicaState};
use api::id::InstanceId;
use api::node::{
    DesiredInstance, DesiredInstances, DesiredReplica, FromNode, InstanceState, NodeEnd, NodeRefusal, ObservedInstance,
    ObservedNode, ObservedReplica, OfferFailure, ProbeOutcome, ToNode,
};
use api::session::EndReason;
use content::{Policy, RootId, Store, Volume};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::commands::{self, Commands};
use crate::echo::{self, Echo};
use crate::instance::{self, Command, Instance};
use crate::leftover::Swept;
use crate::metrics::Metrics;
use crate::settings::NodeSettings;
use crate::steps::Steps;
use crate::{disk, leftover, metrics, place};

/// How often everything is reported though nothing changed, and the disk is looked at.
const REPORT_PERIOD: Duration = Duration::from_secs(2);

/// How soon a change on the site's volume is reported. Shorter reports every few chunks that a fetch brings.
const CONTENT_PERIOD: Duration = Duration::from_millis(100);

/// Longest wait for a streamer's answer to an offer. Longer than its start, because offers may come before it is up.
const OFFER_TIMEOUT: Duration = Duration::from_secs(20);

/// Commands that wait for an instance. It takes them at once, but for the moments in which its game is started.
const COMMANDS: usize = 16;

/// Longest wait for another node's witness. It answers within a round trip; longer only delays the word that it is dead.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Probes of other nodes at once. A few are asked for each node that is suspected; more would only be more sockets.
const PROBES: usize = 32;

/// Longest wait for the echo's answer to an offer. It answers in a millisecond, and whoever measures has two seconds.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Most instances of a node, whatever its capacity says: user ids and ports are counted by it.
const MAX_SLOTS: u32 = 999;

/// Which user of the node's thousand the echo is.
const ECHO_SLOT: u32 = MAX_SLOTS;

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory cannot be made: choose another data directory, or give the right to write there.
    #[error("cannot use {path}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The content store or the site's volume cannot be opened: check the settings and the directories.
    #[error("the content store or the site's volume cannot be opened")]
    Content(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `kite-streamer` is missing: build or install it beside `kite`.
    #[error("there is no streamer at {path}")]
    Streamer {
        /// Where it was looked for.
        path: String,
    },
    /// Another agent uses the same directories: stop it, or choose another data directory.
    #[error("another kite uses {path}")]
    Locked {
        /// The lock.
        path: String,
    },
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    swept: Swept,
    registry: Arc<Registry>,
}

impl Agent {
    /// Removes what earlier agents left, then takes work.
    ///
    /// Needs a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(settings: NodeSettings, link: NodeEnd) -> Result<Self, StartError> {
        if !settings.streamer_program.is_file() {
            return Err(StartError::Streamer { path: settings.streamer_program.display().to_string() });
        }
        let directory = |source| StartError::Directory { path: settings.data_dir.display().to_string(), source };
        place::create_shared(&settings).map_err(directory)?;
        let lock = lock(&settings)?;
        commands::open_notes(&settings).map_err(directory)?;
        let (store, volume) = (settings.store.clone(), settings.volume.clone());
        let volume = tokio::task::spawn_blocking(move || {
            let store = Store::open(&store).map_err(|error| StartError::Content(Box::new(error)))?;
            Volume::open(volume, store).map_err(|error| StartError::Content(Box::new(error)))
        });
        let volume = volume.await.map_err(|error| directory(io::Error::other(error)))??;
        let (instances_dir, runtime_dir) = (place::instances_dir(&settings), settings.runtime_dir.clone());
        let echo_group = echo::group(&settings);
        let swept = tokio::task::spawn_blocking(move || {
            let mut swept = leftover::sweep(&instances_dir, &runtime_dir);
            swept.control_groups += sandbox::sweep(&echo_group).len();
            swept
        });
        let swept = swept.await;
        let swept = swept.map_err(|error| directory(io::Error::other(error)))?;
        if !swept.is_empty() {
            tracing::info!(
                processes = swept.processes,
                directories = swept.directories,
                control_groups = swept.control_groups,
                "removed what an earlier run left"
            );
        }
        let (stop, stopping) = watch::channel(false);
        let (settings, changed) = (Arc::new(settings), Arc::new(Notify::new()));
        let metrics = Arc::new(Metrics::new());
        let (reports, newest) = watch::channel(None);
        let registry = metrics::registry(&metrics, Arc::clone(&settings), volume.clone(), newest);
        let root = rustix::process::geteuid().is_root();
        let echo_uid = root.then(|| settings.uid_base.saturating_add(ECHO_SLOT));
        let reconciler = Reconciler {
            root,
            echo: Echo::start(&settings, echo_uid, Arc::clone(&changed)),
            groups: gpu_groups(),
            commands: Commands::new(Arc::clone(&settings), Arc::clone(&changed)),
            settings,
            metrics,
            volume,
            entries: BTreeMap::new(),
            changed,
            refuses: None,
            probes: Arc::new(Semaphore::new(PROBES)),
            _lock: lock,
        };
        let task = tokio::spawn(reconciler.run(link, reports, stopping));
        Ok(Self { stop, task, swept, registry: Arc::new(registry) })
    }

    /// What earlier agents had left.
    #[must_use]
    pub fn swept(&self) -> &Swept {
        &self.swept
    }

    /// What it counts, for Prometheus.
    #[must_use]
    pub fn metrics(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Stops all instances gracefully; returns when nothing of them is left.
    pub async fn stop(self) {
        // Without a receiver the task has ended already.
        let _ended = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the agent ended badly");
        }
    }
}

fn lock(settings: &NodeSettings) -> Result<std::fs::File, StartError> {
    let path = settings.data_dir.join("node.lock");
    let name = path.display().to_string();
    let file = std::fs::File::create(&path).map_err(|source| StartError::Directory { path: name.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_taken) => Err(StartError::Locked { path: name }),
    }
}

/// Group ids of `video` and `render`, which own the GPU's device files on all distributions.
fn gpu_groups() -> Vec<u32> {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            if name == "video" || name == "render" { fields.nth(1)?.parse().ok() } else { None }
        })
        .collect()
}

/// An instance as the reconciler knows it.
#[derive(Debug)]
struct Entry {
    epoch: u32,
    slot: u32,
    commands: mpsc::Sender<Command>,
    observed: watch::Receiver<ObservedInstance>,
    stop_sent: bool,
    /// Nobody has it, as far as it knows.
    is_warm: bool,
    /// Captures of its save that it knows to be versions.
    committed: u32,
}

#[derive(Debug)]
struct Reconciler {
    settings: Arc<NodeSettings>,
    metrics: Arc<Metrics>,
    volume: Volume,
    root: bool,
    groups: Vec<u32>,
    entries: BTreeMap<InstanceId, Entry>,
    commands: Commands,
    /// To which clients measure the way; `None` where the settings have no room for it.
    echo: Option<Echo>,
    changed: Arc<Notify>,
    refuses: Option<NodeRefusal>,
    probes: Arc<Semaphore>,
    /// Held as long as this agent works on its directories.
    _lock: std::fs::File,
}

impl Reconciler {
    async fn run(
        mut self,
        mut link: NodeEnd,
        reports: watch::Sender<Option<ObservedNode>>,
        mut stopping: watch::Receiver<bool>,
    ) {
        // Reports go through a task of their own, so that this one never waits for the control plane: two sides that
        // wait for each other would stand still.
        let reporter = tokio::spawn(report(reports.subscribe(), link.to_control.clone()));
        let mut period = tokio::time::interval(REPORT_PERIOD);
        let changed = Arc::clone(&self.changed);
        let mut contents = self.volume.watch();
        let volume = self.volume.clone();
        let mut scrub = std::pin::pin!(volume.scrub());
        let mut connected = true;
        loop {
            let mut look_at_disk = false;
            tokio::select! {
                message = link.from_control.recv(), if connected => match message {
                    Some(ToNode::Desired(desired)) => self.reconcile(desired),
                    Some(ToNode::Offer { request, instance, epoch, sdp }) => {
                        self.offer(request, instance, epoch, sdp, link.to_control.clone());
                    }
                    Some(ToNode::Echo { request, sdp }) => self.measure(request, sdp, link.to_control.clone()),
                    Some(ToNode::Fetch { request, command, offset }) => {
                        let part = self.commands.part(command, offset);
                        // A full link is as good as no answer: it is asked again.
                        let _dropped = link.to_control.try_send(FromNode::Part { request, part });
                    }
                    Some(ToNode::Probe { request, address }) => self.probe(request, address, link.to_control.clone()),
                    // The control plane is gone: what runs goes on, until this agent is stopped.
                    None => connected = false,
                },
                () = changed.notified() => {}
                // A few times a second at most while something is fetched: a change more is in the next report.
                _ = content_changed(&mut contents) => {}
                () = &mut scrub => {}
                _ = period.tick() => look_at_disk = true,
                _ = stopping.wait_for(|stop| *stop) => break,
            }
            if look_at_disk {
                self.refuses = self.disk_refusal();
            }
            // A report that nobody took yet is replaced: only the newest counts.
            reports.send_replace(Some(self.report()));
        }
        if let Some(echo) = self.echo.take() {
            echo.stop().await;
        }
        self.stop_all(&reports).await;
        drop(reports);
        drop(link);
        if let Err(error) = reporter.await {
            tracing::error!(%error, "the reporter ended badly");
        }
    }

    fn disk_refusal(&self) -> Option<NodeRefusal> {
        let needed_mb = self.settings.min_free_disk_mb;
        match disk::free_mb(&self.settings) {
            Ok(free_mb) if free_mb >= needed_mb => None,
            Ok(free_mb) => Some(NodeRefusal::DiskFull { free_mb, needed_mb }),
            Err(error) => {
                tracing::error!(%error, "cannot look at the data directory's disk");
                Some(NodeRefusal::DiskFull { free_mb: 0, needed_mb })
            }
        }
    }

    fn report(&self) -> ObservedNode {
        ObservedNode {
            node: self.settings.node,
            capacity: self.settings.capacity,
            refuses: self.refuses.clone(),
            instances: self.entries.values().map(|entry| entry.observed.borrow().clone()).collect(),
            replicas: self.volume.states().into_iter().filter_map(observed_replica).collect(),
            commands: self.commands.observed(),
            witness: self.settings.witness,
            echo: self.echo.as_ref().is_some_and(Echo::is_up),
        }
    }

    /// Makes what is there equal to what is desired. Idempotent.
    fn reconcile(&mut self, desired: DesiredInstances) {
        let wanted: Vec<_> = desired.replicas.iter().filter_map(wanted_replica).collect();
        self.volume.want(&wanted);
        let wanted: BTreeMap<InstanceId, DesiredInstance> =
            desired.instances.into_iter().map(|desired| (desired.instance, desired)).collect();
        for (id, entry) in &mut self.entries {
            match wanted.get(id) {
                Some(desired) if desired.epoch == entry.epoch => {
                    // Saves that were erased meanwhile are wanted by nobody: nothing waits for them.
                    let committed = desired.saves.as_ref().map_or(u32::MAX, |saves| saves.committed);
                    entry.claim(desired);
                    // Whose saves these will be is not known before that.
                    if !entry.is_warm {
                        entry.committed(committed);
                    }
                    if let Some(reason) = desired.stop {
                        entry.stop(reason);
                    }
                }
                Some(_) | None => entry.stop(EndReason::EndedByOperator),
            }
        }
        // What ended and is desired no more, or is desired anew, is forgotten.
        self.entries.retain(|id, entry| {
            !entry.is_ended() || wanted.get(id).is_some_and(|desired| desired.epoch == entry.epoch)
        });
        for (id, desired) in wanted {
            if self.entries.contains_key(&id) {
                continue;
            }
            match desired.stop {
                None => self.start(desired),
                // It was given up before it came here.
                Some(reason) => {
                    self.entries.insert(id, Entry::ended(&desired, reason));
                }
            }
        }
        // After the instances, so that a command finds the one that came with it.
        let entries = &self.entries;
        let way = |id, epoch| entries.get(&id).filter(|entry| entry.epoch == epoch).map(|entry| entry.commands.clone());
        self.commands.want(desired.commands, way);
    }

    fn start(&mut self, desired: DesiredInstance) {
        let (id, epoch) = (desired.instance, desired.epoch);
        // The slot of an ended instance is free: nothing of it is left.
        let live = self.entries.values().filter(|entry| !entry.is_ended());
        let mut taken: Vec<u32> = live.map(|entry| entry.slot).collect();
        taken.sort_unstable();
        let Some(slot) = (0..MAX_SLOTS).find(|slot| taken.binary_search(slot).is_err()) else {
            tracing::error!(instance = %id, "no slot is free");
            self.entries.insert(id, Entry::ended(&desired, EndReason::SandboxFailed));
            return;
        };
        let trace = desired.trace.map(|parent| parent.trace.to_string());
        tracing::info!(instance = %id, app = %desired.manifest.name, slot, trace, "instance starts");
        let is_warm = desired.warm.is_some();
        let steps = Steps::new(&desired, Arc::clone(&self.metrics), self.settings.spans.clone());
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sender, observed) = watch::channel(instance::initial(&desired));
        let uid = self.root.then(|| self.settings.uid_base.saturating_add(slot));
        let instance = Instance {
            desired,
            settings: Arc::clone(&self.settings),
            uid,
            groups: self.groups.clone(),
            volume: self.volume.clone(),
        };
        tokio::spawn(instance::live(instance, steps, receiver, sender));
        tokio::spawn(forward_changes(observed.clone(), Arc::clone(&self.changed)));
        self.entries.insert(id, Entry { epoch, slot, commands, observed, stop_sent: false, is_warm, committed: 0 });
    }

    fn offer(&self, request: u64, id: InstanceId, epoch: u32, sdp: String, to_control: mpsc::Sender<FromNode>) {
        let (answer, answered) = oneshot::channel();
        let entry = self.entries.get(&id).filter(|entry| entry.epoch == epoch);
        // A full queue and a closed one both drop `answer`, which reads as "gone" below.
        let _sent = entry.map(|entry| entry.commands.try_send(Command::Offer { sdp, answer }));
        tokio::spawn(async move {
            let outcome = in_time(answered, OFFER_TIMEOUT).await;
            // The control plane may be gone; then nobody waits.
            let _gone = to_control.send(FromNode::Answer { request, outcome }).await;
        });
    }

    /// Has a client's offer to measure the way answered.
    fn measure(&self, request: u64, sdp: String, to_control: mpsc::Sender<FromNode>) {
        let (answer, answered) = oneshot::channel();
        match &self.echo {
            Some(echo) => echo.offer(sdp, answer),
            // Reads as "gone" below.
            None => drop(answer),
        }
        tokio::spawn(async move {
            let outcome = in_time(answered, ECHO_TIMEOUT).await;
            // The control plane may be gone; then nobody waits.
            let _gone = to_control.send(FromNode::Answer { request, outcome }).await;
        });
    }

    /// Looks after another node's agent for the control plane.
    fn probe(&self, request: u64, address: SocketAddr, to_control: mpsc::Sender<FromNode>) {
        let Ok(permit) = Arc::clone(&self.probes).try_acquire_owned() else {
            // A full link is as good as no answer: the control plane asks other nodes, too.
            let _dropped = to_control.try_send(FromNode::Probed { request, outcome: ProbeOutcome::Unknown });
            return;
        };
        tokio::spawn(async move {
            let outcome = link::witness::probe(address, PROBE_LIMIT).await;
            // The control plane may be gone; then nobody waits.
            let _gone = to_control.send(FromNode::Probed { request, outcome }).await;
            drop(permit);
        });
    }

    /// Stops everything, as far as possible within the longest grace of a manifest.
    async fn stop_all(&mut self, reports: &watch::Sender<Option<ObservedNode>>) {
        self.refuses = Some(NodeRefusal::Stopping);
        for entry in self.entries.values_mut() {
            entry.stop(EndReason::ServiceStopped);
        }
        let limit = Instant::now() + Duration::from_secs(90);
        let changed = Arc::clone(&self.changed);
        loop {
            reports.send_replace(Some(self.report()));
            if self.entries.values().all(Entry::is_ended) {
                return;
            }
            if tokio::time::timeout_at(limit, changed.notified()).await.is_err() {
                tracing::error!("instances did not end in time");
                return;
            }
        }
    }
}

impl Entry {
    /// Of an instance that never was.
    fn ended(desired: &DesiredInstance, reason: EndReason) -> Self {
        let state = InstanceState::Ended { reason, detail: None };
        let (_, observed) = watch::channel(ObservedInstance { state, ..instance::initial(desired) });
        let (commands, _) = mpsc::channel(1);
        Self {
            epoch: desired.epoch,
            slot: MAX_SLOTS,
            commands,
            observed,
            stop_sent: true,
            is_warm: false,
            committed: 0,
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.observed.borrow().state, InstanceState::Ended { .. })
    }

    /// Tells a warm instance that somebody has it.
    fn claim(&mut self, desired: &DesiredInstance) {
        if self.is_warm && desired.warm.is_none() {
            // As with a stop: what does not fit is told again with the next wish.
            self.is_warm = self.commands.try_send(Command::Claim(Box::new(desired.clone()))).is_err();
        }
    }

    fn committed(&mut self, sequence: u32) {
        // As with a stop: what does not fit is told again with the next wish.
        if sequence > self.committed && self.commands.try_send(Command::Committed(sequence)).is_ok() {
            self.committed = sequence;
        }
    }

    fn stop(&mut self, reason: EndReason) {
        // A full queue is tried again at the next reconciliation, a closed one is ending already.
        if !self.stop_sent {
            self.stop_sent = self.commands.try_send(Command::Stop(reason)).is_ok();
        }
    }
}

/// The answer to an offer.
async fn in_time(
    answered: oneshot::Receiver<Result<String, OfferFailure>>,
    limit: Duration,
) -> Result<String, OfferFailure> {
    match tokio::time::timeout(limit, answered).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_dropped)) => Err(OfferFailure::Gone),
        Err(_elapsed) => Err(OfferFailure::Timeout),
    }
}

/// Waits for a change on the volume, and then a moment for those that follow it.
async fn content_changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(CONTENT_PERIOD).await;
    changes.mark_unchanged();
}

fn wanted_replica(desired: &DesiredReplica) -> Option<(RootId, Policy)> {
    let policy = match desired.policy {
        ReplicaPolicy::Pinned => Policy::Pinned,
        ReplicaPolicy::Preferred => Policy::Preferred,
        ReplicaPolicy::Anywhere => Policy::Anywhere,
    };
    Some((desired.content.as_str().parse().ok()?, policy))
}

fn observed_replica((root, state): (RootId, content::ReplicaState)) -> Option<ObservedReplica> {
    use content::ReplicaState as Here;
    let state = match state {
        Here::Absent => ReplicaState::Absent,
        Here::Replicating { bytes_done, bytes_total, bytes_fetched } => {
            ReplicaState::Replicating { bytes_done, bytes_total, bytes_fetched }
        }
        Here::Present { bytes } => ReplicaState::Present { bytes },
        Here::Verifying { bytes_done, bytes_total } => ReplicaState::Verifying { bytes_done, bytes_total },
        Here::Corrupt { faults } => ReplicaState::Corrupt { faults },
        Here::Failed { detail, .. } => ReplicaState::Failed { detail },
        Here::Evicting => ReplicaState::Evicting,
    };
    Some(ObservedReplica { content: root.to_string().try_into().ok()?, state })
}

async fn forward_changes(mut observed: watch::Receiver<ObservedInstance>, changed: Arc<Notify>) {
    while observed.changed().await.is_ok() {
        changed.notify_one();
    }
    // The instance's task is gone.
    changed.notify_one();
}

/// Sends the newest report, as fast as the control plane takes them.
async fn report(mut newest: watch::Receiver<Option<ObservedNode>>, to_control: mpsc::Sender<FromNode>) {
    while newest.changed().await.is_ok() {
        let report = newest.borrow_and_update().clone();
        if let Some(report) = report
            && to_control.send(FromNode::Observed(report)).await.is_err()
        {
            return;
        }
    }
}
