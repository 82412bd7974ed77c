//! Many chunks in one object: small objects cost a request each, and a file's creation each on a local disk. Pure; packs from outside are
//! read totally and within limits.
//!
//! ```text
//! HEAD | chunk | chunk | ... | chunk | index | length of the index, 4 bytes | TAIL
//! ```
//! A chunk is stored by itself, compressed where that makes it shorter, so that it can be fetched without its neighbours. The index says
//! which lie where; it stands at the end, so that a pack is written in one go. A pack is named by its hash: what a name says never changes.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::buffers;
use crate::chunk::{Chunk, ChunkId, MAX_CHUNK_BYTES};
use crate::encoding::encode_onto;
use crate::id::PackId;
use crate::stored::{Compressor, Damaged, unpack};

/// A pack is full when its chunks take so many bytes. More makes a broken transfer lose more, less costs more requests.
const FULL_BYTES: usize = 16 << 20;

/// Most chunks of a pack, for such as hold very small ones.
const MAX_CHUNKS: usize = 8192;

/// Longest pack in bytes: full but for one byte, then a chunk, its index.
pub const MAX_PACK_BYTES: usize = FULL_BYTES + MAX_CHUNK_BYTES + MAX_CHUNKS * MAX_ENTRY_BYTES + HEAD.len() + END_BYTES;

/// A hash and three numbers of at most five bytes.
const MAX_ENTRY_BYTES: usize = 32 + 3 * 5;

const HEAD: &[u8; 8] = b"kitepak1";
const TAIL: &[u8; 8] = b"1kapetik";
const END_BYTES: usize = 4 + TAIL.len();

/// Longest index with what follows it.
pub(crate) const MAX_INDEX_BYTES: usize = MAX_CHUNKS * MAX_ENTRY_BYTES + 5 + END_BYTES;

/// zstd's level. Lower stores more, higher takes longer than the disk and the network do.
const LEVEL: i32 = 3;

/// Where a chunk lies in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The chunk.
    pub id: ChunkId,
    /// Its first byte in the pack.
    offset: u32,
    /// Bytes that it takes in the pack; fewer than `length` when it is compressed.
    stored: u32,
    /// Its bytes.
    length: u32,
}

impl Place {
    /// Its bytes in the pack.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.stored)
    }

    /// Its length as a chunk.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Makes the chunk of these bytes of the pack, which are [`Place::range`].
    pub fn read(&self, stored: &[u8]) -> Result<Chunk, PackError> {
        if stored.len() as u64 != u64::from(self.stored) {
            return Err(PackError::Damaged(self.id));
        }
        unpack(self.id, self.length, stored).map_err(|Damaged(id)| PackError::Damaged(id))
    }
}

/// Why bytes are no pack. In each case the remedy is to get it again, from another place if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Not a pack, or one of another version, or cut off.
    #[error("this is no pack of chunks: {0}")]
    NoPack(&'static str),
    /// The chunk's bytes are not what its name says.
    #[error("chunk {0} is damaged in its pack")]
    Damaged(ChunkId),
}

/// A finished pack.
#[derive(Clone)]
pub struct Pack {
    /// The hash of `bytes`.
    pub id: PackId,
    /// All of it.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub places: Vec<Place>,
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, chunks) = (self.bytes.len(), self.places.len());
        f.debug_struct("Pack").field("id", &self.id).field("bytes", &bytes).field("chunks", &chunks).finish()
    }
}

/// Fills a pack.
pub struct Packer {
    bytes: Vec<u8>,
    places: Vec<Place>,
    compressor: Compressor,
}

impl Packer {
    /// An empty one. Fails when there is no memory for the compressor.
    pub fn new() -> std::io::Result<Packer> {
        Ok(Packer { bytes: buffers::take(HEAD), places: Vec::new(), compressor: Compressor::new(LEVEL)? })
    }

