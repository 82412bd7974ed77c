//! Messages from the streamer to the player's client.

use crate::codec::{field_shape, first, limit, wire_enum, wire_struct, wire_union};

wire_enum! {
    /// How the game wants the pointer.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub enum PointerMode {
        /// Positions: menus, desktops.
        0 #[default] Absolute,
        /// Relative motion, the pointer hidden and held: the client should ask for pointer lock.
        1 Locked,
    }
}

wire_struct! {
    /// The pointer's picture.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CursorImage {
        /// Width in pixels, 1 to 128: browsers show no larger ones.
        #[max(128)]
        pub width: u16,
        /// Height in pixels, 1 to 128.
        #[max(128)]
        pub height: u16,
        /// The pixel that points, from the left.
        pub hotspot_x: u16,
        /// The pixel that points, from the top.
        pub hotspot_y: u16,
        /// Straight-alpha RGBA, `width * height * 4` bytes.
        #[max(65_536)]
        pub rgba: Vec<u8>,
    }
}

wire_union! {
    /// What the pointer looks like. It is never drawn into the stream: the client shows it without delay.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Cursor {
        /// No pointer.
        0 Hidden,
        /// A CSS cursor name (`default`, `pointer`, `text` ...), at most 32 bytes of `a-z` and `-`.
        1 Named(#[max(32)] String),
        /// A picture.
        2 Image(CursorImage),
    }
}

wire_struct! {
    /// Ties a frame to what caused it. Sent on the motion channel as the frame leaves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FrameMark {
        /// RTP timestamp of the frame (90 kHz, wrapping): the client matches frames by it.
        pub rtp_timestamp: u32,
        /// Sequence of the newest input that the frame can show; 0 when none yet.
        pub input_sequence: u32,
        /// When the game committed the frame, in microseconds of the streamer's clock, wrapping.
        pub committed_us: u32,
        /// From that input's arrival at the streamer to the commit, in units of 100 microseconds, saturating.
        pub input_to_commit_100us: u16,
        /// From commit to the start of encoding, in units of 100 microseconds, saturating.
        pub capture_100us: u16,
        /// Encoding, in units of 100 microseconds, saturating.
        pub encode_100us: u16,
    }
}

wire_struct! {
    /// The streamer's side of the statistics, about once a second.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StreamStatistics {
        /// Frames sent in the last second.
        pub frames_per_second: u16,
        /// Video bits sent in the last second.
        pub video_kbps: u32,
        /// What the congestion control allows now.
        pub target_kbps: u32,
        /// Median encoding time, in units of 100 microseconds.
        pub encode_100us: u16,
        /// Round trip by the transport, in units of 100 microseconds; 0 when unknown.
        pub round_trip_100us: u16,
        /// Packets resent in the last second.
        pub resent_packets: u16,
        /// Loss reported by the client in the last second, in 1/65535.
        pub loss_fraction: u16,
    }
}

wire_union! {
    /// A message to the client. C = control channel, M = motion channel.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ServerMessage {
        /// C. Answer to the client's hello.
        1 Hello {
            /// The version that the streamer speaks.
            version: u16,
            /// Stream width in pixels.
            width: u16,
            /// Stream height in pixels.
            height: u16,
            /// Highest frame rate of the session's spec.
            frames_per_second: u16,
        },
        /// C. The stream's size changed.
        2 StreamSize {
            /// Width in pixels.
            width: u16,
            /// Height in pixels.
            height: u16,
        },
        /// C. The pointer's look changed.
        3 Cursor(Cursor),
        /// C. The game locked or released the pointer.
        4 PointerMode(PointerMode),
        /// C. The game copied text. At most 65,536 bytes.
        5 Clipboard {
            /// The text.
            #[max(65_536)]
            text: String,
        },
        /// C. The game wants a pad to rumble; both zero means stop.
        6 Rumble {
            /// Slot, 0 to 3.
            #[max(3)]
            pad: u8,
            /// Low-frequency motor, 0 to 65535.
            strong: u16,
            /// High-frequency motor, 0 to 65535.
            weak: u16,
            /// For how long, in milliseconds; 0 = until the next message.
            duration_ms: u16,
        },
        /// M. Answer to a ping.
        7 Pong {
            /// As it was asked.
            client_time_us: u32,
            /// The streamer's clock in microseconds, wrapping; the clock of [`FrameMark::committed_us`].
            server_time_us: u32,
        },
        /// M. One a frame.
        8 FrameMark(FrameMark),
        /// C. About once a second.
        9 Statistics(StreamStatistics),
        /// C. The session ends; the reason is the one of the REST contract (`game_exited` ...).
        10 Ended {
            /// Machine-readable reason, at most 64 bytes.
            #[max(64)]
            reason: String,
        },
        /// C. The client broke the protocol; the message was dropped. At most 256 bytes of explanation.
        11 Complaint {
            /// For the developer's console.
            #[max(256)]
            text: String,
        },
    }
}
