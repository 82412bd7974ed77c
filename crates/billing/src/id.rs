//! Names of what money is about: a tenant's name is not a site's, an order's id is not an invoice's.
//!
//! Deliberately absent: making new ids; who calls brings them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name in bytes. Longer ones bloat every row that bears them; shorter ones refuse names that installations have.
pub const MAX_NAME_BYTES: usize = 100;

/// A text that names nothing of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {noun}: expected {expected}")]
pub struct IdError {
    text: String,
    noun: &'static str,
    expected: &'static str,
}

macro_rules! name {
    ($($(#[$doc:meta])* $name:ident, $noun:literal;)*) => { $(
        $(#[$doc])*
        ///
        /// 1 to [`MAX_NAME_BYTES`] bytes without control characters.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<$name, IdError> {
                if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
                    let text = text.chars().take(60).collect();
                    return Err(IdError { text, noun: $noun, expected: "1 to 100 bytes without control characters" });
                }
                Ok($name(text))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )* };
}

name! {
    /// A tenant.
    TenantName, "name of a tenant";
    /// A site.
    SiteName, "name of a site";
    /// A plan.
    PlanName, "name of a plan";
    /// A hardware class, as nodes state it.
    ClassName, "name of a hardware class";
    /// What is sold: resolution x frame rate x hardware class under one name.
    ProductName, "name of a product";
    /// A number of an invoice or of a credit note, from a sequence that somebody else keeps without gaps.
    DocumentNumber, "number of a document";
    /// What makes a posting or a hold unique: the same key again is the same act.
    Key, "key";
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// From a UUID; make it version 7, so that ids sort by creation.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> $name {
                $name(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 32)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map($name)
                    .ok_or_else(|| IdError {
                        text: text.chars().take(60).collect(),
                        noun: $noun,
                        expected: concat!("`", $prefix, "_` and 32 hexadecimal digits"),
                    })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<$name, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    )* };
}

uuid_id! {
    /// An order: the act of buying.
    OrderId, "ord", "order id";
    /// A lot of prepaid time, as it was bought or granted.
    LotId, "lot", "lot id";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_refuse_what_they_are_not() {
        for (text, is_good) in [("acme", true), ("Ação & Söhne", true), ("", false), ("a\nb", false)] {
            assert_eq!(text.parse::<TenantName>().is_ok(), is_good, "{text:?}");
        }
        assert!("x".repeat(101).parse::<TenantName>().is_err());
        let id = OrderId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().parse::<LotId>().is_err());
        assert_eq!(serde_json::from_value::<OrderId>(serde_json::to_value(id).unwrap()).unwrap(), id);
    }
}
