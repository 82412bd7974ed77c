//! The program `kite-sandbox`: one thread that starts one game, watches it, and leaves nothing behind.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::LinkNameSpaceType;
use rustix::time::Timespec;

use crate::cgroup::{Controller, Group};
use crate::fuse::{FUSE_ARGUMENT, serve_descriptor};
use crate::init::{self, Birth, Report};
use crate::log::BoundedLog;
use crate::protocol::{
    Enforced, Exit, Failure, FromHelper, Input, Lines, Mechanism, Request, Script, ScriptEnd, ScriptExit, Step,
    ToHelper, receive_request, send_line,
};
use crate::script::{self, Beside, Door};
use crate::settings::{Identity, Network};
use crate::sys::{self, Side};
use crate::tree;
use crate::usage::{Usage, children};
use crate::user_namespace::{self, PLAYER};
use crate::world::{self, Owner};

/// How often the disk is looked at. Longer lets a game write more in between; shorter costs time. A look that takes long
/// makes the next one come later, so that looking never takes more than a fiftieth of a core.
const DISK_PERIOD: Duration = Duration::from_secs(2);
const DISK_SHARE: u32 = 50;

/// Output of the game that is copied in one [`LOG_WINDOW`]. More waits in the pipe and slows the game down, rather than
/// letting it use our processor time and disk.
const LOG_WINDOW_BYTES: usize = 512 << 10;
const LOG_WINDOW: Duration = Duration::from_millis(100);

/// The helper's `main`. It is given its socket as standard input.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).and_then(|socket| {
        sys::close_at_exec(3)?;
        if std::env::args_os().nth(1).is_some_and(|argument| argument == FUSE_ARGUMENT) {
            return serve_descriptor(&socket);
        }
        // A Ctrl-C in the terminal is for our caller, who then tells us. A caller that dies closes the socket.
        rustix::process::setsid().ok();
        sys::signal_descriptor(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE])?;
        serve(&socket)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the caller's: this is a bug or a broken caller, and there is no other way to say so.
            drop(io::Write::write_fmt(&mut io::stderr(), format_args!("kite-sandbox: {error}\n")));
            ExitCode::FAILURE
        }
    }
}

/// One game, from request to end.
fn serve(socket: &UnixStream) -> io::Result<()> {
    let (request, descriptors) = receive_request::<Request>(socket)?;
    match Life::begin(request, descriptors) {
        Ok(mut life) => {
            let told = send_line(
                socket,
                &FromHelper::Started {
                    pid: life.game_pid,
                    init_pid: life.init_pid,
                    enforced: life.enforced,
                    group: life.group.clone(),
                },
            );
            if told.is_err() {
                life.kill();
            }
            let exit = life.watch(socket);
            let usage = life.end();
            // The caller may be gone; then nobody asks.
            drop(send_line(socket, &FromHelper::Exited { exit, usage }));
            Ok(())
        }
        Err(failure) => send_line(socket, &FromHelper::Failed { failure }),
    }
}

/// A running game as the helper knows it.
struct Life {
    request: Request,
    owner: Owner,
    /// The way in for scripts, where there is one.
    door: Option<Door>,
    script: Option<script::Running>,
    /// Kills for want of memory until the newest script's end: they say nothing of the game's.
    forgiven_kills: u64,
    group: Group,
    enforced: Enforced,
    init: OwnedFd,
    init_pid: i32,
    game_pid: i32,
    reports: UnixDatagram,
    output: Option<(OwnedFd, BoundedLog)>,
    watched: Vec<PathBuf>,
    /// The overlay's own directory.
    work: Option<PathBuf>,
    disk_bytes: u64,
    /// Open while init may live: its end of file tells init that we are gone.
    go: UnixStream,
}

/// What was decided about how the game ends.
#[derive(Default)]
struct Ending {
    status: Option<i32>,
    disk_full: bool,
    /// When patience ends.
    deadline: Option<Instant>,
}

