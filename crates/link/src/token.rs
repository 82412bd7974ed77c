//! One-time join tokens: the text that an operator copies from the control plane to a new machine.
//!
//! `kitejoin1.` and 84 letters: the fingerprint of the installation's authority, by which the new machine knows the
//! control plane; 128 random bits, by which the control plane knows the new machine; and a checksum, so that a slip of
//! the mouse is told from a token that was used. It names no address: those may change. When it ends and whether it was
//! used is kept by whoever made it, who stores its [`SecretHash`] alone.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD_NOCASE, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::certificate::{Fingerprint, sha256};

const PREFIX: &str = "kitejoin1.";
const FINGERPRINT_BYTES: usize = 32;
const SECRET_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const BYTES: usize = FINGERPRINT_BYTES + SECRET_BYTES + CHECKSUM_BYTES;

/// Longest text that is looked at: a token and what was copied around it by mistake.
const MAX_TEXT: usize = 256;

/// Why a text is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins with something else. Copy the whole token.
    #[error("a join token begins with `{PREFIX}`")]
    Prefix,
    /// It is of a later version: this program is older than the control plane. Bring both to the same release.
    #[error("the join token is of another version of Kite: bring both sides to the same release")]
    Version,
    /// It is cut off, or something was copied with it. Copy the whole token.
    #[error("the join token is cut off or too long: copy all of it")]
    Length,
    /// It has letters that no token has, or some were changed. Copy it again.
    #[error("the join token was changed on its way: copy it again")]
    Damaged,
}

/// The system gave no random bytes: nothing secret can be made on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// What the control plane knows a new machine by. It is worth a place in the fleet: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JoinSecret([u8; SECRET_BYTES]);

impl JoinSecret {
    /// What is stored instead of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(&self.0))
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(hidden)")
    }
}

impl From<JoinSecret> for String {
    fn from(secret: JoinSecret) -> Self {
        HEXLOWER.encode(&secret.0)
    }
}

impl TryFrom<String> for JoinSecret {
    type Error = TokenError;
    fn try_from(text: String) -> Result<Self, TokenError> {
        if text.len() != 2 * SECRET_BYTES {
            return Err(TokenError::Length);
        }
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_detail| TokenError::Damaged)?;
        bytes.try_into().map(Self).map_err(|_bytes| TokenError::Length)
    }
}

/// SHA-256 of a secret. A plain hash is enough: what has 128 random bits cannot be guessed from its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// As it is stored.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// A join token. `to_string` gives the text for the operator, which is a secret; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    fingerprint: Fingerprint,
    secret: JoinSecret,
}

impl JoinToken {
    /// A new one, for nodes of the installation with this authority.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(fingerprint: Fingerprint) -> Result<Self, NoRandomness> {
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_unspecified| NoRandomness)?;
        Ok(Self { fingerprint, secret: JoinSecret(secret) })
    }

    /// Of the authority that the control plane has to show.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the control plane is shown, once it is known.
    #[must_use]
    pub fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// What the control plane stores.
    #[must_use]
    pub fn secret_hash(&self) -> SecretHash {
        self.secret.hash()
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(self.fingerprint.bytes());
        bytes.extend_from_slice(&self.secret.0);
        bytes.extend_from_slice(&checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE32_NOPAD_NOCASE.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Takes a token with white space around it, and in capitals.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TEXT {
            return Err(TokenError::Length);
        }
        let text = text.trim();
        let letters = text.strip_prefix(PREFIX).ok_or_else(|| foreign(text))?;
        if letters.len() != BASE32_NOPAD_NOCASE.encode_len(BYTES) {
            return Err(TokenError::Length);
        }
        let bytes = BASE32_NOPAD_NOCASE.decode(letters.as_bytes()).map_err(|_detail| TokenError::Damaged)?;
        let (content, check) = bytes.split_at_checked(BYTES - CHECKSUM_BYTES).ok_or(TokenError::Length)?;
        if checksum(content) != check {
            return Err(TokenError::Damaged);
        }
        let (fingerprint, secret) = content.split_first_chunk().ok_or(TokenError::Length)?;
        let secret = secret.try_into().map_err(|_length| TokenError::Length)?;
        Ok(Self { fingerprint: Fingerprint::from_bytes(*fingerprint), secret: JoinSecret(secret) })
    }
}

fn foreign(text: &str) -> TokenError {
    if text.starts_with("kitejoin") { TokenError::Version } else { TokenError::Prefix }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = sha256(content);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken { fingerprint: Fingerprint::from_bytes([7; 32]), secret: JoinSecret([9; 16]) }
    }

    #[test]
    fn a_token_survives_copying_and_shows_nothing_in_logs() {
        let text = token().to_string();
        assert_eq!(text.len(), PREFIX.len() + 84);
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
        let capitals = format!("{PREFIX}{}", text[PREFIX.len()..].to_uppercase());
        assert_eq!(capitals.parse(), Ok(token()));
        for shown in [format!("{:?}", token()), format!("{:?}", token().secret())] {
            assert!(!shown.contains("9, 9") && !shown.contains("0909"), "{shown}");
        }
    }

    #[test]
    fn each_slip_has_its_name() {
        let check = |text: &str, error| assert_eq!(text.parse::<JoinToken>(), Err(error), "{text}");
        let text = token().to_string();
        check("", TokenError::Prefix);
        check("ses_123", TokenError::Prefix);
        check("kitejoin2.abc", TokenError::Version);
        check(&text[..text.len() - 1], TokenError::Length);
        check(&format!("{text}a"), TokenError::Length);
        check(&"x".repeat(MAX_TEXT + 1), TokenError::Length);
        check(&text.replace(&text[20..21], "!"), TokenError::Damaged);
        let other = if text.ends_with('a') { 'q' } else { 'a' };
        check(&format!("{}{other}", &text[..text.len() - 1]), TokenError::Damaged);
    }

    #[test]
    fn two_tokens_differ() {
        let fingerprint = Fingerprint::from_bytes([1; 32]);
        let (one, two) = (JoinToken::generate(fingerprint).unwrap(), JoinToken::generate(fingerprint).unwrap());
        assert_ne!(one.secret_hash(), two.secret_hash());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_a_token_or_an_error(text in "(kitejoin1\\.)?[ -~é]{0,120}") {
            if let Ok(token) = text.parse::<JoinToken>() {
                prop_assert_eq!(token.to_string().parse(), Ok(token));
            }
        }

        #[test]
        fn every_token_round_trips(fingerprint: [u8; 32], secret: [u8; 16]) {
            let token = JoinToken { fingerprint: Fingerprint::from_bytes(fingerprint), secret: JoinSecret(secret) };
            prop_assert_eq!(token.to_string().parse(), Ok(token.clone()));
            let json = serde_json::to_string(token.secret()).unwrap();
            prop_assert_eq!(&serde_json::from_str::<JoinSecret>(&json).unwrap(), token.secret());
        }

        #[test]
        fn a_changed_letter_is_noticed(secret: [u8; 16], at in 0_usize..84, letter in 0_usize..32) {
            let token = JoinToken { fingerprint: Fingerprint::from_bytes([3; 32]), secret: JoinSecret(secret) };
            let mut text = token.to_string().into_bytes();
            let letter = b"abcdefghijklmnopqrstuvwxyz234567"[letter];
            prop_assume!(text[PREFIX.len() + at] != letter);
            text[PREFIX.len() + at] = letter;
            prop_assert!(String::from_utf8(text).unwrap().parse::<JoinToken>().is_err());
        }
    }
}
