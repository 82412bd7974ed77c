//! User namespaces: for callers who are not root, and to map the owner of a package to the game.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::process::{getegid, geteuid};

use crate::sys::{self, Side};

/// Who a caller's game is inside its user namespace.
pub(crate) const PLAYER: u32 = 1000;

/// Moves this process into a new user namespace, in which it is [`PLAYER`] and has every capability.
pub(crate) fn enter_new() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(libc::CLONE_NEWUSER)?;
    // The kernel lets an ordinary user map its group only once groups cannot be dropped.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{PLAYER} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{PLAYER} {gid} 1"))
}

/// A namespace for an id-mapped mount: what belongs to `from` on disk appears to belong to `to`.
pub(crate) fn id_map(from: (u32, u32), to: (u32, u32)) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixDatagram::pair()?;
    match sys::clone(libc::CLONE_NEWUSER)? {
        Side::Child => {
            drop(ours);
            // Lives until its parent has opened its namespace.
            let mut byte = [0; 1];
            drop(theirs.recv(&mut byte));
            sys::exit_now(0);
        }
        Side::Parent { pid, pidfd } => {
            let made = (|| {
                fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1", from.0, to.0))?;
                fs::write(format!("/proc/{pid}/gid_map"), format!("{} {} 1", from.1, to.1))?;
                fs::File::open(format!("/proc/{pid}/ns/user"))
            })();
            rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)?;
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            made.map(OwnedFd::from)
        }
    }
}
