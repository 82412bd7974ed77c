//! Where objects are kept: a local directory, or a bucket of an S3-compatible store. Both sit behind `object_store`; this room adds names,
//! and checks of what comes back.
//!
//! ```text
//! packs/ab/abcd…   chunks        trees/ab/abcd…   files        roots/ab/abcd…   what a release or a save consists of
//! ```
//! An object is named by the hash of its bytes and never changes: writing it twice is harmless, a half-written one is never seen (both kinds
//! of store publish an object whole or not at all), and a reader can check what it got. Whether an object is still needed is `collect`'s.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig};

use crate::buffers;
use crate::chunk::Chunk;
use crate::id::{PackId, RootId, TreeId};
use crate::pack::{MAX_INDEX_BYTES, Pack, Place, places_of_tail};
use crate::root::{MAX_ROOT_BYTES, Root};
use crate::stored::Unpacker;
use crate::tree::{MAX_TREE_BYTES, Tree};

/// Bytes between two chunks that are fetched along rather than asked for by a request of its own: what a request costs on a local disk or in a
/// data centre is about as much.
const READ_THROUGH_BYTES: u64 = 128 * 1024;

/// First guess at how long the end of a pack with its index is. Enough for the 250 chunks of a usual one.
const TAIL_GUESS_BYTES: u64 = 16 * 1024;

/// How long a request to a server that does not answer is tried again. More makes whoever waits learn late that it is away; less gives up while
/// it restarts.
const RETRY_FOR: Duration = Duration::from_secs(15);

/// How long one request may take: a pack of 16 MB takes so long at half a megabit a second. Less ends fetches over slow lines; more lets one that
/// hangs hold its place for longer.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);

/// What servers call a wrong key, a wrong secret, and a key that may not do this.
const REFUSALS: [&str; 3] = ["<Code>AccessDenied<", "<Code>InvalidAccessKeyId<", "<Code>SignatureDoesNotMatch<"];

/// The object that is written to be told the store's time.
pub(crate) const CLOCK: &str = "clock";

/// Most of a local store's disk that is kept free for saves; of a small disk a twentieth.
const MOST_RESERVE_BYTES: u64 = 1 << 30;

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// A directory, which is made when it is missing.
    Local {
        /// Its path.
        dir: PathBuf,
    },
    /// A bucket, which has to exist.
    S3 {
        /// Address of the server, for example `https://s3.example.org`; `None` = Amazon's of the region.
        endpoint: Option<String>,
        /// The bucket.
        bucket: String,
        /// What all names begin with inside of the bucket; empty = nothing.
        prefix: String,
        /// The region; most other servers than Amazon's take any.
        region: String,
        /// Whose requests they are.
        access_key_id: String,
        /// The secret of them.
        secret_access_key: String,
    },
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreSettings::Local { dir } => f.debug_struct("Local").field("dir", dir).finish(),
            StoreSettings::S3 { endpoint, bucket, prefix, .. } => f
                .debug_struct("S3")
                .field("endpoint", endpoint)
                .field("bucket", bucket)
                .field("prefix", prefix)
                .finish_non_exhaustive(),
        }
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Chunks.
    Pack,
    /// Files.
    Tree,
    /// A tree and its packs.
    Root,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [ObjectKind; 3] = [ObjectKind::Pack, ObjectKind::Tree, ObjectKind::Root];

    pub(crate) fn directory(self) -> &'static str {
        match self {
            ObjectKind::Pack => "packs",
            ObjectKind::Tree => "trees",
            ObjectKind::Root => "roots",
        }
    }
}

/// An object's kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// What it is.
    pub kind: ObjectKind,
    /// 64 hexadecimal digits.
    pub id: String,
}

impl ObjectName {
    fn new(kind: ObjectKind, id: &dyn fmt::Display) -> ObjectName {
        ObjectName { kind, id: id.to_string() }
    }

    fn path(&self) -> ObjectPath {
        let start = self.id.get(..2).unwrap_or_default();
        ObjectPath::from_iter([self.kind.directory(), start, &self.id])
    }
}

impl From<PackId> for ObjectName {
    fn from(id: PackId) -> ObjectName {
        ObjectName::new(ObjectKind::Pack, &id)
    }
}

impl From<TreeId> for ObjectName {
    fn from(id: TreeId) -> ObjectName {
        ObjectName::new(ObjectKind::Tree, &id)
    }
}

impl From<RootId> for ObjectName {
    fn from(id: RootId) -> ObjectName {
        ObjectName::new(ObjectKind::Root, &id)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.directory(), self.id)
    }
}

