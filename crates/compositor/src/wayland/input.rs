//! What the player does, handed to the game.

use media::InputMark;
use smithay::backend::input::{Axis, AxisSource, ButtonState, KeyState};
use smithay::input::keyboard::{FilterResult, Keycode};
use smithay::input::pointer::{AxisFrame, ButtonEvent, MotionEvent, RelativeMotionEvent};
use smithay::input::touch;
use smithay::reexports::wayland_server::Resource;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::utils::{Logical, Point, SERIAL_COUNTER};
use smithay::wayland::pointer_constraints::{PointerConstraint, with_pointer_constraint};
use wire::{Button, PointerMode, PointerPosition, TouchPhase};

use super::scene::Window;
use super::state::{State, microseconds, milliseconds};
use crate::InputEvent;
use crate::keymap::{self, KEY_LEFTSHIFT, Step, X11_OFFSET};

/// Fingers that are followed at most; the protocol to the player knows 16.
const FINGER_LIMIT: usize = 16;

/// Pixels that a notch of the wheel scrolls, as libinput has it.
const NOTCH_PIXELS: f64 = 15.0;

impl State {
    pub(crate) fn input(&mut self, event: InputEvent, mark: InputMark) {
        match event {
            InputEvent::Key { code, pressed } => self.key(code.0, pressed),
            InputEvent::PointerMove(position) => self.pointer_move(position),
            InputEvent::PointerMotion { dx, dy } => {
                self.pointer_motion((f64::from(dx) / 16.0, f64::from(dy) / 16.0).into());
            }
            InputEvent::Button { button, pressed } => self.button(button, pressed),
            InputEvent::Wheel { x, y } => self.wheel(x, y),
            InputEvent::Touch { id, phase, position } => self.touch(id, phase, position),
            InputEvent::Text(text) => self.text(&text),
            InputEvent::ReleaseAll => self.release_all(),
        }
        self.mark = Some(mark);
        self.pacer.input();
    }

    fn key(&mut self, code: u16, pressed: bool) {
        let keycode = Keycode::new(u32::from(code) + X11_OFFSET);
        // The player's keyboard may repeat, or lose the press to its own system.
        if self.keyboard.pressed_keys().contains(&keycode) == pressed {
            return;
        }
        let state = if pressed { KeyState::Pressed } else { KeyState::Released };
        let keyboard = self.keyboard.clone();
        let serial = SERIAL_COUNTER.next_serial();
        keyboard.input::<(), _>(self, keycode, state, serial, milliseconds(), |_, _, _| FilterResult::Forward);
    }

    fn text(&mut self, text: &str) {
        let keyboard = self.keyboard.clone();
        for step in keymap::steps(text) {
            match step {
                Step::Remap(characters) => {
                    if keyboard.set_keymap_from_string(self, keymap::keymap_text(&characters)).is_err() {
                        tracing::warn!("the keymap for a text does not compile: the text is dropped");
                        return;
                    }
                }
                Step::Press { code, shift } => {
                    let held = keyboard.modifier_state().shift;
                    if shift != held {
                        self.key(KEY_LEFTSHIFT, shift);
                    }
                    self.key(code, true);
                    self.key(code, false);
                    if shift && !held {
                        self.key(KEY_LEFTSHIFT, false);
                    }
                }
            }
        }
    }

    fn in_picture(&self, position: PointerPosition) -> Point<f64, Logical> {
        let screen = self.screen();
        let along = |fraction: u16, length: i32| f64::from(fraction) / 65_535.0 * f64::from(length - 1);
        (along(position.x, screen.w), along(position.y, screen.h)).into()
    }

    fn pointer_move(&mut self, position: PointerPosition) {
        let place = self.in_picture(position);
        let delta = place - self.place;
        self.place = place;
        // A browser that cannot lock its pointer still turns the view until it meets the edge.
        self.relative(delta);
        if !self.emitter.is_locked() {
            self.send_motion();
        }
        self.pointer_frame();
    }

    fn pointer_motion(&mut self, delta: Point<f64, Logical>) {
        self.relative(delta);
        if !self.emitter.is_locked() {
            let screen = self.screen();
            let inside = |value: f64, length: i32| value.clamp(0.0, f64::from(length - 1));
            self.place = (inside(self.place.x + delta.x, screen.w), inside(self.place.y + delta.y, screen.h)).into();
            self.send_motion();
        }
        self.pointer_frame();
    }

