//! What was played and for how long: the intervals that bills are made of.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{PlayerId, SessionId};
use crate::manifest::AppName;
use crate::spec::StreamSpec;

/// Most sessions of one answer.
pub const MAX_USAGE_SESSIONS: u32 = 500;

/// Sessions of an answer when nothing else is asked for.
pub const DEFAULT_USAGE_SESSIONS: u32 = 100;

/// How an interval came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum UsageEnding {
    /// It goes on, and is proven until its `to`.
    Open,
    /// It was closed.
    Closed {
        /// `disconnected`, or the reason of the session's end.
        because: String,
    },
    /// Nobody saw its end: it counts until the last moment at which it was proven.
    LastProven,
}

/// Time in which a player could play, without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageInterval {
    /// Names it, the same each time it is told: 32 hexadecimal digits.
    pub id: String,
    /// Which start of the session's game.
    pub epoch: u32,
    /// From this moment.
    pub from: UtcTime,
    /// Until before this one.
    pub to: UtcTime,
    /// How long, in milliseconds.
    pub ms: u64,
    /// True when a fault of the platform ended it: it is metered, and costs nothing.
    pub is_fault: bool,
    /// How it ended.
    #[serde(flatten)]
    pub ending: UsageEnding,
}

/// What was played of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionUsage {
    /// The session. It may be forgotten itself: this is kept.
    pub session: SessionId,
    /// Whose app was played.
    pub tenant: String,
    /// The app.
    pub app: AppName,
    /// Its release; absent for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u32>,
    /// Who played; absent for a session of nobody's, and for a player who was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<PlayerId>,
    /// Size and rate.
    pub spec: StreamSpec,
    /// When it was asked for.
    pub begun: UtcTime,
    /// When it ended; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<UtcTime>,
    /// Disjoint, the earliest first, inside of its life.
    pub intervals: Vec<UsageInterval>,
    /// Milliseconds of all that are no fault of the platform's.
    pub billed_ms: u64,
    /// Milliseconds of those that are.
    pub fault_ms: u64,
}

/// Sessions that were played, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageList {
    /// As many as were asked for, or all that there are.
    pub sessions: Vec<SessionUsage>,
}

/// Which sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsagePage {
    /// Those of this tenant. Default: all that the caller may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// This one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Those before this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<SessionId>,
    /// At most so many: 1 to 500. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
