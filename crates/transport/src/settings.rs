//! What a peer is told once.

use std::net::SocketAddr;

use media::{Bitrate, VideoCodec};

/// Limits of the video bitrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitrateLimits {
    /// The encoder is never set lower, even when the path asks for it: below it the picture is not worth playing.
    pub min: Bitrate,
    /// Before anything is known of the path.
    pub start: Bitrate,
    /// Never more.
    pub max: Bitrate,
}

impl BitrateLimits {
    /// The same limits in order: `min <= start <= max`, and `min` at least 100 kbit/s.
    #[must_use]
    pub fn ordered(self) -> BitrateLimits {
        let min = self.min.max(Bitrate::from_kbps(100));
        let max = self.max.max(min);
        BitrateLimits { min, start: self.start.clamp(min, max), max }
    }
}

/// Settings of a [`Peer`](crate::Peer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Addresses for UDP that the answer offers, in order of preference. Behind a 1:1 NAT these are the public ones.
    pub candidates: Vec<SocketAddr>,
    /// Addresses for passive ICE-TCP (RFC 6544). Players use them when UDP is blocked.
    pub tcp_candidates: Vec<SocketAddr>,
    /// Limits of the video bitrate.
    pub bitrate: BitrateLimits,
    /// Video codecs that can be encoded, most wanted first. The first one that the player decodes too is used.
    pub prefer: Vec<VideoCodec>,
}
