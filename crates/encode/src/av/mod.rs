//! Encoders of libavcodec: libx264 and the hardware ones behind the same calls.
//!
//! `plan` decides (pure), `sys` calls. One picture in, at most one access unit out; no picture waits inside.

mod plan;
mod sys;

use media::{Bitrate, ColorMatrix, Picture, Size};

pub(crate) use plan::{Adaptation, Candidate, candidates, processors, threads_for};

use crate::VideoSettings;

/// Coded bytes of one picture, and whether decoding can start there.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) data: Vec<u8>,
    pub(crate) key: bool,
}

/// An open encoder of libavcodec.
#[derive(Debug)]
pub(crate) struct AvEncoder {
    context: sys::Context,
    candidate: Candidate,
    settings: VideoSettings,
    /// Frame intervals since the context was opened; libavcodec wants it to grow.
    next_pts: i64,
    /// The next picture must be a key frame: the context was opened anew.
    key_due: bool,
}

impl AvEncoder {
    /// Opens the candidate. Hardware is proved by encoding one picture, since drivers often open what they cannot encode.
    pub(crate) fn open(candidate: Candidate, settings: &VideoSettings) -> Result<AvEncoder, String> {
        let context = sys::Context::open(&plan::config(&candidate, settings, settings.bitrate))?;
        let mut encoder = AvEncoder { context, candidate, settings: settings.clone(), next_pts: 0, key_due: false };
        if encoder.candidate.is_hardware() {
            encoder.prove()?;
            encoder.key_due = true;
        }
        Ok(encoder)
    }

    fn prove(&mut self) -> Result<(), String> {
        let picture = Picture::new(self.settings.size, self.settings.matrix);
        let unit = self.encode(&picture, true)?.ok_or("it gave nothing for its first picture")?;
        if unit.key { Ok(()) } else { Err("its first picture is not a key frame".to_owned()) }
    }

    /// Name of the encoder, for logs and statistics.
    pub(crate) fn name(&self) -> &str {
        self.candidate.name()
    }

    /// What a new bitrate costs.
    pub(crate) fn adaptation(&self) -> Adaptation {
        self.candidate.adaptation()
    }

    pub(crate) fn encode(&mut self, picture: &Picture, key: bool) -> Result<Option<Coded>, String> {
        let packet = self.context.encode(picture, self.next_pts, key || self.key_due)?;
        self.next_pts += 1;
        self.key_due = false;
        Ok(packet.map(|packet| Coded { data: packet.data, key: packet.key }))
    }

    /// Encodes at the new rate from the next picture on.
    pub(crate) fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), String> {
        match self.adaptation() {
            Adaptation::Free | Adaptation::KeyFrame => {
                self.context.set_rates(plan::rates(bitrate, self.settings.frame_rate));
            }
            Adaptation::Reopen => {
                self.context = sys::Context::open(&plan::config(&self.candidate, &self.settings, bitrate))?;
                self.next_pts = 0;
                self.key_due = true;
            }
        }
        Ok(())
    }

    pub(crate) fn accepts(&self) -> (Size, ColorMatrix) {
        (self.settings.size, self.settings.matrix)
    }
}
