//! The nodes while the process lives: what each said last, whether it is well, and the way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::content::ReplicaState;
use api::fleet::{Duty, Health};
use api::id::{CommandId, ContentId, NodeId};
use api::node::{
    Capacity, CommandProgress, NodeRefusal, ObservedInstance, ObservedNode, OfferFailure, Part, ProbeOutcome,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::{Command, OfferCommand};
use crate::store::NodeRecord;

/// How long a node that is asked about another one may take. It answers within two seconds when it is well.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long a node may take to answer who measures the way to it: a round trip and some milliseconds. He has two seconds in all.
const ECHO_LIMIT: Duration = Duration::from_secs(2);

/// How long a part of an output may take on its way. Over a slow line it takes a second; what is lost is asked for again.
const PART_LIMIT: Duration = Duration::from_secs(20);

/// A node as it is known at a moment.
#[derive(Clone, Debug)]
pub(crate) struct NodeView {
    pub(crate) record: Arc<NodeRecord>,
    pub(crate) health: Health,
    /// What it reported last; `None` as long as it has not.
    pub(crate) last: Option<Arc<ObservedNode>>,
}

impl NodeView {
    /// What it can hold, as far as it is known.
    pub(crate) fn capacity(&self) -> Capacity {
        self.last.as_ref().map_or(self.record.capacity, |last| last.capacity)
    }

    /// Why it takes no new session of its own.
    pub(crate) fn refuses(&self) -> Option<&NodeRefusal> {
        self.last.as_ref().and_then(|last| last.refuses.as_ref())
    }

    /// True when it may take sessions now or soon.
    pub(crate) fn is_of_use(&self) -> bool {
        self.health != Health::Lost && self.record.duty == Duty::Active
    }

    /// True when clients can measure the way to it.
    pub(crate) fn has_echo(&self) -> bool {
        self.health == Health::Alive && self.last.as_ref().is_some_and(|last| last.echo)
    }

    /// What it said of an instance of this epoch: a report of another one is about something that is not the session's any more.
    pub(crate) fn instance(&self, id: api::id::InstanceId, epoch: u32) -> Option<&ObservedInstance> {
        let mut instances = self.last.as_ref()?.instances.iter();
        instances.find(|instance| instance.instance == id && instance.epoch == epoch)
    }

    /// What it said of a command.
    pub(super) fn command(&self, id: CommandId) -> Option<&CommandProgress> {
        let mut commands = self.last.as_ref()?.commands.iter();
        commands.find(|one| one.command == id).map(|one| &one.progress)
    }

    fn replica(&self, content: &ContentId) -> Option<&ReplicaState> {
        let replicas = &self.last.as_ref()?.replicas;
        replicas.iter().find(|one| one.content == *content).map(|one| &one.state)
    }
}

/// All nodes at a moment.
pub(crate) type Nodes = BTreeMap<NodeId, NodeView>;

/// What a release is doing on a site, by what its nodes say: the one that is furthest from good.
pub(crate) fn replica_at(nodes: &Nodes, site: &str, content: &ContentId) -> ReplicaState {
    let rank = |state: &ReplicaState| match state {
        ReplicaState::Present { .. } => 0,
        ReplicaState::Evicting => 1,
        ReplicaState::Absent => 2,
        ReplicaState::Verifying { .. } => 3,
        ReplicaState::Replicating { .. } => 4,
        ReplicaState::Failed { .. } => 5,
        ReplicaState::Corrupt { .. } => 6,
    };
    let here = nodes.values().filter(|node| node.record.site == site && node.health == Health::Alive);
    let states = here.map(|node| node.replica(content).cloned().unwrap_or(ReplicaState::Absent));
    states.max_by_key(rank).unwrap_or(ReplicaState::Absent)
}

/// The way to a node.
#[derive(Clone, Debug)]
struct Way {
    commands: mpsc::Sender<Command>,
    /// Told apart from the one before it when a node connects again.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    view: NodeView,
    wanted: Arc<Notify>,
    way: Option<Way>,
    /// Since when it is not heard of.
    silent_since: Option<Instant>,
}

/// What the lock guards.
#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<NodeId, Entry>,
    /// Which changed since somebody asked last.
    changed: BTreeSet<NodeId>,
}

