//! From the client's messages to what the game is given: which are stale, how far the pointer moved, what is too much.
//!
//! Pure: the net thread calls it with each message and does at once what it answers. Deliberately absent: the display and
//! the pads themselves.

use std::time::{Duration, Instant};

use compositor::InputEvent;
use wire::{ClientMessage, FrameReport, MotionTotal, PadState, Stamp};

/// Gamepad slots of a session.
const PAD_SLOTS: usize = 4;

/// Messages a client may send in a second. A 1000 Hz mouse, four pads at 250 Hz and typing stay under 2,500; a flood
/// beyond this would only take the game's own processor time.
const MESSAGES_PER_SECOND: u32 = 4_000;

/// Characters of text in a second. Far more than anybody types, enough to paste a paragraph; each that is on no key costs the display a
/// keyboard map.
const TEXT_PER_SECOND: usize = 2_048;

/// What a message asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// For the game's display. The sequence is echoed with the frame that shows the effect.
    Display(InputEvent, u32),
    PadConnect(u8),
    PadDisconnect(u8),
    Pad(u8, PadState),
    /// The client introduced itself with this protocol version.
    Hello(u16),
    Clipboard(String),
    Resize(u16, u16),
    /// Answer with a pong.
    Ping(u32),
    Report(FrameReport),
    RequestKeyFrame,
}

/// Memory of one connection's input.
#[derive(Debug)]
pub(crate) struct InputState {
    total: MotionTotal,
    total_sequence: Option<u32>,
    position_sequence: Option<u32>,
    pad_sequence: [Option<u32>; PAD_SLOTS],
    touch_sequence: [Option<u32>; 16],
    window_start: Option<Instant>,
    window_count: u32,
    window_text: usize,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// More than [`MESSAGES_PER_SECOND`]. `first` is true once a second, to be told to the client.
    #[error("more than {MESSAGES_PER_SECOND} messages in a second: the rest of this second is dropped")]
    TooMany { first: bool },
    /// More than [`TEXT_PER_SECOND`]. `first` as above.
    #[error("more than {TEXT_PER_SECOND} characters of text in a second: the rest of this second is dropped")]
    TooMuchText { first: bool },
    #[error("there is no gamepad slot {0}: slots are 0 to 3")]
    NoSuchPad(u8),
    #[error("there is no touch point {0}: points are 0 to 15")]
    NoSuchTouch(u8),
}

/// True when `sequence` is newer than `last`, in wrapping order.
fn newer(sequence: u32, last: Option<u32>) -> bool {
    last.is_none_or(|last| sequence.wrapping_sub(last).cast_signed() > 0)
}

/// Takes `stamp` as the newest of its kind; false when it is stale.
fn advance(last: &mut Option<u32>, stamp: Stamp) -> bool {
    let fresh = newer(stamp.sequence, *last);
    if fresh {
        *last = Some(stamp.sequence);
    }
    fresh
}

impl InputState {
    pub(crate) fn new() -> InputState {
        InputState {
            total: MotionTotal::default(),
            total_sequence: None,
            position_sequence: None,
            pad_sequence: [None; PAD_SLOTS],
            touch_sequence: [None; 16],
            window_start: None,
            window_count: 0,
            window_text: 0,
        }
    }