    /// Adds a chunk. Whether it is in the pack already is the caller's business.
    pub fn add(&mut self, chunk: &Chunk) {
        let stored = self.compressor.store(&chunk.bytes);
        append(&mut self.bytes, &mut self.places, chunk.id, chunk.bytes.len(), stored);
    }

    /// Adds a chunk of `length` bytes as it was stored elsewhere, for whoever has it already and [unpacked](unpack) it to see that it is
    /// what it is said to be.
    pub fn add_stored(&mut self, id: ChunkId, length: u32, stored: &[u8]) {
        append(&mut self.bytes, &mut self.places, id, length as usize, stored);
    }

    /// True when nothing more should be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.places.len() >= MAX_CHUNKS
    }

    /// True when nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The pack; afterwards this is empty again.
    pub fn finish(&mut self) -> Pack {
        let mut bytes = std::mem::replace(&mut self.bytes, HEAD.to_vec());
        let places = std::mem::take(&mut self.places);
        let chunks = bytes.len();
        bytes = encode_onto(bytes, &places);
        let length = u32::try_from(bytes.len() - chunks).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(TAIL);
        Pack { id: PackId::of(&bytes), bytes, places }
    }
}

fn append(bytes: &mut Vec<u8>, places: &mut Vec<Place>, id: ChunkId, length: usize, stored: &[u8]) {
    // A pack is full long before these numbers end.
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    places.push(Place { id, offset: number(bytes.len()), stored: number(stored.len()), length: number(length) });
    bytes.extend_from_slice(stored);
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").field("chunks", &self.places.len()).finish_non_exhaustive()
    }
}

impl Pack {
    /// Reads a pack whole and checks all of it, its name too, when that is known.
    pub fn read(bytes: Vec<u8>, id: Option<PackId>) -> Result<Pack, PackError> {
        let found = PackId::of(&bytes);
        if id.is_some_and(|id| id != found) {
            return Err(PackError::NoPack("its bytes are not what its name says"));
        }
        let places = places(&bytes)?;
        let pack = Pack { id: found, bytes, places };
        pack.places.iter().try_for_each(|place| pack.chunk(place).map(drop))?;
        Ok(pack)
    }

    /// A chunk of this pack.
    pub fn chunk(&self, place: &Place) -> Result<Chunk, PackError> {
        let range = place.range();
        let stored = self.bytes.get(range.start as usize..range.end as usize);
        place.read(stored.ok_or(PackError::Damaged(place.id))?)
    }
}

/// Reads the index of a whole pack.
fn places(bytes: &[u8]) -> Result<Vec<Place>, PackError> {
    if !bytes.starts_with(HEAD) {
        return Err(PackError::NoPack("it does not begin as one of this version"));
    }
    places_of_tail(bytes, 0, bytes.len() as u64)?.map_err(|_needed| PackError::NoPack("its index is longer than it is"))
}

