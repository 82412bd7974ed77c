//! The client's side: reads a directory and sends what the server does not know.
//!
//! ```text
//! thread: read, cut, hash -> thread: compress, patch -> parcels, several at once, to the server
//! ```

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::known::{Prefix, prefix};
use super::outline;
use crate::buffers;
use crate::chunk::{Chunk, ChunkId};
use crate::parcel::ParcelBuilder;
use crate::scan::{ScanError, scan, scan_parts};
use crate::signature::{Signature, Sources};
use crate::tree::{Piece, Tree};

/// zstd's levels for what is sent and, as it is, stored. Where a parcel arrives at once the processor is what a push waits for: -7 takes half
/// of the time of 1 and leaves 10 % more bytes. Where the way is slow the processor has time.
const QUICK_LEVEL: i32 = -7;
const SMALL_LEVEL: i32 = 3;

/// A way is slow when fewer bytes a second arrive, the server's own work included.
const SLOW_BYTES_PER_SECOND: f64 = 40e6;

/// Parcels that are on their way at once. One leaves the network idle while the server checks, many only take memory.
const PARCELS_AT_ONCE: usize = 3;

/// Chunks that wait for the compressor: 8 MB.
const CHUNKS_WAITING: usize = 128;

/// Signatures that are asked for at once, and how many at most: those of 2 GB of old chunks, 32 MB to get.
const SIGNATURES_AT_ONCE: usize = 1024;
const MAX_SIGNATURES: usize = 32 * 1024;

/// How often chunks that the server lacks after all are sent.
const ROUNDS: usize = 3;

/// Why the server did not do what it was asked, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// An upload at a server.
pub trait Remote: Send + Sync + 'static {
    /// Signatures of known chunks.
    fn signatures(&self, numbers: Vec<u32>) -> impl Future<Output = Result<Vec<u8>, RemoteError>> + Send;

    /// Sends a parcel; the chunks that have to be sent whole.
    fn send(&self, parcel: Bytes) -> impl Future<Output = Result<Vec<ChunkId>, RemoteError>> + Send;

    /// Ends the upload with the outline; the chunks that are missing, or what the server says of the new release.
    fn finish(
        &self,
        outline: Vec<u8>,
    ) -> impl Future<Output = Result<Result<String, Vec<ChunkId>>, RemoteError>> + Send;
}

/// Why a push failed. What arrived is known to the server: the next push goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The directory cannot be read, or something in it has no place in a package.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The server, or the way to it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The server misses chunks again and again that were sent: tell whoever runs it.
    #[error("the server misses chunks that were sent")]
    Missing,
    /// The system failed.
    #[error("the push cannot work")]
    System(#[source] io::Error),
}

/// How far a push is. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the package that were read.
    pub read_bytes: AtomicU64,
    /// Bytes that were sent.
    pub sent_bytes: AtomicU64,
    /// Bytes that were received.
    pub received_bytes: AtomicU64,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// What the server says of the new release.
    pub answer: String,
    /// Bytes of the package.
    pub bytes: u64,
    /// Chunks of the package, each once.
    pub chunks: u64,
    /// Chunks that the server did not know.
    pub new_chunks: u64,
}

/// What the client was told of what it has.
struct Numbers {
    by_prefix: HashMap<Prefix, u32>,
    /// Chunks that the server says it lacks though it told their prefix.
    lost: HashSet<ChunkId>,
}

impl Numbers {
    fn of(&self, id: ChunkId) -> Option<u32> {
        if self.lost.contains(&id) { None } else { self.by_prefix.get(&prefix(id)).copied() }
    }
}

