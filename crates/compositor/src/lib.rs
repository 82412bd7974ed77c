//! A display for one game, without a screen: what the game shows comes out as pictures, what the player does goes in.
//!
//! [`Source`] hides which display it is: a Wayland compositor of our own (with Xwayland for X11 games) that converts
//! straight from the game's buffer, or Xvfb for games that Xwayland cannot serve. Principles:
//!
//! - Latency before smoothness: a picture leaves when the game commits it, and an answer to an input leaves early.
//! - The pointer is never drawn: its look is told to the player, who sees it move without delay.
//! - The game is not trusted. Everything that it can make us hold is bounded, and if its display breaks only its own
//!   session ends.
//!
//! Deliberately absent: networking, encoding, sessions.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;

use calloop::channel::SyncSender;
use media::{ColorMatrix, Frame, FrameRate, InputMark, Size};
use wire::{Button, Cursor, KeyCode, PointerMode, PointerPosition, TouchPhase};

mod emitter;
mod keymap;
mod network;
mod pacer;
mod sys;
mod wayland;
mod x11;

pub use network::NoNetwork;

/// Longest text that a clipboard carries, in bytes. Too low cuts what players copy; too high lets a game fill the
/// control channel, whose messages end at 256 KiB.
pub const MAX_CLIPBOARD_BYTES: usize = 64 * 1024;

/// Largest side of a cursor picture in pixels; what is beyond is cut off. Browsers refuse larger ones than 128, and
/// scale them themselves.
pub const MAX_CURSOR_SIDE: u32 = 128;

/// Events that wait for the display's thread at most. At 1000 pointer events a second it is four seconds of work; a
/// display that is further behind has died, and more would only be delivered too late.
const QUEUE_LIMIT: usize = 4096;

/// Which display the game is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Display {
    /// A Wayland display alone.
    Wayland,
    /// An X11 display by rootless Xwayland, and the Wayland display under it.
    #[default]
    X11,
    /// A plain Xvfb: for games that Xwayland cannot serve. Costs one more copy a frame.
    Xvfb,
}

/// What a [`Source`] needs to know.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Size of the picture, and of the display that the game sees.
    pub size: Size,
    /// Pictures a second at most, on average.
    pub frame_rate: FrameRate,
    /// The game's display.
    pub display: Display,
    /// A directory for this source alone; it must exist. `wayland-0` and `x11/X0` are created in it, open to every
    /// user who can reach them: the directory's own permissions are the guard.
    pub runtime_dir: PathBuf,
    /// Coefficients of the emitted pictures.
    pub matrix: ColorMatrix,
    /// Ask the kernel for real-time scheduling of the source's threads. Refusal is logged and costs only punctuality.
    pub realtime: bool,
}

/// What comes out of a [`Source`]. Called on the source's thread: it must not block.
pub trait SourceSink: Send + 'static {
    /// The game drew.
    fn frame(&mut self, frame: Frame);
    /// The pointer's look changed.
    fn cursor(&mut self, cursor: Cursor);
    /// The game locked or released the pointer.
    fn pointer_mode(&mut self, mode: PointerMode);
    /// The game copied text, at most [`MAX_CLIPBOARD_BYTES`].
    fn clipboard(&mut self, text: String);
    /// A resize took effect: frames from now on have this size.
    fn size(&mut self, size: Size);
    /// The display died. Nothing else will be called.
    fn failed(&mut self, error: SourceError);
}

/// Something that the player did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A key went down or up.
    Key {
        /// Which.
        code: KeyCode,
        /// True when it went down.
        pressed: bool,
    },
    /// The pointer is at this place of the picture.
    PointerMove(PointerPosition),
    /// The pointer moved by this much, in 1/16 pixel of the picture.
    PointerMotion {
        /// Rightwards.
        dx: i32,
        /// Downwards.
        dy: i32,
    },
    /// A pointer button went down or up.
    Button {
        /// Which.
        button: Button,
        /// True when it went down.
        pressed: bool,
    },
    /// The wheel turned, in 1/120 of a notch; positive is right and down.
    Wheel {
        /// Horizontal.
        x: i16,
        /// Vertical.
        y: i16,
    },
    /// A finger on the screen.
    Touch {
        /// Which finger.
        id: u8,
        /// What it did.
        phase: TouchPhase,
        /// Where.
        position: PointerPosition,
    },
    /// Text that no key of a keyboard wrote (an input method, an on-screen keyboard).
    Text(String),
    /// Release every key, button and finger.
    ReleaseAll,
}

/// Where the game finds its display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// The Wayland socket, when there is one.
    pub wayland: Option<PathBuf>,
    /// A directory with the socket `X0`: shown to the game as `/tmp/.X11-unix`, its display is `:0`.
    pub x11_dir: Option<PathBuf>,
}

