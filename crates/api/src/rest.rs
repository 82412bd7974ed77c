//! Bodies of the REST API and messages of the session link. `/openapi.json` is generated from these types.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{NodeId, PlayerId, SaveId, SessionId};
use crate::manifest::{AppName, InputProfile};
use crate::session::{EndReason, Party, SessionState, WaitCause};
use crate::spec::{SpecRange, StreamSpec};
use crate::streamer::{DisplayProtocol, StreamStatistics};

/// Longest SDP offer in bytes. Browsers send 3 to 20 kB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;

/// Longest JSON body in bytes. The largest good one has under 500, and 10 kB with a way to each of 64 sites.
pub const MAX_JSON_BYTES: usize = 16 * 1024;

/// Most sites of which a session's client says what it measured.
pub const MAX_PROBES: usize = 64;

/// Longest way there and back that is taken for one, in microseconds.
pub const MAX_ROUND_TRIP_US: u32 = 10_000_000;

/// Most plays of one page of a history.
pub const MAX_PLAYS: u32 = 100;

/// Plays of one page of a history when nothing else is asked for.
pub const DEFAULT_PLAYS: u32 = 50;

/// WebSocket subprotocol of the link.
pub const LINK_PROTOCOL: &str = "kite.link.v1";

/// A second subprotocol carries the session token behind this prefix, because a browser cannot set headers on a
/// WebSocket and an address ends up in logs. The server never selects it.
pub const LINK_TOKEN_PROTOCOL_PREFIX: &str = "kite.token.";

/// The catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AppList {
    /// By title.
    pub apps: Vec<App>,
}

/// An app that can be played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct App {
    /// Its name in requests.
    pub name: AppName,
    /// What players read.
    pub title: String,
    /// One or two sentences.
    pub summary: String,
    /// Path of the picture on this server; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Its display.
    pub display: DisplayProtocol,
    /// What the player can use.
    pub input: InputProfile,
    /// Resolutions and frame rates.
    pub spec: SpecRange,
    /// The hardware class of the nodes that can run it.
    pub class: String,
}

/// Asks for a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// What to play.
    pub app: AppName,
    /// The channel whose release is played; `stable` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The version of the player's save to begin with; the newest one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<SaveId>,
    /// How; the app's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<StreamSpec>,
    /// True when the player's window may change the picture's size during the play. Default: true.
    #[serde(default = "yes")]
    pub resizable: bool,
    /// For whom the operator, or the app's tenant, launches it: his save is loaded, and it stands in his history. With a player's own token it
    /// is his in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<PlayerId>,
    /// What the client measured of the way to sites, at most 64, each once. It decides where this session is placed, and nothing else: whoever says
    /// what is not so plays where it is worse for him. Sites that are not known are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub probes: Vec<SiteProbe>,
}

/// What a client measured of the way to a site, by small messages there and back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteProbe {
    /// The site, as `GET /v1/sites` names it.
    pub site: String,
    /// There and back in microseconds, the median; at most 10 s.
    #[schema(maximum = 10_000_000)]
    pub round_trip_us: u32,
    /// Of a thousand messages so many did not come back, as far as that is sure.
    #[schema(maximum = 1000)]
    pub loss_permille: u16,
}

/// Sites to which a client can measure the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SiteList {
    /// By name.
    pub sites: Vec<Site>,
}

/// A site, as players see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Site {
    /// Its name.
    pub name: String,
}

const fn yes() -> bool {
    true
}

/// A new session.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedSession {
    /// The session.
    pub session: Session,
    /// Bearer token of this session alone. Shown once; the server keeps a hash.
    pub token: SessionToken,
    /// When the token ends.
    pub token_expires_at: UtcTime,
    /// Path of the link on this server.
    pub link: String,
    /// Path for offers on this server.
    pub whep: String,
}

impl std::fmt::Debug for CreatedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedSession").field("session", &self.session.id).finish_non_exhaustive()
    }
}

/// A bearer token. Its text never reaches logs: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SessionToken(pub String);

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(hidden)")
    }
}

/// A session as its player sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What is played.
    pub app: AppName,
    /// How.
    pub spec: StreamSpec,
    /// What it is doing.
    pub state: SessionState,
    /// The state in a sentence for the player.
    pub sentence: String,
    /// True as soon as the game has drawn something.
    pub first_frame: bool,
    /// Counts up with every change; a message with a lower one is old.
    pub revision: u64,
    /// When it was made.
    pub created_at: UtcTime,
    /// When it ends at the latest.
    pub ends_at: UtcTime,
}

