//! What is learnt of sessions on the way of a look: measurements go in, rows of those that take more come out, and what is worth it is written.

use api::node::{Capacity, InstanceState, InstanceUsage, ObservedInstance};
use tracing::{debug, warn};

use crate::app::{Plane, now};
use crate::demand::{Asked, Demand, Key, guess};
use crate::dispatch::Touched;
use crate::store::SessionRecord;

fn key(record: &SessionRecord) -> Key {
    Key::new(&record.app, record.release, record.spec)
}

/// What is known of what a session takes.
pub(super) fn asked(plane: &Plane, record: &SessionRecord) -> Asked {
    plane.coordinator.demands.asked(&key(record), || {
        let package = plane.catalogue.played(&record.app, record.release);
        let limits = package.map(|package| package.manifest.limits).unwrap_or_default();
        guess(&limits, record.spec)
    })
}

/// Takes what a node measured of a session that is played. Says what it takes, when that is clearly more than its row says.
/// No session takes more than its node has: what says so is wrong, and would refuse the title everywhere.
pub(super) fn measured(
    plane: &Plane,
    record: &SessionRecord,
    instance: Option<&ObservedInstance>,
    node: Capacity,
) -> Option<Demand> {
    let instance = instance.filter(|instance| instance.state == InstanceState::Running { first_frame: true })?;
    let (demands, usage) = (&plane.coordinator.demands, instance.usage.as_ref()?);
    let most = |measured: u32, capacity: Option<u32>| measured.min(capacity.unwrap_or(u32::MAX));
    let usage = InstanceUsage {
        cpu_milli: most(usage.cpu_milli, node.cpu_milli),
        memory_mib: most(usage.memory_mib, node.memory_mib),
        egress_kbps: most(usage.egress_kbps, node.egress_kbps),
        ..*usage
    };
    demands.measured(record.id, record.epoch, &key(record), &usage, now());
    demands.grown(record.id, record.demand)
}

/// What the session becomes, and takes; `None` when it stays as it is.
pub(super) fn with(
    row: &SessionRecord,
    becomes: Option<SessionRecord>,
    takes: Option<Demand>,
) -> Option<SessionRecord> {
    let stays = becomes.as_ref().is_none_or(|new| new.node == row.node && new.epoch == row.epoch);
    let Some(takes) = takes.filter(|_| stays && row.node.is_some() && !row.state.is_ended()) else { return becomes };
    let new = becomes.unwrap_or_else(|| row.clone());
    let demand = new.demand.most(takes);
    let new = new.placed_with(demand);
    (new != *row).then_some(new)
}

/// True when nothing but what it takes has changed: nobody has to be told.
pub(super) fn is_all(old: &SessionRecord, new: &SessionRecord) -> bool {
    let is_all = SessionRecord { demand: old.demand, revision: old.revision, ..new.clone() } == *old;
    if is_all {
        debug!(session = %new.id, demand = ?new.demand, "it takes more than it was placed with");
    }
    is_all
}

/// Those that have ended lower what is thought of their kind.
pub(super) fn forget_ended(plane: &Plane, touched: &Touched, is_whole: bool) {
    let demands = &plane.coordinator.demands;
    for (id, _) in touched.iter().filter(|(_, record)| record.is_none()) {
        demands.ended(*id);
    }
    if is_whole {
        demands.retain(|id| plane.store.live.get(id).is_some());
    }
}

/// Writes what is worth it. What the database does not take is tried again a second later.
pub(super) async fn keep(plane: &Plane) {
    let due = plane.coordinator.demands.due();
    if due.is_empty() {
        return;
    }
    match plane.store.write_demands(&due).await {
        Ok(()) => plane.coordinator.demands.written(&due),
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "what sessions take could not be written");
        }
    }
}
