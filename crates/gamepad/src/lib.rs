//! Virtual Xbox 360 pads for one game.
//!
//! ```text
//! connect / update / disconnect ──> pad (evdev events by difference) ──> fuse   a file system on the game's /dev/input
//!                                                                   └──> uinput real devices of the kernel
//! rumble <──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Principles
//! - The pad is an Xbox 360 pad to the bit: every engine, SDL's and Wine's mappings know it without configuration.
//! - [`Pads::update`] writes to the kernel itself: no thread is woken between the player's message and the game.
//! - A game that does not read loses events, is told so (`SYN_DROPPED`) and reads the state again; nothing grows.
//! - The FUSE protocol is spoken here rather than through a library, because a blocked read must be answered when its
//!   reader is interrupted: else a game that is killed in it cannot die.
//!
//! Deliberately absent: where pads come from (browser, phone), and any mapping of buttons.

mod evdev;
mod fuse;
mod pad;
mod protocol;
mod reader;
mod sys;
mod uinput;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use wire::PadState;

/// How many pads a game can have.
pub const SLOTS: usize = 4;

/// A game wants a pad to rumble; both strengths zero means stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rumble {
    /// Which pad.
    pub slot: u8,
    /// Low-frequency motor, 0 to 65535.
    pub strong: u16,
    /// High-frequency motor, 0 to 65535.
    pub weak: u16,
    /// For how long, in milliseconds; 0 = until the next.
    pub duration_ms: u16,
}

/// Where the game's pads come from.
#[derive(Debug)]
pub enum Backend {
    /// An open `/dev/fuse`, which the sandbox mounts on the game's `/dev/input` now or later.
    ///
    /// SDL up to its newest version shows one pad of these only, because it tells devices apart by a number that files
    /// cannot have; programs that read `/dev/input` themselves see all.
    Fuse(OwnedFd),
    /// Real devices: one open `/dev/uinput` a slot, and the directory that the sandbox shows as the game's `/dev/input`, in
    /// which nodes are made (which needs `CAP_MKNOD`).
    Uinput {
        /// One a slot, at most [`SLOTS`].
        devices: Vec<OwnedFd>,
        /// Where `event0` ... appear.
        directory: PathBuf,
    },
}

/// A pad could not be connected or moved.
#[derive(Debug, thiserror::Error)]
pub enum PadError {
    /// There is no such slot: the client is wrong.
    #[error("there is no pad slot {0}")]
    Slot(u8),
    /// The kernel refused: `uinput` is closed to this process, or nodes cannot be made.
    #[error("cannot {step}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Called from a thread of its own kind: be quick, and do not call [`Pads`] from it.
pub type OnRumble = Box<dyn FnMut(Rumble) + Send>;

/// The pads of one game. Dropping it takes them away.
pub struct Pads {
    driver: Driver,
}

enum Driver {
    Fuse(fuse::FusePads),
    Uinput(Box<uinput::UinputPads>),
}

impl fmt::Debug for Pads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = match self.driver {
            Driver::Fuse(_) => "fuse",
            Driver::Uinput(_) => "uinput",
        };
        f.debug_struct("Pads").field("driver", &driver).finish()
    }
}

impl Pads {
    /// Starts serving; no pad is connected yet. The game may start before or after.
    ///
    /// # Errors
    /// When the process is out of threads or descriptors.
    pub fn start(backend: Backend, on_rumble: OnRumble) -> io::Result<Self> {
        let driver = match backend {
            Backend::Fuse(device) => Driver::Fuse(fuse::FusePads::start(device, on_rumble)?),
            Backend::Uinput { devices, directory } => {
                Driver::Uinput(Box::new(uinput::UinputPads::start(devices, directory, on_rumble)?))
            }
        };
        Ok(Self { driver })
    }

    /// Plugs a pad in, at rest. Nothing happens when it is in already.
    ///
    /// # Errors
    /// See [`PadError`].
    pub fn connect(&self, slot: u8) -> Result<(), PadError> {
        match &self.driver {
            Driver::Fuse(pads) => pads.connect(slot),
            Driver::Uinput(pads) => pads.connect(slot),
        }
    }

    /// Pulls a pad out. Nothing happens when it is not in.
    ///
    /// # Errors
    /// See [`PadError`].
    pub fn disconnect(&self, slot: u8) -> Result<(), PadError> {
        match &self.driver {
            Driver::Fuse(pads) => pads.disconnect(slot),
            Driver::Uinput(pads) => pads.disconnect(slot),
        }
    }

    /// Sets a pad's state; the game gets what changed. A pad that is not connected is connected first, because the
    /// message that connects it and the first state travel on different channels.
    ///
    /// # Errors
    /// See [`PadError`].
    pub fn update(&self, slot: u8, state: &PadState) -> Result<(), PadError> {
        match &self.driver {
            Driver::Fuse(pads) => pads.update(slot, state),
            Driver::Uinput(pads) => pads.update(slot, state),
        }
    }
}

/// Variables that the game needs to find these pads.
///
/// There is no udev in the sandbox: SDL is told to read `/dev/input` itself (newer ones also take the hint of
/// the container file that the sandbox shows), and its USB drivers, which would look for real hardware, are left out.
#[must_use]
pub fn environment() -> [(&'static str, &'static str); 2] {
    [("SDL_JOYSTICK_DISABLE_UDEV", "1"), ("SDL_JOYSTICK_HIDAPI", "0")]
}
