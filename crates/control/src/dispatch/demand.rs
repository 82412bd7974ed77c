//! What sessions take of nodes, and nodes have, as the scheduler counts it.

use std::time::Duration;

use api::node::Capacity;
use api::spec::StreamSpec;
use scheduler::{NodeState, Resources};

use super::{Dispatcher, Shown};
use crate::demand::Demand;
use crate::store::SessionRecord;

/// What a node has. What it does not state is more than anybody takes.
pub(super) fn resources(capacity: Capacity) -> Resources {
    Resources {
        sessions: capacity.sessions,
        cpu_milli: capacity.cpu_milli.unwrap_or(u32::MAX),
        memory_mib: capacity.memory_mib.unwrap_or(u32::MAX),
        gpu_milli: 0,
        encoder_kpixels: u32::try_from(capacity.pixels_per_second / 1000).unwrap_or(u32::MAX),
        egress_kbps: capacity.egress_kbps.unwrap_or(u32::MAX),
    }
}

/// What a session of this spec takes. A thousand of pixels that is begun counts as one.
fn taken(spec: StreamSpec, demand: Demand) -> Resources {
    Resources {
        sessions: 1,
        cpu_milli: demand.cpu_milli,
        memory_mib: demand.memory_mib,
        gpu_milli: 0,
        encoder_kpixels: u32::try_from(spec.pixels_per_second().div_ceil(1000)).unwrap_or(u32::MAX),
        egress_kbps: demand.egress_kbps,
    }
}

/// The part of it that is learnt.
pub(super) fn of(resources: Resources) -> Demand {
    let Resources { cpu_milli, memory_mib, egress_kbps, .. } = resources;
    Demand { cpu_milli, memory_mib, egress_kbps }
}

impl Dispatcher {
    /// What a session takes: with a place, what its row says; without one, what is known now.
    pub(super) fn need(&self, record: &SessionRecord, shown: &Shown<'_>) -> Resources {
        if record.node.is_some() {
            return taken(record.spec, record.demand);
        }
        let asked = (shown.asked)(record);
        let need = taken(record.spec, asked.demand);
        if asked.is_known { need } else { self.fitted(need) }
    }

    /// A guess, made no larger than the node that would come nearest to it: nobody is refused for good by what nobody knows.
    fn fitted(&self, need: Resources) -> Resources {
        let of_use = self.told_nodes.values().filter(|(_, state)| *state != NodeState::Lost);
        let mut nearest: Option<(u32, Resources)> = None;
        for node in of_use.map(|(capacity, _)| resources(*capacity)) {
            if need.fits_in(&node) {
                return need;
            }
            let share = need.share_of(&node);
            if nearest.is_none_or(|(least, _)| share < least) {
                nearest = Some((share, node));
            }
        }
        let Some((_, node)) = nearest else { return need };
        Resources {
            cpu_milli: need.cpu_milli.min(node.cpu_milli),
            memory_mib: need.memory_mib.min(node.memory_mib),
            egress_kbps: need.egress_kbps.min(node.egress_kbps),
            ..need
        }
    }

    /// Tells what was learnt: of sessions that play and take more than they were placed with, and of the kinds of those who wait.
    pub(super) fn learn(&mut self, now: Duration, shown: &Shown<'_>) {
        for record in shown.live().filter(|record| record.node.is_some()) {
            self.tell_need(now, record, shown);
        }
        if self.asked_version == shown.asked_version {
            return;
        }
        self.asked_version = shown.asked_version;
        for id in self.waits.clone() {
            // One that was given a place that is not written yet keeps what that was given for.
            let waits = self.session(id).is_some_and(|session| self.scheduler.node_of(session).is_none());
            if let Some(record) = (shown.record)(id).filter(|record| waits && record.node.is_none()) {
                self.tell_need(now, &record, shown);
            }
        }
    }

    fn tell_need(&mut self, now: Duration, record: &SessionRecord, shown: &Shown<'_>) {
        let Some(session) = self.session(record.id) else { return };
        let need = self.need(record, shown);
        if self.scheduler.resources_of(session).is_some_and(|told| told != need) {
            self.scheduler.set_resources(now, session, need);
        }
    }
}
