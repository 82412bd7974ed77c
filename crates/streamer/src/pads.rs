//! The game's gamepads, and their rumble on its way to the player.

use std::io;
use std::sync::{Arc, OnceLock};

use api::streamer::GamepadSettings;
use gamepad::{Backend, PadError, Rumble};
use transport::Channel;
use wire::{PadState, ServerMessage};

use crate::net::NetHandle;
use crate::sys;

/// The virtual pads of this session, with nothing to do where the game has none.
pub(crate) struct Pads {
    pads: Option<gamepad::Pads>,
    /// True once a fault was told: a broken pad is told once, not a thousand times a second.
    complained: bool,
}

impl Pads {
    /// Takes over the descriptors that the agent opened.
    ///
    /// # Errors
    /// When a descriptor is missing, or the process is out of threads.
    pub(crate) fn start(
        settings: &GamepadSettings,
        runtime_dir: &std::path::Path,
        net: Arc<OnceLock<NetHandle>>,
    ) -> io::Result<Pads> {
        let backend = match *settings {
            GamepadSettings::None => return Ok(Pads { pads: None, complained: false }),
            GamepadSettings::Fuse { fd } => Backend::Fuse(take(fd)?),
            GamepadSettings::Uinput { first_fd, count } => Backend::Uinput {
                devices: (0..i32::from(count)).map(|at| take(first_fd + at)).collect::<io::Result<_>>()?,
                directory: runtime_dir.join("input"),
            },
        };
        let pads = gamepad::Pads::start(backend, Box::new(move |rumble| to_player(&net, rumble)))?;
        Ok(Pads { pads: Some(pads), complained: false })
    }

    pub(crate) fn connect(&mut self, slot: u8) {
        self.act(|pads| pads.connect(slot));
    }

    pub(crate) fn disconnect(&mut self, slot: u8) {
        self.act(|pads| pads.disconnect(slot));
    }

    pub(crate) fn update(&mut self, slot: u8, state: &PadState) {
        self.act(|pads| pads.update(slot, state));
    }

    fn act(&mut self, act: impl FnOnce(&gamepad::Pads) -> Result<(), PadError>) {
        if let Some(Err(error)) = self.pads.as_ref().map(act)
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(%error, "a gamepad does not work");
        }
    }
}

fn take(fd: i32) -> io::Result<std::os::fd::OwnedFd> {
    sys::take_inherited(fd).ok_or_else(|| io::Error::other(format!("descriptor {fd} for gamepads is not open")))
}

fn to_player(net: &OnceLock<NetHandle>, rumble: Rumble) {
    let Some(net) = net.get() else { return };
    let message = ServerMessage::Rumble {
        pad: rumble.slot,
        strong: rumble.strong,
        weak: rumble.weak,
        duration_ms: rumble.duration_ms,
    };
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    if net.send(Channel::Control, bytes).is_err() {
        tracing::debug!("the network is behind: a rumble was dropped");
    }
}
