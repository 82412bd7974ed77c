//! How the bytes of a chunk lie in a pack and in a parcel: compressed by zstd where that makes them shorter, else as they are. Pure; what
//! comes from outside is read totally and within a chunk's limit.
//!
//! Which of both they are is not written down: bytes that are as long as the chunk are the chunk.

use std::borrow::Cow;
use std::fmt;
use std::io;

use zstd::zstd_safe::CParameter;

use crate::chunk::{Chunk, ChunkId, MAX_CHUNK_BYTES};

/// Stored bytes that are not the chunk they are said to be. Get them again, from another place if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are not the bytes of chunk {0}")]
pub struct Damaged(pub ChunkId);

/// Compresses many chunks one after the other: its memory is taken once.
pub struct Compressor {
    inner: zstd::bulk::Compressor<'static>,
    /// What the last chunk became.
    bytes: Vec<u8>,
}

/// As the level says.
const LEVELS_OWN: u32 = 0;

/// Shortest repetition that levels below zero look for, in bytes: with longer ones there are fewer to write and to read again. Less finds more.
const QUICK_MATCH_BYTES: u32 = 7;

impl Compressor {
    /// One of zstd's levels, -7 to 22. Fails when there is no memory for it.
    pub fn new(level: i32) -> io::Result<Compressor> {
        let inner = zstd::bulk::Compressor::new(level)?;
        let mut compressor =
            Compressor { inner, bytes: Vec::with_capacity(zstd::zstd_safe::compress_bound(MAX_CHUNK_BYTES)) };
        compressor.set_level(level)?;
        Ok(compressor)
    }

    /// Another level from now on.
    pub fn set_level(&mut self, level: i32) -> io::Result<()> {
        self.inner.set_compression_level(level)?;
        let shortest = if level < 0 { QUICK_MATCH_BYTES } else { LEVELS_OWN };
        self.inner.set_parameter(CParameter::MinMatch(shortest))
    }

    /// The bytes as they are to be stored: never longer than they were.
    pub fn store<'a>(&'a mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_shorter = self.inner.compress_to_buffer(bytes, &mut self.bytes).is_ok_and(|length| length < bytes.len());
        if is_shorter { &self.bytes } else { bytes }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// What was stored: `None` when it is not `length` bytes, or more than a chunk's.
pub(crate) fn plain(stored: &[u8], length: usize) -> Option<Cow<'_, [u8]>> {
    if stored.len() > length || length > MAX_CHUNK_BYTES {
        return None;
    }
    if stored.len() == length {
        return Some(Cow::Borrowed(stored));
    }
    zstd::bulk::decompress(stored, length).ok().filter(|bytes| bytes.len() == length).map(Cow::Owned)
}

/// Unpacks many chunks one after the other, each into the same memory: a chunk's bytes are there until the next one's.
pub(crate) struct Unpacker {
    decompressor: zstd::bulk::Decompressor<'static>,
    bytes: Vec<u8>,
}

impl Unpacker {
    /// Fails when there is no memory for it.
    pub(crate) fn new() -> io::Result<Unpacker> {
        Ok(Unpacker { decompressor: zstd::bulk::Decompressor::new()?, bytes: Vec::with_capacity(MAX_CHUNK_BYTES) })
    }

    /// The chunk's bytes, checked as [`unpack`] does.
    pub(crate) fn unpack<'a>(&'a mut self, id: ChunkId, length: u32, stored: &'a [u8]) -> Result<&'a [u8], Damaged> {
        let length = length as usize;
        if length == 0 || length > MAX_CHUNK_BYTES || stored.len() > length {
            return Err(Damaged(id));
        }
        let bytes = if stored.len() == length {
            stored
        } else {
            let unpacked = self.decompressor.decompress_to_buffer(stored, &mut self.bytes);
            if unpacked.ok() != Some(length) {
                return Err(Damaged(id));
            }
            &self.bytes
        };
        if ChunkId::of(bytes) == id { Ok(bytes) } else { Err(Damaged(id)) }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

/// Makes the chunk of its stored bytes, and checks that it is the one that is meant.
pub fn unpack(id: ChunkId, length: u32, stored: &[u8]) -> Result<Chunk, Damaged> {
    let bytes = plain(stored, length as usize).filter(|bytes| !bytes.is_empty()).ok_or(Damaged(id))?;
    let chunk = Chunk::new(bytes.into_owned());
    if chunk.id == id { Ok(chunk) } else { Err(Damaged(id)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::tests::noise;

    #[test]
    fn bytes_come_back_and_never_grow() {
        let (mut compressor, mut unpacker) = (Compressor::new(3).unwrap(), Unpacker::new().unwrap());
        for bytes in [vec![0; MAX_CHUNK_BYTES], noise(MAX_CHUNK_BYTES, 1), vec![1], b"abcabcabcabcabcabcabc".to_vec()] {
            let stored = compressor.store(&bytes).to_vec();
            assert!(stored.len() <= bytes.len());
            let (id, length) = (ChunkId::of(&bytes), u32::try_from(bytes.len()).unwrap());
            assert_eq!(unpack(id, length, &stored).unwrap().bytes, bytes);
            for wrong in [0, length - 1, length + 1, u32::MAX] {
                assert_eq!(unpack(id, wrong, &stored), Err(Damaged(id)), "{wrong}");
                assert_eq!(unpacker.unpack(id, wrong, &stored), Err(Damaged(id)), "{wrong}");
            }
            assert_eq!(unpacker.unpack(id, length, &stored), Ok(&bytes[..]));
            assert_eq!(unpack(ChunkId::of(b"other"), length, &stored), Err(Damaged(ChunkId::of(b"other"))));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_the_chunk_or_an_error(
            stored in prop::collection::vec(any::<u8>(), 0..200), length in any::<u32>(),
        ) {
            let id = ChunkId::of(b"no such");
            prop_assert_eq!(unpack(id, length, &stored), Err(Damaged(id)));
            let mut unpacker = Unpacker::new().unwrap();
            prop_assert_eq!(unpacker.unpack(id, length, &stored), Err(Damaged(id)));
        }
    }
}