impl Life {
    fn begin(request: Request, descriptors: Vec<OwnedFd>) -> Result<Self, Failure> {
        let mut descriptors = descriptors.into_iter();
        let (fuse, namespace) = match request.input {
            Input::Fuse { user_namespace: true } => (descriptors.next(), descriptors.next()),
            Input::Fuse { user_namespace: false } => (descriptors.next(), None),
            Input::None | Input::Directory(_) => (None, None),
        };
        let group = Group::create(&request.name, &request.limits);
        Self::begin_in(request, group.clone(), fuse, namespace).inspect_err(|_| group.remove())
    }

    fn begin_in(
        request: Request,
        group: Group,
        fuse: Option<OwnedFd>,
        namespace: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let owner = become_owner(&request, namespace)?;
        let package_ids = prepare(&request, owner)?;
        let (output, log) = open_log(&request)?;
        let enforced = enforced(&request, &group, owner);
        let mut watched = vec![request.home_dir.clone()];
        watched.extend(request.layer_dir.as_ref().map(|layer| layer.join("upper")));
        let work = request.layer_dir.as_ref().map(|layer| layer.join("work"));
        let disk_bytes = request.limits.disk_bytes;

        let (go, their_go) = UnixStream::pair().step(|| "make a socket".into())?;
        let (reports, their_reports) = UnixDatagram::pair().step(|| "make a socket".into())?;
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        if request.network == Network::None {
            namespaces |= libc::CLONE_NEWNET;
        }
        match sys::clone(namespaces).step(|| "make the namespaces".into())? {
            Side::Child => {
                drop((go, reports, log));
                init::run(Birth {
                    request,
                    owner,
                    enforced,
                    package_ids,
                    fuse,
                    output,
                    go: their_go,
                    reports: their_reports,
                })
            }
            Side::Parent { pid, pidfd } => {
                // Only the game's server and init may hold the device: when the server dies, the kernel must notice.
                drop((fuse, package_ids, output, their_go, their_reports));
                // An init that has failed by now says why itself.
                let door = Door::open(pid, request.network).ok();
                let mut life = Self {
                    request,
                    owner,
                    door,
                    script: None,
                    forgiven_kills: 0,
                    group,
                    enforced,
                    init: pidfd,
                    init_pid: pid,
                    game_pid: pid,
                    reports,
                    output: log,
                    watched,
                    work,
                    disk_bytes,
                    go,
                };
                match life.release() {
                    Ok(()) => Ok(life),
                    Err(failure) => {
                        life.kill();
                        life.bury();
                        Err(failure)
                    }
                }
            }
        }
    }

    /// Lets init go on, and waits until the game runs.
    fn release(&mut self) -> Result<(), Failure> {
        let joined = self.group.attach(self.init_pid).step(|| "put the game into its control group".into());
        let begun = joined.and_then(|()| io::Write::write_all(&mut &self.go, b"!").step(|| "start init".into()));
        if begun.is_err() {
            // Init may have failed before, and then it said why.
            self.kill();
        }
        match self.next_report().step(|| "wait for init".into())? {
            Some(Report::Started { package_mapped }) => self.enforced.package_owned |= package_mapped,
            Some(Report::Failed(failure)) => return Err(failure),
            // Cannot come first; and then its status would be lost, so say so.
            Some(Report::Ended(status)) => return Err(format!("status {status}")).step(|| "see the game start".into()),
            None => {
                begun?;
                return Err("it was killed while it built the world (is the memory limit too low?)")
                    .step(|| "start init".into());
            }
        }
        self.game_pid = children(self.init_pid).first().copied().unwrap_or(self.init_pid);
        // What is born from here on enters the game's process namespace, where a game of the same user could reach into it.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "hide the helper".into())
    }

