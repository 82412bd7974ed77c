//! What has to be done between fork and exec: descriptors, priority limit, user.
#![expect(unsafe_code, reason = "`pre_exec` is unsafe by nature")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Resource, Rlimit, Uid};

/// Highest real-time priority that a streamer may take. Its threads use a few levels; more would let it rank over the
/// kernel's own threads.
const REALTIME_PRIORITY: u64 = 20;

/// Who a child becomes.
#[derive(Clone, Debug)]
pub(crate) struct Become {
    /// User and group id; `None` keeps the caller's.
    pub(crate) id: Option<u32>,
    /// Supplementary groups, for GPU devices.
    pub(crate) groups: Vec<u32>,
}

/// Prepares the command: each descriptor under its number, a process group of its own, permission for real-time priority
/// where root can give it, the user.
///
/// The numbers must be above 2 and differ. The descriptors are closed in the caller when the command is dropped.
pub(crate) fn prepare(command: &mut Command, descriptors: Vec<(OwnedFd, RawFd)>, user: Become) -> io::Result<()> {
    // Out of the way of the target numbers, so that no duplication overwrites a source.
    let sources = descriptors
        .into_iter()
        .map(|(fd, target)| Ok((rustix::io::fcntl_dupfd_cloexec(&fd, 64)?, target)))
        .collect::<io::Result<Vec<_>>>()?;
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    command.process_group(0);
    // SAFETY: the closure runs in the forked child. It makes system calls only, on values prepared above: it allocates
    // nothing, takes no lock and does not panic.
    unsafe {
        command.pre_exec(move || {
            for (source, target) in &sources {
                // SAFETY: owned only for the duplication and never dropped, so nothing is closed behind its owner's back.
                let mut target = ManuallyDrop::new(OwnedFd::from_raw_fd(*target));
                rustix::io::dup2(source, &mut target)?;
            }
            if let Some(id) = user.id {
                let limit = Rlimit { current: Some(REALTIME_PRIORITY), maximum: Some(REALTIME_PRIORITY) };
                // In some containers even root may not: the streamer then runs without real-time priority and says so.
                let _refused = rustix::process::setrlimit(Resource::Rtprio, limit);
                rustix::thread::set_thread_groups(&groups)?;
                let gid = Gid::from_raw(id);
                rustix::thread::set_thread_res_gid(gid, gid, gid)?;
                let uid = Uid::from_raw(id);
                rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            }
            Ok(())
        });
    }
    Ok(())
}
