//! What has to be done between fork and exec: descriptors, priority limit, user; and the exec itself, by descriptor, because
//! the new user may have no right to the program's directory (a checkout in root's home). And watching a descriptor.
#![expect(unsafe_code, reason = "`pre_exec`, `execveat` and `AsyncFd::register` are unsafe by nature")]

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
    /// May take real-time priority, where root can give that.
    pub(crate) realtime: bool,
}

/// A program and its environment, ready for `execveat`.
struct Program {
    file: File,
    _strings: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

// SAFETY: the pointers point into `_strings`, which is owned by the same value, never changed and not moved on the heap when
// the value moves; nothing is written through them.
unsafe impl Send for Program {}
// SAFETY: as above; all access is reading.
unsafe impl Sync for Program {}

impl Program {
    fn open(path: &Path, environment: Vec<(OsString, OsString)>) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut strings = vec![CString::new(path.as_os_str().as_encoded_bytes())?];
        for (name, value) in environment {
            let entry = [name.into_vec(), b"=".to_vec(), value.into_vec()].concat();
            strings.push(CString::new(entry)?);
        }
        let pointers: Vec<*const libc::c_char> = strings.iter().map(|string| string.as_ptr()).collect();
        let arguments = vec![pointers[0], ptr::null()];
        let environment = pointers[1..].iter().copied().chain([ptr::null()]).collect();
        Ok(Self { file, _strings: strings, arguments, environment })
    }

    /// Becomes the program; returns only when that failed.
    fn exec(&self) -> io::Error {
        // SAFETY: both arrays end with a null pointer and hold pointers to strings that end with NUL, all alive in `self`;
        // the empty path with AT_EMPTY_PATH means the open file.
        unsafe {
            libc::execveat(
                self.file.as_raw_fd(),
                c"".as_ptr(),
                self.arguments.as_ptr().cast(),
                self.environment.as_ptr().cast(),
                libc::AT_EMPTY_PATH,
            );
        }
        io::Error::last_os_error()
    }
}

/// A command that becomes the program with this environment and no arguments: each descriptor under its number, a process
/// group of its own, permission for real-time priority where root can give it, the user.
///
/// The numbers must be above 2 and differ. The descriptors are closed in the caller when the command is dropped.
pub(crate) fn command(
    program: &Path,
    environment: Vec<(OsString, OsString)>,
    descriptors: Vec<(OwnedFd, RawFd)>,
    user: Become,
) -> io::Result<Command> {
    // Out of the way of the target numbers, so that no duplication overwrites a source.
    let sources = descriptors
        .into_iter()
        .map(|(fd, target)| Ok((rustix::io::fcntl_dupfd_cloexec(&fd, 64)?, target)))
        .collect::<io::Result<Vec<_>>>()?;
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let mut command = Command::new(program);
    let program = Program::open(program, environment)?;
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
                drop_to(id, &groups, user.realtime)?;
            }
            // No set-user-id program is of use to it, nor to the servers that it starts for the game.
            rustix::thread::set_no_new_privs(true)?;
            Err(program.exec())
        });
    }
    Ok(command)
}

/// Becomes this user for good, with the right to real-time priority or without, and no other one. Runs between fork and exec.
///
/// The right is a resource limit; where root may not raise it (containers without `CAP_SYS_RESOURCE`), it is the capability
/// `CAP_SYS_NICE`, which allows changing priorities and nothing else. Where neither can be had the streamer runs without,
/// and says so.
fn drop_to(id: u32, groups: &[Gid], realtime: bool) -> io::Result<()> {
    let limit = Rlimit { current: Some(REALTIME_PRIORITY), maximum: Some(REALTIME_PRIORITY) };
    let capability = realtime && rustix::process::setrlimit(Resource::Rtprio, limit).is_err();
    rustix::thread::set_keep_capabilities(capability)?;
    rustix::thread::set_thread_groups(groups)?;
    let gid = Gid::from_raw(id);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(id);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    if capability {
        let nice = CapabilitySet::SYS_NICE;
        let sets = CapabilitySets { effective: nice, permitted: nice, inheritable: nice };
        // What is not raised into the ambient set ends with the exec: a failure leaves no capability at all.
        let _refused = rustix::thread::set_capabilities(None, sets)
            .and_then(|()| rustix::thread::configure_capability_in_ambient_set(nice, true));
    }
    Ok(())
}

/// Lets tokio watch a descriptor for something to read. The descriptor may be blocking: nobody reads through this.
pub(crate) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same open file for as long as the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
