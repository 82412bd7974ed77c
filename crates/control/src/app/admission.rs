//! May another session be had? A pure function of what the node holds and what is used; every refusal says why.

use api::node::{Capacity, NodeRefusal};
use api::problem::{Problem, ProblemKind};
use api::spec::StreamSpec;

use crate::coordinator::NodeView;
use crate::store::Usage;

/// Seconds after which it makes sense to ask again when every place is taken: sessions are long, so often is no use.
const RETRY_FULL_S: u32 = 10;

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
    /// Every place is taken.
    Places {
        /// How many there are.
        capacity: u32,
    },
    /// A place is free, but the encoder's power is used.
    Pixels {
        /// Pixels a second that are free.
        free: u64,
        /// Pixels a second that were asked for.
        needed: u64,
        /// The node's whole power: a smaller spec always helps when even an empty node is too small.
        capacity: u64,
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
        let mega = |pixels: u64| pixels.div_ceil(1_000_000);
        match self {
            Self::Stopping => "The service is being stopped and takes no new session.".to_owned(),
            Self::NoNode => "No machine that could run the game is connected.".to_owned(),
            Self::DiskFull { free_mb, needed_mb } => {
                format!("The machine has {free_mb} MiB of disk space left, but a new session may need {needed_mb} MiB.")
            }
            Self::Places { capacity: 0 } => "This machine has no place for sessions.".to_owned(),
            Self::Places { capacity } => format!("All places are taken: {capacity} of {capacity}."),
            Self::Pixels { needed, capacity, .. } if needed > capacity => format!(
                "This spec needs {} million pixels a second, but the whole machine encodes {}.",
                mega(*needed),
                capacity / 1_000_000
            ),
            Self::Pixels { free, needed, .. } => format!(
                "This spec needs {} million pixels a second, but only {} are free beside the running sessions.",
                mega(*needed),
                free / 1_000_000
            ),
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
            Self::Pixels { needed, capacity, .. } if needed > capacity => (ProblemKind::NoCapacity, None),
            Self::Places { .. } | Self::Pixels { .. } => (ProblemKind::NoCapacity, Some(RETRY_FULL_S)),
            Self::Player { .. } | Self::Address { .. } => (ProblemKind::TooManySessions, None),
        };
        let problem = kind.because(self.sentence());
        match retry {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }
}

/// May this player have a session of this spec? The address counts beside the player: anybody can make himself another
/// player, but not another address.
pub(crate) fn admit(node: &NodeView, usage: Usage, spec: StreamSpec, per_player: u32) -> Result<(), Refused> {
    if usage.sessions_of_player >= per_player {
        return Err(Refused::Player { limit: per_player });
    }
    if usage.sessions_of_address >= per_player {
        return Err(Refused::Address { limit: per_player });
    }
    let capacity = places(node, usage)?;
    let needed = spec.pixels_per_second();
    let free = capacity.pixels_per_second.saturating_sub(usage.pixels_per_second);
    if needed > free {
        return Err(Refused::Pixels { free, needed, capacity: capacity.pixels_per_second });
    }
    Ok(())
}

/// Could anybody have a session, however small?
pub(crate) fn admit_any(node: &NodeView, usage: Usage) -> Result<(), Refused> {
    let capacity = places(node, usage)?;
    if usage.pixels_per_second >= capacity.pixels_per_second {
        return Err(Refused::Pixels { free: 0, needed: 0, capacity: capacity.pixels_per_second });
    }
    Ok(())
}

fn places(node: &NodeView, usage: Usage) -> Result<Capacity, Refused> {
    let node = match node {
        NodeView::Awaited | NodeView::Gone => return Err(Refused::NoNode),
        NodeView::Seen(node) => node,
    };
    match node.refuses {
        Some(NodeRefusal::DiskFull { free_mb, needed_mb }) => return Err(Refused::DiskFull { free_mb, needed_mb }),
        Some(NodeRefusal::Stopping) => return Err(Refused::Stopping),
        None => {}
    }
    if usage.sessions >= node.capacity.sessions {
        return Err(Refused::Places { capacity: node.capacity.sessions });
    }
    Ok(node.capacity)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::id::NodeId;
    use api::node::ObservedNode;

    use super::*;

    const HD: StreamSpec = StreamSpec { width: 1280, height: 720, frames_per_second: 60 };

    fn node(sessions: u32, pixels_per_second: u64, refuses: Option<NodeRefusal>) -> NodeView {
        NodeView::Seen(Arc::new(ObservedNode {
            node: NodeId::from_uuid(uuid::Uuid::nil()),
            capacity: Capacity { sessions, pixels_per_second },
            refuses,
            instances: Vec::new(),
            replicas: Vec::new(),
        }))
    }

    #[test]
    fn each_refusal_names_its_reason() {
        let used = |sessions, pixels_per_second, sessions_of_address| Usage {
            sessions,
            pixels_per_second,
            sessions_of_address,
            sessions_of_player: 0,
        };
        let check = |node: &NodeView, usage: Usage, expected: Result<(), &str>| {
            let got = admit(node, usage, HD, 2).map_err(|refused| refused.problem());
            let kind = got
                .as_ref()
                .map(|_| ())
                .map_err(|problem| problem.kind.as_str().trim_start_matches("urn:kite:problem:"));
            assert_eq!(kind, expected, "{got:?}");
        };
        let roomy = node(4, 200_000_000, None);
        check(&roomy, used(0, 0, 0), Ok(()));
        check(&roomy, used(3, 100_000_000, 1), Ok(()));
        check(&roomy, used(4, 0, 0), Err("no_capacity"));
        check(&roomy, used(1, 150_000_000, 0), Err("no_capacity"));
        check(&roomy, used(0, 0, 2), Err("too_many_sessions"));
        check(&roomy, Usage { sessions_of_player: 2, ..used(0, 0, 0) }, Err("too_many_sessions"));
        check(&node(4, 1_000_000, None), used(0, 0, 0), Err("no_capacity"));
        check(&node(0, 0, None), used(0, 0, 0), Err("no_capacity"));
        check(
            &node(4, 200_000_000, Some(NodeRefusal::DiskFull { free_mb: 3, needed_mb: 99 })),
            used(0, 0, 0),
            Err("disk_full"),
        );
        check(&node(4, 200_000_000, Some(NodeRefusal::Stopping)), used(0, 0, 0), Err("service_stopping"));
        check(&NodeView::Awaited, used(0, 0, 0), Err("no_node"));
        check(&NodeView::Gone, used(0, 0, 0), Err("no_node"));
        assert_eq!(admit_any(&roomy, used(1, 199_999_999, 0)), Ok(()));
        assert!(admit_any(&roomy, used(1, 200_000_000, 0)).is_err());
    }

    #[test]
    fn sentences_hold_the_figures() {
        let sentence = |refused: Refused| refused.sentence();
        assert_eq!(sentence(Refused::Places { capacity: 4 }), "All places are taken: 4 of 4.");
        let small = Refused::Pixels { free: 20_000_000, needed: 55_296_000, capacity: 100_000_000 };
        assert_eq!(
            sentence(small),
            "This spec needs 56 million pixels a second, but only 20 are free beside the running sessions."
        );
        let never = Refused::Pixels { free: 0, needed: 55_296_000, capacity: 50_000_000 };
        assert_eq!(
            sentence(never.clone()),
            "This spec needs 56 million pixels a second, but the whole machine encodes 50."
        );
        assert_eq!(never.problem().retry_after_s, None, "waiting would not help");
    }
}
