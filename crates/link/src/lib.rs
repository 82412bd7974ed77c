//! The node link between machines: what `api::node` says, over mutual TLS.
//!
//! It is the one room beside `api` that the control plane and the nodes share. The control plane has an [`Authority`] of
//! its own and a [`Listener`]; a machine becomes a node by [`join()`], with a [`JoinToken`] that an operator copied, and from
//! then on keeps a connection by [`connect()`].
//!
//! - **Who is who is said by certificates alone.** The installation's authority signs the control plane's and the nodes'; no
//!   address and no public authority counts. Keys never leave the machine that they were made on.
//! - **Who may stay is said by the caller.** This room knows no tokens that were used, no nodes that were retired.
//! - **A side that is slow is not a side that is dead.** Reading and writing are tasks of their own, which wait for nobody:
//!   [`Heard`] is about the other process and the way to it, and 300 ms of silence mean something. The [`witness`] tells
//!   which of the two it was.
//! - **The newest message counts.** Of wishes and reports there is one place each, on every side; the rest is bounded.
//! - **Bytes of strangers** are bounded in length, number and time before they are looked at, and decoding is total:
//!   [`frame`], `fuzz/fuzz_targets/link.rs`.
//!
//! Deliberately absent: sessions, databases, HTTP, lists of revoked certificates, an authority that changes.
//!
//! ```no_run
//! # async fn control(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use link::{Authority, Incoming, JoinToken, Listener, Refusal};
//!
//! let authority = Arc::new(Authority::open(dir)?);
//! let token = JoinToken::generate(authority.fingerprint())?;
//! println!("kite node join --token {token}");
//! let mut listener = Listener::bind("[::]:7443".parse()?, authority).await?;
//! loop {
//!     match listener.next().await? {
//!         Incoming::Join(machine) if machine.secret_hash() == token.secret_hash() => {
//!             let node = api::id::NodeId::from_uuid(uuid::Uuid::now_v7());
//!             machine.accept(node).await?;
//!         }
//!         Incoming::Join(machine) => machine.refuse(Refusal::Token).await,
//!         Incoming::Link(node) => {
//!             let link = node.accept().await?;
//!             let heard = link.heard();
//!             // `link` is an `api::node::NodeLink`; `heard.silence(link::SUSPECT_AFTER)` tells when to doubt it.
//! #           drop((link, heard));
//!         }
//!     }
//! }
//! # }
//! # async fn node(dir: &std::path::Path, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use link::{Identity, connect, join};
//!
//! let identity = match Identity::load(dir)? {
//!     Some(identity) => identity,
//!     None => join("control.example.org:7443", &token.parse()?, "rack 3", dir).await?,
//! };
//! let (end, mut connection) = connect(vec!["control.example.org:7443".into()], identity, dir.to_owned());
//! // `end` goes to the agent.
//! # drop(end);
//! if let Some(refusal) = connection.ended().await {
//!     return Err(refusal.into());
//! }
//! # Ok(())
//! # }
//! ```

mod authority;
mod certificate;
mod connect;
mod dial;
pub mod frame;
mod heard;
mod identity;
mod join;
mod lobby;
mod mailbox;
mod private;
mod server;
mod token;
mod wire;
pub mod witness;

pub use authority::{Authority, AuthorityError, CONTROL_NAME, MakeError, NodeRequest, SignError};
pub use certificate::{CertificateError, Fingerprint, Validity};
pub use connect::{Connection, ConnectionState, connect};
pub use dial::DialError;
pub use frame::{MAX_NAME, Refusal};
pub use heard::{BEAT, CONTROL_BEAT, Heard, SUSPECT_AFTER};
pub use identity::{Identity, IdentityError, PartsError};
pub use join::{JoinError, join};
pub use private::PrivateError;
pub use server::{AcceptError, BindError, CLOSE_AFTER, Incoming, JoinRequest, LinkRequest, Listener, TlsLink, listen};
pub use token::{JoinSecret, JoinToken, NoRandomness, SecretHash, TokenError};
