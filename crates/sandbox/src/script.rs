//! A script beside the game: in its namespaces, as its user, under its limits and its filter, and in a process namespace below the
//! game's, so that the end of its first process is the end of all.
//!
//! ```text
//! helper ── line ──> minder            enters the world, starts the script's init, kills it when the line ends
//!                      └─ init         pid 1 below: reaps, says how the shell ended, and ends with it
//!                           └─ /bin/sh the script
//! ```
//! The minder is born hidden and never shows itself: it holds descriptors of the host, which a game of the same user must not reach. The shell
//! shows itself after they are closed.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_send_signal, waitid};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Group;
use crate::filter;
use crate::init::{Program, Report, become_player, die_with, forbid_privileges, keep_only, report};
use crate::kept::Kept;
use crate::protocol::{Enforced, Failure, Request, Script, ScriptEnd, ScriptExit, Step};
use crate::settings::Network;
use crate::sys::{self, Side};
use crate::usage::Usage;
use crate::world::Owner;

/// How long after its end a script may take to be gone. It is killed by the kernel, all at once.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// When memory is short the script goes before the game, which is at 500.
const OUT_OF_MEMORY_SCORE: &str = "1000";

/// How much the game goes before the script where both want a processor.
const NICENESS: i32 = 10;

/// Reads of what is left in the pipe after the end: more than fits into one.
const LAST_READS: usize = 32;

/// The world of a game, to be entered by others than its init.
pub(crate) struct Door {
    /// Processes, and those that the minder enters itself.
    processes: OwnedFd,
    others: Vec<(OwnedFd, LinkNameSpaceType)>,
}

impl Door {
    /// Of the process that has just been made with them: later it is hidden, and its files with it.
    pub(crate) fn open(init_pid: i32, network: Network) -> io::Result<Self> {
        let open = |name: &str| std::fs::File::open(format!("/proc/{init_pid}/ns/{name}")).map(OwnedFd::from);
        let mut others = vec![
            (open("ipc")?, LinkNameSpaceType::InterProcessCommunication),
            (open("uts")?, LinkNameSpaceType::HostNameAndNISDomainName),
        ];
        if network == Network::None {
            others.push((open("net")?, LinkNameSpaceType::Network));
        }
        // The last one: from there nothing of the host can be opened.
        others.push((open("mnt")?, LinkNameSpaceType::Mount));
        Ok(Self { processes: open("pid")?, others })
    }
}

/// What a script needs of the game beside which it runs.
pub(crate) struct Beside<'a> {
    pub(crate) door: &'a Door,
    pub(crate) request: &'a Request,
    pub(crate) owner: Owner,
    pub(crate) enforced: Enforced,
    pub(crate) group: &'a Group,
    pub(crate) init_pid: i32,
    pub(crate) game_pid: i32,
}

