//! An agent with real processes: a streamer that speaks the contract, games in the real sandbox.
//!
//! Needs `kite-sandbox` and `kite-echo` in the target directory: `cargo build -p sandbox -p echo`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test's support fails the test")]

mod commands;
mod echo;
mod ends;
mod harness;
mod life;
mod usage;
mod warm;