/// Reads the index from the last bytes of a pack of this length, which begin at `start`; or says how many of them are needed.
pub(crate) fn places_of_tail(tail: &[u8], start: u64, length: u64) -> Result<Result<Vec<Place>, u64>, PackError> {
    if length > MAX_PACK_BYTES as u64 || start + tail.len() as u64 != length {
        return Err(PackError::NoPack("it is longer than packs are"));
    }
    let rest = tail.strip_suffix(TAIL).ok_or(PackError::NoPack("it does not end as one of this version"))?;
    let (rest, index_length) = rest.split_last_chunk::<4>().ok_or(PackError::NoPack("it is cut off"))?;
    let index_length = u32::from_le_bytes(*index_length) as usize;
    let Some(begin) = rest.len().checked_sub(index_length) else {
        return Ok(Err((index_length + END_BYTES) as u64));
    };
    let end = start + begin as u64;
    if end < HEAD.len() as u64 {
        return Err(PackError::NoPack("its index is longer than it is"));
    }
    let (places, left): (Vec<Place>, _) =
        postcard::take_from_bytes(&rest[begin..]).map_err(|_error| PackError::NoPack("its index is damaged"))?;
    let mut at = HEAD.len() as u64;
    for place in &places {
        let is_length = (1..=MAX_CHUNK_BYTES as u64).contains(&u64::from(place.length));
        if place.range().start != at || place.stored > place.length || place.stored == 0 || !is_length {
            return Err(PackError::NoPack("its index does not fit"));
        }
        at = place.range().end;
    }
    if !left.is_empty() || at != end {
        return Err(PackError::NoPack("its index does not fit"));
    }
    Ok(Ok(places))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::tests::noise;

    fn pack(chunks: &[Vec<u8>]) -> Pack {
        let mut packer = Packer::new().unwrap();
        for bytes in chunks {
            packer.add(&Chunk::new(bytes.clone()));
        }
        packer.finish()
    }

    #[test]
    fn chunks_come_back_whole_and_one_by_one() {
        let chunks = [b"short".to_vec(), vec![0; MAX_CHUNK_BYTES], (0..=255).collect(), vec![1]];
        let pack = pack(&chunks);
        assert!(pack.bytes.len() < 1000, "what can be compressed is");
        let read = Pack::read(pack.bytes.clone(), Some(pack.id)).unwrap();
        assert_eq!(read.places, pack.places);
        for (place, bytes) in read.places.iter().zip(&chunks) {
            assert_eq!(read.chunk(place), Ok(Chunk::new(bytes.clone())));
        }
    }

    #[test]
    fn what_was_compressed_elsewhere_is_kept_as_it_is() {
        let chunks = [vec![3; 70_000], noise(20_000, 1)].map(Chunk::new);
        let (mut compressor, mut packer) = (Compressor::new(19).unwrap(), Packer::new().unwrap());
        for chunk in &chunks {
            let length = u32::try_from(chunk.bytes.len()).unwrap();
            packer.add_stored(chunk.id, length, compressor.store(&chunk.bytes));
        }
        let pack = packer.finish();
        let read = Pack::read(pack.bytes, Some(pack.id)).unwrap();
        for (place, chunk) in read.places.iter().zip(&chunks) {
            assert_eq!(read.chunk(place).as_ref(), Ok(chunk));
        }
    }

    #[test]
    fn a_full_pack_is_within_its_limit_and_the_packer_begins_anew() {
        let mut packer = Packer::new().unwrap();
        let mut noise = vec![0; MAX_CHUNK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        while !packer.is_full() {
            packer.add(&Chunk::new(noise.clone()));
            noise.rotate_left(1);
        }
        let full = packer.finish();
        assert!(full.bytes.len() > FULL_BYTES && full.bytes.len() <= MAX_PACK_BYTES);
        assert!(packer.is_empty() && !packer.is_full());
        while !packer.is_full() {
            packer.add(&Chunk::new(b"small".to_vec()));
        }
        let many = packer.finish();
        assert_eq!(many.places.len(), MAX_CHUNKS);
        assert!(Pack::read(many.bytes, Some(many.id)).is_ok());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let pack = pack(&[b"one".to_vec(), vec![7; 5000]]);
        for at in 0..pack.bytes.len() {
            for bit in 0..8 {
                let mut bytes = pack.bytes.clone();
                bytes[at] ^= 1 << bit;
                assert!(Pack::read(bytes.clone(), Some(pack.id)).is_err(), "byte {at} bit {bit}");
                // Also where nobody knows its name, its chunks are what they were, or an error.
                if let Ok(read) = Pack::read(bytes, None) {
                    assert!(read.places.iter().all(|place| read.chunk(place).unwrap().id == place.id));
                }
            }
            assert!(Pack::read(pack.bytes[..at].to_vec(), None).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_pack_or_an_error(
            middle in prop::collection::vec(any::<u8>(), 0..200),
            index in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let length = u32::try_from(index.len()).unwrap().to_le_bytes();
            let bytes = [&HEAD[..], &middle, &index, &length, TAIL].concat();
            if let Ok(pack) = Pack::read(bytes, None) {
                prop_assert!(pack.places.iter().all(|place| pack.chunk(place).is_ok()));
            }
        }
    }
}
