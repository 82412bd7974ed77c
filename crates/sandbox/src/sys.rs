//! The few kernel calls that have no safe wrapper.
#![expect(unsafe_code, reason = "raw clone, mount_setattr, seccomp and signal calls have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};

pub(crate) const MOUNT_READ_ONLY: u64 = 0x1;
pub(crate) const MOUNT_NO_SUID: u64 = 0x2;
pub(crate) const MOUNT_NO_DEVICES: u64 = 0x4;
pub(crate) const MOUNT_NO_EXECUTION: u64 = 0x8;
const MOUNT_ID_MAP: u64 = 0x10_0000;

/// Which side of a clone this is.
#[derive(Debug)]
pub(crate) enum Side {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `clone` like `fork`, with namespaces. Only for a process with one thread.
///
/// Not `clone3`: init still forks after the system call filter, which hides that one.
pub(crate) fn clone(namespaces: c_int) -> io::Result<Side> {
    let mut pidfd: c_int = -1;
    let flags = c_long::from(namespaces | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack this is a fork: the child gets a copy of the whole address space. The
    // process has one thread, so no lock can be held by a thread that is not copied. The kernel stores one integer in
    // `pidfd`, which outlives the call; the last two arguments are not used with these flags.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor, which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// Ends this process at once, without running what the parent registered for its own exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Makes these the descriptors 0, 1, 2 ... of this process, to be kept at exec, and closes all others.
pub(crate) fn keep_only_descriptors(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let count = c_int::try_from(kept.len()).map_err(io::Error::other)?;
    // Out of the way of the numbers that they get, so that none overwrites another.
    let mut copies = Vec::with_capacity(kept.len());
    for descriptor in kept {
        copies.push(rustix::io::fcntl_dupfd_cloexec(descriptor, 64)?);
    }
    for (number, copy) in (0..count).zip(&copies) {
        // SAFETY: replaces a descriptor number; whoever owned it in this process is never used or dropped again, as our caller promises by
        // becoming another program or ending.
        done(unsafe { libc::dup2(copy.as_raw_fd(), number) }.into())?;
    }
    // Closed by the call below.
    copies.into_iter().for_each(std::mem::forget);
    // SAFETY: closes descriptors; as above.
    done(unsafe { libc::syscall(libc::SYS_close_range, count, u32::MAX, 0) })
}

/// Writes to a descriptor by its number, once. Errors are nobody's: whoever would hear of them is gone.
pub(crate) fn write_to_number(descriptor: c_int, bytes: &[u8]) {
    // SAFETY: the kernel reads `len` bytes from the slice; a number that is not open is an error and nothing else.
    let _unheard = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
}

/// Leaves namespaces for new ones.
pub(crate) fn unshare(namespaces: c_int) -> io::Result<()> {
    // SAFETY: only namespace flags are passed by our callers, which share no memory or descriptors between threads.
    done(unsafe { libc::unshare(namespaces) }.into())
}

/// Marks every descriptor from `first` on to be closed at exec.
pub(crate) fn close_at_exec(first: u32) -> io::Result<()> {
    // SAFETY: changes only a flag of descriptors.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// What changes of a mount.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountChange<'a> {
    /// Attributes to add.
    pub(crate) set: u64,
    /// Attributes to take away.
    pub(crate) clear: u64,
    /// Also of those below it.
    pub(crate) recursive: bool,
    /// The user namespace by which owners are mapped.
    pub(crate) ids: Option<BorrowedFd<'a>>,
}

/// Changes a mount.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, change: MountChange<'_>) -> io::Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let mut attributes = MountAttributes { set: change.set, clear: change.clear, propagation: 0, user_namespace: 0 };
    if let Some(ids) = change.ids {
        attributes.set |= MOUNT_ID_MAP;
        attributes.user_namespace = u64::from(ids.as_raw_fd().cast_unsigned());
    }
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure is the kernel's `mount_attr` with its size; both outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
}

/// One instruction of a classic BPF program.
pub(crate) type Instruction = libc::sock_filter;

/// Filters the system calls of this process and all it will start. `no_new_privs` must be set before.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions from `filter`, which the slice guarantees, and writes nothing.
    done(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

/// Blocks the signals and returns a descriptor that is readable when one is pending.
pub(crate) fn signal_descriptor(signals: &[c_int]) -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain integers, made valid by `sigemptyset` before any other use; the calls only read and
    // write that local variable. The descriptor returned is new and owned by nothing else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        done(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        done(descriptor.into())?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// The signal that a [`signal_descriptor`] delivered.
pub(crate) fn read_signal(descriptor: &OwnedFd) -> io::Result<u32> {
    let mut information = [0_u8; size_of::<libc::signalfd_siginfo>()];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(descriptor, &mut information))?;
    match information.first_chunk::<4>() {
        Some(number) if count == information.len() => Ok(u32::from_ne_bytes(*number)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Gives every signal its default action and lets all through, as a new program expects: init blocks some, and both go
/// with a process through `exec`.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler. Signals that cannot be changed answer with an error, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a signal set is plain integers, made valid by `sigemptyset`; the calls only touch that local variable.
    done(unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into()
    })
}

/// Names the host as this UTS namespace sees it.
pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes from the slice.
    done(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into())
}

/// Turns the loopback interface of this network namespace on.
pub(crate) fn raise_loopback() -> io::Result<()> {
    // SAFETY: `ifreq` is plain data for which all zero is valid; the name is shorter than its field and ends in zero; the
    // calls read and write that local variable; the socket is closed by its owner.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        done(socket.into())?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        done(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request).into())
    }
}

fn done(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
