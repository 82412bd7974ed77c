//! What goes into a [`Peer`](crate::Peer) and comes out of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media::Bitrate;

/// How a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP with RFC 4571 framing; the frame's length is the shell's business.
    Tcp,
}

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// How.
    pub protocol: Protocol,
    /// The candidate of ours that it is sent from.
    pub source: SocketAddr,
    /// The player.
    pub destination: SocketAddr,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// What drives a peer.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The time of the last [`Output::Timeout`] has come.
    Timeout,
    /// A datagram arrived.
    Receive {
        /// How.
        protocol: Protocol,
        /// From where.
        source: SocketAddr,
        /// The candidate of ours that it was sent to (with a 1:1 NAT the advertised address, not the bound one).
        destination: SocketAddr,
        /// The datagram.
        bytes: &'a [u8],
    },
}

/// What a peer wants.
#[derive(Debug)]
pub enum Output {
    /// Send this.
    Transmit(Transmit),
    /// Something happened.
    Event(PeerEvent),
    /// Nothing more for now: give [`Input::Timeout`] at this time, at once when it is past.
    Timeout(Instant),
}

/// A data channel (see `wire`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Reliable and ordered.
    Control,
    /// Neither.
    Motion,
}

/// Why a peer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We closed it.
    Local,
    /// The player closed it.
    Remote,
    /// It never connected.
    ConnectTimeout,
    /// Nothing was heard from the player for half a minute.
    Silent,
    /// The engine failed.
    Failed(String),
}

/// How the connection does; once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Round trip, when known.
    pub round_trip: Option<Duration>,
    /// Time that packets wait in queues of the path.
    pub queueing: Duration,
    /// Packets lost on the way in the last second, 0 to 1, before retransmission.
    pub loss: f32,
    /// Packets retransmitted since the start.
    pub resent: u64,
    /// Everything sent in the last second, video, sound, retransmissions, probing.
    pub sent: Bitrate,
    /// What the encoder is asked for.
    pub target: Bitrate,
    /// The engine's estimate of the path.
    pub estimate: Bitrate,
}

/// Something that the session has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerEvent {
    /// Media can flow; also after an interruption. A [`PeerEvent::KeyFrameWanted`] follows.
    Connected,
    /// A channel can be written to.
    ChannelOpen(Channel),
    /// A message of the player.
    Data {
        /// On this channel.
        channel: Channel,
        /// The message, at most [`wire::MAX_MESSAGE_BYTES`].
        bytes: Vec<u8>,
    },
    /// The next frame has to be a key frame. At most four times a second.
    KeyFrameWanted,
    /// What the encoder shall produce from now on.
    TargetBitrate(Bitrate),
    /// Once a second while connected.
    Statistics(Statistics),
    /// The player is not heard. It may come back: frames need not be encoded until [`PeerEvent::Connected`].
    Disconnected,
    /// The peer is over; nothing follows.
    Closed(CloseReason),
}

/// Why a message could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel is not open (yet, or any more). Wait for [`PeerEvent::ChannelOpen`].
    #[error("the channel is not open")]
    Closed,
    /// Too much waits to be sent. Drop the message, or try again later.
    #[error("too much waits to be sent on the channels")]
    Full,
    /// Longer than [`wire::MAX_MESSAGE_BYTES`]. A bug of the caller.
    #[error("the message is longer than {} bytes", wire::MAX_MESSAGE_BYTES)]
    TooLong,
}

/// Video that the pacer holds back because the path is narrower than the encoder believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes of RTP payload.
    pub bytes: usize,
    /// How long the oldest of them waits.
    pub oldest: Duration,
}
