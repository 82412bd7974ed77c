//! The PulseAudio process of one instance.
//!
//! The game is its client and is not trusted: it may not load modules (which could write files as us) nor stop the server.
//! Nothing of the host's configuration is read, no D-Bus, no shared memory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{AudioError, sys};

/// Name of the sink that the game plays to.
const SINK: &str = "game";

/// What is recorded: whatever goes to [`SINK`].
pub(super) const MONITOR: &str = "game.monitor";

/// How long PulseAudio may take to open its socket. It takes 30 ms on a quiet machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks for the socket. Longer delays the start of every session; shorter only burns CPU.
const START_STEP: Duration = Duration::from_millis(3);

/// Seconds after which PulseAudio ends by itself when it has no client, should it ever outlive us.
const IDLE_EXIT_S: u32 = 30;

/// Configuration in place of `/etc/pulse/daemon.conf`. Real-time scheduling is tried and done without when refused.
const CONFIGURATION: &str = "\
allow-module-loading = no
allow-exit = no
use-pid-file = no
system-instance = no
enable-shm = no
realtime-scheduling = yes
realtime-priority = 5
high-priority = no
flat-volumes = no
resample-method = speex-float-1
default-sample-format = s16le
default-sample-rate = 48000
default-sample-channels = 2
log-level = warning
";

/// A running PulseAudio. Dropping it kills the process, waits for it, and removes its files.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    folder: PathBuf,
    /// What it says on standard error. A pipe whose ends never block: what does not fit is lost, so a game that provokes
    /// messages fills neither a disk nor our memory.
    log: File,
}

impl Server {
    /// Path of the socket under this runtime directory.
    pub(super) fn socket_in(runtime_dir: &Path) -> PathBuf {
        folder_in(runtime_dir).join("native")
    }

    /// Starts the process. It lives no longer than the calling thread.
    pub(super) fn start(runtime_dir: &Path) -> Result<Server, AudioError> {
        let folder = folder_in(runtime_dir);
        prepare(&folder).map_err(|source| AudioError::Directory { path: folder.clone(), source })?;
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (log, stderr) = pipe.map_err(|error| AudioError::Spawn(error.into()))?;
        let child = command(&folder, stderr).spawn().map_err(AudioError::Spawn)?;
        Ok(Server { child, folder, log: File::from(log) })
    }

    /// Waits until the socket takes connections, and makes the first one.
    pub(super) fn connect(&mut self) -> Result<UnixStream, AudioError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match UnixStream::connect(self.folder.join("native")) {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(AudioError::Connect(error)),
                Err(error) if Instant::now() > deadline => return Err(AudioError::Connect(error)),
                Err(_) => {}
            }
            if let Some(status) = self.ended() {
                return Err(AudioError::Ended { status: status.to_string(), log: self.log() });
            }
            thread::sleep(START_STEP);
        }
    }

    /// How the process ended, or `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Process id, for logs.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said and nobody has read yet.
    pub(super) fn log(&mut self) -> String {
        let mut said = vec![0; 64 * 1024];
        let length = self.log.read(&mut said).unwrap_or(0);
        String::from_utf8_lossy(&said[length.saturating_sub(600)..length]).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save, so it is not asked. Killing fails only when it has ended already.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "PulseAudio could not be ended");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "PulseAudio's files could not be removed");
        }
    }
}

fn folder_in(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("pulse")
}

/// Makes the folder anew: a socket left by a killed predecessor would be taken for the new one.
fn prepare(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    fs::write(folder.join("daemon.conf"), CONFIGURATION)
}

fn command(folder: &Path, stderr: OwnedFd) -> Command {
    let mut command = Command::new("pulseaudio");
    command
        .args(["-n", "--daemonize=no", "--log-target=stderr"])
        .arg(format!("--exit-idle-time={IDLE_EXIT_S}"))
        // With rewinds the sink takes up to two seconds of silence in advance before anything plays, and a game that opens its sound then
        // waits for their end: that was 1.7 s of chocolate-doom's start.
        .args(["-L", &format!("module-null-sink sink_name={SINK} format=s16le rate=48000 channels=2 norewinds=1")])
        // Stops the clock of the sink when nothing plays: an idle game then costs no wake-ups.
        .args(["-L", "module-suspend-on-idle timeout=1"])
        // The socket is `native` in PULSE_RUNTIME_PATH. Who may reach it is decided by who is shown the folder.
        .args(["-L", "module-native-protocol-unix auth-anonymous=1 auth-cookie-enabled=0"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("LANG", "C")
        .env("HOME", folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("PULSE_RUNTIME_PATH", folder)
        .env("PULSE_STATE_PATH", folder)
        .env("PULSE_CONFIG", folder.join("daemon.conf"))
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        // Ctrl-C in a terminal is for us to handle; the server ends when we end it.
        .process_group(0);
    sys::confine(&mut command);
    command
}
