//! What a release or a save consists of: a tree, and the packs in which its chunks lie. Pure; decoded totally and within limits.
//!
//! Packs are named, chunks are not: a game of 4 GB is 250 packs and 65,000 chunks, and what has to be kept is decided by packs. Where in
//! its pack a chunk lies is said by the pack's own index.

use serde::{Deserialize, Serialize};

use crate::encoding::encode_onto;
use crate::id::{PackId, RootId, TreeId};

/// First bytes of an encoded root: what it is, and the version of its encoding.
const MAGIC: &[u8; 8] = b"kiteroo1";

/// Most packs of a root: 16 TB.
const MAX_PACKS: usize = 1 << 20;

/// Longest encoded root in bytes.
pub const MAX_ROOT_BYTES: usize = 64 + 32 * MAX_PACKS;

/// Names everything of a release or of a save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its files.
    pub tree: TreeId,
    /// The packs that hold the chunks of its files, each once.
    pub packs: Vec<PackId>,
    /// True when tree and packs are encrypted.
    pub is_sealed: bool,
}

/// Bytes that are no root: get them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no root of a release or a save")]
pub struct NoRoot;

impl Root {
    /// The same bytes for the same root.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_onto(MAGIC.to_vec(), self)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> RootId {
        RootId::of(&self.encode())
    }

    /// Decodes what came from elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Root, NoRoot> {
        if bytes.len() > MAX_ROOT_BYTES {
            return Err(NoRoot);
        }
        let encoded = bytes.strip_prefix(MAGIC).ok_or(NoRoot)?;
        let (root, rest): (Root, _) = postcard::take_from_bytes(encoded).map_err(|_error| NoRoot)?;
        if rest.is_empty() { Ok(root) } else { Err(NoRoot) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roots_are_written_and_read() {
        let root =
            Root { tree: TreeId::of(b"tree"), packs: vec![PackId::of(b"a"), PackId::of(b"b")], is_sealed: false };
        assert_eq!(Root::decode(&root.encode()), Ok(root.clone()));
        assert_eq!(root.id().to_string().parse(), Ok(root.id()));
        assert_eq!(Root::decode(&[&root.encode()[..], b"x"].concat()), Err(NoRoot));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_root_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&MAGIC[..], &bytes].concat();
            if let Ok(root) = Root::decode(&bytes) {
                prop_assert!(root.packs.len() <= bytes.len());
            }
        }
    }
}
