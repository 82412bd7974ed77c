//! The compositor's state, and what it does once a turn of the loop: settle what changed, show it, tell it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calloop::LoopHandle;
use media::{ColorMatrix, InputMark, Size};
use smithay::input::keyboard::{KeyboardHandle, XkbConfig};
use smithay::input::pointer::{CursorImageStatus, PointerHandle};
use smithay::input::touch::TouchHandle;
use smithay::input::{Seat, SeatState};
use smithay::output::{Mode, Output, PhysicalProperties, Scale, Subpixel};
use smithay::reexports::wayland_protocols::wp::presentation_time::server::wp_presentation_feedback;
use smithay::reexports::wayland_server::backend::{ClientData, ClientId, DisconnectReason};
use smithay::reexports::wayland_server::protocol::wl_shm::Format;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, DisplayHandle, Resource};
use smithay::utils::{Logical, Point, SERIAL_COUNTER, Transform};
use smithay::wayland::compositor::{CompositorClientState, CompositorState, SurfaceAttributes, with_states};
use smithay::wayland::cursor_shape::CursorShapeManagerState;
use smithay::wayland::fractional_scale::FractionalScaleManagerState;
use smithay::wayland::output::OutputManagerState;
use smithay::wayland::pointer_constraints::PointerConstraintsState;
use smithay::wayland::presentation::{PresentationFeedbackCachedState, PresentationState, Refresh};
use smithay::wayland::relative_pointer::RelativePointerManagerState;
use smithay::wayland::selection::data_device::DataDeviceState;
use smithay::wayland::shell::xdg::decoration::XdgDecorationState;
use smithay::wayland::shell::xdg::{PopupSurface, XdgShellState};
use smithay::wayland::shm::ShmState;
use smithay::wayland::single_pixel_buffer::SinglePixelBufferState;
use smithay::wayland::viewporter::ViewporterState;

use super::capture::{self, Canvas, Shown};
use super::clipboard::Clipboard;
use super::scene::{Scene, View, Window};
use super::xwayland::Xwayland;
use crate::emitter::Emitter;
use crate::pacer::{Decision, Pacer};
use crate::{Command, SourceError, SourceSettings, SourceSink, StartError};

/// How often invisible surfaces may draw. Never would hang games that wait for it while they load; at the full rate
/// hidden windows would cost as much as visible ones.
const HIDDEN_INTERVAL: Duration = Duration::from_millis(250);

/// Surfaces of one client at most. Toolkits use a few dozen; each costs memory and time in every scene.
const SURFACE_LIMIT: u32 = 1024;

/// The same for Xwayland, which keeps the surface of a window that is gone for another second.
const XWAYLAND_SURFACE_LIMIT: u32 = 16 * 1024;

/// `CLOCK_MONOTONIC`, which `wp_presentation` names by its number.
const CLOCK_MONOTONIC: u32 = 1;

/// What we keep of a client.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) compositor: CompositorClientState,
    /// Set when the client is Xwayland: becomes true when it is gone.
    pub(crate) xwayland_gone: Option<Arc<AtomicBool>>,
    /// How many it has now.
    pub(crate) surfaces: Arc<AtomicU32>,
    clients: Arc<AtomicUsize>,
}

impl ClientState {
    pub(crate) fn native(clients: Arc<AtomicUsize>) -> ClientState {
        clients.fetch_add(1, Ordering::Relaxed);
        let compositor = CompositorClientState::default();
        ClientState { compositor, xwayland_gone: None, surfaces: Arc::default(), clients }
    }

    pub(crate) fn xwayland(gone: Arc<AtomicBool>) -> ClientState {
        ClientState { xwayland_gone: Some(gone), ..ClientState::native(Arc::default()) }
    }
}

impl ClientState {
    pub(crate) fn surface_limit(&self) -> u32 {
        if self.xwayland_gone.is_some() { XWAYLAND_SURFACE_LIMIT } else { SURFACE_LIMIT }
    }
}

impl ClientData for ClientState {
    fn initialized(&self, _client: ClientId) {}

