//! The two forms of `ioctl` that uinput uses.
#![expect(unsafe_code, reason = "ioctl has no safe wrapper for numbers that are put together at run time")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// An ioctl whose argument is a number.
pub(crate) fn ioctl_number(device: BorrowedFd<'_>, request: u32, value: u32) -> io::Result<()> {
    // SAFETY: the requests that our callers use take their argument by value; the kernel reads no memory.
    done(unsafe { libc::ioctl(device.as_raw_fd(), libc::Ioctl::from(request), libc::c_ulong::from(value)) })
}

/// An ioctl whose argument is a structure, of the size that the request's number states.
pub(crate) fn ioctl_bytes(device: BorrowedFd<'_>, request: u32, bytes: &mut [u8]) -> io::Result<()> {
    let stated = usize::try_from((request >> 16) & 0x3FFF).map_err(io::Error::other)?;
    if bytes.len() != stated {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the structure has another size"));
    }
    // SAFETY: the kernel reads and writes at most the stated size, which is the slice's; it outlives the call.
    done(unsafe { libc::ioctl(device.as_raw_fd(), libc::Ioctl::from(request), bytes.as_mut_ptr()) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
