//! Writes chunks to where they belong in a copy, in any order and from several threads, and finishes the copy: lengths, rights, times, links.
//!
//! All ways lead through the copy's own directory by descriptor and through no link.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, chmodat, linkat, mkdirat, openat, openat2, readlinkat,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::VolumeError;
use super::plan::{Plan, Target};
use crate::path::TreePath;
use crate::scan::INSIDE;
use crate::tree::{Entry, EntryKind, Piece, Tree};

/// Files that one writer keeps open. Chunks come mostly in the order of the files.
const OPEN_FILES: usize = 16;

/// A copy's directory.
#[derive(Debug)]
pub(super) struct Files {
    root: OwnedFd,
}

fn failed(path: &TreePath) -> impl Fn(Errno) -> VolumeError {
    move |errno| VolumeError::disk(path)(errno.into())
}

impl Files {
    pub(super) fn open(dir: &Path) -> Result<Files, VolumeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, dir, flags, Mode::empty());
        Ok(Files { root: root.map_err(|errno| VolumeError::disk(&dir.display())(errno.into()))? })
    }

    /// Everything that was written, to the disk.
    pub(super) fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Makes the directories; what is in the way and is none is removed.
    pub(super) fn make_directories(&self, tree: &Tree) -> Result<(), VolumeError> {
        for Entry { path, kind } in tree.entries() {
            if *kind == EntryKind::Directory {
                self.clear_unless(path, FileType::Directory)?;
                match mkdirat(&self.root, path.as_path(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(path)(errno)),
                }
                // Whatever this process' mask is.
                chmodat(&self.root, path.as_path(), Mode::from_raw_mode(0o755), AtFlags::empty())
                    .map_err(failed(path))?;
            }
        }
        Ok(())
    }

    /// Removes what is there under this name when it is of another kind.
    fn clear_unless(&self, path: &TreePath, kind: FileType) -> Result<(), VolumeError> {
        let found = match statat(&self.root, path.as_path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(path)(errno)),
        };
        if found == kind {
            return Ok(());
        }
        let flags = if found == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&self.root, path.as_path(), flags).map_err(failed(path))
    }

    /// For reading; `None` when it is no plain file.
    pub(super) fn read(&self, path: &TreePath) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat2(&self.root, path.as_path(), flags, Mode::empty(), INSIDE).ok()?);
        file.metadata().is_ok_and(|stat| stat.is_file()).then_some(file)
    }

    fn create(&self, path: &TreePath) -> Result<File, VolumeError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat2(&self.root, path.as_path(), flags, Mode::from_raw_mode(0o644), INSIDE) {
            Ok(fd) => Ok(File::from(fd)),
            // Something else is in the way.
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                self.clear_unless(path, FileType::RegularFile)?;
                let fd = openat2(&self.root, path.as_path(), flags, Mode::from_raw_mode(0o644), INSIDE);
                Ok(File::from(fd.map_err(failed(path))?))
            }
            Err(errno) => Err(failed(path)(errno)),
        }
    }

    /// True when the entry is there as it has to be, but for a file's bytes.
    pub(super) fn is_as(&self, entry: &Entry) -> bool {
        let Ok(stat) = statat(&self.root, entry.path.as_path(), AtFlags::SYMLINK_NOFOLLOW) else { return false };
        match (&entry.kind, FileType::from_raw_mode(stat.st_mode)) {
            (EntryKind::Directory, FileType::Directory) => true,
            (EntryKind::File { is_executable, pieces, .. }, FileType::RegularFile) => {
                let length: u64 = pieces.iter().map(|piece| piece.length()).sum();
                u64::try_from(stat.st_size) == Ok(length) && (stat.st_mode & 0o111 != 0) == *is_executable
            }
            (EntryKind::Symlink { target }, FileType::Symlink) => {
                readlinkat(&self.root, entry.path.as_path(), Vec::new()).is_ok_and(|found| found.as_bytes() == target)
            }
            (EntryKind::HardLink { to }, FileType::RegularFile) => {
                let other = statat(&self.root, to.as_path(), AtFlags::SYMLINK_NOFOLLOW);
                other.is_ok_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino))
            }
            _ => false,
        }
    }

    /// Files as they have to be, when all chunks are written: links, lengths, rights, times.
    pub(super) fn finish(&self, tree: &Tree, plan: &Plan) -> Result<(), VolumeError> {
        for (entry, index) in tree.entries().iter().zip(0_u32..) {
            match &entry.kind {
                EntryKind::Directory => {}
                EntryKind::File { is_executable, modified_s, pieces } => match plan.linked.get(&index) {
                    Some(elder) => self.link_file(&entry.path, elder)?,
                    None => self.finish_file(&entry.path, *is_executable, *modified_s, pieces)?,
                },
                EntryKind::Symlink { target } => {
                    if !self.is_as(entry) {
                        self.clear_unless(&entry.path, FileType::Unknown)?;
                        symlinkat(target.as_slice(), &self.root, entry.path.as_path()).map_err(failed(&entry.path))?;
                    }
                }
                EntryKind::HardLink { to } => {
                    if !self.is_as(entry) {
                        self.clear_unless(&entry.path, FileType::Unknown)?;
                        linkat(&self.root, to.as_path(), &self.root, entry.path.as_path(), AtFlags::empty())
                            .map_err(failed(&entry.path))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The same file as an elder release's, or a copy where the file system has no more links.
    fn link_file(&self, path: &TreePath, elder: &Path) -> Result<(), VolumeError> {
        self.clear_unless(path, FileType::Unknown)?;
        match linkat(CWD, elder, &self.root, path.as_path(), AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM) => {
                let copied = File::open(elder).and_then(|mut from| {
                    let mut to = self.create(path).map_err(io::Error::other)?;
                    io::copy(&mut from, &mut to)?;
                    to.set_permissions(from.metadata()?.permissions())
                });
                copied.map_err(VolumeError::disk(path))
            }
            Err(errno) => Err(failed(path)(errno)),
        }
    }

    fn finish_file(
        &self,
        path: &TreePath,
        is_executable: bool,
        modified_s: i64,
        pieces: &[Piece],
    ) -> Result<(), VolumeError> {
        let length: u64 = pieces.iter().map(|piece| piece.length()).sum();
        let found = statat(&self.root, path.as_path(), AtFlags::SYMLINK_NOFOLLOW).ok();
        let found = found.filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        // Empty files have no chunk that would make them, a hole at the end has none that would make the file so long.
        if found.is_none_or(|stat| u64::try_from(stat.st_size) != Ok(length)) {
            self.create(path)?.set_len(length).map_err(VolumeError::disk(path))?;
        }
        let mode = if is_executable { 0o755 } else { 0o644 };
        if found.is_none_or(|stat| stat.st_mode & 0o7777 != mode) {
            chmodat(&self.root, path.as_path(), Mode::from_raw_mode(mode), AtFlags::empty()).map_err(failed(path))?;
        }
        let time = Timespec { tv_sec: modified_s, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(&self.root, path.as_path(), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(path))
    }

    /// Removes what the tree does not have, below each of its directories.
    pub(super) fn remove_strangers(&self, tree: &Tree) -> Result<u64, VolumeError> {
        let known: std::collections::HashSet<&[u8]> =
            tree.entries().iter().map(|entry| entry.path.as_bytes()).collect();
        let directories = tree.entries().iter().filter(|entry| entry.kind == EntryKind::Directory);
        let mut removed = 0;
        for directory in std::iter::once(None).chain(directories.map(|entry| Some(&entry.path))) {
            let shown = || directory.map_or_else(|| ".".to_owned(), TreePath::to_string);
            let at = directory.map_or(Path::new("."), |path| path.as_path());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let error = |errno: Errno| VolumeError::disk(&shown())(errno.into());
            let open = openat2(&self.root, at, flags, Mode::empty(), INSIDE).map_err(error)?;
            let names: Result<Vec<_>, Errno> = rustix::fs::Dir::read_from(&open).map_err(error)?.collect();
            for name in names.map_err(error)? {
                let name = name.file_name().to_bytes().to_vec();
                let path = TreePath::join(directory, &name);
                if matches!(&name[..], b"." | b"..") || path.is_ok_and(|path| known.contains(path.as_bytes())) {
                    continue;
                }
                removed += 1;
                remove_any(&open, &name).map_err(VolumeError::disk(&shown()))?;
            }
        }
        Ok(removed)
    }
}

fn remove_any(directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::ISDIR) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = openat(directory, name, flags, Mode::empty())?;
            let names: Vec<_> = rustix::fs::Dir::read_from(&inner)?.collect::<Result<_, _>>()?;
            for entry in names {
                let entry = entry.file_name().to_bytes();
                if !matches!(entry, b"." | b"..") {
                    remove_any(&inner, entry)?;
                }
            }
            Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Writes chunks; one a thread.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    files: &'a Files,
    tree: &'a Tree,
    plan: &'a Plan,
    open: HashMap<u32, File>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(files: &'a Files, tree: &'a Tree, plan: &'a Plan) -> Writer<'a> {
        Writer { files, tree, plan, open: HashMap::new() }
    }

    /// Writes a chunk everywhere it belongs; how many bytes that were.
    pub(super) fn write(&mut self, id: crate::chunk::ChunkId, bytes: &[u8]) -> Result<u64, VolumeError> {
        let plan = self.plan;
        let mut written = 0;
        for Target { entry, offset, .. } in plan.targets(id) {
            let path = &self.tree.entries()[*entry as usize].path;
            if !self.open.contains_key(entry) {
                if self.open.len() >= OPEN_FILES {
                    self.open.clear();
                }
                self.open.insert(*entry, self.files.create(path)?);
            }
            if let Some(file) = self.open.get(entry) {
                file.write_all_at(bytes, *offset).map_err(VolumeError::disk(path))?;
            }
            written += bytes.len() as u64;
        }
        Ok(written)
    }
}

/// True when the two are one file.
#[cfg(test)]
pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}
