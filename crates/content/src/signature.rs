//! What somebody has to know of chunks to send others like them in a few bytes: their fine cuts. Pure; bytes from outside are decoded
//! totally and within limits.
//!
//! A chunk is cut again, much finer, and of each part its length and a short hash are kept. Whoever has a new chunk cuts it equally fine and
//! finds the parts that it shares with old ones, without having those. Short hashes collide once in a while; this is harmless, because what
//! is [made of them](crate::Patch) is checked against the chunk's own hash, and sent whole where it is wrong.
//!
//! An encoded signature is a byte that says how fine, then 8 bytes a part.

use std::fmt;

use fastcdc::v2020::{FastCDC, Normalization};

use crate::chunk::{ChunkId, MAX_CHUNK_BYTES};

/// How fine: the mean length of parts, as a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fineness(u8);

impl Fineness {
    /// All there are, the finest first: 256 bytes (the least that can be cut so) to 4 KiB.
    pub const ALL: [Fineness; 5] = [Fineness(8), Fineness(9), Fineness(10), Fineness(11), Fineness(12)];

    /// Parts of 512 bytes. Finer makes signatures longer than what they save, coarser sends more around each change; decision 10 has the
    /// numbers.
    pub const USUAL: Fineness = Fineness(9);

    fn of(byte: u8) -> Option<Fineness> {
        Fineness::ALL.into_iter().find(|fineness| fineness.0 == byte)
    }

    /// Mean length in bytes that is aimed at.
    #[must_use]
    pub fn mean_bytes(self) -> usize {
        1 << self.0
    }

    /// Shortest part, except the last of a chunk.
    fn min_bytes(self) -> usize {
        self.mean_bytes() / 4
    }

    /// Longest part: fits the 16 bits that a part has for it.
    fn max_bytes(self) -> usize {
        self.mean_bytes() * 4
    }

    /// Cuts a chunk into parts, each with where it begins.
    pub(crate) fn cut(self, bytes: &[u8]) -> impl Iterator<Item = (usize, Part)> {
        // Lengths are not drawn to the mean: cuts then depend on fewer bytes before them, and agree again sooner after a change.
        let level = Normalization::Level0;
        let cuts = FastCDC::with_level(bytes, self.min_bytes(), self.mean_bytes(), self.max_bytes(), level);
        cuts.map(|cut| (cut.offset, Part::of(&bytes[cut.offset..cut.offset + cut.length])))
    }
}

/// The length of a part in the low 16 bits, the first 48 of its BLAKE3 hash above them.
///
/// Among the 8 million parts of a game of 4 GB that all changed, 48 bits and a length collide less than once, and a collision costs one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part(u64);

impl Part {
    const BYTES: usize = 8;

    fn of(bytes: &[u8]) -> Part {
        let mut first = [0; Part::BYTES];
        first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..Part::BYTES]);
        Part(u64::from_le_bytes(first) << 16 | (bytes.len() as u64 & 0xffff))
    }

    pub(crate) fn length(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// The fine cuts of one chunk.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    fineness: Fineness,
    parts: Vec<Part>,
}

/// Bytes that are no signature, or one of a newer version: send whole chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no signature of a chunk: {0}")]
pub struct SignatureError(&'static str);

impl Signature {
    /// The signature of a chunk with these bytes.
    #[must_use]
    pub fn of(bytes: &[u8], fineness: Fineness) -> Signature {
        Signature { fineness, parts: fineness.cut(bytes).map(|(_, part)| part).collect() }
    }

    /// Longest encoded signature: that of the longest chunk, cut into the shortest parts.
    pub const MAX_BYTES: usize = 1 + Part::BYTES * (MAX_CHUNK_BYTES / 64 + 1);

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.parts.len() * Part::BYTES);
        bytes.push(self.fineness.0);
        self.parts.iter().for_each(|part| bytes.extend_from_slice(&part.0.to_le_bytes()));
        bytes
    }

    /// Decodes and checks what came from elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Signature, SignatureError> {
        let (first, rest) = bytes.split_first().ok_or(SignatureError("there is nothing"))?;
        let fineness = Fineness::of(*first).ok_or(SignatureError("it is cut as this version cannot"))?;
        let (parts, left) = rest.as_chunks::<{ Part::BYTES }>();
        if !left.is_empty() || bytes.len() > Signature::MAX_BYTES {
            return Err(SignatureError("its length is not that of one"));
        }
        let parts: Vec<Part> = parts.iter().map(|part| Part(u64::from_le_bytes(*part))).collect();
        let is_length = |part: &Part| (1..=fineness.max_bytes()).contains(&part.length());
        let total: usize = parts.iter().map(|part| part.length()).sum();
        if !parts.iter().all(is_length) || total > MAX_CHUNK_BYTES {
            return Err(SignatureError("it has a part of an impossible length"));
        }
        Ok(Signature { fineness, parts })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("fineness", &self.fineness).field("parts", &self.parts.len()).finish()
    }
}

/// Where a part of a new chunk is found: in which old one, and from which byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) source: u32,
    pub(crate) offset: u32,
}

/// Old chunks that new ones may be made of, by their signatures.
#[derive(Clone)]
pub struct Sources {
    fineness: Fineness,
    ids: Vec<ChunkId>,
    /// Sorted: 16 bytes a part, so that those of a whole game fit in memory.
    parts: Vec<(Part, Spot)>,
}

