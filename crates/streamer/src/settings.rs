//! From the agent's settings to those of the parts.

use api::streamer::{BitrateSettings, DisplayProtocol, EncoderChoice, StreamerSettings};
use compositor::{Display, SourceSettings};
use encode::Choice;
use media::{Bitrate, ColorMatrix, FrameRate, Size, SizeError, VideoCodec};
use transport::BitrateLimits;

use crate::net::NetSettings;

/// Why the agent's settings are not usable: the agent and the streamer are of different versions.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Outside of what displays and encoders take.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// Outside of 1 to 240.
    #[error("{0} frames per second is outside of 1 to 240")]
    FrameRate(u16),
}

pub(crate) fn size(settings: &StreamerSettings) -> Result<Size, SizeError> {
    Size::new(settings.width, settings.height)
}

pub(crate) fn frame_rate(settings: &StreamerSettings) -> Result<FrameRate, SettingsError> {
    FrameRate::new(settings.frames_per_second).ok_or(SettingsError::FrameRate(settings.frames_per_second))
}

pub(crate) fn bitrate(settings: &BitrateSettings) -> BitrateLimits {
    BitrateLimits {
        min: Bitrate::from_kbps(settings.min_kbps.into()),
        start: Bitrate::from_kbps(settings.start_kbps.into()),
        max: Bitrate::from_kbps(settings.max_kbps.into()),
    }
    .ordered()
}

pub(crate) fn choice(choice: EncoderChoice) -> Choice {
    match choice {
        EncoderChoice::Auto => Choice::Auto,
        EncoderChoice::Software => Choice::Software,
        EncoderChoice::Nvenc => Choice::Nvenc,
        EncoderChoice::Vaapi => Choice::Vaapi,
        EncoderChoice::Qsv => Choice::Qsv,
    }
}

pub(crate) fn source(settings: &StreamerSettings, frame_rate: FrameRate) -> Result<SourceSettings, SettingsError> {
    Ok(SourceSettings {
        size: size(settings)?,
        frame_rate,
        display: match settings.display {
            DisplayProtocol::Wayland => Display::Wayland,
            DisplayProtocol::X11 => Display::X11,
            DisplayProtocol::Xvfb => Display::Xvfb,
        },
        runtime_dir: settings.runtime_dir.clone(),
        matrix: ColorMatrix::Bt709,
        realtime: true,
    })
}

pub(crate) fn net(settings: &StreamerSettings, bitrate: BitrateLimits) -> NetSettings {
    let network = &settings.network;
    NetSettings {
        bind: network.bind,
        advertise: network.advertise.clone(),
        ports: network.port_min..=network.port_max,
        advertise_port: network.advertise_port,
        tcp: true,
        bitrate,
        prefer: vec![VideoCodec::H264, VideoCodec::Vp8],
    }
}

/// The player's wish, within the spec: its shape is kept, its area is at most the spec's.
pub(crate) fn fit(wanted: Size, largest: Size) -> Size {
    if wanted.pixels() <= largest.pixels() {
        return wanted;
    }
    let scale = (largest.pixels() as f64 / wanted.pixels() as f64).sqrt();
    let side = |pixels: u32| ((f64::from(pixels) * scale) as u32).max(Size::MIN_SIDE);
    Size::new(side(wanted.width()), side(wanted.height())).unwrap_or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_keep_their_shape_within_the_area() {
        let check = |wanted: (u32, u32), expected: (u32, u32)| {
            let size = fit(Size::new(wanted.0, wanted.1).unwrap(), Size::HD);
            assert_eq!((size.width(), size.height()), expected, "{wanted:?}");
        };
        check((1280, 720), (1280, 720));
        check((640, 480), (640, 480));
        check((2560, 1440), (1280, 720));
        check((1080, 1920), (720, 1280));
        check((4096, 64), (4096, 64));
    }
}
