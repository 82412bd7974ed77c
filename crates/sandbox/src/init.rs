//! Process 1 inside: builds the world, starts the game, buries the dead, and ends when the game does. The kernel then
//! kills whatever else is left in the process namespace.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, mknodat, open, openat, unlinkat};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::filter;
use crate::protocol::{Enforced, Failure, Input, Mechanism, Request, Step};
use crate::settings::{HOME_DIR, Network, RUNTIME_DIR};
use crate::sys::{self, Side};
use crate::world::{self, Owner};

/// How much likelier the game is to be killed when the whole machine is out of memory: before any part of Kite (0), after
/// what asked to be first (1000).
const OUT_OF_MEMORY_SCORE: &str = "500";

/// Memory that a process may lock. Sound libraries lock a little; more would defeat the memory limit's reclaim.
const LOCKED_BYTES: u64 = 8 << 20;

/// The file through which the gamepads' server says what appeared: read by [`announce_pads`].
const PLUG_FILE: &str = ".plug";

/// What init tells the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Started {
        /// See [`world::World`].
        package_mapped: bool,
    },
    Failed(Failure),
    /// The game's raw wait status.
    Ended(i32),
}

/// What init is given.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) request: Request,
    pub(crate) owner: Owner,
    pub(crate) enforced: Enforced,
    pub(crate) package_ids: Option<OwnedFd>,
    pub(crate) fuse: Option<OwnedFd>,
    pub(crate) output: Option<OwnedFd>,
    /// One byte comes when the helper has done its part (group, limits); end of file when it is gone.
    pub(crate) go: UnixStream,
    pub(crate) reports: UnixDatagram,
}

/// Runs init to its end.
pub(crate) fn run(mut birth: Birth) -> ! {
    let code = match live(&mut birth) {
        Ok(status) => {
            report(&birth.reports, &Report::Ended(status));
            0
        }
        Err(Some(failure)) => {
            report(&birth.reports, &Report::Failed(failure));
            1
        }
        // The game's process said why before it ended.
        Err(None) => 1,
    };
    sys::exit_now(code)
}

pub(crate) fn report(reports: &UnixDatagram, report: &Report) {
    // The helper being gone means that we are about to be killed.
    drop(serde_json::to_vec(report).map(|bytes| reports.send(&bytes)));
}

fn live(birth: &mut Birth) -> Result<i32, Option<Failure>> {
    let signals = sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM]).step(|| "block signals".into())?;
    sys::set_host_name("kite").step(|| "name the host".into())?;
    if birth.request.network == Network::None {
        sys::raise_loopback().step(|| "turn the loopback on".into())?;
    }
    let world = world::build(&birth.request, birth.owner, birth.package_ids.take().as_ref(), birth.fuse.take())?;
    // Joining a control group makes the kernel wait for all processors: the helper does it meanwhile.
    birth.go.read_exact(&mut [0]).step(|| "wait for the helper".into())?;
    sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace".into())?;
    confine(birth)?;
    let (game, failed) = start_game(birth, &world.device_groups)?;
    if failed {
        return Err(None);
    }
    drop(birth.output.take());
    if matches!(birth.request.input, Input::Fuse { .. }) {
        announce_pads()?;
    }
    keep_only(CapabilitySet::KILL).step(|| "drop capabilities of init".into())?;
    report(&birth.reports, &Report::Started { package_mapped: world.package_mapped });
    reap(&signals, game)
}

/// Privileges that this process and everything below it can never get back; those that it has it keeps for now.
pub(crate) fn forbid_privileges() -> Result<(), Failure> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if rustix::thread::remove_capability_from_bounding_set(capability).is_err() {
            // The first number that the kernel does not know.
            break;
        }
    }
    rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())
}

/// What init and everything below it can never get back.
fn confine(birth: &Birth) -> Result<(), Failure> {
    forbid_privileges()?;
    sys::install_filter(&filter::program(birth.request.syscalls)).step(|| "install the system call filter".into())?;
    // The game's uid in a user namespace is also init's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "hide init".into())?;
    die_with(&birth.go)
}

