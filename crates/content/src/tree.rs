//! The files of a package: what they may be, and their encoding. Pure; bytes from outside are decoded totally and within limits.
//!
//! What a tree keeps is what a game can tell: names exactly, contents, holes, whether a file can be executed, links of both kinds, and when
//! a file was changed. Owners and other permissions are the site's business. Device nodes, sockets and pipes have no place in a
//! package, and no link leads out of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkId, MAX_CHUNK_BYTES};
use crate::encoding::encode_onto;
use crate::path::TreePath;

/// Most entries of a tree. More has no game; the check of a tree keeps its directories in memory.
const MAX_ENTRIES: usize = 4_000_000;

/// Longest file in bytes: 16 TiB, as ext4 has it.
const MAX_FILE_BYTES: u64 = 1 << 44;

/// Longest encoded tree in bytes: that of a package of 500 GB, or of 4 million files.
pub(crate) const MAX_TREE_BYTES: usize = 512 << 20;

/// First bytes of an encoded tree: what it is, and the version of its encoding.
const MAGIC: &[u8; 8] = b"kitetre1";

/// A part of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Piece {
    /// The bytes of a chunk.
    Chunk {
        /// Its name.
        id: ChunkId,
        /// Its length in bytes, 1 to [`MAX_CHUNK_BYTES`].
        length: u32,
    },
    /// So many zero bytes that take no place on disk.
    Hole {
        /// In bytes, at least 1.
        length: u64,
    },
}

impl Piece {
    /// Bytes of the file that it is.
    #[must_use]
    pub fn length(self) -> u64 {
        match self {
            Piece::Chunk { length, .. } => u64::from(length),
            Piece::Hole { length } => length,
        }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Whether it can be executed.
        is_executable: bool,
        /// When its bytes were changed, in seconds since 1970.
        modified_s: i64,
        /// Its bytes, in their order.
        pieces: Vec<Piece>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads, as it was written: relative, `..` only at the beginning, and not above the root.
        target: Vec<u8>,
    },
    /// Another name of a file.
    HardLink {
        /// The name of the file, which comes earlier in the tree.
        to: TreePath,
    },
}

/// One name in a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub path: TreePath,
    /// What it names.
    pub kind: EntryKind,
}

/// All names of a package, in the order of their bytes: a directory comes before what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
}

/// Why entries are no tree, or bytes no encoded one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No tree, one of a newer version, or cut off: get it again.
    #[error("these bytes are no tree of a package: {0}")]
    NoTree(&'static str),
    /// More than 4 million names.
    #[error("the package has more than {MAX_ENTRIES} files and directories: pack small files together")]
    TooMany,
    /// Names have to come in the order of their bytes, each once.
    #[error("{0} comes twice or out of order")]
    Order(TreePath),
    /// Its directory is missing, or is none.
    #[error("{0} lies in something that is no directory of the package")]
    NoDirectory(TreePath),
    /// A link out of the package.
    #[error(
        "the link {path} leads to `{target}`, out of the package or by a way that could: make it relative and plain"
    )]
    Escape {
        /// The link.
        path: TreePath,
        /// Where it leads.
        target: String,
    },
    /// A second name of something that is no file before it.
    #[error("{0} is a second name of something that is no file of the package")]
    LinkToNothing(TreePath),
    /// A piece of an impossible length, or a file over 16 TiB.
    #[error("{0} has a part of an impossible length")]
    Length(TreePath),
}

impl Tree {
    /// Checks the entries.
    pub fn new(entries: Vec<Entry>) -> Result<Tree, TreeError> {
        if entries.len() > MAX_ENTRIES {
            return Err(TreeError::TooMany);
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return Err(TreeError::Order(pair[1].path.clone()));
        }
        let (mut directories, mut files) = (HashSet::new(), HashSet::new());
        for Entry { path, kind } in &entries {
            if path.parent().is_some_and(|parent| !directories.contains(&parent)) {
                return Err(TreeError::NoDirectory(path.clone()));
            }
            match kind {
                EntryKind::Directory => {
                    directories.insert(path.clone());
                }
                EntryKind::File { pieces, .. } => {
                    check_pieces(path, pieces)?;
                    files.insert(path);
                }
                EntryKind::Symlink { target } => check_target(path, target)?,
                EntryKind::HardLink { to } if files.contains(to) => {}
                EntryKind::HardLink { .. } => return Err(TreeError::LinkToNothing(path.clone())),
            }
        }
        Ok(Tree { entries })
    }

    /// The entries, each directory before what is in it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files, holes included, each file once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pieces().map(Piece::length).sum()
    }

    /// All parts of all files; a chunk may come many times.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.entries.iter().flat_map(|entry| match &entry.kind {
            EntryKind::File { pieces, .. } => pieces.iter().copied(),
            EntryKind::Directory | EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => [].iter().copied(),
        })
    }

    /// The same bytes for the same tree.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_onto(MAGIC.to_vec(), &self.entries)
    }

    /// Decodes and checks what came from elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Tree, TreeError> {
        let encoded = bytes.strip_prefix(MAGIC).ok_or(TreeError::NoTree("it does not begin as one of this version"))?;
        let (entries, rest) =
            postcard::take_from_bytes(encoded).map_err(|_error| TreeError::NoTree("it is cut off or damaged"))?;
        if !rest.is_empty() {
            return Err(TreeError::NoTree("something follows it"));
        }
        Tree::new(entries)
    }
}