    fn relative(&mut self, delta: Point<f64, Logical>) {
        if delta == Point::from((0.0, 0.0)) {
            return;
        }
        // Motion is in pixels of the picture; the game counts in pixels of its window.
        let scale = self.scene.view.scale;
        let delta: Point<f64, Logical> = (delta.x / scale, delta.y / scale).into();
        let event = RelativeMotionEvent { delta, delta_unaccel: delta, utime: microseconds() };
        let focus = self.pointer.current_focus().map(|surface| (surface, Point::from((0.0, 0.0))));
        let pointer = self.pointer.clone();
        pointer.relative_motion(self, focus, &event);
    }

    fn pointer_frame(&mut self) {
        let pointer = self.pointer.clone();
        pointer.frame(self);
    }

    /// Tells the surface under the pointer where it is. While a button is down, the surface that was pressed keeps it.
    ///
    /// Smithay subtracts a surface's origin and knows no scale, so it is given local coordinates and the origin 0, 0.
    fn send_motion(&mut self) {
        let held = self.pointer.current_focus().filter(|focus| self.pointer.is_grabbed() && focus.is_alive());
        let target: Option<(WlSurface, Point<f64, Logical>)> = match held {
            Some(surface) => self.scene.local(&surface, self.place).map(|local| (surface, local)),
            None => self.scene.at(self.place).map(|(element, local)| (element.surface.clone(), local)),
        };
        let location = target.as_ref().map_or(self.place, |(_, local)| *local);
        let focus = target.map(|(surface, _)| (surface, Point::from((0.0, 0.0))));
        let event = MotionEvent { location, serial: SERIAL_COUNTER.next_serial(), time: milliseconds() };
        let pointer = self.pointer.clone();
        pointer.motion(self, focus, &event);
    }

    /// Windows changed: the pointer may be over another one now, without having moved.
    pub(crate) fn refresh_pointer_focus(&mut self) {
        let under = self.scene.at(self.place).map(|(element, _)| element.surface.clone());
        if !self.pointer.is_grabbed() && self.pointer.current_focus() != under {
            self.send_motion();
            self.pointer_frame();
        }
    }

    fn button(&mut self, button: Button, pressed: bool) {
        let code = match button {
            Button::Left => 0x110,
            Button::Right => 0x111,
            Button::Middle => 0x112,
            Button::Back => 0x113,
            Button::Forward => 0x114,
        };
        if self.buttons.contains(&code) == pressed {
            return;
        }
        if pressed {
            self.focus_clicked();
        }
        self.send_button(code, pressed);
        self.pointer_frame();
    }

    fn send_button(&mut self, code: u32, pressed: bool) {
        self.buttons.retain(|held| *held != code);
        if pressed {
            self.buttons.push(code);
        }
        let state = if pressed { ButtonState::Pressed } else { ButtonState::Released };
        let event = ButtonEvent { serial: SERIAL_COUNTER.next_serial(), time: milliseconds(), button: code, state };
        let pointer = self.pointer.clone();
        pointer.button(self, &event);
        if !pressed && !self.pointer.is_grabbed() {
            self.refresh_pointer_focus();
        }
    }

    /// A click beside a menu closes it; a click on a window below a dialog raises it.
    fn focus_clicked(&mut self) {
        let clicked = self.scene.at(self.place).map(|(element, _)| (element.surface.clone(), element.window));
        if let Some(popup) = self.popup_grab.clone().filter(|popup| popup.alive()) {
            let same_client =
                clicked.as_ref().is_some_and(|(surface, _)| surface.id().same_client_as(&popup.wl_surface().id()));
            let on_popup = clicked.as_ref().is_some_and(|(surface, _)| {
                self.protocols.xdg_shell.popup_surfaces().iter().any(|known| known.wl_surface() == surface)
            });
            if !(same_client && on_popup) {
                popup.send_popup_done();
                self.popup_grab = None;
                self.refresh_focus();
            }
        }
        let Some((_, index)) = clicked else { return };
        let floats = index + 1 < self.stack.len();
        let is_base = self.scene.elements.first().is_some_and(|element| element.window == index);
        if floats && !is_base && index < self.stack.len() {
            let window = self.stack.remove(index);
            if let Window::X11(window) = &window
                && let Some(xwayland) = &self.xwayland
            {
                xwayland.manager.focus(window.id);
            }
            self.stack.push(window);
            self.windows_changed();
        }
    }

