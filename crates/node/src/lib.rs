//! The agent of one machine: makes observed instances equal desired ones.
//!
//! ```text
//! control ── NodeEnd ──> agent (reconciles, one task)
//!                          ├─ kite-echo          own process, lines on standard input; what strangers measure the way with
//!                          └─ instance (one task each): directory -> streamer -> game -> end -> nothing left
//!                                ├─ kite-streamer   own process, control socket on descriptor 3
//!                                └─ the game        in its sandbox
//! ```
//!
//! Principles: every instance ends in `Ended` with a reason, whatever happens; what an instance leaves on the machine is
//! removed by its own task, and what a killed agent left is removed by the next one before it takes work.
//! Deliberately absent: pixels, SDP, sessions and players' tokens.

mod agent;
mod commands;
mod disk;
mod echo;
mod game;
mod image;
mod instance;
mod leftover;
mod lines;
mod machine;
mod meter;
mod metrics;
mod place;
mod saves;
mod settings;
mod steps;
mod streamer;
mod sys;

pub use agent::{Agent, StartError};
pub use image::{Image, ImageError};
pub use leftover::Swept;
pub use machine::{CPU_OVERCOMMIT, cpu_milli, processors};
pub use settings::{NodeSettings, default_runtime_dir};

/// Kills the streamers of this agent's directories and removes the directories: for the end by force of the process that
/// runs the agent. Games end with that process by themselves. Blocks.
#[must_use]
pub fn sweep(settings: &NodeSettings) -> Swept {
    leftover::sweep(&place::instances_dir(settings), &settings.runtime_dir)
}
