//! Removes objects that nothing needs any more. What is needed, the [`Ledger`] says, which is the control plane's database.
//!
//! The order of the steps is the proof that nothing needed is ever removed:
//!
//! ```text
//! 1 list        objects older than the grace are candidates; an object that is written later is none
//! 2 live        one snapshot of the ledger; what its roots name, and what open uploads write, is no candidate any more
//! 3 condemn     the ledger notes the candidates: from here on an upload that wants to write one of them waits
//! 4 live again  what came between 2 and 3: who needed a candidate before 3 is seen here, who does after 3 waits
//! 5 remove      the candidates that are left
//! 6 condemn     nothing any more
//! ```
//! Objects are named by their content, so that an upload may write one that lies here unneeded and old, and rely on it at once. Steps 1, 2 and 5
//! alone would remove it under the upload; 3 and 4 are for that. Saves have no rows while nodes write them: the grace is for those.
//!
//! A root that is needed and cannot be read ends everything before anything was removed: what it names is not known then.
//!
//! Deliberately absent: chunks. An object goes or stays as a whole; packs with few needed chunks are `compact`'s. Also absent: two collections
//! at once, or one beside a compaction; the keeper sees to that.

mod staging;
mod steps;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::time::{Duration, SystemTime};

use self::steps::{Collection, Stage};
use crate::id::{PackId, RootId, TreeId};
use crate::store::{ObjectName, Store, StoreError};

/// How old an object has to be before it may go: a day. Less than a node takes from a save's first pack to its version's row in the database
/// loses that save; clocks that differ, and a database that is away for a night, are part of it. More keeps what is not needed for longer.
pub const COLLECT_GRACE: Duration = Duration::from_hours(24);

/// What is needed, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Roots that have to be whole: of releases, of saves' versions, those on which open uploads and captures rely, and those that a compaction
    /// replaced less than a grace ago.
    pub roots: Vec<RootId>,
    /// Packs that open uploads write, or have written.
    pub pending_packs: Vec<PackId>,
    /// Trees that open uploads write, or have written.
    pub pending_trees: Vec<TreeId>,
    /// Roots that open uploads write, or have written. They need not be there.
    pub pending_roots: Vec<RootId>,
}

/// What keeps the account of what is needed: the control plane's database.
///
/// Its side of the proof:
/// - A transaction that names a pack, a tree or a root as pending comes before the object is written, and fails while that object is condemned:
///   the upload tries again a little later.
/// - An upload relies on chunks of roots that are live, in one transaction with its row.
/// - An upload's end is one transaction: its release comes, its row goes.
/// - A save's version is never recorded while its root is condemned. That its objects are younger than the grace until then is the nodes' and
///   the keeper's: a node reports a capture again and again, and the keeper collects only when the control plane has listened for a period.
pub trait Ledger: Sync {
    /// Why it did not answer.
    type Error: Into<Box<dyn std::error::Error + Send + Sync>>;

    /// What is needed now: one snapshot.
    fn live(&self) -> impl Future<Output = Result<Live, Self::Error>> + Send;

    /// Notes that these objects are about to be removed, and no others: the names of the last call are forgotten. Committed when it returns.
    fn condemn(&self, names: &[ObjectName]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// In one transaction, everything that names the root `old` names `new` instead, which has the same files. The old one stays among the live
    /// roots for a grace: nodes may be fetching it. False when nothing names the old one any more.
    fn replace(&self, old: RootId, new: RootId) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// What a collection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectOptions {
    /// How old an object has to be; [`COLLECT_GRACE`] by default. Less than the longest capture of a save loses it.
    pub grace: Duration,
    /// The time by the store's clock; `None` = the store is asked.
    pub now: Option<SystemTime>,
    /// True to remove nothing, and only say what would be.
    pub is_dry_run: bool,
    /// True when it is right that no root is live. Otherwise that ends the collection: a store whose database names nothing most likely
    /// belongs to another database.
    pub may_be_empty: bool,
}

impl Default for CollectOptions {
    fn default() -> CollectOptions {
        CollectOptions { grace: COLLECT_GRACE, now: None, is_dry_run: false, may_be_empty: false }
    }
}

/// So many objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their length together.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What was removed; in a dry run, what would be.
    pub removed: Amount,
    /// What is old and needed.
    pub kept: Amount,
    /// What is younger than the grace; nobody asked whether it is needed.
    pub young: Amount,
    /// What writers left that were killed; in a dry run, what would be removed of it.
    pub staging: Amount,
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectProgress {
    /// So many objects were listed.
    Listed(u64),
    /// So many roots were read.
    Read(u64),
    /// So many objects were removed.
    Removed(u64),
}

/// Why a collection ended early. All but `Store` in the last step: nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The database did not answer: try again.
    #[error("the database did not say what is needed")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A root that is needed is missing or damaged, so what it needs is not known, and nothing was removed. Restore it from a copy, or remove the
    /// release or the save that it belongs to.
    #[error("root {root} is needed and cannot be read; nothing was removed")]
    Root {
        /// Which.
        root: RootId,
        /// What is wrong with it.
        #[source]
        source: StoreError,
    },
    /// The database names nothing, so everything would go. If that is right, say so; else the store belongs to another database.
    #[error("the database names no release and no save, and the store is not empty; nothing was removed")]
    NothingLive,
    /// The store failed: try again. What was removed was not needed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes what nothing needs and what is older than the grace. Memory: about 60 bytes for each object that is older than the grace, 3 GB for
/// 800 TB of packs, and 50 for each live root.
pub async fn collect<L: Ledger>(
    store: &Store,
    ledger: &L,
    options: CollectOptions,
    progress: &(dyn Fn(CollectProgress) + Sync),
) -> Result<Collected, CollectError> {
    let now = match options.now {
        Some(now) => now,
        None => store.now().await?,
    };
    let mut collection = Collection::new(store.clone(), options, now);
    loop {
        match collection.step(ledger, progress).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                if matches!(collection.stage, Stage::LookAgain | Stage::Remove) {
                    // Else uploads would wait until the next collection.
                    if let Err(error) = ledger.condemn(&[]).await {
                        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                        tracing::warn!(
                            error = &*error as &dyn std::error::Error,
                            "objects stay condemned until the next collection"
                        );
                    }
                }
                return Err(error);
            }
        }
    }
    let collected = collection.result();
    let (removed, kept, is_dry_run) = (collected.removed, collected.kept, options.is_dry_run);
    tracing::info!(
        removed = removed.objects,
        bytes = removed.bytes,
        kept = kept.objects,
        is_dry_run,
        "content store was collected"
    );
    Ok(collected)
}
