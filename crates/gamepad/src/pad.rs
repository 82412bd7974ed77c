//! What an Xbox 360 pad looks like to Linux, and what changes between two states of it.

use wire::PadState;

use crate::evdev::{
    ABS_HAT0X, ABS_HAT0Y, ABS_RX, ABS_RY, ABS_RZ, ABS_X, ABS_Y, ABS_Z, BTN_A, BTN_B, BTN_MODE, BTN_SELECT, BTN_START,
    BTN_THUMBL, BTN_THUMBR, BTN_TL, BTN_TR, BTN_X, BTN_Y, EV_ABS, EV_KEY, EV_SYN, Event, SYN_REPORT,
};

/// As the kernel's own driver names it.
pub(crate) const NAME: &str = "Microsoft X-Box 360 pad";
/// `BUS_USB`.
pub(crate) const BUS: u16 = 0x03;
/// Microsoft.
pub(crate) const VENDOR: u16 = 0x045E;
/// The wired Xbox 360 pad.
pub(crate) const PRODUCT: u16 = 0x028E;
/// The hardware version that most of them have, and mapping tables know.
pub(crate) const VERSION: u16 = 0x0114;
/// Effects that can be loaded at the same time.
pub(crate) const EFFECTS: u8 = 16;

/// Bit of the W3C standard mapping -> key code. Triggers (6, 7) and the cross (12 to 15) are axes.
const BUTTONS: [(u32, u16); 11] = [
    (0, BTN_A),
    (1, BTN_B),
    (2, BTN_X),
    (3, BTN_Y),
    (4, BTN_TL),
    (5, BTN_TR),
    (8, BTN_SELECT),
    (9, BTN_START),
    (10, BTN_THUMBL),
    (11, BTN_THUMBR),
    (16, BTN_MODE),
];

const LEFT_TRIGGER: u32 = 6;
const RIGHT_TRIGGER: u32 = 7;
const UP: u32 = 12;
const DOWN: u32 = 13;
const LEFT: u32 = 14;
const RIGHT: u32 = 15;

/// An axis and its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) code: u16,
    pub(crate) minimum: i32,
    pub(crate) maximum: i32,
    pub(crate) fuzz: i32,
    pub(crate) flat: i32,
}

const fn stick(code: u16) -> Axis {
    Axis { code, minimum: -32_768, maximum: 32_767, fuzz: 16, flat: 128 }
}

const fn trigger(code: u16) -> Axis {
    Axis { code, minimum: 0, maximum: 255, fuzz: 0, flat: 0 }
}

const fn hat(code: u16) -> Axis {
    Axis { code, minimum: -1, maximum: 1, fuzz: 0, flat: 0 }
}

/// In the order of their values in [`Position`].
pub(crate) const AXES: [Axis; 8] = [
    stick(ABS_X),
    stick(ABS_Y),
    trigger(ABS_Z),
    stick(ABS_RX),
    stick(ABS_RY),
    trigger(ABS_RZ),
    hat(ABS_HAT0X),
    hat(ABS_HAT0Y),
];

/// Key codes that the pad has.
pub(crate) fn keys() -> impl Iterator<Item = u16> {
    BUTTONS.iter().map(|(_, code)| *code)
}

/// A pad's state as the kernel would report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// One bit an entry of [`BUTTONS`].
    pressed: [bool; BUTTONS.len()],
    axes: [i32; AXES.len()],
}

impl Position {
    pub(crate) fn of(state: &PadState) -> Self {
        let held = |bit: u32| state.buttons.0 & (1 << bit) != 0;
        // A client without analogue triggers sends only their buttons.
        let pull = |value: u8, bit| if value == 0 && held(bit) { 255 } else { i32::from(value) };
        let direction = |minus, plus| i32::from(held(plus)) - i32::from(held(minus));
        let [left_x, left_y, right_x, right_y] = state.axes.map(i32::from);
        let [left, right] = state.triggers;
        Self {
            pressed: BUTTONS.map(|(bit, _)| held(bit)),
            axes: [
                left_x,
                left_y,
                pull(left, LEFT_TRIGGER),
                right_x,
                right_y,
                pull(right, RIGHT_TRIGGER),
                direction(LEFT, RIGHT),
                direction(UP, DOWN),
            ],
        }
    }

    /// The events that lead from `self` to `next`; none when nothing changed.
    pub(crate) fn events_to(&self, next: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        for ((was, is), (_, code)) in self.pressed.iter().zip(&next.pressed).zip(BUTTONS) {
            if was != is {
                events.push(Event::new(EV_KEY, code, i32::from(*is)));
            }
        }
        for ((was, is), axis) in self.axes.iter().zip(&next.axes).zip(AXES) {
            if was != is {
                events.push(Event::new(EV_ABS, axis.code, *is));
            }
        }
        if !events.is_empty() {
            events.push(Event::new(EV_SYN, SYN_REPORT, 0));
        }
        events
    }

    /// Codes of the keys that are down.
    pub(crate) fn pressed(&self) -> impl Iterator<Item = u16> {
        self.pressed.iter().zip(BUTTONS).filter(|(is, _)| **is).map(|(_, (_, code))| code)
    }

    /// An axis and its value.
    pub(crate) fn axis(&self, code: u16) -> Option<(Axis, i32)> {
        AXES.iter().zip(self.axes).find(|(axis, _)| axis.code == code).map(|(axis, value)| (*axis, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::PadButtons;

    fn check(from: PadState, to: PadState, expected: &[(u16, u16, i32)]) {
        let events = Position::of(&from).events_to(&Position::of(&to));
        let events: Vec<_> = events.iter().map(|event| (event.kind, event.code, event.value)).collect();
        assert_eq!(events, expected);
    }

    fn buttons(bits: u32) -> PadState {
        PadState { buttons: PadButtons(bits), ..PadState::default() }
    }

    #[test]
    fn only_what_changed_is_reported() {
        let rest = PadState::default();
        check(rest, rest, &[]);
        check(rest, buttons(1), &[(EV_KEY, BTN_A, 1), (EV_SYN, 0, 0)]);
        check(buttons(1), rest, &[(EV_KEY, BTN_A, 0), (EV_SYN, 0, 0)]);
        check(rest, buttons(1 << 16), &[(EV_KEY, BTN_MODE, 1), (EV_SYN, 0, 0)]);
        check(rest, buttons(1 << 12), &[(EV_ABS, ABS_HAT0Y, -1), (EV_SYN, 0, 0)]);
        check(rest, buttons(1 << 15), &[(EV_ABS, ABS_HAT0X, 1), (EV_SYN, 0, 0)]);
        check(rest, buttons(3 << 14), &[]);
        check(rest, buttons(1 << 6), &[(EV_ABS, ABS_Z, 255), (EV_SYN, 0, 0)]);
        check(
            rest,
            PadState { axes: [-32767, 5, 0, 32767], triggers: [0, 7], ..rest },
            &[
                (EV_ABS, ABS_X, -32767),
                (EV_ABS, ABS_Y, 5),
                (EV_ABS, ABS_RY, 32767),
                (EV_ABS, ABS_RZ, 7),
                (EV_SYN, 0, 0),
            ],
        );
    }

    #[test]
    fn bits_beyond_the_mapping_are_ignored() {
        check(PadState::default(), buttons(0xFFFE_0000), &[]);
    }
}
