//! Reads a directory on disk: refuses what has no place in a package, cuts the files, keeps holes and both kinds of links.
//!
//! No link is followed while walking, so that nothing outside of the directory is read, whoever changes it meanwhile. A file that changes
//! while it is read ends the scan with an error instead of half of each.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, fstat, openat, openat2, readlinkat, seek,
    statat,
};
use rustix::io::Errno;

use crate::chunk::{Chunk, ChunkId, Cutter};
use crate::path::{PathError, TreePath};
use crate::tree::{Entry, EntryKind, Piece, Tree, TreeError};

/// Ways that stay below the directory they begin in, and through no link.
pub(crate) const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Set-user-id and set-group-id.
pub(crate) const PRIVILEGE_BITS: u32 = 0o6000;

/// Why a directory is no package. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// What was read.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Too long or too deep.
    #[error("a name in {directory}")]
    Path {
        /// Where it lies.
        directory: String,
        /// Why not.
        #[source]
        source: PathError,
    },
    /// A device node, a socket or a pipe.
    #[error("{path} is {what}, which has no place in a package: leave it out")]
    Special {
        /// The name.
        path: TreePath,
        /// What it is.
        what: &'static str,
    },
    /// A file that would run as somebody else.
    #[error("{path} has a set-user-id or set-group-id bit: take it away (chmod ug-s)")]
    Privileged {
        /// The name.
        path: TreePath,
    },
    /// Written while it was read.
    #[error("{path} changed while it was read: push a directory that nothing writes to")]
    Changed {
        /// The name.
        path: TreePath,
    },
    /// Links that lead out, or too many files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Whoever takes the chunks failed.
    #[error("a part of {path} could not be kept")]
    Keep {
        /// The file that it is from.
        path: TreePath,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a walk found.
struct Found {
    path: TreePath,
    stat: Stat,
}

/// Reads the directory; every chunk is given to `keep`, in the order of the tree, also those that came before.
pub fn scan(root: &Path, keep: &mut dyn FnMut(Chunk) -> io::Result<()>) -> Result<Tree, ScanError> {
    let root_fd = open_root(root)?;
    let mut found = Vec::new();
    walk(&root_fd, None, &mut found)?;
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));

    let mut names: HashMap<(u64, u64), TreePath> = HashMap::new();
    let mut entries = Vec::with_capacity(found.len());
    for Found { path, stat } in found {
        let inode = (stat.st_dev, stat.st_ino);
        let kind = match (FileType::from_raw_mode(stat.st_mode), names.get(&inode)) {
            (FileType::Directory, _) => EntryKind::Directory,
            (FileType::Symlink, _) => EntryKind::Symlink { target: read_link(&root_fd, &path)? },
            (_, Some(first)) => EntryKind::HardLink { to: first.clone() },
            (_, None) => {
                if stat.st_nlink > 1 {
                    names.insert(inode, path.clone());
                }
                read_file(&root_fd, &path, &stat, keep)?
            }
        };
        entries.push(Entry { path, kind });
    }
    Ok(Tree::new(entries)?)
}

fn open_root(root: &Path) -> Result<OwnedFd, ScanError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty()).map_err(|errno| read_error(&root.display(), errno))
}

fn read_error(path: &dyn std::fmt::Display, errno: Errno) -> ScanError {
    ScanError::Read { path: path.to_string(), source: errno.into() }
}

/// Finds everything below a directory that is open. As deep as a [`TreePath`] at most, and so are the open directories.
fn walk(directory: &OwnedFd, at: Option<&TreePath>, found: &mut Vec<Found>) -> Result<(), ScanError> {
    let shown = || at.map_or_else(|| "the package".to_owned(), TreePath::to_string);
    let names = Dir::read_from(directory).map_err(|errno| read_error(&shown(), errno))?;
    for name in names {
        let name = name.map_err(|errno| read_error(&shown(), errno))?;
        let name = name.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let path =
            TreePath::join(at, name.to_bytes()).map_err(|source| ScanError::Path { directory: shown(), source })?;
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| read_error(&path, errno))?;
        check_kind(&path, &stat)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = openat(directory, name, flags, Mode::empty()).map_err(|errno| read_error(&path, errno))?;
            walk(&inner, Some(&path), found)?;
        }
        found.push(Found { path, stat });
    }
    Ok(())
}

fn check_kind(path: &TreePath, stat: &Stat) -> Result<(), ScanError> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_mode & PRIVILEGE_BITS != 0 => {
            return Err(ScanError::Privileged { path: path.clone() });
        }
        FileType::RegularFile | FileType::Directory | FileType::Symlink => return Ok(()),
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device node",
        FileType::Unknown => "of a kind that is not known",
    };
    Err(ScanError::Special { path: path.clone(), what })
}

fn read_link(root: &OwnedFd, path: &TreePath) -> Result<Vec<u8>, ScanError> {
    let target = readlinkat(root, path.as_path(), Vec::new()).map_err(|errno| read_error(path, errno))?;
    Ok(target.into_bytes())
}

