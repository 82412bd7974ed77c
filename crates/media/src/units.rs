//! Sizes and rates, with their units in the type.

use std::fmt;
use std::time::Duration;

/// A picture size in pixels. Both sides are even (4:2:0 chroma needs it) and within
/// [`Size::MIN_SIDE`]..=[`Size::MAX_SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    width: u32,
    height: u32,
}

/// A size that no encoder or display of ours accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{width}x{height} is not a usable picture size: each side must be {min} to {max} pixels", min = Size::MIN_SIDE, max = Size::MAX_SIDE)]
pub struct SizeError {
    /// The width that was asked for, in pixels.
    pub width: u32,
    /// The height that was asked for, in pixels.
    pub height: u32,
}

impl Size {
    /// Smallest side in pixels: below it encoders reject the picture or spend more on headers than on it.
    pub const MIN_SIDE: u32 = 64;
    /// Largest side in pixels. Too high lets one player make a streamer allocate gigabytes; 4096
    /// is the limit of H.264 level 5.1, so nothing above it could be played anyway.
    pub const MAX_SIDE: u32 = 4096;
    /// 1280 x 720.
    pub const HD: Size = Size { width: 1280, height: 720 };
    /// 1920 x 1080.
    pub const FULL_HD: Size = Size { width: 1920, height: 1080 };

    /// A size, each side rounded down to even.
    ///
    /// # Errors
    /// [`SizeError`] when a side is outside the limits.
    pub fn new(width: u32, height: u32) -> Result<Size, SizeError> {
        let range = Self::MIN_SIDE..=Self::MAX_SIDE;
        if range.contains(&width) && range.contains(&height) {
            Ok(Size { width: width & !1, height: height & !1 })
        } else {
            Err(SizeError { width, height })
        }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(self) -> u32 {
        self.height
    }

    /// Number of pixels.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Frames per second, 1 to 240.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameRate(u16);

impl FrameRate {
    /// Thirty frames per second.
    pub const FPS_30: FrameRate = FrameRate(30);
    /// Sixty frames per second.
    pub const FPS_60: FrameRate = FrameRate(60);

    /// A rate, or `None` outside 1..=240.
    #[must_use]
    pub fn new(frames_per_second: u16) -> Option<FrameRate> {
        (1..=240).contains(&frames_per_second).then_some(FrameRate(frames_per_second))
    }

    /// Frames per second.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// Time between two frames.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs(1) / u32::from(self.0)
    }
}

/// Bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bitrate(u64);

impl Bitrate {
    /// From bits per second.
    #[must_use]
    pub const fn from_bps(bits_per_second: u64) -> Bitrate {
        Bitrate(bits_per_second)
    }

    /// From kilobits (1000 bits) per second.
    #[must_use]
    pub const fn from_kbps(kilobits_per_second: u64) -> Bitrate {
        Bitrate(kilobits_per_second * 1000)
    }

    /// Bits per second.
    #[must_use]
    pub const fn bps(self) -> u64 {
        self.0
    }

    /// Kilobits per second, rounded down.
    #[must_use]
    pub const fn kbps(self) -> u64 {
        self.0 / 1000
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kbit/s", self.kbps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_even_and_bounded() {
        assert_eq!(Size::new(1281, 721), Ok(Size::HD));
        assert!(Size::new(63, 720).is_err());
        assert!(Size::new(1280, 4097).is_err());
        assert_eq!(
            Size::new(0, 5).unwrap_err().to_string(),
            "0x5 is not a usable picture size: each side must be 64 to 4096 pixels"
        );
    }

    #[test]
    fn rates_are_bounded() {
        assert_eq!(FrameRate::new(0), None);
        assert_eq!(FrameRate::new(241), None);
        assert_eq!(FrameRate::FPS_60.interval(), Duration::from_nanos(16_666_666));
        assert_eq!(Bitrate::from_kbps(8000).to_string(), "8000 kbit/s");
    }
}
