//! What a collection does, one step at a time, so that tests can let other things happen in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Amount, CollectError, CollectOptions, CollectProgress, Collected, Ledger, Live};
use crate::id::{PackId, RootId, TreeId};
use crate::root::Root;
use crate::store::{Listed, ObjectKind, ObjectName, Store, StoreError};

/// Requests at the same time, of roots that are read and objects that are removed. More only loads the store.
const AT_ONCE: usize = 16;

/// What a collection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
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
pub(super) struct Collection {
    store: Store,
    options: CollectOptions,
    now: SystemTime,
    pub(super) stage: Stage,
    /// Most objects that one step removes.
    pub(super) batch: usize,
    /// Old objects that nothing is known to need, and their lengths.
    packs: BTreeMap<PackId, u64>,
    trees: BTreeMap<TreeId, u64>,
    roots: BTreeMap<RootId, u64>,
    /// Roots that were read.
    read: BTreeSet<RootId>,
    old: Amount,
    pub(super) collected: Collected,
}

impl Collection {
    pub(super) fn new(store: Store, options: CollectOptions, now: SystemTime) -> Collection {
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
    pub(super) async fn step<L: Ledger>(
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
        let work = move || super::staging::remove(&dir, now, grace, is_dry_run);
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| StoreError::Failed(error);
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(Box::new(error)))?;
        self.collected.staging = done.map_err(|error| failed(Box::new(error)))?;
        Ok(())
    }

    pub(super) fn result(&self) -> Collected {
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
