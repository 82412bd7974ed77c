//! The `kite` command as its users see it: real processes, real HTTP, a streamer that speaks the contract and nothing else.
//!
//! Needs `contract-streamer` and `kite-sandbox` in the target directory: `cargo build -p node -p sandbox`.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's support fails the test")]

mod harness;
mod observed;
mod offline;
mod up;
