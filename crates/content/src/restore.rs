//! Writes a tree into an empty directory. Every chunk's hash is checked; nothing outside of the directory is touched, whatever the tree says.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chmodat, fchmod, linkat, mkdirat, openat, openat2, symlinkat};
use rustix::io::Errno;

use crate::chunk::ChunkId;
use crate::path::TreePath;
use crate::scan::INSIDE;
use crate::tree::{Entry, EntryKind, Piece, Tree};

/// Why a tree was not written.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The disk said no: full, read-only, or something was there already.
    #[error("{path} cannot be written")]
    Write {
        /// What was written.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A chunk could not be had.
    #[error("chunk {id} of {path} cannot be read")]
    Chunk {
        /// The file that it belongs to.
        path: TreePath,
        /// The chunk.
        id: ChunkId,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A chunk's bytes are not what its name says: it has to be fetched again.
    #[error("chunk {id} of {path} is damaged")]
    Damaged {
        /// The file that it belongs to.
        path: TreePath,
        /// The chunk.
        id: ChunkId,
    },
    /// A tree of something else than a save, or of one that would reach out of where saves lie: take another version.
    #[error("{path} has no place in a save: {reason}")]
    NotASave {
        /// The name.
        path: TreePath,
        /// Why it is none.
        reason: &'static str,
    },
}

/// Where chunks come from.
pub(crate) type Fetch<'a> = dyn FnMut(ChunkId) -> io::Result<Vec<u8>> + 'a;

/// Writes the tree into the directory, which exists and is empty. What was written before an error stays.
pub fn restore(tree: &Tree, root: &Path, fetch: &mut Fetch<'_>) -> Result<(), RestoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, root, flags, Mode::empty());
    let root =
        opened.map_err(|errno| RestoreError::Write { path: root.display().to_string(), source: errno.into() })?;
    for Entry { path, kind } in tree.entries() {
        match kind {
            EntryKind::Directory => make_directory(&root, path).map_err(failed(path))?,
            EntryKind::File { is_executable, modified_s, pieces } => {
                let mut file = create(&root, path, *is_executable).map_err(failed(path))?;
                write_pieces(&mut file, path, pieces, fetch)?;
                file.set_modified(time(*modified_s)).map_err(|source| write_error(path, source))?;
            }
            EntryKind::Symlink { target } => {
                symlinkat(target.as_slice(), &root, path.as_path()).map_err(failed(path))?
            }
            EntryKind::HardLink { to } => {
                linkat(&root, to.as_path(), &root, path.as_path(), AtFlags::empty()).map_err(failed(path))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn write_error(path: &TreePath, source: io::Error) -> RestoreError {
    RestoreError::Write { path: path.to_string(), source }
}

pub(crate) fn failed(path: &TreePath) -> impl Fn(Errno) -> RestoreError {
    move |errno| write_error(path, errno.into())
}

fn make_directory(root: &OwnedFd, path: &TreePath) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(root, path.as_path(), mode)?;
    // Whatever this process' mask is. No link is in the way: the tree's directories are those that were just made.
    chmodat(root, path.as_path(), mode, AtFlags::empty())
}

fn create(root: &OwnedFd, path: &TreePath, is_executable: bool) -> Result<File, Errno> {
    let mode = Mode::from_raw_mode(if is_executable { 0o755 } else { 0o644 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(root, path.as_path(), flags, mode, INSIDE)?;
    fchmod(&file, mode)?;
    Ok(File::from(file))
}

/// Writes the parts of a file that is empty.
pub(crate) fn write_pieces(
    file: &mut File,
    path: &TreePath,
    pieces: &[Piece],
    fetch: &mut Fetch<'_>,
) -> Result<(), RestoreError> {
    let mut length = 0;
    for piece in pieces {
        if let Piece::Chunk { id, length: expected } = *piece {
            let bytes = fetch(id).map_err(|source| RestoreError::Chunk { path: path.clone(), id, source })?;
            if bytes.len() as u64 != u64::from(expected) || ChunkId::of(&bytes) != id {
                return Err(RestoreError::Damaged { path: path.clone(), id });
            }
            let written = file.seek(io::SeekFrom::Start(length)).and_then(|_| file.write_all(&bytes));
            written.map_err(|source| write_error(path, source))?;
        }
        length += piece.length();
    }
    // A hole at the end has no bytes that would make the file so long.
    file.set_len(length).map_err(|source| write_error(path, source))
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}
