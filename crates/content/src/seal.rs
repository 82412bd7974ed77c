//! Encryption of what players leave: AES-256-GCM with a key of one player's saves of one app.
//!
//! Who has the store's disk reads nothing without the keys, which are the control plane's. Sealing the same bytes twice gives different ones:
//! equal saves of two players cannot be told from the store.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

use crate::pack::MAX_PACK_BYTES;

/// Nonce before, tag behind.
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Longest sealed pack in bytes.
pub(crate) const MAX_SEALED_PACK_BYTES: usize = MAX_PACK_BYTES + NONCE_BYTES + TAG_BYTES;

/// The key of one player's saves of one app. `Debug` hides it; it is wiped by nobody, as the node's memory is not the players'.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey([u8; 32]);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(hidden)")
    }
}

/// Why bytes were not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is another one, or the bytes are damaged.
    #[error("the save cannot be decrypted: it is damaged, or its key is another one")]
    Open,
    /// The system gave no random bytes.
    #[error("the save cannot be encrypted: the system gave no random bytes")]
    Seal,
}

impl SealKey {
    /// These bytes as a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> SealKey {
        SealKey(bytes)
    }

    /// The key for something, made from a longer-lived one: for the same words the same key, and from it nothing follows about the others.
    #[must_use]
    pub fn derive(&self, context: &[&str]) -> SealKey {
        let mut hasher = blake3::Hasher::new_derive_key("kite 2026-11 key of one player's saves of one app");
        hasher.update(&self.0);
        for word in context {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        SealKey(*hasher.finalize().as_bytes())
    }

    /// The key's bytes, for the one place that hands it to a node.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Encrypts.
    pub fn seal(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_error| SealError::Seal)?;
        let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut bytes).map_err(|_error| SealError::Seal)?;
        Ok([&nonce.as_ref()[..], &bytes].concat())
    }

    /// Decrypts; every change of a bit is found.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Open)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_error| SealError::Open)?;
        let mut bytes = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::empty(), &mut bytes).map_err(|_error| SealError::Open)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_alone_and_unchanged() {
        let tenant = SealKey::new([7; 32]);
        let key = tenant.derive(&["ply_1", "doom"]);
        let sealed = key.seal(b"level 3".to_vec()).unwrap();
        assert_eq!(key.open(&sealed), Ok(b"level 3".to_vec()));
        assert_ne!(sealed, key.seal(b"level 3".to_vec()).unwrap());
        for other in [tenant.derive(&["ply_1d", "oom"]), tenant.derive(&["ply_2", "doom"]), tenant.clone()] {
            assert_eq!(other.open(&sealed), Err(SealError::Open));
        }
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(key.open(&damaged), Err(SealError::Open), "byte {at}");
            assert_eq!(key.open(&sealed[..at]), Err(SealError::Open), "cut at {at}");
        }
        assert!(!format!("{key:?}").contains('7'));
    }
}