    /// Blocks for init's next word; `None` when it ended without one.
    fn next_report(&self) -> io::Result<Option<Report>> {
        let mut sources = [PollFd::new(&self.reports, PollFlags::IN), PollFd::new(&self.init, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
        if !sources[0].revents().contains(PollFlags::IN) {
            return Ok(None);
        }
        let mut buffer = [0; 4096];
        let count = self.reports.recv(&mut buffer)?;
        Ok(Some(serde_json::from_slice(&buffer[..count])?))
    }

    fn kill(&self) {
        // It has ended already, then.
        pidfd_send_signal(&self.init, Signal::KILL).ok();
    }

    /// Waits for init, and with it for everything inside.
    fn bury(&self) {
        let waited = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.init.as_fd()), WaitIdOptions::EXITED));
        if let Err(error) = waited {
            tracing::error!(%error, "cannot wait for init");
        }
    }

    /// Watches until everything inside has ended.
    fn watch(&mut self, socket: &UnixStream) -> Exit {
        let mut ending = Ending::default();
        let mut lines = Lines::default();
        let mut caller = Some(socket);
        let mut window = Window::new();
        let mut script_window = Window::new();
        let mut next_look = Instant::now() + DISK_PERIOD;
        loop {
            let now = Instant::now();
            if ending.deadline.is_some_and(|deadline| deadline <= now) {
                self.kill();
                ending.deadline = None;
            }
            if next_look <= now {
                if !ending.disk_full && self.is_over_disk_limit() {
                    ending.disk_full = true;
                    self.kill();
                }
                next_look = Instant::now() + DISK_PERIOD.max(now.elapsed() * DISK_SHARE);
            }
            if let Some(script) = &mut self.script {
                script.look(now);
            }
            window.advance(now);
            script_window.advance(now);
            let script_wake = self.script.as_ref().map(script::Running::wake_at);
            let windows = [window.closed_until(), script_window.closed_until()];
            let wake = [Some(next_look), ending.deadline, script_wake].into_iter().chain(windows).flatten().min();
            let ready = self.wait(caller, &window, &script_window, wake.unwrap_or(next_look));
            if ready.caller {
                match listen(socket, &mut lines) {
                    Some(commands) => {
                        for command in commands {
                            self.obey(command, &mut ending, socket);
                        }
                    }
                    None => {
                        self.kill();
                        caller = None;
                    }
                }
            }
            if ready.output {
                window.spend(self.copy_output());
            }
            if ready.script_output
                && let Some(script) = &mut self.script
            {
                script_window.spend(script.copy_output());
            }
            if ready.script
                && let Some(script) = self.script.take()
            {
                self.forgiven_kills = self.group.out_of_memory_kills();
                tell_end(socket, script.finish());
            }
            if ready.report
                && let Ok(Some(Report::Ended(status))) = self.next_report()
            {
                ending.status = Some(status);
            }
            if ready.init {
                break;
            }
        }
        // What was written at the very end.
        while self.copy_output() > 0 {}
        if ending.status.is_none()
            && let Ok(Some(Report::Ended(status))) = self.next_report()
        {
            ending.status = Some(status);
        }
        self.exit(&ending)
    }

    fn obey(&mut self, command: ToHelper, ending: &mut Ending, socket: &UnixStream) {
        match command {
            ToHelper::Stop { grace_ms } => {
                // Without patience there is no point in asking.
                if grace_ms > 0 {
                    pidfd_send_signal(&self.init, Signal::TERM).ok();
                }
                let deadline = Instant::now() + Duration::from_millis(grace_ms);
                ending.deadline = Some(ending.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
            }
            ToHelper::Run(script) => {
                let number = script.number;
                if let Err(why) = self.run_script(script) {
                    let exit = ScriptExit::Lost(why);
                    let end = ScriptEnd { number, exit, output: Vec::new(), cut_bytes: 0, ran_for: Duration::ZERO };
                    tell_end(socket, end);
                }
            }
            ToHelper::EndScript { number } => {
                if let Some(script) = self.script.as_mut().filter(|script| script.number() == number) {
                    script.end(Instant::now(), ScriptExit::Lost("it was given up".to_owned()));
                }
            }
        }
    }

    fn run_script(&mut self, script: Script) -> Result<(), String> {
        if self.script.is_some() {
            return Err("another script runs".to_owned());
        }
        let beside = Beside {
            door: self.door.as_ref().ok_or("the game's namespaces could not be opened")?,
            request: &self.request,
            owner: self.owner,
            enforced: self.enforced,
            group: &self.group,
            init_pid: self.init_pid,
            game_pid: self.game_pid,
        };
        let started = script::Running::start(script, &beside);
        self.script = Some(started.map_err(|failure| format!("cannot {}: {}", failure.step, failure.detail))?);
        Ok(())
    }

    fn exit(&self, ending: &Ending) -> Exit {
        let exit = match ending.status {
            Some(status) if libc::WIFEXITED(status) => Exit::Code(libc::WEXITSTATUS(status)),
            Some(status) => Exit::Signal(libc::WTERMSIG(status)),
            None => Exit::Signal(libc::SIGKILL),
        };
        if ending.disk_full {
            Exit::DiskFull
        } else if exit != Exit::Code(0) && self.group.out_of_memory_kills() > self.forgiven_kills {
            Exit::OutOfMemory
        } else {
            exit
        }
    }

    fn wait(&self, caller: Option<&UnixStream>, window: &Window, script_window: &Window, until: Instant) -> Ready {
        let mut sources = vec![PollFd::new(&self.init, PollFlags::IN), PollFd::new(&self.reports, PollFlags::IN)];
        let caller_at = caller.map(|caller| {
            sources.push(PollFd::new(caller, PollFlags::IN));
            sources.len() - 1
        });
        let output_at = self.output.as_ref().filter(|_| window.is_open()).map(|(pipe, _)| {
            sources.push(PollFd::new(pipe, PollFlags::IN));
            sources.len() - 1
        });
        let script_at = self.script.as_ref().map(|script| {
            sources.push(PollFd::new(script.minder(), PollFlags::IN));
            sources.len() - 1
        });
        let script_output = self.script.as_ref().and_then(script::Running::output);
        let script_output_at = script_output.filter(|_| script_window.is_open()).map(|pipe| {
            sources.push(PollFd::new(pipe, PollFlags::IN));
            sources.len() - 1
        });
        let timeout = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        if poll(&mut sources, Some(&timeout)).is_err() {
            return Ready::default();
        }
        let ready = |at: usize| !sources[at].revents().is_empty();
        Ready {
            init: ready(0),
            report: sources[1].revents().contains(PollFlags::IN),
            caller: caller_at.is_some_and(ready),
            output: output_at.is_some_and(ready),
            script: script_at.is_some_and(ready),
            script_output: script_output_at.is_some_and(ready),
        }
    }

    /// Copies some output to the log; returns how much. Closes the pipe at its end.
    fn copy_output(&mut self) -> usize {
        let Some((pipe, log)) = &mut self.output else { return 0 };
        let mut buffer = [0; 64 << 10];
        match rustix::io::read(&*pipe, &mut buffer) {
            Ok(0) => {
                self.output = None;
                0
            }
            Ok(count) => {
                if let Err(error) = log.write(&buffer[..count]) {
                    // A full disk must not stop the game: its output is lost, and it reads on.
                    tracing::warn!(%error, "cannot write the game's log");
                }
                count
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.output = None;
                0
            }
        }
    }

    fn is_over_disk_limit(&self) -> bool {
        let bytes = |path: &PathBuf| {
            tree::disk_bytes(path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "cannot see what the game wrote");
                0
            })
        };
        let held = tree::unlinked_bytes(&self.group.pids(), &self.watched);
        let used: u64 = self.watched.iter().fold(held, |sum, path| sum.saturating_add(bytes(path)));
        used > self.disk_bytes
    }

    /// Buries init, removes the group, and says what was used.
    fn end(&self) -> Usage {
        self.bury();
        let usage = Usage::read(&self.group, self.init_pid);
        self.group.remove();
        // The overlay leaves a directory in it that is closed even to its owner: a caller who is not root could not
        // remove its layer. The game never had access to it.
        if let Some(work) = &self.work
            && let Err(error) = fs::remove_dir_all(work)
        {
            tracing::warn!(%error, "cannot remove the overlay's work directory");
        }
        usage
    }
}

