//! The link to a node: desired instances out, observed ones in, offers across.
//!
//! What shall be is sent on every change and once a period, whole each time: a lost message costs one period. It is made of what is in memory,
//! and of the saves of players, which are the database's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::{InstanceId, NodeId, SessionId};
use api::node::{DesiredInstances, DesiredSaves, FromNode, NodeLink, OfferFailure, Part, ProbeOutcome, ToNode};
use api::trace::TraceParent;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::{Command, OfferCommand};
use crate::app::{Plane, now};
use crate::reconcile::command;
use crate::reconcile::desired::desired;
use crate::stop::Stop;
use crate::store::{SessionRecord, StoreError};

/// How often everything is sent without a change. Shorter only costs copies: a link that loses something closes, and a node that connects is
/// told at once. Longer leaves a node with old wishes for as long when a change was not told by mistake.
const PERIOD: Duration = Duration::from_secs(10);

/// How long a full link may make the control plane wait. A node that reads nothing for so long hangs.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Offers and questions that wait in front of the link.
const COMMAND_QUEUE: usize = 64;

/// How long a node may say nothing before it is suspect: it says something ten times a second. Shorter suspects nodes whose machine is merely
/// busy, longer sends players to nodes that are gone.
const SILENCE_LIMIT: Duration = Duration::from_millis(300);

/// How long after a sign of life it is looked again whether there was another. A link's silence below this reads as none.
const SILENCE_PERIOD: Duration = Duration::from_millis(150);

/// Shortest time between two such looks.
const SILENCE_LEAST: Duration = Duration::from_millis(20);

/// Offers and questions that wait for their answers. Each is bounded in time by the request that sent it.
const MAX_PENDING: usize = 256;

/// What waits for its answer.
#[derive(Debug, Default)]
struct Pending {
    /// The last number that was given.
    request: u64,
    offers: BTreeMap<u64, oneshot::Sender<Result<String, OfferFailure>>>,
    probes: BTreeMap<u64, oneshot::Sender<ProbeOutcome>>,
    parts: BTreeMap<u64, oneshot::Sender<Option<Part>>>,
}

impl Pending {
    /// Forgets those that nobody waits for any more.
    fn tidy(&mut self) {
        self.offers.retain(|_, reply| !reply.is_closed());
        self.probes.retain(|_, reply| !reply.is_closed());
        self.parts.retain(|_, reply| !reply.is_closed());
    }

    fn is_full(&self) -> bool {
        self.offers.len() + self.probes.len() + self.parts.len() >= MAX_PENDING
    }
}

/// What becomes of a node whose link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It is gone, with everything on it: it lived in this process.
    Lost,
    /// It may come back, and what runs on it may go on.
    Suspect,
}

/// Runs until the link is closed or `stop` is raised.
pub(crate) async fn run(id: NodeId, mut link: impl NodeLink, closing: Closing, plane: Arc<Plane>, mut stop: Stop) {
    let fleet = &plane.coordinator.fleet;
    let (commands_in, mut commands) = mpsc::channel(COMMAND_QUEUE);
    let Some((wanted, number)) = fleet.connect(id, commands_in) else { return };
    info!(node = %id, "node connected");
    let mut pending = Pending::default();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut look_at, mut is_silent) = (Instant::now() + SILENCE_PERIOD, false);
    loop {
        tokio::select! {
            // In this order: an offer never overtakes the wish for its instance.
            biased;
            () = stop.raised() => return,
            () = wanted.notified() => send_desired(id, &mut link, &plane).await,
            command = commands.recv() => match command {
                Some(command) => send_command(&mut link, &mut pending, command).await,
                // A newer link took this one's place.
                None => break,
            },
            message = link.receive() => match message {
                Some(FromNode::Observed(observed)) => fleet.observe(id, number, observed),
                Some(FromNode::Answer { request, outcome }) => answer(pending.offers.remove(&request), outcome),
                Some(FromNode::Probed { request, outcome }) => answer(pending.probes.remove(&request), outcome),
                Some(FromNode::Part { request, part }) => answer(pending.parts.remove(&request), part),
                None => break,
            },
            () = sleep_until(look_at) => {
                let silent_for = link.silent_for();
                if is_silent != (silent_for >= SILENCE_LIMIT) {
                    is_silent = !is_silent;
                    fleet.set_silent(id, is_silent);
                }
                let left = if silent_for.is_zero() { SILENCE_PERIOD } else { SILENCE_LIMIT.saturating_sub(silent_for) };
                look_at = Instant::now() + left.max(SILENCE_LEAST);
            }
            _ = period.tick() => {
                pending.tidy();
                send_desired(id, &mut link, &plane).await;
            }
        }
    }
    // One that connected again has a newer link, and is well.
    if fleet.disconnect(id, number) && !plane.is_stopping() {
        match closing {
            Closing::Lost => {
                error!(node = %id, "the node is gone");
                fleet.set_lost(id);
            }
            Closing::Suspect => {
                warn!(node = %id, "the node's link is closed");
                fleet.set_silent(id, true);
            }
        }
    }
}

