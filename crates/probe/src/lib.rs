//! The measured applications' shared parts: the picture that tells its own numbers, the tick, the log.
//!
//! A probe draws a full-size moving picture about sixty times a second. Its top strip says, in black and white cells that survive a low
//! bitrate, which frame this is, how many inputs it has shown, and when it was committed; so whoever looks at the
//! stream can measure it without asking the probe. `bench/latency` decodes the strip in the browser.
//!
//! Deliberately absent: anything of Kite. The same binary is measured inside Kite and inside its peers.

pub mod clock;
pub mod picture;
pub mod report;
pub mod shared_memory;
pub mod strip;
mod sys;
