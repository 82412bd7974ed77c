//! Takes the control socket from its descriptor.
#![expect(unsafe_code, reason = "a descriptor has to be taken by its number")]

use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

use api::streamer::CONTROL_FD;

pub(crate) fn control_socket() -> UnixStream {
    // SAFETY: the agent put the socket there before this program began, and nothing else here takes it.
    unsafe { UnixStream::from_raw_fd(CONTROL_FD) }
}
