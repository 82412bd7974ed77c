//! Warm pools: instances that are kept ready at a site before anybody asks for them.
//!
//! Whoever asks for the app with the pool's picture is given one that is ready, in the time that a database takes to write it. Pools take places
//! that nobody else needs: a warm instance never stands before anybody who waits, and is given up for him.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::PoolId;
use crate::manifest::AppName;
use crate::node::Warmth;
use crate::spec::StreamSpec;

/// Most instances of one pool. More is a fleet, not a reserve.
pub const MAX_POOL_SIZE: u32 = 1000;

/// Shortest life of a warm instance in seconds. Shorter would start instances without end.
pub const MIN_LIFETIME_S: u32 = 60;

/// Longest life of a warm instance in seconds: a week.
pub const MAX_LIFETIME_S: u32 = 7 * 24 * 3600;

/// How long a warm instance lives when nothing else is asked for, in seconds. Longer keeps what a game piles up in its menu, shorter starts it
/// anew for nothing.
pub const DEFAULT_LIFETIME_S: u32 = 4 * 3600;

const fn default_lifetime_s() -> u32 {
    DEFAULT_LIFETIME_S
}

/// Asks for a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    /// Of this app.
    pub app: AppName,
    /// Of the release that this channel points to, also after it points to another one. Default: `stable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// On this site.
    pub site: String,
    /// With this picture. Default: the app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<StreamSpec>,
    /// How many are kept ready: 1 to 1,000.
    pub size: u32,
    /// How long one is kept before it is started anew, in seconds: a minute to a week. Default: four hours.
    #[serde(default = "default_lifetime_s")]
    pub lifetime_s: u32,
}

/// Changes how many instances a pool keeps ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizePool {
    /// 1 to 1,000.
    pub size: u32,
}

/// A pool as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// Of this app.
    pub app: AppName,
    /// Of the release that this channel points to.
    pub channel: String,
    /// On this site.
    pub site: String,
    /// With this picture.
    pub spec: StreamSpec,
    /// How many shall be ready.
    pub size: u32,
    /// How long one is kept, in seconds.
    pub lifetime_s: u32,
    /// How far its instances are started: as far as they can be without a player.
    pub warmth: Warmth,
    /// How many are ready.
    pub ready: u32,
    /// How many are being started.
    pub starting: u32,
    /// Why there are fewer than there shall be; absent when nothing hinders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindered: Option<String>,
    /// When it was made.
    pub created_at: UtcTime,
}

/// All pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PoolList {
    /// The oldest first.
    pub pools: Vec<Pool>,
}