/// A script that runs, as the helper knows it.
pub(crate) struct Running {
    number: u64,
    minder: OwnedFd,
    /// The minder kills when it ends.
    line: Option<UnixStream>,
    reports: UnixDatagram,
    output: Option<OwnedFd>,
    kept: Kept,
    began: Instant,
    deadline: Instant,
    /// Set when it was told to end.
    ended: Option<(Instant, ScriptExit)>,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(script: Script, beside: &Beside<'_>) -> Result<Self, Failure> {
        let (line, their_line) = UnixStream::pair().step(|| "make a socket".into())?;
        let (reports, their_reports) = UnixDatagram::pair().step(|| "make a socket".into())?;
        let (output, their_output) = pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe".into())?;
        rustix::io::ioctl_fionbio(&output, true).step(|| "make a pipe".into())?;
        let used = Usage::read(beside.group, beside.init_pid).processes;
        let free = u64::from(beside.request.limits.processes).saturating_sub(used);
        let groups = groups_of(beside.game_pid);
        // Where the next child is born. Without root there is no way back from it, and no other child either.
        move_into_link_name_space(beside.door.processes.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .step(|| "enter the game's process namespace".into())?;
        match sys::clone(0).step(|| "start the script's minder".into())? {
            Side::Child => {
                drop((line, reports, output));
                mind(Errand {
                    beside,
                    groups,
                    // Half of what the game has left: a script that forks forever takes none of the game's threads.
                    processes: used + (free / 2).max(4),
                    script: script.text,
                    output: their_output,
                    line: their_line,
                    reports: their_reports,
                })
            }
            Side::Parent { pid, pidfd } => {
                drop((their_line, their_reports, their_output));
                let now = Instant::now();
                let running = Self {
                    number: script.number,
                    minder: pidfd,
                    line: Some(line),
                    reports,
                    output: Some(output),
                    kept: Kept::new(script.max_output_bytes),
                    began: now,
                    deadline: now + script.timeout,
                    ended: None,
                };
                let joined = beside.group.attach(pid).step(|| "put the script into the game's control group".into());
                let begun = joined.and_then(|()| {
                    let line = running.line.as_ref().ok_or("it is gone").step(|| "find the line".into())?;
                    io::Write::write_all(&mut &*line, b"!").step(|| "start the script's minder".into())
                });
                if let Err(failure) = begun {
                    pidfd_send_signal(&running.minder, Signal::KILL).ok();
                    running.bury();
                    return Err(failure);
                }
                Ok(running)
            }
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn minder(&self) -> &OwnedFd {
        &self.minder
    }

    pub(crate) fn output(&self) -> Option<&OwnedFd> {
        self.output.as_ref()
    }

    /// When [`Self::look`] has something to do at the latest.
    pub(crate) fn wake_at(&self) -> Instant {
        self.ended.as_ref().map_or(self.deadline, |(at, _)| *at + KILL_LIMIT)
    }

    /// Ends it when its time is over, and a minder that does not end.
    pub(crate) fn look(&mut self, now: Instant) {
        match &mut self.ended {
            None if now >= self.deadline => self.end(now, ScriptExit::TimedOut),
            Some((at, _)) if now >= *at + KILL_LIMIT => {
                *at = now;
                // Its end is also the end of what it minds.
                pidfd_send_signal(&self.minder, Signal::KILL).ok();
            }
            None | Some(_) => {}
        }
    }

    /// Has it killed, with everything that it started.
    pub(crate) fn end(&mut self, now: Instant, exit: ScriptExit) {
        if self.ended.is_none() {
            self.ended = Some((now, exit));
            self.line = None;
        }
    }

    /// Takes some output; how much.
    pub(crate) fn copy_output(&mut self) -> usize {
        let Some(pipe) = &self.output else { return 0 };
        let mut buffer = [0; 64 << 10];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(count @ 1..) => {
                self.kept.push(&buffer[..count]);
                count
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Ok(0) | Err(_) => {
                self.output = None;
                0
            }
        }
    }

    /// What became of it; for when its minder has ended, and all that it minded.
    pub(crate) fn finish(mut self) -> ScriptEnd {
        self.bury();
        for _ in 0..LAST_READS {
            if self.copy_output() == 0 {
                break;
            }
        }
        let mut buffer = [0; 4096];
        let said = self.reports.set_nonblocking(true).and_then(|()| self.reports.recv(&mut buffer));
        let said = said.ok().and_then(|count| serde_json::from_slice(&buffer[..count]).ok());
        let exit = match (self.ended.take(), said) {
            (Some((_, exit)), _) => exit,
            (None, Some(Report::Ended(status))) if libc::WIFEXITED(status) => {
                ScriptExit::Code(libc::WEXITSTATUS(status))
            }
            (None, Some(Report::Ended(status))) => ScriptExit::Signal(libc::WTERMSIG(status)),
            (None, Some(Report::Failed(failure))) => {
                ScriptExit::Lost(format!("cannot {}: {}", failure.step, failure.detail))
            }
            (None, Some(Report::Started { .. }) | None) => {
                ScriptExit::Lost("it was killed from inside, or memory was short".to_owned())
            }
        };
        let (output, cut_bytes) = self.kept.finish();
        ScriptEnd { number: self.number, exit, output, cut_bytes, ran_for: self.began.elapsed() }
    }

    fn bury(&self) {
        let waited = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.minder.as_fd()), WaitIdOptions::EXITED));
        if let Err(error) = waited {
            tracing::error!(%error, "cannot wait for a script's minder");
        }
    }
}

/// Supplementary groups of the game, as its first process has them: those of the graphics devices.
fn groups_of(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

/// What a minder is born with.
struct Errand<'a> {
    beside: &'a Beside<'a>,
    groups: Vec<u32>,
    processes: u64,
    script: String,
    output: OwnedFd,
    /// One byte comes when the helper has done its part; its end is the end of the script.
    line: UnixStream,
    reports: UnixDatagram,
}