/// Reads the directory and sends it. `known` is what the server told; the first `base` of it are the newest release's.
pub async fn push<R: Remote>(
    directory: &Path,
    known: &[Prefix],
    base: usize,
    remote: Arc<R>,
    progress: Arc<Progress>,
) -> Result<Pushed, PushError> {
    let by_prefix = known.iter().zip(0_u32..).map(|(prefix, number)| (*prefix, number)).collect();
    let mut numbers = Numbers { by_prefix, lost: HashSet::new() };
    let mut sent: HashSet<ChunkId> = HashSet::new();
    let (tree, refused) = if known.is_empty() {
        // Everything is new: read once, sending on the way.
        let sending = Sending::start(&remote, &progress, Sources::new([]));
        let tree = read(directory, &sending, &progress, |id| sent.insert(id)).await;
        // First why nothing could be sent, then why nothing could be read: the one follows from the other.
        let refused = sending.end().await?;
        (tree?, refused)
    } else {
        let (tree, new) = compare(directory, &numbers, &progress).await?;
        let sources = sources(&tree, known, base, &numbers, new.len(), &remote, &progress).await?;
        let sending = Sending::start(&remote, &progress, sources);
        sent.extend(&new);
        let reading = read_parts(directory, &tree, new, &sending);
        let refused = sending.end().await?;
        reading?;
        (tree, refused)
    };
    resend(directory, &tree, &remote, &progress, refused).await?;
    let chunks: HashSet<ChunkId> = tree.pieces().filter_map(|piece| piece.chunk()).collect();
    for _ in 0..ROUNDS {
        let outline = outline::encode(&tree, &|id| numbers.of(id)).map_err(PushError::System)?;
        progress.sent_bytes.fetch_add(outline.len() as u64, Ordering::Relaxed);
        match remote.finish(outline).await? {
            Ok(answer) => {
                let (bytes, new_chunks) = (tree.bytes(), sent.len() as u64);
                return Ok(Pushed { answer, bytes, chunks: chunks.len() as u64, new_chunks });
            }
            Err(missing) => {
                numbers.lost.extend(missing.iter().copied());
                resend(directory, &tree, &remote, &progress, missing).await?;
            }
        }
    }
    Err(PushError::Missing)
}

/// Reads and cuts everything, to know what is new.
async fn compare(
    directory: &Path,
    numbers: &Numbers,
    progress: &Arc<Progress>,
) -> Result<(Tree, HashSet<ChunkId>), PushError> {
    let mut new = HashSet::new();
    let tree = super::in_place(|| {
        scan(directory, &mut |chunk| {
            progress.read_bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            if numbers.of(chunk.id).is_none() {
                new.insert(chunk.id);
            }
            Ok(())
        })
    })?;
    Ok((tree, new))
}

/// What new chunks may be like: those of the newest release that this build no longer has.
async fn sources<R: Remote>(
    tree: &Tree,
    known: &[Prefix],
    base: usize,
    numbers: &Numbers,
    new: usize,
    remote: &Arc<R>,
    progress: &Arc<Progress>,
) -> Result<Sources, PushError> {
    let used: HashSet<u32> = tree.pieces().filter_map(|piece| numbers.of(piece.chunk()?)).collect();
    let base = u32::try_from(base.min(known.len())).unwrap_or(u32::MAX);
    let gone: Vec<u32> = (0..base).filter(|number| !used.contains(number)).collect();
    // When most is new there is nothing that it would be like.
    if new == 0 || gone.len() > MAX_SIGNATURES {
        return Ok(Sources::new([]));
    }
    let mut signatures = Vec::new();
    for numbers in gone.chunks(SIGNATURES_AT_ONCE) {
        progress.sent_bytes.fetch_add(4 * numbers.len() as u64, Ordering::Relaxed);
        let bytes = remote.signatures(numbers.to_vec()).await?;
        progress.received_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        read_signatures(&bytes, &mut signatures);
    }
    Ok(Sources::new(signatures))
}

