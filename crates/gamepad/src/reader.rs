//! One open pad file: its queue of events, its answers to the input subsystem's ioctls, its effects.

use std::collections::{BTreeMap, VecDeque};

use rustix::time::{ClockId, clock_gettime};

use crate::Rumble;
use crate::evdev::{
    ABS_COUNT, EV_ABS, EV_COUNT, EV_FF, EV_KEY, EV_SYN, Effect, Event, FF_COUNT, FF_RUMBLE, KEY_COUNT, PROPERTY_COUNT,
    SYN_DROPPED, SYN_REPORT, Width, bits,
};
use crate::pad::{self, Position};
use crate::protocol;

/// Most events that wait for a reader, about a second of a wildly moved pad. Fewer lose input of a game that stutters;
/// more let it act on stale input.
const QUEUE: usize = 512;

/// Most reads that wait at one file: one a thread of the game.
const MAX_WAITING: usize = 64;

/// `_IOC_READ` as it is in an ioctl's number.
const READ: u32 = 2;

/// What becomes of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Now(Result<Vec<u8>, i32>),
    /// It is answered when something happens.
    Later,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) slot: u8,
    pub(crate) node: u64,
    queue: VecDeque<(i64, i64, Event)>,
    waiting: VecDeque<(u64, usize)>,
    polled: Option<u64>,
    width: Width,
    clock: ClockId,
    gone: bool,
    /// -1 is the newest effect whose number could not be returned: see [`Reader::load_effect`].
    effects: BTreeMap<i16, Effect>,
    playing: bool,
}

impl Reader {
    pub(crate) fn new(slot: u8, node: u64) -> Self {
        Self {
            slot,
            node,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
            polled: None,
            width: Width::default(),
            clock: ClockId::Realtime,
            gone: false,
            effects: BTreeMap::new(),
            playing: false,
        }
    }

    /// Queues one report and wakes whoever waits.
    pub(crate) fn push(&mut self, events: &[Event], messages: &mut Vec<Vec<u8>>) {
        let now = clock_gettime(self.clock);
        let (seconds, microseconds) = (now.tv_sec, now.tv_nsec / 1000);
        let dropped = [Event::new(EV_SYN, SYN_DROPPED, 0), Event::new(EV_SYN, SYN_REPORT, 0)];
        let events = if self.queue.len() + events.len() > QUEUE {
            self.queue.clear();
            &dropped
        } else {
            events
        };
        self.queue.extend(events.iter().map(|event| (seconds, microseconds, *event)));
        self.wake(messages);
    }

    /// The device is gone for this file, for ever.
    pub(crate) fn unplug(&mut self, messages: &mut Vec<Vec<u8>>) {
        self.gone = true;
        self.wake(messages);
    }

    fn wake(&mut self, messages: &mut Vec<Vec<u8>>) {
        while self.gone || !self.queue.is_empty() {
            let Some((unique, size)) = self.waiting.pop_front() else { break };
            messages.push(match self.take(size) {
                Ok(bytes) => protocol::answer(unique, &bytes),
                Err(error) => protocol::refusal(unique, error),
            });
        }
        if let Some(kernel_handle) = self.polled.take() {
            messages.push(protocol::poll_notification(kernel_handle));
        }
    }

    fn take(&mut self, size: usize) -> Result<Vec<u8>, i32> {
        if self.gone {
            return Err(libc::ENODEV);
        }
        let count = (size / self.width.event_bytes()).min(self.queue.len());
        let mut bytes = Vec::with_capacity(count * self.width.event_bytes());
        for (seconds, microseconds, event) in self.queue.drain(..count) {
            event.write(seconds, microseconds, self.width, &mut bytes);
        }
        Ok(bytes)
    }

    pub(crate) fn read(&mut self, unique: u64, size: usize, nonblocking: bool) -> Outcome {
        if size < self.width.event_bytes() {
            return Outcome::Now(Err(libc::EINVAL));
        }
        if self.gone || !self.queue.is_empty() {
            return Outcome::Now(self.take(size));
        }
        if nonblocking || self.waiting.len() >= MAX_WAITING {
            return Outcome::Now(Err(libc::EAGAIN));
        }
        self.waiting.push_back((unique, size));
        Outcome::Later
    }

