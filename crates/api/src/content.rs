//! Releases, channels, uploads, copies on sites: what the REST API says of content.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{ContentId, UploadId};
use crate::manifest::AppName;

/// Largest parcel of an upload in bytes.
pub const MAX_PARCEL_BYTES: usize = 17 << 20;

/// Largest outline of an upload in bytes.
pub const MAX_OUTLINE_BYTES: usize = 256 << 20;

/// The channel that players get unless they ask for another one.
pub const STABLE: &str = "stable";

/// One uploaded version of an app. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Release {
    /// The app.
    pub app: AppName,
    /// Counts up from 1 with every upload of the app.
    pub number: u32,
    /// Its content.
    pub content: ContentId,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// When it was uploaded.
    pub created_at: UtcTime,
    /// Channels that point to it.
    pub channels: Vec<String>,
}

/// Releases of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReleaseList {
    /// Newest first, at most 1000.
    pub releases: Vec<Release>,
}

/// A name that points to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Channel {
    /// 1 to 40 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Where it points.
    pub release: u32,
    /// Since when.
    pub changed_at: UtcTime,
}

/// Channels of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChannelList {
    /// By name.
    pub channels: Vec<Channel>,
}

/// Lets a channel point to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetChannel {
    /// The release's number.
    pub release: u32,
}

/// A new upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedUpload {
    /// Its id.
    pub upload: UploadId,
    /// Chunks that are here already and need not be sent; `/v1/uploads/{upload}/known` tells the first 8 bytes of each one's name.
    pub known: u32,
    /// How many of the first of them are those of the newest release.
    pub base: u32,
}

/// What became of a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ParcelTaken {
    /// Names of chunks that have to be sent again, whole.
    pub refused: Vec<String>,
}

/// What became of the end of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum UploadEnd {
    /// It is a release now.
    Released {
        /// The release.
        release: Release,
    },
    /// Chunks have not arrived: send them whole, then end it again.
    Missing {
        /// Their names.
        chunks: Vec<String>,
    },
}

/// How much a release is wanted on a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaPolicy {
    /// Fetched at once, never evicted.
    Pinned,
    /// Fetched at once, evicted when space is needed and nothing uses it.
    Preferred,
    /// Fetched when a session needs it. The default.
    #[default]
    Anywhere,
}

/// What a copy on a site is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ReplicaState {
    /// It is not there.
    #[default]
    Absent,
    /// Being fetched.
    Replicating {
        /// Bytes of its files that are there.
        bytes_done: u64,
        /// Bytes of its files; 0 as long as they are not known.
        bytes_total: u64,
        /// Bytes that came from the store.
        bytes_fetched: u64,
    },
    /// Whole and checked.
    Present {
        /// Bytes of its files.
        bytes: u64,
    },
    /// Being read again and compared.
    Verifying {
        /// Bytes that were looked at.
        bytes_done: u64,
        /// Bytes of its files.
        bytes_total: u64,
    },
    /// Something was wrong; it is being fetched anew.
    Corrupt {
        /// Chunks and files that are wrong.
        faults: u64,
    },
    /// The last fetch failed; another follows by itself.
    Failed {
        /// Why.
        detail: String,
    },
    /// Being removed.
    Evicting,
}

/// A release on a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Replica {
    /// The site.
    pub site: String,
    /// How much it is wanted there.
    pub policy: ReplicaPolicy,
    /// What it is doing.
    #[serde(flatten)]
    pub state: ReplicaState,
}

/// Sets how much a release is wanted on a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetReplica {
    /// As much.
    pub policy: ReplicaPolicy,
}
