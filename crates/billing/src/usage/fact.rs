//! One fact of a span, and its id.

use std::fmt;
use std::str::FromStr;

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::{EndReason, Party};
use serde::{Deserialize, Serialize};

/// Highest epoch of a session. A session moves and is restarted a few times; more is a loop, which would fill the memory.
pub const MAX_EPOCH: u32 = 9_999;
/// Highest span of an epoch. A player whose connection breaks each second for two hours has fewer.
pub const MAX_SPAN: u32 = 9_999;

/// Names a fact: the same fact that is told twice has the same id, so that a retry is a duplicate. 32 hexadecimal digits.
///
/// The id of a span's `opened` names its interval, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FactId([u8; 16]);

/// A text that is no id of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fact is named by 32 hexadecimal digits")]
pub struct FactIdError;

impl FactId {
    /// From its bytes, as a database keeps them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> FactId {
        FactId(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for FactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FactId({self})")
    }
}

impl From<FactId> for String {
    fn from(id: FactId) -> String {
        id.to_string()
    }
}

impl FromStr for FactId {
    type Err = FactIdError;
    fn from_str(text: &str) -> Result<FactId, FactIdError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_no_digits| FactIdError)?;
        Ok(FactId(bytes.try_into().map_err(|_length| FactIdError)?))
    }
}

impl TryFrom<String> for FactId {
    type Error = FactIdError;
    fn try_from(text: String) -> Result<FactId, FactIdError> {
        text.parse()
    }
}

/// Why a span was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Closing {
    /// The instance was told to stop, or ended.
    Ended(EndReason),
    /// The player's connection broke; he may come back, which opens the next span.
    Disconnected,
}

impl Closing {
    /// The word in JSON and SQL: the reason's, or `disconnected`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Closing::Ended(reason) => reason.word(),
            Closing::Disconnected => "disconnected",
        }
    }

    /// Who caused it. A broken connection between two networks is nobody's fault: it is not rated zero.
    #[must_use]
    pub const fn party(self) -> Party {
        match self {
            Closing::Ended(reason) => reason.party(),
            Closing::Disconnected => Party::Player,
        }
    }

    /// True for what costs nobody anything.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        match self.party() {
            Party::Platform => true,
            Party::Player | Party::Game | Party::Operator => false,
        }
    }
}

/// A word that closes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` closes no span: expected `disconnected` or the reason of a session's end")]
pub struct ClosingError(String);

impl TryFrom<String> for Closing {
    type Error = ClosingError;
    fn try_from(word: String) -> Result<Closing, ClosingError> {
        if word == "disconnected" {
            return Ok(Closing::Disconnected);
        }
        EndReason::from_word(&word).map(Closing::Ended).ok_or_else(|| ClosingError(word.chars().take(40).collect()))
    }
}

impl From<Closing> for String {
    fn from(closing: Closing) -> String {
        closing.word().to_owned()
    }
}

/// What a fact says of its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FactKind {
    /// The player could play from then on.
    Opened,
    /// He still could.
    Extended {
        /// Counted within the span, from 0.
        beat: u32,
    },
    /// He could not any more.
    Closed {
        /// Why.
        closing: Closing,
    },
}

/// One fact, as the party that saw it wrote it down with the change of state itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Whose.
    pub session: SessionId,
    /// Which instance of it, from 0.
    pub epoch: u32,
    /// Which connection to that instance, from 0.
    pub span: u32,
    /// When it was so.
    pub at: UtcTime,
    /// What.
    #[serde(flatten)]
    pub kind: FactKind,
}

impl Fact {
    /// The same for every telling of this fact: a hash of session, epoch, kind and number. The time is no part of it, so that one who tells it
    /// again after a crash, with another reading of the clock, tells the same fact.
    #[must_use]
    pub fn id(&self) -> FactId {
        let (kind, beat) = match self.kind {
            FactKind::Opened => (0, 0),
            FactKind::Extended { beat } => (1, beat),
            FactKind::Closed { .. } => (2, 0),
        };
        let mut bytes = [0_u8; 29];
        bytes[..16].copy_from_slice(self.session.uuid().as_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[20] = kind;
        bytes[21..25].copy_from_slice(&self.span.to_be_bytes());
        bytes[25..].copy_from_slice(&beat.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        FactId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(epoch: u32, span: u32, kind: FactKind) -> Fact {
        let session = SessionId::from_uuid(uuid::Uuid::from_u128(1));
        Fact { session, epoch, span, at: UtcTime::from_unix_ms(5), kind }
    }

    #[test]
    fn an_id_is_the_same_for_the_same_fact_and_for_no_other() {
        let closed = FactKind::Closed { closing: Closing::Disconnected };
        let mut ids = std::collections::BTreeSet::new();
        for epoch in 0..3 {
            for span in 0..3 {
                for kind in [FactKind::Opened, closed, FactKind::Extended { beat: 0 }, FactKind::Extended { beat: 1 }] {
                    let one = fact(epoch, span, kind);
                    assert!(ids.insert(one.id()), "{one:?}");
                    assert_eq!(one.id(), Fact { at: UtcTime::from_unix_ms(9), ..one }.id());
                }
            }
        }
        // Databases keep ids: they never change.
        assert_eq!(fact(0, 0, FactKind::Opened).id().to_string(), "02afc4ffbb32c3049a2d66bec7703336");
    }

    #[test]
    fn facts_go_through_json() {
        let check = |fact: Fact, expected: &str| {
            let text = serde_json::to_string(&fact).unwrap();
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<Fact>(&text).unwrap(), fact);
        };
        let head =
            r#"{"session":"ses_00000000000000000000000000000001","epoch":1,"span":2,"at":"1970-01-01T00:00:00.005Z","#;
        check(fact(1, 2, FactKind::Opened), &format!(r#"{head}"kind":"opened"}}"#));
        check(fact(1, 2, FactKind::Extended { beat: 7 }), &format!(r#"{head}"kind":"extended","beat":7}}"#));
        let closed = FactKind::Closed { closing: Closing::Ended(EndReason::NodeLost) };
        check(fact(1, 2, closed), &format!(r#"{head}"kind":"closed","closing":"node_lost"}}"#));
        assert!(serde_json::from_str::<Closing>(r#""nonsense""#).is_err());
    }

    #[test]
    fn only_the_platform_is_at_fault() {
        for reason in EndReason::ALL {
            assert_eq!(Closing::Ended(*reason).is_fault(), reason.party() == Party::Platform, "{}", reason.word());
        }
        assert!(!Closing::Disconnected.is_fault());
    }
}
