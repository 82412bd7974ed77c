//! Messages from the player's client to the streamer.

use crate::codec::{field_shape, first, limit, wire_enum, wire_number, wire_struct, wire_union};

wire_struct! {
    /// Number that the client gives every input, counting up by one and wrapping; and when the event happened by the
    /// client's clock. [`crate::FrameMark`] returns the number, which gives input-to-photon.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Stamp {
        /// Sequence number over all inputs of the connection, both channels.
        pub sequence: u32,
        /// The client's clock in microseconds since its own start, wrapping.
        pub client_time_us: u32,
    }
}

wire_number! {
    /// A Linux evdev key code (`KEY_A` = 30 ...): positions on the keyboard, not characters.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct KeyCode(pub u16);
}

wire_enum! {
    /// A pointer button.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Button {
        /// Left, `BTN_LEFT`.
        0 Left,
        /// Right, `BTN_RIGHT`.
        1 Right,
        /// Middle, `BTN_MIDDLE`.
        2 Middle,
        /// Fourth, usually back, `BTN_SIDE`.
        3 Back,
        /// Fifth, usually forward, `BTN_EXTRA`.
        4 Forward,
    }
}

wire_struct! {
    /// Where the pointer is, as a fraction of the stream's picture: 0 is the left or top edge, 65535 the right or bottom.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PointerPosition {
        /// From left to right.
        pub x: u16,
        /// From top to bottom.
        pub y: u16,
    }
}

wire_struct! {
    /// Relative motion since the connection began, in 1/16 pixel of the stream's picture, wrapping. The streamer applies the
    /// difference to the newest total that it had, so lost and reordered messages cost nothing.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MotionTotal {
        /// Rightwards.
        pub x: i32,
        /// Downwards.
        pub y: i32,
    }
}

wire_enum! {
    /// What a touch point did.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TouchPhase {
        /// The finger came down.
        0 Start,
        /// It moved.
        1 Move,
        /// It was lifted.
        2 End,
        /// The system took it away (a gesture, a notification): undo what it began.
        3 Cancel,
    }
}

wire_number! {
    /// Pressed buttons of a pad, one bit each, in the order of the W3C Gamepad standard mapping
    /// (bit 0 = bottom face button ... bit 16 = guide).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PadButtons(pub u32);
}

wire_struct! {
    /// The full state of one gamepad.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PadState {
        /// Pressed buttons.
        pub buttons: PadButtons,
        /// Left stick x, y, right stick x, y: -32767 left or up to 32767 right or down.
        pub axes: [i16; 4],
        /// Left and right trigger: 0 released to 255 pressed.
        pub triggers: [u8; 2],
    }
}

wire_struct! {
    /// What the client saw of the stream in the last second or so.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FrameReport {
        /// Frames shown since the last report.
        pub presented: u16,
        /// Frames received but never shown since the last report.
        pub dropped: u16,
        /// Longest time between two frames shown since the last report, in milliseconds.
        pub longest_gap_ms: u16,
        /// Median age of a frame when shown (commit by the game to presentation), in units of 100 microseconds.
        pub frame_age_100us: u16,
        /// Median time from an input to the first frame that shows it, in units of 100 microseconds; 0 when none.
        pub input_to_photon_100us: u16,
        /// Median decoding time, in units of 100 microseconds; 0 when unknown.
        pub decode_100us: u16,
        /// How long frames lay ready before the display took them, in units of 100 microseconds: nine of ten at least so long. 65535 when
        /// unknown.
        pub display_slack_100us: u16,
        /// How many of the frames shown last, one after the other, waited an interval of the display, as the one before had taken its place.
        pub waiting: u16,
    }
}

wire_union! {
    /// A message from the client. C = control channel, M = motion channel.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ClientMessage {
        /// C. First message: the protocol version that the client speaks.
        1 Hello {
            /// See [`crate::PROTOCOL_VERSION`].
            version: u16,
        },
        /// C. A key went down or up. The client does not send its system's key repeats.
        2 Key {
            /// When.
            stamp: Stamp,
            /// Which.
            code: KeyCode,
            /// True when it went down.
            pressed: bool,
        },
        /// M. The pointer moved in absolute mode.
        3 PointerMove {
            /// When.
            stamp: Stamp,
            /// Where to.
            position: PointerPosition,
        },
        /// M. The pointer moved while locked.
        4 PointerMotion {
            /// When.
            stamp: Stamp,
            /// Motion so far.
            total: MotionTotal,
        },
        /// C. A pointer button. Carries both motion states, so that a click never acts on a stale position.
        5 PointerButton {
            /// When.
            stamp: Stamp,
            /// Which.
            button: Button,
            /// True when it went down.
            pressed: bool,
            /// Position at the click; `None` while the pointer is locked.
            position: Option<PointerPosition>,
            /// Motion so far.
            total: MotionTotal,
        },
        /// C. The wheel turned, in 1/120 of a notch; positive is right and down.
        6 Wheel {
            /// When.
            stamp: Stamp,
            /// Horizontal.
            x: i16,
            /// Vertical.
            y: i16,
        },
        /// C for start, end and cancel, M for moves. A finger on the screen.
        7 Touch {
            /// When.
            stamp: Stamp,
            /// Which finger, 0 to 15.
            #[max(15)]
            id: u8,
            /// What it did.
            phase: TouchPhase,
            /// Where.
            position: PointerPosition,
        },
        /// C. A gamepad was plugged in at this slot, 0 to 3.
        8 PadConnect {
            /// Slot.
            #[max(3)]
            pad: u8,
        },
        /// C. The gamepad at this slot is gone.
        9 PadDisconnect {
            /// Slot.
            #[max(3)]
            pad: u8,
        },
        /// M, and C when a button changed: the full state of a gamepad; newer `stamp.sequence` wins.
        10 Pad {
            /// When.
            stamp: Stamp,
            /// Slot.
            #[max(3)]
            pad: u8,
            /// State.
            state: PadState,
        },
        /// C. Text from an on-screen keyboard or an input method, at most 1024 bytes.
        11 Text {
            /// When.
            stamp: Stamp,
            /// The text.
            #[max(1024)]
            text: String,
        },
        /// C. The player copied text: it becomes the game's clipboard. At most 65,536 bytes.
        12 Clipboard {
            /// The text.
            #[max(65_536)]
            text: String,
        },
        /// C. Release every key, button and touch (the page lost focus).
        13 ReleaseAll,
        /// C. The player's view has this size in device pixels: the stream should follow within its spec.
        14 Resize {
            /// Width in pixels.
            width: u16,
            /// Height in pixels.
            height: u16,
        },
        /// M. Asks for a [`crate::ServerMessage::Pong`], to measure the round trip and the clocks' difference.
        15 Ping {
            /// The client's clock in microseconds, wrapping.
            client_time_us: u32,
        },
        /// C. About once a second.
        16 Report(FrameReport),
        /// C. The client's decoder lost its way and needs a key frame.
        17 RequestKeyFrame,
    }
}
