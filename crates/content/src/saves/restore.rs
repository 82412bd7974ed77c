//! A save's tree and its chunks -> the directories of an instance that has not begun yet.
//!
//! The directories may hold what every player begins with. What the save has of the same name takes its place: names are removed and made
//! anew, never written through, and reached only through directories. All of it belongs to the player alone.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, linkat, mkdirat, openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Places;
use super::patterns::Place;
use super::walk::{below, open_place};
use crate::path::TreePath;
use crate::restore::{Fetch, RestoreError, failed, time, write_error, write_pieces};
use crate::scan::INSIDE;
use crate::tree::{Entry, EntryKind, Tree, stays_inside};

/// Writes a save, all of which then belongs to the user and group `owner`, if there is one; `u32::MAX` is none. Nothing is written when
/// the tree is no save; what was written before another error stays. A directory of the place where the save has a file is an error.
pub fn restore_save(
    tree: &Tree,
    places: &Places<'_>,
    owner: Option<u32>,
    fetch: &mut Fetch<'_>,
) -> Result<(), RestoreError> {
    for Entry { path, kind } in tree.entries() {
        check(path, kind, places).map_err(|reason| RestoreError::NotASave { path: path.clone(), reason })?;
    }
    let owner = owner.map(|id| (Uid::from_raw_unchecked(id), Gid::from_raw_unchecked(id)));
    for place in Place::ALL {
        let root = match place {
            Place::Base => places.base,
            Place::Home => Some(places.home),
        };
        // The place itself is the caller's.
        let mut entries = tree.entries().iter().filter(|entry| is_below(place, &entry.path)).peekable();
        let Some(root) = root.filter(|_| entries.peek().is_some()) else { continue };
        let root = open_place(root)
            .map_err(|errno| RestoreError::Write { path: root.display().to_string(), source: errno.into() })?;
        let writer = Writer { place, root, owner };
        for Entry { path, kind } in entries {
            writer.write(path, kind, fetch)?;
        }
    }
    Ok(())
}

fn place_of(path: &TreePath) -> Option<Place> {
    let top = path.as_bytes().split(|byte| *byte == b'/').next();
    Place::ALL.into_iter().find(|place| top == Some(place.name().as_bytes()))
}

fn is_below(place: Place, path: &TreePath) -> bool {
    place_of(path) == Some(place) && path.depth() > 0
}

/// Links of both kinds have to stay in their place: the tree, which has both places, checks less.
fn check(path: &TreePath, kind: &EntryKind, places: &Places<'_>) -> Result<(), &'static str> {
    let place = place_of(path).ok_or("a save has `home` and `base` at its top")?;
    if path.depth() == 0 {
        let is_directory = matches!(kind, EntryKind::Directory);
        return if is_directory { Ok(()) } else { Err("the top of a save is directories") };
    }
    if place == Place::Base && places.base.is_none() {
        return Err("the package cannot be written");
    }
    match kind {
        EntryKind::Symlink { target } if !stays_inside(path.depth() - 1, target) => Err("it leads out of its place"),
        EntryKind::HardLink { to } if !is_below(place, to) => Err("it is a file of another place"),
        EntryKind::Directory | EntryKind::File { .. } | EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => {
            Ok(())
        }
    }
}

struct Writer {
    place: Place,
    root: OwnedFd,
    owner: Option<(Uid, Gid)>,
}

/// A name and the directory that it is in.
struct Spot<'a> {
    directory: OwnedFd,
    name: &'a OsStr,
}

impl Writer {
    fn write(&self, path: &TreePath, kind: &EntryKind, fetch: &mut Fetch<'_>) -> Result<(), RestoreError> {
        let failed = failed(path);
        let spot = self.spot(path).map_err(&failed)?;
        match kind {
            EntryKind::Directory => self.directory(&spot).map_err(&failed),
            EntryKind::File { is_executable, modified_s, pieces } => {
                spot.clear().map_err(&failed)?;
                let mut file = spot.create().map_err(&failed)?;
                write_pieces(&mut file, path, pieces, fetch)?;
                self.own(&file, if *is_executable { 0o700 } else { 0o600 }).map_err(&failed)?;
                file.set_modified(time(*modified_s)).map_err(|source| write_error(path, source))
            }
            EntryKind::Symlink { target } => {
                let made = spot.clear().and_then(|()| symlinkat(target.as_slice(), &spot.directory, spot.name));
                made.map_err(&failed)?;
                let Some((user, group)) = self.owner else { return Ok(()) };
                chownat(&spot.directory, spot.name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)
            }
            EntryKind::HardLink { to } => {
                let from = self.spot(to).map_err(&failed)?;
                let made = spot
                    .clear()
                    .and_then(|()| linkat(&from.directory, from.name, &spot.directory, spot.name, AtFlags::empty()));
                made.map_err(&failed)
            }
        }
    }

    /// Reaches a name through directories only.
    fn spot<'a>(&self, path: &'a TreePath) -> Result<Spot<'a>, Errno> {
        let path = below(self.place, path);
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Spot { directory: openat2(&self.root, parent, flags, Mode::empty(), INSIDE)?, name })
    }

    /// Makes a directory, unless there is one.
    fn directory(&self, spot: &Spot<'_>) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&spot.directory, spot.name, flags, Mode::empty());
        let directory = match open() {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                spot.clear()?;
                mkdirat(&spot.directory, spot.name, Mode::RWXU)?;
                open()?
            }
            Err(errno) => return Err(errno),
        };
        self.own(&directory, 0o700)
    }

    /// Makes it the player's alone.
    fn own(&self, it: impl AsFd, mode: u32) -> Result<(), Errno> {
        if let Some((user, group)) = self.owner {
            fchown(&it, Some(user), Some(group))?;
        }
        fchmod(&it, Mode::from_raw_mode(mode))
    }
}

impl Spot<'_> {
    /// Removes what has the name, which is no directory.
    fn clear(&self) -> Result<(), Errno> {
        match unlinkat(&self.directory, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn create(&self) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, self.name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }
}
