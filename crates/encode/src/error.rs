//! What can go wrong.

use std::fmt;

use media::{ColorMatrix, Size, VideoCodec};

/// One encoder that was tried and did not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// libavcodec's name of the encoder, with its device.
    pub encoder: String,
    /// What the library and the driver said.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.encoder, self.reason)
    }
}

/// Why no encoder opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The choice has no encoder for this codec on this machine. Offer another codec, or let the machine choose.
    #[error("there is no {choice} encoder for {codec:?} on this machine")]
    NoCandidate {
        /// The codec that was asked for.
        codec: VideoCodec,
        /// The choice, in words.
        choice: &'static str,
    },
    /// Every candidate failed. The reasons say what to install or repair.
    #[error("no encoder opened: {}", join(.0))]
    AllFailed(Vec<Attempt>),
}

fn join(attempts: &[Attempt]) -> String {
    attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a picture was not encoded, or a rate not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The picture is not what the encoder was opened for. Open another encoder for it.
    #[error("the encoder takes {expected} {expected_matrix:?}, the picture is {got} {got_matrix:?}")]
    WrongPicture {
        /// Size that the encoder takes.
        expected: Size,
        /// Coefficients that the encoder takes.
        expected_matrix: ColorMatrix,
        /// Size of the picture.
        got: Size,
        /// Coefficients of the picture.
        got_matrix: ColorMatrix,
    },
    /// The library or the driver failed. The encoder may be broken: open another one, with software when it was hardware.
    #[error("{encoder}: {reason}")]
    Failed {
        /// Name of the encoder.
        encoder: String,
        /// What was said.
        reason: String,
    },
}
