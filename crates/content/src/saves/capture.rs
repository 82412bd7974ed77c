//! A save on disk -> a tree and its chunks, while the game may go on writing.
//!
//! First the names, so that a save over its limits is refused before anything is kept; then the bytes; then the names again, to tell whether
//! the game changed something meanwhile. The same files give the same tree.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Stat, fstat};

use super::patterns::{Place, SavePaths};
use super::walk::{Found, Opened, Walk, age_of_bytes, is_gone, read_error};
use super::{Limits, Places};
use crate::chunk::Chunk;
use crate::path::TreePath;
use crate::scan::{PRIVILEGE_BITS, PiecesError, is_unchanged, open_inside, read_pieces};
use crate::tree::{Entry, EntryKind, Tree, TreeError};

/// How long nothing may have changed before a save counts as whole. Less catches a game between two of the files that it writes together; more
/// makes each checkpoint wait, and a game that writes often never have one.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Younger changes cannot be told from the next one: a file system's clock steps by up to 10 ms.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// How often a file that changes is read. More waits longer for a file that is always written, less gives up on one that is written often.
const MAX_READS: u32 = 8;

/// How often a capture waits for a file's clock: 5 s in all. More lets a game that writes many files hold a capture up.
const MAX_WAITS: u32 = 250;

/// Why a save was not captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The node may not read it, or the disk fails.
    #[error("{path} cannot be read")]
    Read {
        /// What was read.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More than a save may be. Nothing of it was kept, unless it grew while it was read.
    #[error("the save has {found} {what}, more than {limit}: remove old saves in the game, or narrow `saves.paths`")]
    Quota {
        /// `files`, `bytes`, or names that were looked at.
        what: &'static str,
        /// Most that it may have.
        limit: u64,
        /// What it has.
        found: u64,
    },
    /// The game writes it all the time: capture when the game has ended.
    #[error("{path} changed each time that it was read: capture it later")]
    Busy {
        /// The name.
        path: TreePath,
    },
    /// Whoever takes the chunks failed.
    #[error("a part of {path} could not be kept")]
    Keep {
        /// The file that it is from.
        path: TreePath,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A bug of ours: only what a tree may have is put into it.
    #[error("the save is no tree")]
    Tree(#[from] TreeError),
}

/// How many names fit a pattern and are yet not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Symbolic links that lead out of their place, or by a way that could.
    pub links: u64,
    /// Pipes, sockets, device nodes.
    pub special: u64,
    /// Files with a set-user-id or set-group-id bit.
    pub privileged: u64,
    /// Too long or too deep.
    pub names: u64,
}

impl LeftOut {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.links + self.special + self.privileged + self.names
    }
}

/// A save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its files below `home` and `base`; empty where there is none.
    pub tree: Tree,
    /// Whether all files are of one time. If not, each file is whole, but they may not belong together.
    pub is_settled: bool,
    /// What is not in the tree.
    pub left_out: LeftOut,
}

/// Names a state of a save's files on this disk: the same while nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Takes the save as it is now. Right where nothing runs any more; `is_settled` says whether something changed nevertheless.
pub fn capture(
    places: &Places<'_>,
    paths: &SavePaths,
    limits: Limits,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
) -> Result<Captured, CaptureError> {
    let opened = Opened::new(places)?;
    let walk = Walk::new(&opened, paths, limits)?;
    read(&opened, paths, limits, walk, keep)
}

/// Takes the save of a game that runs: waits until nothing of it was changed for `settle`, and takes it again if something changes
/// meanwhile. When `patience` is over it takes what is there.
///
/// Chunks of tries that failed are given to `keep`, too.
pub fn capture_stable(
    places: &Places<'_>,
    paths: &SavePaths,
    limits: Limits,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
    patience: Duration,
    settle: Duration,
) -> Result<Captured, CaptureError> {
    let opened = Opened::new(places)?;
    let begin = Instant::now();
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        let walk = Walk::new(&opened, paths, limits)?;
        walk.check(limits)?;
        let unrest = walk.age().map_or(Duration::ZERO, |age| settle.saturating_sub(age));
        if !unrest.is_zero() && !left.is_zero() {
            sleep(unrest.min(left).max(Duration::from_millis(1)));
            continue;
        }
        match read(&opened, paths, limits, walk, keep) {
            Ok(captured) if captured.is_settled || left.is_zero() => {
                return Ok(Captured { is_settled: captured.is_settled && unrest.is_zero(), ..captured });
            }
            Ok(_) | Err(CaptureError::Busy { .. }) if !left.is_zero() => sleep(CLOCK_STEP.min(left)),
            Ok(captured) => return Ok(captured),
            Err(error) => return Err(error),
        }
    }
}