/// An object as a list shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub written: SystemTime,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the address is wrong, or the directory cannot be made: check the settings.
    #[error("the content store cannot be opened")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no such object: it was removed, or the store is another one than before.
    #[error("the content store has no {0}")]
    Missing(ObjectName),
    /// The object's bytes are not what its name says: restore it from a copy, or push the release again.
    #[error("{0} is damaged in the content store")]
    Damaged(ObjectName),
    /// No space is left: make some, then try again.
    #[error("the content store's disk is full")]
    Full,
    /// The server does not know the keys, or they may not do this: check the settings, and the keys' rights at the server.
    #[error("the content store refuses the access key or its secret")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bucket is not there: make it, or check its name in the settings.
    #[error("the content store's bucket does not exist")]
    NoBucket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk or the server failed: look at the cause, then try again.
    #[error("the content store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    fn of(name: &ObjectName, error: object_store::Error) -> StoreError {
        let is_missing = matches!(error, object_store::Error::NotFound { .. });
        let causes = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |one| one.source());
        for cause in causes {
            if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
                return StoreError::Full;
            }
            // A server's answer is a text, in which the code is the same for all of them; of the same status there are several.
            let text = cause.to_string();
            if text.contains("<Code>NoSuchBucket<") {
                return StoreError::NoBucket(Box::new(error));
            }
            if REFUSALS.iter().any(|code| text.contains(code)) {
                return StoreError::Refused(Box::new(error));
            }
        }
        if is_missing {
            return StoreError::Missing(name.clone());
        }
        StoreError::Failed(Box::new(error))
    }

    /// True when another copy or another try may help, false when the store itself does not work.
    #[must_use]
    pub fn is_about_the_object(&self) -> bool {
        match self {
            StoreError::Missing(_) | StoreError::Damaged(_) => true,
            StoreError::Open(_)
            | StoreError::Full
            | StoreError::Refused(_)
            | StoreError::NoBucket(_)
            | StoreError::Failed(_) => false,
        }
    }
}

/// A store of objects. Clones share it.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    local_dir: Option<PathBuf>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.objects)
    }
}

impl Store {
    /// Opens it; says nothing to a server yet.
    pub fn open(settings: &StoreSettings) -> Result<Store, StoreError> {
        let failed = |error: object_store::Error| StoreError::Open(Box::new(error));
        match settings {
            StoreSettings::Local { dir } => {
                std::fs::create_dir_all(dir).map_err(|error| StoreError::Open(Box::new(error)))?;
                let objects = LocalFileSystem::new_with_prefix(dir).map_err(failed)?.with_fsync(true);
                Ok(Store { objects: Arc::new(objects), local_dir: Some(dir.clone()) })
            }
            StoreSettings::S3 { endpoint, bucket, prefix, region, access_key_id, secret_access_key } => {
                let is_plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_access_key_id(access_key_id)
                    .with_secret_access_key(secret_access_key)
                    .with_retry(RetryConfig { retry_timeout: RETRY_FOR, ..RetryConfig::default() })
                    .with_client_options(ClientOptions::new().with_allow_http(is_plain).with_timeout(REQUEST_TIMEOUT));
                if let Some(endpoint) = endpoint {
                    builder = builder.with_endpoint(endpoint);
                }
                let objects = builder.build().map_err(failed)?;
                let objects: Arc<dyn ObjectStore> = if prefix.is_empty() {
                    Arc::new(objects)
                } else {
                    Arc::new(PrefixStore::new(objects, prefix.as_str()))
                };
                Ok(Store { objects, local_dir: None })
            }
        }
    }

    /// Whether so many more bytes leave the reserve that saves need; else [`StoreError::Full`]. For whatever can be sent again later. A server
    /// is not asked.
    pub fn check_reserve(&self, bytes: u64) -> Result<(), StoreError> {
        let Some(dir) = &self.local_dir else { return Ok(()) };
        let stat = rustix::fs::statvfs(dir).map_err(|errno| StoreError::Failed(Box::new(io::Error::from(errno))))?;
        let (free, size) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
        let reserve = MOST_RESERVE_BYTES.min(size / 20);
        if free >= bytes.saturating_add(reserve) { Ok(()) } else { Err(StoreError::Full) }
    }

    /// The directory of a local store.
    #[must_use]
    pub fn local_dir(&self) -> Option<&std::path::Path> {
        self.local_dir.as_deref()
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(&name.path(), bytes.into()).await;
        put.map(drop).map_err(|error| StoreError::of(name, error))
    }

