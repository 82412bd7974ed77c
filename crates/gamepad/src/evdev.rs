//! The kernel's input event interface: `linux/input.h` as numbers and bytes.

use crate::Rumble;

/// Event types.
pub(crate) const EV_SYN: u16 = 0x00;
pub(crate) const EV_KEY: u16 = 0x01;
pub(crate) const EV_ABS: u16 = 0x03;
pub(crate) const EV_FF: u16 = 0x15;

pub(crate) const SYN_REPORT: u16 = 0;
pub(crate) const SYN_DROPPED: u16 = 3;

pub(crate) const BTN_A: u16 = 0x130;
pub(crate) const BTN_B: u16 = 0x131;
pub(crate) const BTN_X: u16 = 0x133;
pub(crate) const BTN_Y: u16 = 0x134;
pub(crate) const BTN_TL: u16 = 0x136;
pub(crate) const BTN_TR: u16 = 0x137;
pub(crate) const BTN_SELECT: u16 = 0x13A;
pub(crate) const BTN_START: u16 = 0x13B;
pub(crate) const BTN_MODE: u16 = 0x13C;
pub(crate) const BTN_THUMBL: u16 = 0x13D;
pub(crate) const BTN_THUMBR: u16 = 0x13E;

pub(crate) const ABS_X: u16 = 0x00;
pub(crate) const ABS_Y: u16 = 0x01;
pub(crate) const ABS_Z: u16 = 0x02;
pub(crate) const ABS_RX: u16 = 0x03;
pub(crate) const ABS_RY: u16 = 0x04;
pub(crate) const ABS_RZ: u16 = 0x05;
pub(crate) const ABS_HAT0X: u16 = 0x10;
pub(crate) const ABS_HAT0Y: u16 = 0x11;

pub(crate) const FF_RUMBLE: u16 = 0x50;

/// Numbers of bits in the kernel's bit maps.
pub(crate) const EV_COUNT: usize = 0x20;
pub(crate) const KEY_COUNT: usize = 0x300;
pub(crate) const ABS_COUNT: usize = 0x40;
pub(crate) const FF_COUNT: usize = 0x80;
pub(crate) const PROPERTY_COUNT: usize = 0x20;

/// How wide the reader's `struct timeval` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Width {
    #[default]
    Bits64,
    /// A 32-bit program under a 64-bit kernel.
    Bits32,
}

impl Width {
    /// Size of a `struct input_event`.
    pub(crate) fn event_bytes(self) -> usize {
        match self {
            Self::Bits64 => 24,
            Self::Bits32 => 16,
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: u16,
    pub(crate) code: u16,
    pub(crate) value: i32,
}

impl Event {
    pub(crate) const fn new(kind: u16, code: u16, value: i32) -> Self {
        Self { kind, code, value }
    }

    /// Appends a `struct input_event`.
    pub(crate) fn write(self, seconds: i64, microseconds: i64, width: Width, out: &mut Vec<u8>) {
        match width {
            Width::Bits64 => {
                out.extend(seconds.to_ne_bytes());
                out.extend(microseconds.to_ne_bytes());
            }
            Width::Bits32 => {
                // The kernel too lets the seconds wrap for them, in 2106.
                out.extend((seconds as u32).to_ne_bytes());
                out.extend((microseconds as u32).to_ne_bytes());
            }
        }
        out.extend(self.kind.to_ne_bytes());
        out.extend(self.code.to_ne_bytes());
        out.extend(self.value.to_ne_bytes());
    }

    /// From the last eight bytes of a `struct input_event`, the same for both widths.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [.., a, b, c, d, e, f, g, h] = bytes else { return None };
        Some(Self {
            kind: u16::from_ne_bytes([*a, *b]),
            code: u16::from_ne_bytes([*c, *d]),
            value: i32::from_ne_bytes([*e, *f, *g, *h]),
        })
    }
}

/// A force feedback effect, as far as a pad with two motors can play it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) kind: u16,
    /// -1 asks for a new one.
    pub(crate) id: i16,
    pub(crate) strong: u16,
    pub(crate) weak: u16,
    pub(crate) duration_ms: u16,
}

impl Effect {
    /// From a `struct ff_effect`; the fields used are at the same place for both widths.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        Some(Self {
            kind: number(0)?,
            id: number(2)?.cast_signed(),
            duration_ms: number(10)?,
            strong: number(16)?,
            weak: number(18)?,
        })
    }
}

impl Effect {
    /// What playing it (or, with 0, stopping it) means for a pad.
    pub(crate) fn rumble(&self, slot: u8, value: i32) -> Rumble {
        if value == 0 || (self.strong == 0 && self.weak == 0) {
            return Rumble { slot, ..Rumble::default() };
        }
        Rumble { slot, strong: self.strong, weak: self.weak, duration_ms: self.duration_ms }
    }
}

/// Sets bits in a map of `count` bits.
pub(crate) fn bits(count: usize, set: impl IntoIterator<Item = u16>) -> Vec<u8> {
    // Whole longs, as the kernel has them.
    let mut map = vec![0; count.div_ceil(64) * 8];
    for bit in set {
        if let Some(byte) = map.get_mut(usize::from(bit) / 8) {
            *byte |= 1 << (bit % 8);
        }
    }
    map
}