/// Looks at names, lengths and times alone, so that a checkpoint of what did not change costs nothing. Take it before a capture: what changes
/// in between is then a change for the next one.
pub fn fingerprint(places: &Places<'_>, paths: &SavePaths) -> Result<Fingerprint, CaptureError> {
    let unlimited = Limits { bytes: u64::MAX, files: u64::MAX };
    let walk = Walk::new(&Opened::new(places)?, paths, unlimited)?;
    let mut hasher = blake3::Hasher::new();
    for (path, mode, inode, length, changes) in walk.states() {
        let name = path.as_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        hasher.update(&mode.to_le_bytes()).update(&inode.to_le_bytes()).update(&length.to_le_bytes());
        for change in changes {
            hasher.update(&change.to_le_bytes());
        }
    }
    Ok(Fingerprint(*hasher.finalize().as_bytes()))
}

fn read(
    opened: &Opened,
    paths: &SavePaths,
    limits: Limits,
    walk: Walk,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
) -> Result<Captured, CaptureError> {
    walk.check(limits)?;
    let mut reader = Reader { keep, limit: limits.bytes, bytes: 0, waits: 0, names: HashMap::new() };
    let mut entries = Vec::with_capacity(walk.found.len());
    let mut is_whole = true;
    for found in &walk.found {
        let Some(directory) = opened.get(found.place) else { continue };
        match reader.entry(directory, found)? {
            Some(kind) => entries.push(Entry { path: found.path.clone(), kind }),
            None => is_whole = false,
        }
    }
    let after = Walk::new(opened, paths, limits)?;
    let is_settled = is_whole && walk.states().eq(after.states());
    Ok(Captured { tree: Tree::new(entries)?, is_settled, left_out: walk.left_out })
}

struct Reader<'a> {
    keep: &'a mut dyn FnMut(Chunk) -> io::Result<()>,
    /// Most bytes of all files.
    limit: u64,
    /// Of the files that were read.
    bytes: u64,
    /// How often it waited for a file's clock.
    waits: u32,
    /// The first names of files with many. A file outside of a place is no file of the save, though one place may link to the other's.
    names: HashMap<(Place, u64, u64), TreePath>,
}

impl Reader<'_> {
    /// `None` when it is no longer there.
    fn entry(&mut self, directory: &OwnedFd, found: &Found) -> Result<Option<EntryKind>, CaptureError> {
        let inode = |stat: &Stat| (found.place, stat.st_dev, stat.st_ino);
        if found.kind() == FileType::Directory {
            return Ok(Some(EntryKind::Directory));
        }
        if let Some(target) = &found.target {
            return Ok(Some(EntryKind::Symlink { target: target.clone() }));
        }
        if let Some(first) = self.names.get(&inode(&found.stat)) {
            return Ok(Some(EntryKind::HardLink { to: first.clone() }));
        }
        let Some((kind, stat)) = self.file(directory, found)? else { return Ok(None) };
        // Only the file that the walk saw: a name may have got another one since, and file systems give inodes anew.
        if found.stat.st_nlink > 1 && is_unchanged(&stat, &found.stat) {
            self.names.insert(inode(&stat), found.path.clone());
        }
        Ok(Some(kind))
    }

    /// Reads a file until it did not change meanwhile.
    fn file(&mut self, directory: &OwnedFd, found: &Found) -> Result<Option<(EntryKind, Stat)>, CaptureError> {
        let path = &found.path;
        let failed = |errno| read_error(path, errno);
        for _ in 0..MAX_READS {
            let mut file = match open_inside(directory, found.below()) {
                Ok(file) => file,
                Err(errno) if is_gone(errno) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            };
            let mut seen = fstat(&file).map_err(failed)?;
            if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile || seen.st_mode & PRIVILEGE_BITS != 0 {
                return Ok(None);
            }
            let is_young = |stat: &Stat| age_of_bytes(stat).is_some_and(|age| age < CLOCK_STEP);
            if is_young(&seen) {
                self.wait(path)?;
                seen = fstat(&file).map_err(failed)?;
                if is_young(&seen) {
                    continue;
                }
            }
            let length = u64::try_from(seen.st_size).unwrap_or(0);
            let bytes = self.bytes.saturating_add(length);
            if bytes > self.limit {
                return Err(CaptureError::Quota { what: "bytes", limit: self.limit, found: bytes });
            }
            let pieces = read_pieces(&mut file, length, self.keep).map_err(|failure| match failure {
                PiecesError::Read(source) => CaptureError::Read { path: path.to_string(), source },
                PiecesError::Keep(source) => CaptureError::Keep { path: path.clone(), source },
            })?;
            let is_whole = pieces.iter().map(|piece| piece.length()).sum::<u64>() == length;
            if is_whole && is_unchanged(&fstat(&file).map_err(failed)?, &seen) {
                self.bytes = bytes;
                let is_executable = seen.st_mode & 0o111 != 0;
                return Ok(Some((EntryKind::File { is_executable, modified_s: seen.st_mtime, pieces }, seen)));
            }
        }
        Err(CaptureError::Busy { path: path.clone() })
    }

    fn wait(&mut self, path: &TreePath) -> Result<(), CaptureError> {
        self.waits += 1;
        if self.waits > MAX_WAITS {
            return Err(CaptureError::Busy { path: path.clone() });
        }
        sleep(CLOCK_STEP);
        Ok(())
    }
}