/// Ties this process to its parent, the helper, which has the other end of the line.
pub(crate) fn die_with(line: &UnixStream) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step(|| "tie init to its helper".into())?;
    // The helper may have died before the line above.
    let mut line = [PollFd::new(line, PollFlags::IN)];
    let hung_up = poll(&mut line, Some(&rustix::time::Timespec::default())).step(|| "look at the helper".into())? > 0;
    if hung_up { Err("it is gone").step(|| "find the helper".into()) } else { Ok(()) }
}

pub(crate) fn keep_only(kept: CapabilitySet) -> rustix::io::Result<()> {
    let held = rustix::thread::capabilities(None)?.permitted & kept;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() },
    )
}

/// Starts the game's process; true when it could not run its command.
fn start_game(birth: &Birth, groups: &[u32]) -> Result<(Pid, bool), Failure> {
    let (mut ours, theirs) = UnixStream::pair().step(|| "make a socket".into())?;
    match sys::clone(0).step(|| "start the game's process".into())? {
        Side::Child => {
            drop(ours);
            let output = || match birth.output.as_ref().map(OwnedFd::try_clone) {
                Some(Ok(output)) => Stdio::from(output),
                Some(Err(_)) | None => Stdio::null(),
            };
            let failure = become_player(&Program {
                request: &birth.request,
                owner: birth.owner,
                enforced: birth.enforced,
                groups,
                command: &birth.request.command,
                output: &output,
                out_of_memory_score: OUT_OF_MEMORY_SCORE,
                processes: None,
            });
            report(&birth.reports, &Report::Failed(failure));
            drop((&theirs).write_all(b"!"));
            sys::exit_now(127)
        }
        Side::Parent { pid, .. } => {
            drop(theirs);
            // End of file: the command runs.
            let failed = ours.read(&mut [0]).step(|| "wait for the game's process".into())? > 0;
            let pid = Pid::from_raw(pid).ok_or("not a process").step(|| "start the game's process".into())?;
            Ok((pid, failed))
        }
    }
}

/// A program that a process becomes inside of the world.
pub(crate) struct Program<'a> {
    pub(crate) request: &'a Request,
    pub(crate) owner: Owner,
    pub(crate) enforced: Enforced,
    /// Supplementary groups.
    pub(crate) groups: &'a [u32],
    pub(crate) command: &'a [OsString],
    /// Where standard output and error go.
    pub(crate) output: &'a dyn Fn() -> Stdio,
    pub(crate) out_of_memory_score: &'a str,
    /// Processes that its user may have, when they are fewer than the game's.
    pub(crate) processes: Option<u64>,
}

/// Turns this process into a program of the game's user. Returns only when that failed.
pub(crate) fn become_player(program: &Program<'_>) -> Failure {
    let request = program.request;
    let prepared = (|| {
        rustix::process::setsid().step(|| "begin a session".into())?;
        // Init is hidden, and so far this process too: its files in /proc would be closed to it in a user namespace.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).step(|| "show the game's process".into())?;
        fs::write("/proc/self/oom_score_adj", program.out_of_memory_score)
            .step(|| "set the out-of-memory score".into())?;
        set_limits(request, &program.enforced, program.processes)?;
        if !program.owner.mapped {
            let gid = rustix::fs::Gid::from_raw(program.owner.gid);
            let uid = rustix::fs::Uid::from_raw(program.owner.uid);
            let groups: Vec<_> = program.groups.iter().map(|group| rustix::fs::Gid::from_raw(*group)).collect();
            rustix::thread::set_thread_groups(&groups).step(|| "set the groups".into())?;
            rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| "set the group".into())?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| "set the user".into())?;
        }
        keep_only(CapabilitySet::empty()).step(|| "drop capabilities".into())?;
        sys::reset_signals().step(|| "reset the signals".into())?;
        rustix::process::chdir(&request.working_dir).map_err(|error| Failure {
            step: format!("enter {}", request.working_dir.display()),
            detail: error.to_string(),
            command: true,
        })
    })();
    if let Err(failure) = prepared {
        return failure;
    }
    let mut arguments = program.command.iter();
    let name = arguments.next().cloned().unwrap_or_default();
    let error = Command::new(&name)
        .args(arguments)
        .env_clear()
        .envs(environment(request))
        .stdin(Stdio::null())
        .stdout((program.output)())
        .stderr((program.output)())
        .exec();
    Failure { step: format!("start {}", name.display()), detail: error.to_string(), command: true }
}

