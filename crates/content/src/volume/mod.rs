//! A site's volume: one read-only copy of each release that is wanted there, however many instances and tenants use it.
//!
//! ```text
//! DIR/present/ROOT/files/…   a whole, checked copy     DIR/partial/ROOT/files/…   being fetched; goes on after a restart
//! DIR/present/ROOT/tree      what has to be in it      DIR/evicting/ROOT          being removed
//! DIR/present/ROOT/root      why that is what it is
//! ```
//! ```text
//! Absent -> Replicating -> Present <-> Verifying
//!    ^          |  ^          |            |
//!    |       Failed +------- Corrupt <-----+
//!    +---------------------- Evicting
//! ```
//! A copy becomes `present` by one rename, after everything that was written into it was checked and is on the disk: what is half-written is never
//! served. Files that a release shares with one that is here already were checked when that one came, and are read again with all others by
//! [`Volume::scrub`]; as they are one file, mending it mends it for both.
//! Nothing is evicted while somebody uses it ([`Use`]).
//!
//! Deliberately absent: who wants a release and why; that is the control plane's.

mod check;
mod fetch;
mod plan;
mod rate;
mod replica;
mod scrub;
mod space;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

pub use self::rate::Rate;
pub use self::replica::{Policy, ReplicaState};
pub use self::scrub::Scrub;
use crate::id::RootId;
use crate::store::{Store, StoreError};
use crate::tree::Tree;

/// Releases that are fetched at the same time. More only share the same disk and network.
const FETCHES_AT_ONCE: usize = 2;

/// A terabyte takes six hours of four weeks.
const DEFAULT_SCRUB: Scrub =
    Scrub { period: Duration::from_hours(4 * 7 * 24), rate: Rate(NonZeroU64::new(50_000_000).unwrap()) };

/// What a volume is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSettings {
    /// Its directory, on the file system of the instances' layers.
    pub dir: PathBuf,
    /// Most bytes on disk; `None` = as many as the file system has. Above it the copy that was not used for longest goes.
    pub limit_bytes: Option<u64>,
    /// Most bytes a second from the store; `None` = as fast as it goes.
    pub rate: Option<Rate>,
    /// Packs that are fetched at the same time for one release. More helps where a request takes long.
    pub parallel: usize,
    /// How copies are read again; `None` = not by themselves.
    pub scrub: Option<Scrub>,
}

impl VolumeSettings {
    /// The defaults: no limits, four packs at once, each copy read again every four weeks.
    #[must_use]
    pub fn new(dir: PathBuf) -> VolumeSettings {
        VolumeSettings { dir, limit_bytes: None, rate: None, parallel: 4, scrub: Some(DEFAULT_SCRUB) }
    }
}

/// Why a release is not on the volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The store failed, or lacks or damaged an object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk of the release is in none of its packs: push the release again.
    #[error("the release's packs lack a chunk of {path}")]
    Incomplete {
        /// A file that needs it.
        path: String,
    },
    /// The disk failed: look at the cause.
    #[error("{path} on the site's volume")]
    Disk {
        /// What was read or written.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk or the volume's limit is used up by what runs or is pinned: make space, or raise the limit.
    #[error("the site's volume is full: {needed_bytes} bytes are needed, {free_bytes} are free beside what is in use")]
    Full {
        /// What the release needs.
        needed_bytes: u64,
        /// What could be had.
        free_bytes: u64,
    },
    /// The fetch ended for another reason that its log tells.
    #[error("the release could not be fetched: {0}")]
    Failed(String),
}

impl VolumeError {
    fn disk(path: &dyn std::fmt::Display) -> impl Fn(io::Error) -> VolumeError + use<> {
        let path = path.to_string();
        move |source| VolumeError::Disk { path: path.clone(), source }
    }

    /// True when no space was left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            VolumeError::Full { .. } | VolumeError::Store(StoreError::Full) => true,
            VolumeError::Disk { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            VolumeError::Store(_) | VolumeError::Incomplete { .. } | VolumeError::Failed(_) => false,
        }
    }
}

/// What is known of one release.
#[derive(Debug)]
struct Replica {
    state: ReplicaState,
    policy: Policy,
    uses: u32,
    /// True while a task fetches, checks or removes it.
    is_busy: bool,
    /// Its own handle is kept for as long as it is on the disk or being fetched.
    tree: Option<Arc<Tree>>,
}

impl Default for Replica {
    fn default() -> Replica {
        Replica { state: ReplicaState::Absent, policy: Policy::Anywhere, uses: 0, is_busy: false, tree: None }
    }
}

#[derive(Debug)]
struct Shared {
    settings: VolumeSettings,
    store: Store,
    replicas: Mutex<BTreeMap<RootId, Replica>>,
    /// Counts changes of any state.
    changed: watch::Sender<u64>,
    fetches: Semaphore,
    /// Bytes that all fetches together read from the store.
    fetched_bytes: AtomicU64,
    pace: rate::Pace,
}

