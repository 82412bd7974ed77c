//! The sound of one instance: a PulseAudio of its own for the game, recorded in blocks of 10 ms.
//!
//! One thread named `audio` starts the server, records, and hands every block to a callback. While the game plays nothing the
//! server sleeps and no block comes; a game that plays zeroes is silent after half a second. Deliberately absent: encoding.
//!
//! ```text
//! starting --socket up--> recording --connection lost, server alive--> recording (a few times)
//!    |                        |--server ended, or lost too often--> ended, with an AudioError
//!    '--> AudioError          '--drop--> ended
//! ```

mod blocks;
mod capture;
mod server;
mod sys;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use media::PcmBlock;
use pulseaudio::protocol::ProtocolError;

use blocks::Blocks;
use capture::Capture;
use server::Server;

/// Takes blocks of exactly 480 stereo frames, on the `audio` thread. It must not block for longer than a few milliseconds.
pub type BlockSink = Box<dyn FnMut(PcmBlock) + Send>;

/// Told once, on the `audio` thread, when sound ended without having been stopped.
pub type EndSink = Box<dyn FnOnce(AudioError) + Send>;

/// How often a lost connection is made again in the life of an instance. The game can cut it at will; that may cost
/// the game its sound, never us a busy loop.
const RECONNECTS: u32 = 5;

/// Why there is no sound.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The directory for the socket could not be made. Look at the rights and the space of the runtime directory.
    #[error("the directory {} could not be prepared", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program did not start. Install PulseAudio (Debian: `pulseaudio`).
    #[error("the program pulseaudio could not be started")]
    Spawn(#[source] io::Error),
    /// The socket takes no connection. With "path must be shorter", choose a shorter runtime directory.
    #[error("the socket of PulseAudio takes no connection")]
    Connect(#[source] io::Error),
    /// PulseAudio ended. Its last words say why.
    #[error("PulseAudio ended ({status}): {log}")]
    Ended {
        /// Exit status or signal.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// PulseAudio runs and does not let us record: a broken server, or a game that interferes.
    #[error("recording failed")]
    Recording(#[source] ProtocolError),
    /// The thread could not be started.
    #[error("no thread for sound")]
    Thread(#[source] io::Error),
}

/// Running sound. Dropping it ends the server, waits for its thread, and removes its files.
#[derive(Debug)]
pub struct Audio {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What stopping needs to reach.
#[derive(Debug, Default)]
struct Shared(Mutex<Connection>);

#[derive(Debug, Default)]
struct Connection {
    /// No further connection is to be made.
    stopping: bool,
    /// The connection on which the thread reads, to be shut down.
    current: Option<UnixStream>,
}

impl Audio {
    /// Starts PulseAudio with its socket at `pulse/native` in the runtime directory (see [`Audio::socket`]) and returns when
    /// the game can connect and is recorded.
    ///
    /// # Errors
    /// [`AudioError`]; nothing is left running then, and `ended` is not told.
    pub fn start(runtime_dir: &Path, blocks: BlockSink, ended: EndSink) -> Result<Audio, AudioError> {
        let shared = Arc::new(Shared::default());
        let (report, started) = sync_channel(1);
        let (theirs, folder) = (Arc::clone(&shared), runtime_dir.to_owned());
        let thread = thread::Builder::new()
            .name("audio".to_owned())
            .spawn(move || run(&folder, &theirs, blocks, ended, report))
            .map_err(AudioError::Thread)?;
        let audio = Audio { socket: Server::socket_in(runtime_dir), shared, thread: Some(thread) };
        match started.recv() {
            Ok(Ok(())) => Ok(audio),
            Ok(Err(error)) => Err(error),
            // The thread always reports before it ends, unless it panicked.
            Err(error) => Err(AudioError::Thread(io::Error::other(error))),
        }
    }

    /// The socket that the game connects to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Audio {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the audio thread panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut connection = self.lock();
        connection.stopping = true;
        if let Some(stream) = connection.current.take()
            && let Err(error) = stream.shutdown(Shutdown::Both)
        {
            // The server was faster.
            tracing::debug!(%error, "the sound connection was closed already");
        }
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Makes this connection the one to be shut down by [`Shared::stop`].
    fn hold(&self, stream: &UnixStream) -> io::Result<()> {
        let clone = stream.try_clone()?;
        let mut connection = self.lock();
        if connection.stopping {
            return Err(io::ErrorKind::Interrupted.into());
        }
        connection.current = Some(clone);
        Ok(())
    }
}

fn run(
    runtime_dir: &Path,
    shared: &Shared,
    mut blocks: BlockSink,
    ended: EndSink,
    report: SyncSender<Result<(), AudioError>>,
) {
    let begin = || {
        let mut server = Server::start(runtime_dir)?;
        let capture = open(&mut server, shared)?;
        Ok((server, capture))
    };
    let (mut server, capture) = match begin() {
        Ok(begun) => {
            answer(&report, Ok(()));
            begun
        }
        Err(error) => return answer(&report, Err(error)),
    };
    tracing::info!(pulseaudio = server.id(), "sound started");
    let error = record(&mut server, capture, shared, &mut blocks);
    if shared.is_stopping() {
        tracing::info!("sound stopped");
    } else {
        ended(error);
    }
}

fn answer(report: &SyncSender<Result<(), AudioError>>, result: Result<(), AudioError>) {
    if report.send(result).is_err() {
        tracing::error!("nobody waits for the sound to start");
    }
}

fn open(server: &mut Server, shared: &Shared) -> Result<Capture, AudioError> {
    let stream = server.connect()?;
    shared.hold(&stream).map_err(AudioError::Connect)?;
    Capture::start(stream).map_err(|error| explain(server, error))
}

/// Records until it cannot go on, and says why.
fn record(server: &mut Server, first: Capture, shared: &Shared, give: &mut BlockSink) -> AudioError {
    let mut capture = first;
    let mut reconnects = 0;
    let mut cutter = Blocks::default();
    loop {
        let error = read_all(&mut capture, &mut cutter, give);
        let error = explain(server, error);
        let lost = matches!(error, AudioError::Recording(_));
        if !lost || shared.is_stopping() || reconnects == RECONNECTS {
            return error;
        }
        reconnects += 1;
        tracing::warn!(%error, reconnects, "the sound connection was lost");
        capture = match open(server, shared) {
            Ok(capture) => capture,
            Err(error) => return error,
        };
    }
}

fn read_all(capture: &mut Capture, cutter: &mut Blocks, give: &mut BlockSink) -> ProtocolError {
    let mut bytes = Vec::new();
    loop {
        if let Err(error) = capture.read(&mut bytes) {
            return error;
        }
        cutter.push(&bytes, Instant::now(), give);
    }
}

/// A lost connection has a better explanation when the server has ended.
fn explain(server: &mut Server, error: ProtocolError) -> AudioError {
    // The kernel closes its sockets a moment before it can be waited for.
    for _ in 0..20 {
        if let Some(status) = server.ended() {
            return AudioError::Ended { status: status.to_string(), log: server.log() };
        }
        if !matches!(error, ProtocolError::Io(_)) {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
    AudioError::Recording(error)
}
