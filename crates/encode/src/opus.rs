//! Opus (RFC 6716) for sound: 10 ms packets, 48 kHz stereo, low delay.

use media::{AudioPacket, Bitrate, PcmBlock};
use opus::{Application, Channels, Signal};

/// Frames (a sample of each channel) in a packet: 10 ms. 5 ms would halve the wait for a block and double the packets and
/// their overhead; 20 ms, WebRTC's default, would add 10 ms to every sound.
pub const FRAMES_PER_PACKET: usize = PcmBlock::SAMPLE_RATE as usize / 100;

/// Largest packet that is made, in bytes: one that a datagram carries with its headers.
const LARGEST_PACKET: usize = 1200;

/// CELT's search effort, 0 to 10. 10 costs twice the time of 5 for a difference that nobody hears above 96 kbit/s.
const COMPLEXITY: i32 = 5;

/// Rates that are accepted: below, stereo music is painful; above, nothing is gained.
const BITRATES: std::ops::RangeInclusive<u64> = 16_000..=320_000;

/// An Opus encoder: one [`PcmBlock`] of 10 ms in, one packet out.
#[derive(Debug)]
pub struct OpusEncoder {
    inner: opus::Encoder,
}

/// Why sound was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum OpusError {
    /// The block is not 10 ms long. A bug of the caller.
    #[error("a block has {got} samples instead of {}", FRAMES_PER_PACKET * PcmBlock::CHANNELS)]
    WrongLength {
        /// Samples of the block, both channels counted.
        got: usize,
    },
    /// libopus refused. Open another encoder.
    #[error("libopus failed")]
    Library(#[source] opus::Error),
}

impl OpusEncoder {
    /// Opens an encoder. Low-delay mode looks 2.5 ms ahead; there is no discontinuous transmission.
    ///
    /// # Errors
    /// [`OpusError::Library`], for lack of memory.
    pub fn new(bitrate: Bitrate) -> Result<OpusEncoder, OpusError> {
        let inner = opus::Encoder::new(PcmBlock::SAMPLE_RATE, Channels::Stereo, Application::LowDelay);
        let mut encoder = OpusEncoder { inner: inner.map_err(OpusError::Library)? };
        encoder.inner.set_signal(Signal::Music).map_err(OpusError::Library)?;
        encoder.inner.set_complexity(COMPLEXITY).map_err(OpusError::Library)?;
        encoder.inner.set_dtx(false).map_err(OpusError::Library)?;
        encoder.set_bitrate(bitrate)?;
        Ok(encoder)
    }

    /// Sets the bitrate, within 16 to 320 kbit/s.
    ///
    /// # Errors
    /// [`OpusError::Library`]; the old rate stays in effect.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), OpusError> {
        let bps = bitrate.bps().clamp(*BITRATES.start(), *BITRATES.end()) as i32;
        self.inner.set_bitrate(opus::Bitrate::Bits(bps)).map_err(OpusError::Library)
    }

    /// Encodes a block.
    ///
    /// # Errors
    /// [`OpusError`]; nothing is encoded then.
    pub fn encode(&mut self, block: &PcmBlock) -> Result<AudioPacket, OpusError> {
        if block.samples.len() != FRAMES_PER_PACKET * PcmBlock::CHANNELS {
            return Err(OpusError::WrongLength { got: block.samples.len() });
        }
        let mut data = vec![0; LARGEST_PACKET];
        let length = self.inner.encode(&block.samples, &mut data).map_err(OpusError::Library)?;
        data.truncate(length);
        Ok(AudioPacket { data, captured: block.captured })
    }
}
