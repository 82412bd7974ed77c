//! Finds the names of a save. Opens directories only where a pattern leads, each from the one above it and through no link.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::capture::{CaptureError, LeftOut};
use super::patterns::{Place, Progress, SavePaths};
use super::{Limits, Places};
use crate::path::TreePath;
use crate::scan::PRIVILEGE_BITS;
use crate::tree::stays_inside;

/// Most names that are looked at, saves or not. More than a home has; a game that makes more would keep the node walking.
const MAX_SEEN: u64 = 1_000_000;

/// The places, open.
pub(super) struct Opened {
    home: OwnedFd,
    base: Option<OwnedFd>,
}

impl Opened {
    pub(super) fn new(places: &Places<'_>) -> Result<Opened, CaptureError> {
        let open = |path: &Path| open_place(path).map_err(|errno| read_error(&path.display(), errno));
        Ok(Opened { home: open(places.home)?, base: places.base.map(open).transpose()? })
    }

    pub(super) fn get(&self, place: Place) -> Option<&OwnedFd> {
        match place {
            Place::Base => self.base.as_ref(),
            Place::Home => Some(&self.home),
        }
    }
}

pub(super) fn open_place(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A name of the save.
pub(super) struct Found {
    pub(super) place: Place,
    /// Begins with the place's name.
    pub(super) path: TreePath,
    pub(super) stat: Stat,
    /// Where a symbolic link leads.
    pub(super) target: Option<Vec<u8>>,
    /// A pattern fits, and it is not only on the way to such.
    is_wanted: bool,
}

/// What tells whether a name changed: mode, inode, length, when the bytes changed, when anything did.
type State<'a> = (&'a TreePath, u32, u64, i64, [i128; 2]);

impl Found {
    /// A path relative to its place; empty for the place itself.
    pub(super) fn below(&self) -> &Path {
        below(self.place, &self.path)
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn state(&self) -> State<'_> {
        let stat = &self.stat;
        if self.kind() == FileType::Directory {
            // Its names are states of their own, and its times change also with names that are no saves.
            return (&self.path, stat.st_mode, stat.st_ino, 0, [0, 0]);
        }
        (&self.path, stat.st_mode, stat.st_ino, stat.st_size, changes(stat))
    }
}

pub(super) fn below(place: Place, path: &TreePath) -> &Path {
    path.as_path().strip_prefix(place.name()).unwrap_or(path.as_path())
}

/// When the bytes were changed, and when anything was, in nanoseconds since 1970.
fn changes(stat: &Stat) -> [i128; 2] {
    let nanoseconds = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    [nanoseconds(stat.st_mtime, stat.st_mtime_nsec), nanoseconds(stat.st_ctime, stat.st_ctime_nsec)]
}

/// How long ago it was changed. `None` for a time to come: a game can set one.
fn age(stat: &Stat) -> Option<Duration> {
    changes(stat).into_iter().filter_map(since).min()
}

/// How long ago an open file was written. Of one that has no name any more its inode's time tells when the name went: a game that replaces its
/// files all the time would never have one that is old enough.
pub(super) fn age_of_bytes(stat: &Stat) -> Option<Duration> {
    let [written, _] = changes(stat);
    if stat.st_nlink == 0 { since(written) } else { age(stat) }
}

fn since(then: i128) -> Option<Duration> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
    u64::try_from(i128::try_from(now).ok()? - then).ok().map(Duration::from_nanos)
}

/// What a walk found.
#[derive(Default)]
pub(super) struct Walk {
    /// In the order of a tree; not all of it when it is more than the limit.
    pub(super) found: Vec<Found>,
    pub(super) left_out: LeftOut,
    /// Of all files, each once.
    bytes: u64,
    /// Names of the tree, but for the places.
    files: u64,
}

impl Walk {
    /// Looks at all names that the patterns lead to.
    pub(super) fn new(opened: &Opened, paths: &SavePaths, limits: Limits) -> Result<Walk, CaptureError> {
        let mut walker =
            Walker { paths, limits, place: Place::Base, walk: Walk::default(), seen: 0, inodes: HashSet::new() };
        for place in Place::ALL {
            let start = paths.start(place);
            let Some(directory) = opened.get(place).filter(|_| start.is_alive()) else { continue };
            walker.place = place;
            walker.inodes.clear();
            let path = place.path();
            let stat = rustix::fs::fstat(directory).map_err(|errno| read_error(&path, errno))?;
            if walker.directory(directory, &path, &start)? {
                walker.walk.found.push(Found { place, path, stat, target: None, is_wanted: false });
            }
        }
        let mut walk = walker.walk;
        walk.found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(walk)
    }

