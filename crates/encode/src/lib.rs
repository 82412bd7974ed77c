//! One [`Encoder`] for video, software and hardware, and [`OpusEncoder`] for sound.
//!
//! Pictures go in as I420 ([`media::Picture`]), whole access units come out, from the same call: nothing waits inside.
//! H.264, HEVC and AV1 go through libavcodec, VP8 through libvpx. `sys.rs` files hold every call into C. Deliberately
//! absent: sessions, policy (when to send a key frame, which bitrate), threads of our own, clocks.

mod av;
mod devices;
mod error;
mod opus;
mod settings;
mod video;
mod vp8;

pub use crate::opus::{FRAMES_PER_PACKET, OpusEncoder, OpusError};
pub use devices::Devices;
pub use error::{Attempt, EncodeError, OpenError};
pub use settings::{Choice, VideoSettings};
pub use video::{Encoder, open};