    /// What to do for `message`, in order; empty when it is stale.
    pub(crate) fn accept(&mut self, message: ClientMessage, now: Instant) -> Result<Vec<Action>, Refusal> {
        self.count(now)?;
        let mut actions = Vec::with_capacity(2);
        match message {
            ClientMessage::Hello { version } => actions.push(Action::Hello(version)),
            ClientMessage::Key { stamp, code, pressed } => {
                actions.push(Action::Display(InputEvent::Key { code, pressed }, stamp.sequence));
            }
            ClientMessage::PointerMove { stamp, position } => {
                if advance(&mut self.position_sequence, stamp) {
                    actions.push(Action::Display(InputEvent::PointerMove(position), stamp.sequence));
                }
            }
            ClientMessage::PointerMotion { stamp, total } => actions.extend(self.motion(stamp, total)),
            ClientMessage::PointerButton { stamp, button, pressed, position, total } => {
                match position {
                    Some(position) => {
                        if advance(&mut self.position_sequence, stamp) {
                            actions.push(Action::Display(InputEvent::PointerMove(position), stamp.sequence));
                        }
                    }
                    None => actions.extend(self.motion(stamp, total)),
                }
                actions.push(Action::Display(InputEvent::Button { button, pressed }, stamp.sequence));
            }
            ClientMessage::Wheel { stamp, x, y } => {
                actions.push(Action::Display(InputEvent::Wheel { x, y }, stamp.sequence));
            }
            ClientMessage::Touch { stamp, id, phase, position } => {
                let last = self.touch_sequence.get_mut(usize::from(id)).ok_or(Refusal::NoSuchTouch(id))?;
                let moved_late = phase == wire::TouchPhase::Move && !newer(stamp.sequence, *last);
                if !moved_late {
                    *last = Some(stamp.sequence);
                    actions.push(Action::Display(InputEvent::Touch { id, phase, position }, stamp.sequence));
                }
            }
            ClientMessage::PadConnect { pad } => actions.push(Action::PadConnect(slot(pad)?)),
            ClientMessage::PadDisconnect { pad } => actions.push(Action::PadDisconnect(slot(pad)?)),
            ClientMessage::Pad { stamp, pad, state } => {
                let last = self.pad_sequence.get_mut(usize::from(pad)).ok_or(Refusal::NoSuchPad(pad))?;
                if advance(last, stamp) {
                    actions.push(Action::Pad(pad, state));
                }
            }
            ClientMessage::Text { stamp, text } => {
                self.count_text(&text)?;
                actions.push(Action::Display(InputEvent::Text(text), stamp.sequence));
            }
            ClientMessage::Clipboard { text } => actions.push(Action::Clipboard(text)),
            ClientMessage::ReleaseAll => actions.push(Action::Display(InputEvent::ReleaseAll, 0)),
            ClientMessage::Resize { width, height } => actions.push(Action::Resize(width, height)),
            ClientMessage::Ping { client_time_us } => actions.push(Action::Ping(client_time_us)),
            ClientMessage::Report(report) => actions.push(Action::Report(report)),
            ClientMessage::RequestKeyFrame => actions.push(Action::RequestKeyFrame),
        }
        Ok(actions)
    }

    fn motion(&mut self, stamp: Stamp, total: MotionTotal) -> Option<Action> {
        if !advance(&mut self.total_sequence, stamp) {
            return None;
        }
        let x = total.x.wrapping_sub(self.total.x);
        let y = total.y.wrapping_sub(self.total.y);
        self.total = total;
        (x != 0 || y != 0).then_some(Action::Display(InputEvent::PointerMotion { dx: x, dy: y }, stamp.sequence))
    }

    /// Takes the text's characters off what this second has left.
    fn count_text(&mut self, text: &str) -> Result<(), Refusal> {
        let before = self.window_text;
        self.window_text = before.saturating_add(text.chars().count());
        let is_first = before <= TEXT_PER_SECOND;
        if self.window_text <= TEXT_PER_SECOND { Ok(()) } else { Err(Refusal::TooMuchText { first: is_first }) }
    }

    fn count(&mut self, now: Instant) -> Result<(), Refusal> {
        let fresh =
            self.window_start.is_none_or(|start| now.saturating_duration_since(start) >= Duration::from_secs(1));
        if fresh {
            self.window_start = Some(now);
            self.window_count = 0;
            self.window_text = 0;
        }
        self.window_count += 1;
        match self.window_count.cmp(&(MESSAGES_PER_SECOND + 1)) {
            std::cmp::Ordering::Less => Ok(()),
            std::cmp::Ordering::Equal => Err(Refusal::TooMany { first: true }),
            std::cmp::Ordering::Greater => Err(Refusal::TooMany { first: false }),
        }
    }
}