    async fn get(&self, name: &ObjectName, most: usize) -> Result<Bytes, StoreError> {
        let got = self.objects.get(&name.path()).await.map_err(|error| StoreError::of(name, error))?;
        if got.meta.size > most as u64 {
            return Err(StoreError::Damaged(name.clone()));
        }
        got.bytes().await.map_err(|error| StoreError::of(name, error))
    }

    /// Keeps bytes under their own name; true in the order of the world when it returns: they survive the loss of power.
    pub async fn put_pack(&self, id: PackId, bytes: Vec<u8>) -> Result<(), StoreError> {
        debug_assert!(bytes.len() <= crate::seal::MAX_SEALED_PACK_BYTES, "no reader takes a longer one");
        self.put(&ObjectName::new(ObjectKind::Pack, &id), buffers::lend(bytes)).await
    }

    /// A pack's bytes, whole and checked against its name.
    pub async fn pack_bytes(&self, id: PackId) -> Result<Bytes, StoreError> {
        let name = ObjectName::new(ObjectKind::Pack, &id);
        let bytes = self.get(&name, crate::seal::MAX_SEALED_PACK_BYTES).await?;
        if PackId::of(&bytes) == id { Ok(bytes) } else { Err(StoreError::Damaged(name)) }
    }

    /// A pack, all of it checked.
    pub async fn pack(&self, id: PackId) -> Result<Pack, StoreError> {
        let bytes = self.pack_bytes(id).await?;
        Pack::read(bytes.into(), Some(id)).map_err(|_error| StoreError::Damaged(ObjectName::new(ObjectKind::Pack, &id)))
    }

    /// What lies where in a pack: its end alone is read, and cannot be checked against the name. Every chunk can.
    pub async fn places(&self, id: PackId) -> Result<Vec<Place>, StoreError> {
        let name = ObjectName::new(ObjectKind::Pack, &id);
        let damaged = || StoreError::Damaged(name.clone());
        let mut guess = TAIL_GUESS_BYTES;
        loop {
            let options = GetOptions { range: Some(GetRange::Suffix(guess)), ..GetOptions::default() };
            let got =
                self.objects.get_opts(&name.path(), options).await.map_err(|error| StoreError::of(&name, error))?;
            let (start, length) = (got.range.start, got.meta.size);
            let tail = got.bytes().await.map_err(|error| StoreError::of(&name, error))?;
            match places_of_tail(&tail, start, length).map_err(|_error| damaged())? {
                Ok(places) => return Ok(places),
                Err(needed) if needed > guess && needed <= MAX_INDEX_BYTES as u64 => guess = needed,
                Err(_impossible) => return Err(damaged()),
            }
        }
    }

    /// The stored bytes of some chunks of a pack, which are named in the pack's order. What lies close together is read at once.
    pub async fn stored(&self, id: PackId, wanted: &[Place]) -> Result<Stored, StoreError> {
        let name = ObjectName::new(ObjectKind::Pack, &id);
        let mut parts = Vec::new();
        for (range, places) in runs(wanted) {
            let bytes = self.objects.get_range(&name.path(), range.clone()).await;
            parts.push((range.start, bytes.map_err(|error| StoreError::of(&name, error))?, places.to_vec()));
        }
        Ok(Stored { name, parts })
    }

    /// Some chunks of a pack, checked; as [`Store::stored`], for few.
    pub async fn chunks(&self, id: PackId, wanted: &[Place]) -> Result<Vec<Chunk>, StoreError> {
        let mut chunks = Vec::with_capacity(wanted.len());
        self.stored(id, wanted).await?.each(|place, _stored, bytes| {
            chunks.push(Chunk { id: place.id, bytes: bytes.to_vec() });
            Ok::<(), StoreError>(())
        })?;
        Ok(chunks)
    }

    /// Keeps a tree's encoding.
    pub async fn put_tree_bytes(&self, bytes: Vec<u8>) -> Result<TreeId, StoreError> {
        let id = TreeId::of(&bytes);
        self.put(&ObjectName::new(ObjectKind::Tree, &id), bytes.into()).await?;
        Ok(id)
    }

    /// A tree's encoding, checked against its name.
    pub async fn tree_bytes(&self, id: TreeId) -> Result<Bytes, StoreError> {
        let name = ObjectName::new(ObjectKind::Tree, &id);
        let bytes = self.get(&name, MAX_TREE_BYTES).await?;
        if TreeId::of(&bytes) == id { Ok(bytes) } else { Err(StoreError::Damaged(name)) }
    }

    /// A tree that is not encrypted.
    pub async fn tree(&self, id: TreeId) -> Result<Tree, StoreError> {
        let bytes = self.tree_bytes(id).await?;
        Tree::decode(&bytes).map_err(|_error| StoreError::Damaged(ObjectName::new(ObjectKind::Tree, &id)))
    }

