//! The control plane's side: who comes is led to the caller, who says whether it may stay.
//!
//! ```text
//!  accepted --TLS--> opening --hello, certificate--> Incoming::Link --accept--> TlsLink
//!     |                |------join-----------------> Incoming::Join --accept--> certificate, closed
//!     |                |                                   '--------refuse--> reason, closed
//!     '-- too many, too slow, garbage: closed
//! ```
//!
//! Nothing is decided here but what certificates decide: whether a token is good, whether a node was retired, which of two
//! links of a node counts (the newer one) is the caller's to know.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::id::NodeId;
use api::node::{FromNode, LinkClosed, NodeLink, ToNode};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::authority::{Authority, MakeError, NodeRequest, SignError};
use crate::certificate::{CertificateError, Fingerprint, node_of};
use crate::frame::{
    FROM_NODE_LIMIT, FrameError, MAX_NAME, OPENING_LIMIT, Opening, Refusal, Reply, TO_NODE_LIMIT, codec, encode,
};
use crate::heard::{CONTROL_BEAT, Heard};
use crate::lobby::{Lobby, Place};
use crate::mailbox::Mailbox;
use crate::token::{JoinSecret, SecretHash};
use crate::wire::{self, Ending, Limits, Wire};

/// How long somebody who is not known yet may take until his opening is here. A slow way takes a second.
const OPENING_TIME: Duration = Duration::from_secs(5);

/// How long the answer to an opening may take to be sent.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// After how long a silence the control plane closes a link. Whether a node is suspected is decided long before; closing
/// later only keeps memory, closing sooner costs handshakes after each fault of the network.
pub const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// Who waits for the caller's word. Fewer make a fleet that comes back wait in the lobby instead.
const INCOMING: usize = 64;

/// Pause after a connection that could not be accepted, which is so when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one certificate a link and minute: signing costs, and nobody needs more.
const RENEWAL_PAUSE: Duration = Duration::from_secs(50);

type Opened = Framed<TlsStream<TcpStream>, LengthDelimitedCodec>;

/// Why nobody can come.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port, or the address is not of this machine.
    #[error("the node link cannot listen at {address}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The authority gives no certificate for the server.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// Why a machine that was accepted did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Its request for a certificate is of no use.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// It is gone. It comes again with the same key: see [`JoinRequest::key`].
    #[error(transparent)]
    Gone(#[from] LinkClosed),
}

/// Listens for nodes until it is dropped. Links that were accepted live on.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    incoming: mpsc::Receiver<Incoming>,
    _accepting: AbortOnDropHandle<()>,
}

/// Somebody who waits for the caller's word. Dropping it closes the connection without one.
#[derive(Debug)]
pub enum Incoming {
    /// A machine that wants to join.
    Join(JoinRequest),
    /// A node with a certificate.
    Link(LinkRequest),
}

/// Connections that the kernel completes before anybody accepts them; it takes less where `net.core.somaxconn` is less. A fleet that comes back
/// comes at once: with the usual 128 the others are told nothing for a second, or believe for ever that they are connected (SYN cookies).
const BACKLOG: u32 = 4096;