fn slot(pad: u8) -> Result<u8, Refusal> {
    if usize::from(pad) < PAD_SLOTS { Ok(pad) } else { Err(Refusal::NoSuchPad(pad)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Button, PointerPosition};

    fn stamp(sequence: u32) -> Stamp {
        Stamp { sequence, client_time_us: 0 }
    }

    fn motion(sequence: u32, x: i32) -> ClientMessage {
        ClientMessage::PointerMotion { stamp: stamp(sequence), total: MotionTotal { x, y: 0 } }
    }

    /// Sum of the horizontal motion that the game is given for these messages.
    fn check_motion(messages: &[ClientMessage], expected: i32) {
        let mut state = InputState::new();
        let mut sum = 0i32;
        for message in messages {
            for action in state.accept(message.clone(), Instant::now()).unwrap() {
                if let Action::Display(InputEvent::PointerMotion { dx: x, .. }, _) = action {
                    sum = sum.wrapping_add(x);
                }
            }
        }
        assert_eq!(sum, expected, "{messages:?}");
    }

    #[test]
    fn motion_survives_loss_reordering_duplication_and_wrapping() {
        check_motion(&[motion(1, 10), motion(2, 25), motion(3, 40)], 40);
        check_motion(&[motion(1, 10), motion(3, 40)], 40);
        check_motion(&[motion(1, 10), motion(3, 40), motion(2, 25)], 40);
        check_motion(&[motion(1, 10), motion(1, 10), motion(1, 10)], 10);
        check_motion(&[motion(u32::MAX, 5), motion(0, 9)], 9);
        check_motion(&[motion(1, i32::MAX), motion(2, i32::MIN)], i32::MIN);
    }

    #[test]
    fn a_click_brings_its_own_position() {
        let mut state = InputState::new();
        let position = PointerPosition { x: 7, y: 9 };
        let click = ClientMessage::PointerButton {
            stamp: stamp(4),
            button: Button::Left,
            pressed: true,
            position: Some(position),
            total: MotionTotal::default(),
        };
        let actions = state.accept(click, Instant::now()).unwrap();
        assert_eq!(actions[0], Action::Display(InputEvent::PointerMove(position), 4));
        let late = ClientMessage::PointerMove { stamp: stamp(3), position: PointerPosition { x: 1, y: 1 } };
        assert_eq!(state.accept(late, Instant::now()).unwrap(), []);
    }

    #[test]
    fn more_text_than_anybody_types_is_dropped_for_a_second() {
        let mut state = InputState::new();
        let now = Instant::now();
        let text = |length: usize| ClientMessage::Text { stamp: stamp(1), text: "\u{e9}".repeat(length) };
        assert!(state.accept(text(TEXT_PER_SECOND), now).is_ok());
        assert_eq!(state.accept(text(1), now), Err(Refusal::TooMuchText { first: true }));
        assert_eq!(state.accept(text(1), now), Err(Refusal::TooMuchText { first: false }));
        assert!(state.accept(text(1), now + std::time::Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn floods_and_bad_slots_are_refused() {
        let mut state = InputState::new();
        let now = Instant::now();
        let ping = ClientMessage::Ping { client_time_us: 0 };
        for _ in 0..MESSAGES_PER_SECOND {
            assert!(state.accept(ping.clone(), now).is_ok());
        }
        assert_eq!(state.accept(ping.clone(), now), Err(Refusal::TooMany { first: true }));
        assert_eq!(state.accept(ping.clone(), now), Err(Refusal::TooMany { first: false }));
        let later = now + Duration::from_secs(1);
        assert!(state.accept(ping, later).is_ok());
        assert_eq!(state.accept(ClientMessage::PadConnect { pad: 4 }, later), Err(Refusal::NoSuchPad(4)));
    }
}
