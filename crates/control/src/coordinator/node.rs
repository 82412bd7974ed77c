//! The link to a node: desired instances out, observed ones in, offers across.
//!
//! What shall be is sent on every change and once a period, whole each time: a lost message costs one period.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::{NodeId, SessionId};
use api::node::{DesiredInstances, DesiredSaves, FromNode, NodeLink, OfferFailure, ProbeOutcome, ToNode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{debug, error, info, warn};

use super::{Command, OfferCommand};
use crate::app::Plane;
use crate::reconcile::desired::desired;
use crate::stop::Stop;
use crate::store::{SessionRecord, StoreError};

/// How often everything is sent without a change. Shorter only costs copies; longer leaves a node that lost a message
/// with old wishes for as long.
const PERIOD: Duration = Duration::from_secs(2);

/// How long a full link may make the control plane wait. A node that reads nothing for so long hangs.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Offers and questions that wait in front of the link.
const COMMAND_QUEUE: usize = 64;

/// How long a node may say nothing before it is suspect: it says something ten times a second. Shorter suspects nodes whose machine is merely
/// busy, longer sends players to nodes that are gone.
const SILENCE_LIMIT: Duration = Duration::from_millis(300);

/// How often it is looked whether a node is silent.
const SILENCE_PERIOD: Duration = Duration::from_millis(50);

/// Offers and questions that wait for their answers. Each is bounded in time by the request that sent it.
const MAX_PENDING: usize = 256;

/// What waits for its answer.
#[derive(Debug, Default)]
struct Pending {
    /// The last number that was given.
    request: u64,
    offers: BTreeMap<u64, oneshot::Sender<Result<String, OfferFailure>>>,
    probes: BTreeMap<u64, oneshot::Sender<ProbeOutcome>>,
}

impl Pending {
    /// Forgets those that nobody waits for any more.
    fn tidy(&mut self) {
        self.offers.retain(|_, reply| !reply.is_closed());
        self.probes.retain(|_, reply| !reply.is_closed());
    }

    fn is_full(&self) -> bool {
        self.offers.len() + self.probes.len() >= MAX_PENDING
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
    let mut silence = tokio::time::interval(SILENCE_PERIOD);
    silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                None => break,
            },
            _ = silence.tick() => fleet.set_silent(id, link.silent_for() >= SILENCE_LIMIT),
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
    let live = plane.store.live_sessions_of(id).await?;
    let site = plane.coordinator.fleet.node(id).map_or_else(String::new, |node| node.record.site);
    let mut placements = plane.store.placements().await?;
    placements.retain(|(_, _, on, _)| *on == site);
    let saves = desired_saves(plane, &live).await?;
    Ok(desired(&live, saves, &placements, &plane.catalogue, &plane.settings.limits))
}

async fn desired_saves(plane: &Plane, live: &[SessionRecord]) -> Result<BTreeMap<SessionId, DesiredSaves>, StoreError> {
    let of_players = live.iter().filter(|record| record.player_id.is_some());
    let epochs = of_players.map(|record| (record.id, record.epoch)).collect();
    let mut desired = BTreeMap::new();
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
        // Whoever asks hears nothing and goes on without.
        Command::Probe { .. } if pending.is_full() => {}
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
