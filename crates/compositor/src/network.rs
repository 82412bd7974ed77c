//! Takes the network from a server that answers an untrusted game.
#![expect(unsafe_code, reason = "leaving a namespace is unsafe in a program with threads; this is for a fresh child")]

use std::ffi::CString;
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// What is needed between fork and exec, made before it.
#[derive(Debug)]
pub struct NoNetwork {
    maps: [(&'static std::ffi::CStr, CString); 3],
}

impl NoNetwork {
    /// For children of this process.
    #[must_use]
    pub fn new() -> NoNetwork {
        let map = |id: u32| CString::new(format!("{id} {id} 1")).unwrap_or_default();
        let user = map(rustix::process::geteuid().as_raw());
        let group = map(rustix::process::getegid().as_raw());
        NoNetwork {
            maps: [
                (c"/proc/self/setgroups", c"deny".to_owned()),
                (c"/proc/self/uid_map", user),
                (c"/proc/self/gid_map", group),
            ],
        }
    }

    /// Leaves the network, between fork and exec: makes system calls only. Sockets that are files are reached as before.
    ///
    /// Root needs nothing else for it. Others get a user namespace in which they are who they were; where that is forbidden, the network stays.
    ///
    /// # Errors
    /// The kernel's, when the child is between two worlds and must not run.
    ///
    /// # Safety
    /// The calling process has one thread.
    pub unsafe fn leave(&self) -> io::Result<()> {
        // SAFETY: one thread, says the caller; namespaces of users and networks share nothing with descriptors that are open.
        let alone = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
        // SAFETY: as above.
        if alone.is_ok() || unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }.is_err() {
            return Ok(());
        }
        for (path, text) in &self.maps {
            let file = open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text.as_bytes())?;
        }
        Ok(())
    }
}

impl Default for NoNetwork {
    fn default() -> NoNetwork {
        NoNetwork::new()
    }
}