    fn disconnected(&self, _client: ClientId, reason: DisconnectReason) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        if let DisconnectReason::ProtocolError(error) = reason {
            tracing::info!(%error, "a Wayland client broke the protocol");
        }
        if let Some(gone) = &self.xwayland_gone {
            gone.store(true, Ordering::Release);
        }
    }
}

/// Smithay's side of the globals.
pub(crate) struct Protocols {
    pub(crate) compositor: CompositorState,
    pub(crate) xdg_shell: XdgShellState,
    pub(crate) shm: ShmState,
    pub(crate) seat: SeatState<State>,
    pub(crate) data_device: DataDeviceState,
}

impl Protocols {
    fn new(display: &DisplayHandle) -> Protocols {
        // These keep nothing that we need: their globals live as long as the display.
        OutputManagerState::new_with_xdg_output::<State>(display);
        XdgDecorationState::new::<State>(display);
        RelativePointerManagerState::new::<State>(display);
        PointerConstraintsState::new::<State>(display);
        ViewporterState::new::<State>(display);
        PresentationState::new::<State>(display, CLOCK_MONOTONIC);
        CursorShapeManagerState::new::<State>(display);
        FractionalScaleManagerState::new::<State>(display);
        SinglePixelBufferState::new::<State>(display);
        Protocols {
            compositor: CompositorState::new_v6::<State>(display),
            xdg_shell: XdgShellState::new::<State>(display),
            // XRGB and ARGB are implied.
            shm: ShmState::new::<State>(display, [Format::Xbgr8888, Format::Abgr8888]),
            seat: SeatState::new(),
            data_device: DataDeviceState::new::<State>(display),
        }
    }
}

/// See the module.
pub(crate) struct State {
    pub(crate) display: DisplayHandle,
    pub(crate) events: LoopHandle<'static, State>,
    pub(crate) protocols: Protocols,
    pub(crate) seat: Seat<State>,
    pub(crate) keyboard: KeyboardHandle<State>,
    pub(crate) pointer: PointerHandle<State>,
    pub(crate) touch: TouchHandle<State>,
    pub(crate) output: Output,
    pub(crate) emitter: Emitter,
    pub(crate) pacer: Pacer,
    canvas: Canvas,
    interval: Duration,

    // What the loop's sources leave for the turn.
    pub(crate) commands: Vec<Command>,
    pub(crate) clients_ready: bool,
    pub(crate) stopping: bool,
    pub(crate) clients: Arc<AtomicUsize>,
    /// Clients that had too many surfaces during this turn.
    pub(crate) crowded: Vec<Client>,

    /// Windows from bottom to top.
    pub(crate) stack: Vec<Window>,
    pub(crate) scene: Scene,
    pub(crate) scene_stale: bool,
    /// Surfaces whose picture changed in this turn, and when the first did.
    changed: Vec<WlSurface>,
    changed_at: Option<Shown>,
    /// The commit that the pacer holds.
    held: Option<Shown>,
    /// The last picture is to be emitted again.
    repeat: bool,
    /// Newest input that the game was given.
    pub(crate) mark: Option<InputMark>,
    hidden_callbacks_at: Option<Instant>,
    presented: u64,

