//! The link to a node: desired instances out, observed ones in, offers across.
//!
//! What shall be is sent on every change and once a period, whole each time: a lost message costs one period.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::{NodeId, SessionId};
use api::node::{DesiredInstances, DesiredSaves, FromNode, NodeLink, OfferFailure, ToNode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{debug, error, info, warn};

use super::OfferCommand;
use crate::app::Plane;
use crate::reconcile::desired::desired;
use crate::stop::Stop;
use crate::store::{SessionRecord, StoreError};

/// How often everything is sent without a change. Shorter only costs copies; longer leaves a node that lost a message
/// with old wishes for as long.
const PERIOD: Duration = Duration::from_secs(2);

/// How long a full link may make the control plane wait. A node that reads nothing for so long hangs.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Offers that wait in front of the link.
const OFFER_QUEUE: usize = 64;

/// How long a node may say nothing before it is suspect: it says something ten times a second. Shorter suspects nodes whose machine is merely
/// busy, longer sends players to nodes that are gone.
const SILENCE_LIMIT: Duration = Duration::from_millis(300);

/// How often it is looked whether a node is silent.
const SILENCE_PERIOD: Duration = Duration::from_millis(50);

/// Offers that wait for their answers. Each is bounded in time by the request that sent it.
const MAX_PENDING: usize = 256;

type Pending = BTreeMap<u64, oneshot::Sender<Result<String, OfferFailure>>>;

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
    let (offers_in, mut offers) = mpsc::channel(OFFER_QUEUE);
    let Some((wanted, number)) = fleet.connect(id, offers_in) else { return };
    info!(node = %id, "node connected");
    let mut pending = Pending::new();
    let mut request = 0_u64;
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
            Some(offer) = offers.recv() => {
                request += 1;
                send_offer(&mut link, &mut pending, request, offer).await;
            }
            message = link.receive() => match message {
                Some(FromNode::Observed(observed)) => fleet.observe(id, number, observed),
                Some(FromNode::Answer { request, outcome }) => answered(&mut pending, request, outcome),
                None => break,
            },
            _ = silence.tick() => fleet.set_silent(id, link.silent_for() >= SILENCE_LIMIT),
            _ = period.tick() => {
                pending.retain(|_, reply| !reply.is_closed());
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

async fn send_offer(link: &mut impl NodeLink, pending: &mut Pending, request: u64, offer: OfferCommand) {
    let OfferCommand { instance, epoch, sdp, reply } = offer;
    if pending.len() >= MAX_PENDING {
        answer(reply, Err(OfferFailure::Timeout));
        return;
    }
    match timeout(SEND_LIMIT, link.send(ToNode::Offer { request, instance, epoch, sdp })).await {
        Ok(Ok(())) => {
            pending.insert(request, reply);
        }
        Ok(Err(_closed)) => answer(reply, Err(OfferFailure::Gone)),
        Err(_elapsed) => answer(reply, Err(OfferFailure::Timeout)),
    }
}

fn answered(pending: &mut Pending, request: u64, outcome: Result<String, OfferFailure>) {
    match pending.remove(&request) {
        Some(reply) => answer(reply, outcome),
        None => debug!(request, "an answer came too late"),
    }
}

fn answer(reply: oneshot::Sender<Result<String, OfferFailure>>, outcome: Result<String, OfferFailure>) {
    if reply.send(outcome).is_err() {
        debug!("nobody waits for the answer any more");
    }
}
