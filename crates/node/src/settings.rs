//! What an agent is told once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::id::NodeId;
use api::node::Capacity;
use content::{StoreSettings, VolumeSettings};

use api::streamer::{BitrateSettings, EncoderChoice, NetworkSettings};
use api::trace::SpanSink;

use crate::machine::{self, CPU_OVERCOMMIT};

/// First user id given to instances when the agent is root. Above the ids of people, services and of the sub-id ranges
/// that distributions hand out by default.
const UID_BASE: u32 = 1_700_000_000;

/// Ranges of a thousand ids from there on: an installation takes the one that its directory falls on.
const UID_RANGES: u32 = 400_000;

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// This node.
    pub node: NodeId,
    /// Logs, and a lock.
    pub data_dir: PathBuf,
    /// Homes and private layers of instances. On a file system that can be an overlay's upper layer; by default `data_dir`.
    pub work_dir: PathBuf,
    /// Where releases and saves are kept.
    pub store: StoreSettings,
    /// The site's volume: releases that instances run from. On the file system of `work_dir`.
    pub volume: VolumeSettings,
    /// Sockets of running instances. Short (a socket's path ends at 107 bytes) and reachable by every user.
    pub runtime_dir: PathBuf,
    /// `kite-streamer`.
    pub streamer_program: PathBuf,
    /// `kite-echo`, to which players' clients measure the way. Default none: nobody can, and sites of this node alone are as far as any.
    pub echo_program: Option<PathBuf>,
    /// `kite-sandbox`; `None` = beside the running program.
    pub sandbox_program: Option<PathBuf>,
    /// What this node holds.
    pub capacity: Capacity,
    /// Addresses and ports of streamers.
    pub network: NetworkSettings,
    /// Limits of the video bitrate.
    pub bitrate: BitrateSettings,
    /// Encoder.
    pub encoder: EncoderChoice,
    /// Sound.
    pub audio: bool,
    /// Less free space than this on the work directory's disk, in MiB, and no new instance is taken. Default 512.
    pub min_free_disk_mb: u64,
    /// When root: instance `n` runs as `uid_base + n`, `n` below 999, and the echo as `uid_base + 999`. Nobody else may use these ids: processes that an
    /// instance leaves are found by them.
    pub uid_base: u32,
    /// How long a streamer may take until its display is up. Measured 0.1 to 0.5 s; a machine under full load needs
    /// many times that, and too long only delays the word that it failed.
    pub streamer_timeout: Duration,
    /// Directories of logs that are kept after their instance's end.
    pub kept_logs: usize,
    /// Where this node's witness listens, as other nodes reach it; it is reported, not opened, by the agent. Default
    /// none.
    pub witness: Option<SocketAddr>,
    /// Where the spans of traces go. Default none: nobody wants to see them.
    pub spans: Option<SpanSink>,
}

impl NodeSettings {
    /// Settings with the defaults for everything but places and network.
    #[must_use]
    pub fn new(node: NodeId, data_dir: PathBuf, streamer_program: PathBuf, network: NetworkSettings) -> Self {
        Self {
            node,
            store: StoreSettings::Local { dir: data_dir.join("content") },
            volume: VolumeSettings::new(data_dir.join("volume")),
            runtime_dir: default_runtime_dir(&data_dir),
            uid_base: UID_BASE + hash_of(&data_dir) % UID_RANGES * 1000,
            work_dir: data_dir.clone(),
            data_dir,
            streamer_program,
            echo_program: None,
            sandbox_program: None,
            capacity: default_capacity(),
            network,
            bitrate: BitrateSettings { min_kbps: 300, start_kbps: 4000, max_kbps: 20_000 },
            encoder: EncoderChoice::Auto,
            audio: true,
            min_free_disk_mb: 512,
            streamer_timeout: Duration::from_secs(20),
            kept_logs: 50,
            witness: None,
            spans: None,
        }
    }
}

/// Two sessions a core, and for each core one and a half times the pixels of 720p60: what software encoding was measured
/// to do on two cores (three streams of 720p60). Machines with hardware encoders are told more. Of processors and memory what the machine has;
/// what its network can is not known.
#[expect(clippy::cast_precision_loss, reason = "no machine has 16 million processors")]
fn default_capacity() -> Capacity {
    let cores = machine::processors();
    Capacity {
        sessions: cores.saturating_mul(2).max(2),
        pixels_per_second: u64::from(cores).saturating_mul(1280 * 720 * 90).max(1920 * 1080 * 60),
        cpu_milli: Some(machine::cpu_milli(cores as f32, CPU_OVERCOMMIT)),
        memory_mib: machine::memory_mib(),
        egress_kbps: None,
    }
}

/// A short directory for the sockets of this data directory's instances: two installations do not meet.
#[must_use]
pub fn default_runtime_dir(data_dir: &Path) -> PathBuf {
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
    };
    base.join(format!("kite-{:08x}", hash_of(data_dir)))
}

/// FNV-1a of a path: only has to differ between the few data directories of one machine, and be the same at every start.
fn hash_of(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// True when the machine has a GPU's render node.
pub(crate) fn has_gpu() -> bool {
    std::fs::read_dir("/dev/dri").is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("renderD")))
    })
}
