//! The keeper of the content store: collects what nothing needs, compacts, verifies what is there, counts it. Runs beside the control plane or without it,
//! on the same database; never two at once.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use content::{
    COLLECT_GRACE, CollectError, CollectOptions, CollectProgress, Collected, CompactError, CompactOptions, Compacted,
    Fault, Ledger, Live, ObjectName, RootId, Stats, StoreSettings, Verified,
};

use crate::DatabaseSettings;
use crate::app::now;
use crate::store::{Held, LiveContent, Role, Store, StoreError};

/// Held by the one keeper of a data directory. Of those that share a PostgreSQL database, one at a time has [`Role::Keeper`].
const LOCK_FILE: &str = "content-keeper.lock";

/// Why the keeper did not work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another one works on the same data directory or database: wait for it.
    #[error("another collection of the content store is running")]
    Busy,
    /// The data directory cannot be used: check its path and rights.
    #[error("{path} cannot be used")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be opened or asked.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database names content that cannot be: it was written by another version.
    #[error("the database names `{0}`, which is no content")]
    Name(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] content::StoreError),
    /// The collection ended early; nothing that is needed was removed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The compaction ended early; whatever it did is whole.
    #[error(transparent)]
    Compact(#[from] CompactError),
}

fn database(error: StoreError) -> KeeperError {
    KeeperError::Database(Box::new(error))
}

/// The database as the collector asks it.
struct Books<'a>(&'a Store);

fn parse_root(text: &str) -> Result<RootId, KeeperError> {
    text.parse().map_err(|_error| KeeperError::Name(text.to_owned()))
}

fn live(content: &LiveContent) -> Result<Live, KeeperError> {
    let mut live = Live::default();
    for root in &content.roots {
        live.roots.push(parse_root(root)?);
    }
    for name in &content.pending {
        let wrong = || KeeperError::Name(name.clone());
        let (kind, id) = name.split_once('/').ok_or_else(wrong)?;
        match kind {
            "packs" => live.pending_packs.push(id.parse().map_err(|_error| wrong())?),
            "trees" => live.pending_trees.push(id.parse().map_err(|_error| wrong())?),
            "roots" => live.pending_roots.push(id.parse().map_err(|_error| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(live)
}

impl Ledger for Books<'_> {
    type Error = KeeperError;

    async fn live(&self) -> Result<Live, KeeperError> {
        live(&self.0.live_content().await.map_err(database)?)
    }

    async fn condemn(&self, names: &[ObjectName]) -> Result<(), KeeperError> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.0.condemn(&names).await.map_err(database)
    }

    async fn replace(&self, old: RootId, new: RootId) -> Result<bool, KeeperError> {
        self.0.replace_root(&old.to_string(), &new.to_string(), now()).await.map_err(database)
    }
}

/// What a control plane has, for a keeper without it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its database.
    pub database: DatabaseSettings,
    /// Its content store.
    pub content: StoreSettings,
}

async fn open(place: &Place) -> Result<(Store, content::Store), KeeperError> {
    let path = place.data_dir.join(crate::store::DATABASE_FILE);
    if place.database == DatabaseSettings::Embedded && !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(KeeperError::DataDir { path, source });
    }
    let database = Store::open(&place.data_dir, &place.database).await.map_err(database)?;
    Ok((database, content::Store::open(&place.content)?))
}

/// Removes what nothing needs; with `is_dry_run` only says what would be.
///
/// # Errors
/// Each variant of [`KeeperError`] says what to do.
pub async fn collect(
    place: &Place,
    is_dry_run: bool,
    progress: &(dyn Fn(CollectProgress) + Sync),
) -> Result<Collected, KeeperError> {
    let (database, store) = open(place).await?;
    collect_with(&place.data_dir, &database, &store, is_dry_run, progress).await
}

/// Writes packs anew of which releases need little, and joins what several tenants sent; with `is_dry_run` only says what would be. What comes
/// free goes with a collection a day later. Only for the control plane itself, which afterwards has to name other roots to its nodes.
pub(crate) async fn compact_with(
    data_dir: &Path,
    database: &Store,
    store: &content::Store,
    options: CompactOptions,
) -> Result<Compacted, KeeperError> {
    alone(data_dir, database, async {
        let roots = database.release_roots().await.map_err(self::database)?;
        let roots: Vec<RootId> = roots.iter().map(|root| parse_root(root)).collect::<Result<_, _>>()?;
        Ok(content::compact(store, &Books(database), &roots, options, &|_progress| {}).await?)
    })
    .await
}

/// Does this as the one keeper of the data directory and of the database.
async fn alone<T>(
    data_dir: &Path,
    database: &Store,
    work: impl Future<Output = Result<T, KeeperError>>,
) -> Result<T, KeeperError> {
    let (_lock, role) = lock(data_dir, database).await?;
    let done = work.await;
    role.release().await;
    done
}

async fn lock(data_dir: &Path, database: &Store) -> Result<(File, Held), KeeperError> {
    let path = data_dir.join(LOCK_FILE);
    let failed = |source| KeeperError::DataDir { path: path.clone(), source };
    let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(KeeperError::Busy),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let role = database
        .take(Role::Keeper, std::time::Duration::ZERO)
        .await
        .map_err(self::database)?
        .ok_or(KeeperError::Busy)?;
    Ok((lock, role))
}

/// Forgets what a collection condemned that was killed: nobody removes it any more, and uploads would wait for it.
pub(crate) async fn absolve(data_dir: &Path, database: &Store) -> Result<(), StoreError> {
    match lock(data_dir, database).await {
        Ok((_lock, role)) => {
            let forgotten = database.condemn(&[]).await;
            role.release().await;
            forgotten
        }
        // One is at work, or nobody can tell.
        Err(_) => Ok(()),
    }
}

/// The same with what is open already.
pub(crate) async fn collect_with(
    data_dir: &Path,
    database: &Store,
    store: &content::Store,
    is_dry_run: bool,
    progress: &(dyn Fn(CollectProgress) + Sync),
) -> Result<Collected, KeeperError> {
    alone(data_dir, database, async {
        database.forget_retired_before(now().minus(COLLECT_GRACE)).await.map_err(self::database)?;
        let options = CollectOptions { is_dry_run, ..CollectOptions::default() };
        Ok(content::collect(store, &Books(database), options, progress).await?)
    })
    .await
}

async fn roots(database: &Store) -> Result<Vec<RootId>, KeeperError> {
    Ok(live(&database.live_content().await.map_err(self::database)?)?.roots)
}

/// Reads everything that releases and saves need and compares it with its names; what is wrong, and whom it hits.
///
/// # Errors
/// Each variant of [`KeeperError`] says what to do.
pub async fn verify(place: &Place, progress: &(dyn Fn(Verified) + Sync)) -> Result<Vec<Fault>, KeeperError> {
    let (database, store) = open(place).await?;
    Ok(content::verify(&store, &roots(&database).await?, progress).await?)
}

/// Counts what is in the store.
///
/// # Errors
/// Each variant of [`KeeperError`] says what to do.
pub async fn stats(place: &Place) -> Result<Stats, KeeperError> {
    let (database, store) = open(place).await?;
    Ok(content::stats(&store, &roots(&database).await?).await?)
}