    /// A read that waits was interrupted: without an answer its process could not even be killed.
    pub(crate) fn interrupt(&mut self, unique: u64, messages: &mut Vec<Vec<u8>>) {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == unique) {
            self.waiting.remove(at);
            messages.push(protocol::refusal(unique, libc::EINTR));
        }
    }

    pub(crate) fn poll(&mut self, kernel_handle: u64, notify: bool) -> i16 {
        if self.gone {
            return libc::POLLERR | libc::POLLHUP;
        }
        if notify {
            self.polled = Some(kernel_handle);
        }
        if self.queue.is_empty() { libc::POLLOUT } else { libc::POLLOUT | libc::POLLIN }
    }

    /// Events that the game writes: effects being played.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<Vec<Rumble>, i32> {
        if self.gone {
            return Err(libc::ENODEV);
        }
        let size = self.width.event_bytes();
        if data.len() < size {
            return Err(libc::EINVAL);
        }
        let events: Vec<Event> = data.chunks_exact(size).filter_map(Event::read).collect();
        Ok(events.into_iter().filter_map(|event| self.play(event)).collect())
    }

    fn play(&mut self, event: Event) -> Option<Rumble> {
        if event.kind != EV_FF {
            return None;
        }
        let effect = *self.effects.get(&event.code.cast_signed())?;
        let rumble = effect.rumble(self.slot, event.value);
        self.playing = rumble.strong != 0 || rumble.weak != 0;
        Some(rumble)
    }

    /// A pad does not rumble on when its game is gone.
    pub(crate) fn rumble_at_close(&self) -> Option<Rumble> {
        self.playing.then_some(Rumble { slot: self.slot, ..Rumble::default() })
    }

    /// The result and what is copied to the caller.
    pub(crate) fn ioctl(
        &mut self,
        command: u32,
        input: &[u8],
        size: usize,
        narrow: bool,
        position: &Position,
    ) -> Result<(i32, Vec<u8>), i32> {
        if self.gone {
            return Err(libc::ENODEV);
        }
        if narrow {
            self.width = Width::Bits32;
        }
        let (reads, kind, number) = ((command >> 30) & READ != 0, (command >> 8) & 0xFF, command & 0xFF);
        if kind != u32::from(b'E') {
            return Err(libc::EINVAL);
        }
        if !reads {
            return self.command(number, input).map(|()| (0, Vec::new()));
        }
        let (mut output, counted) = self.question(number, position)?;
        output.truncate(size);
        let length = i32::try_from(output.len()).unwrap_or(i32::MAX);
        Ok((if counted { length } else { 0 }, output))
    }

    /// `EVIOCG...`: the answer, and whether its length is the result.
    fn question(&self, number: u32, position: &Position) -> Result<(Vec<u8>, bool), i32> {
        let text = |text: &str| ([text.as_bytes(), b"\0"].concat(), true);
        Ok(match number {
            // EVIOCGVERSION
            0x01 => (0x01_00_01_u32.to_ne_bytes().to_vec(), false),
            // EVIOCGID
            0x02 => {
                let id = [pad::BUS, pad::VENDOR, pad::PRODUCT, pad::VERSION];
                (id.iter().flat_map(|part| part.to_ne_bytes()).collect(), false)
            }
            // EVIOCGNAME, EVIOCGPHYS, EVIOCGUNIQ: the real one has no serial number either.
            0x06 => text(pad::NAME),
            0x07 => text(&format!("usb-kite-{}/input0", self.slot)),
            0x08 => return Err(libc::ENOENT),
            // EVIOCGPROP
            0x09 => (bits(PROPERTY_COUNT, []), true),
            // EVIOCGKEY, EVIOCGLED, EVIOCGSND, EVIOCGSW
            0x18 => (bits(KEY_COUNT, position.pressed()), true),
            0x19..=0x1B => (bits(64, []), true),
            // EVIOCGBIT
            0x20..=0x3F => (capabilities(number - 0x20)?, true),
            // EVIOCGABS
            0x40..=0x7F => (axis(number - 0x40, position), false),
            // EVIOCGEFFECTS
            0x84 => (i32::from(pad::EFFECTS).to_ne_bytes().to_vec(), false),
            _ => return Err(libc::EINVAL),
        })
    }

    /// `EVIOCS...`.
    fn command(&mut self, number: u32, input: &[u8]) -> Result<(), i32> {
        let integer = input.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        match number {
            // EVIOCSFF
            0x80 => self.load_effect(input),
            // EVIOCRMFF
            0x81 => {
                let id = integer.and_then(|id| i16::try_from(id).ok()).ok_or(libc::EINVAL)?;
                self.effects.remove(&id).map(|_| ()).ok_or(libc::EINVAL)
            }
            // EVIOCGRAB: nobody else is there.
            0x90 => Ok(()),
            // EVIOCSCLOCKID
            0xA0 => {
                self.clock = match integer {
                    Some(libc::CLOCK_REALTIME) => ClockId::Realtime,
                    Some(libc::CLOCK_MONOTONIC) => ClockId::Monotonic,
                    Some(libc::CLOCK_BOOTTIME) => ClockId::Boottime,
                    Some(_) | None => return Err(libc::EINVAL),
                };
                self.queue.clear();
                Ok(())
            }
            _ => Err(libc::EINVAL),
        }
    }

    /// The kernel's own devices write a new effect's number back into the caller's structure. FUSE cannot, because the
    /// request's number says that it only reads; so a caller who asks for a new one keeps -1 and plays "-1": the newest.
    /// SDL and everything else with one effect works.
    fn load_effect(&mut self, input: &[u8]) -> Result<(), i32> {
        let effect = Effect::read(input).ok_or(libc::EINVAL)?;
        if effect.kind != FF_RUMBLE {
            return Err(libc::EINVAL);
        }
        let known = effect.id == -1 || self.effects.contains_key(&effect.id);
        if !known || self.effects.len() > usize::from(pad::EFFECTS) {
            return Err(libc::EINVAL);
        }
        self.effects.insert(effect.id, effect);
        Ok(())
    }
}

