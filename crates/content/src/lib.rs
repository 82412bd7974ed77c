//! What packages are made of: chunks that are cut where the content says so, and trees of files that point to them.
//!
//! | room | what |
//! |---|---|
//! | `chunk` | cuts bytes into chunks and names them by their hash (pure) |
//! | `pack` | many chunks in one object, compressed (pure) |
//! | `encoding` | how trees and indexes become bytes (pure) |
//! | `path` | names of files inside a package (pure) |
//! | `tree` | the files of a package: what they may be, their encoding (pure) |
//! | `scan` | a directory on disk -> a tree and its chunks |
//! | `restore` | a tree and its chunks -> a directory on disk |
//! | `saves` | which files are a player's save; a running game's directories -> a tree, and back |
//!
//! Deliberately absent: where chunks are kept, sessions, tenants.

mod chunk;
mod encoding;
mod pack;
mod path;
mod restore;
pub mod saves;
mod scan;
mod tree;

pub use chunk::{Chunk, ChunkId, Cutter, MAX_CHUNK_BYTES};
pub use pack::{MAX_PACK_BYTES, Pack, PackError, PackId, Packer, Place};
pub use path::{PathError, TreePath};
pub use restore::{RestoreError, restore};
pub use scan::{ScanError, scan};
pub use tree::{Entry, EntryKind, Piece, Tree, TreeError};
