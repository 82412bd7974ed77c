//! What to encode, and how.

use std::num::NonZeroUsize;

use media::{Bitrate, ColorMatrix, FrameRate, Size, VideoCodec};

use crate::av;

/// Which family of encoders may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Hardware where its device nodes exist and it encodes a picture, else software.
    #[default]
    Auto,
    /// libx264 or libvpx.
    Software,
    /// NVIDIA NVENC.
    Nvenc,
    /// VA-API (Intel, AMD).
    Vaapi,
    /// Intel Quick Sync Video.
    Qsv,
}

/// Settings of one video encoder. A new size, rate or codec is a new encoder; the bitrate can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoSettings {
    /// Coding format.
    pub codec: VideoCodec,
    /// Size of every picture.
    pub size: Size,
    /// Highest rate of pictures. Rate control gives each picture its share of a second at this rate, so fewer pictures take
    /// less than the bitrate and never weigh more.
    pub frame_rate: FrameRate,
    /// Bitrate at start.
    pub bitrate: Bitrate,
    /// Coefficients of every picture; signalled to the decoder.
    pub matrix: ColorMatrix,
    /// Encoders that may be used.
    pub choice: Choice,
    /// Threads of software encoding. `None`: by size and number of processors. Real-time priority of the thread that
    /// opens the encoder is inherited by them.
    pub threads: Option<NonZeroUsize>,
}

impl VideoSettings {
    /// Settings with the codec's usual matrix, the encoder chosen by the machine, and threads by size.
    #[must_use]
    pub fn new(codec: VideoCodec, size: Size, frame_rate: FrameRate, bitrate: Bitrate) -> VideoSettings {
        let matrix = VideoSettings::matrix_for(codec);
        VideoSettings { codec, size, frame_rate, bitrate, matrix, choice: Choice::Auto, threads: None }
    }

    /// The matrix that pictures for this codec should have: VP8 decoders assume BT.601, the others are told BT.709.
    #[must_use]
    pub fn matrix_for(codec: VideoCodec) -> ColorMatrix {
        match codec {
            VideoCodec::Vp8 => ColorMatrix::Bt601,
            VideoCodec::H264 | VideoCodec::Hevc | VideoCodec::Av1 => ColorMatrix::Bt709,
        }
    }

    /// Threads of libx264.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.map_or_else(|| av::threads_for(self.size, av::processors()), NonZeroUsize::get)
    }
}
