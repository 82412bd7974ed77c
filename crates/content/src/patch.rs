//! A new chunk as what it takes from old ones and what it has of its own. Pure; bytes from outside are decoded and applied totally and
//! within limits.
//!
//! A patch is for the way only: whoever gets one makes the chunk of it at once and checks that its hash is the one that was meant. So a
//! patch can be wrong (short hashes of parts collide) but never make a wrong chunk; the remedy is to send the chunk whole.
//!
//! ```text
//! old chunks | operations | what is its own, all of it together, stored as chunks are
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, ChunkId, MAX_CHUNK_BYTES};
use crate::encoding::encode_onto;
use crate::signature::{Sources, Spot};
use crate::stored::{Compressor, plain};

/// Longest encoded patch: one that is no shorter than a chunk is of no use.
pub const MAX_PATCH_BYTES: usize = MAX_CHUNK_BYTES;

/// Most old chunks of a patch. Each is read from the store to apply it: more lets a small request cost much, less cannot make the longest
/// chunk of the shortest ones.
const MAX_SOURCES: usize = 24;

/// Least bytes that an old chunk must give to be worth its name (32 bytes) and an operation.
const MIN_SOURCE_BYTES: usize = 64;

/// What comes next in the new chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Operation {
    /// So many bytes of an old chunk, from an offset on.
    Copy {
        /// Its place among the sources.
        source: u16,
        offset: u32,
        length: u32,
    },
    /// So many of its own.
    Literal { length: u32 },
}

impl Operation {
    fn length(self) -> usize {
        match self {
            Operation::Copy { length, .. } | Operation::Literal { length } => length as usize,
        }
    }
}

/// How to make a chunk of others.
#[derive(Clone, PartialEq, Eq)]
pub struct Patch {
    sources: Vec<ChunkId>,
    operations: Vec<Operation>,
    /// The literals, stored.
    own: Vec<u8>,
}

/// Why bytes are no patch, or make no chunk. In each case the chunk can be sent whole.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// No patch, one of another version, or cut off.
    #[error("these bytes are no patch of a chunk: {0}")]
    NoPatch(&'static str),
    /// There is no such chunk, or whoever sent this may not use it.
    #[error("the patch takes bytes of chunk {0}, which is not there")]
    Missing(ChunkId),
    /// The store failed.
    #[error("chunk {id}, which a patch takes bytes of, cannot be read")]
    Fetch {
        /// The old chunk.
        id: ChunkId,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It makes other bytes than those of the chunk: a part was mistaken for another, or it was made for other chunks.
    #[error("the patch does not make chunk {0}")]
    Different(ChunkId),
}

impl Patch {
    /// Makes a patch that is clearly shorter than the `stored` bytes which the target takes without; `None` when there is none.
    #[must_use]
    pub fn make(target: &[u8], stored: usize, sources: &Sources, compressor: &mut Compressor) -> Option<Patch> {
        let steps = worthwhile(steps(target, sources)?);
        let (mut patch, own) = merged(target, &steps, sources)?;
        // What does not get shorter as a whole hardly does in parts.
        let is_dense = stored >= target.len();
        patch.own = if is_dense { own } else { compressor.store(&own).to_vec() };
        let length = patch.encode().len();
        // To apply it costs the reading of old chunks, which a fourth less to send is worth.
        (length <= stored / 4 * 3 && length <= MAX_PATCH_BYTES).then_some(patch)
    }

    /// Makes the chunk. `fetch` gives the bytes of an old chunk, `None` where there is none that may be used; it is asked for each of
    /// [`Patch::sources`] once at most.
    pub fn apply(
        &self,
        id: ChunkId,
        fetch: &mut dyn FnMut(ChunkId) -> io::Result<Option<Vec<u8>>>,
    ) -> Result<Chunk, PatchError> {
        let mut own = &*self.own_bytes()?;
        let mut old: Vec<Option<Vec<u8>>> = vec![None; self.sources.len()];
        let mut bytes = Vec::with_capacity(self.length() as usize);
        for operation in &self.operations {
            let taken = match *operation {
                Operation::Literal { length } => own.split_off(..length as usize),
                Operation::Copy { source, offset, length } => {
                    let source = usize::from(source);
                    let name = *self.sources.get(source).ok_or(PatchError::Different(id))?;
                    let slot = old.get_mut(source).ok_or(PatchError::Different(id))?;
                    if slot.is_none() {
                        let fetched = fetch(name).map_err(|source| PatchError::Fetch { id: name, source })?;
                        *slot = Some(fetched.ok_or(PatchError::Missing(name))?);
                    }
                    let (offset, length) = (offset as usize, length as usize);
                    slot.as_deref().and_then(|old| old.get(offset..)?.get(..length))
                }
            };
            bytes.extend_from_slice(taken.ok_or(PatchError::Different(id))?);
        }
        let chunk = Chunk::new(bytes);
        if chunk.id == id { Ok(chunk) } else { Err(PatchError::Different(id)) }
    }

    /// The old chunks that it takes bytes of, each once. Who applies it has to see that whoever sent it may know what is in them.
    #[must_use]
    pub fn sources(&self) -> &[ChunkId] {
        &self.sources
    }

    /// Bytes of the chunk that it makes, 1 to [`MAX_CHUNK_BYTES`].
    #[must_use]
    pub fn length(&self) -> u32 {
        // Checked when it was decoded, and true of what is made: not over a chunk's limit.
        self.operations.iter().map(|operation| operation.length() as u32).sum()
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = encode_onto(Vec::new(), &(&self.sources, &self.operations));
        bytes.extend_from_slice(&self.own);
        bytes
    }

    /// Decodes and checks what came from elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Patch, PatchError> {
        if bytes.len() > MAX_PATCH_BYTES {
            return Err(PatchError::NoPatch("it is longer than patches are"));
        }
        let ((sources, operations), own): ((Vec<ChunkId>, Vec<Operation>), _) =
            postcard::take_from_bytes(bytes).map_err(|_error| PatchError::NoPatch("it is cut off or damaged"))?;
        let patch = Patch { sources, operations, own: own.to_vec() };
        patch.check()?;
        Ok(patch)
    }

    fn check(&self) -> Result<(), PatchError> {
        let mut is_used = vec![false; self.sources.len()];
        let (mut total, mut literal) = (0, 0);
        for operation in &self.operations {
            total += operation.length();
            if operation.length() == 0 || total > MAX_CHUNK_BYTES {
                return Err(PatchError::NoPatch("it has a part of an impossible length"));
            }
            match *operation {
                Operation::Literal { length } => literal += length as usize,
                Operation::Copy { source, .. } => match is_used.get_mut(usize::from(source)) {
                    Some(is_used) => *is_used = true,
                    None => return Err(PatchError::NoPatch("it takes bytes of a chunk that it does not name")),
                },
            }
        }
        let mut names = self.sources.clone();
        names.sort_unstable();
        names.dedup();
        if names.len() != self.sources.len() || names.len() > MAX_SOURCES || is_used.contains(&false) {
            return Err(PatchError::NoPatch("it names too many chunks"));
        }
        if total == 0 || self.own.len() > literal {
            return Err(PatchError::NoPatch("its length is not that of its parts"));
        }
        Ok(())
    }

    /// The literals as they are.
    fn own_bytes(&self) -> Result<Cow<'_, [u8]>, PatchError> {
        let is_literal = |operation: &&Operation| matches!(operation, Operation::Literal { .. });
        let length = self.operations.iter().filter(is_literal).map(|operation| operation.length()).sum();
        plain(&self.own, length).ok_or(PatchError::NoPatch("its own bytes are damaged"))
    }
}

impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, operations) = (self.own.len(), self.operations.len());
        f.debug_struct("Patch")
            .field("sources", &self.sources)
            .field("operations", &operations)
            .field("own", &own)
            .finish()
    }
}

/// A part of the target and where it was found.
struct Step {
    length: usize,
    spot: Option<Spot>,
}

/// Finds each part of the target; `None` when none was found.
fn steps(target: &[u8], sources: &Sources) -> Option<Vec<Step>> {
    if sources.is_empty() {
        return None;
    }
    let mut wanted: Option<Spot> = None;
    let mut steps = Vec::new();
    for (_, part) in sources.fineness().cut(target) {
        let spot = sources.find(part, wanted);
        // After bytes of its own the old chunk most likely goes on where these would have ended.
        let from = spot.or(wanted);
        wanted = from.map(|spot| Spot { offset: spot.offset.saturating_add(part.length() as u32), ..spot });
        steps.push(Step { length: part.length(), spot });
    }
    steps.iter().any(|step| step.spot.is_some()).then_some(steps)
}

/// Keeps the old chunks that give most, and leaves out those that give too little.
fn worthwhile(mut steps: Vec<Step>) -> Vec<Step> {
    let mut given: BTreeMap<u32, usize> = BTreeMap::new();
    for step in &steps {
        if let Some(spot) = step.spot {
            *given.entry(spot.source).or_default() += step.length;
        }
    }
    let mut most: Vec<_> = given.into_iter().filter(|(_, bytes)| *bytes >= MIN_SOURCE_BYTES).collect();
    most.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    most.truncate(MAX_SOURCES);
    for step in &mut steps {
        step.spot = step.spot.filter(|spot| most.iter().any(|(source, _)| *source == spot.source));
    }
    steps
}

/// The patch of these steps, and its literals before they are stored.
fn merged(target: &[u8], steps: &[Step], sources: &Sources) -> Option<(Patch, Vec<u8>)> {
    let mut patch = Patch { sources: Vec::new(), operations: Vec::new(), own: Vec::new() };
    let (mut own, mut rest) = (Vec::new(), target);
    for step in steps {
        let bytes = rest.split_off(..step.length)?;
        let next = bytes.len() as u32;
        match step.spot {
            None => {
                own.extend_from_slice(bytes);
                if let Some(Operation::Literal { length }) = patch.operations.last_mut() {
                    *length += next;
                } else {
                    patch.operations.push(Operation::Literal { length: next });
                }
            }
            Some(spot) => {
                let id = sources.id(spot.source)?;
                let known = patch.sources.iter().position(|known| *known == id);
                let place = known.unwrap_or_else(|| {
                    patch.sources.push(id);
                    patch.sources.len() - 1
                });
                let place = u16::try_from(place).ok()?;
                match patch.operations.last_mut() {
                    Some(Operation::Copy { source, offset, length })
                        if *source == place && *offset + *length == spot.offset =>
                    {
                        *length += next;
                    }
                    Some(Operation::Copy { .. } | Operation::Literal { .. }) | None => {
                        patch.operations.push(Operation::Copy { source: place, offset: spot.offset, length: next });
                    }
                }
            }
        }
    }
    Some((patch, own))
}

#[cfg(test)]
mod tests;
