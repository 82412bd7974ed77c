//! What packages are made of: chunks that are cut where the content says so, and trees of files that point to them.
//!
//! | room | what |
//! |---|---|
//! | `chunk` | cuts bytes into chunks and names them by their hash (pure) |
//! | `stored` | how a chunk's bytes are kept and sent: compressed where that makes them shorter (pure) |
//! | `pack` | many chunks in one object, compressed (pure) |
//! | `signature` | what one has to know of old chunks to find parts of new ones in them (pure) |
//! | `patch` | a new chunk as parts of old ones and bytes of its own, for the way only (pure) |
//! | `parcel` | many chunks in one request, whole or as patches (pure) |
//! | `encoding` | how trees and indexes become bytes (pure) |
//! | `path` | names of files inside a package (pure) |
//! | `tree` | the files of a package: what they may be, their encoding (pure) |
//! | `scan` | a directory on disk -> a tree and its chunks |
//! | `restore` | a tree and its chunks -> a directory on disk |
//!
//! Deliberately absent: where chunks are kept, sessions, tenants.

mod chunk;
mod encoding;
mod pack;
mod parcel;
mod patch;
mod path;
mod restore;
mod scan;
mod signature;
mod stored;
mod tree;

pub use chunk::{Chunk, ChunkId, Cutter, MAX_CHUNK_BYTES};
pub use pack::{MAX_PACK_BYTES, Pack, PackError, PackId, Packer, Place};
pub use parcel::{Body, Item, MAX_PARCEL_BYTES, Parcel, ParcelBuilder, ParcelError};
pub use patch::{MAX_PATCH_BYTES, Patch, PatchError};
pub use path::{PathError, TreePath};
pub use restore::{RestoreError, restore};
pub use scan::{ScanError, scan};
pub use signature::{Fineness, Signature, SignatureError, Sources};
pub use stored::{Compressor, Damaged, unpack};
pub use tree::{Entry, EntryKind, Piece, Tree, TreeError};
