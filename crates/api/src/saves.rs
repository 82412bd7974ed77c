//! Versions of players' saves, as the REST API shows them.

use serde::{Deserialize, Serialize};

use crate::clock::UtcTime;
use crate::id::{SaveId, SessionId};
use crate::node::SaveKind;

/// Largest archive of a save in bytes that can be brought.
pub const MAX_SAVE_ARCHIVE_BYTES: usize = 300 << 20;

/// One version of a player's save of an app. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SaveVersion {
    /// Its id.
    pub id: SaveId,
    /// The app.
    pub app: String,
    /// Versions that it was made from: none for the first one, several where the player joined them.
    pub parents: Vec<SaveId>,
    /// True when no other version was made from it: the next play begins with it. Of several the player chooses one.
    pub is_newest: bool,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
    /// Why it was made.
    pub kind: SaveKind,
    /// True when the game wrote nothing while it was captured.
    pub settled: bool,
    /// The session that it is from; absent for one that the player brought or went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When it was made.
    pub created_at: UtcTime,
}

/// Why a save was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum SaveFailure {
    /// It has more bytes than a save may have.
    Bytes {
        /// What it has.
        found: u64,
        /// What it may have.
        limit: u64,
    },
    /// It has more files.
    Files {
        /// What it has.
        found: u64,
        /// What it may have.
        limit: u64,
    },
    /// Something else, which stands in the node's log.
    Other,
}

impl SaveFailure {
    /// What the player is told.
    #[must_use]
    pub fn sentence(self) -> String {
        let mega = |bytes: u64| bytes.div_ceil(1 << 20);
        match self {
            SaveFailure::Bytes { found, limit } => format!(
                "Your save was not kept: it has {} MiB, and at most {} are kept. Ask the operator for its files, and remove old saves in the game.",
                mega(found),
                mega(limit)
            ),
            SaveFailure::Files { found, limit } => format!(
                "Your save was not kept: it has {found} files, and at most {limit} are kept. Ask the operator for them, and remove old saves in the game."
            ),
            SaveFailure::Other => "Your save was not kept. The operator has its files.".to_owned(),
        }
    }
}

/// Versions of saves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SaveList {
    /// Newest first, at most 1000.
    pub saves: Vec<SaveVersion>,
}

/// Which saves are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SavesOf {
    /// The app's name; all apps when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}
