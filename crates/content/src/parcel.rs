//! What one request of an upload carries: chunks, each whole or as a patch. Pure; parcels from outside are read totally and within limits.
//!
//! ```text
//! HEAD | item | item | ... | TAIL
//! item: name, length of the chunk, whole or patch, length of what follows | the stored chunk, or the patch
//! ```
//! Whoever gets it takes the items one after the other, so that nothing of it has to be in memory but itself. What a whole item stores can be
//! kept as it is, once it was [unpacked](crate::unpack) and is what its name says.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::buffers;
use crate::chunk::{Chunk, ChunkId, MAX_CHUNK_BYTES};
use crate::encoding::encode_onto;
use crate::patch::{MAX_PATCH_BYTES, Patch, PatchError};
use crate::signature::Sources;
use crate::stored::Compressor;

/// A parcel is full when it takes so many bytes. More makes a broken request lose more, less costs more requests.
const FULL_BYTES: usize = 16 << 20;

/// A parcel is also full when its chunks have so many bytes: patches and well compressed chunks are many more than they take. More takes
/// more memory of whoever makes packs of it.
const FULL_UNPACKED_BYTES: u64 = 96 << 20;

/// Most items, as many as a pack's chunks.
const MAX_ITEMS: usize = 8192;

/// Longest parcel in bytes: full but for one byte, then a chunk or a patch and the end.
pub const MAX_PARCEL_BYTES: usize = FULL_BYTES + MAX_LABEL_BYTES + MAX_BODY_BYTES + TAIL.len();

const MAX_BODY_BYTES: usize = if MAX_PATCH_BYTES > MAX_CHUNK_BYTES { MAX_PATCH_BYTES } else { MAX_CHUNK_BYTES };

/// A hash, two numbers of at most five bytes, a kind.
const MAX_LABEL_BYTES: usize = 32 + 2 * 5 + 1;

const HEAD: &[u8; 8] = b"kitepar1";
const TAIL: &[u8; 8] = b"1rapetik";

/// What stands before the bytes of an item.
#[derive(Serialize, Deserialize)]
struct Label {
    id: ChunkId,
    length: u32,
    kind: Kind,
    bytes: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kind {
    Whole,
    Patch,
}

/// Fills a parcel.
pub struct ParcelBuilder {
    bytes: Vec<u8>,
    items: usize,
    unpacked: u64,
    compressor: Compressor,
}

impl ParcelBuilder {
    /// An empty one that compresses at one of zstd's levels, -7 to 22: a higher one is worth it where the network is slower than the
    /// processor. Fails when there is no memory for the compressor.
    pub fn new(level: i32) -> io::Result<ParcelBuilder> {
        Ok(ParcelBuilder { bytes: buffers::take(HEAD), items: 0, unpacked: 0, compressor: Compressor::new(level)? })
    }

    /// Compresses at another level what is added from now on.
    pub fn set_level(&mut self, level: i32) -> io::Result<()> {
        self.compressor.set_level(level)
    }

    /// Adds a chunk as a patch where that is clearly shorter, else whole.
    pub fn add(&mut self, chunk: &Chunk, sources: &Sources) {
        let before = self.bytes.len();
        let stored = self.append_whole(chunk);
        if let Some(patch) = Patch::make(&chunk.bytes, stored, sources, &mut self.compressor) {
            self.bytes.truncate(before);
            append(&mut self.bytes, chunk.id, chunk.bytes.len(), Kind::Patch, &patch.encode());
        }
    }

    /// Adds a chunk whole: one that was sent as a patch before and could not be made.
    pub fn add_whole(&mut self, chunk: &Chunk) {
        self.append_whole(chunk);
    }

    /// How many bytes it takes.
    fn append_whole(&mut self, chunk: &Chunk) -> usize {
        let stored = self.compressor.store(&chunk.bytes);
        append(&mut self.bytes, chunk.id, chunk.bytes.len(), Kind::Whole, stored);
        let stored = stored.len();
        self.count(chunk.bytes.len());
        stored
    }

    /// Adds a patch that makes the chunk of this name.
    pub fn add_patch(&mut self, id: ChunkId, patch: &Patch) {
        append(&mut self.bytes, id, patch.length() as usize, Kind::Patch, &patch.encode());
        self.count(patch.length() as usize);
    }

    fn count(&mut self, length: usize) {
        self.items += 1;
        self.unpacked += length as u64;
    }

    /// True when nothing more should be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.items >= MAX_ITEMS || self.unpacked >= FULL_UNPACKED_BYTES
    }

    /// True when nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The parcel; afterwards this is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::replace(&mut self.bytes, buffers::take(HEAD));
        self.items = 0;
        self.unpacked = 0;
        bytes.extend_from_slice(TAIL);
        bytes
    }
}

