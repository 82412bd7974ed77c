//! What packages are made of: chunks that are cut where the content says so, and trees of files that point to them.
//!
//! | room | what |
//! |---|---|
//! | `chunk` | cuts bytes into chunks and names them by their hash (pure) |
//! | `id` | names of objects (pure) |
//! | `stored` | how a chunk's bytes are kept and sent: compressed where that makes them shorter (pure) |
//! | `pack` | many chunks in one object, compressed (pure) |
//! | `signature` | what one has to know of old chunks to find parts of new ones in them (pure) |
//! | `patch` | a new chunk as parts of old ones and bytes of its own, for the way only (pure) |
//! | `parcel` | many chunks in one request, whole or as patches (pure) |
//! | `encoding` | how trees and indexes become bytes (pure) |
//! | `path` | names of files inside a package (pure) |
//! | `tree` | the files of a package: what they may be, their encoding (pure) |
//! | `root` | a tree and the packs in which its chunks lie (pure) |
//! | `seal` | encryption of saves (pure) |
//! | `store` | where objects are kept: a directory or a bucket |
//! | `collect` | removes objects that nothing needs |
//! | `compact` | packs of which little is needed, and chunks that lie in many packs |
//! | `inspect` | whether all is there that is needed, and how much it is |
//! | `scan` | a directory on disk -> a tree and its chunks |
//! | `volume` | a site's read-only copies: fetched, verified, evicted |
//! | `transfer` | a developer's directory -> the store, with as few bytes as can be |
//! | `restore` | a tree and its chunks -> a directory on disk |
//! | `saves` | which files are a player's save; a running game's directories -> a tree, and back |
//!
//! Deliberately absent: sessions, tenants, databases, HTTP.

pub mod buffers;
mod chunk;
mod collect;
mod compact;
mod encoding;
mod id;
mod inspect;
mod pack;
mod parcel;
mod patch;
mod path;
mod restore;
mod root;
pub mod saves;
mod scan;
mod seal;
mod signature;
mod store;
mod stored;
pub mod transfer;
mod tree;
mod volume;

pub use chunk::{Chunk, ChunkId, Cutter, MAX_CHUNK_BYTES};
pub use collect::{
    Amount, COLLECT_GRACE, CollectError, CollectOptions, CollectProgress, Collected, Ledger, Live, collect,
};
pub use compact::{COMPACT_SHARE_PERCENT, CompactError, CompactOptions, CompactProgress, Compacted, compact};
pub use id::{ObjectIdError, PackId, RootId, TreeId};
pub use inspect::{Fault, Problem, Stats, Verified, stats, verify};
pub use pack::{MAX_PACK_BYTES, Pack, PackError, Packer, Place};
pub use parcel::{Body, Item, MAX_PARCEL_BYTES, Parcel, ParcelBuilder, ParcelError};
pub use patch::{MAX_PATCH_BYTES, Patch, PatchError};
pub use path::{PathError, TreePath};
pub use restore::{RestoreError, restore};
pub use root::{MAX_ROOT_BYTES, NoRoot, Root};
pub use scan::{ScanError, scan};
pub use seal::{SealError, SealKey};
pub use signature::{Fineness, Signature, SignatureError, Sources};
pub use store::{Listed, ObjectKind, ObjectName, Store, StoreError, StoreSettings};
pub use stored::{Compressor, Damaged, unpack};
pub use tree::{Entry, EntryKind, Piece, Tree, TreeError};
pub use volume::{Policy, Rate, ReplicaState, Scrub, Use, Volume, VolumeError, VolumeSettings};
