//! The bytes between a player's client and its streamer, on two WebRTC data channels.
//!
//! | channel | label | delivery | carries |
//! |---|---|---|---|
//! | control | `kite-control` | reliable, ordered | everything that must arrive: keys, buttons, touch ends, text, resize, answers |
//! | motion | `kite-motion` | unreliable, unordered | what the next message supersedes: pointer motion, touch moves, pad states, frame marks |
//!
//! One message a datagram. Everything on the motion channel is a *state*, not a step: relative motion is a running
//! total, a pad is its full state, so a lost message costs nothing once the next one arrives.
//!
//! Each type is declared once, in `client.rs` and `server.rs`: the macros of `codec.rs` make the Rust type, its codec and its
//! [`schema`] out of one declaration, and [`typescript`] makes the web SDK's codec out of the schema.
//!
//! Deliberately absent: I/O, clocks, and any use of what arrives.

mod client;
mod codec;
pub mod schema;
mod server;
#[cfg(test)]
mod tests;
pub mod typescript;

use codec::{Codec, Reader, UNLIMITED};

pub use client::{
    Button, ClientMessage, FrameReport, KeyCode, MotionTotal, PadButtons, PadState, PointerPosition, Stamp, TouchPhase,
};
pub use codec::{DecodeError, Fault};
pub use server::{Cursor, CursorImage, FrameMark, PointerMode, ServerMessage, StreamStatistics};

/// Version of this protocol. A client and a streamer must agree; adding a message type or a field at the end of one
/// keeps the version (unknown types are skipped, missing trailing bytes refused), changing a meaning raises it.
pub const PROTOCOL_VERSION: u16 = 1;

/// Label of the reliable channel.
pub const CONTROL_LABEL: &str = "kite-control";
/// Label of the unreliable channel.
pub const MOTION_LABEL: &str = "kite-motion";

/// Largest message of either direction, in bytes. Too low cuts clipboards and cursors; too high lets a client make the
/// streamer buffer without bound. 256 KiB is what every browser can send on a data channel.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

macro_rules! message {
    ($name:ident) => {
        impl $name {
            /// Appends the message's bytes. A text over its limit is cut at a character's end; the rest is the caller's to
            /// keep within the limits that the fields state: the peer refuses what is not.
            pub fn encode(&self, out: &mut Vec<u8>) {
                Codec::encode(self, out, UNLIMITED);
            }

            /// The message in a datagram. Bytes after the last known field are a newer peer's and are ignored.
            ///
            /// # Errors
            /// [`DecodeError`] says which field is wrong; skip [`DecodeError::UnknownType`] without complaint.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                Codec::decode(&mut Reader::new(bytes)?, UNLIMITED)
            }
        }
    };
}
message!(ClientMessage);
message!(ServerMessage);

/// Both directions' messages as data, client first.
pub const MESSAGES: [schema::Shape; 2] = [<ClientMessage as Codec>::SHAPE, <ServerMessage as Codec>::SHAPE];
