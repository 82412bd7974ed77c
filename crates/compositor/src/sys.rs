//! The unsafe edge: scheduling, what a child inherits, and pixels in memory that others may write to.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, and views of shared memory")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::wayland::shm::{BufferAccessError, BufferData, with_buffer_contents};

/// Priority among real-time threads. Low, so that a machine's own urgent work still comes first.
const REALTIME_PRIORITY: i32 = 10;

/// Gives the calling thread round-robin real-time scheduling. Its children do not inherit it.
pub(crate) fn make_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: REALTIME_PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread 0 is the calling one, and `parameters` lives through the call.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs a program that dies with the calling thread, has no network ([`crate::NoNetwork`]) and inherits these descriptors at their own numbers.
///
/// With `activation`, the first of them is moved to descriptor 3 and announced as systemd announces an activated socket.
pub(crate) fn spawn(command: &mut Command, inherit: Vec<OwnedFd>, activation: bool) -> io::Result<Child> {
    let numbers: Vec<RawFd> = inherit.iter().map(AsRawFd::as_raw_fd).collect();
    let network = crate::NoNetwork::new();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // SAFETY: a forked child has one thread.
        unsafe { network.leave()? };
        for number in &numbers {
            // SAFETY: the descriptors are open until `spawn` returns, as `inherit` is kept that long.
            let number = unsafe { std::os::fd::BorrowedFd::borrow_raw(*number) };
            rustix::io::fcntl_setfd(number, rustix::io::FdFlags::empty())?;
        }
        if activation && let Some(first) = numbers.first() {
            // SAFETY: plain system calls on descriptors of the child alone; dup2 to the same number is harmless.
            if unsafe { libc::dup2(*first, 3) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes async-signal-safe system calls only: no allocation, no lock.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn();
    drop(inherit);
    child
}

/// Lends the bytes of a client's shm buffer. Fails when the client took its memory away.
pub(crate) fn with_pixels<T>(
    buffer: &WlBuffer,
    read: impl FnOnce(&[u8], BufferData) -> T,
) -> Result<T, BufferAccessError> {
    with_buffer_contents(buffer, |pointer, length, data| {
        let offset = usize::try_from(data.offset).unwrap_or(usize::MAX).min(length);
        // SAFETY: smithay maps `length` bytes at `pointer` while this runs, and answers a SIGBUS in it by other memory.
        // The client may write meanwhile, against the protocol: bytes have no invalid values, and nothing that is read
        // here is trusted or read twice, so the worst is a torn picture.
        let bytes = unsafe { std::slice::from_raw_parts(pointer.add(offset), length - offset) };
        read(bytes, data)
    })
}

/// A shared memory segment that an X server writes pictures to.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    address: *mut u8,
    length: usize,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    pub(crate) fn new(length: usize) -> io::Result<SharedMemory> {
        let file = rustix::fs::memfd_create("kite-xvfb", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, length as u64)?;
        // SAFETY: a fresh mapping of a fresh file of this length.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                rustix::mm::ProtFlags::READ,
                rustix::mm::MapFlags::SHARED,
                &file,
                0,
            )?
        };
        Ok(SharedMemory { address: address.cast(), length, file })
    }

    /// The segment's descriptor, to be given to the X server.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped with this length until drop. The X server, our own child, writes only while it answers a
        // request of ours, and nobody reads then.
        unsafe { std::slice::from_raw_parts(self.address, self.length) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` and not used after this.
        let unmapped = unsafe { rustix::mm::munmap(self.address.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "unmapping cannot fail");
    }
}

/// The bytes of a canvas of pixels.
pub(crate) fn canvas_bytes(canvas: &[u32]) -> &[u8] {
    // SAFETY: the same memory, of a type that has no invalid values and a smaller alignment.
    unsafe { std::slice::from_raw_parts(canvas.as_ptr().cast(), size_of_val(canvas)) }
}

/// A pixman image that is only read: pixman wants a mutable pointer for every image.
pub(crate) fn source_image<'a>(
    format: smithay::reexports::pixman::FormatCode,
    width: usize,
    height: usize,
    bytes: &'a [u8],
    stride: usize,
) -> Option<smithay::reexports::pixman::Image<'a, 'static>> {
    let need = stride.checked_mul(height)?;
    let aligned = bytes.as_ptr().cast::<u32>().is_aligned() && stride.is_multiple_of(4);
    if bytes.len() < need || stride < width * 4 || !aligned {
        return None;
    }
    // SAFETY: the memory holds `height` rows of `stride` bytes and outlives the image by the lifetime; the image is only
    // ever a source, so pixman does not write to it. `clear` is false, so creating it does not write either.
    unsafe {
        smithay::reexports::pixman::Image::from_raw_mut(
            format,
            width,
            height,
            bytes.as_ptr().cast_mut().cast(),
            stride,
            false,
        )
        .ok()
    }
}
