//! A session as its player sees it: the state, the reason of its end, and who was at fault.
//!
//! ```text
//! REQUESTED -> RESERVED -> PREPARING -> READY -> CONNECTED <-> RECONNECTING
//!    |            ^           ^
//!    v            |           |
//!  QUEUED -> OFFERED      RECOVERING <- any state with a node, when the node is lost
//!
//! any state -> STOPPING -> ENDED(reason, party), or ENDED at once where nothing runs yet
//! STOPPING(restarted) -> RESERVED, STOPPING(moved) -> RECOVERING: the session goes on with another instance
//! ```
//! Deliberately absent: who may go where and why; that is the control plane's.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionState {
    /// It was asked for; where it goes is being decided.
    Requested,
    /// It waits for a place. How long, and behind how many, is told apart: it changes without the session changing.
    Queued {
        /// For what.
        cause: WaitCause,
    },
    /// A place is kept for it, until its player says that he still wants it.
    Offered {
        /// Ends with `offer_lapsed` when nobody accepted until then.
        until: UtcTime,
    },
    /// Capacity is held for it; no node works on it yet.
    Reserved,
    /// Its node was lost: it waits for a place on another one, before all others.
    Recovering {
        /// Since when.
        since: UtcTime,
    },
    /// A node starts the display, then the game.
    Preparing {
        /// How far it is.
        stage: PrepareStage,
    },
    /// The game runs and waits for its player. An offer is welcome before this state too: it waits.
    Ready {
        /// Ends with `connect_timeout` when nobody came until then.
        connect_until: UtcTime,
    },
    /// Media flows.
    Connected {
        /// Since when.
        since: UtcTime,
    },
    /// The player's connection broke; the game goes on.
    Reconnecting {
        /// Ends with `reconnect_timeout` when the player is not back until then.
        until: UtcTime,
    },
    /// The game is being stopped.
    Stopping {
        /// Why.
        reason: EndReason,
    },
    /// Nothing of it runs any more. The last state.
    Ended {
        /// Why.
        reason: EndReason,
        /// Who caused it.
        party: Party,
        /// When.
        at: UtcTime,
    },
}

impl SessionState {
    /// The word that stands in the `state` field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Queued { .. } => "queued",
            Self::Offered { .. } => "offered",
            Self::Reserved => "reserved",
            Self::Recovering { .. } => "recovering",
            Self::Preparing { .. } => "preparing",
            Self::Ready { .. } => "ready",
            Self::Connected { .. } => "connected",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Stopping { .. } => "stopping",
            Self::Ended { .. } => "ended",
        }
    }

    /// True for the last state.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        match self {
            Self::Ended { .. } => true,
            Self::Requested
            | Self::Queued { .. }
            | Self::Offered { .. }
            | Self::Reserved
            | Self::Recovering { .. }
            | Self::Preparing { .. }
            | Self::Ready { .. }
            | Self::Connected { .. }
            | Self::Reconnecting { .. }
            | Self::Stopping { .. } => false,
        }
    }

    /// What the player is told.
    #[must_use]
    pub const fn sentence(&self) -> &'static str {
        match self {
            Self::Requested => "A place is being looked for.",
            Self::Queued { cause: WaitCause::Capacity } => "All places are taken. You are in the queue.",
            Self::Queued { cause: WaitCause::Quota } => {
                "All places that were ordered for this game are taken. You are in the queue."
            }
            Self::Offered { .. } => "It is your turn. A place is kept for you.",
            Self::Reserved => "A place is reserved for you.",
            Self::Recovering { .. } => "The machine of your game was lost. It is started on another one.",
            Self::Preparing { stage: PrepareStage::Content } => "The game is being brought to the machine.",
            Self::Preparing { stage: PrepareStage::Streamer } => "Your screen is being set up.",
            Self::Preparing { stage: PrepareStage::Game } => "The game is starting.",
            Self::Ready { .. } => "The game is ready for you.",
            Self::Connected { .. } => "You are playing.",
            Self::Reconnecting { .. } => "The connection was lost. The game waits for you.",
            Self::Stopping { reason: EndReason::Restarted } => EndReason::Restarted.sentence(),
            Self::Stopping { .. } => "The game is being stopped.",
            Self::Ended { reason, .. } => reason.sentence(),
        }
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitCause {
    /// The tenant uses all that it ordered: one of its own sessions has to end.
    Quota,
    /// All machines that would do are full: anybody's session has to end.
    Capacity,
}

/// How far the preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrepareStage {
    /// The game is fetched to the site.
    Content,
    /// Display, sound and network are set up.
    Streamer,
    /// The game is started.
    Game,
}

/// Who caused an end. Faults of the platform are never the player's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The player, by will or by absence.
    Player,
    /// The game's program.
    Game,
    /// Kite or the machine under it.
    Platform,
    /// The people who run the installation, or a rule that they set.
    Operator,
}