impl Sources {
    /// Of old chunks and their signatures. All should be equally fine: those that are not as the first are left out, as nothing would be
    /// found in them.
    #[must_use]
    pub fn new(signatures: impl IntoIterator<Item = (ChunkId, Signature)>) -> Sources {
        let mut sources = Sources { fineness: Fineness::USUAL, ids: Vec::new(), parts: Vec::new() };
        for (id, signature) in signatures {
            if sources.ids.is_empty() {
                sources.fineness = signature.fineness;
            }
            // Nobody has so many chunks in memory.
            let Ok(source) = u32::try_from(sources.ids.len()) else { break };
            if signature.fineness == sources.fineness {
                sources.ids.push(id);
                let mut offset = 0;
                for part in signature.parts {
                    sources.parts.push((part, Spot { source, offset }));
                    // A decoded signature is within a chunk's limit.
                    offset += part.length() as u32;
                }
            }
        }
        sources.parts.sort_unstable();
        sources
    }

    /// How new chunks are to be cut.
    pub(crate) fn fineness(&self) -> Fineness {
        self.fineness
    }

    /// The name of a source.
    pub(crate) fn id(&self, source: u32) -> Option<ChunkId> {
        self.ids.get(source as usize).copied()
    }

    /// True when nothing can be found in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Finds a part: at `wanted` if it is there, which goes on where the part before ended; else in the same old chunk, so that few are
    /// needed; else in any.
    pub(crate) fn find(&self, part: Part, wanted: Option<Spot>) -> Option<Spot> {
        let first_from = |spot: Spot| {
            let at = self.parts.partition_point(|known| *known < (part, spot));
            self.parts.get(at).filter(|(known, _)| *known == part).map(|(_, spot)| *spot)
        };
        if let Some(wanted) = wanted {
            let same = Spot { source: wanted.source, offset: 0 };
            let near = first_from(wanted).filter(|spot| *spot == wanted);
            let near = near.or_else(|| first_from(same).filter(|spot| spot.source == wanted.source));
            if near.is_some() {
                return near;
            }
        }
        first_from(Spot { source: 0, offset: 0 })
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("chunks", &self.ids.len()).field("parts", &self.parts.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::tests::noise;

    #[test]
    fn signatures_are_written_and_read() {
        for fineness in Fineness::ALL {
            for bytes in [noise(MAX_CHUNK_BYTES, 1), vec![0; MAX_CHUNK_BYTES], noise(1, 2), Vec::new()] {
                let signature = Signature::of(&bytes, fineness);
                assert_eq!(signature.parts.iter().map(|part| part.length()).sum::<usize>(), bytes.len());
                let encoded = signature.encode();
                assert!(encoded.len() <= 1 + 8 * (bytes.len() / fineness.min_bytes() + 1));
                assert!(encoded.len() <= Signature::MAX_BYTES);
                assert_eq!(Signature::decode(&encoded), Ok(signature));
            }
        }
    }

    #[test]
    fn other_bytes_are_no_signature() {
        let usual = Signature::of(&noise(100_000, 1), Fineness::USUAL).encode();
        let refused = |bytes: &[u8]| assert!(Signature::decode(bytes).is_err());
        refused(&[]);
        refused(&[7]);
        refused(&[13]);
        refused(&usual[..usual.len() - 1]);
        refused(&[&[9][..], &[0; 8]].concat());
        refused(&[&[9][..], &[0xff; 8]].concat());
        // Together longer than a chunk.
        refused(&[&usual[..], &usual[1..], &usual[1..]].concat());
        let shortest = 1_u64.to_le_bytes().repeat(MAX_CHUNK_BYTES / 64 + 2);
        refused(&[&[9][..], &shortest].concat());
    }

    #[test]
    fn a_part_is_found_where_the_last_one_ended_or_near() {
        let [one, two] = [1, 2].map(|seed| noise(50_000, seed));
        let fineness = Fineness::USUAL;
        let doubled = [&one[..], &two, &one].concat();
        let chunks = [&two, &doubled, &one];
        let sources = Sources::new(chunks.map(|bytes| (ChunkId::of(bytes), Signature::of(bytes, fineness))));
        for (chunk, bytes) in (0..).zip(chunks) {
            for (offset, part) in fineness.cut(bytes) {
                let here = Spot { source: chunk, offset: u32::try_from(offset).unwrap() };
                assert_eq!(sources.find(part, Some(here)), Some(here));
                let moved = sources.find(part, Some(Spot { offset: here.offset + 1, ..here })).unwrap();
                assert_eq!(moved.source, chunk);
                assert!(sources.find(part, None).unwrap() <= here);
            }
        }
        assert!(fineness.cut(&noise(50_000, 3)).all(|(_, part)| sources.find(part, None).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_signature_or_an_error(
            fineness in 7u8..14, parts in prop::collection::vec((1u16..5000, any::<u64>()), 0..80), cut in 0usize..9,
        ) {
            let parts = parts.into_iter().flat_map(|(length, hash)| (hash << 16 | u64::from(length)).to_le_bytes());
            let mut bytes: Vec<u8> = std::iter::once(fineness).chain(parts).collect();
            bytes.truncate(bytes.len().saturating_sub(cut % 8));
            if let Ok(signature) = Signature::decode(&bytes) {
                prop_assert_eq!(signature.encode(), bytes);
            }
        }
    }
}
