//! A player's save: which files of an instance it is, read into a tree and written back before the next play.
//!
//! ```text
//! patterns -> SavePaths --+
//! home, base -------------+-> walk -> states -> read -> walk again -> Captured { tree, is_settled, left_out }
//! tree -> restore_save -> home, base
//! ```
//! The directories belong to a game that nobody trusts and that may run meanwhile: no link is followed, nothing outside of the two places is
//! read or written, and whatever has no place in a save is left out and counted. A file of a capture is never half of one version and
//! half of another.
//!
//! Captured -> Archive -> the store, encrypted; and back
//!
//! Deliberately absent: the history of versions, players, sessions.

mod archive;
mod archive_file;
mod capture;
mod patterns;
mod restore;
mod walk;

use std::path::Path;

pub use archive::{Archive, ArchiveError, SaveContent};
pub use archive_file::ArchiveFileError;
pub use capture::{CaptureError, Captured, Fingerprint, LeftOut, SETTLE, capture, capture_stable, fingerprint};
pub use patterns::{MAX_PATTERNS, Pattern, PatternError, Place, SavePaths};
pub use restore::restore_save;

/// The directories of an instance. The caller vouches for the directories themselves, not for anything in them.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The player's home.
    pub home: &'a Path,
    /// What the game changed of the package: the upper directory of the overlay. `None` where the package is read-only.
    pub base: Option<&'a Path>,
}

/// How much a save may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files, holes included, a file with many names once.
    pub bytes: u64,
    /// Names: files, links, directories.
    pub files: u64,
}

impl Limits {
    /// 256 MiB: more than the saves of nearly all games, and read and sent within seconds when a play ends. Less would refuse games that keep
    /// whole worlds; more lets a broken pattern store a game's caches for every player.
    pub const DEFAULT_BYTES: u64 = 256 << 20;

    /// 10,000 names: a world in many small files fits. Less would refuse such games; more makes a checkpoint, which looks at every name, dear.
    pub const DEFAULT_FILES: u64 = 10_000;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: Limits::DEFAULT_BYTES, files: Limits::DEFAULT_FILES }
    }
}