/// What cannot be read is left out: chunks are sent whole then.
fn read_signatures(mut bytes: &[u8], signatures: &mut Vec<(ChunkId, Signature)>) {
    while let Some((id, rest)) = ChunkId::split_from(bytes) {
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return };
        let Some((signature, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else { return };
        if let Ok(signature) = Signature::decode(signature) {
            signatures.push((id, signature));
        }
        bytes = rest;
    }
}

/// Sends chunks whole that did not arrive otherwise.
async fn resend<R: Remote>(
    directory: &Path,
    tree: &Tree,
    remote: &Arc<R>,
    progress: &Arc<Progress>,
    missing: Vec<ChunkId>,
) -> Result<(), PushError> {
    if missing.is_empty() {
        return Ok(());
    }
    let sending = Sending::start(remote, progress, Sources::new([]));
    let reading = read_parts(directory, tree, missing.into_iter().collect(), &sending);
    let refused = sending.end().await?;
    reading?;
    if refused.is_empty() { Ok(()) } else { Err(PushError::Missing) }
}

/// Reads these chunks again, and hands each on once.
fn read_parts(directory: &Path, tree: &Tree, mut wanted: HashSet<ChunkId>, sending: &Sending) -> Result<(), PushError> {
    let mut hand_on = |chunk: Chunk| sending.take(chunk);
    super::in_place(|| scan_parts(directory, tree, &mut |id| wanted.remove(&id), &mut hand_on))?;
    Ok(())
}

/// Reads everything and hands on what `is_wanted`.
async fn read(
    directory: &Path,
    sending: &Sending,
    progress: &Arc<Progress>,
    mut is_wanted: impl FnMut(ChunkId) -> bool,
) -> Result<Tree, PushError> {
    let tree = super::in_place(|| {
        scan(directory, &mut |chunk| {
            progress.read_bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            if is_wanted(chunk.id) {
                sending.take(chunk)?;
            }
            Ok(())
        })
    });
    Ok(tree?)
}

/// Chunks on their way: a thread that compresses, a task that sends.
struct Sending {
    chunks: mpsc::Sender<Chunk>,
    done: tokio::task::JoinHandle<Result<Vec<ChunkId>, PushError>>,
}

impl Sending {
    fn start<R: Remote>(remote: &Arc<R>, progress: &Arc<Progress>, sources: Sources) -> Sending {
        let (chunks, mut waiting) = mpsc::channel::<Chunk>(CHUNKS_WAITING);
        let (parcels, ready) = mpsc::channel::<Vec<u8>>(1);
        let is_slow = Arc::new(AtomicBool::new(false));
        let is_way_slow = Arc::clone(&is_slow);
        let packing = tokio::task::spawn_blocking(move || {
            let mut builder = ParcelBuilder::new(QUICK_LEVEL)?;
            while let Some(chunk) = waiting.blocking_recv() {
                builder.add(&chunk, &sources);
                if builder.is_full() {
                    if parcels.blocking_send(builder.finish()).is_err() {
                        return Ok(());
                    }
                    builder.set_level(if is_way_slow.load(Ordering::Relaxed) { SMALL_LEVEL } else { QUICK_LEVEL })?;
                }
            }
            if !builder.is_empty() {
                // Nobody takes it when sending has failed, which says so itself.
                let _unsent = parcels.blocking_send(builder.finish());
            }
            Ok::<(), io::Error>(())
        });
        let (remote, progress) = (Arc::clone(remote), Arc::clone(progress));
        let done = tokio::spawn(async move {
            let ready =
                futures_util::stream::unfold(ready, |mut ready| async move { Some((ready.recv().await?, ready)) });
            let mut answers = std::pin::pin!(
                ready
                    .map(|parcel| {
                        let (remote, progress) = (Arc::clone(&remote), Arc::clone(&progress));
                        let is_slow = Arc::clone(&is_slow);
                        async move {
                            let (bytes, began) = (parcel.len() as u64, Instant::now());
                            let refused = remote.send(buffers::lend(parcel)).await?;
                            let rate = bytes as f64 / began.elapsed().as_secs_f64();
                            is_slow.store(rate < SLOW_BYTES_PER_SECOND, Ordering::Relaxed);
                            progress.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
                            Ok::<_, PushError>(refused)
                        }
                    })
                    .buffer_unordered(PARCELS_AT_ONCE)
            );
            let mut refused = Vec::new();
            while let Some(answer) = answers.next().await {
                refused.extend(answer?);
            }
            packing.await.map_err(|error| PushError::System(io::Error::other(error)))?.map_err(PushError::System)?;
            Ok(refused)
        });
        Sending { chunks, done }
    }

    /// Takes a chunk; waits while many are waiting. Why nobody takes it is said by the end.
    fn take(&self, chunk: Chunk) -> io::Result<()> {
        self.chunks.blocking_send(chunk).map_err(|_closed| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// Waits until all is sent; the chunks that have to be sent whole.
    async fn end(self) -> Result<Vec<ChunkId>, PushError> {
        drop(self.chunks);
        self.done.await.map_err(|error| PushError::System(io::Error::other(error)))?
    }
}

impl Piece {
    /// The chunk that it is.
    pub(crate) fn chunk(&self) -> Option<ChunkId> {
        match self {
            Piece::Chunk { id, .. } => Some(*id),
            Piece::Hole { .. } => None,
        }
    }
}
