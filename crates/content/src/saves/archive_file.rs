//! A save as a file that a player takes along or brings: tar, with the top directories `home` and `base`. What is brought is read totally and
//! within a save's limits.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};

use super::{Limits, SaveContent};
use crate::chunk::{Chunk, Cutter};
use crate::path::{PathError, TreePath};
use crate::tree::{Entry, EntryKind, Piece, Tree, TreeError};

/// Why bytes are no archive of a save.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFileError {
    /// Not tar, or cut off.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
    /// A name that has no place in a save.
    #[error("`{name}` has no place in a save")]
    Path {
        /// As the archive has it.
        name: String,
        /// Why not.
        #[source]
        source: PathError,
    },
    /// Neither `home` nor `base`.
    #[error("{0} lies neither in `home` nor in `base`")]
    Place(TreePath),
    /// A device node or the like.
    #[error("{0} is neither a file nor a directory nor a link")]
    Kind(TreePath),
    /// Over a limit.
    #[error("the save has more than {limit} {what}")]
    Quota {
        /// `bytes` or `files`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Links that lead out, or the like.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl SaveContent {
    /// As tar.
    pub fn to_tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for Entry { path, kind } in self.tree.entries() {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            match kind {
                EntryKind::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    archive.append_data(&mut header, path.as_path(), io::empty())?;
                }
                EntryKind::File { is_executable, modified_s, pieces } => {
                    let bytes = self.bytes(pieces);
                    header.set_size(bytes.len() as u64);
                    header.set_mtime(u64::try_from(*modified_s).unwrap_or(0));
                    header.set_mode(if *is_executable { 0o755 } else { 0o644 });
                    archive.append_data(&mut header, path.as_path(), &bytes[..])?;
                }
                EntryKind::Symlink { target } => {
                    use std::os::unix::ffi::OsStrExt as _;
                    header.set_entry_type(tar::EntryType::Symlink);
                    let target = std::ffi::OsStr::from_bytes(target);
                    archive.append_link(&mut header, path.as_path(), target)?;
                }
                EntryKind::HardLink { to } => {
                    header.set_entry_type(tar::EntryType::Link);
                    archive.append_link(&mut header, path.as_path(), to.as_path())?;
                }
            }
        }
        archive.into_inner()
    }

    fn bytes(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Chunk { id, .. } => bytes.extend_from_slice(self.chunks.get(id).map_or(&[][..], |bytes| bytes)),
                Piece::Hole { length } => bytes.resize(bytes.len() + *length as usize, 0),
            }
        }
        bytes
    }

    /// Reads what a player brings.
    pub fn of_tar(bytes: &[u8], limits: Limits) -> Result<SaveContent, ArchiveFileError> {
        let mut archive = tar::Archive::new(bytes);
        let mut entries: BTreeMap<TreePath, EntryKind> = BTreeMap::new();
        let mut chunks = HashMap::new();
        let mut total = 0;
        for entry in archive.entries()? {
            let entry = entry?;
            let path = inside(&entry.path_bytes())?;
            add_parents(&mut entries, &path);
            let header = entry.header();
            let kind = match header.entry_type() {
                tar::EntryType::Directory => EntryKind::Directory,
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    total += entry.size();
                    if total > limits.bytes {
                        return Err(ArchiveFileError::Quota { what: "bytes", limit: limits.bytes });
                    }
                    let is_executable = header.mode()? & 0o111 != 0;
                    let modified_s = i64::try_from(header.mtime()?).unwrap_or(0);
                    let size = entry.size();
                    let mut pieces = Vec::new();
                    for chunk in Cutter::new(entry.take(size), size) {
                        let Chunk { id, bytes } = chunk?;
                        pieces.push(Piece::Chunk { id, length: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
                        chunks.insert(id, bytes);
                    }
                    EntryKind::File { is_executable, modified_s, pieces }
                }
                tar::EntryType::Symlink => {
                    EntryKind::Symlink { target: entry.link_name_bytes().unwrap_or_default().into_owned() }
                }
                tar::EntryType::Link => {
                    EntryKind::HardLink { to: inside(&entry.link_name_bytes().unwrap_or_default())? }
                }
                _ => return Err(ArchiveFileError::Kind(path)),
            };
            entries.insert(path, kind);
            if entries.len() as u64 > limits.files.saturating_add(2) {
                return Err(ArchiveFileError::Quota { what: "files", limit: limits.files });
            }
        }
        let entries = entries.into_iter().map(|(path, kind)| Entry { path, kind }).collect();
        Ok(SaveContent { tree: Tree::new(entries)?, chunks })
    }
}

/// A name of the archive; a directory's may end with a slash, and all may begin with `./`.
fn inside(name: &[u8]) -> Result<TreePath, ArchiveFileError> {
    let plain = name.strip_prefix(b"./").unwrap_or(name);
    let plain = plain.strip_suffix(b"/").unwrap_or(plain);
    let path = TreePath::new(plain)
        .map_err(|source| ArchiveFileError::Path { name: name.escape_ascii().to_string(), source })?;
    match path.as_bytes().split(|byte| *byte == b'/').next() {
        Some(b"home" | b"base") => Ok(path),
        _ => Err(ArchiveFileError::Place(path)),
    }
}

fn add_parents(entries: &mut BTreeMap<TreePath, EntryKind>, path: &TreePath) {
    let mut parent = path.parent();
    while let Some(directory) = parent {
        parent = directory.parent();
        entries.entry(directory).or_insert(EntryKind::Directory);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> SaveContent {
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        let chunk = Chunk::new(b"level 3".to_vec());
        let pieces = vec![Piece::Chunk { id: chunk.id, length: 7 }, Piece::Hole { length: 5 }];
        let file = EntryKind::File { is_executable: true, modified_s: 77, pieces };
        let entries = vec![
            Entry { path: path("home"), kind: EntryKind::Directory },
            Entry { path: path("home/a"), kind: file },
            Entry { path: path("home/b"), kind: EntryKind::HardLink { to: path("home/a") } },
            Entry { path: path("home/c"), kind: EntryKind::Symlink { target: b"a".to_vec() } },
        ];
        SaveContent { tree: Tree::new(entries).unwrap(), chunks: HashMap::from([(chunk.id, chunk.bytes)]) }
    }

    #[test]
    fn a_save_is_taken_along_and_brought_back() {
        let read = SaveContent::of_tar(&content().to_tar().unwrap(), Limits::default()).unwrap();
        assert_eq!(read.tree.entries().len(), 4);
        let EntryKind::File { pieces, is_executable: true, modified_s: 77 } = &read.tree.entries()[1].kind else {
            panic!("{:?}", read.tree)
        };
        assert_eq!(read.bytes(pieces), b"level 3\0\0\0\0\0");
        let few = Limits { bytes: 11, files: 100 };
        assert!(matches!(SaveContent::of_tar(&content().to_tar().unwrap(), few), Err(ArchiveFileError::Quota { .. })));
    }

    #[test]
    fn what_leads_out_is_refused() {
        for name in ["etc/passwd", "home/../../etc", "/etc/passwd", "home//x"] {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append(&header, io::empty()).unwrap();
            assert!(SaveContent::of_tar(&archive.into_inner().unwrap(), Limits::default()).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_save_or_an_error(flips in prop::collection::vec((0..10_240_usize, any::<u8>()), 1..20)) {
            let mut bytes = content().to_tar().unwrap();
            for (at, byte) in flips {
                let length = bytes.len();
                bytes[at % length] ^= byte;
            }
            let _either = SaveContent::of_tar(&bytes, Limits::default());
        }
    }
}
