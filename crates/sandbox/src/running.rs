//! The library's side: starts the helper, talks to it, and takes the blame when it is gone.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::cgroup::Group;
use crate::protocol::{
    Enforced, Exit, FromHelper, Input, Lines, Request, Script, ScriptEnd, ToHelper, send_line, send_request,
};
use crate::settings::{APP_DIR, Gamepads, HOME_DIR, Sandbox};
use crate::usage::Usage;

/// Longest start. Building the world takes milliseconds; a dead network file system under it could take for ever.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a helper may take to end after everything inside was killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a game did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong: correct it.
    #[error("the sandbox setting `{field}` {reason}")]
    Settings {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `kite-sandbox` could not be run: it belongs beside the program that uses this library.
    #[error("cannot run {}", path.display())]
    Helper {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The helper was killed, or did not answer in 20 s (a hanging file system under the package or the home).
    #[error("the sandbox helper did not answer")]
    Silent(#[source] io::Error),
    /// The kernel refused a step: the text names it. Usually a privilege that this container does not have.
    #[error("cannot {step}: {detail}")]
    World {
        /// What was tried.
        step: String,
        /// What the kernel said.
        detail: String,
    },
    /// The world stood, but the command is not in it or cannot be executed: the package or its manifest is wrong.
    #[error("cannot {step}: {detail}")]
    Command {
        /// What was tried.
        step: String,
        /// What the kernel said.
        detail: String,
    },
}

/// A game that was started. Dropping it kills everything inside and waits until it is gone.
#[derive(Debug)]
pub struct Running {
    helper: Child,
    socket: UnixStream,
    lines: Lines,
    group: Group,
    pid: i32,
    init_pid: i32,
    enforced: Enforced,
    ended: Option<(Exit, Usage)>,
    /// Ends of scripts that nobody took yet.
    script_ends: VecDeque<ScriptEnd>,
}

impl Sandbox {
    /// Starts the game. Blocks for some milliseconds; call it from a thread that may.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(self) -> Result<Running, StartError> {
        let root = rustix::process::geteuid().is_root();
        self.check(root).map_err(|unusable| StartError::Settings { field: unusable.field, reason: unusable.reason })?;
        let path = helper_path(self.helper.as_deref());
        let (request, descriptors) = self.into_request();
        let (ours, theirs) = UnixStream::pair().map_err(StartError::Silent)?;
        let helper = Command::new(&path)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| StartError::Helper { path, source })?;
        let mut running = Starting { helper: Some(helper) };
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        send_request(&ours, &request, &borrowed).map_err(StartError::Silent)?;
        // Ours must close too, or the kernel would not notice when the gamepads' server dies.
        drop(borrowed);
        drop(descriptors);
        let mut lines = Lines::default();
        match receive(&ours, &mut lines, Some(START_TIMEOUT)).map_err(StartError::Silent)? {
            Some(FromHelper::Started { pid, init_pid, enforced, group }) => {
                let helper = running.helper.take().ok_or_else(|| StartError::Silent(io::ErrorKind::NotFound.into()))?;
                Ok(Running {
                    helper,
                    socket: ours,
                    lines,
                    group,
                    pid,
                    init_pid,
                    enforced,
                    ended: None,
                    script_ends: VecDeque::new(),
                })
            }
            Some(FromHelper::Failed { failure }) if failure.command => {
                Err(StartError::Command { step: failure.step, detail: failure.detail })
            }
            Some(FromHelper::Failed { failure }) => {
                Err(StartError::World { step: failure.step, detail: failure.detail })
            }
            Some(FromHelper::Exited { .. } | FromHelper::ScriptEnded(_)) | None => {
                Err(StartError::Silent(io::ErrorKind::UnexpectedEof.into()))
            }
        }
    }

    fn into_request(self) -> (Request, Vec<OwnedFd>) {
        let (input, descriptors) = match self.gamepads {
            Gamepads::None => (Input::None, Vec::new()),
            Gamepads::Directory(path) => (Input::Directory(path), Vec::new()),
            Gamepads::Fuse(device) => {
                let input = Input::Fuse { user_namespace: device.user_namespace.is_some() };
                (input, [Some(device.device), device.user_namespace].into_iter().flatten().collect())
            }
        };
        let inside = if self.package.is_some() { APP_DIR } else { HOME_DIR };
        let request = Request {
            name: self.name,
            command: self.command,
            working_dir: self.working_dir.unwrap_or_else(|| inside.into()),
            env: self.env,
            package: self.package,
            layer_dir: self.layer_dir,
            home_dir: self.home_dir,
            runtime: self.runtime,
            sockets: self.sockets,
            input,
            gpu: self.gpu,
            network: self.network,
            limits: self.limits,
            identity: self.identity,
            log: self.log,
            syscalls: self.syscalls,
        };
        (request, descriptors)
    }
}