/// A site's volume. Clones share it.
#[derive(Clone, Debug)]
pub struct Volume {
    shared: Arc<Shared>,
}

impl Volume {
    /// Opens the directory, makes it when it is missing, and looks at what is there. Blocks for a moment.
    pub fn open(settings: VolumeSettings, store: Store) -> Result<Volume, VolumeError> {
        for name in ["present", "partial", "evicting"] {
            let dir = settings.dir.join(name);
            std::fs::create_dir_all(&dir).map_err(VolumeError::disk(&dir.display()))?;
        }
        let present = settings.dir.join("present");
        let mut replicas = BTreeMap::new();
        let entries = std::fs::read_dir(&present).map_err(VolumeError::disk(&present.display()))?;
        for entry in entries.flatten() {
            if let Some(root) = entry.file_name().to_str().and_then(|name| name.parse::<RootId>().ok()) {
                let bytes = space::written_bytes(&entry.path()).unwrap_or(0);
                replicas.insert(root, Replica { state: ReplicaState::Present { bytes }, ..Replica::default() });
            }
        }
        let evicting = settings.dir.join("evicting");
        for entry in std::fs::read_dir(&evicting).map_err(VolumeError::disk(&evicting.display()))?.flatten() {
            std::fs::remove_dir_all(entry.path()).map_err(VolumeError::disk(&evicting.display()))?;
        }
        let pace = rate::Pace::new(settings.rate);
        let shared = Shared {
            settings,
            store,
            replicas: Mutex::new(replicas),
            changed: watch::Sender::new(0),
            fetches: Semaphore::new(FETCHES_AT_ONCE),
            fetched_bytes: AtomicU64::new(0),
            pace,
        };
        Ok(Volume { shared: Arc::new(shared) })
    }

