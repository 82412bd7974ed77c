//! The link to the node: desired instances out, observed ones in, offers across.
//!
//! What shall be is sent on every change and once a period, whole each time: a lost message costs one period.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::SessionId;
use api::node::{DesiredSaves, FromNode, NodeLink, OfferFailure, ToNode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{debug, error, warn};

use super::{NodeView, OfferCommand};
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
pub(crate) const OFFER_QUEUE: usize = 64;

/// Offers that wait for their answers. Each is bounded in time by the request that sent it.
const MAX_PENDING: usize = 256;

type Pending = BTreeMap<u64, oneshot::Sender<Result<String, OfferFailure>>>;

/// Runs until the node is gone or `stop` is raised.
pub(crate) async fn run(
    mut link: impl NodeLink,
    plane: Arc<Plane>,
    mut offers: mpsc::Receiver<OfferCommand>,
    mut stop: Stop,
) {
    let coordinator = &plane.coordinator;
    let mut pending = Pending::new();
    let mut request = 0_u64;
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // In this order: an offer never overtakes the wish for its instance.
            biased;
            () = stop.raised() => return,
            () = coordinator.wanted.notified() => send_desired(&mut link, &plane).await,
            Some(offer) = offers.recv() => {
                request += 1;
                send_offer(&mut link, &mut pending, request, offer).await;
            }
            message = link.receive() => match message {
                Some(message) => receive(&plane, &mut pending, message),
                None => break,
            },
            _ = period.tick() => {
                pending.retain(|_, reply| !reply.is_closed());
                send_desired(&mut link, &plane).await;
            }
        }
    }
    if !plane.is_stopping() {
        error!("the node is gone");
    }
    coordinator.node.send_replace(NodeView::Gone);
}

async fn send_desired(link: &mut impl NodeLink, plane: &Plane) {
    let live = match plane.store.live_sessions().await {
        Ok(live) => live,
        // Sending nothing leaves the node as it is; sending an empty list would end every session.
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "what shall be could not be read");
            return;
        }
    };
    let placements = match plane.store.placements().await {
        Ok(placements) => placements,
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "what shall be could not be read");
            return;
        }
    };
    let saves = match desired_saves(plane, &live).await {
        Ok(saves) => saves,
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "what shall be could not be read");
            return;
        }
    };
    let desired = desired(&live, saves, &placements, &plane.catalogue, &plane.settings.limits);
    match timeout(SEND_LIMIT, link.send(ToNode::Desired(desired))).await {
        Ok(Ok(())) => {}
        // `receive` says the same in a moment.
        Ok(Err(closed)) => debug!(%closed, "what shall be could not be sent"),
        Err(_elapsed) => warn!("the node reads nothing"),
    }
}

async fn desired_saves(plane: &Plane, live: &[SessionRecord]) -> Result<BTreeMap<SessionId, DesiredSaves>, StoreError> {
    let ids: Vec<SessionId> = live.iter().filter(|record| record.player_id.is_some()).map(|record| record.id).collect();
    let mut desired = BTreeMap::new();
    for (id, save) in plane.store.session_saves(&ids).await? {
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

fn receive(plane: &Plane, pending: &mut Pending, message: FromNode) {
    match message {
        FromNode::Observed(node) => {
            let node = NodeView::Seen(Arc::new(node));
            plane.coordinator.node.send_if_modified(|known| {
                let new = *known != node;
                if new {
                    *known = node;
                }
                new
            });
        }
        FromNode::Answer { request, outcome } => match pending.remove(&request) {
            Some(reply) => answer(reply, outcome),
            None => debug!(request, "an answer came too late"),
        },
    }
}

fn answer(reply: oneshot::Sender<Result<String, OfferFailure>>, outcome: Result<String, OfferFailure>) {
    if reply.send(outcome).is_err() {
        debug!("nobody waits for the answer any more");
    }
}
