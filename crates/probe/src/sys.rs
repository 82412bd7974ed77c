//! The one unsafe edge of the probes: mapping shared memory.
#![expect(unsafe_code, reason = "mmap and the slice over it")]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A writable, shared mapping of a file.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<u8>,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`, which must be at least that long.
    pub(crate) fn new(file: BorrowedFd<'_>, length: usize) -> std::io::Result<Mapping> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of this process.
        let address = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
        };
        let address = NonNull::new(address.cast::<u8>()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { address, length })
    }

    /// The mapped bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `length` bytes, lives as long as `self`, and is borrowed mutably. The display server
        // only reads it, and the probes do not write while it does (completion events, buffer releases).
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of our own mapping, and no slice of it outlives `self`.
        if let Err(error) = unsafe { munmap(self.address.as_ptr().cast(), self.length) } {
            eprintln!("probe: munmap: {error}");
        }
    }
}
