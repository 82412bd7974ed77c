//! What the API does, a file a noun: logic between `http/` and `store/`.
//!
//! Deliberately absent: HTTP types, SQL.

pub(crate) mod access;
pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod catalogue;
pub(crate) mod commands;
pub(crate) mod demands;
pub(crate) mod fleet;
pub(crate) mod keys;
pub(crate) mod offers;
pub(crate) mod players;
pub(crate) mod pools;
pub(crate) mod rate;
pub(crate) mod releases;
pub(crate) mod saves;
pub(crate) mod sessions;
pub(crate) mod sites;
pub(crate) mod tenants;
pub(crate) mod token;
pub(crate) mod uploads;
pub(crate) mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use api::clock::UtcTime;
use api::problem::{Problem, ProblemKind};
use api::rest::{Health, HealthStatus, MAX_SDP_BYTES, ServiceLimits};
use content::SealKey;

use self::admission::Refused;
use self::catalogue::Catalogue;
use self::pools::Hindrances;
use self::rate::RateLimit;
use self::token::{NoRandomness, TokenHash};
use self::uploads::Uploads;
use crate::coordinator::Coordinator;
use crate::observer::Observer;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Everything that a request needs.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) uploads: Uploads,
    pub(crate) observer: Observer,
    /// Why pools of warm instances are not full.
    pub(crate) hindrances: Hindrances,
    /// From which the keys of all saves are made.
    pub(crate) save_key: SealKey,
    /// Of the authority that nodes' certificates are of; `None` where no node can join.
    pub(crate) authority: Option<link::Fingerprint>,
    /// Of the operator's token.
    pub(crate) operator: TokenHash,
    /// How often an address may create sessions.
    pub(crate) creations: RateLimit,
    /// How often it may create players. On its own: a first play makes one of each.
    pub(crate) player_creations: RateLimit,
    /// How often it may measure the way to a site.
    pub(crate) measurements: RateLimit,
    /// How often somebody may ask for commands.
    pub(crate) commands: RateLimit,
    /// Hashes addresses, so that none of them is stored. Lives as long as the process.
    pub(crate) address_key: [u8; 32],
    /// True as soon as the service is being stopped.
    pub(crate) stopping: AtomicBool,
}

/// The wall clock.
pub(crate) fn now() -> UtcTime {
    UtcTime::from_system(SystemTime::now())
}

/// What the client is told when the store failed; what happened stands in the log.
pub(crate) fn broken(error: StoreError) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
    if error.is_full() {
        return ProblemKind::DiskFull.because("The database's disk is full. Nothing was lost.");
    }
    ProblemKind::Internal.plain()
}

/// The same when nothing secret could be made.
fn no_randomness(error: NoRandomness) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "no token could be made");
    ProblemKind::Internal.plain()
}

/// Whole seconds, at most what the contract can say.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// A text for people: not empty, of so many characters at most, on one line.
fn text(what: &str, text: String, most: usize) -> Result<String, Problem> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.chars().count() > most || trimmed.chars().any(char::is_control) {
        return Err(ProblemKind::InvalidRequest.because(format!("`{what}` is not 1 to {most} characters of one line.")));
    }
    Ok(trimmed.to_owned())
}

impl Plane {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Could anybody have a session, now or when somebody leaves?
    pub(crate) fn health(&self) -> Health {
        let detail = if self.is_stopping() {
            Some(Refused::Stopping.sentence())
        } else {
            self.coordinator.fleet.read(|nodes| admission::admit_any(nodes)).err().map(|refused| refused.sentence())
        };
        let status = if detail.is_some() { HealthStatus::Degraded } else { HealthStatus::Ok };
        Health { status, version: env!("CARGO_PKG_VERSION").to_owned(), detail }
    }

    /// What this installation allows.
    pub(crate) async fn limits(&self) -> Result<ServiceLimits, Problem> {
        let limits = &self.settings.limits;
        let usage = self.store.live.usage("", None);
        let places = self.coordinator.fleet.read(|nodes| {
            let ready = nodes.filter(|node| node.is_of_use() && node.last.is_some());
            ready.map(|node| node.capacity().sessions).fold(0, u32::saturating_add)
        });
        Ok(ServiceLimits {
            guests: self.settings.guests,
            sessions: places,
            sessions_used: usage.placed,
            sessions_waiting: usage.waiting,
            sessions_per_player: limits.sessions_per_player,
            session_length_s: seconds(limits.session_length),
            connect_timeout_s: seconds(limits.connect_timeout),
            reconnect_grace_s: seconds(limits.reconnect_grace),
            sdp_bytes: u32::try_from(MAX_SDP_BYTES).unwrap_or(u32::MAX),
        })
    }
}