fn check_pieces(path: &TreePath, pieces: &[Piece]) -> Result<(), TreeError> {
    let mut total = 0_u64;
    for piece in pieces {
        let most = match piece {
            Piece::Chunk { .. } => MAX_CHUNK_BYTES as u64,
            Piece::Hole { .. } => MAX_FILE_BYTES,
        };
        if !(1..=most).contains(&piece.length()) {
            return Err(TreeError::Length(path.clone()));
        }
        total += piece.length();
        if total > MAX_FILE_BYTES {
            return Err(TreeError::Length(path.clone()));
        }
    }
    Ok(())
}

fn check_target(path: &TreePath, target: &[u8]) -> Result<(), TreeError> {
    if stays_inside(path.depth(), target) {
        return Ok(());
    }
    Err(TreeError::Escape { path: path.clone(), target: target.escape_ascii().to_string() })
}

/// Whether a link so many directories deep leads to somewhere below the root. Leading `..` leave real directories only, as all
/// directories of a path in a tree are; a later one might leave through a link.
pub(crate) fn stays_inside(depth: usize, target: &[u8]) -> bool {
    let names = || target.split(|&byte| byte == b'/');
    let up = names().take_while(|name| *name == b"..").count();
    let rest = target.get(up * 3..).unwrap_or_default();
    !target.is_empty() && up <= depth && (rest.is_empty() || TreePath::new(rest).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn directory(text: &str) -> Entry {
        Entry { path: path(text), kind: EntryKind::Directory }
    }

    fn file(text: &str, pieces: Vec<Piece>) -> Entry {
        Entry { path: path(text), kind: EntryKind::File { is_executable: false, modified_s: -1, pieces } }
    }

    fn symlink(text: &str, target: &str) -> Entry {
        Entry { path: path(text), kind: EntryKind::Symlink { target: target.into() } }
    }

    fn hard_link(text: &str, to: &str) -> Entry {
        Entry { path: path(text), kind: EntryKind::HardLink { to: path(to) } }
    }

    fn chunk(length: u32) -> Piece {
        Piece::Chunk { id: ChunkId::of(&length.to_le_bytes()), length }
    }

    fn check(entries: Vec<Entry>, expected: Result<(), TreeError>) {
        let made = Tree::new(entries);
        assert_eq!(made.as_ref().map(|_| ()).map_err(Clone::clone), expected);
        if let Ok(tree) = made {
            assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
        }
    }

    #[test]
    fn what_a_tree_may_be() {
        check(vec![], Ok(()));
        let hole = Piece::Hole { length: 1 << 40 };
        let pieces = vec![chunk(1), hole, chunk(262_144)];
        let tree = vec![
            directory("bin"),
            file("bin/game", pieces),
            symlink("bin/up", "../data"),
            directory("data"),
            hard_link("data/game", "bin/game"),
            symlink("data/me", "."),
        ];
        // A link to its own directory is written without a name, or by way of its parent.
        check(tree, Err(TreeError::Escape { path: path("data/me"), target: ".".into() }));
        check(vec![file("A", vec![]), file("a", vec![])], Ok(()));
        check(vec![file("a", vec![]), file("a", vec![])], Err(TreeError::Order(path("a"))));
        check(vec![file("b", vec![]), file("a", vec![])], Err(TreeError::Order(path("a"))));
        check(vec![file("a/b", vec![])], Err(TreeError::NoDirectory(path("a/b"))));
        check(vec![symlink("a", "b"), file("a/b", vec![])], Err(TreeError::NoDirectory(path("a/b"))));
        check(vec![file("a", vec![]), hard_link("b", "a")], Ok(()));
        check(vec![hard_link("a", "b"), file("b", vec![])], Err(TreeError::LinkToNothing(path("a"))));
        check(vec![directory("a"), hard_link("b", "a")], Err(TreeError::LinkToNothing(path("b"))));
        for piece in [chunk(0), chunk(262_145), Piece::Hole { length: 0 }, Piece::Hole { length: u64::MAX }] {
            check(vec![file("a", vec![piece])], Err(TreeError::Length(path("a"))));
        }
        check(vec![file("a", vec![Piece::Hole { length: 1 << 44 }, chunk(1)])], Err(TreeError::Length(path("a"))));
    }

    #[test]
    fn links_stay_inside() {
        let check_link = |target: &str, is_inside: bool| {
            let entries = vec![directory("a"), directory("a/b"), symlink("a/b/link", target)];
            assert_eq!(Tree::new(entries).is_ok(), is_inside, "{target}");
        };
        for inside in ["x", "x/y", "..", "../x", "../..", "../../a/b", "dangling"] {
            check_link(inside, true);
        }
        for outside in
            ["", "/", "/etc/passwd", "../../..", "../../../x", "x/../../..", "x/..", "./x", "x//y", "..x/../..", "a\0"]
        {
            check_link(outside, false);
        }
    }

    #[test]
    fn other_bytes_are_no_tree() {
        let bytes = Tree::new(vec![directory("a"), file("a/b", vec![chunk(9)])]).unwrap().encode();
        for end in 0..bytes.len() {
            assert!(matches!(Tree::decode(&bytes[..end]), Err(TreeError::NoTree(_))), "{end}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Tree::decode(&longer), Err(TreeError::NoTree("something follows it")));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_tree_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let whole = [&MAGIC[..], &bytes].concat();
            if let Ok(tree) = Tree::decode(&whole) {
                prop_assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
            }
        }
    }
}