/// `EVIOCGBIT` of an event type.
fn capabilities(kind: u32) -> Result<Vec<u8>, i32> {
    Ok(match u16::try_from(kind).unwrap_or(u16::MAX) {
        EV_SYN => bits(EV_COUNT, [EV_SYN, EV_KEY, EV_ABS, EV_FF]),
        EV_KEY => bits(KEY_COUNT, pad::keys()),
        EV_ABS => bits(ABS_COUNT, pad::AXES.map(|axis| axis.code)),
        EV_FF => bits(FF_COUNT, [FF_RUMBLE]),
        // Relative axes, miscellaneous, switches, lights, sounds: none.
        0x02 | 0x04 | 0x05 | 0x11 | 0x12 => bits(64, []),
        _ => return Err(libc::EINVAL),
    })
}

/// A `struct input_absinfo`; of an axis that the pad does not have, zeros.
fn axis(code: u32, position: &Position) -> Vec<u8> {
    let found = u16::try_from(code).ok().and_then(|code| position.axis(code));
    let numbers = found.map_or([0; 6], |(axis, value)| [value, axis.minimum, axis.maximum, axis.fuzz, axis.flat, 0]);
    numbers.iter().flat_map(|number: &i32| number.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{PadButtons, PadState};

    const EVIOCGABS_Z: u32 = (2 << 30) | (24 << 16) | (0x45 << 8) | 0x42;
    const EVIOCGKEY: u32 = (2 << 30) | (96 << 16) | (0x45 << 8) | 0x18;
    const EVIOCSFF: u32 = (1 << 30) | (48 << 16) | (0x45 << 8) | 0x80;

    fn pressed_a() -> Position {
        Position::of(&PadState { buttons: PadButtons(1), triggers: [9, 0], ..PadState::default() })
    }

    #[test]
    fn blocked_reads_are_answered_in_order_or_interrupted() {
        let mut reader = Reader::new(0, 16);
        let mut messages = Vec::new();
        assert_eq!(reader.read(1, 23, false), Outcome::Now(Err(libc::EINVAL)));
        assert_eq!(reader.read(1, 24, true), Outcome::Now(Err(libc::EAGAIN)));
        for unique in 1..=3 {
            assert_eq!(reader.read(unique, 24, false), Outcome::Later);
        }
        reader.interrupt(1, &mut messages);
        assert_eq!(messages, [protocol::refusal(1, libc::EINTR)]);
        messages.clear();
        reader.push(&Position::default().events_to(&pressed_a())[..1], &mut messages);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0][8..16], 2_u64.to_ne_bytes());
        messages.clear();
        reader.unplug(&mut messages);
        assert_eq!(messages, [protocol::refusal(3, libc::ENODEV)]);
        assert_eq!(reader.read(4, 24, false), Outcome::Now(Err(libc::ENODEV)));
    }

    #[test]
    fn a_reader_that_does_not_read_is_told_what_it_lost() {
        let mut reader = Reader::new(0, 16);
        let mut messages = Vec::new();
        let (rest, held) = (Position::default(), pressed_a());
        for _ in 0..10_000 {
            reader.push(&rest.events_to(&held), &mut messages);
            reader.push(&held.events_to(&rest), &mut messages);
            assert!(reader.queue.len() <= QUEUE);
        }
        let Outcome::Now(Ok(bytes)) = reader.read(1, 1 << 16, true) else { panic!("nothing to read") };
        assert_eq!(Event::read(&bytes[..24]), Some(Event::new(EV_SYN, SYN_DROPPED, 0)));
    }

    #[test]
    fn the_state_can_be_asked_for() {
        let mut reader = Reader::new(2, 16);
        let (result, key) = reader.ioctl(EVIOCGKEY, &[], 96, false, &pressed_a()).unwrap();
        assert_eq!((result, key.len()), (96, 96));
        assert_eq!(key[0x130 / 8], 1 << (0x130 % 8));
        let (result, axis) = reader.ioctl(EVIOCGABS_Z, &[], 24, false, &pressed_a()).unwrap();
        assert_eq!((result, &axis[..4], &axis[8..12]), (0, &9_i32.to_ne_bytes()[..], &255_i32.to_ne_bytes()[..]));
    }

    #[test]
    fn effects_are_played_stopped_and_end_with_the_file() {
        let mut reader = Reader::new(1, 16);
        let mut effect = vec![0; 48];
        effect[..2].copy_from_slice(&FF_RUMBLE.to_ne_bytes());
        effect[2..4].copy_from_slice(&(-1_i16).to_ne_bytes());
        effect[10..12].copy_from_slice(&500_u16.to_ne_bytes());
        effect[16..18].copy_from_slice(&0x8000_u16.to_ne_bytes());
        effect[18..20].copy_from_slice(&0x1234_u16.to_ne_bytes());
        reader.ioctl(EVIOCSFF, &effect, 0, false, &Position::default()).unwrap();
        let mut play = Vec::new();
        Event::new(EV_FF, 0xFFFF, 1).write(0, 0, Width::Bits64, &mut play);
        let rumble = Rumble { slot: 1, strong: 0x8000, weak: 0x1234, duration_ms: 500 };
        assert_eq!(reader.write(&play), Ok(vec![rumble]));
        assert_eq!(reader.rumble_at_close(), Some(Rumble { slot: 1, ..Rumble::default() }));
        play.clear();
        Event::new(EV_FF, 0xFFFF, 0).write(0, 0, Width::Bits64, &mut play);
        assert_eq!(reader.write(&play), Ok(vec![Rumble { slot: 1, ..Rumble::default() }]));
        assert_eq!(reader.rumble_at_close(), None);
    }

    #[test]
    fn thirty_two_bit_readers_get_narrow_events() {
        let mut reader = Reader::new(0, 16);
        reader.ioctl(EVIOCGKEY, &[], 96, true, &Position::default()).unwrap();
        reader.push(&Position::default().events_to(&pressed_a()), &mut Vec::new());
        let Outcome::Now(Ok(bytes)) = reader.read(1, 4096, true) else { panic!("nothing to read") };
        assert_eq!(bytes.len(), 3 * 16);
    }
}