/// The nodes.
#[derive(Debug)]
pub(crate) struct Fleet {
    known: Mutex<Known>,
    changes: watch::Sender<u64>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code between lock and unlock can panic halfway through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, mut known: MutexGuard<'_, Known>, id: NodeId) {
        known.changed.insert(id);
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    /// The nodes that changed since this was asked last.
    pub(crate) fn take_changed(&self) -> Nodes {
        let mut known = self.lock();
        let changed = std::mem::take(&mut known.changed);
        changed.into_iter().filter_map(|id| Some((id, known.nodes.get(&id)?.view.clone()))).collect()
    }

    /// Sees that something changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes in a node that is not known yet.
    pub(crate) fn add(&self, record: NodeRecord) {
        let (mut known, id) = (self.lock(), record.id);
        if known.nodes.contains_key(&id) {
            return;
        }
        let silent_since = Some(Instant::now());
        let view = NodeView { health: Health::Awaited, last: None, record: Arc::new(record) };
        known.nodes.insert(id, Entry { view, wanted: Arc::default(), way: None, silent_since });
        self.changed(known, id);
    }

    /// Changes what is known of a node for good; what others change at the same moment stays.
    pub(crate) fn update(&self, id: NodeId, change: impl FnOnce(&mut NodeRecord)) {
        let mut known = self.lock();
        let Some(entry) = known.nodes.get_mut(&id) else { return };
        let mut record = NodeRecord::clone(&entry.view.record);
        change(&mut record);
        if record.duty == Duty::Retired {
            // Its link closes, and what it still had is started elsewhere.
            entry.way = None;
            entry.view.health = Health::Lost;
        }
        entry.view.record = Arc::new(record);
        self.changed(known, id);
    }

    /// All nodes as they are.
    pub(crate) fn nodes(&self) -> Nodes {
        self.lock().nodes.iter().map(|(id, entry)| (*id, entry.view.clone())).collect()
    }