fn append(bytes: &mut Vec<u8>, id: ChunkId, length: usize, kind: Kind, body: &[u8]) {
    // Neither is longer than a chunk.
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let label = Label { id, length: number(length), kind, bytes: number(body.len()) };
    *bytes = encode_onto(std::mem::take(bytes), &label);
    bytes.extend_from_slice(body);
}

impl fmt::Debug for ParcelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParcelBuilder").field("items", &self.items).finish_non_exhaustive()
    }
}

/// A chunk in a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The chunk's name. Nothing has been checked against it yet.
    pub id: ChunkId,
    /// The chunk's length in bytes, 1 to [`MAX_CHUNK_BYTES`].
    pub length: u32,
    /// How it comes.
    pub body: Body<'a>,
}

/// How a chunk comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// As it is stored in packs: see [`unpack`](crate::unpack).
    Whole(&'a [u8]),
    /// To be made of others: see [`Patch::apply`]. It makes `length` bytes.
    Patch(Patch),
}

/// Why bytes are no parcel. The remedy is to send it again; when that fails too, client and server are of different versions.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// Not a parcel, or one of another version, or cut off.
    #[error("this is no parcel of chunks: {0}")]
    NoParcel(&'static str),
    /// What should be a patch is none.
    #[error("the patch for chunk {id}")]
    Patch {
        /// The chunk that it should make.
        id: ChunkId,
        /// Why not.
        #[source]
        source: PatchError,
    },
}

/// Reads a parcel: gives its items in order, and nothing after an error.
#[derive(Clone)]
pub struct Parcel<'a> {
    rest: &'a [u8],
    items: usize,
    unpacked: u64,
}

impl<'a> Parcel<'a> {
    /// Checks that the bytes begin and end as a parcel does; its items are read as they are asked for.
    pub fn open(bytes: &'a [u8]) -> Result<Parcel<'a>, ParcelError> {
        if bytes.len() > MAX_PARCEL_BYTES {
            return Err(ParcelError::NoParcel("it is longer than parcels are"));
        }
        let rest = bytes.strip_prefix(HEAD).ok_or(ParcelError::NoParcel("it does not begin as one of this version"))?;
        let rest = rest.strip_suffix(TAIL).ok_or(ParcelError::NoParcel("it does not end as one of this version"))?;
        Ok(Parcel { rest, items: 0, unpacked: 0 })
    }

    fn read(&mut self) -> Result<Item<'a>, ParcelError> {
        if self.items >= MAX_ITEMS {
            return Err(ParcelError::NoParcel("it has more items than parcels have"));
        }
        self.items += 1;
        let (label, rest): (Label, _) = postcard::take_from_bytes(self.rest)
            .map_err(|_error| ParcelError::NoParcel("the label of an item is damaged"))?;
        let Label { id, length, kind, bytes } = label;
        if !(1..=MAX_CHUNK_BYTES as u64).contains(&u64::from(length)) || bytes == 0 || bytes > length {
            return Err(ParcelError::NoParcel("an item is of an impossible length"));
        }
        self.unpacked += u64::from(length);
        if self.unpacked > FULL_UNPACKED_BYTES + MAX_CHUNK_BYTES as u64 {
            return Err(ParcelError::NoParcel("its chunks are more than parcels have"));
        }
        let (body, rest) =
            rest.split_at_checked(bytes as usize).ok_or(ParcelError::NoParcel("an item is longer than the rest"))?;
        self.rest = rest;
        let body = match kind {
            Kind::Whole => Body::Whole(body),
            Kind::Patch => {
                let patch = Patch::decode(body).map_err(|source| ParcelError::Patch { id, source })?;
                if patch.length() != length {
                    return Err(ParcelError::NoParcel("a patch makes a chunk of another length"));
                }
                Body::Patch(patch)
            }
        };
        Ok(Item { id, length, body })
    }
}

impl<'a> Iterator for Parcel<'a> {
    type Item = Result<Item<'a>, ParcelError>;

