//! Smithay's callbacks: what clients ask, and our answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smithay::input::pointer::{CursorImageStatus, PointerHandle};
use smithay::input::{Seat, SeatHandler, SeatState};
use smithay::reexports::wayland_protocols::xdg::decoration::zv1::server::zxdg_toplevel_decoration_v1::Mode as Decoration;
use smithay::reexports::wayland_protocols::xdg::shell::server::xdg_toplevel;
use smithay::reexports::wayland_server::protocol::wl_buffer::WlBuffer;
use smithay::reexports::wayland_server::protocol::wl_output::WlOutput;
use smithay::reexports::wayland_server::protocol::wl_seat::WlSeat;
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, Resource};
use smithay::utils::{Logical, Point, Rectangle, Serial};
use smithay::wayland::buffer::BufferHandler;
use smithay::wayland::compositor::{
    CompositorClientState, CompositorHandler, CompositorState, add_destruction_hook, get_parent, get_role, with_states,
};
use smithay::wayland::fractional_scale::{FractionalScaleHandler, with_fractional_scale};
use smithay::wayland::output::OutputHandler;
use smithay::wayland::pointer_constraints::PointerConstraintsHandler;
use smithay::wayland::selection::data_device::{
    ClientDndGrabHandler, DataDeviceHandler, DataDeviceState, ServerDndGrabHandler, set_data_device_focus,
};
use smithay::wayland::shell::xdg::decoration::XdgDecorationHandler;
use smithay::wayland::shell::xdg::{
    PopupSurface, PositionerState, ToplevelSurface, XDG_POPUP_ROLE, XDG_TOPLEVEL_ROLE, XdgShellHandler, XdgShellState,
};
use smithay::wayland::shm::{ShmHandler, ShmState};
use smithay::wayland::tablet_manager::TabletSeatHandler;

use super::content;
use super::scene::Window;
use super::state::{ClientState, State, milliseconds, send_frame_done};

impl BufferHandler for State {
    fn buffer_destroyed(&mut self, _buffer: &WlBuffer) {}
}

impl ShmHandler for State {
    fn shm_state(&self) -> &ShmState {
        &self.protocols.shm
    }
}

impl OutputHandler for State {}
impl TabletSeatHandler for State {}
impl ClientDndGrabHandler for State {}
impl ServerDndGrabHandler for State {}

impl DataDeviceHandler for State {
    fn data_device_state(&self) -> &DataDeviceState {
        &self.protocols.data_device
    }
}

fn client_state(client: &Client) -> &ClientState {
    #[expect(clippy::expect_used, reason = "every client is inserted with this type, by two callers")]
    client.get_data::<ClientState>().expect("a client without our data")
}

impl CompositorHandler for State {
    fn compositor_state(&mut self) -> &mut CompositorState {
        &mut self.protocols.compositor
    }

    fn client_compositor_state<'a>(&self, client: &'a Client) -> &'a CompositorClientState {
        &client_state(client).compositor
    }

    fn new_surface(&mut self, surface: &WlSurface) {
        let Some(client) = surface.client() else { return };
        let state = client_state(&client);
        // What a client destroyed counts until its whole batch of requests is read, so the limit is enforced after that.
        let crowded = state.surfaces.fetch_add(1, Ordering::Relaxed) >= state.surface_limit();
        if crowded && !self.crowded.contains(&client) {
            self.crowded.push(client.clone());
        }
        let count = Arc::clone(&state.surfaces);
        add_destruction_hook::<State, _>(surface, move |_, _| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
        if state.xwayland_gone.is_some() {
            self.pair_x11_surface(surface);
        }
    }

    fn commit(&mut self, surface: &WlSurface) {
        let changed = content::apply_commit(surface);
        let mut root = surface.clone();
        while let Some(parent) = get_parent(&root) {
            root = parent;
        }
        match get_role(&root) {
            Some(XDG_TOPLEVEL_ROLE) => self.configure_new_toplevel(&root),
            Some(XDG_POPUP_ROLE) => self.configure_new_popup(&root),
            _ => {}
        }
        if matches!(&self.cursor, CursorImageStatus::Surface(cursor) if *cursor == root) {
            self.cursor_stale = true;
            self.schedule_callbacks();
            return;
        }
        let by_xwayland = surface.client().is_some_and(|client| client_state(&client).xwayland_gone.is_some());
        if by_xwayland {
            // Xwayland gathers what X clients draw until this; holding it back would only add a frame of delay.
            send_frame_done(surface, milliseconds());
        } else if self.scene.shows(surface) {
            self.schedule_callbacks();
        } else {
            self.schedule_hidden_callbacks();
        }
        if changed {
            self.surface_changed(surface);
        }
    }

    fn destroyed(&mut self, surface: &WlSurface) {
        self.forget_x11_surface(surface);
        self.windows_changed();
    }
}