/// What has something to say.
#[derive(Default)]
struct Ready {
    init: bool,
    report: bool,
    caller: bool,
    output: bool,
    script: bool,
    script_output: bool,
}

/// Bounds the rate at which output is copied.
struct Window {
    began: Instant,
    left: usize,
}

impl Window {
    fn new() -> Self {
        Self { began: Instant::now(), left: LOG_WINDOW_BYTES }
    }

    fn advance(&mut self, now: Instant) {
        if now >= self.began + LOG_WINDOW {
            *self = Self { began: now, left: LOG_WINDOW_BYTES };
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    fn is_open(&self) -> bool {
        self.left > 0
    }

    fn closed_until(&self) -> Option<Instant> {
        (!self.is_open()).then(|| self.began + LOG_WINDOW)
    }
}

/// Says how a script ended. A caller who is gone has not asked.
fn tell_end(socket: &UnixStream, end: ScriptEnd) {
    drop(send_line(socket, &FromHelper::ScriptEnded(end)));
}

/// What the caller says; `None` when it is gone or talks nonsense.
fn listen(mut socket: &UnixStream, lines: &mut Lines) -> Option<Vec<ToHelper>> {
    let mut buffer = [0; 64 << 10];
    let count = match socket.read(&mut buffer) {
        Ok(0) => return None,
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(Vec::new()),
        Err(_) => return None,
    };
    lines.push(&buffer[..count]).ok()?;
    let mut commands = Vec::new();
    while let Some(command) = lines.next().ok()? {
        commands.push(command);
    }
    Some(commands)
}

/// Enters the user namespace of a caller who is not root.
fn become_owner(request: &Request, namespace: Option<OwnedFd>) -> Result<Owner, Failure> {
    match (request.identity, namespace) {
        (Identity::Own { uid, gid }, _) => Ok(Owner { uid, gid, mapped: false }),
        (Identity::Caller, namespace) => {
            match namespace {
                Some(namespace) => {
                    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
                        .step(|| "enter the user namespace".into())?
                }
                None => user_namespace::enter_new()
                    .step(|| "make a user namespace (are they allowed on this machine?)".into())?,
            }
            Ok(Owner { uid: PLAYER, gid: PLAYER, mapped: true })
        }
    }
}

/// What has to be done on the host before the world can be built; the package's id map, where one is possible.
fn prepare(request: &Request, owner: Owner) -> Result<Option<OwnedFd>, Failure> {
    if let Some(layer) = &request.layer_dir {
        world::prepare_layer(layer, owner)?;
    }
    if owner.mapped {
        return Ok(None);
    }
    tree::give(&request.home_dir, owner.uid, owner.gid)
        .step(|| format!("give {} to the game", request.home_dir.display()))?;
    world::open_sockets(request)?;
    let Some(package) = request.package.as_ref().filter(|_| request.layer_dir.is_some()) else { return Ok(None) };
    let metadata = fs::metadata(package).step(|| format!("look at {}", package.display()))?;
    // Without it the game can add files but not change those it came with.
    Ok(user_namespace::id_map((metadata.uid(), metadata.gid()), (owner.uid, owner.gid)).ok())
}

type Pipe = (Option<OwnedFd>, Option<(OwnedFd, BoundedLog)>);

fn open_log(request: &Request) -> Result<Pipe, Failure> {
    let Some(settings) = &request.log else { return Ok((None, None)) };
    let log = BoundedLog::open(settings.clone()).step(|| format!("open the log {}", settings.file.display()))?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe".into())?;
    rustix::io::ioctl_fionbio(&reader, true).step(|| "make a pipe".into())?;
    Ok((Some(writer), Some((reader, log))))
}

fn enforced(request: &Request, group: &Group, owner: Owner) -> Enforced {
    let or_process = |controller| group.mechanism(controller).unwrap_or(Mechanism::ProcessLimit);
    let package_owned = match &request.package {
        // Seen as the player's own when it is the caller's.
        Some(package) if owner.mapped => fs::metadata(package).is_ok_and(|metadata| metadata.uid() == PLAYER),
        // Init says so when it could be mapped.
        Some(_) | None => false,
    };
    Enforced {
        memory: or_process(Controller::Memory),
        cpu: group.mechanism(Controller::Cpu).unwrap_or(Mechanism::Nothing),
        processes: or_process(Controller::Processes),
        disk: Mechanism::Watched,
        package_owned: package_owned && request.layer_dir.is_some(),
    }
}