/// How a session's wait stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueuePlace {
    /// For what it waits.
    pub cause: WaitCause,
    /// 1 = the next.
    pub position: u32,
    /// How long it will take; absent as long as nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<WaitEstimate>,
    /// All of it in a sentence for the player.
    pub sentence: String,
    /// What each site says.
    pub sites: Vec<SiteVerdict>,
}

/// In how many seconds a place is expected. Learnt from how waits ended before: four of five end within the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaitEstimate {
    /// One wait of ten is shorter.
    pub low_s: u32,
    /// Half of them are.
    pub expected_s: u32,
    /// One wait of ten is longer.
    pub high_s: u32,
}

/// What a site says of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SiteVerdict {
    /// The site.
    pub site: String,
    /// The reason in a word: `full`, `queued`, `too_small`, `too_far`, `no_class`, `not_allowed`, `release_absent`, `release_arriving`,
    /// `no_node`, `worse`, `chosen`.
    pub verdict: String,
    /// The reason in words, with its figures.
    pub detail: String,
    /// The way there and back in microseconds, as the player's client measured it; absent where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u32>,
    /// Lost messages of a thousand, measured likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_permille: Option<u16>,
}

/// Sessions, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionList {
    /// Newest first, at most 200.
    pub sessions: Vec<Session>,
}

/// How the stream of a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionStatistics {
    /// When it was measured; absent as long as nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<UtcTime>,
    /// The figures, zero as long as nothing was measured.
    pub stream: StreamStatistics,
}

/// Somebody who plays. Nothing is known of him but that he comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Player {
    /// His id.
    pub id: PlayerId,
    /// When he first came.
    pub created_at: UtcTime,
    /// When he last used his token, to the hour.
    pub last_seen_at: UtcTime,
}

/// A new player.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedPlayer {
    /// The player.
    pub player: Player,
    /// Bearer token of this player. Shown once; the server keeps a hash. Whoever has it is this player.
    pub token: PlayerToken,
}

/// A player's bearer token. Its text never reaches logs: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct PlayerToken(pub String);

impl std::fmt::Debug for PlayerToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlayerToken(hidden)")
    }
}

/// Which page of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlaysPage {
    /// Only plays that began before this session: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<SessionId>,
    /// Most plays of the page, 1 to 100. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

/// A page of a player's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlayList {
    /// Newest first.
    pub plays: Vec<Play>,
}

/// One play of a player's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Play {
    /// Its session.
    pub session: SessionId,
    /// What was played.
    pub app: AppName,
    /// The app's title; absent when the app is not offered any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Which release of the app; absent where apps have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// On which machine; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// When the session was made.
    pub started_at: UtcTime,
    /// When it ended; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<UtcTime>,
    /// Why it ended; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// Who caused the end; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<Party>,
    /// Its state in a sentence for the player: what it is doing, or why it ended.
    pub sentence: String,
}

/// What this installation allows, so that a client can say it beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceLimits {
    /// True when nobody needs a key to play.
    pub guests: bool,
    /// Places of this installation.
    pub sessions: u32,
    /// Taken ones.
    pub sessions_used: u32,
    /// Sessions that wait for one.
    pub sessions_waiting: u32,
    /// Sessions of one player at once.
    pub sessions_per_player: u32,
    /// Longest session in seconds.
    pub session_length_s: u32,
    /// How long a new session waits for its player, in seconds.
    pub connect_timeout_s: u32,
    /// How long a session waits for a lost player, in seconds.
    pub reconnect_grace_s: u32,
    /// Largest offer in bytes.
    pub sdp_bytes: u32,
}

/// Is the service well?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, or `degraded` when no new session can be had.
    pub status: HealthStatus,
    /// Version of the program.
    pub version: String,
    /// Why it is degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Health in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// New sessions can be had.
    Ok,
    /// Running sessions go on, new ones are refused.
    Degraded,
}

/// From the server over the link, as a JSON text message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LinkMessage {
    /// The session changed; also the first message. After `ended` the server closes the link.
    Session {
        /// As it is now.
        session: Session,
    },
    /// How the wait stands: when it begins, and within a second of each change.
    Queue {
        /// The place in the queue.
        queue: QueuePlace,
    },
    /// New figures, about once in five seconds while media flows.
    Statistics {
        /// The figures.
        statistics: SessionStatistics,
    },
}

/// From the client over the link, as a JSON text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LinkRequest {
    /// The player leaves: the session ends.
    Leave {},
    /// The player takes the place that is offered. Changes nothing in other states.
    Accept {},
}
