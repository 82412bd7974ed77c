//! From the game's sound to the player: PulseAudio's blocks through Opus to the network.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use encode::OpusEncoder;
use media::{Bitrate, PcmBlock};

use crate::audio::{Audio, AudioError};
use crate::net::NetHandle;
use crate::run::{Event, RunError};

/// Bitrate of the sound. Below 96 kbit/s music of games is audibly worse with 10 ms packets; above 160 nobody hears more.
const BITRATE: Bitrate = Bitrate::from_kbps(128);

/// The running sound.
#[derive(Debug)]
pub(crate) struct Sound {
    audio: Audio,
}

impl Sound {
    pub(crate) fn start(
        runtime_dir: &Path,
        net: Arc<OnceLock<NetHandle>>,
        hub: SyncSender<Event>,
    ) -> Result<Sound, RunError> {
        let mut opus = OpusEncoder::new(BITRATE).map_err(|error| RunError::Sound(error.to_string()))?;
        let blocks = move |block: PcmBlock| {
            // Nobody listens: nothing is encoded.
            let Some(net) = net.get().filter(|net| net.is_connected()) else { return };
            match opus.encode(&block) {
                Ok(packet) => {
                    if net.audio(packet).is_err() {
                        tracing::debug!("the network is behind: sound was dropped");
                    }
                }
                Err(error) => tracing::error!(%error, "a block of sound was not encoded"),
            }
        };
        let ended = move |error: AudioError| {
            if hub.try_send(Event::SoundFailed(error.to_string())).is_err() {
                tracing::error!(%error, "the sound failed, and the main thread is behind");
            }
        };
        let audio = Audio::start(runtime_dir, Box::new(blocks), Box::new(ended))
            .map_err(|error| RunError::Sound(error.to_string()))?;
        Ok(Sound { audio })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.audio.socket().to_owned()
    }
}