/// Listens for many who come at once; port 0 takes any.
///
/// # Errors
/// The address is not this machine's, is taken, or may not be used by this user.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a start right after an end has the same port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Listener {
    /// Listens; port 0 takes any.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: SocketAddr, authority: Arc<Authority>) -> Result<Self, BindError> {
        let failed = |source| BindError::Address { address, source };
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config()?));
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (sender, incoming) = mpsc::channel(INCOMING);
        let door = Door { acceptor, authority, lobby: Lobby::default(), incoming: sender };
        let accepting = AbortOnDropHandle::new(tokio::spawn(door.keep(listener)));
        Ok(Self { address, incoming, _accepting: accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who comes next. Safe to cancel.
    ///
    /// # Errors
    /// The listener's task is gone, which is a bug.
    pub async fn next(&mut self) -> Result<Incoming, LinkClosed> {
        self.incoming.recv().await.ok_or(LinkClosed)
    }
}

#[derive(Clone)]
struct Door {
    acceptor: TlsAcceptor,
    authority: Arc<Authority>,
    lobby: Lobby,
    incoming: mpsc::Sender<Incoming>,
}

/// Why somebody was not led to the caller.
#[derive(Debug, thiserror::Error)]
enum Turned {
    #[error("its TLS handshake or its opening failed")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("its certificate cannot be used")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Gone(#[from] LinkClosed),
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl Door {
    async fn keep(self, listener: TcpListener) {
        let mut full_since = None;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a node's connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.lobby.enter(peer.ip()) else {
                // One line for each time that it is full: whoever floods shall not fill the log.
                if full_since.replace(Instant::now()).is_none_or(|since| since.elapsed() > OPENING_TIME) {
                    warn!("too many connections that have not said who they are: new ones are closed");
                }
                continue;
            };
            tokio::spawn(self.clone().lead(stream, peer, place));
        }
    }

    async fn lead(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        let incoming = match timeout(OPENING_TIME, self.open(stream, peer, place)).await {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(turned)) => {
                debug!(error = &turned as &dyn std::error::Error, "a connection was turned away");
                return;
            }
            Err(_elapsed) => {
                debug!("a connection was too slow to say who it is");
                return;
            }
        };
        // A listener that is gone leads nobody in.
        let _closed = self.incoming.send(incoming).await;
    }

    async fn open(&self, stream: TcpStream, peer: SocketAddr, place: Place) -> Result<Incoming, Turned> {
        stream.set_nodelay(true)?;
        let tls = self.acceptor.accept(stream).await?;
        let certificate =
            tls.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(node_of).transpose()?;
        let mut opened = Framed::new(tls, codec(OPENING_LIMIT));
        let bytes = opened.next().await.ok_or(LinkClosed)??;
        let waiting = Box::new(Waiting { opened, peer, authority: Arc::clone(&self.authority), place });
        match (Opening::decode(&bytes)?, certificate) {
            (Err(refusal), _) => waiting.turn(refusal).await,
            (Ok(Opening::Hello { node, .. }), Some(known)) if node == known => {
                Ok(Incoming::Link(LinkRequest { node, waiting }))
            }
            (Ok(Opening::Hello { .. }), _) => {
                let detail = "the certificate is missing or another node's: join anew".to_owned();
                waiting.turn(Refusal::Other { detail }).await
            }
            (Ok(Opening::Join { secret, name, request, .. }), _) => {
                let request = match NodeRequest::from_pem(&request) {
                    Ok(request) if is_name(&name) => request,
                    Ok(_) | Err(_) => {
                        let detail = "the request to join is not valid".to_owned();
                        return waiting.turn(Refusal::Other { detail }).await;
                    }
                };
                Ok(Incoming::Join(JoinRequest { secret, name, request, waiting }))
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// An opened connection that waits for an answer.
#[derive(Debug)]
struct Waiting {
    opened: Opened,
    peer: SocketAddr,
    authority: Arc<Authority>,
    place: Place,
}

impl Waiting {
    async fn turn<T>(mut self, refusal: Refusal) -> Result<T, Turned> {
        self.refuse(refusal.clone()).await;
        Err(Turned::Refused(refusal))
    }

    async fn refuse(&mut self, refusal: Refusal) {
        // One that is gone needs no reason.
        let _gone = self.last_word(&Reply::Refused(refusal)).await;
    }

    async fn answer(&mut self, reply: &Reply) -> Result<(), LinkClosed> {
        let bytes = encode(reply).map_err(|_no_json| LinkClosed)?;
        let sent = timeout(ANSWER_TIME, self.opened.send(bytes)).await;
        sent.map_err(|_elapsed| LinkClosed)?.map_err(|_broken| LinkClosed)
    }

    async fn last_word(&mut self, reply: &Reply) -> Result<(), LinkClosed> {
        self.answer(reply).await?;
        let closed = timeout(ANSWER_TIME, self.opened.get_mut().shutdown()).await;
        closed.map_err(|_elapsed| LinkClosed)?.map_err(|_broken| LinkClosed)
    }
}

/// A machine that wants to become a node.
#[derive(Debug)]
pub struct JoinRequest {
    secret: JoinSecret,
    name: String,
    request: NodeRequest,
    /// Boxed, because TLS takes more than a kilobyte.
    waiting: Box<Waiting>,
}

impl JoinRequest {
    /// Of the secret that it brought: what was stored when its token was made.
    #[must_use]
    pub fn secret_hash(&self) -> SecretHash {
        self.secret.hash()
    }

    /// What it calls itself: at most [`MAX_NAME`] bytes without control characters, and not to be trusted.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of its key. Store it with the use of the token: one that comes again with the same token *and* the same
    /// key did not hear the answer, and is to be accepted as the same node.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        self.request.key()
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.waiting.peer
    }

    /// Makes it a node. Do what makes the token used before, so that no other machine gets in by it.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(mut self, node: NodeId) -> Result<(), AcceptError> {
        let authority = self.waiting.authority.certificate_pem().to_owned();
        let certificate = self.waiting.authority.sign_node(&self.request, node)?;
        Ok(self.waiting.last_word(&Reply::Joined { node, certificate, authority }).await?)
    }

    /// Sends it away.
    pub async fn refuse(mut self, refusal: Refusal) {
        self.waiting.refuse(refusal).await;
    }
}

/// A node that is here.
#[derive(Debug)]
pub struct LinkRequest {
    node: NodeId,
    /// Boxed, because TLS takes more than a kilobyte.
    waiting: Box<Waiting>,
}

impl LinkRequest {
    /// Who it is, by its certificate.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.waiting.peer
    }

    /// Takes it. An older link of the same node is to be dropped.
    ///
    /// # Errors
    /// The node is gone.
    pub async fn accept(mut self) -> Result<TlsLink, LinkClosed> {
        self.waiting.answer(&Reply::Welcome {}).await?;
        let Waiting { opened, peer, authority, place } = *self.waiting;
        drop(place);
        let outbox = Arc::new(Mailbox::new());
        let limits =
            Limits { incoming: FROM_NODE_LIMIT, outgoing: TO_NODE_LIMIT, silence: CLOSE_AFTER, beat: CONTROL_BEAT };
        let Wire { inbox, renewals_in, renewals_out, heard, ending, .. } =
            wire::start(opened, Arc::clone(&outbox), limits);
        tokio::spawn(attend(self.node, authority, ending, renewals_in, renewals_out));
        Ok(TlsLink { node: self.node, peer, inbox, outbox, heard })
    }

    /// Sends it away.
    pub async fn refuse(mut self, refusal: Refusal) {
        self.waiting.refuse(refusal).await;
    }
}