/// Runs the minder to its end.
fn mind(errand: Errand<'_>) -> ! {
    let code = match enter_and_wait(&errand) {
        Ok(()) => 0,
        Err(failure) => {
            report(&errand.reports, &Report::Failed(failure));
            1
        }
    };
    sys::exit_now(code)
}

fn enter_and_wait(errand: &Errand<'_>) -> Result<(), Failure> {
    (&errand.line).read_exact(&mut [0]).step(|| "wait for the helper".into())?;
    die_with(&errand.line)?;
    for (namespace, kind) in &errand.beside.door.others {
        move_into_link_name_space(namespace.as_fd(), Some(*kind)).step(|| format!("enter the game's {kind:?}"))?;
    }
    sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace".into())?;
    forbid_privileges()?;
    let init = match sys::clone(libc::CLONE_NEWPID).step(|| "make a process namespace".into())? {
        Side::Child => run_init(errand),
        Side::Parent { pidfd, .. } => pidfd,
    };
    let filter = filter::program(errand.beside.request.syscalls);
    sys::install_filter(&filter).step(|| "install the system call filter".into())?;
    keep_only(CapabilitySet::KILL).step(|| "drop capabilities of the minder".into())?;
    let mut is_told = false;
    loop {
        let mut sources = vec![PollFd::new(&init, PollFlags::IN)];
        if !is_told {
            sources.push(PollFd::new(&errand.line, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut sources, None)).step(|| "wait for the script".into())?;
        let (has_ended, is_over) =
            (!sources[0].revents().is_empty(), sources.len() > 1 && !sources[1].revents().is_empty());
        if has_ended {
            // Returns when the kernel has ended everything in its namespace.
            waitid(WaitId::PidFd(init.as_fd()), WaitIdOptions::EXITED).step(|| "wait for the script".into())?;
            return Ok(());
        }
        if is_over {
            is_told = true;
            pidfd_send_signal(&init, Signal::KILL).step(|| "kill the script".into())?;
        }
    }
}

/// The first process of the script's namespace.
fn run_init(errand: &Errand<'_>) -> ! {
    let status = (|| {
        // Its parent is the minder, whose end has to be its own.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .step(|| "tie init to its minder".into())?;
        let filter = filter::program(errand.beside.request.syscalls);
        sys::install_filter(&filter).step(|| "install the system call filter".into())?;
        let signals = sys::signal_descriptor(&[libc::SIGCHLD]).step(|| "block signals".into())?;
        let shell = match sys::clone(0).step(|| "start the script's process".into())? {
            Side::Child => become_shell(errand),
            Side::Parent { pid, .. } => pid,
        };
        keep_only(CapabilitySet::empty()).step(|| "drop capabilities of the script's init".into())?;
        loop {
            sys::read_signal(&signals).step(|| "wait for a signal".into())?;
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if pid.as_raw_nonzero().get() == shell {
                    return Ok(status.as_raw());
                }
            }
        }
    })();
    // A shell that could not be started said so before: the first word counts.
    match status {
        Ok(status) => report(&errand.reports, &Report::Ended(status)),
        Err(failure) => report(&errand.reports, &Report::Failed(failure)),
    }
    sys::exit_now(0)
}

fn become_shell(errand: &Errand<'_>) -> ! {
    let failure = (|| {
        let null =
            open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(|| "open /dev/null".into())?;
        let reports = errand.reports.as_fd();
        sys::keep_only_descriptors(&[null.as_fd(), errand.output.as_fd(), errand.output.as_fd(), reports])
            .step(|| "close descriptors".into())?;
        // It is closed.
        std::mem::forget(null);
        sys::close_at_exec(3).step(|| "close descriptors".into())?;
        rustix::process::nice(NICENESS).step(|| "give the game precedence".into())?;
        Ok::<(), Failure>(())
    })();
    let failure = failure.err().unwrap_or_else(|| {
        let command: [OsString; 3] = ["/bin/sh".into(), "-c".into(), errand.script.clone().into()];
        become_player(&Program {
            request: errand.beside.request,
            owner: errand.beside.owner,
            enforced: errand.beside.enforced,
            groups: &errand.groups,
            command: &command,
            output: &Stdio::inherit,
            out_of_memory_score: OUT_OF_MEMORY_SCORE,
            processes: Some(errand.processes),
        })
    });
    // Nothing else is open but what the shell was to be given, and this.
    let said = serde_json::to_vec(&Report::Failed(failure)).unwrap_or_default();
    sys::write_to_number(3, &said);
    sys::exit_now(127)
}
