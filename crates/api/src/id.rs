//! Typed ids: a session's id is not an instance's id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {noun} id: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct IdError {
    text: String,
    noun: &'static str,
    prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// From a UUID; make it version 7, so that ids sort by creation.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
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

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-f]{32}$")))
                    .description(Some(concat!("Id of a ", $noun, ".")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 32)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.chars().take(80).collect(), noun: $noun, prefix: $prefix })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
    };
}

typed_id!(
    /// One play of one player.
    SessionId, "ses", "session"
);
typed_id!(
    /// Somebody who plays, whichever device he uses.
    PlayerId, "ply", "player"
);
typed_id!(
    /// The running, isolated copy of a release that serves a session.
    InstanceId, "ins", "instance"
);
typed_id!(
    /// A machine of a site.
    NodeId, "nod", "node"
);

typed_id!(
    /// One command to a session's instance.
    CommandId, "cmd", "command"
);
typed_id!(
    /// Warm instances that are kept at a site.
    PoolId, "pol", "pool"
);
typed_id!(
    /// One upload of a package that is going on.
    UploadId, "upl", "upload"
);
typed_id!(
    /// One version of a player's save of an app.
    SaveId, "sav", "save"
);
typed_id!(
    /// A bearer token of a program or a person of a tenant, or of the operator.
    KeyId, "key", "key"
);
typed_id!(
    /// One change that stands in the record.
    AuditId, "aud", "audit entry"
);

/// Names the content of a release or of a save in the content store: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct ContentId(String);

/// A text that names no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content is named by 64 hexadecimal digits")]
pub struct ContentIdError;

impl ContentId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContentId {
    type Error = ContentIdError;
    fn try_from(text: String) -> Result<Self, ContentIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(ContentIdError) }
    }
}

impl From<ContentId> for String {
    fn from(id: ContentId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_refuse_each_other() {
        let id = SessionId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "ses_00000000000000000000000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        let error = id.to_string().parse::<InstanceId>().unwrap_err();
        assert!(error.to_string().contains("is no instance id"), "{error}");
    }
}
