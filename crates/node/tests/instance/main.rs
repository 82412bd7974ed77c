//! An agent with real processes: a streamer that speaks the contract, games in the real sandbox.
//!
//! Needs `kite-sandbox` in the target directory: `cargo build -p sandbox`.

mod ends;
mod harness;
mod life;
