//! Why a session is where it is, waits, or cannot be had: for each site one verdict, as data and as a sentence.

use std::fmt;
use std::time::Duration;

use crate::request::{NodeId, SiteId};
use crate::resources::Dimension;

/// What was found of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session is there.
    Chosen {
        /// On which node.
        node: NodeId,
        /// Lower is better.
        score: u32,
    },
    /// A better place was found elsewhere; whether there was one here was not looked at.
    Worse {
        /// Lower is better.
        score: u32,
    },
    /// The site has none of this hardware class.
    NoClass,
    /// The tenant or the player may not use it.
    NotAllowed,
    /// The release is not there, and nobody brings it.
    ReleaseAbsent,
    /// The release is on its way.
    ReleaseArriving {
        /// Thousandths that are there.
        permille: u16,
    },
    /// The way is longer than is playable.
    TooFar {
        /// There and back.
        round_trip: Duration,
        /// The longest.
        most: Duration,
    },
    /// None of its nodes takes sessions now.
    NoNode,
    /// Even an empty node of it is too small.
    TooSmall {
        /// What there is too little of.
        of: Dimension,
    },
    /// All that would be large enough is used.
    Full {
        /// What there is too little of, on the node with most room.
        of: Dimension,
    },
    /// Others wait there who were first.
    Queued {
        /// How many.
        ahead: u32,
    },
}

impl Verdict {
    /// True when waiting alone can change it.
    #[must_use]
    pub fn may_change(&self) -> bool {
        match self {
            Verdict::Chosen { .. }
            | Verdict::Worse { .. }
            | Verdict::ReleaseArriving { .. }
            | Verdict::NoNode
            | Verdict::Full { .. }
            | Verdict::Queued { .. } => true,
            Verdict::NoClass
            | Verdict::NotAllowed
            | Verdict::ReleaseAbsent
            | Verdict::TooFar { .. }
            | Verdict::TooSmall { .. } => false,
        }
    }

    /// The word for machines.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Chosen { .. } => "chosen",
            Verdict::Worse { .. } => "worse",
            Verdict::NoClass => "no_class",
            Verdict::NotAllowed => "not_allowed",
            Verdict::ReleaseAbsent => "release_absent",
            Verdict::ReleaseArriving { .. } => "release_arriving",
            Verdict::TooFar { .. } => "too_far",
            Verdict::NoNode => "no_node",
            Verdict::TooSmall { .. } => "too_small",
            Verdict::Full { .. } => "full",
            Verdict::Queued { .. } => "queued",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Chosen { score, .. } => write!(f, "it is the best place (score {score})"),
            Verdict::Worse { score } => write!(f, "a better place was found elsewhere (score {score})"),
            Verdict::NoClass => f.write_str("it has no machines of this class"),
            Verdict::NotAllowed => f.write_str("it may not be used for this session"),
            Verdict::ReleaseAbsent => f.write_str("the game is not there"),
            Verdict::ReleaseArriving { permille } => write!(f, "the game is being brought there: {} %", permille / 10),
            Verdict::TooFar { round_trip, most } => {
                write!(f, "it is too far: {} ms, of at most {}", round_trip.as_millis(), most.as_millis())
            }
            Verdict::NoNode => f.write_str("none of its machines takes sessions now"),
            Verdict::TooSmall { of } => write!(f, "its machines are too small for this session: {of}"),
            Verdict::Full { of } => write!(f, "it is full: no {of} left"),
            Verdict::Queued { ahead } => write!(f, "others wait for it: {ahead}"),
        }
    }
}

/// All sites, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation(pub Vec<(SiteId, Verdict)>);

impl Explanation {
    /// True when waiting can help somewhere.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.0.iter().any(|(_, verdict)| verdict.may_change())
    }
}
