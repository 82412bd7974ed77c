//! The network: one thread that owns the sockets and drives the player's [`transport::Peer`].
//!
//! ```text
//! encoder, sound, session --NetHandle (bounded queues, eventfd)--> net thread <--UDP, TCP--> player
//!                         <--NetSink (called on the net thread)---
//! ```
//!
//! All decisions about a connection are the peer's; here are sockets, the clock and waiting. A second offer does not
//! disturb the first player until the second one is connected, then it takes the place. Deliberately absent: what messages
//! mean, encoding, who may connect.

mod inbox;
mod sys;
mod tcp;
mod thread;
mod udp;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use media::{AudioPacket, EncodedUnit, InputMark, VideoCodec};
use transport::{BitrateLimits, Channel, OfferError, PeerEvent, PeerSettings};

pub use inbox::Full;
use inbox::{Inbox, Message};
pub use sys::make_realtime;

/// Settings of the network.
#[derive(Clone, Debug)]
pub struct NetSettings {
    /// Address to bind; `0.0.0.0` for all of IPv4, `::` for all.
    pub bind: IpAddr,
    /// Addresses put into the answer, most wanted first. With a 1:1 NAT the public ones. Never empty.
    pub advertise: Vec<IpAddr>,
    /// Ports to try, UDP and TCP alike; `0..=0` lets the system choose.
    pub ports: RangeInclusive<u16>,
    /// Port put into the answer when a port mapping (or a test's proxy) makes it another than the bound one.
    pub advertise_port: Option<u16>,
    /// Whether the answer also offers TCP, for players whose network has no UDP.
    pub tcp: bool,
    /// Limits of the video bitrate.
    pub bitrate: BitrateLimits,
    /// Video codecs that can be encoded, most wanted first.
    pub prefer: Vec<VideoCodec>,
}

/// Counts the peers of a session. Events of a peer carry its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerNumber(pub u64);

/// What the net thread reports.
#[derive(Debug)]
pub enum NetEvent {
    /// Of a peer's connection. `Connected` comes once the peer has taken the place of an earlier one; of the earlier one nothing
    /// follows. Ask [`NetHandle::video_codec`] then.
    Peer {
        /// Whose.
        peer: PeerNumber,
        /// What.
        event: PeerEvent,
    },
    /// A frame went to the network.
    FrameSent {
        /// To whom.
        peer: PeerNumber,
        /// Its RTP timestamp (90 kHz), which the player sees too.
        rtp_timestamp: u32,
        /// From [`EncodedUnit`].
        committed: Instant,
        /// From [`EncodedUnit`].
        captured: Instant,
        /// From [`EncodedUnit`].
        encoded: Instant,
        /// When its first packets were handed to the system.
        sent: Instant,
        /// From [`EncodedUnit`].
        input: Option<InputMark>,
        /// Bytes of the access unit.
        bytes: usize,
        /// From [`EncodedUnit`].
        key: bool,
    },
}

/// Takes what the net thread reports, on that thread: must not block.
pub trait NetSink: Send + 'static {
    /// Something happened.
    fn event(&mut self, event: NetEvent);
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No port of the range is free for UDP and TCP. Widen the range, or end what uses it.
    #[error("no port of {first} to {last} on {bind} is free for UDP and TCP")]
    NoPort {
        /// Address that was tried.
        bind: IpAddr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// Of the last attempt.
        #[source]
        source: io::Error,
    },
    /// No address to put into the answer.
    #[error("no address to advertise")]
    NoAddress,
    /// The system refused a resource.
    #[error("the system refused {what}")]
    System {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Answer to an offer: which peer it is and its SDP.
pub type OfferAnswer = Result<(PeerNumber, String), OfferError>;

/// What the net thread publishes for others to read without asking.
#[derive(Debug, Default)]
struct Published {
    takes_frame: AtomicBool,
    connected: AtomicBool,
    codec: AtomicU8,
}

/// The way to the net thread. Clones are cheap; calls never block for longer than a queue's lock.
#[derive(Clone)]
pub struct NetHandle {
    inbox: Arc<Inbox>,
    published: Arc<Published>,
    port: u16,
}

impl fmt::Debug for NetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetHandle").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The running network. Dropping it says goodbye to the player and ends the thread.
#[derive(Debug)]
pub struct Net {
    handle: NetHandle,
    thread: Option<JoinHandle<()>>,
}

impl Net {
    /// Binds the sockets and starts the thread.
    ///
    /// # Errors
    /// [`NetError`]; nothing runs then.
    pub fn start(settings: &NetSettings, sink: Box<dyn NetSink>) -> Result<Net, NetError> {
        if settings.advertise.is_empty() {
            return Err(NetError::NoAddress);
        }
        let (udp, tcp) = bind(settings)?;
        let port = udp.port();
        let inbox = Arc::new(Inbox::new().map_err(|source| NetError::System { what: "an eventfd", source })?);
        let published = Arc::new(Published::default());
        let handle = NetHandle { inbox: Arc::clone(&inbox), published: Arc::clone(&published), port };
        let peers = peer_settings(settings, port);
        let worker = thread::Worker::new(udp, tcp, inbox, published, peers, sink);
        let thread = std::thread::Builder::new()
            .name("net".into())
            .spawn(move || {
                let _end = crate::run::EndOnPanic("net");
                worker.run();
            })
            .map_err(|source| NetError::System { what: "a thread", source })?;
        Ok(Net { handle, thread: Some(thread) })
    }

    /// The way to the thread.
    #[must_use]
    pub fn handle(&self) -> NetHandle {
        self.handle.clone()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.handle.inbox.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the net thread panicked");
        }
    }
}

