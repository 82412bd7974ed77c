//! What a child process gets between fork and exec: it dies with the thread that started it, and has no network.
#![expect(unsafe_code, reason = "code between fork and exec")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use compositor::NoNetwork;
use rustix::process::{Signal, set_parent_process_death_signal};

/// The kernel kills the child when the thread that spawns it ends, also when this process is killed. It cannot reach a network, because it
/// answers an untrusted game.
pub(super) fn confine(command: &mut Command) {
    let network = NoNetwork::new();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // SAFETY: a forked child has one thread.
        unsafe { network.leave() }
    };
    // SAFETY: the closure makes system calls only and touches no memory that the parent changes.
    unsafe { command.pre_exec(prepare) };
}