/// Why a source did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be made: the runtime directory is missing, not writable, its path is over 90 bytes long, or
    /// another source uses it.
    #[error("cannot listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The X server could not be run: install `xwayland` or `xvfb`.
    #[error("cannot run {program}")]
    Spawn {
        /// Its name.
        program: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The X server ran but did not answer as it should; `detail` says what was missing.
    #[error("the X server is not usable: {detail}")]
    XServer {
        /// What went wrong.
        detail: String,
    },
    /// The system refused something that always works: out of descriptors, memory or threads.
    #[error("cannot set up the display: {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No keymap: install `xkb-data`.
    #[error("the US keymap does not compile: is xkb-data installed?")]
    Keymap,
}

/// Why a running source ended by itself. The session is over; another source can be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The X server exited: a bug of its own, or killed (out of memory).
    #[error("the X server exited: {detail}")]
    XServerExited {
        /// What is known of it.
        detail: String,
    },
    /// The display's thread met an error that it cannot go on after. A bug of ours.
    #[error("the display failed: {detail}")]
    Display {
        /// What is known of it.
        detail: String,
    },
}

/// To the source's thread.
#[derive(Debug)]
pub(crate) enum Command {
    Input(InputEvent, InputMark),
    Resize(Size),
    Matrix(ColorMatrix),
    RequestFrame,
    Shift(i64),
    LeaveOneOut,
    Clipboard(String),
    Stop,
}

/// Flags that reach the source's thread even when its queue is full.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) stop: AtomicBool,
    /// Input was lost: nothing may stay pressed.
    pub(crate) overflow: AtomicBool,
}

/// A game's display. Dropping it stops it.
#[derive(Debug)]
pub struct Source {
    sockets: Sockets,
    commands: SyncSender<Command>,
    signals: Arc<Signals>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Starts a display on a thread of its own; returns once its sockets listen.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind then.
    pub fn start(settings: SourceSettings, sink: Box<dyn SourceSink>) -> Result<Source, StartError> {
        let (commands, receiver) = calloop::channel::sync_channel(QUEUE_LIMIT);
        let signals = Arc::new(Signals::default());
        let start = Start { settings, sink, receiver, signals: Arc::clone(&signals) };
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        let body = move || match start.settings.display {
            Display::Wayland | Display::X11 => wayland::run(start, &answer),
            Display::Xvfb => x11::xvfb::run(start, &answer),
        };
        let thread = std::thread::Builder::new()
            .name("kite-display".to_owned())
            .spawn(body)
            .map_err(|source| StartError::System { what: "start a thread", source })?;
        match answered.recv() {
            Ok(Ok(sockets)) => Ok(Source { sockets, commands, signals, thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::System {
                what: "the display's thread ended early",
                source: std::io::ErrorKind::BrokenPipe.into(),
            }),
        }
    }

    /// Where the game finds the display.
    #[must_use]
    pub fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// Hands an input to the game. Never blocks; if the display is hopelessly behind, the input is lost and everything
    /// pressed is released.
    pub fn input(&self, event: InputEvent, mark: InputMark) {
        self.send(Command::Input(event, mark));
    }

    /// Changes the size of the picture and of the game's display.
    pub fn resize(&self, size: Size) {
        self.send(Command::Resize(size));
    }

    /// Changes the coefficients of the pictures.
    pub fn set_matrix(&self, matrix: ColorMatrix) {
        self.send(Command::Matrix(matrix));
    }

    /// Emits the current picture again soon, black when there is none yet: for a new player, a key frame.
    pub fn request_frame(&self) {
        self.send(Command::RequestFrame);
    }

    /// Moves the beat of games that wait for the display by so many microseconds, later when positive; little by little, so that no
    /// frame is missed. Games that draw by a beat of their own are left alone.
    pub fn shift_beat(&self, microseconds: i64) {
        self.send(Command::Shift(microseconds));
    }

    /// Leaves the game's next picture out, unless it answers an input or none follows it: for a display at which each picture waits
    /// behind the one before. X11 games are left alone.
    pub fn leave_one_out(&self) {
        self.send(Command::LeaveOneOut);
    }

    /// Makes this text the game's clipboard. Text over [`MAX_CLIPBOARD_BYTES`] is cut at a character.
    pub fn set_clipboard(&self, mut text: String) {
        text.truncate(text.floor_char_boundary(MAX_CLIPBOARD_BYTES));
        self.send(Command::Clipboard(text));
    }

    /// Ends the display: its X server is killed, its sockets are removed. Returns when that is done.
    pub fn stop(mut self) {
        self.end();
    }

    fn send(&self, command: Command) {
        // Disconnected: the display died, and its sink has been told.
        if let Err(TrySendError::Full(_)) = self.commands.try_send(command) {
            self.signals.overflow.store(true, Ordering::Release);
        }
    }

    fn end(&mut self) {
        self.signals.stop.store(true, Ordering::Release);
        // When the queue is full its thread is awake and sees the flag.
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the display's thread panicked");
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a display's thread begins with.
pub(crate) struct Start {
    pub(crate) settings: SourceSettings,
    pub(crate) sink: Box<dyn SourceSink>,
    pub(crate) receiver: calloop::channel::Channel<Command>,
    pub(crate) signals: Arc<Signals>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Where a display's thread answers [`Source::start`].
pub(crate) type Answer = std::sync::mpsc::SyncSender<Result<Sockets, StartError>>;
