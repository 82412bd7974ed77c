//! Tokens: 256 random bits, kept as a BLAKE3 hash alone, compared in constant time.
//!
//! A plain hash is enough: what has 256 random bits cannot be guessed from its hash.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use content::SealKey;

use api::rest::{PlayerToken, SessionToken};

/// What a player's token begins with.
const PLAYER_PREFIX: &str = "kpl";

/// What the secrets of a tenant's keys begin with.
const TENANT_PREFIX: &str = "ktn";

/// What the secrets of the operator's keys begin with.
const OPERATOR_PREFIX: &str = "kop";

/// Longest text that is looked at. A token has 68 characters.
const MAX_TEXT: usize = 128;

/// A source of randomness failed: nothing secret can be made.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub(crate) struct NoRandomness;

/// BLAKE3 of a token. Its equality takes the same time wherever the difference is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash(blake3::Hash);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(hidden)")
    }
}

impl TokenHash {
    /// Of a text that a client sent; `None` when it cannot be a token.
    pub(crate) fn of(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= MAX_TEXT).then(|| Self(blake3::hash(text.as_bytes())))
    }

    /// As it is stored.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// To be stored.
    pub(crate) fn bytes(self) -> [u8; 32] {
        *self.0.as_bytes()
    }
}

/// 32 random bytes.
pub(crate) fn random() -> Result<[u8; 32], NoRandomness> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_no_detail| NoRandomness)?;
    Ok(bytes)
}

/// A new token and its hash. The prefix lets scanners for leaked secrets find it.
fn token(prefix: &str) -> Result<(String, TokenHash), NoRandomness> {
    // `Hash` writes its 32 bytes as hexadecimal digits.
    let text = format!("{prefix}_{}", blake3::Hash::from_bytes(random()?));
    let hash = TokenHash(blake3::hash(text.as_bytes()));
    Ok((text, hash))
}

/// True for a text that, if anything, is a token of this prefix. It only says where to look.
fn begins_with(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_'))
}

/// A new session's token and its hash.
pub(crate) fn new_session_token() -> Result<(SessionToken, TokenHash), NoRandomness> {
    token("kst").map(|(text, hash)| (SessionToken(text), hash))
}

/// A new player's token and its hash.
pub(crate) fn new_player_token() -> Result<(PlayerToken, TokenHash), NoRandomness> {
    token(PLAYER_PREFIX).map(|(text, hash)| (PlayerToken(text), hash))
}

/// Would this text, if anything, be a player's token? It only says where to look.
pub(crate) fn is_of_player(text: &str) -> bool {
    begins_with(PLAYER_PREFIX, text)
}

/// A new key's secret and its hash.
pub(crate) fn new_key_secret(is_of_tenant: bool) -> Result<(String, TokenHash), NoRandomness> {
    token(if is_of_tenant { TENANT_PREFIX } else { OPERATOR_PREFIX })
}

/// True for a text that could only be the secret of a key.
pub(crate) fn is_of_key(text: &str) -> bool {
    begins_with(TENANT_PREFIX, text) || begins_with(OPERATOR_PREFIX, text)
}

/// Reads the key of all saves, or makes one at the first start, readable by its owner alone.
pub(crate) fn save_key(path: &Path) -> io::Result<SealKey> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key = random().map_err(io::Error::other)?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(SealKey::new(key))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut bytes = Vec::new();
            File::open(path)?.take(64).read_to_end(&mut bytes)?;
            let wrong =
                |_bytes| io::Error::new(io::ErrorKind::InvalidData, "the file holds no key: restore it from a backup");
            Ok(SealKey::new(bytes.try_into().map_err(wrong)?))
        }
        Err(error) => Err(error),
    }
}

/// Reads the operator's token, or makes one at the first start, readable by its owner alone.
pub(crate) fn operator_token(path: &Path) -> io::Result<TokenHash> {
    let text = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let (text, _) = token("kop").map_err(io::Error::other)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            text
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_operator_token(path)?,
        Err(error) => return Err(error),
    };
    TokenHash::of(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the file holds no token: remove it"))
}

fn read_operator_token(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        tracing::warn!("the operator's token was readable by others; it no longer is");
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    let mut text = String::new();
    file.take(1024).read_to_string(&mut text)?;
    let text = text.trim();
    // A start that was killed between making and writing the file leaves an empty one, which would be everybody's token.
    if text.len() < 32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file holds no token: remove it and start again"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_known_by_their_hash() {
        let (first, hash) = new_session_token().unwrap();
        let (second, other) = new_session_token().unwrap();
        assert_eq!(first.0.len(), 68);
        assert_ne!(first, second);
        assert!(hash != other);
        assert!(TokenHash::of(&first.0) == Some(hash));
        assert!(TokenHash::from_bytes(hash.bytes()) == hash);
        assert!(TokenHash::of("").is_none());
        assert!(TokenHash::of(&"x".repeat(MAX_TEXT + 1)).is_none());
        assert!(!format!("{first:?} {hash:?}").contains(&first.0));
        let (player, _) = new_player_token().unwrap();
        assert!(is_of_player(&player.0) && !is_of_player(&first.0));
        assert!(!format!("{player:?}").contains(&player.0));
    }

    #[test]
    fn the_operators_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator-token");
        let hash = operator_token(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(operator_token(&path).unwrap() == hash);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "").unwrap();
        assert!(operator_token(&path).is_err(), "an empty file is no token");
    }
}
