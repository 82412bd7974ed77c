//! VP8 through libvpx, for browsers that offer no H.264.

mod sys;

use media::{Bitrate, ColorMatrix, Picture, Size};

use crate::VideoSettings;
use crate::av::Coded;

/// An open libvpx encoder.
#[derive(Debug)]
pub(crate) struct Vp8Encoder {
    context: sys::Context,
    size: Size,
    matrix: ColorMatrix,
}

impl Vp8Encoder {
    pub(crate) const NAME: &str = "libvpx";

    pub(crate) fn open(settings: &VideoSettings) -> Result<Vp8Encoder, String> {
        let context = sys::Context::open(&sys::Config {
            size: settings.size,
            frames_per_second: settings.frame_rate.get(),
            bitrate: settings.bitrate,
            threads: settings.thread_count(),
        })?;
        Ok(Vp8Encoder { context, size: settings.size, matrix: settings.matrix })
    }

    pub(crate) fn encode(&mut self, picture: &Picture, key: bool) -> Result<Option<Coded>, String> {
        self.context.encode(picture, key)
    }

    pub(crate) fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), String> {
        self.context.set_bitrate(bitrate)
    }

    pub(crate) fn accepts(&self) -> (Size, ColorMatrix) {
        (self.size, self.matrix)
    }
}
