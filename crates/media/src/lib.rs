//! The vocabulary of pictures and sound: sizes, rates, pictures, encoded units.
//!
//! Everything else that touches media speaks these types. Deliberately absent: I/O, clocks (an
//! `Instant` is carried, never taken), serialisation, and any policy.

mod convert;
mod frame;
mod picture;
mod units;

pub use convert::{ConvertError, PackedFormat, PackedImage, convert_into};
pub use frame::{AudioPacket, EncodedUnit, Frame, InputMark, PcmBlock, VideoCodec};
pub use picture::{ColorMatrix, Picture, PicturePool, PooledPicture};
pub use units::{Bitrate, FrameRate, Size, SizeError};
