//! What a release on a site is doing, and how much it is wanted there.

use std::time::{Duration, Instant};

use super::VolumeError;

/// How long a fetch that failed is left alone. Shorter asks a broken store again and again, longer makes a mended one wait.
const RETRY: Duration = Duration::from_secs(15);

/// A release on a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// Nothing of it is here, or nothing that is known.
    Absent,
    /// Being fetched.
    Replicating {
        /// Bytes of its files that are here and checked.
        bytes_done: u64,
        /// Bytes of its files.
        bytes_total: u64,
        /// Bytes that came from the store: compressed, and only what other releases here do not have.
        bytes_fetched: u64,
    },
    /// Whole and checked.
    Present {
        /// Bytes of its files.
        bytes: u64,
    },
    /// Being read again and compared; instances go on using it.
    Verifying {
        /// Bytes that were looked at.
        bytes_done: u64,
        /// Bytes of its files.
        bytes_total: u64,
    },
    /// Something was not what it has to be; it is being fetched anew.
    Corrupt {
        /// Chunks and files that are wrong.
        faults: u64,
    },
    /// The last fetch failed; what it brought is kept for the next one.
    Failed {
        /// Why, in a sentence.
        detail: String,
        /// True when no space was left.
        is_full: bool,
        /// When it is tried again by itself.
        retry_at: Instant,
    },
    /// Being removed.
    Evicting,
}

impl ReplicaState {
    pub(super) fn failed(error: &VolumeError) -> ReplicaState {
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(one) = cause {
            detail = format!("{detail}: {one}");
            cause = one.source();
        }
        ReplicaState::Failed { detail, is_full: error.is_full(), retry_at: Instant::now() + RETRY }
    }
}

/// How much a release is wanted on a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Fetched at once, never evicted.
    Pinned,
    /// Fetched at once, evicted when space is needed and it was not used for longest.
    Preferred,
    /// Fetched when a session needs it.
    #[default]
    Anywhere,
}
