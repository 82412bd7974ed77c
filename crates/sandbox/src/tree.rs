//! Walks and removes directory trees that a game made and may be changing meanwhile: never follows a link, never leaves the tree, and never
//! goes as deep as the game went.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chmodat, chownat, open, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::{self, Errno};

/// Deepest directory that is looked into, so that a game cannot exhaust our descriptors. What is deeper counts as too much.
const MAX_DEPTH: usize = 64;

/// Directories only, and not through links.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Most entries of one walk. A game that makes more is over any sensible limit already: see [`disk_bytes`].
const MAX_ENTRIES: u64 = 1_000_000;

/// Bytes on disk below `root`. More than [`MAX_ENTRIES`] entries, or directories below [`MAX_DEPTH`], count as `u64::MAX`.
pub(crate) fn disk_bytes(root: &Path) -> io::Result<u64> {
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    let walk = visit(root, &mut |_, _, stat| {
        entries += 1;
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if entries > MAX_ENTRIES { Err(Errno::TOOBIG) } else { Ok(()) }
    });
    match walk {
        Err(Errno::TOOBIG) => Ok(u64::MAX),
        walk => walk.map(|()| bytes),
    }
}

/// Bytes on disk in files that these processes hold open and that have no name any more. Files in memory count as memory, except where
/// `roots`, the directories that the limit is about, are in memory themselves.
pub(crate) fn unlinked_bytes(pids: &[i32], roots: &[PathBuf]) -> u64 {
    /// Descriptors that are looked at; a game that has more of them shows what it does by these.
    const AT_MOST: usize = 100_000;
    /// `TMPFS_MAGIC`, which anonymous memory files have too.
    const IN_MEMORY: i64 = 0x0102_1994;
    let descriptors =
        pids.iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok()).flatten().flatten();
    let devices: Vec<_> = roots.iter().filter_map(|root| rustix::fs::stat(root).ok()).map(|stat| stat.st_dev).collect();
    let mut files = std::collections::HashMap::new();
    for descriptor in descriptors.take(AT_MOST) {
        let path = descriptor.path();
        // Closed or gone meanwhile.
        let Ok(stat) = rustix::fs::stat(&path) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink > 0 {
            continue;
        }
        let is_on_disk = || rustix::fs::statfs(&path).is_ok_and(|system| system.f_type != IN_MEMORY);
        if devices.contains(&stat.st_dev) || is_on_disk() {
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            files.insert((stat.st_dev, stat.st_ino), bytes);
        }
    }
    files.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

/// Removes `root` and everything below it; nothing there is no failure.
///
/// The standard library's way goes down the tree with a descriptor and a stack frame a level, and a game can make a tree that is deeper than
/// either lasts. Here every directory that is not empty is first moved up to the root.
///
/// # Errors
/// What could not be removed stays.
pub fn remove_tree(root: &Path) -> std::io::Result<()> {
    let directory = match open(root, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0;
    let mut is_empty = false;
    while !is_empty {
        is_empty = true;
        for name in names(&directory)? {
            is_empty = false;
            if !remove_unless_filled(&directory, &name)? {
                let child = openat(&directory, &name, DIRECTORY, Mode::empty())?;
                for below in names(&child)? {
                    if !remove_unless_filled(&child, &below)? {
                        move_up(&child, &below, &directory, &mut moved)?;
                    }
                }
            }
        }
    }
    Ok(unlinkat(CWD, root, AtFlags::REMOVEDIR)?)
}

/// Names in a directory, a bounded number at a time.
fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    /// More would let a game make us allocate; fewer read directories more often.
    const AT_A_TIME: usize = 10_000;
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == AT_A_TIME {
            break;
        }
    }
    Ok(names)
}

/// False when it is a directory with something in it, which then is open to us.
fn remove_unless_filled(directory: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            // The game may have closed it; without the right to change that, what follows says so.
            let _refused = chmodat(directory, name, Mode::RWXU, AtFlags::empty());
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn move_up(from: &OwnedFd, name: &CStr, to: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match renameat_with(from, name, to, format!(".removed-{moved}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
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

type Visitor<'a> = dyn FnMut(&OwnedFd, &CStr, &Stat) -> io::Result<()> + 'a;

fn visit(root: &Path, visitor: &mut Visitor<'_>) -> io::Result<()> {
    let directory = open(root, DIRECTORY, Mode::empty())?;
    visit_directory(directory, MAX_DEPTH, visitor)
}

fn visit_directory(directory: OwnedFd, depth: usize, visitor: &mut Visitor<'_>) -> io::Result<()> {
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
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth == 0 {
                return Err(Errno::TOOBIG);
            }
            match openat(&directory, name, DIRECTORY, Mode::empty()) {
                Ok(child) => visit_directory(child, depth - 1, visitor)?,
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

    /// A tree of so many levels, the way that a game can make it.
    fn deep(root: &Path, levels: usize) {
        let mut directory = open(root, DIRECTORY, Mode::empty()).unwrap();
        for level in 0..levels {
            rustix::fs::mkdirat(&directory, "d", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                openat(&directory, ".removed-1", flags, Mode::RWXU).unwrap();
            }
            directory = openat(&directory, "d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_deeper_than_any_stack_is_too_much_and_goes() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("link")).unwrap();
        deep(&root, 20_000);
        std::fs::create_dir_all(root.join("closed/below")).unwrap();
        std::fs::set_permissions(root.join("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        assert_eq!(disk_bytes(&root).unwrap(), u64::MAX);
        remove_tree(&root).unwrap();
        assert!(!root.exists() && outside.path().join("kept").exists());
        remove_tree(&root).unwrap();
    }
}
