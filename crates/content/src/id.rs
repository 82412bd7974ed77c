//! Names of objects: the BLAKE3 hash of their bytes, so that what a name says never changes and every copy can be checked. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of an object is 64 hexadecimal digits")]
pub struct ObjectIdError;

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id of these bytes.
            #[must_use]
            pub fn of(bytes: &[u8]) -> $name {
                $name(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ObjectIdError;

            fn from_str(text: &str) -> Result<$name, ObjectIdError> {
                blake3::Hash::from_hex(text).map(|hash| $name(*hash.as_bytes())).map_err(|_error| ObjectIdError)
            }
        }
    };
}

object_id!(
    /// The hash of a pack's bytes as they are stored.
    PackId
);
object_id!(
    /// The hash of an encoded tree as it is stored.
    TreeId
);
object_id!(
    /// The hash of an encoded [`crate::Root`]: it names everything of a release or of a save.
    RootId
);
