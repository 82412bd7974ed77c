//! The spec: resolution and frame rate of a session, and the range of them that an app allows.

use serde::{Deserialize, Serialize};

/// Smallest width or height in pixels that an encoder takes and a player can see.
pub const MIN_EDGE: u32 = 64;
/// Largest width or height in pixels: the limit of H.264 level 5.1 and of most hardware encoders.
pub const MAX_EDGE: u32 = 4096;
/// Highest frame rate. More than 240 no display shows and no link here was measured with.
pub const MAX_FRAMES_PER_SECOND: u16 = 240;

/// Resolution x frame rate of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Picture width in pixels; even.
    pub width: u32,
    /// Picture height in pixels; even.
    pub height: u32,
    /// Highest frame rate.
    pub frames_per_second: u16,
}

impl StreamSpec {
    /// Pixels a second: the unit that a node's capacity is counted in, because encoding cost follows it.
    #[must_use]
    pub fn pixels_per_second(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.frames_per_second)
    }
}

/// What an app can be played at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecRange {
    /// Smallest of each.
    pub min: StreamSpec,
    /// Largest of each.
    pub max: StreamSpec,
    /// Used when the request names none.
    pub default: StreamSpec,
}

/// Why a spec cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Outside of the app's range. Ask for something inside of it.
    #[error("{field} is {value}, but this app allows {min} to {max}")]
    OutOfRange {
        /// Which of the three.
        field: &'static str,
        /// What was asked for.
        value: u32,
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// 4:2:0 video has no odd sizes. Ask for the next even number.
    #[error("{field} is {value}, but it has to be even")]
    Odd {
        /// `width` or `height`.
        field: &'static str,
        /// What was asked for.
        value: u32,
    },
}

impl SpecRange {
    /// Is this spec inside the range?
    ///
    /// # Errors
    /// Names the first field that is not.
    pub fn check(&self, spec: StreamSpec) -> Result<(), SpecError> {
        let fields = [
            ("width", spec.width, self.min.width, self.max.width),
            ("height", spec.height, self.min.height, self.max.height),
            (
                "frames_per_second",
                u32::from(spec.frames_per_second),
                u32::from(self.min.frames_per_second),
                u32::from(self.max.frames_per_second),
            ),
        ];
        for (field, value, min, max) in fields {
            if !(min..=max).contains(&value) {
                return Err(SpecError::OutOfRange { field, value, min, max });
            }
        }
        for (field, value) in [("width", spec.width), ("height", spec.height)] {
            if value % 2 != 0 {
                return Err(SpecError::Odd { field, value });
            }
        }
        Ok(())
    }
}

impl Default for SpecRange {
    /// 320 x 180 at 10 to 1920 x 1080 at 60; 1280 x 720 at 60 unless asked otherwise.
    fn default() -> Self {
        Self {
            min: StreamSpec { width: 320, height: 180, frames_per_second: 10 },
            max: StreamSpec { width: 1920, height: 1080, frames_per_second: 60 },
            default: StreamSpec { width: 1280, height: 720, frames_per_second: 60 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_checked() {
        let range = SpecRange::default();
        let good = range.default;
        let check = |spec: StreamSpec, expected: &str| {
            let error = range.check(spec).unwrap_err().to_string();
            assert_eq!(error, expected);
        };
        assert_eq!(range.check(good), Ok(()));
        check(StreamSpec { width: 100, ..good }, "width is 100, but this app allows 320 to 1920");
        check(StreamSpec { height: u32::MAX, ..good }, "height is 4294967295, but this app allows 180 to 1080");
        check(StreamSpec { frames_per_second: 0, ..good }, "frames_per_second is 0, but this app allows 10 to 60");
        check(StreamSpec { width: 1281, ..good }, "width is 1281, but it has to be even");
        assert_eq!(good.pixels_per_second(), 55_296_000);
    }
}