    /// Where the pointer is in the picture.
    pub(crate) place: Point<f64, Logical>,
    pub(crate) popup_grab: Option<PopupSurface>,
    /// Codes of pressed pointer buttons.
    pub(crate) buttons: Vec<u32>,
    /// Fingers on the screen, and what they touched first.
    pub(crate) fingers: Vec<(u8, WlSurface)>,
    pub(crate) cursor: CursorImageStatus,
    pub(crate) cursor_stale: bool,
    pub(crate) clipboard: Clipboard,
    pub(crate) xwayland: Option<Xwayland>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("stack", &self.stack).field("scene", &self.scene).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn new(
        display: &DisplayHandle,
        events: LoopHandle<'static, State>,
        settings: &SourceSettings,
        sink: Box<dyn SourceSink>,
    ) -> Result<State, StartError> {
        let mut protocols = Protocols::new(display);
        let mut seat = protocols.seat.new_wl_seat(display, "kite");
        // Rate 0: a held key is repeated by the game if it wants, not by us.
        let keyboard = seat
            .add_keyboard(XkbConfig { layout: "us", ..XkbConfig::default() }, 600, 0)
            .map_err(|_no_keymap| StartError::Keymap)?;
        let (pointer, touch) = (seat.add_pointer(), seat.add_touch());
        let properties = PhysicalProperties {
            size: (0, 0).into(),
            subpixel: Subpixel::None,
            make: "Kite".to_owned(),
            model: "Stream".to_owned(),
        };
        let output = Output::new("KITE-1".to_owned(), properties);
        output.create_global::<State>(display);
        let interval = settings.frame_rate.interval();
        let centre = (f64::from(settings.size.width()) / 2.0, f64::from(settings.size.height()) / 2.0);
        let mut state = State {
            display: display.clone(),
            events,
            protocols,
            seat,
            keyboard,
            pointer,
            touch,
            output,
            emitter: Emitter::new(settings.size, settings.matrix, sink),
            pacer: Pacer::new(interval, Instant::now()),
            canvas: Canvas::default(),
            interval,
            commands: Vec::new(),
            clients_ready: false,
            stopping: false,
            clients: Arc::default(),
            crowded: Vec::new(),
            stack: Vec::new(),
            scene: Scene { view: View { scale: 1.0, offset: (0.0, 0.0).into() }, elements: Vec::new() },
            scene_stale: false,
            changed: Vec::new(),
            changed_at: None,
            held: None,
            repeat: false,
            mark: None,
            hidden_callbacks_at: None,
            presented: 0,
            place: centre.into(),
            popup_grab: None,
            buttons: Vec::new(),
            fingers: Vec::new(),
            cursor: CursorImageStatus::default_named(),
            cursor_stale: false,
            clipboard: Clipboard::default(),
            xwayland: None,
        };
        state.set_mode(settings.size);
        Ok(state)
    }

    pub(crate) fn screen(&self) -> smithay::utils::Size<i32, Logical> {
        (self.emitter.size.width() as i32, self.emitter.size.height() as i32).into()
    }

    fn set_mode(&mut self, size: Size) {
        let refresh = i32::try_from(1_000_000_000_000 / self.interval.as_nanos().max(1)).unwrap_or(60_000);
        let mode = Mode { size: (size.width() as i32, size.height() as i32).into(), refresh };
        if let Some(old) = self.output.current_mode().filter(|old| *old != mode) {
            self.output.delete_mode(old);
        }
        let position = Some((0, 0).into());
        self.output.change_current_state(Some(mode), Some(Transform::Normal), Some(Scale::Integer(1)), position);
        self.output.set_preferred(mode);
    }

    /// A window came, went or moved.
    pub(crate) fn windows_changed(&mut self) {
        self.scene_stale = true;
        self.note_change();
    }

    /// A surface's picture changed.
    pub(crate) fn surface_changed(&mut self, surface: &WlSurface) {
        self.changed.push(surface.clone());
        self.scene_stale = true;
        self.note_change();
    }

    fn note_change(&mut self) {
        self.changed_at.get_or_insert(Shown { committed: Instant::now(), input: self.mark });
    }

    pub(crate) fn resize(&mut self, size: Size) {
        if size == self.emitter.size {
            return;
        }
        let old = self.screen();
        let is_stale = self.emitter.resize(size);
        self.set_mode(size);
        let screen = self.screen();
        self.place = (
            self.place.x * f64::from(screen.w) / f64::from(old.w),
            self.place.y * f64::from(screen.h) / f64::from(old.h),
        )
            .into();
        for window in &self.stack {
            if let Window::Toplevel(toplevel) = window {
                self.configure_toplevel(toplevel);
            }
        }
        if let Some(xwayland) = &self.xwayland {
            xwayland.manager.resize(size);
        }
        self.update_scene();
        if is_stale {
            self.refresh();
        }
    }

    pub(crate) fn set_matrix(&mut self, matrix: ColorMatrix) {
        if self.emitter.set_matrix(matrix) {
            self.refresh();
        }
    }