impl NetHandle {
    /// UDP and TCP port in use.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers an offer. `reply` is called on the net thread and must not block. When the new peer is connected it takes the place of
    /// the one before; a further offer before that replaces it.
    ///
    /// # Errors
    /// [`Full`] when offers come faster than they are answered; `reply` is dropped.
    pub fn offer(&self, sdp: String, reply: impl FnOnce(OfferAnswer) + Send + 'static) -> Result<(), Full> {
        self.inbox.push(Message::Offer { sdp, reply: Box::new(reply) })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// [`Full`] when the net thread does not keep up: the frame was dropped, so the next one has to be a key frame.
    pub fn video(&self, unit: EncodedUnit) -> Result<(), Full> {
        self.inbox.push(Message::Video(unit))
    }

    /// Sends sound.
    ///
    /// # Errors
    /// [`Full`] when the net thread does not keep up: the packet was dropped.
    pub fn audio(&self, packet: AudioPacket) -> Result<(), Full> {
        self.inbox.push(Message::Audio(packet))
    }

    /// Sends a message to the connected player; without one it is dropped.
    ///
    /// # Errors
    /// [`Full`] when too much waits: the message was dropped.
    pub fn send(&self, channel: Channel, bytes: Vec<u8>) -> Result<(), Full> {
        self.inbox.push(Message::Data { channel, bytes })
    }

    /// Other limits of the bitrate, for the peer that is there and those to come.
    ///
    /// # Errors
    /// [`Full`] when the net thread does not keep up.
    pub fn set_limits(&self, limits: BitrateLimits) -> Result<(), Full> {
        self.inbox.push(Message::Limits(limits))
    }

    /// Says goodbye to the player; the network stays.
    ///
    /// # Errors
    /// [`Full`] when the net thread does not keep up.
    pub fn disconnect(&self) -> Result<(), Full> {
        self.inbox.push(Message::Disconnect)
    }

    /// False when the next frame should be skipped before it is encoded: nobody would get it, or only late. Ask right before
    /// encoding.
    #[must_use]
    pub fn takes_frame(&self) -> bool {
        self.published.takes_frame.load(Ordering::Relaxed)
    }

    /// True while a player is connected and heard.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.published.connected.load(Ordering::Relaxed)
    }

    /// What the connected player decodes; `None` before the first.
    #[must_use]
    pub fn video_codec(&self) -> Option<VideoCodec> {
        match self.published.codec.load(Ordering::Relaxed) {
            1 => Some(VideoCodec::H264),
            2 => Some(VideoCodec::Vp8),
            3 => Some(VideoCodec::Hevc),
            4 => Some(VideoCodec::Av1),
            _ => None,
        }
    }
}

impl Published {
    fn set_codec(&self, codec: VideoCodec) {
        let number = match codec {
            VideoCodec::H264 => 1,
            VideoCodec::Vp8 => 2,
            VideoCodec::Hevc => 3,
            VideoCodec::Av1 => 4,
        };
        self.codec.store(number, Ordering::Relaxed);
    }
}

fn bind(settings: &NetSettings) -> Result<(udp::UdpPort, Option<tcp::TcpPort>), NetError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for port in settings.ports.clone() {
        match bind_port(settings, port) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    let (first, final_port) = (*settings.ports.start(), *settings.ports.end());
    Err(NetError::NoPort { bind: settings.bind, first, last: final_port, source: last })
}

fn bind_port(settings: &NetSettings, port: u16) -> io::Result<(udp::UdpPort, Option<tcp::TcpPort>)> {
    let udp = udp::UdpPort::bind(SocketAddr::new(settings.bind, port))?;
    let address = SocketAddr::new(settings.bind, udp.port());
    let tcp = if settings.tcp { Some(tcp::TcpPort::bind(address)?) } else { None };
    Ok((udp, tcp))
}

fn peer_settings(settings: &NetSettings, port: u16) -> PeerSettings {
    let port = settings.advertise_port.unwrap_or(port);
    let candidates: Vec<SocketAddr> =
        settings.advertise.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let tcp_candidates = if settings.tcp { candidates.clone() } else { Vec::new() };
    PeerSettings { candidates, tcp_candidates, bitrate: settings.bitrate, prefer: settings.prefer.clone() }
}