/// Defaults, then the caller's own.
fn environment(request: &Request) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"),
        ("HOME", HOME_DIR),
        ("USER", "player"),
        ("LOGNAME", "player"),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("XDG_RUNTIME_DIR", RUNTIME_DIR),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    let sockets = &request.sockets;
    if sockets.wayland.is_some() {
        all.push(("WAYLAND_DISPLAY".into(), "wayland-0".into()));
    }
    if sockets.x11_dir.is_some() {
        all.push(("DISPLAY".into(), ":0".into()));
    }
    if sockets.pulse.is_some() {
        all.push(("PULSE_SERVER".into(), format!("unix:{RUNTIME_DIR}/pulse").into()));
    }
    all.extend(request.env.iter().cloned());
    all
}

fn set_limits(request: &Request, enforced: &Enforced, processes: Option<u64>) -> Result<(), Failure> {
    let limits = &request.limits;
    let mut wanted = vec![
        (Resource::Core, 0),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.disk_bytes.max(limits.tmp_bytes).max(limits.shm_bytes)),
        (Resource::Memlock, LOCKED_BYTES),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Nice, 0),
    ];
    let processes = match (processes, enforced.processes) {
        (None, Mechanism::ProcessLimit) => Some(u64::from(limits.processes)),
        (processes, _) => processes,
    };
    wanted.extend(processes.map(|processes| (Resource::Nproc, processes)));
    if enforced.memory == Mechanism::ProcessLimit {
        wanted.push((Resource::Data, limits.memory_bytes));
    }
    for (resource, value) in wanted {
        // Never above what we have ourselves: that needs a capability.
        let value = getrlimit(resource).maximum.map_or(value, |maximum| value.min(maximum));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .step(|| format!("set the limit {resource:?}"))?;
    }
    Ok(())
}

/// Waits for the game and for every orphan.
fn reap(signals: &OwnedFd, game: Pid) -> Result<i32, Option<Failure>> {
    loop {
        let signal = sys::read_signal(signals).step(|| "wait for a signal".into())?;
        if signal == libc::SIGTERM.cast_unsigned() {
            // The game, and the shell or launcher around it. Gone already is fine.
            rustix::process::kill_process_group(game, Signal::TERM).ok();
            continue;
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == game {
                return Ok(status.as_raw());
            }
        }
    }
}

/// Starts the process that makes gamepads appear. A file that a FUSE server adds by itself is not announced to those who
/// watch the directory; one that is created from inside is. So the server says what to create.
fn announce_pads() -> Result<(), Failure> {
    match sys::clone(0).step(|| "start the gamepads' process".into())? {
        Side::Parent { .. } => Ok(()),
        Side::Child => {
            keep_only(CapabilitySet::empty()).ok();
            // Any error means that the server is gone: there is nothing left to announce.
            follow_plug().ok();
            sys::exit_now(0)
        }
    }
}

fn follow_plug() -> rustix::io::Result<()> {
    let directory = open("/dev/input", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let plug = openat(&directory, PLUG_FILE, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 256];
    loop {
        poll(&mut [PollFd::from_borrowed_fd(plug.as_fd(), PollFlags::IN)], None)?;
        let count = match rustix::io::read(&plug, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error),
        };
        for line in String::from_utf8_lossy(&buffer[..count]).lines() {
            // Errors are the server's business: it knows what it said.
            match (line.get(..1), line.get(1..)) {
                (Some("+"), Some(name)) => {
                    mknodat(&directory, name, FileType::RegularFile, Mode::RUSR | Mode::WUSR, 0).ok();
                }
                // A change of attributes is announced too: for what may have been there before anyone watched.
                (Some("~"), Some(name)) => {
                    chmodat(&directory, name, Mode::from_raw_mode(0o666), AtFlags::empty()).ok();
                }
                (Some("-"), Some(name)) => {
                    unlinkat(&directory, name, AtFlags::empty()).ok();
                }
                _ => {}
            }
        }
    }
}
