//! Starts one game in a world of its own: namespaces, a private file system, limits, a syscall filter.
//!
//! ```text
//! caller ── control socket ──> kite-sandbox (one a game, single-threaded, outside)
//!                                 │ creates the cgroup, keeps the log, watches the disk, cleans up
//!                                 ├─ init (pid 1 inside: builds the world, reaps)
//!                                 │    ├─ the game (no capabilities, no new privileges, seccomp)
//!                                 │    └─ plug (announces gamepads to the game's inotify)
//!                                 └─ minder (inside, while a script runs)
//!                                      └─ a script's init (pid 1 of a process namespace below the game's) ── /bin/sh
//! ```
//!
//! Principles
//! - **A program of its own does the forking.** [`Sandbox::start`] runs the small `kite-sandbox` beside the caller's
//!   executable, so no code runs between fork and exec in a program with threads. The whole request goes over one
//!   socket, which is also the life line: when the caller's end closes, even by `kill -9`, everything ends.
//! - **Mounts exist only inside.** They die with the last process; nothing of them is ever in the host's namespace.
//! - **Every limit that could not be set is said** in [`Enforced`]; nothing is promised silently.
//! - **A script's processes have a namespace of their own below the game's**: they see the game's and do not outlive the script, whatever they do.
//! - Root gives every game an unprivileged uid of its own. Anyone else gets a user namespace.
//!
//! Deliberately absent: async, network protocols, and any knowledge of sessions or of what a game is.

mod cgroup;
mod filter;
mod fuse;
mod helper;
mod init;
mod kept;
mod log;
mod protocol;
mod running;
mod script;
mod settings;
mod sys;
mod tree;
mod usage;
mod user_namespace;
mod world;

pub use cgroup::{ServerGroup, remove_groups, sweep};
pub use fuse::{FuseDevice, FuseError};
pub use helper::main as helper_main;
pub use protocol::{Enforced, Exit, Mechanism, Script, ScriptEnd, ScriptExit};
pub use running::{Running, StartError};
pub use settings::{
    APP_DIR, Gamepads, HOME_DIR, Identity, Limits, Log, Network, RUNTIME_DIR, Runtime, Sandbox, Sockets, Syscalls,
};
pub use tree::remove_tree;
pub use usage::Usage;
