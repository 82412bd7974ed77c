//! The one video encoder.

use std::time::Instant;

use media::{Bitrate, ColorMatrix, EncodedUnit, Frame, Picture, Size, VideoCodec};

use crate::av::{self, Adaptation, AvEncoder, Coded};
use crate::vp8::Vp8Encoder;
use crate::{Attempt, Choice, Devices, EncodeError, OpenError, VideoSettings};

/// An open video encoder. Synchronous: the access unit of a picture is returned by the call that takes the picture.
#[derive(Debug)]
pub struct Encoder {
    backend: Backend,
    codec: VideoCodec,
    /// The rate in effect.
    bitrate: Bitrate,
}

#[derive(Debug)]
enum Backend {
    /// libavcodec.
    Av(Box<AvEncoder>),
    /// libvpx, called directly: libavcodec cannot change the bitrate of its VP8 encoder while it runs.
    Vp8(Box<Vp8Encoder>),
}

/// Lowest rate that is set. Below it the headers of the pictures alone exceed it.
const LOWEST_BITRATE: Bitrate = Bitrate::from_kbps(64);

/// How far the rate must fall before an encoder is restarted for it, in percent. Less restarts, and sends key frames, at
/// every breath of congestion control; more sends over what the path carries.
const RESTART_FALL_PERCENT: u64 = 10;

/// How far the rate must rise before an encoder is restarted for it, in percent. A rise is never urgent.
const RESTART_RISE_PERCENT: u64 = 30;

/// Opens an encoder.
///
/// # Errors
/// [`OpenError`] lists every encoder that was tried and why it did not open.
pub fn open(settings: &VideoSettings) -> Result<Encoder, OpenError> {
    open_on(settings, &Devices::find())
}

fn open_on(settings: &VideoSettings, devices: &Devices) -> Result<Encoder, OpenError> {
    let mut settings = settings.clone();
    settings.bitrate = settings.bitrate.max(LOWEST_BITRATE);
    let mut attempts = Vec::new();
    let done = |backend: Backend| {
        let encoder = Encoder { backend, codec: settings.codec, bitrate: settings.bitrate };
        tracing::info!(encoder = encoder.name(), size = %settings.size, bitrate = %settings.bitrate, "video encoder opened");
        encoder
    };
    for candidate in av::candidates(settings.codec, settings.choice, devices) {
        let encoder = candidate.label();
        match AvEncoder::open(candidate, &settings) {
            Ok(backend) => return Ok(done(Backend::Av(Box::new(backend)))),
            Err(reason) => {
                tracing::debug!(encoder, reason, "a video encoder did not open");
                attempts.push(Attempt { encoder, reason });
            }
        }
    }
    if settings.codec == VideoCodec::Vp8 && matches!(settings.choice, Choice::Auto | Choice::Software) {
        match Vp8Encoder::open(&settings) {
            Ok(backend) => return Ok(done(Backend::Vp8(Box::new(backend)))),
            Err(reason) => attempts.push(Attempt { encoder: Vp8Encoder::NAME.to_owned(), reason }),
        }
    }
    if attempts.is_empty() {
        return Err(OpenError::NoCandidate { codec: settings.codec, choice: words(settings.choice) });
    }
    Err(OpenError::AllFailed(attempts))
}

fn words(choice: Choice) -> &'static str {
    match choice {
        Choice::Auto => "usable",
        Choice::Software => "software",
        Choice::Nvenc => "NVENC",
        Choice::Vaapi => "VA-API",
        Choice::Qsv => "Quick Sync",
    }
}

