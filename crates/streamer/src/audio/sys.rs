//! Lets a child process die with the thread that started it.
#![expect(unsafe_code, reason = "code between fork and exec")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// The kernel kills the child when the thread that spawns it ends, also when this process is killed.
pub(super) fn die_with_this_thread(command: &mut Command) {
    // SAFETY: the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
}