    /// Keeps a root.
    pub async fn put_root(&self, root: &Root) -> Result<RootId, StoreError> {
        let id = root.id();
        self.put(&ObjectName::new(ObjectKind::Root, &id), root.encode().into()).await?;
        Ok(id)
    }

    /// A root.
    pub async fn root(&self, id: RootId) -> Result<Root, StoreError> {
        let name = ObjectName::new(ObjectKind::Root, &id);
        let bytes = self.get(&name, MAX_ROOT_BYTES).await?;
        if RootId::of(&bytes) != id {
            return Err(StoreError::Damaged(name));
        }
        Root::decode(&bytes).map_err(|_error| StoreError::Damaged(name))
    }

    /// The time by the store's own clock, which is the one that [`Listed::written`] goes by. Writes a small object, `clock`.
    pub async fn now(&self) -> Result<SystemTime, StoreError> {
        let path = ObjectPath::from(CLOCK);
        let failed = |error| match StoreError::of(&ObjectName::new(ObjectKind::Root, &"*"), error) {
            StoreError::Missing(name) => StoreError::Failed(format!("{name}: its clock is gone").into()),
            other => other,
        };
        self.objects.put(&path, Bytes::from_static(b"kite").into()).await.map_err(failed)?;
        Ok(self.objects.head(&path).await.map_err(failed)?.last_modified.into())
    }

    /// All objects of a kind, in no order. What lies there and is none is left out.
    pub fn list(&self, kind: ObjectKind) -> impl Stream<Item = Result<Listed, StoreError>> + Send + 'static {
        let prefix = ObjectPath::from(kind.directory());
        self.objects.list(Some(&prefix)).filter_map(move |found| async move {
            let found = match found.map_err(|error| StoreError::of(&ObjectName::new(kind, &"*"), error)) {
                Ok(found) => found,
                // It was removed while the list was made.
                Err(StoreError::Missing(_)) => return None,
                Err(error) => return Some(Err(error)),
            };
            let id = found.location.filename()?;
            id.parse::<PackId>().ok()?;
            let name = ObjectName { kind, id: id.to_owned() };
            Some(Ok(Listed { name, bytes: found.size, written: found.last_modified.into() }))
        })
    }

    /// Removes an object; one that is not there is removed already.
    pub async fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        match self.objects.delete(&name.path()).await.map_err(|error| StoreError::of(name, error)) {
            Ok(()) | Err(StoreError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// True when the object's bytes are what its name says.
    pub async fn check(&self, name: &ObjectName) -> Result<bool, StoreError> {
        let most = MAX_TREE_BYTES.max(MAX_ROOT_BYTES);
        match self.get(name, most).await {
            Ok(bytes) => Ok(PackId::of(&bytes).to_string() == name.id),
            Err(StoreError::Damaged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Bytes of a pack's chunks, as they are stored.
#[derive(Debug)]
pub struct Stored {
    name: ObjectName,
    /// Where in the pack the bytes begin, the bytes, what lies in them.
    parts: Vec<(u64, Bytes, Vec<Place>)>,
}

impl Stored {
    /// Bytes that were read for them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes, _)| bytes.len() as u64).sum()
    }

    /// Gives each chunk, in the order that was asked for: where it lies, its bytes as they are stored, its bytes, which were checked. This is
    /// work for a thread of its own.
    pub(crate) fn each<E: From<StoreError>>(
        &self,
        mut take: impl FnMut(&Place, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut unpacker = Unpacker::new().map_err(|error| StoreError::Failed(Box::new(error)))?;
        for (start, bytes, places) in &self.parts {
            for place in places {
                let range = place.range();
                let stored = bytes.get((range.start - start) as usize..(range.end - start) as usize);
                let damaged = || StoreError::Damaged(self.name.clone());
                let stored = stored.ok_or_else(damaged)?;
                let plain = unpacker.unpack(place.id, place.length(), stored).map_err(|_damaged| damaged())?;
                take(place, stored, plain)?;
            }
        }
        Ok(())
    }
}

/// Neighbours in a pack, and the bytes from the first to the last of them.
fn runs(places: &[Place]) -> Vec<(Range<u64>, &[Place])> {
    let mut runs = Vec::new();
    let mut first = 0;
    for index in 1..=places.len() {
        let is_close = places.get(index).is_some_and(|next| {
            let end = places[index - 1].range().end;
            (end..=end.saturating_add(READ_THROUGH_BYTES)).contains(&next.range().start)
        });
        if !is_close {
            runs.push((places[first].range().start..places[index - 1].range().end, &places[first..index]));
            first = index;
        }
    }
    runs
}
