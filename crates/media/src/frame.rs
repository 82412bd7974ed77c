//! What travels between capture, encoder and transport.

use std::time::Instant;

use crate::{PooledPicture, Size};

/// The last player input that a picture can show: the game had it before it drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputMark {
    /// Sequence number that the player's client gave the input (see `wire`).
    pub sequence: u32,
    /// When it was handed to the game.
    pub delivered: Instant,
}

/// A captured picture on its way to the encoder.
#[derive(Debug)]
pub struct Frame {
    /// The pixels.
    pub picture: PooledPicture,
    /// When the game committed it.
    pub committed: Instant,
    /// When its conversion was done and it was handed over.
    pub captured: Instant,
    /// The newest input handed to the game before the commit.
    pub input: Option<InputMark>,
}

/// A video coding format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// ITU-T H.264, Annex B byte stream with SPS and PPS in band.
    H264,
    /// VP8 (RFC 6386).
    Vp8,
    /// ITU-T H.265, Annex B byte stream with VPS, SPS and PPS in band.
    Hevc,
    /// AV1 low-overhead bitstream.
    Av1,
}

/// One encoded picture: a whole access unit.
#[derive(Clone, Debug)]
pub struct EncodedUnit {
    /// Coding format of `data`.
    pub codec: VideoCodec,
    /// The whole access unit.
    pub data: Vec<u8>,
    /// True when decoding can start here.
    pub key: bool,
    /// Size of the picture.
    pub size: Size,
    /// When the game committed the picture.
    pub committed: Instant,
    /// When it was handed to the encoder.
    pub captured: Instant,
    /// When encoding ended.
    pub encoded: Instant,
    /// The newest input that the picture can show.
    pub input: Option<InputMark>,
}

/// A block of captured sound: interleaved stereo, 48 kHz, signed 16 bit.
#[derive(Clone, Debug)]
pub struct PcmBlock {
    /// Left, right, left, right ...
    pub samples: Vec<i16>,
    /// When the last sample of the block was captured.
    pub captured: Instant,
}

impl PcmBlock {
    /// Samples per second and channel.
    pub const SAMPLE_RATE: u32 = 48_000;
    /// Channels, interleaved.
    pub const CHANNELS: usize = 2;
}

/// One Opus packet (RFC 6716) of 10 ms.
#[derive(Clone, Debug)]
pub struct AudioPacket {
    /// The packet.
    pub data: Vec<u8>,
    /// When its last sample was captured.
    pub captured: Instant,
}
