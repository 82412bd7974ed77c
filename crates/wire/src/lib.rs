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
//! Deliberately absent: I/O, clocks, and any use of what arrives.

mod client;
mod server;

pub use client::{
    Button, ClientMessage, FrameReport, KeyCode, MotionTotal, PadButtons, PadState, PointerPosition, Stamp, TouchPhase,
};
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
