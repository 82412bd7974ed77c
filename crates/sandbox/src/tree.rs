//! Walks a directory tree that a game may be changing meanwhile: never follows a link, never leaves the tree.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, open, openat, statat};
use rustix::io::{self, Errno};

/// Deepest directory. Deeper ones are skipped, so that a game cannot exhaust our descriptors.
const MAX_DEPTH: usize = 64;

/// Most entries of one walk. A game that makes more is over any sensible limit already: see [`disk_bytes`].
const MAX_ENTRIES: u64 = 1_000_000;

/// Bytes on disk below `root`. More than [`MAX_ENTRIES`] entries count as `u64::MAX`.
pub(crate) fn disk_bytes(root: &Path) -> io::Result<u64> {
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    visit(root, &mut |_, _, stat| {
        entries += 1;
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if entries > MAX_ENTRIES {
            bytes = u64::MAX;
            return Err(Errno::TOOBIG);
        }
        Ok(())
    })
    .or_else(|error| if error == Errno::TOOBIG { Ok(()) } else { Err(error) })?;
    Ok(bytes)
}

/// Gives `root` and everything below it to an owner, unless `root` is theirs already.
pub(crate) fn give(root: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let stat = rustix::fs::lstat(root)?;
    if stat.st_uid == uid && stat.st_gid == gid {
        return Ok(());
    }
    let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    visit(root, &mut |directory, name, _| chownat(directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW))?;
    // Last, so that an interrupted walk is done again.
    chownat(rustix::fs::CWD, root, owner, group, AtFlags::SYMLINK_NOFOLLOW)
}

type Visitor<'a> = dyn FnMut(&OwnedFd, &std::ffi::CStr, &Stat) -> io::Result<()> + 'a;

fn visit(root: &Path, visitor: &mut Visitor<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(root, flags, Mode::empty())?;
    visit_directory(directory, MAX_DEPTH, flags, visitor)
}

fn visit_directory(directory: OwnedFd, depth: usize, flags: OFlags, visitor: &mut Visitor<'_>) -> io::Result<()> {
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        visitor(&directory, name, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth > 0 {
            match openat(&directory, name, flags, Mode::empty()) {
                Ok(child) => visit_directory(child, depth - 1, flags, visitor)?,
                // Removed, replaced by a link, or closed to us (then it is the game's own loss in a user namespace).
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), vec![1; 100_000]).unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/file"), vec![1; 50_000]).unwrap();
        std::os::unix::fs::symlink("/usr", root.path().join("usr")).unwrap();
        let bytes = disk_bytes(root.path()).unwrap();
        assert!((150_000..400_000).contains(&bytes), "{bytes}");
    }
}