async fn send_desired(id: NodeId, link: &mut impl NodeLink, plane: &Plane) {
    let desired = match wished(id, plane).await {
        Ok(desired) => desired,
        // Sending nothing leaves the node as it is; sending an empty list would end every session.
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "what shall be could not be read");
            return;
        }
    };
    match timeout(SEND_LIMIT, link.send(ToNode::Desired(desired))).await {
        Ok(Ok(())) => {}
        // `receive` says the same in a moment.
        Ok(Err(closed)) => debug!(%closed, "what shall be could not be sent"),
        Err(_elapsed) => warn!(node = %id, "the node reads nothing"),
    }
}

/// All that shall be on a node.
async fn wished(id: NodeId, plane: &Plane) -> Result<DesiredInstances, StoreError> {
    let live = plane.store.live.of_node(id);
    let site = plane.coordinator.fleet.node(id).map_or_else(String::new, |node| node.record.site.clone());
    let saves = desired_saves(plane, &live).await?;
    let mut wished = desired(&live, saves, &site, &plane.catalogue, &plane.settings.limits);
    if plane.coordinator.has_commands() {
        let commands = plane.store.live_commands(Some(id)).await?;
        wished.commands = commands.iter().filter_map(|record| command::desired(record, now())).collect();
    }
    let traces: BTreeMap<InstanceId, TraceParent> =
        live.iter().filter_map(|record| Some((record.instance, plane.observer.trace(record.id)?))).collect();
    for instance in &mut wished.instances {
        instance.trace = traces.get(&instance.instance).copied();
    }
    Ok(wished)
}

async fn desired_saves(
    plane: &Plane,
    live: &[Arc<SessionRecord>],
) -> Result<BTreeMap<SessionId, DesiredSaves>, StoreError> {
    let keeps = |record: &&Arc<SessionRecord>| {
        let package = plane.catalogue.played(&record.app, record.release);
        record.player_id.is_some() && package.is_some_and(|package| package.manifest.saves.are_kept())
    };
    let epochs: BTreeMap<SessionId, u32> = live.iter().filter(keeps).map(|record| (record.id, record.epoch)).collect();
    let mut desired = BTreeMap::new();
    if epochs.is_empty() {
        return Ok(desired);
    }
    for (id, save) in plane.store.session_saves(&epochs).await? {
        if let Some(record) = live.iter().find(|record| record.id == id) {
            desired.insert(id, plane.desired_saves(&record.app, &save).await?);
        }
    }
    Ok(desired)
}

async fn send_command(link: &mut impl NodeLink, pending: &mut Pending, command: Command) {
    pending.request += 1;
    let request = pending.request;
    match command {
        Command::Offer(OfferCommand { reply, .. }) if pending.is_full() => {
            answer(Some(reply), Err(OfferFailure::Timeout))
        }
        Command::Offer(OfferCommand { instance, epoch, sdp, reply }) => {
            match timeout(SEND_LIMIT, link.send(ToNode::Offer { request, instance, epoch, sdp })).await {
                Ok(Ok(())) => {
                    pending.offers.insert(request, reply);
                }
                Ok(Err(_closed)) => answer(Some(reply), Err(OfferFailure::Gone)),
                Err(_elapsed) => answer(Some(reply), Err(OfferFailure::Timeout)),
            }
        }
        Command::Echo { reply, .. } if pending.is_full() => answer(Some(reply), Err(OfferFailure::Busy)),
        Command::Echo { sdp, reply } => match timeout(SEND_LIMIT, link.send(ToNode::Echo { request, sdp })).await {
            Ok(Ok(())) => {
                pending.offers.insert(request, reply);
            }
            Ok(Err(_closed)) => answer(Some(reply), Err(OfferFailure::Gone)),
            Err(_elapsed) => answer(Some(reply), Err(OfferFailure::Timeout)),
        },
        // Whoever asks hears nothing and goes on without.
        Command::Probe { .. } | Command::Fetch { .. } if pending.is_full() => {}
        Command::Fetch { command, offset, reply } => {
            if let Ok(Ok(())) = timeout(SEND_LIMIT, link.send(ToNode::Fetch { request, command, offset })).await {
                pending.parts.insert(request, reply);
            }
        }
        Command::Probe { address, reply } => {
            if let Ok(Ok(())) = timeout(SEND_LIMIT, link.send(ToNode::Probe { request, address })).await {
                pending.probes.insert(request, reply);
            }
        }
    }
}

fn answer<T>(reply: Option<oneshot::Sender<T>>, outcome: T) {
    // One that nobody waits for any more came too late.
    if reply.is_none_or(|reply| reply.send(outcome).is_err()) {
        debug!("an answer came too late");
    }
}
