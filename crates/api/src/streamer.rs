//! The contract between the node agent and the `kite-streamer` that it starts for one session.
//!
//! The agent starts the streamer with a Unix stream socket as file descriptor [`CONTROL_FD`]. Both sides write one JSON
//! value a line, at most [`MAX_LINE_BYTES`] long. The agent's first line is [`StreamerSettings`]; then [`ToStreamer`] one
//! way and [`FromStreamer`] the other. End of file from the agent means "the agent is gone": the streamer keeps
//! streaming to the player that it has, and ends when that player leaves.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::trace::TraceParent;

/// File descriptor of the control socket in the streamer.
pub const CONTROL_FD: i32 = 3;

/// Longest line of either direction, in bytes. An SDP is under 20 kB; more is a broken peer.
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// Which display the game is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisplayProtocol {
    /// A Wayland display alone.
    Wayland,
    /// An X11 display by rootless Xwayland, and the Wayland display under it. The default: it serves both kinds.
    #[default]
    X11,
    /// A plain Xvfb: for games that Xwayland cannot serve. Costs one more copy a frame.
    Xvfb,
}

/// Which encoder to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncoderChoice {
    /// Hardware when it opens, else software.
    #[default]
    Auto,
    /// libx264.
    Software,
    /// NVIDIA NVENC.
    Nvenc,
    /// VA-API (Intel, AMD).
    Vaapi,
    /// Intel Quick Sync Video.
    Qsv,
}

/// How players reach the streamer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// Address to bind; `0.0.0.0` for all.
    pub bind: IpAddr,
    /// Addresses put into ICE candidates. With NAT 1:1 these are the public ones. Never empty.
    pub advertise: Vec<IpAddr>,
    /// Port put into ICE candidates when a port mapping makes it another than the bound one; `None`: the bound one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_port: Option<u16>,
    /// First UDP and TCP port that may be used.
    pub port_min: u16,
    /// Last port, inclusive. A session takes one port, UDP and TCP alike.
    pub port_max: u16,
}

/// Limits of the video bitrate in kilobits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitrateSettings {
    /// The encoder is never set lower, even when congestion control asks for it.
    pub min_kbps: u32,
    /// Before anything is known of the path.
    pub start_kbps: u32,
    /// Never more.
    pub max_kbps: u32,
}

/// Where the game's gamepads come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum GamepadSettings {
    /// None: the game sees no pad.
    None,
    /// The open `/dev/fuse` that the sandbox mounts on the game's `/dev/input` is this descriptor.
    Fuse {
        /// File descriptor number in the streamer.
        fd: i32,
    },
    /// Open `/dev/uinput` descriptors, one a pad slot: `first_fd`, `first_fd + 1` ...
    Uinput {
        /// First file descriptor number in the streamer.
        first_fd: i32,
        /// How many.
        count: u8,
    },
}

/// Everything a streamer needs to know, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamerSettings {
    /// For logs.
    pub instance: InstanceId,
    /// Directory of this instance alone, writable by the streamer. It creates `wayland-0`, `x11/X0`, `pulse/native` in it,
    /// which the sandbox then shows to the game.
    pub runtime_dir: PathBuf,
    /// The game's display.
    pub display: DisplayProtocol,
    /// Picture width in pixels at start.
    pub width: u32,
    /// Picture height in pixels at start.
    pub height: u32,
    /// Highest frame rate.
    pub frames_per_second: u16,
    /// True when the player's window may change the size (within `width` x `height` pixels in area).
    pub resizable: bool,
    /// Encoder.
    pub encoder: EncoderChoice,
    /// Bitrate.
    pub bitrate: BitrateSettings,
    /// Network.
    pub network: NetworkSettings,
    /// Sound on or off.
    pub audio: bool,
    /// Gamepads.
    pub gamepads: GamepadSettings,
    /// How long a lost player may take to come back, in seconds, before the session ends.
    pub reconnect_grace_s: u32,
    /// How long to wait for the first player, in seconds.
    pub connect_timeout_s: u32,
    /// The play's trace, for logs. The streamer exports nothing: its moments (`Ready`, `FirstFrame`, `Player`) are spans of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToStreamer {
    /// A WHEP offer. A second one replaces the first peer (reconnect).
    Offer {
        /// Returned in the answer.
        request: u64,
        /// The offer.
        sdp: String,
    },
    /// It was started for nobody; now somebody has it, and comes.
    Claimed {
        /// How long to wait for him from now on, in seconds.
        connect_timeout_s: u32,
        /// True when his window may change the picture's size.
        resizable: bool,
    },
    /// The game's process ended.
    GameEnded {
        /// What the player is told: `game_exited`, `game_crashed`, `out_of_memory` ...
        reason: String,
    },
    /// End now: tell the player this reason, close, exit.
    Stop {
        /// What the player is told.
        reason: String,
    },
    /// Write what the game shows to a file as PNG (for support; audited by the control plane).
    Screenshot {
        /// Returned in the reply.
        request: u64,
    },
}

/// To the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FromStreamer {
    /// Display, sound and network are up: the game can be started with these variables, paths as the streamer sees them.
    Ready {
        /// Path of the Wayland socket, when there is one.
        wayland_socket: Option<PathBuf>,
        /// Directory to be shown to the game as `/tmp/.X11-unix`; its display is `:0`. `None` without X11.
        x11_dir: Option<PathBuf>,
        /// Path of the PulseAudio socket, when there is sound.
        pulse_socket: Option<PathBuf>,
        /// UDP and TCP port in use.
        port: u16,
    },
    /// The answer to an offer.
    Answer {
        /// Of the offer.
        request: u64,
        /// The SDP answer.
        sdp: String,
    },
    /// The offer was not usable.
    OfferRefused {
        /// Of the offer.
        request: u64,
        /// What was wrong, in a sentence.
        detail: String,
    },
    /// The first frame of the game was captured.
    FirstFrame,
    /// The player's connection came up or went down.
    Player {
        /// True when media flows.
        connected: bool,
    },
    /// About once in five seconds while a player is there.
    Statistics(StreamStatistics),
    /// A screenshot, or why there is none.
    Screenshot {
        /// Of the request.
        request: u64,
        /// PNG file in the runtime directory.
        path: Option<PathBuf>,
        /// Why there is none, in a sentence.
        #[serde(default)]
        detail: Option<String>,
    },
    /// The streamer's last line.
    Ended {
        /// `player_left`, `reconnect_timeout`, `connect_timeout`, `stopped`, `display_failed`, `encoder_failed` ...
        reason: String,
        /// For the operator.
        detail: Option<String>,
    },
}

/// How the stream is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct StreamStatistics {
    /// Frames sent per second.
    pub frames_per_second: f32,
    /// Video kilobits per second.
    pub video_kbps: u32,
    /// Congestion control's limit in kilobits per second.
    pub target_kbps: u32,
    /// Median encoding time in milliseconds.
    pub encode_ms: f32,
    /// Round trip in milliseconds; 0 when unknown.
    pub round_trip_ms: f32,
    /// Lost packets, 0 to 1.
    pub loss: f32,
    /// Median time from input to the first frame that shows it, as the player measured it, in milliseconds.
    pub input_to_photon_ms: f32,
    /// Median age of a frame when shown, as the player measured it, in milliseconds.
    pub frame_age_ms: f32,
    /// Whole seconds since the player's last input of any kind; counted from the connection when there was none.
    pub idle_s: u32,
}
