//! What is known of sessions and of nodes while the process lives: who watches, who is there, what each node said last.
//!
//! Nothing here is the truth of anything that has to survive: that is the store's. Locks are held for map look-ups only.

pub(crate) mod command;
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod judge;
pub(crate) mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::id::{CommandId, InstanceId, SessionId};
use api::node::{OfferFailure, Part, ProbeOutcome};
use api::rest::{QueuePlace, Session, SessionStatistics};
use tokio::sync::{Notify, oneshot, watch};

use self::fleet::Fleet;
use crate::app::rate::{Bucket, Rate};
use crate::demand::Demands;

/// Links that one session may have at once. A player has one, two while a page reloads.
const MAX_LINKS: u32 = 4;

/// An offer on its way to a node.
#[derive(Debug)]
pub(crate) struct OfferCommand {
    pub(crate) instance: InstanceId,
    pub(crate) epoch: u32,
    pub(crate) sdp: String,
    pub(crate) reply: oneshot::Sender<Result<String, OfferFailure>>,
}

/// Something that a node is asked, and answers.
#[derive(Debug)]
pub(crate) enum Command {
    /// A player's offer.
    Offer(OfferCommand),
    /// Whether another node's witness answers.
    Probe {
        /// The witness.
        address: SocketAddr,
        reply: oneshot::Sender<ProbeOutcome>,
    },
    /// A client's offer to measure the way.
    Echo { sdp: String, reply: oneshot::Sender<Result<String, OfferFailure>> },
    /// A part of what a command brought.
    Fetch { command: CommandId, offset: u64, reply: oneshot::Sender<Option<Part>> },
}

/// What one session's watchers need.
#[derive(Debug)]
struct Entry {
    session: watch::Sender<Option<Session>>,
    statistics: watch::Sender<Option<SessionStatistics>>,
    queue: watch::Sender<Option<QueuePlace>>,
    links: u32,
    /// When the last link went; `None` while there is one, and before the first.
    link_lost_at: Option<Instant>,
    offers: Bucket,
    /// The peer whose offer was answered last.
    peer: Option<String>,
    /// The newest capture of its save that this process committed: epoch and sequence.
    saved: (u32, u32),
}

impl Entry {
    fn new() -> Self {
        Self {
            session: watch::Sender::new(None),
            statistics: watch::Sender::new(None),
            queue: watch::Sender::new(None),
            links: 0,
            link_lost_at: None,
            offers: Bucket::default(),
            peer: None,
            saved: (0, 0),
        }
    }
}

/// Sessions' watchers, and the nodes.
#[derive(Debug)]
pub(crate) struct Coordinator {
    sessions: Mutex<BTreeMap<SessionId, Entry>>,
    pub(crate) fleet: Fleet,
    /// What sessions take of nodes.
    pub(crate) demands: Demands,
    /// Somebody asked for a place, took one, or left.
    stirred: Notify,
    /// Everything may be decided anew.
    stirred_all: AtomicBool,
    /// Somebody asked for a command.
    commands: Notify,
    /// How many were asked for, and how many had been when the last one had ended.
    commands_asked: AtomicU64,
    commands_idle: AtomicU64,
}

impl Coordinator {
    /// Without sessions and nodes.
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::new(BTreeMap::new()),
            fleet: Fleet::new(),
            demands: Demands::default(),
            stirred: Notify::new(),
            stirred_all: AtomicBool::new(false),
            commands: Notify::new(),
            // Before the first look some may be left of a process before this one.
            commands_asked: AtomicU64::new(1),
            commands_idle: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        // No code between lock and unlock can panic halfway through a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions have to be looked at now.
    pub(crate) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// What all of them depend on has changed.
    pub(crate) fn stir_all(&self) {
        self.stirred_all.store(true, Ordering::Relaxed);
        self.stir();
    }

    /// True once after [`Self::stir_all`].
    pub(crate) fn take_stirred_all(&self) -> bool {
        self.stirred_all.swap(false, Ordering::Relaxed)
    }