    fn next(&mut self) -> Option<Result<Item<'a>, ParcelError>> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

impl fmt::Debug for Parcel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("bytes", &self.rest.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::tests::noise;
    use crate::pack::{Pack, Packer};
    use crate::signature::{Fineness, Signature};
    use crate::stored::unpack;

    fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>, ParcelError> {
        Parcel::open(bytes)?.collect()
    }

    /// An old chunk, and new ones: unlike it, like it, made of it and nothing else, and one that compresses well.
    fn example() -> (Chunk, Vec<Chunk>) {
        let old = noise(100_000, 1);
        let like = [&old[..40_000], b"something else", &old[40_000..]].concat();
        let new = [noise(30_000, 2), like, old[..90_000].to_vec(), vec![0; 50_000]];
        (Chunk::new(old), new.map(Chunk::new).to_vec())
    }

    fn parcel(old: &Chunk, new: &[Chunk]) -> Vec<u8> {
        let sources = Sources::new([(old.id, Signature::of(&old.bytes, Fineness::USUAL))]);
        let mut builder = ParcelBuilder::new(3).unwrap();
        new.iter().for_each(|chunk| builder.add(chunk, &sources));
        builder.finish()
    }

    #[test]
    fn chunks_arrive_whole_or_as_patches_and_are_kept_as_they_came() {
        let (old, new) = example();
        let bytes = parcel(&old, &new);
        assert!(bytes.len() < 40_000, "{}", bytes.len());
        let mut packer = Packer::new().unwrap();
        let mut patches = 0;
        for (item, chunk) in Parcel::open(&bytes).unwrap().zip(&new) {
            let Item { id, length, body } = item.unwrap();
            assert_eq!((id, length as usize), (chunk.id, chunk.bytes.len()));
            match body {
                Body::Whole(stored) => {
                    assert_eq!(unpack(id, length, stored).as_ref(), Ok(chunk));
                    packer.add_stored(id, length, stored);
                }
                Body::Patch(patch) => {
                    assert_eq!(patch.sources(), [old.id]);
                    let made = patch.apply(id, &mut |_| Ok(Some(old.bytes.clone()))).unwrap();
                    packer.add(&made);
                    patches += 1;
                }
            }
        }
        assert_eq!(patches, 2);
        let pack = packer.finish();
        let pack = Pack::read(pack.bytes, Some(pack.id)).unwrap();
        let kept: Vec<_> = pack.places.iter().map(|place| pack.chunk(place).unwrap()).collect();
        assert_eq!(kept, new);
    }

    #[test]
    fn what_was_added_one_way_or_the_other_is_the_same() {
        let (old, new) = example();
        let parts = parcel(&old, &new);
        let mut builder = ParcelBuilder::new(3).unwrap();
        for (item, chunk) in items(&parts).unwrap().iter().zip(&new) {
            match &item.body {
                Body::Whole(_) => builder.add_whole(chunk),
                Body::Patch(patch) => builder.add_patch(item.id, patch),
            }
        }
        assert!(builder.finish() == parts);
        assert!(builder.is_empty());
        assert_eq!(items(&builder.finish()).unwrap(), []);
    }

    #[test]
    fn a_full_parcel_is_within_its_limit() {
        let mut builder = ParcelBuilder::new(1).unwrap();
        let mut bytes = noise(MAX_CHUNK_BYTES, 1);
        while !builder.is_full() {
            builder.add_whole(&Chunk::new(bytes.clone()));
            bytes.rotate_left(1);
        }
        let full = builder.finish();
        assert!(full.len() > FULL_BYTES && full.len() <= MAX_PARCEL_BYTES);
        assert_eq!(items(&full).unwrap().len(), 64);
        while !builder.is_full() {
            builder.add_whole(&Chunk::new(b"small".to_vec()));
        }
        assert_eq!(items(&builder.finish()).unwrap().len(), MAX_ITEMS);
    }

    #[test]
    fn nothing_is_read_past_an_error() {
        let bytes = parcel(&Chunk::new(vec![1]), &[Chunk::new(vec![1, 2, 3])]);
        for end in 0..bytes.len() {
            assert!(items(&bytes[..end]).is_err(), "cut at {end}");
        }
        let cut = [&bytes[..bytes.len() - TAIL.len() - 1], TAIL].concat();
        let mut parcel = Parcel::open(&cut).unwrap();
        assert!(parcel.next().unwrap().is_err());
        assert!(parcel.next().is_none());
        let mut longer = bytes.clone();
        longer.resize(MAX_PARCEL_BYTES + 1, 0);
        assert!(Parcel::open(&longer).is_err());
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_an_error_or_another_item(at in any::<prop::sample::Index>(), by in 1u8..) {
            let old = Chunk::new(noise(5000, 1));
            let mut like = old.bytes.clone();
            like.truncate(4000);
            let new = [Chunk::new(vec![9; 3000]), Chunk::new(like)];
            let mut bytes = parcel(&old, &new);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            for item in items(&bytes).unwrap_or_default() {
                let chunk = match item.body {
                    Body::Whole(stored) => unpack(item.id, item.length, stored).ok(),
                    Body::Patch(patch) => patch.apply(item.id, &mut |_| Ok(Some(old.bytes.clone()))).ok(),
                };
                // Whatever became of it, what is made is what its name says.
                prop_assert!(chunk.is_none_or(|chunk| chunk.id == ChunkId::of(&chunk.bytes) && new.contains(&chunk)));
            }
        }

        #[test]
        fn any_bytes_end_in_items_or_an_error(middle in prop::collection::vec(any::<u8>(), 0..300)) {
            for item in items(&[&HEAD[..], &middle, TAIL].concat()).unwrap_or_default() {
                prop_assert!((1..=MAX_CHUNK_BYTES).contains(&(item.length as usize)));
            }
        }
    }
}
