//! Lets machines into the fleet, and nodes in again.

use std::sync::Arc;

use api::fleet::Duty;
use api::id::NodeId;
use api::node::Capacity;
use link::{Incoming, JoinRequest, LinkRequest, Listener, Refusal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::node::{self, Closing};
use crate::app::{Plane, now};
use crate::stop::Stop;
use crate::store::NodeRecord;

/// Runs until `stop` is raised.
pub(crate) async fn run(mut listener: Listener, plane: Arc<Plane>, mut stop: Stop) {
    // Links end with this task.
    let mut links = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = stop.raised() => break,
            _ended = links.join_next(), if !links.is_empty() => continue,
            incoming = listener.next() => incoming,
        };
        match incoming {
            Ok(Incoming::Join(request)) => {
                links.spawn(join(request, Arc::clone(&plane)));
            }
            Ok(Incoming::Link(request)) => {
                links.spawn(take(request, Arc::clone(&plane), stop.clone()));
            }
            Err(closed) => {
                error!(%closed, "no node can connect any more");
                break;
            }
        }
    }
    // They hear of the stop, too.
    while links.join_next().await.is_some() {}
}

/// A machine that has a token becomes a node.
async fn join(request: JoinRequest, plane: Arc<Plane>) {
    let (peer, name) = (request.peer(), request.name().to_owned());
    let (secret, key) = (*request.secret_hash().bytes(), *request.key().bytes());
    let at = now();
    let joined = plane.store.join(secret, key, at, |place| NodeRecord {
        id: NodeId::from_uuid(Uuid::now_v7()),
        name,
        site: place.site,
        class: place.class,
        duty: Duty::Active,
        // It says what it has when it connects.
        capacity: Capacity::default(),
        joined_at: at,
    });
    let record = match joined.await {
        Ok(Some(record)) => record,
        Ok(None) => {
            warn!(%peer, "a machine tried to join without a good token");
            return request.refuse(Refusal::Token).await;
        }
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "a machine could not join");
            return request.refuse(Refusal::Busy).await;
        }
    };
    let (node, site) = (record.id, record.site.clone());
    plane.coordinator.fleet.add(record);
    match request.accept(node).await {
        Ok(()) => info!(%node, site, %peer, "node joined"),
        Err(error) => {
            warn!(%node, %peer, error = &error as &dyn std::error::Error, "a machine did not hear that it joined")
        }
    }
}

/// A node that is known has its link.
async fn take(request: LinkRequest, plane: Arc<Plane>, stop: Stop) {
    let (id, peer) = (request.node(), request.peer());
    match plane.coordinator.fleet.node(id).map(|node| node.record.duty) {
        Some(Duty::Active | Duty::Cordoned | Duty::Draining) => {}
        Some(Duty::Retired) | None => {
            warn!(node = %id, %peer, "a node that is none of the fleet's was sent away");
            return request.refuse(Refusal::Retired).await;
        }
    }
    if let Ok(link) = request.accept().await {
        node::run(id, link, Closing::Suspect, plane, stop).await;
    }
}