    /// Emits the current picture although nothing changed.
    pub(crate) fn refresh(&mut self) {
        if self.held.is_none() && self.emitter.has_shown() {
            self.repeat = true;
        } else {
            self.held.get_or_insert(Shown { committed: Instant::now(), input: self.mark });
        }
        if self.pacer.refresh(Instant::now()) == Decision::Emit {
            self.show();
        }
    }

    /// The end of a turn.
    pub(crate) fn settle(&mut self) {
        self.disconnect_crowded();
        if std::mem::take(&mut self.scene_stale) {
            self.update_scene();
        }
        let now = Instant::now();
        if let Some(shown) = self.changed_at.take() {
            self.held = Some(shown);
            if self.pacer.commit(now) == Decision::Emit {
                self.show();
            }
        }
        if self.pacer.poll(now) {
            self.show();
        }
        self.send_callbacks(now);
        self.settle_pointer();
        if std::mem::take(&mut self.cursor_stale) {
            self.tell_cursor();
        }
        self.settle_clipboard();
    }

    fn disconnect_crowded(&mut self) {
        for client in std::mem::take(&mut self.crowded) {
            let Some(data) = client.get_data::<ClientState>() else { continue };
            let count = data.surfaces.load(Ordering::Relaxed);
            if count > data.surface_limit() {
                tracing::warn!(count, "a Wayland client has too many surfaces and is disconnected");
                self.display.backend_handle().kill_client(client.id(), DisconnectReason::ConnectionClosed);
            }
        }
    }

    /// Rebuilds the scene; forgets changes that nobody sees.
    fn update_scene(&mut self) {
        self.stack.retain(|window| match window {
            Window::Toplevel(toplevel) => toplevel.alive(),
            Window::X11(_) => true,
        });
        let screen = self.screen();
        let popups = self.protocols.xdg_shell.popup_surfaces();
        let scene = Scene::new(&self.stack, popups, screen);
        let outline = |scene: &Scene| -> Vec<_> {
            scene.elements.iter().map(|element| (element.surface.id(), element.position, element.size)).collect()
        };
        let moved = scene.view != self.scene.view || outline(&scene) != outline(&self.scene);
        let old = std::mem::replace(&mut self.scene, scene);
        let changed = std::mem::take(&mut self.changed);
        let seen = moved || changed.iter().any(|surface| self.scene.shows(surface) || old.shows(surface));
        if !seen {
            self.changed_at = None;
        }
        if moved {
            for element in &self.scene.elements {
                self.output.enter(&element.surface);
            }
            self.refresh_focus();
        }
        self.schedule_callbacks();
    }

    fn show(&mut self) {
        let repeat = std::mem::take(&mut self.repeat);
        let Some(shown) = self.held.take() else {
            if repeat {
                self.emitter.repeat(Instant::now());
            }
            return;
        };
        if self.scene.elements.is_empty() {
            // Before the game's first window a player sees black, but nobody needs to be told so unasked.
            let filled = self.emitter.emit(shown.committed, shown.input, |picture| {
                capture::draw_black(picture);
                Ok::<(), capture::CaptureError>(())
            });
            debug_assert!(filled.is_ok(), "black cannot fail");
            return;
        }
        let (scene, canvas) = (&self.scene, &mut self.canvas);
        let drawn = self.emitter.emit(shown.committed, shown.input, |picture| capture::draw(scene, canvas, picture));
        match drawn {
            Ok(()) => self.tell_presented(),
            Err(error) => tracing::debug!(%error, "a frame was dropped"),
        }
    }

    fn tell_presented(&mut self) {
        self.presented += 1;
        let time = monotonic();
        for surface in capture::surfaces(&self.scene) {
            let callbacks = with_states(surface, |states| {
                let mut cached = states.cached_state.get::<PresentationFeedbackCachedState>();
                std::mem::take(&mut cached.current().callbacks)
            });
            for callback in callbacks {
                let refresh = Refresh::variable(self.interval);
                let kind = wp_presentation_feedback::Kind::empty();
                callback.presented(&self.output, time, refresh, self.presented, kind);
            }
        }
    }