impl State {
    /// Tells a toplevel to fill the picture.
    pub(crate) fn configure_toplevel(&self, toplevel: &ToplevelSurface) {
        let (screen, is_main) = (self.screen(), toplevel.parent().is_none());
        toplevel.with_pending_state(|state| {
            state.states.set(xdg_toplevel::State::Activated);
            state.bounds = Some(screen);
            if is_main {
                state.size = Some(screen);
                if !state.states.contains(xdg_toplevel::State::Fullscreen) {
                    state.states.set(xdg_toplevel::State::Maximized);
                }
            }
        });
        if toplevel.is_initial_configure_sent() {
            toplevel.send_pending_configure();
        }
    }

    fn configure_new_toplevel(&self, root: &WlSurface) {
        let toplevel = self.protocols.xdg_shell.toplevel_surfaces().iter().find(|known| known.wl_surface() == root);
        if let Some(toplevel) = toplevel.filter(|toplevel| !toplevel.is_initial_configure_sent()) {
            self.configure_toplevel(toplevel);
            toplevel.send_configure();
        }
    }

    fn configure_new_popup(&self, root: &WlSurface) {
        let popup = self.protocols.xdg_shell.popup_surfaces().iter().find(|known| known.wl_surface() == root);
        if let Some(popup) = popup.filter(|popup| !popup.is_initial_configure_sent()) {
            // Fails for a second configure of an old protocol version only.
            popup.send_configure().ok();
        }
    }

    fn place_popup(&self, popup: &PopupSurface, positioner: PositionerState) {
        // Popups of popups are kept on the screen by their parent's place alone, which is where games have theirs.
        let screen = Rectangle::from_size(self.screen());
        popup.with_pending_state(|state| {
            state.geometry = positioner.get_unconstrained_geometry(screen);
            state.positioner = positioner;
        });
    }
}

impl XdgShellHandler for State {
    fn xdg_shell_state(&mut self) -> &mut XdgShellState {
        &mut self.protocols.xdg_shell
    }

    fn new_toplevel(&mut self, surface: ToplevelSurface) {
        self.stack.push(Window::Toplevel(surface));
    }

    fn toplevel_destroyed(&mut self, _surface: ToplevelSurface) {
        self.windows_changed();
    }

    fn new_popup(&mut self, surface: PopupSurface, positioner: PositionerState) {
        self.place_popup(&surface, positioner);
    }

    fn reposition_request(&mut self, surface: PopupSurface, positioner: PositionerState, token: u32) {
        self.place_popup(&surface, positioner);
        surface.send_repositioned(token);
        self.windows_changed();
    }

    fn grab(&mut self, surface: PopupSurface, _seat: WlSeat, _serial: Serial) {
        self.popup_grab = Some(surface);
        self.windows_changed();
    }

    fn popup_destroyed(&mut self, surface: PopupSurface) {
        if self.popup_grab.as_ref() == Some(&surface) {
            self.popup_grab = None;
        }
        self.windows_changed();
    }