fn read_file(
    root: &OwnedFd,
    path: &TreePath,
    seen: &Stat,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
) -> Result<EntryKind, ScanError> {
    let mut file = open_inside(root, path.as_path()).map_err(|errno| read_error(path, errno))?;
    check_unchanged(&file, path, seen)?;
    let length = u64::try_from(seen.st_size).unwrap_or(0);
    let pieces = read_pieces(&mut file, length, keep).map_err(|failure| match failure {
        PiecesError::Read(source) => ScanError::Read { path: path.to_string(), source },
        PiecesError::Keep(source) => ScanError::Keep { path: path.clone(), source },
    })?;
    check_unchanged(&file, path, seen)?;
    if pieces.iter().map(|piece| piece.length()).sum::<u64>() != length {
        return Err(ScanError::Changed { path: path.clone() });
    }
    let is_executable = seen.st_mode & 0o111 != 0;
    Ok(EntryKind::File { is_executable, modified_s: seen.st_mtime, pieces })
}

/// Opens what should be a file, through no link. Whoever asks looks whether it is one.
pub(crate) fn open_inside(root: impl AsFd, path: &Path) -> Result<File, Errno> {
    // Non-blocking, should it have become a pipe meanwhile.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), INSIDE).map(File::from)
}

/// Reads chunks of the tree again that `is_wanted`, which is asked for each place of each chunk, and gives them to `keep`.
pub(crate) fn scan_parts(
    root: &Path,
    tree: &Tree,
    is_wanted: &mut dyn FnMut(ChunkId) -> bool,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
) -> Result<(), ScanError> {
    let root_fd = open_root(root)?;
    for Entry { path, kind } in tree.entries() {
        let EntryKind::File { pieces, .. } = kind else { continue };
        let mut open = None;
        let mut offset = 0;
        for piece in pieces {
            let at = offset;
            offset += piece.length();
            let Piece::Chunk { id, length } = *piece else { continue };
            if !is_wanted(id) {
                continue;
            }
            let file = match open.take() {
                Some(file) => file,
                None => open_inside(&root_fd, path.as_path()).map_err(|errno| read_error(path, errno))?,
            };
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, at).map_err(|_shorter| ScanError::Changed { path: path.clone() })?;
            open = Some(file);
            let chunk = Chunk::new(bytes);
            if chunk.id != id {
                return Err(ScanError::Changed { path: path.clone() });
            }
            keep(chunk).map_err(|source| ScanError::Keep { path: path.clone(), source })?;
        }
    }
    Ok(())
}

fn check_unchanged(file: &File, path: &TreePath, seen: &Stat) -> Result<(), ScanError> {
    let now = fstat(file).map_err(|errno| read_error(path, errno))?;
    if is_unchanged(&now, seen) { Ok(()) } else { Err(ScanError::Changed { path: path.clone() }) }
}

/// Whether nothing was written between the two. The time of the last change of the inode is not asked: it changes also when one of the
/// file's names goes.
pub(crate) fn is_unchanged(now: &Stat, seen: &Stat) -> bool {
    let what = |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    what(now) == what(seen)
}

/// Who failed while a file was cut.
pub(crate) enum PiecesError {
    /// The file cannot be read.
    Read(io::Error),
    /// Whoever takes the chunks.
    Keep(io::Error),
}

/// Cuts the first `length` bytes. What comes back is shorter when the file became shorter.
pub(crate) fn read_pieces(
    file: &mut File,
    length: u64,
    keep: &mut dyn FnMut(Chunk) -> io::Result<()>,
) -> Result<Vec<Piece>, PiecesError> {
    let mut pieces = Vec::new();
    for (is_data, part) in parts(&*file, length).map_err(|errno| PiecesError::Read(errno.into()))? {
        if !is_data {
            pieces.push(Piece::Hole { length: part.end - part.start });
            continue;
        }
        file.seek(io::SeekFrom::Start(part.start)).map_err(PiecesError::Read)?;
        let length = part.end - part.start;
        for chunk in Cutter::new((&mut *file).take(length), length) {
            let chunk = chunk.map_err(PiecesError::Read)?;
            let length = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            pieces.push(Piece::Chunk { id: chunk.id, length });
            keep(chunk).map_err(PiecesError::Keep)?;
        }
    }
    Ok(pieces)
}

/// The file's bytes as ranges of data and of holes.
fn parts(file: impl AsFd, length: u64) -> Result<Vec<(bool, std::ops::Range<u64>)>, Errno> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < length {
        let data = match seek(&file, SeekFrom::Data(at)) {
            Ok(data) => data.min(length),
            // Only a hole is left.
            Err(Errno::NXIO) => length,
            Err(error) => return Err(error),
        };
        if data > at {
            parts.push((false, at..data));
        }
        if data < length {
            let end = seek(&file, SeekFrom::Hole(data))?.min(length);
            parts.push((true, data..end.max(data + 1)));
            at = end.max(data + 1);
        } else {
            at = length;
        }
    }
    Ok(parts)
}
