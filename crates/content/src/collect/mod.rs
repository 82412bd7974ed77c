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
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::id::{PackId, RootId, TreeId};
use crate::root::Root;
use crate::store::{Listed, ObjectKind, ObjectName, Store, StoreError};

/// How old an object has to be before it may go: a day. Less than a node takes from a save's first pack to its version's row in the database
/// loses that save; clocks that differ, and a database that is away for a night, are part of it. More keeps what is not needed for longer.
pub const COLLECT_GRACE: Duration = Duration::from_hours(24);

/// Requests at the same time, of roots that are read and objects that are removed. More only loads the store.
const AT_ONCE: usize = 16;

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
/// - A save's version is recorded only while its oldest object is younger than half the grace, and never while its root is condemned.
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

/// What a collection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Has the ledger forget what a collection condemned that was killed: uploads wait for it.
    Forget,
    /// Lists the objects of one kind.
    List(usize),
    /// Asks the ledger what is needed.
    Look,
    /// Has the ledger note the candidates.
    Condemn,
    /// Asks the ledger again.
    LookAgain,
    /// Removes some of the candidates.
    Remove,
    /// Has the ledger forget them.
    Absolve,
    /// Removes what killed writers left.
    Staging,
    /// Nothing.
    Over,
}

/// A collection between two of its steps.
#[derive(Debug)]
struct Collection {
    store: Store,
    options: CollectOptions,
    now: SystemTime,
    stage: Stage,
    /// Most objects that one step removes.
    batch: usize,
    /// Old objects that nothing is known to need, and their lengths.
    packs: BTreeMap<PackId, u64>,
    trees: BTreeMap<TreeId, u64>,
    roots: BTreeMap<RootId, u64>,
    /// Roots that were read.
    read: BTreeSet<RootId>,
    old: Amount,
    collected: Collected,
}

impl Collection {
    fn new(store: Store, options: CollectOptions, now: SystemTime) -> Collection {
        Collection {
            store,
            options,
            now,
            stage: if options.is_dry_run { Stage::List(0) } else { Stage::Forget },
            batch: 1000,
            packs: BTreeMap::new(),
            trees: BTreeMap::new(),
            roots: BTreeMap::new(),
            read: BTreeSet::new(),
            old: Amount::default(),
            collected: Collected::default(),
        }
    }

    /// Does one step; false when there was none left.
    async fn step<L: Ledger>(
        &mut self,
        ledger: &L,
        progress: &(dyn Fn(CollectProgress) + Sync),
    ) -> Result<bool, CollectError> {
        let failed = |error: L::Error| CollectError::Ledger(error.into());
        self.stage = match self.stage {
            Stage::Forget => {
                ledger.condemn(&[]).await.map_err(failed)?;
                Stage::List(0)
            }
            Stage::List(index) => match ObjectKind::ALL.get(index) {
                Some(&kind) => {
                    self.list(kind, progress).await?;
                    Stage::List(index + 1)
                }
                None => Stage::Look,
            },
            Stage::Look => {
                self.spare(&ledger.live().await.map_err(failed)?, progress).await?;
                if self.options.is_dry_run { Stage::Staging } else { Stage::Condemn }
            }
            Stage::Condemn => {
                ledger.condemn(&self.next(usize::MAX)).await.map_err(failed)?;
                Stage::LookAgain
            }
            Stage::LookAgain => {
                self.spare(&ledger.live().await.map_err(failed)?, progress).await?;
                Stage::Remove
            }
            Stage::Remove => {
                let names = self.next(self.batch);
                self.remove(&names).await?;
                progress(CollectProgress::Removed(self.collected.removed.objects));
                if names.is_empty() { Stage::Absolve } else { Stage::Remove }
            }
            Stage::Absolve => {
                ledger.condemn(&[]).await.map_err(failed)?;
                Stage::Staging
            }
            Stage::Staging => {
                self.staging().await?;
                Stage::Over
            }
            Stage::Over => return Ok(false),
        };
        Ok(true)
    }