    /// Ready as soon as sessions have to be looked at. Safe to cancel.
    pub(crate) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Commands have to be looked at now.
    pub(crate) fn stir_commands(&self) {
        self.commands_asked.fetch_add(1, Ordering::SeqCst);
        self.commands.notify_one();
    }

    /// How many were asked for. Take it before a look.
    pub(super) fn commands_asked(&self) -> u64 {
        self.commands_asked.load(Ordering::SeqCst)
    }

    /// None is left of those that had been asked for.
    pub(super) fn set_commands_idle(&self, asked: u64) {
        self.commands_idle.store(asked, Ordering::SeqCst);
    }

    /// Some live, whoever asked for them.
    pub(super) fn set_commands_busy(&self) {
        self.commands_idle.store(0, Ordering::SeqCst);
    }

    /// False when no command lives for certain: then nobody has to read them.
    pub(super) fn has_commands(&self) -> bool {
        self.commands_asked() != self.commands_idle.load(Ordering::SeqCst)
    }

    /// Ready as soon as commands have to be looked at. Safe to cancel.
    pub(super) async fn commands_stirred(&self) {
        self.commands.notified().await;
    }

    /// Makes room for a session's watchers. Nothing else does: what comes late for a session that has ended finds none, and
    /// leaves nothing behind. Called before the claim, so that no change of the session comes first.
    pub(crate) fn open(&self, id: SessionId) -> Room<'_> {
        self.lock().entry(id).or_insert_with(Entry::new);
        Room { coordinator: self, id, is_kept: false }
    }

    /// Makes room for the watchers of a session that was there before this process: who does not come back in time has left.
    pub(crate) fn open_again(&self, id: SessionId) {
        let gone = Entry { link_lost_at: Some(Instant::now()), ..Entry::new() };
        self.lock().entry(id).or_insert(gone);
    }

    /// Tells a session's watchers what it is now; older news than they have is dropped.
    pub(crate) fn publish(&self, session: Session) {
        let (id, ended) = (session.id, session.state.is_ended());
        let mut sessions = self.lock();
        let Some(entry) = sessions.get_mut(&id) else { return };
        entry.session.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| known.revision < session.revision);
            if newer {
                *known = Some(session);
            }
            newer
        });
        if ended {
            // Watchers keep the last value and see the sender go; whoever comes now reads the store.
            sessions.remove(&id);
        }
    }

    /// Tells a session's watchers how its stream is doing.
    pub(crate) fn publish_statistics(&self, id: SessionId, figures: SessionStatistics) {
        if let Some(entry) = self.lock().get(&id) {
            entry.statistics.send_if_modified(|known| {
                let new = known.as_ref().is_none_or(|known| known.stream != figures.stream);
                if new {
                    *known = Some(figures);
                }
                new
            });
        }
    }

    /// Tells a session's watchers how its wait stands.
    pub(crate) fn publish_queue(&self, id: SessionId, place: QueuePlace) {
        if let Some(entry) = self.lock().get(&id) {
            entry.queue.send_if_modified(|known| {
                let new = known.as_ref() != Some(&place);
                if new {
                    *known = Some(place);
                }
                new
            });
        }
    }

    /// How a session's wait stood last.
    pub(crate) fn queue(&self, id: SessionId) -> Option<QueuePlace> {
        self.lock().get(&id).and_then(|entry| entry.queue.borrow().clone())
    }

    /// Sees how a session's wait stands from now on; closed when it has ended.
    pub(crate) fn watch_queue(&self, id: SessionId) -> watch::Receiver<Option<QueuePlace>> {
        let closed = || watch::channel(None).1;
        self.lock().get(&id).map_or_else(closed, |entry| entry.queue.subscribe())
    }

    /// The newest figures of a session.
    pub(crate) fn statistics(&self, id: SessionId) -> Option<SessionStatistics> {
        self.lock().get(&id).and_then(|entry| *entry.statistics.borrow())
    }

    /// Sees a session's changes from now on; closed when it has ended. Read the store after this, not before, or a change
    /// falls in between.
    pub(crate) fn watch_session(&self, id: SessionId) -> watch::Receiver<Option<Session>> {
        let closed = || watch::channel(None).1;
        self.lock().get(&id).map_or_else(closed, |entry| entry.session.subscribe())
    }

    /// Sees a session's figures from now on; closed when it has ended.
    pub(crate) fn watch_statistics(&self, id: SessionId) -> watch::Receiver<Option<SessionStatistics>> {
        let closed = || watch::channel(None).1;
        self.lock().get(&id).map_or_else(closed, |entry| entry.statistics.subscribe())
    }

    /// Counts a link of a session as long as the guard lives; `None` when it has as many as it may.
    pub(crate) fn join(self: &Arc<Self>, id: SessionId) -> Option<LinkGuard> {
        // Without an entry the session has ended: its link says so and closes.
        if let Some(entry) = self.lock().get_mut(&id) {
            if entry.links >= MAX_LINKS {
                return None;
            }
            entry.links += 1;
            entry.link_lost_at = None;
        }
        Some(LinkGuard { coordinator: Arc::clone(self), id })
    }

    /// Links that are open.
    pub(crate) fn links(&self) -> u64 {
        self.lock().values().map(|entry| u64::from(entry.links)).sum()
    }

    /// How long a session's last link is gone; `None` while there is one, and when there never was.
    pub(crate) fn link_absent(&self, id: SessionId) -> Option<Duration> {
        self.lock().get(&id).and_then(|entry| entry.link_lost_at).map(|at| at.elapsed())
    }

    /// Takes the permission to send an offer, or says how long to wait for it.
    pub(crate) fn take_offer(&self, id: SessionId, rate: Rate) -> Result<(), Duration> {
        self.lock().get_mut(&id).map_or(Ok(()), |entry| entry.offers.take(rate, Instant::now()))
    }

    /// True when this process has not committed such a capture of the session.
    pub(crate) fn is_new_save(&self, id: SessionId, epoch: u32, sequence: u32) -> bool {
        self.lock().get(&id).is_none_or(|entry| entry.saved < (epoch, sequence))
    }

    /// Notes that a capture is a version.
    pub(crate) fn save_committed(&self, id: SessionId, epoch: u32, sequence: u32) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.saved = entry.saved.max((epoch, sequence));
        }
    }

    /// Notes the session's newest peer; an older one is gone with it.
    pub(crate) fn set_peer(&self, id: SessionId, peer: String) {
        if let Some(entry) = self.lock().get_mut(&id) {
            entry.peer = Some(peer);
        }
    }

    /// Forgets a peer; false when it is not the session's.
    pub(crate) fn remove_peer(&self, id: SessionId, peer: &str) -> bool {
        self.lock().get_mut(&id).is_some_and(|entry| entry.peer.take_if(|known| known == peer).is_some())
    }
}

/// Room for the watchers of a session that is being claimed. Gone again when it is dropped without [`Room::keep`]: the claim
/// was refused, or the client went while it was under way.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    coordinator: &'a Coordinator,
    id: SessionId,
    is_kept: bool,
}

impl Room<'_> {
    /// The session came about.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.coordinator.lock().remove(&self.id);
        }
    }
}

/// One open link of a session.
#[derive(Debug)]
pub(crate) struct LinkGuard {
    coordinator: Arc<Coordinator>,
    id: SessionId,
}

impl Drop for LinkGuard {
    fn drop(&mut self) {
        // The entry is gone when the session has ended.
        if let Some(entry) = self.coordinator.lock().get_mut(&self.id) {
            entry.links = entry.links.saturating_sub(1);
            if entry.links == 0 {
                entry.link_lost_at = Some(Instant::now());
            }
        }
    }
}