macro_rules! end_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident, $word:literal, $party:ident, $sentence:literal;)+) => {
        /// Why a session ended. The words are part of the contract: none is renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum EndReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl EndReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word in JSON, SQL and logs.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Who caused it.
            #[must_use]
            pub const fn party(self) -> Party {
                match self { $(Self::$name => Party::$party,)+ }
            }

            /// What the player is told: what happened, and what to do where something can be done.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }

            /// From the word; `None` for a word that is none of ours.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

impl EndReason {
    /// True of an instance's end after which its session goes on with another instance.
    #[must_use]
    pub const fn goes_on(self) -> bool {
        matches!(self, Self::Moved | Self::Restarted)
    }
}

end_reasons! {
    /// The player left.
    PlayerLeft, "player_left", Player, "You left the game.";
    /// Nobody connected in time.
    ConnectTimeout, "connect_timeout", Player,
        "No connection came about in time. Check that your network lets UDP or TCP through to the server, and play again.";
    /// The player was lost and did not come back in time.
    ReconnectTimeout, "reconnect_timeout", Player, "The connection was lost for too long. Play again to start anew.";
    /// Nothing was pressed for long.
    Idle, "idle", Player, "Nothing was pressed for a long time, so the game was stopped.";
    /// The session reached the longest time that the operator allows.
    TimeLimit, "time_limit", Operator, "The session reached its time limit. Play again to go on.";
    /// The operator ended it.
    EndedByOperator, "ended_by_operator", Operator, "The operator ended the session.";
    /// The service is being stopped.
    ServiceStopped, "service_stopped", Operator, "The service is being stopped. Come back in a moment.";
    /// The game's process ended by itself, without an error.
    GameExited, "game_exited", Game, "The game was closed.";
    /// The game's process ended by a signal or with an error.
    GameCrashed, "game_crashed", Game, "The game crashed. This is a fault of the game; play again.";
    /// The game used more memory than it may.
    OutOfMemory, "out_of_memory", Game, "The game used more memory than it is allowed, and was stopped.";
    /// The game wrote more to the disk than it may.
    DiskLimit, "disk_limit", Game, "The game wrote more files than it is allowed, and was stopped.";
    /// The game's program could not be started.
    GameStartFailed, "game_start_failed", Game,
        "The game could not be started. The operator has to check the package with `kite app check`.";
    /// The game drew nothing in time.
    StartTimeout, "start_timeout", Game, "The game started but showed no picture in time.";
    /// The streamer ended without being asked.
    StreamerFailed, "streamer_failed", Platform, "The stream broke down. This is our fault; play again.";
    /// The display could not be set up.
    DisplayFailed, "display_failed", Platform, "The game's screen could not be set up. This is our fault; play again.";
    /// No encoder could be opened.
    EncoderFailed, "encoder_failed", Platform, "The picture could not be encoded. This is our fault.";
    /// The network ports could not be opened.
    NetworkFailed, "network_failed", Platform,
        "No network port was free for the stream. This is our fault; try again later.";
    /// The isolation around the game could not be set up.
    SandboxFailed, "sandbox_failed", Platform, "The game's isolation could not be set up. This is our fault.";
    /// The release could not be brought to the machine.
    ContentFailed, "content_failed", Platform, "The game could not be brought to the machine. This is our fault; try again later.";
    /// The player's save could not be loaded: starting without it would lose it.
    SaveFailed, "save_failed", Platform, "Your saved game could not be loaded. It is not lost; this is our fault; try again later.";
    /// The node has no disk space for another instance.
    DiskFull, "disk_full", Platform, "The machine has no disk space left for another game. Try again later.";
    /// The control plane was restarted, and the instance with it.
    ServiceRestarted, "service_restarted", Platform, "The service was restarted. This is our fault; play again.";
    /// No machine can ever take it, or nothing was ordered.
    NoPlace, "no_place", Operator, "No machine here can run this game at this resolution and frame rate.";
    /// It waited as long as a session may.
    QueueTimeout, "queue_timeout", Platform, "No place became free in time. This is our fault; try again later.";
    /// A place was offered, and nobody took it.
    OfferLapsed, "offer_lapsed", Player, "It was your turn, but nobody answered. Play again to queue anew.";
    /// Its node is being emptied: it goes on elsewhere. Sessions never end by this; their instances do.
    Moved, "moved", Operator, "The game is moved to another machine.";
    /// The operator or the app's tenant has it started again: it goes on with a fresh start of the game. Sessions never end by this; their
    /// instances do.
    Restarted, "restarted", Operator, "The game is started again.";
    /// Nobody needed the warm instance, or somebody else needs its place. No player's session ends by this.
    Unused, "unused", Operator, "The instance was kept ready and is not needed any more.";
    /// The warm instance is a player's now. No player's session ends by this.
    Claimed, "claimed", Operator, "The instance was kept ready, and somebody plays it now.";
    /// The node does not answer.
    NodeLost, "node_lost", Platform, "The machine of your game was lost. This is our fault; play again.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_reason_is_its_json() {
        for reason in EndReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
            assert_eq!(EndReason::from_word(reason.word()), Some(*reason));
            assert!(reason.sentence().ends_with('.'), "{}", reason.word());
        }
        assert_eq!(EndReason::from_word("nonsense"), None);
    }

    #[test]
    fn the_name_of_a_state_is_its_json() {
        let at = UtcTime::from_unix_ms(0);
        let states = [
            SessionState::Requested,
            SessionState::Queued { cause: WaitCause::Quota },
            SessionState::Offered { until: at },
            SessionState::Reserved,
            SessionState::Recovering { since: at },
            SessionState::Preparing { stage: PrepareStage::Game },
            SessionState::Ready { connect_until: at },
            SessionState::Connected { since: at },
            SessionState::Reconnecting { until: at },
            SessionState::Stopping { reason: EndReason::Idle },
            SessionState::Ended { reason: EndReason::Idle, party: Party::Player, at },
        ];
        for state in states {
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json["state"], state.name());
            assert_eq!(serde_json::from_value::<SessionState>(json).unwrap(), state);
        }
    }
}
