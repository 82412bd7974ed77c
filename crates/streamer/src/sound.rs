//! From the game's sound to the player: PulseAudio's blocks through Opus to the network.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use crate::net::NetHandle;
use crate::run::{Event, RunError};

/// The running sound.
pub(crate) struct Sound {
    socket: PathBuf,
}

impl Sound {
    pub(crate) fn start(
        runtime_dir: &Path,
        _net: Arc<OnceLock<NetHandle>>,
        _hub: SyncSender<Event>,
    ) -> Result<Sound, RunError> {
        Ok(Sound { socket: runtime_dir.join("pulse/native") })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }
}