impl Encoder {
    /// Name of the library or driver behind it: `libx264`, `h264_nvenc`, `libvpx` ...
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.backend {
            Backend::Av(encoder) => encoder.name(),
            Backend::Vp8(_) => Vp8Encoder::NAME,
        }
    }

    /// Coding format of its units.
    #[must_use]
    pub fn codec(&self) -> VideoCodec {
        self.codec
    }

    /// The rate in effect.
    #[must_use]
    pub fn bitrate(&self) -> Bitrate {
        self.bitrate
    }

    /// Size of the pictures that it takes.
    #[must_use]
    pub fn size(&self) -> Size {
        self.accepts().0
    }

    fn accepts(&self) -> (Size, ColorMatrix) {
        match &self.backend {
            Backend::Av(encoder) => encoder.accepts(),
            Backend::Vp8(encoder) => encoder.accepts(),
        }
    }

    /// Encodes one captured frame; with `key`, as a frame at which decoding can start. `now` is asked once, when encoding is
    /// done. `None` when the encoder gave no unit for it.
    ///
    /// # Errors
    /// [`EncodeError`]; after [`EncodeError::Failed`] the encoder should be replaced.
    pub fn encode(
        &mut self,
        frame: &Frame,
        key: bool,
        now: impl FnOnce() -> Instant,
    ) -> Result<Option<EncodedUnit>, EncodeError> {
        let coded = self.encode_picture(&frame.picture, key)?;
        Ok(coded.map(|coded| EncodedUnit {
            codec: self.codec,
            data: coded.data,
            key: coded.key,
            size: frame.picture.size(),
            committed: frame.committed,
            captured: frame.captured,
            encoded: now(),
            input: frame.input,
        }))
    }

    fn encode_picture(&mut self, picture: &Picture, key: bool) -> Result<Option<Coded>, EncodeError> {
        let (expected, expected_matrix) = self.accepts();
        let (got, got_matrix) = (picture.size(), picture.matrix);
        if (expected, expected_matrix) != (got, got_matrix) {
            return Err(EncodeError::WrongPicture { expected, expected_matrix, got, got_matrix });
        }
        let result = match &mut self.backend {
            Backend::Av(encoder) => encoder.encode(picture, key),
            Backend::Vp8(encoder) => encoder.encode(picture, key),
        };
        result.map_err(|reason| self.failed(reason))
    }

    /// Follows a new target from the next frame on. With libx264 and libvpx this is free at every frame. Hardware encoders
    /// answer with a key frame, so they follow only when the target fell by more than a tenth or rose by more than three
    /// tenths; [`Encoder::bitrate`] tells what is in effect.
    ///
    /// # Errors
    /// [`EncodeError::Failed`] when the encoder did not take it; the old rate stays in effect.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), EncodeError> {
        let bitrate = bitrate.max(LOWEST_BITRATE);
        if bitrate == self.bitrate {
            return Ok(());
        }
        let result = match &mut self.backend {
            Backend::Av(encoder) => {
                if encoder.adaptation() != Adaptation::Free && !worth_a_restart(self.bitrate, bitrate) {
                    return Ok(());
                }
                encoder.set_bitrate(bitrate)
            }
            Backend::Vp8(encoder) => encoder.set_bitrate(bitrate),
        };
        result.map_err(|reason| self.failed(reason))?;
        self.bitrate = bitrate;
        Ok(())
    }

    fn failed(&self, reason: String) -> EncodeError {
        EncodeError::Failed { encoder: self.name().to_owned(), reason }
    }
}

fn worth_a_restart(current: Bitrate, target: Bitrate) -> bool {
    let (current, target) = (current.bps(), target.bps());
    target < current * (100 - RESTART_FALL_PERCENT) / 100 || target > current * (100 + RESTART_RISE_PERCENT) / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::FrameRate;
    use std::path::PathBuf;

    fn settings(codec: VideoCodec, choice: Choice) -> VideoSettings {
        let mut settings = VideoSettings::new(codec, Size::HD, FrameRate::FPS_60, Bitrate::from_kbps(4000));
        settings.choice = choice;
        settings
    }

    #[test]
    fn missing_hardware_is_passed_over_and_named_when_asked_for() {
        // Device nodes that are not there: every family is really tried and fails, then software opens.
        let devices = Devices { nvidia: true, render_nodes: vec![PathBuf::from("/dev/dri/renderD999")] };
        let encoder = open_on(&settings(VideoCodec::H264, Choice::Auto), &devices).unwrap();
        assert_eq!(encoder.name(), "libx264");
        let error = open_on(&settings(VideoCodec::H264, Choice::Vaapi), &devices).unwrap_err();
        let OpenError::AllFailed(attempts) = &error else { panic!("{error}") };
        assert_eq!(attempts.len(), 2);
        assert!(attempts[0].reason.contains("renderD999") || attempts[0].reason.contains("VA"), "{error}");
        let error = open_on(&settings(VideoCodec::Av1, Choice::Software), &devices).unwrap_err();
        assert_eq!(error.to_string(), "there is no software encoder for Av1 on this machine");
    }

    #[test]
    fn restarts_are_rare() {
        let check = |target_kbps, expected| {
            let got = worth_a_restart(Bitrate::from_kbps(1000), Bitrate::from_kbps(target_kbps));
            assert_eq!(got, expected, "{target_kbps}");
        };
        check(950, false);
        check(899, true);
        check(1299, false);
        check(1301, true);
    }
}
