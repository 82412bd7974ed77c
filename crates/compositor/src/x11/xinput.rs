//! What the player does, as XTest events.

use media::Size;
use wire::{Button, PointerPosition, TouchPhase};
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    MOTION_NOTIFY_EVENT, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use super::wm::WmError;
use crate::InputEvent;
use crate::keymap::{self, KEY_LEFTSHIFT, Step, X11_OFFSET};

/// A notch of the wheel, which X knows as a click of a button.
const NOTCH: i32 = 120;

/// What is pressed, and motion too small to be told yet.
#[derive(Debug, Default)]
pub(super) struct Hands {
    keys: Vec<u8>,
    buttons: Vec<u8>,
    /// The finger that moves the pointer.
    finger: Option<u8>,
    /// In 1/16 pixel.
    motion: (i32, i32),
    /// In 1/120 notch.
    wheel: (i32, i32),
}

impl Hands {
    pub(super) fn input(
        &mut self,
        connection: &RustConnection,
        root: Window,
        screen: Size,
        event: InputEvent,
    ) -> Result<(), WmError> {
        match event {
            InputEvent::Key { code, pressed } => self.key(connection, root, code.0, pressed)?,
            InputEvent::PointerMove(position) => move_to(connection, root, screen, position)?,
            InputEvent::PointerMotion { dx, dy } => {
                let total = (self.motion.0.saturating_add(dx), self.motion.1.saturating_add(dy));
                self.motion = (total.0 % 16, total.1 % 16);
                let clamp = |value: i32| (value / 16).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
                let (x, y) = (clamp(total.0), clamp(total.1));
                if (x, y) != (0, 0) {
                    // Detail 1: by this much, not to there.
                    connection.xtest_fake_input(MOTION_NOTIFY_EVENT, 1, 0, x11rb::NONE, x, y, 0)?;
                }
            }
            InputEvent::Button { button, pressed } => {
                let number = match button {
                    Button::Left => 1,
                    Button::Middle => 2,
                    Button::Right => 3,
                    Button::Back => 8,
                    Button::Forward => 9,
                };
                self.button(connection, root, number, pressed)?;
            }
            InputEvent::Wheel { x, y } => self.turn(connection, root, i32::from(x), i32::from(y))?,
            InputEvent::Touch { id, phase, position } => self.touch(connection, root, screen, (id, phase, position))?,
            InputEvent::Text(text) => self.text(connection, root, &text)?,
            InputEvent::ReleaseAll => self.release_all(connection, root)?,
        }
        Ok(())
    }

    pub(super) fn release_all(&mut self, connection: &RustConnection, root: Window) -> Result<(), WmError> {
        for key in std::mem::take(&mut self.keys) {
            connection.xtest_fake_input(KEY_RELEASE_EVENT, key, 0, root, 0, 0, 0)?;
        }
        for button in std::mem::take(&mut self.buttons) {
            connection.xtest_fake_input(BUTTON_RELEASE_EVENT, button, 0, root, 0, 0, 0)?;
        }
        self.finger = None;
        Ok(())
    }

    fn key(&mut self, connection: &RustConnection, root: Window, code: u16, pressed: bool) -> Result<(), WmError> {
        // X knows no keys beyond.
        let Ok(key) = u8::try_from(u32::from(code) + X11_OFFSET) else { return Ok(()) };
        if self.keys.contains(&key) == pressed {
            return Ok(());
        }
        self.keys.retain(|held| *held != key);
        if pressed {
            self.keys.push(key);
        }
        let kind = if pressed { KEY_PRESS_EVENT } else { KEY_RELEASE_EVENT };
        connection.xtest_fake_input(kind, key, 0, root, 0, 0, 0)?;
        Ok(())
    }

    fn button(&mut self, connection: &RustConnection, root: Window, number: u8, pressed: bool) -> Result<(), WmError> {
        if self.buttons.contains(&number) == pressed {
            return Ok(());
        }
        self.buttons.retain(|held| *held != number);
        if pressed {
            self.buttons.push(number);
        }
        let kind = if pressed { BUTTON_PRESS_EVENT } else { BUTTON_RELEASE_EVENT };
        connection.xtest_fake_input(kind, number, 0, root, 0, 0, 0)?;
        Ok(())
    }

    fn turn(&mut self, connection: &RustConnection, root: Window, x: i32, y: i32) -> Result<(), WmError> {
        let total = (self.wheel.0 + x, self.wheel.1 + y);
        self.wheel = (total.0 % NOTCH, total.1 % NOTCH);
        // Buttons 4 to 7 are up, down, left, right.
        for (notches, back, forward) in [(total.1 / NOTCH, 4, 5), (total.0 / NOTCH, 6, 7)] {
            let number = if notches < 0 { back } else { forward };
            for _ in 0..notches.abs() {
                self.button(connection, root, number, true)?;
                self.button(connection, root, number, false)?;
            }
        }
        Ok(())
    }

    /// X11 core has no touch: the first finger is the pointer with its left button.
    fn touch(
        &mut self,
        connection: &RustConnection,
        root: Window,
        screen: Size,
        (id, phase, position): (u8, TouchPhase, PointerPosition),
    ) -> Result<(), WmError> {
        if phase == TouchPhase::Start {
            self.finger.get_or_insert(id);
        }
        if self.finger != Some(id) {
            return Ok(());
        }
        match phase {
            TouchPhase::Start => {
                move_to(connection, root, screen, position)?;
                self.button(connection, root, 1, true)
            }
            TouchPhase::Move => move_to(connection, root, screen, position),
            TouchPhase::End | TouchPhase::Cancel => {
                self.finger = None;
                self.button(connection, root, 1, false)
            }
        }
    }

    fn text(&mut self, connection: &RustConnection, root: Window, text: &str) -> Result<(), WmError> {
        for step in keymap::steps(text) {
            match step {
                Step::Remap(characters) => {
                    for (code, character) in keymap::spare_codes().zip(characters) {
                        // Keysyms of characters: Latin-1 as they are, the others with a mark.
                        let scalar = u32::from(character);
                        let keysym = if scalar < 0x100 { scalar } else { scalar | 0x0100_0000 };
                        let key = (u32::from(code) + X11_OFFSET) as u8;
                        connection.change_keyboard_mapping(1, key, 2, &[keysym, keysym])?;
                    }
                }
                Step::Press { code, shift } => {
                    let shift_key = (u32::from(KEY_LEFTSHIFT) + X11_OFFSET) as u8;
                    let held = self.keys.contains(&shift_key);
                    if shift != held {
                        self.key(connection, root, KEY_LEFTSHIFT, shift)?;
                    }
                    self.key(connection, root, code, true)?;
                    self.key(connection, root, code, false)?;
                    if shift != held {
                        self.key(connection, root, KEY_LEFTSHIFT, held)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn move_to(connection: &RustConnection, root: Window, screen: Size, to: PointerPosition) -> Result<(), WmError> {
    let along = |fraction: u16, length: u32| (u32::from(fraction) * (length - 1) / 65_535) as i16;
    let (x, y) = (along(to.x, screen.width()), along(to.y, screen.height()));
    connection.xtest_fake_input(MOTION_NOTIFY_EVENT, 0, 0, root, x, y, 0)?;
    Ok(())
}