    /// When [`State::settle`] must run although nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.pacer.deadline(), self.pacer.callback_deadline(), self.hidden_callbacks_at].into_iter().flatten().min()
    }

    /// A surface asked for a frame callback.
    pub(crate) fn schedule_callbacks(&mut self) {
        if capture::surfaces(&self.scene).any(has_callbacks) || self.cursor_surface().is_some_and(has_callbacks) {
            self.pacer.want_callback();
        }
    }

    /// An invisible surface asked for one.
    pub(crate) fn schedule_hidden_callbacks(&mut self) {
        self.hidden_callbacks_at.get_or_insert(Instant::now() + HIDDEN_INTERVAL);
    }

    fn cursor_surface(&self) -> Option<&WlSurface> {
        match &self.cursor {
            CursorImageStatus::Surface(surface) if surface.is_alive() => Some(surface),
            CursorImageStatus::Surface(_) | CursorImageStatus::Hidden | CursorImageStatus::Named(_) => None,
        }
    }

    fn send_callbacks(&mut self, now: Instant) {
        let time = milliseconds();
        if self.pacer.poll_callback(now) {
            for surface in capture::surfaces(&self.scene).chain(self.cursor_surface()) {
                send_frame_done(surface, time);
            }
        }
        if self.hidden_callbacks_at.is_some_and(|at| now >= at) {
            self.hidden_callbacks_at = None;
            let mut waiting = Vec::new();
            for window in &self.stack {
                waiting.extend(window.surface().cloned());
            }
            waiting.extend(self.protocols.xdg_shell.popup_surfaces().iter().map(|popup| popup.wl_surface().clone()));
            for root in waiting.iter().filter(|root| root.is_alive()) {
                send_tree_done(root, time);
            }
        }
    }

    /// Why the display cannot go on, if so.
    pub(crate) fn failure(&mut self) -> Option<SourceError> {
        self.xwayland.as_mut()?.failure()
    }

    /// Puts the keyboard and the pointer where they belong after windows came, went or moved.
    pub(crate) fn refresh_focus(&mut self) {
        let target = self.keyboard_target();
        if self.keyboard.current_focus() != target {
            let keyboard = self.keyboard.clone();
            keyboard.set_focus(self, target, SERIAL_COUNTER.next_serial());
        }
        self.refresh_pointer_focus();
    }

    fn keyboard_target(&self) -> Option<WlSurface> {
        if let Some(popup) = self.popup_grab.as_ref().filter(|popup| popup.alive()) {
            return Some(popup.wl_surface().clone());
        }
        let seen = |window: &&Window| match window {
            Window::X11(window) if window.override_redirect => false,
            Window::X11(_) | Window::Toplevel(_) => window.surface().is_some_and(|surface| self.scene.shows(surface)),
        };
        self.stack.iter().rev().find(seen).and_then(|window| window.surface().cloned())
    }
}

fn has_callbacks(surface: &WlSurface) -> bool {
    surface.is_alive()
        && with_states(surface, |states| {
            !states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks.is_empty()
        })
}

/// Lets the client of this surface draw.
pub(crate) fn send_frame_done(surface: &WlSurface, time: u32) {
    if !surface.is_alive() {
        return;
    }
    let callbacks = with_states(surface, |states| {
        std::mem::take(&mut states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks)
    });
    for callback in callbacks {
        callback.done(time);
    }
}

fn send_tree_done(root: &WlSurface, time: u32) {
    smithay::wayland::compositor::with_surface_tree_downward(
        root,
        (),
        |_, _, ()| smithay::wayland::compositor::TraversalAction::DoChildren(()),
        |_, states, ()| {
            let callbacks =
                std::mem::take(&mut states.cached_state.get::<SurfaceAttributes>().current().frame_callbacks);
            for callback in callbacks {
                callback.done(time);
            }
        },
        |_, _, ()| true,
    );
}

fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Milliseconds of the monotonic clock, wrapping: the time of Wayland's events.
pub(crate) fn milliseconds() -> u32 {
    monotonic().as_millis() as u32
}

/// Microseconds of the monotonic clock.
pub(crate) fn microseconds() -> u64 {
    monotonic().as_micros() as u64
}
