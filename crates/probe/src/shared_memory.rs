//! Memory that the probe draws into and the display server reads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context as _;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::sys::Mapping;

/// An anonymous file and its mapping.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    mapping: Mapping,
}

impl SharedMemory {
    /// Zeroed memory of this many bytes.
    ///
    /// # Errors
    /// When the system gives no such memory.
    pub fn new(bytes: usize) -> anyhow::Result<SharedMemory> {
        let file = memfd_create("probe", MemfdFlags::CLOEXEC).context("memfd_create")?;
        ftruncate(&file, u64::try_from(bytes)?).context("ftruncate")?;
        let mapping = Mapping::new(file.as_fd(), bytes).context("mmap")?;
        Ok(SharedMemory { file, mapping })
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.mapping.bytes_mut()
    }

    /// The file, to be handed to the display server.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
