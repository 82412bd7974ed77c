//! Is a node that is not heard of gone, or only out of sight? Its sessions are ended by the first and go on in the second.
//!
//! Over-eager judges kill live games: silence alone makes a node suspect, and nothing new goes there. It is lost when somebody else confirms it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::id::NodeId;
use api::node::ProbeOutcome;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::fleet::NodeView;
use crate::app::Plane;
use crate::stop::Stop;

/// How often silent nodes are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// Others that are asked about one. More ask at more places, and take more of their time.
const WITNESSES: usize = 3;

/// How long the control plane itself waits for a witness, in one look.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// A node that nobody reaches is lost after so long. Shorter ends games for a switch that restarts, longer lets players wait.
const UNREACHED: Duration = Duration::from_secs(2);

/// A node that the control plane alone cannot reach, with nobody else to ask, is lost after so long: it may be the control plane's own network
/// that is broken.
const ALONE: Duration = Duration::from_secs(30);

/// Runs until `stop` is raised.
pub(crate) async fn run(plane: Arc<Plane>, mut stop: Stop) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One look at each node at a time; all end with this task.
    let mut looks = JoinSet::new();
    let mut looked_at = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.raised() => return,
            Some(done) = looks.join_next() => {
                if let Ok(id) = done {
                    looked_at.remove(&id);
                }
            }
            _ = period.tick() => {
                for (node, _) in plane.coordinator.fleet.silent() {
                    if looked_at.insert(node.record.id) {
                        looks.spawn(look(node, Arc::clone(&plane)));
                    }
                }
            }
        }
    }
}

/// Asks everybody who can be asked about a node, and decides.
async fn look(node: NodeView, plane: Arc<Plane>) -> NodeId {
    let (id, fleet) = (node.record.id, &plane.coordinator.fleet);
    let (own, others) = match node.last.as_ref().and_then(|last| last.witness) {
        Some(address) => {
            let alive: Vec<NodeId> = fleet.read(|nodes| {
                let alive = nodes.filter(|other| other.health == api::fleet::Health::Alive);
                alive.take(WITNESSES).map(|other| other.record.id).collect()
            });
            let asked = join_all(alive.into_iter().map(|other| fleet.probe(other, address)));
            tokio::join!(link::witness::probe(address, LOOK_LIMIT), asked)
        }
        // It never said where its witness is: after a restart of the control plane it has to come by itself.
        None => (ProbeOutcome::Unknown, Vec::new()),
    };
    // It may have come back while others were asked.
    let Some(silent_for) = fleet.silent_for(id) else { return id };
    if is_lost(own, &others, silent_for) {
        error!(node = %id, ?own, ?others, ?silent_for, "the node is lost");
        fleet.set_lost(id);
    } else {
        info!(node = %id, ?own, ?others, ?silent_for, "a node is not heard of");
        tokio::time::sleep(PERIOD * 3).await;
    }
    id
}

/// Pure: what the control plane and others found, and for how long nothing was heard.
fn is_lost(own: ProbeOutcome, others: &[ProbeOutcome], silent_for: Duration) -> bool {
    let found = |outcome| own == outcome || others.contains(&outcome);
    let somebody_else = others.iter().any(|outcome| *outcome != ProbeOutcome::Unknown);
    // Its agent answers somebody: its games go on, and only its link is broken.
    if found(ProbeOutcome::Alive) {
        return false;
    }
    // Its machine says that the agent is not there; games end with their agent.
    if found(ProbeOutcome::Refused) {
        return true;
    }
    silent_for >= if somebody_else { UNREACHED } else { ALONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_alone_ends_no_game() {
        use ProbeOutcome::{Alive, Refused, Silent, Unknown};
        let check = |own, others: &[ProbeOutcome], seconds, expected| {
            assert_eq!(is_lost(own, others, Duration::from_secs(seconds)), expected, "{own:?} {others:?} {seconds}");
        };
        check(Silent, &[Silent, Silent], 1, false);
        check(Silent, &[Silent, Silent], 2, true);
        check(Silent, &[Silent, Unknown], 2, true);
        // One that somebody reaches is only out of our sight.
        check(Silent, &[Silent, Alive], 3600, false);
        check(Alive, &[Silent, Silent], 3600, false);
        check(Refused, &[Alive], 3600, false);
        // A machine that answers for its agent leaves no doubt.
        check(Refused, &[], 0, true);
        check(Silent, &[Refused], 0, true);
        // With nobody to ask the fault may be ours.
        check(Silent, &[], 29, false);
        check(Silent, &[Unknown], 29, false);
        check(Silent, &[Unknown], 30, true);
        check(Unknown, &[], 30, true);
    }
}