/// Renews a node's certificate when it asks, and tells how its link ended.
async fn attend(
    node: NodeId,
    authority: Arc<Authority>,
    ending: Ending,
    mut requests: mpsc::Receiver<String>,
    certificates: mpsc::Sender<String>,
) {
    let mut renewed: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            reason = ending.ended() => {
                info!(%node, reason = reason as &dyn std::error::Error, "the link of a node ended");
                return;
            }
            Some(request) = requests.recv() => {
                if renewed.is_some_and(|last| last.elapsed() < RENEWAL_PAUSE) {
                    continue;
                }
                renewed = Some(Instant::now());
                match NodeRequest::from_pem(&request).and_then(|request| authority.sign_node(&request, node)) {
                    Ok(certificate) => {
                        info!(%node, "the certificate of a node was renewed");
                        // A link that ends now renews again on the next.
                        let _ended = certificates.send(certificate).await;
                    }
                    Err(error) => warn!(%node, error = &error as &dyn std::error::Error, "a certificate cannot be renewed"),
                }
            }
        }
    }
}

/// A link to a node. Dropping it sends what waits and closes it.
///
/// Messages wait for a slow caller without making the node look silent: the newest report in one place, others in a
/// bounded queue, of which what does not fit is dropped.
#[derive(Debug)]
pub struct TlsLink {
    node: NodeId,
    peer: SocketAddr,
    inbox: Arc<Mailbox<FromNode>>,
    outbox: Arc<Mailbox<ToNode>>,
    heard: Heard,
}

impl TlsLink {
    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What was heard of the node, to be asked beside [`NodeLink::receive`].
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// See [`Heard::silent_for`].
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.heard.silent_for()
    }

    /// See [`Heard::silence`].
    pub async fn silence(&self, limit: Duration) {
        self.heard.silence(limit).await;
    }
}

impl NodeLink for TlsLink {
    async fn send(&mut self, message: ToNode) -> Result<(), LinkClosed> {
        // The connection's end closes the inbox; nobody empties the outbox then.
        if self.inbox.is_closed() || !self.outbox.send(message).await { Err(LinkClosed) } else { Ok(()) }
    }

    async fn receive(&mut self) -> Option<FromNode> {
        self.inbox.receive().await
    }

    fn silent_for(&self) -> Duration {
        self.heard.silent_for()
    }
}

impl Drop for TlsLink {
    fn drop(&mut self) {
        self.outbox.close();
    }
}