    /// Looks at all nodes without a copy. Nothing else happens to them meanwhile: only what is short does it.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&mut dyn Iterator<Item = &NodeView>) -> T) -> T {
        read(&mut self.lock().nodes.values().map(|entry| &entry.view))
    }

    /// One node as it is.
    pub(crate) fn node(&self, id: NodeId) -> Option<NodeView> {
        self.lock().nodes.get(&id).map(|entry| entry.view.clone())
    }

    /// A node connected. `None` when it is none of the fleet's.
    pub(super) fn connect(&self, id: NodeId, commands: mpsc::Sender<Command>) -> Option<(Arc<Notify>, u64)> {
        let mut known = self.lock();
        let entry = known.nodes.get_mut(&id).filter(|entry| entry.view.record.duty != Duty::Retired)?;
        let number = entry.way.as_ref().map_or(0, |way| way.number) + 1;
        entry.way = Some(Way { commands, number });
        // Waits of the connection before it hear nothing any more.
        entry.wanted = Arc::default();
        Some((Arc::clone(&entry.wanted), number))
    }

    /// A node's connection is closed. Says whether it was its newest one.
    pub(super) fn disconnect(&self, id: NodeId, number: u64) -> bool {
        let mut known = self.lock();
        let Some(entry) = known.nodes.get_mut(&id) else { return false };
        if entry.way.as_ref().is_none_or(|way| way.number != number) {
            return false;
        }
        entry.way = None;
        true
    }

    /// A node reported.
    pub(super) fn observe(&self, id: NodeId, number: u64, observed: ObservedNode) {
        let mut known = self.lock();
        let Some(entry) = known.nodes.get_mut(&id) else { return };
        if entry.way.as_ref().is_none_or(|way| way.number != number) {
            return;
        }
        entry.silent_since = None;
        let is_new = entry.view.last.as_deref() != Some(&observed) || entry.view.health != Health::Alive;
        if is_new {
            entry.view.last = Some(Arc::new(observed));
            entry.view.health = Health::Alive;
            self.changed(known, id);
        }
    }

    /// A node was not heard of in time, or is heard of again.
    pub(super) fn set_silent(&self, id: NodeId, is_silent: bool) {
        let mut known = self.lock();
        let Some(entry) = known.nodes.get_mut(&id) else { return };
        let health = match (entry.view.health, is_silent) {
            (Health::Alive, true) => {
                entry.silent_since = Some(Instant::now());
                Health::Suspect
            }
            (Health::Suspect, false) if entry.way.is_some() => {
                entry.silent_since = None;
                Health::Alive
            }
            (health, _) => health,
        };
        if health != entry.view.health {
            entry.view.health = health;
            self.changed(known, id);
        }
    }

    /// A node is gone, for certain.
    pub(crate) fn set_lost(&self, id: NodeId) {
        let mut known = self.lock();
        let Some(entry) = known.nodes.get_mut(&id) else { return };
        if entry.view.health != Health::Lost {
            entry.view.health = Health::Lost;
            self.changed(known, id);
        }
    }

    /// Nodes of which nothing is heard, and for how long.
    pub(super) fn silent(&self) -> Vec<(NodeView, Duration)> {
        let known = self.lock();
        let silent = known.nodes.values().filter(|entry| !matches!(entry.view.health, Health::Alive | Health::Lost));
        silent.filter_map(|entry| Some((entry.view.clone(), entry.silent_since?.elapsed()))).collect()
    }

    /// The longest silence of a node of each site, of those that are not given up.
    pub(crate) fn silences(&self) -> BTreeMap<String, Duration> {
        let mut silences = BTreeMap::new();
        for entry in self.lock().nodes.values().filter(|entry| entry.view.health != Health::Lost) {
            let silence = entry.silent_since.map_or(Duration::ZERO, |since| since.elapsed());
            let longest: &mut Duration = silences.entry(entry.view.record.site.clone()).or_default();
            *longest = silence.max(*longest);
        }
        silences
    }

    /// Where a node is; empty for one that is none of the fleet's.
    pub(crate) fn site(&self, id: NodeId) -> String {
        self.lock().nodes.get(&id).map_or_else(String::new, |entry| entry.view.record.site.clone())
    }

    /// How long nothing is heard of a node; `None` when it is heard of.
    pub(super) fn silent_for(&self, id: NodeId) -> Option<Duration> {
        let known = self.lock();
        let entry = known.nodes.get(&id).filter(|entry| !matches!(entry.view.health, Health::Alive | Health::Lost))?;
        entry.silent_since.map(|since| since.elapsed())
    }

    /// What shall be on a node has changed: it is told at once.
    pub(crate) fn want(&self, id: NodeId) {
        if let Some(entry) = self.lock().nodes.get(&id) {
            entry.wanted.notify_one();
        }
    }

    /// The same of all nodes.
    pub(crate) fn want_all(&self) {
        for entry in self.lock().nodes.values() {
            entry.wanted.notify_one();
        }
    }

    /// Hands an offer to a node. Waits while the queue is full.
    ///
    /// # Errors
    /// The node is not connected.
    pub(crate) async fn send_offer(&self, node: NodeId, offer: OfferCommand) -> Result<(), OfferFailure> {
        let way = self.lock().nodes.get(&node).and_then(|entry| entry.way.clone()).ok_or(OfferFailure::Gone)?;
        way.commands.send(Command::Offer(offer)).await.map_err(|_closed| OfferFailure::Gone)
    }

    /// Has a client's offer to measure the way to a node answered.
    ///
    /// # Errors
    /// The node is not connected, refuses the offer, or does not answer in time.
    pub(crate) async fn echo(&self, node: NodeId, sdp: String) -> Result<String, OfferFailure> {
        let way = self.lock().nodes.get(&node).and_then(|entry| entry.way.clone()).ok_or(OfferFailure::Gone)?;
        let (reply, answer) = oneshot::channel();
        // Measurements never hold up what players wait for: a queue that is full is left alone.
        way.commands.try_send(Command::Echo { sdp, reply }).map_err(|_full| OfferFailure::Busy)?;
        match timeout(ECHO_LIMIT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(OfferFailure::Gone),
            Err(_elapsed) => Err(OfferFailure::Timeout),
        }
    }

    /// Fetches a part of what a command brought; `None` when the node has it not, or does not answer.
    pub(super) async fn fetch(&self, node: NodeId, command: CommandId, offset: u64) -> Option<Part> {
        let way = self.lock().nodes.get(&node).and_then(|entry| entry.way.clone())?;
        let (reply, answer) = oneshot::channel();
        way.commands.send(Command::Fetch { command, offset, reply }).await.ok()?;
        timeout(PART_LIMIT, answer).await.ok()?.ok()?
    }

    /// Has a node look whether a witness answers.
    pub(super) async fn probe(&self, from: NodeId, address: SocketAddr) -> ProbeOutcome {
        let Some(way) = self.lock().nodes.get(&from).and_then(|entry| entry.way.clone()) else {
            return ProbeOutcome::Unknown;
        };
        let (reply, answer) = oneshot::channel();
        if way.commands.try_send(Command::Probe { address, reply }).is_err() {
            return ProbeOutcome::Unknown;
        }
        match timeout(PROBE_LIMIT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => ProbeOutcome::Unknown,
        }
    }
}
