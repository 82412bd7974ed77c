//! Taking over the file descriptors that the node agent left open for this process.
#![expect(unsafe_code, reason = "descriptors inherited across exec have no owner in the type system")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Owns the inherited descriptor `fd`, or `None` when it is not open.
///
/// Call it once for each number, at start, before anything else could have opened a descriptor of that number.
#[must_use]
pub(crate) fn take_inherited(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 {
        return None;
    }
    // SAFETY: borrowed only to ask whether it is open; no operation is done on it.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let mut flags = rustix::io::fcntl_getfd(borrowed).ok()?;
    flags.insert(rustix::io::FdFlags::CLOEXEC);
    rustix::io::fcntl_setfd(borrowed, flags).ok()?;
    // SAFETY: the descriptor is open, was passed to this process by its parent for this purpose, and the callers take
    // each number once, so nobody else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