    /// Makes the old objects of a kind candidates.
    async fn list(&mut self, kind: ObjectKind, progress: &(dyn Fn(CollectProgress) + Sync)) -> Result<(), StoreError> {
        let mut objects = std::pin::pin!(self.store.list(kind));
        while let Some(Listed { name, bytes, written }) = objects.next().await.transpose()? {
            // What was written in the future is young.
            if self.now.duration_since(written).is_ok_and(|age| age >= self.options.grace) {
                self.old.add(bytes);
                let is_known = match kind {
                    ObjectKind::Pack => name.id.parse().map(|id| self.packs.insert(id, bytes)),
                    ObjectKind::Tree => name.id.parse().map(|id| self.trees.insert(id, bytes)),
                    ObjectKind::Root => name.id.parse().map(|id| self.roots.insert(id, bytes)),
                };
                debug_assert!(is_known.is_ok(), "the list has ids only");
            } else {
                self.collected.young.add(bytes);
            }
            let listed = self.old.objects + self.collected.young.objects;
            if listed.is_multiple_of(1000) {
                progress(CollectProgress::Listed(listed));
            }
        }
        progress(CollectProgress::Listed(self.old.objects + self.collected.young.objects));
        Ok(())
    }

    /// What is needed is no candidate any more.
    async fn spare(&mut self, live: &Live, progress: &(dyn Fn(CollectProgress) + Sync)) -> Result<(), CollectError> {
        let is_all = !self.options.may_be_empty && live.roots.is_empty() && self.old.objects > 0;
        if is_all {
            return Err(CollectError::NothingLive);
        }
        for id in &live.pending_packs {
            self.packs.remove(id);
        }
        for id in &live.pending_trees {
            self.trees.remove(id);
        }
        for id in &live.pending_roots {
            self.roots.remove(id);
        }
        let unread: BTreeSet<RootId> = live.roots.iter().filter(|id| !self.read.contains(id)).copied().collect();
        let store = self.store.clone();
        let read = futures_util::stream::iter(unread).map(move |id| {
            let store = store.clone();
            async move {
                store.root(id).await.map(|root| (id, root)).map_err(|source| CollectError::Root { root: id, source })
            }
        });
        let mut read = std::pin::pin!(read.buffer_unordered(AT_ONCE));
        while let Some((id, Root { tree, packs, is_sealed: _ })) = read.try_next().await? {
            self.roots.remove(&id);
            self.trees.remove(&tree);
            for pack in &packs {
                self.packs.remove(pack);
            }
            self.read.insert(id);
            progress(CollectProgress::Read(self.read.len() as u64));
        }
        Ok(())
    }

    /// Some of the candidates, roots first: a collection that is killed leaves few roots without what they name.
    fn next(&self, most: usize) -> Vec<ObjectName> {
        let roots = self.roots.keys().map(|&id| ObjectName::from(id));
        let trees = self.trees.keys().map(|&id| ObjectName::from(id));
        roots.chain(trees).chain(self.packs.keys().map(|&id| ObjectName::from(id))).take(most).collect()
    }

    /// Removes candidates. Each is right to go by itself.
    async fn remove(&mut self, names: &[ObjectName]) -> Result<(), StoreError> {
        let store = self.store.clone();
        let removed = futures_util::stream::iter(names.to_vec()).map(move |name| {
            let store = store.clone();
            async move { store.remove(&name).await.map(|()| name) }
        });
        let mut removed = std::pin::pin!(removed.buffer_unordered(AT_ONCE));
        while let Some(name) = removed.try_next().await? {
            let bytes = match name.kind {
                ObjectKind::Pack => name.id.parse().ok().and_then(|id| self.packs.remove(&id)),
                ObjectKind::Tree => name.id.parse().ok().and_then(|id| self.trees.remove(&id)),
                ObjectKind::Root => name.id.parse().ok().and_then(|id| self.roots.remove(&id)),
            };
            bytes.into_iter().for_each(|bytes| self.collected.removed.add(bytes));
        }
        Ok(())
    }

    /// Removes what killed writers left.
    async fn staging(&mut self) -> Result<(), StoreError> {
        let Some(dir) = self.store.local_dir().map(std::path::Path::to_owned) else { return Ok(()) };
        let CollectOptions { grace, is_dry_run, .. } = self.options;
        let now = self.now;
        let work = move || staging::remove(&dir, now, grace, is_dry_run);
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Failed(error);
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(Box::new(error)))?;
        self.collected.staging = done.map_err(|error| failed(Box::new(error)))?;
        Ok(())
    }

    fn result(&self) -> Collected {
        let mut collected = self.collected;
        if self.options.is_dry_run {
            let candidates = self.packs.values().chain(self.trees.values()).chain(self.roots.values());
            candidates.for_each(|&bytes| collected.removed.add(bytes));
        }
        collected.kept.objects = self.old.objects - collected.removed.objects;
        collected.kept.bytes = self.old.bytes - collected.removed.bytes;
        collected
    }
}
