//! The agent's side of a `kite-streamer`: its process, and the lines that it and the agent write each other.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use api::streamer::{CONTROL_FD, FromStreamer, StreamerSettings, ToStreamer};
use rustix::process::{Pid, Signal};
use sandbox::ServerGroup;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::leftover::INSTANCE_VARIABLE;
use crate::lines;
use crate::sys::{self, Become};

/// Descriptor of the gamepads' FUSE device in the streamer.
pub(crate) const GAMEPAD_FD: RawFd = CONTROL_FD + 1;

/// Memory of a streamer with its X and sound server. One at 1080p takes 150 MB; what a game makes the X server keep is in it, too.
const SERVERS_MEMORY_BYTES: u64 = 1 << 30;

/// Their processes and threads together: about thirty.
const SERVERS_PROCESSES: u32 = 256;

/// Lines that wait for the instance's task. It takes them at once; more would only hide that it hangs.
const LINES: usize = 32;

/// Why a streamer did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The program is missing or cannot be run: it belongs beside `kite`.
    #[error("cannot run {program}: {source}")]
    Program { program: String, source: std::io::Error },
    /// Out of descriptors or memory.
    #[error("cannot prepare the streamer: {0}")]
    Prepare(#[from] std::io::Error),
}

/// What a streamer's socket brought.
pub(crate) type Heard = lines::Heard<FromStreamer>;

/// A running streamer.
#[derive(Debug)]
pub(crate) struct Streamer {
    child: Child,
    pid: Option<Pid>,
    writer: OwnedWriteHalf,
    heard: mpsc::Receiver<Heard>,
    /// Its group and that of what it starts; `None` when it ended at once.
    servers: Option<ServerGroup>,
}

impl Streamer {
    /// Starts it and writes the settings.
    pub(crate) async fn spawn(
        program: &Path,
        settings: &StreamerSettings,
        gamepads: Option<OwnedFd>,
        user: Become,
        log: &Path,
    ) -> Result<Self, SpawnError> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut descriptors = vec![(OwnedFd::from(theirs), CONTROL_FD)];
        descriptors.extend(gamepads.map(|fd| (fd, GAMEPAD_FD)));
        let runtime_dir = settings.runtime_dir.as_os_str().to_owned();
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("HOME".into(), runtime_dir.clone()),
            ("XDG_RUNTIME_DIR".into(), runtime_dir),
            (INSTANCE_VARIABLE.into(), settings.instance.to_string().into()),
        ];
        environment.extend(std::env::var_os("KITE_LOG").map(|value| ("KITE_LOG".into(), value)));
        let failed = |source| SpawnError::Program { program: program.display().to_string(), source };
        let mut command = sys::command(program, environment, descriptors, user).map_err(failed)?;
        command.current_dir(&settings.runtime_dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        let mut child =
            command.spawn().map_err(|source| SpawnError::Program { program: program.display().to_string(), source })?;
        // Closes our copies of the descriptors, so that the streamer's end is seen.
        drop(command);
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let servers = pid.map(|pid| {
            // Before the settings, without which it starts nothing.
            let group = format!("{}.servers", settings.instance);
            let group = ServerGroup::create(&group, SERVERS_MEMORY_BYTES, SERVERS_PROCESSES);
            if let Err(error) = group.attach(pid.as_raw_nonzero().get()) {
                tracing::warn!(%error, "the streamer and its servers run without limits");
            }
            group
        });
        if let Some(stderr) = child.stderr.take() {
            let log = File::create(log)?;
            tokio::spawn(lines::keep_log(stderr, log));
        }
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let (sender, heard) = mpsc::channel(LINES);
        tokio::spawn(lines::read(reader, sender, format!("the streamer of {}", settings.instance)));
        let mut streamer = Self { child, pid, writer, heard, servers };
        lines::write(&mut streamer.writer, settings).await?;
        Ok(streamer)
    }

    /// Sends a message. A failure needs no handling: the streamer's end is seen elsewhere.
    pub(crate) async fn send(&mut self, message: &ToStreamer) -> bool {
        lines::write(&mut self.writer, message).await.is_ok()
    }

    /// The next message; `None` when the streamer closed its side. Safe to cancel.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// What it and its servers use; `None` when it has ended.
    pub(crate) fn usage(&self) -> Option<sandbox::Usage> {
        let pid = self.child.id().and(self.pid)?;
        self.servers.as_ref().map(|servers| servers.usage(pid.as_raw_nonzero().get()))
    }

    /// Its end. Safe to cancel.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits so long for its end, then kills it and everything in its process group.
    pub(crate) async fn end_within(&mut self, limit: Duration) {
        if tokio::time::timeout(limit, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.child.id(), "the streamer did not end in time and is killed");
            if let Err(error) = self.child.kill().await {
                tracing::warn!(%error, "the streamer cannot be killed");
            }
        }
        if let Some(pid) = self.pid {
            // What it started and left (X server, sound server). An empty group is the normal case and an error here.
            let _empty = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}
