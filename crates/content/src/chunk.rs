//! Cuts bytes into chunks where their content says so, and names chunks by their hash. Pure.
//!
//! The places of the cuts depend on the bytes around them alone (FastCDC, Xia et al. 2020), so that bytes inserted into a file change the
//! chunks around them and no others.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use fastcdc::v2020::FastCDC;
use serde::{Deserialize, Serialize};

/// Shortest chunk, except the last of a file. Less makes more chunks than hashing and looking up are worth.
const MIN_CHUNK_BYTES: usize = 16 * 1024;

/// Mean length that is aimed at. Less finds more that is the same, but each chunk costs a look-up and 40 bytes of a tree; more sends
/// more around each change.
const MEAN_CHUNK_BYTES: usize = 64 * 1024;

/// Longest chunk. More lets one change send more, less cuts where the content does not say so.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// The BLAKE3 hash of a chunk's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkId([u8; 32]);

impl ChunkId {
    /// The id of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::hash(bytes).as_bytes())
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// The first 8 bytes as a number, lowest first.
    pub(crate) fn prefix(self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Takes an id from the beginning of these bytes.
    #[must_use]
    pub fn split_from(bytes: &[u8]) -> Option<(ChunkId, &[u8])> {
        bytes.split_first_chunk::<32>().map(|(id, rest)| (ChunkId(*id), rest))
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's id is 64 hexadecimal digits")]
pub struct ChunkIdError;

impl FromStr for ChunkId {
    type Err = ChunkIdError;

    fn from_str(text: &str) -> Result<ChunkId, ChunkIdError> {
        blake3::Hash::from_hex(text).map(|hash| ChunkId(*hash.as_bytes())).map_err(|_error| ChunkIdError)
    }
}

/// Some bytes and their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The hash of `bytes`.
    pub id: ChunkId,
    /// At most [`MAX_CHUNK_BYTES`], at least one.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Names these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Chunk {
        Chunk { id: ChunkId::of(&bytes), bytes }
    }
}

/// Bytes that are cut at once. They are cut, hashed and copied while the processor's cache has them; many longest chunks fit.
const WINDOW_BYTES: usize = 1 << 20;

/// Cuts what it reads.
pub struct Cutter<R: Read> {
    source: R,
    window: Vec<u8>,
    /// What of the window was cut.
    cut: usize,
    is_read: bool,
}

impl<R: Read> Cutter<R> {
    /// Cuts `source` from where it stands to its end, which is most likely so many bytes away.
    pub fn new(source: R, expected: u64) -> Cutter<R> {
        // One more, so that its end is seen by the first reading.
        let room = usize::try_from(expected).map_or(WINDOW_BYTES, |expected| expected.saturating_add(1));
        Cutter { source, window: Vec::with_capacity(room.min(WINDOW_BYTES)), cut: 0, is_read: false }
    }

    /// Reads on when what is left in the window may be less than a chunk.
    fn fill(&mut self) -> io::Result<()> {
        if self.is_read || self.window.len() - self.cut >= MAX_CHUNK_BYTES {
            return Ok(());
        }
        self.window.drain(..self.cut);
        self.cut = 0;
        let room = WINDOW_BYTES - self.window.len();
        let read = self.source.by_ref().take(room as u64).read_to_end(&mut self.window)?;
        self.is_read = read < room;
        Ok(())
    }
}

impl<R: Read> Iterator for Cutter<R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        if let Err(error) = self.fill() {
            self.is_read = true;
            self.window.clear();
            self.cut = 0;
            return Some(Err(error));
        }
        let left = self.window.len() - self.cut;
        if left == 0 {
            return None;
        }
        let cutter = FastCDC::new(&self.window, MIN_CHUNK_BYTES, MEAN_CHUNK_BYTES, MAX_CHUNK_BYTES);
        let (_, end) = cutter.cut(self.cut, left);
        let bytes = self.window[self.cut..end].to_vec();
        self.cut = end;
        Some(Ok(Chunk::new(bytes)))
    }
}

impl<R: Read> fmt::Debug for Cutter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Bytes without a pattern, the same for the same seed.
    pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cut(bytes: &[u8]) -> Vec<Chunk> {
        Cutter::new(bytes, bytes.len() as u64).collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn chunks_are_the_bytes_and_within_their_limits() {
        for bytes in [noise(5_000_000, 1), vec![0; 3_000_000], noise(1, 2), Vec::new()] {
            let chunks = cut(&bytes);
            assert_eq!(chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect::<Vec<_>>(), bytes);
            for chunk in &chunks {
                assert_eq!(chunk.id, ChunkId::of(&chunk.bytes));
                assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= MAX_CHUNK_BYTES);
            }
            let all_but_last = &chunks[..chunks.len().saturating_sub(1)];
            assert!(all_but_last.iter().all(|chunk| chunk.bytes.len() >= MIN_CHUNK_BYTES));
        }
    }

    #[test]
    fn a_change_in_the_middle_changes_few_chunks() {
        let before = noise(8_000_000, 3);
        let mut after = before.clone();
        after.splice(4_000_000..4_000_000, noise(1000, 4));
        let known: HashSet<_> = cut(&before).into_iter().map(|chunk| chunk.id).collect();
        let sent: usize =
            cut(&after).iter().filter(|chunk| !known.contains(&chunk.id)).map(|one| one.bytes.len()).sum();
        assert!(sent <= 2 * MAX_CHUNK_BYTES, "{sent}");
    }

    #[test]
    fn the_cuts_do_not_depend_on_how_much_a_read_gives() {
        struct Drip<'a>(&'a [u8], usize);
        impl Read for Drip<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = self.1 % 7919 + 1;
                let length = buffer.len().min(self.1);
                self.0.read(&mut buffer[..length])
            }
        }
        let bytes = noise(2_000_000, 5);
        for expected in [0, 1000, 2_000_000, u64::MAX] {
            let dripped: Vec<_> = Cutter::new(Drip(&bytes, 1), expected).collect::<io::Result<_>>().unwrap();
            assert_eq!(dripped, cut(&bytes));
        }
        // As the library cuts when it has all of it at once.
        let whole: Vec<_> = FastCDC::new(&bytes, MIN_CHUNK_BYTES, MEAN_CHUNK_BYTES, MAX_CHUNK_BYTES).collect();
        assert_eq!(
            whole.iter().map(|one| one.length).collect::<Vec<_>>(),
            cut(&bytes).iter().map(|one| one.bytes.len()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn ids_are_written_and_read() {
        let id = ChunkId::of(b"kite");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "12", "g".repeat(64).as_str(), "0".repeat(65).as_str(), "é".repeat(32).as_str()] {
            assert_eq!(wrong.parse::<ChunkId>(), Err(ChunkIdError), "{wrong}");
        }
    }
}