    /// The store that it fetches from.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RootId, Replica>> {
        // No code between lock and unlock can panic halfway through a change.
        self.shared.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, root: RootId, change: impl FnOnce(&mut Replica) -> T) -> T {
        let result = change(self.lock().entry(root).or_default());
        self.shared.changed.send_modify(|count| *count += 1);
        result
    }

    /// All releases that are or shall be here.
    #[must_use]
    pub fn states(&self) -> Vec<(RootId, ReplicaState)> {
        let replicas = self.lock();
        let shown = |replica: &Replica| replica.state != ReplicaState::Absent || replica.policy != Policy::Anywhere;
        replicas.iter().filter(|(_, one)| shown(one)).map(|(root, one)| (*root, one.state.clone())).collect()
    }

    /// One release.
    #[must_use]
    pub fn state(&self, root: RootId) -> ReplicaState {
        self.lock().get(&root).map_or(ReplicaState::Absent, |replica| replica.state.clone())
    }

    /// Bytes that were read from the store since the volume was opened.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.shared.fetched_bytes.load(Ordering::Relaxed)
    }

    /// Changes with every state.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn present_dir(&self, root: RootId) -> PathBuf {
        self.shared.settings.dir.join("present").join(root.to_string())
    }

    fn partial_dir(&self, root: RootId) -> PathBuf {
        self.shared.settings.dir.join("partial").join(root.to_string())
    }

    /// What shall be here, whole each time: pinned and preferred releases are fetched, others may go when space is needed. Idempotent.
    /// Needs a tokio runtime.
    pub fn want(&self, wanted: &[(RootId, Policy)]) {
        let mut to_fetch = Vec::new();
        {
            let mut replicas = self.lock();
            for replica in replicas.values_mut() {
                replica.policy = Policy::Anywhere;
            }
            for (root, policy) in wanted {
                let replica = replicas.entry(*root).or_default();
                replica.policy = *policy;
                let is_missing = match replica.state {
                    ReplicaState::Absent | ReplicaState::Corrupt { .. } => true,
                    ReplicaState::Failed { retry_at, .. } => std::time::Instant::now() >= retry_at,
                    ReplicaState::Replicating { .. }
                    | ReplicaState::Present { .. }
                    | ReplicaState::Verifying { .. }
                    | ReplicaState::Evicting => false,
                };
                if *policy != Policy::Anywhere && is_missing && !replica.is_busy {
                    to_fetch.push(*root);
                }
            }
            replicas.retain(|_, one| {
                one.state != ReplicaState::Absent || one.policy != Policy::Anywhere || one.is_busy || one.uses > 0
            });
        }
        for root in to_fetch {
            self.start_fetch(root);
        }
    }

    /// Makes sure that the release is here, and keeps it as long as the returned guard lives.
    pub async fn ensure(&self, root: RootId) -> Result<Use, VolumeError> {
        let mut changes = self.watch();
        // Held from here on, so that it is not evicted between its arrival and its use.
        let used = Use::new(self.clone(), root);
        let mut was_started = false;
        loop {
            changes.borrow_and_update();
            let (state, is_busy) = {
                let replicas = self.lock();
                replicas.get(&root).map_or((ReplicaState::Absent, false), |one| (one.state.clone(), one.is_busy))
            };
            match state {
                ReplicaState::Present { .. } | ReplicaState::Verifying { .. } => return Ok(used),
                ReplicaState::Failed { detail, is_full, .. } if was_started && !is_busy => {
                    return Err(if is_full {
                        VolumeError::Full { needed_bytes: 0, free_bytes: 0 }
                    } else {
                        VolumeError::Failed(detail)
                    });
                }
                ReplicaState::Absent | ReplicaState::Corrupt { .. } | ReplicaState::Failed { .. } if !is_busy => {
                    was_started = true;
                    self.start_fetch(root);
                }
                ReplicaState::Absent
                | ReplicaState::Corrupt { .. }
                | ReplicaState::Failed { .. }
                | ReplicaState::Replicating { .. }
                | ReplicaState::Evicting => was_started = true,
            }
            if changes.changed().await.is_err() {
                return Err(VolumeError::Failed("the volume is closed".to_owned()));
            }
        }
    }

    /// Fetches a release, or what is wrong or missing of it, in a task of its own.
    fn start_fetch(&self, root: RootId) {
        let started = self.update(root, |replica| {
            let start = !replica.is_busy;
            replica.is_busy = true;
            start
        });
        if !started {
            return;
        }
        let volume = self.clone();
        tokio::spawn(async move {
            let outcome = match volume.shared.fetches.acquire().await {
                Ok(_permit) => fetch::replicate(&volume, root).await,
                Err(_closed) => Err(VolumeError::Failed("the volume is closed".to_owned())),
            };
            volume.update(root, |replica| {
                replica.is_busy = false;
                match outcome {
                    Ok(bytes) => replica.state = ReplicaState::Present { bytes },
                    Err(error) => {
                        tracing::warn!(%root, error = &error as &dyn std::error::Error, "a release was not fetched");
                        replica.state = ReplicaState::failed(&error);
                    }
                }
            });
        });
    }

    /// Reads a copy again and compares it with what it has to be; what is wrong is fetched anew. False when something was.
    pub async fn verify(&self, root: RootId) -> Result<bool, VolumeError> {
        self.verify_at(root, None).await
    }

    async fn verify_at(&self, root: RootId, rate: Option<Rate>) -> Result<bool, VolumeError> {
        let begun = self.update(root, |replica| {
            let is_present = matches!(replica.state, ReplicaState::Present { .. }) && !replica.is_busy;
            replica.is_busy |= is_present;
            is_present.then(|| replica.state.clone())
        });
        let Some(before) = begun else {
            return Err(VolumeError::Failed("only a copy that is present can be verified".to_owned()));
        };
        let checked = fetch::verify(self, root, rate).await;
        let is_good = self.update(root, |replica| {
            replica.is_busy = false;
            match checked {
                Ok((bytes, 0)) => {
                    replica.state = ReplicaState::Present { bytes };
                    Ok(true)
                }
                Ok((_, faults)) => {
                    tracing::warn!(%root, faults, "a copy on the site's volume is damaged");
                    replica.state = ReplicaState::Corrupt { faults };
                    Ok(false)
                }
                // Nothing is known about it that was not known before.
                Err(error) => {
                    replica.state = before;
                    Err(error)
                }
            }
        })?;
        if !is_good {
            self.start_fetch(root);
        }
        Ok(is_good)
    }

    /// Removes a copy that nobody uses; false when somebody does, or it is not there.
    pub async fn evict(&self, root: RootId) -> Result<bool, VolumeError> {
        let begun = self.update(root, |replica| {
            let can = replica.uses == 0 && !replica.is_busy && !matches!(replica.state, ReplicaState::Absent);
            if can {
                replica.is_busy = true;
                replica.state = ReplicaState::Evicting;
            }
            can
        });
        if !begun {
            return Ok(false);
        }
        let (present, partial) = (self.present_dir(root), self.partial_dir(root));
        let grave = self.shared.settings.dir.join("evicting").join(root.to_string());
        let removed = tokio::task::spawn_blocking(move || space::remove(&present, &partial, &grave)).await;
        self.update(root, |replica| {
            replica.is_busy = false;
            replica.state = ReplicaState::Absent;
            replica.tree = None;
        });
        let removed = removed.map_err(|error| VolumeError::Failed(error.to_string()))?;
        removed.map_err(VolumeError::disk(&root))?;
        tracing::info!(%root, "release evicted from the site's volume");
        Ok(true)
    }
}

/// A release in use: it is not evicted while this lives.
#[derive(Debug)]
pub struct Use {
    volume: Volume,
    root: RootId,
    files: PathBuf,
}

impl Use {
    fn new(volume: Volume, root: RootId) -> Use {
        volume.update(root, |replica| replica.uses += 1);
        let files = volume.present_dir(root).join("files");
        Use { volume, root, files }
    }

    /// The directory of its files. Nobody writes there.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        space::touch(&self.volume.present_dir(self.root));
        self.volume.update(self.root, |replica| replica.uses = replica.uses.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
