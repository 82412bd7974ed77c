//! May another session be asked for? A pure function of the nodes and of what is used; every refusal says why. Whether there is room for it now
//! is another question, and its answer a place in the queue.

use api::node::NodeRefusal;
use api::problem::{Problem, ProblemKind};

use crate::coordinator::fleet::NodeView;
use crate::store::Usage;

/// Seconds after which it makes sense to ask again when the queue is full: sessions are long, so often is no use.
const RETRY_FULL_S: u32 = 30;

/// Seconds until a node may have come back.
const RETRY_NODE_S: u32 = 3;

/// Why there is no other session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The service is being stopped.
    Stopping,
    /// No node has reported yet, or it is gone.
    NoNode,
    /// The node has too little disk space.
    DiskFull {
        /// Free MiB.
        free_mb: u64,
        /// Needed MiB.
        needed_mb: u64,
    },
    /// As many wait as may.
    Queue {
        /// How many.
        limit: u32,
    },
    /// The player has as many sessions as he may.
    Player {
        /// As many.
        limit: u32,
    },
    /// The address has as many sessions as it may.
    Address {
        /// As many.
        limit: u32,
    },
}

impl Refused {
    /// What the player is told.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Stopping => "The service is being stopped and takes no new session.".to_owned(),
            Self::NoNode => "No machine that could run the game is connected.".to_owned(),
            Self::DiskFull { free_mb, needed_mb } => {
                format!("The machine has {free_mb} MiB of disk space left, but a new session may need {needed_mb} MiB.")
            }
            Self::Queue { limit } => format!("All places are taken, and {limit} are waiting, which is the limit."),
            Self::Player { limit } => format!("{limit} sessions of yours are running, which is the limit."),
            Self::Address { limit } => format!("{limit} sessions are running from your address, which is the limit."),
        }
    }

    /// As the API answers it.
    pub(crate) fn problem(&self) -> Problem {
        let (kind, retry) = match self {
            Self::Stopping => (ProblemKind::ServiceStopping, Some(RETRY_NODE_S)),
            Self::NoNode => (ProblemKind::NoNode, Some(RETRY_NODE_S)),
            Self::DiskFull { .. } => (ProblemKind::DiskFull, None),
            Self::Queue { .. } => (ProblemKind::NoCapacity, Some(RETRY_FULL_S)),
            Self::Player { .. } | Self::Address { .. } => (ProblemKind::TooManySessions, None),
        };
        let problem = kind.because(self.sentence());
        match retry {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// Of one player, and of one address.
    pub(crate) of_player: u32,
    /// That wait.
    pub(crate) waiting: u32,
}

/// May this player ask for a session? The address counts beside the player: anybody can make himself another player, but not another
/// address.
pub(crate) fn admit<'a>(nodes: impl Iterator<Item = &'a NodeView>, usage: Usage, most: Most) -> Result<(), Refused> {
    if usage.of_player >= most.of_player {
        return Err(Refused::Player { limit: most.of_player });
    }
    if usage.of_address >= most.of_player {
        return Err(Refused::Address { limit: most.of_player });
    }
    if usage.waiting >= most.waiting {
        return Err(Refused::Queue { limit: most.waiting });
    }
    admit_any(nodes)
}

/// Is there any node that could take a session, now or when somebody leaves?
pub(crate) fn admit_any<'a>(nodes: impl Iterator<Item = &'a NodeView>) -> Result<(), Refused> {
    let mut refused = Refused::NoNode;
    for node in nodes.filter(|node| node.last.is_some() && node.is_of_use()) {
        match (node.refuses(), &refused) {
            (None, _) => return Ok(()),
            (Some(NodeRefusal::DiskFull { free_mb, needed_mb }), Refused::NoNode) => {
                refused = Refused::DiskFull { free_mb: *free_mb, needed_mb: *needed_mb };
            }
            (Some(NodeRefusal::Stopping), Refused::NoNode) => refused = Refused::Stopping,
            // The first one's reason is as good as any.
            (Some(_), _) => {}
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::clock::UtcTime;
    use api::fleet::{Duty, Health};
    use api::id::NodeId;
    use api::node::{Capacity, ObservedNode};

    use super::*;
    use crate::coordinator::fleet::Nodes;
    use crate::store::NodeRecord;

    fn nodes(all: &[(Health, Duty, Option<NodeRefusal>)]) -> Nodes {
        let capacity = Capacity { sessions: 4, pixels_per_second: 200_000_000, ..Capacity::default() };
        let node = |(number, (health, duty, refuses)): (u128, &(Health, Duty, Option<NodeRefusal>))| {
            let id = NodeId::from_uuid(uuid::Uuid::from_u128(number));
            let (site, class, name) = ("local".to_owned(), "standard".to_owned(), "one".to_owned());
            let joined_at = UtcTime::from_unix_ms(0);
            let record = Arc::new(NodeRecord { id, name, site, class, duty: *duty, capacity, joined_at });
            let (instances, replicas) = (Vec::new(), Vec::new());
            let last = ObservedNode {
                node: id,
                capacity,
                refuses: refuses.clone(),
                instances,
                replicas,
                commands: Vec::new(),
                witness: None,
                echo: false,
            };
            let last = (*health != Health::Awaited).then(|| Arc::new(last));
            (id, NodeView { record, health: *health, last })
        };
        (1..).zip(all).map(node).collect()
    }

    #[test]
    fn each_refusal_names_its_reason() {
        let used = |of_player, of_address, waiting| Usage { placed: 0, waiting, of_address, of_player };
        let most = Most { of_player: 2, waiting: 10 };
        let check = |nodes: &Nodes, usage: Usage, expected: Result<(), &str>| {
            let got = admit(nodes.values(), usage, most).map_err(|refused| refused.problem());
            let kind = got
                .as_ref()
                .map(|_| ())
                .map_err(|problem| problem.kind.as_str().trim_start_matches("urn:kite:problem:"));
            assert_eq!(kind, expected, "{got:?}");
        };
        let full = Some(NodeRefusal::DiskFull { free_mb: 3, needed_mb: 99 });
        let good = nodes(&[(Health::Alive, Duty::Active, None)]);
        check(&good, used(1, 1, 9), Ok(()));
        check(&good, used(2, 0, 0), Err("too_many_sessions"));
        check(&good, used(0, 2, 0), Err("too_many_sessions"));
        check(&good, used(0, 0, 10), Err("no_capacity"));
        let one = |health, duty, refuses| nodes(&[(health, duty, refuses)]);
        check(&one(Health::Alive, Duty::Active, full.clone()), used(0, 0, 0), Err("disk_full"));
        check(&one(Health::Alive, Duty::Active, Some(NodeRefusal::Stopping)), used(0, 0, 0), Err("service_stopping"));
        check(&one(Health::Awaited, Duty::Active, None), used(0, 0, 0), Err("no_node"));
        check(&one(Health::Lost, Duty::Active, None), used(0, 0, 0), Err("no_node"));
        check(&one(Health::Alive, Duty::Cordoned, None), used(0, 0, 0), Err("no_node"));
        check(&nodes(&[]), used(0, 0, 0), Err("no_node"));
        // One that is suspect may be well again in a moment: its players wait for that.
        check(&one(Health::Suspect, Duty::Active, None), used(0, 0, 0), Ok(()));
        let two = nodes(&[(Health::Alive, Duty::Active, full), (Health::Alive, Duty::Active, None)]);
        check(&two, used(0, 0, 0), Ok(()));
    }
}
