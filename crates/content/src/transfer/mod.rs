//! How a package comes from a developer's directory into the store, with as few bytes as can be.
//!
//! ```text
//! client                                  server
//!   | <- known: 8 bytes a chunk ------------ |   chunks of the tenant's own releases and of his open uploads
//!   | reads, cuts, hashes; what is not known is to be sent
//!   | -- signatures of old chunks? --------> |   of those that the new build no longer has
//!   | -- parcels: chunks, whole or patches-> |   each checked, then kept as a pack
//!   | -- outline: the tree, by reference --> |   checked: every chunk known or sent; then a root
//! ```
//! A client may only refer to what is its tenant's own: whoever knows a hash has not thereby the bytes. Chunks that another tenant has as well
//! are sent and stored again, and joined later ([`crate`]'s collector), so that neither answers nor times tell what others have.
//! After a break the client begins anew: what arrived is known then.
//!
//! Deliberately absent: HTTP, who the tenant is.

/// Does work that keeps a thread busy for long where the runtime has others, and at once where it has one alone, as in tests.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

mod known;
mod outline;
mod push;
mod upload;

pub use self::known::{Known, MAX_KNOWN, Prefix};
pub use self::outline::{MAX_OUTLINE_BYTES, OutlineError};
pub use self::push::{Progress, PushError, Pushed, Remote, RemoteError, push};
pub use self::upload::{FinishError, ReceiveError, Received, Upload};