    fn parent_changed(&mut self, surface: ToplevelSurface) {
        if surface.parent().is_some() {
            surface.with_pending_state(|state| {
                state.size = None;
                state.states.unset(xdg_toplevel::State::Maximized);
            });
        }
        self.configure_toplevel(&surface);
        self.windows_changed();
    }

    fn maximize_request(&mut self, surface: ToplevelSurface) {
        // It is already; but every request must be answered.
        self.configure_toplevel(&surface);
        if surface.is_initial_configure_sent() {
            surface.send_configure();
        }
    }

    fn unmaximize_request(&mut self, surface: ToplevelSurface) {
        self.maximize_request(surface);
    }

    fn fullscreen_request(&mut self, surface: ToplevelSurface, _output: Option<WlOutput>) {
        let screen = self.screen();
        surface.with_pending_state(|state| {
            state.states.unset(xdg_toplevel::State::Maximized);
            state.states.set(xdg_toplevel::State::Fullscreen);
            state.size = Some(screen);
        });
        if surface.is_initial_configure_sent() {
            surface.send_configure();
        }
    }

    fn unfullscreen_request(&mut self, surface: ToplevelSurface) {
        surface.with_pending_state(|state| {
            state.states.unset(xdg_toplevel::State::Fullscreen);
        });
        self.maximize_request(surface);
    }
}

impl XdgDecorationHandler for State {
    fn new_decoration(&mut self, toplevel: ToplevelSurface) {
        self.request_mode(toplevel, Decoration::ServerSide);
    }

    fn request_mode(&mut self, toplevel: ToplevelSurface, _mode: Decoration) {
        // We draw none, and nobody else should.
        toplevel.with_pending_state(|state| state.decoration_mode = Some(Decoration::ServerSide));
        if toplevel.is_initial_configure_sent() {
            toplevel.send_configure();
        }
    }

    fn unset_mode(&mut self, toplevel: ToplevelSurface) {
        self.request_mode(toplevel, Decoration::ServerSide);
    }
}

impl FractionalScaleHandler for State {
    fn new_fractional_scale(&mut self, surface: WlSurface) {
        with_states(&surface, |states| with_fractional_scale(states, |scale| scale.set_preferred_scale(1.0)));
    }
}

impl PointerConstraintsHandler for State {
    fn new_constraint(&mut self, _surface: &WlSurface, _pointer: &PointerHandle<State>) {
        // Every turn ends with `settle_pointer`, which activates it.
    }

    fn cursor_position_hint(
        &mut self,
        _surface: &WlSurface,
        _pointer: &PointerHandle<State>,
        _location: Point<f64, Logical>,
    ) {
        // The player's own pointer is where the browser put it; it cannot be moved from here.
    }
}

impl SeatHandler for State {
    type KeyboardFocus = WlSurface;
    type PointerFocus = WlSurface;
    type TouchFocus = WlSurface;

    fn seat_state(&mut self) -> &mut SeatState<State> {
        &mut self.protocols.seat
    }

    fn focus_changed(&mut self, seat: &Seat<State>, focused: Option<&WlSurface>) {
        let client = focused.and_then(Resource::client);
        set_data_device_focus(&self.display, seat, client);
    }

    fn cursor_image(&mut self, _seat: &Seat<State>, image: CursorImageStatus) {
        self.cursor = image;
        self.cursor_stale = true;
    }
}

smithay::delegate_compositor!(State);
smithay::delegate_cursor_shape!(State);
smithay::delegate_data_device!(State);
smithay::delegate_fractional_scale!(State);
smithay::delegate_output!(State);
smithay::delegate_pointer_constraints!(State);
smithay::delegate_presentation!(State);
smithay::delegate_relative_pointer!(State);
smithay::delegate_seat!(State);
smithay::delegate_shm!(State);
smithay::delegate_single_pixel_buffer!(State);
smithay::delegate_viewporter!(State);
smithay::delegate_xdg_decoration!(State);
smithay::delegate_xdg_shell!(State);