    fn wheel(&mut self, x: i16, y: i16) {
        let mut frame = AxisFrame::new(milliseconds()).source(AxisSource::Wheel);
        for (axis, steps) in [(Axis::Horizontal, x), (Axis::Vertical, y)] {
            if steps != 0 {
                let pixels = f64::from(steps) / 120.0 * NOTCH_PIXELS;
                frame = frame.v120(axis, i32::from(steps)).value(axis, pixels);
            }
        }
        let pointer = self.pointer.clone();
        pointer.axis(self, frame);
        self.pointer_frame();
    }

    fn touch(&mut self, id: u8, phase: TouchPhase, position: PointerPosition) {
        let place = self.in_picture(position);
        let slot = Some(u32::from(id)).into();
        let touched = self.fingers.iter().find(|(finger, _)| *finger == id).map(|(_, surface)| surface.clone());
        let touch = self.touch.clone();
        match (phase, touched) {
            (TouchPhase::Start, None) if self.fingers.len() < FINGER_LIMIT => {
                let under = self.scene.at(place).map(|(element, local)| (element.surface.clone(), local));
                let Some((surface, location)) = under else { return };
                self.fingers.push((id, surface.clone()));
                let (serial, time) = (SERIAL_COUNTER.next_serial(), milliseconds());
                // Like the pointer's, touch positions are given in the surface's coordinates with the origin at 0, 0.
                let event = touch::DownEvent { slot, location, serial, time };
                touch.down(self, Some((surface, (0.0, 0.0).into())), &event);
            }
            (TouchPhase::Move, Some(surface)) => {
                // The surface that was touched first keeps the finger.
                let Some(location) = self.scene.local(&surface, place) else { return };
                let focus = Some((surface, (0.0, 0.0).into()));
                touch.motion(self, focus, &touch::MotionEvent { slot, location, time: milliseconds() });
            }
            // Wayland can cancel all fingers only, and smithay 0.7 not even that once a frame was sent.
            (TouchPhase::End | TouchPhase::Cancel, Some(_)) => self.lift(id),
            (TouchPhase::Start | TouchPhase::Move | TouchPhase::End | TouchPhase::Cancel, _) => return,
        }
        touch.frame(self);
    }

    fn lift(&mut self, id: u8) {
        self.fingers.retain(|(finger, _)| *finger != id);
        let slot = Some(u32::from(id)).into();
        let touch = self.touch.clone();
        touch.up(self, &touch::UpEvent { slot, serial: SERIAL_COUNTER.next_serial(), time: milliseconds() });
    }

    pub(crate) fn release_all(&mut self) {
        let mut keys: Vec<u32> = self.keyboard.pressed_keys().iter().map(|code| code.raw()).collect();
        keys.sort_unstable();
        for key in keys {
            if let Ok(code) = u16::try_from(key.saturating_sub(X11_OFFSET)) {
                self.key(code, false);
            }
        }
        for code in self.buttons.clone() {
            self.send_button(code, false);
        }
        self.pointer_frame();
        for (finger, _) in self.fingers.clone() {
            self.lift(finger);
        }
        let touch = self.touch.clone();
        touch.frame(self);
    }

    /// Activates a constraint of the surface that has the pointer, and tells the player whether the pointer is locked.
    ///
    /// Games often ask for the lock before they have the focus, so this runs every turn.
    pub(crate) fn settle_pointer(&mut self) {
        let focus = self.pointer.current_focus().filter(Resource::is_alive);
        let locked = focus.is_some_and(|surface| {
            with_pointer_constraint(&surface, &self.pointer, |constraint| {
                let Some(constraint) = constraint else { return false };
                if !constraint.is_active() {
                    constraint.activate();
                }
                matches!(&*constraint, PointerConstraint::Locked(_))
            })
        });
        self.emitter.pointer_mode(if locked { PointerMode::Locked } else { PointerMode::Absolute });
    }
}
