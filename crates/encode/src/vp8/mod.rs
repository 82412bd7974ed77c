//! VP8 through libvpx, for browsers that offer no H.264.

mod sys;

use media::{Bitrate, ColorMatrix, Picture, Size};

use crate::VideoSettings;
use crate::av::{self, Coded};

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
            threads: threads(settings, av::processors()),
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

/// The threads that were asked for, or as many as help on this machine.
fn threads(settings: &VideoSettings, processors: usize) -> usize {
    match settings.threads {
        Some(threads) => threads.get(),
        None if processors < sys::PROCESSORS_FOR_THREADS => 1,
        None => av::threads_for(settings.size, processors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::{FrameRate, VideoCodec};

    #[test]
    fn threads_are_for_machines_with_room() {
        let mut settings =
            VideoSettings::new(VideoCodec::Vp8, Size::FULL_HD, FrameRate::FPS_60, Bitrate::from_kbps(8000));
        assert_eq!((threads(&settings, 2), threads(&settings, 4)), (1, 2));
        settings.threads = std::num::NonZeroUsize::new(3);
        assert_eq!(threads(&settings, 2), 3);
    }
}