    pub(super) fn check(&self, limits: Limits) -> Result<(), CaptureError> {
        for (what, limit, found) in [("files", limits.files, self.files), ("bytes", limits.bytes, self.bytes)] {
            if found > limit {
                return Err(CaptureError::Quota { what, limit, found });
            }
        }
        Ok(())
    }

    /// What a later walk finds again when nothing changed.
    pub(super) fn states(&self) -> impl Iterator<Item = State<'_>> {
        self.found.iter().map(Found::state)
    }

    /// How long ago something of the save was changed last.
    pub(super) fn age(&self) -> Option<Duration> {
        self.found.iter().filter(|found| found.is_wanted).filter_map(|found| age(&found.stat)).min()
    }
}

struct Walker<'a> {
    paths: &'a SavePaths,
    limits: Limits,
    place: Place,
    walk: Walk,
    seen: u64,
    /// Files with many names that were counted.
    inodes: HashSet<(u64, u64)>,
}

impl Walker<'_> {
    /// Whether something of the save is in the directory. As deep as a [`TreePath`] at most, and so are the open directories.
    fn directory(&mut self, directory: &OwnedFd, at: &TreePath, progress: &Progress) -> Result<bool, CaptureError> {
        let mut leads = false;
        for name in Dir::read_from(directory).map_err(|errno| read_error(at, errno))? {
            let name = match name {
                Ok(name) => name,
                // The directory was removed meanwhile.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(read_error(at, errno)),
            };
            let name = name.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_SEEN {
                return Err(CaptureError::Quota { what: "names on the way", limit: MAX_SEEN, found: self.seen });
            }
            let progress = self.paths.step(progress, name.to_bytes());
            if progress.is_alive() {
                leads |= self.name(directory, name, at, &progress)?;
            }
        }
        Ok(leads)
    }

    /// Whether the name is part of the save.
    fn name(
        &mut self,
        directory: &OwnedFd,
        name: &CStr,
        at: &TreePath,
        progress: &Progress,
    ) -> Result<bool, CaptureError> {
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(read_error(at, errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !progress.is_wanted && kind != FileType::Directory {
            return Ok(false);
        }
        let Ok(path) = TreePath::join(Some(at), name.to_bytes()) else {
            self.walk.left_out.names += 1;
            return Ok(false);
        };
        let mut target = None;
        let is_kept = match kind {
            FileType::Directory => self.inner(directory, name, &path, progress)?,
            FileType::Symlink => {
                target = self.target(directory, name, &path)?;
                target.is_some()
            }
            FileType::RegularFile => self.is_file_kept(&stat),
            // The overlay's mark for what the game removed of the package.
            FileType::CharacterDevice if self.place == Place::Base && stat.st_rdev == 0 => false,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                self.walk.left_out.special += 1;
                false
            }
        };
        if is_kept {
            self.walk.files += 1;
            if self.walk.files <= self.limits.files {
                let place = self.place;
                self.walk.found.push(Found { place, path, stat, target, is_wanted: progress.is_wanted });
            }
        }
        Ok(is_kept)
    }

    fn inner(&mut self, outer: &OwnedFd, name: &CStr, path: &TreePath, at: &Progress) -> Result<bool, CaptureError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(outer, name, flags, Mode::empty()) {
            Ok(inner) => Ok(self.directory(&inner, path, at)? || at.is_wanted),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(read_error(path, errno)),
        }
    }

    fn target(&mut self, outer: &OwnedFd, name: &CStr, path: &TreePath) -> Result<Option<Vec<u8>>, CaptureError> {
        let target = match readlinkat(outer, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(read_error(path, errno)),
        };
        // One directory of the path is the place, which it must not leave.
        let stays = stays_inside(path.depth() - 1, &target);
        self.walk.left_out.links += u64::from(!stays);
        Ok(stays.then_some(target))
    }

    fn is_file_kept(&mut self, stat: &Stat) -> bool {
        if stat.st_mode & PRIVILEGE_BITS != 0 {
            self.walk.left_out.privileged += 1;
            return false;
        }
        if stat.st_nlink == 1 || self.inodes.insert((stat.st_dev, stat.st_ino)) {
            self.walk.bytes = self.walk.bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        }
        true
    }
}

/// Whether what was seen there is no longer, or is something else now.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::STALE)
}

pub(super) fn read_error(path: &dyn std::fmt::Display, errno: Errno) -> CaptureError {
    CaptureError::Read { path: path.to_string(), source: errno.into() }
}
