//! The `kite` command as its users see it: real processes, real HTTP, a streamer that speaks the contract and nothing else.
//!
//! Needs `contract-streamer` and `kite-sandbox` in the target directory: `cargo build -p node -p sandbox`.

mod harness;
mod offline;
mod up;