/// Reaps a helper whose start failed. It ends by itself, because its socket closes.
struct Starting {
    helper: Option<Child>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(helper) = &mut self.helper {
            // One that hangs in the kernel would hang us too: kill it, and leave it to init if it does not end.
            drop(helper.kill());
            if !wait_for(helper, END_TIMEOUT) {
                tracing::warn!(pid = helper.id(), "the sandbox helper does not end");
            }
        }
    }
}

impl Running {
    /// The game's main process as the host sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How each limit is kept on this machine.
    #[must_use]
    pub fn enforced(&self) -> Enforced {
        self.enforced
    }

    /// What the game uses; after its end, what it used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.ended.map_or_else(|| Usage::read(&self.group, self.init_pid), |(_, usage)| usage)
    }

    /// How it ended, if it has. Does not block.
    ///
    /// Everything inside is gone then, and its control group too.
    pub fn try_wait(&mut self) -> Option<Exit> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Waits for its end, at most so long.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Exit> {
        if let Some((exit, _)) = self.ended {
            return Some(exit);
        }
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            return match receive(&self.socket, &mut self.lines, Some(left)) {
                Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => None,
                Ok(Some(FromHelper::ScriptEnded(end))) => {
                    self.script_ends.push_back(end);
                    continue;
                }
                Ok(Some(FromHelper::Exited { exit, usage })) => Some(self.set_ended(exit, usage)),
                // Nothing else comes now; anything else, and the end of the stream, means that the helper died.
                Ok(_) | Err(_) => {
                    let usage = Usage::read(&self.group, self.init_pid);
                    Some(self.set_ended(Exit::Lost, usage))
                }
            };
        }
    }

    /// Runs a script beside the game, in its world, as its user: one at a time. Blocks until the helper took it, which is a moment.
    ///
    /// Its end comes by [`Self::take_script_end`], unless the game ends before.
    ///
    /// # Errors
    /// The helper's socket broke: the game is about to be found ended.
    pub fn run_script(&self, script: Script) -> io::Result<()> {
        send_line(&self.socket, &ToHelper::Run(script))
    }

    /// Kills a script and everything that it started. Its end comes as that of any other.
    pub fn end_script(&self, number: u64) {
        // When it cannot be told everything is ending already.
        drop(send_line(&self.socket, &ToHelper::EndScript { number }));
    }

    /// The end of a script, when [`Self::try_wait`] or another wait has seen one.
    pub fn take_script_end(&mut self) -> Option<ScriptEnd> {
        self.script_ends.pop_front()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.wait_timeout(Duration::from_secs(3600)) {
                return exit;
            }
        }
    }

    /// Asks the game to end with `SIGTERM`, and kills everything inside after `grace`. Returns at once: wait afterwards.
    /// A second call can only shorten the grace; zero kills now.
    pub fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        // When it cannot be told it is ending already.
        drop(send_line(&self.socket, &ToHelper::Stop { grace_ms }));
    }

    fn set_ended(&mut self, exit: Exit, usage: Usage) -> Exit {
        if !wait_for(&mut self.helper, END_TIMEOUT) {
            tracing::warn!(pid = self.helper.id(), "the sandbox helper does not end");
            drop(self.helper.kill());
        }
        if exit == Exit::Lost {
            self.group.remove();
        }
        self.ended = Some((exit, usage));
        exit
    }
}

impl AsFd for Running {
    /// Readable when [`Running::try_wait`] has something to say; for an event loop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.stop(Duration::ZERO);
            if self.wait_timeout(END_TIMEOUT).is_none() {
                tracing::warn!(pid = self.helper.id(), "the sandbox helper does not end");
                drop(self.helper.kill());
                if wait_for(&mut self.helper, END_TIMEOUT) {
                    self.group.remove();
                }
            }
        }
    }
}

/// Waits for a process without blocking longer than told; true when it ended.
fn wait_for(child: &mut Child, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => return true,
            Ok(None) if Instant::now() >= deadline => return false,
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The next message; `None` at the end of the stream, `TimedOut` when there is none yet.
fn receive(mut socket: &UnixStream, lines: &mut Lines, timeout: Option<Duration>) -> io::Result<Option<FromHelper>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut buffer = [0; 64 << 10];
    loop {
        if let Some(message) = lines.next()? {
            return Ok(Some(message));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], left.as_ref())? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match socket.read(&mut buffer)? {
            0 => return Ok(None),
            count => lines.push(&buffer[..count])?,
        }
    }
}

/// Where the helper is: told, beside this program, or one directory up (tests run one below).
pub(crate) fn helper_path(told: Option<&Path>) -> PathBuf {
    if let Some(path) = told {
        return path.to_owned();
    }
    let name: OsString = "kite-sandbox".into();
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("/")).join(&name);
    let above = program.ancestors().nth(2).unwrap_or(Path::new("/")).join(&name);
    if !beside.exists() && above.exists() { above } else { beside }
}
