//! Xwayland: its process, its windows, and which surface is which window.
//!
//! It is started at once and listens on a socket of ours, never in `/tmp/.X11-unix`. Its window manager runs on a thread
//! of its own (see [`crate::x11::manager`]): an X server can be made to wait by any of its clients, and the compositor
//! must not wait with it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use calloop::LoopHandle;
use calloop::channel::Event as ChannelEvent;
use smithay::reexports::wayland_protocols::xwayland::shell::v1::server::xwayland_shell_v1::{self, XwaylandShellV1};
use smithay::reexports::wayland_protocols::xwayland::shell::v1::server::xwayland_surface_v1::{
    self, XwaylandSurfaceV1,
};
use smithay::reexports::wayland_server::protocol::wl_surface::WlSurface;
use smithay::reexports::wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource};
use smithay::utils::Rectangle;
use smithay::wayland::compositor::give_role;

use super::scene::{Window, X11Window};
use super::state::{ClientState, State};
use crate::x11::manager::Manager;
use crate::x11::wm::{Rect, SurfaceKey, WmEvent};
use crate::x11::{Socket, listen, own_display};
use crate::{SourceError, SourceSettings, StartError, sys};

/// Events of the window manager that wait at most. When they are more, it waits: its clients then do too.
const EVENT_LIMIT: usize = 256;

/// X11 windows without a surface yet, or surfaces without a window, at most.
const UNPAIRED_LIMIT: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Xwayland {
    pub(crate) manager: Manager,
    process: Child,
    /// Removes the socket at the end.
    _socket: Socket,
    client: Client,
    gone: Arc<AtomicBool>,
    /// Windows whose surface has not been seen yet.
    unpaired_windows: Vec<(u32, SurfaceKey)>,
    /// Surfaces that announced a serial before their window did (Xwayland 23.1 and later).
    unpaired_serials: Vec<(u64, WlSurface)>,
    lost: Option<String>,
}

/// Starts Xwayland; returns the directory of its socket.
pub(crate) fn start(
    display: &DisplayHandle,
    events: &LoopHandle<'static, State>,
    settings: &SourceSettings,
) -> Result<(Xwayland, PathBuf), StartError> {
    let system = |what| move |source: std::io::Error| StartError::System { what, source };
    let (place, socket) = listen(&settings.runtime_dir)?;
    let dir = place.dir.clone();
    let (ours, theirs) = UnixStream::pair().map_err(system("make a socket pair"))?;
    let (wm_ours, wm_theirs) = UnixStream::pair().map_err(system("make a socket pair"))?;
    let gone = Arc::new(AtomicBool::new(false));
    let client = display
        .clone()
        .insert_client(ours, Arc::new(ClientState::xwayland(Arc::clone(&gone))))
        .map_err(system("add Xwayland's connection"))?;
    display.create_global::<State, XwaylandShellV1, ()>(1, ());

    let mut command = Command::new("Xwayland");
    command
        .arg(own_display())
        .args(["-rootless", "-noreset", "-ac", "-shm"])
        .args(["-listenfd", &socket.as_raw_fd().to_string()])
        .args(["-wm", &wm_theirs.as_raw_fd().to_string()])
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .env("XDG_RUNTIME_DIR", &settings.runtime_dir)
        .env("WAYLAND_SOCKET", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let inherit: Vec<OwnedFd> = vec![socket.into(), wm_theirs.into(), theirs.into()];
    let process =
        sys::spawn(&mut command, inherit, false).map_err(|source| StartError::Spawn { program: "Xwayland", source })?;

    let (sender, receiver) = calloop::channel::sync_channel(EVENT_LIMIT);
    events
        .insert_source(receiver, |event, (), state| match event {
            ChannelEvent::Msg(event) => state.x11_event(event),
            ChannelEvent::Closed => {}
        })
        .map_err(|error| StartError::System { what: "watch the window manager", source: error.error.into() })?;
    let manager = Manager::start(wm_ours, settings.size, sender).map_err(system("start the window manager"))?;
    let xwayland = Xwayland {
        manager,
        process,
        _socket: place,
        client,
        gone,
        unpaired_windows: Vec::new(),
        unpaired_serials: Vec::new(),
        lost: None,
    };
    Ok((xwayland, dir))
}

impl Xwayland {
    /// Why X11 is no more, if so.
    pub(crate) fn failure(&mut self) -> Option<SourceError> {
        if self.lost.is_none() && !self.gone.load(Ordering::Acquire) {
            return None;
        }
        let status = match self.process.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "its connection closed".to_owned(),
            Err(error) => error.to_string(),
        };
        let detail = self.lost.take().map_or(status.clone(), |lost| format!("{status}; {lost}"));
        Some(SourceError::XServerExited { detail })
    }

    fn surface(&self, display: &DisplayHandle, key: SurfaceKey) -> Option<WlSurface> {
        match key {
            SurfaceKey::Id(id) => self.client.object_from_protocol_id::<WlSurface>(display, id).ok(),
            SurfaceKey::Serial(serial) => self
                .unpaired_serials
                .iter()
                .find(|(known, surface)| *known == serial && surface.is_alive())
                .map(|(_, surface)| surface.clone()),
        }
    }
}

impl Drop for Xwayland {
    fn drop(&mut self) {
        // It ends by itself when its connection closes, but its windows' clients would keep it for a while.
        self.process.kill().ok();
        self.process.wait().ok();
        self.manager.stop();
    }
}

fn rectangle(rect: Rect) -> Rectangle<i32, smithay::utils::Logical> {
    let size = (i32::from(rect.width), i32::from(rect.height));
    Rectangle::new((i32::from(rect.x), i32::from(rect.y)).into(), size.into())
}

impl State {
    fn x11_event(&mut self, event: WmEvent) {
        match event {
            WmEvent::Surface { window, key } => {
                self.unpair(window);
                let Some(xwayland) = &mut self.xwayland else { return };
                match xwayland.surface(&self.display, key) {
                    Some(surface) => self.pair(window, surface),
                    None if xwayland.unpaired_windows.len() < UNPAIRED_LIMIT => {
                        xwayland.unpaired_windows.push((window, key));
                    }
                    None => tracing::debug!(window, "too many windows wait for their surface"),
                }
            }
            WmEvent::Mapped { window, rect, floating, override_redirect } => {
                let surface = self.take_x11_window(window).and_then(|known| known.surface);
                self.stack.push(Window::X11(X11Window {
                    id: window,
                    surface,
                    rect: rectangle(rect),
                    floating,
                    override_redirect,
                }));
                self.windows_changed();
            }
            WmEvent::Moved { window, rect, floating } => {
                if let Some(known) = self.x11_window(window) {
                    known.rect = rectangle(rect);
                    known.floating = floating;
                    self.windows_changed();
                }
            }
            WmEvent::Raised { window } => {
                if let Some(known) = self.take_x11_window(window) {
                    self.stack.push(Window::X11(known));
                    self.windows_changed();
                }
            }
            WmEvent::Unmapped { window } => {
                self.unpair(window);
                self.take_x11_window(window);
                self.windows_changed();
            }
            WmEvent::Copied { text } => {
                if self.emitter.clipboard(&text) {
                    self.offer_text(&text);
                }
            }
            WmEvent::Lost { detail } => {
                if let Some(xwayland) = &mut self.xwayland {
                    xwayland.lost = Some(detail);
                }
            }
        }
    }

    fn x11_window(&mut self, id: u32) -> Option<&mut X11Window> {
        self.stack.iter_mut().find_map(|window| match window {
            Window::X11(window) if window.id == id => Some(window),
            Window::X11(_) | Window::Toplevel(_) => None,
        })
    }

    fn take_x11_window(&mut self, id: u32) -> Option<X11Window> {
        let at = self.stack.iter().position(|window| matches!(window, Window::X11(window) if window.id == id))?;
        match self.stack.remove(at) {
            Window::X11(window) => Some(window),
            Window::Toplevel(_) => None,
        }
    }

    fn unpair(&mut self, window: u32) {
        if let Some(xwayland) = &mut self.xwayland {
            xwayland.unpaired_windows.retain(|(known, _)| *known != window);
        }
    }

    /// The window may be told of after its surface: it is then put into the stack, invisible, by `Mapped`'s code.
    fn pair(&mut self, window: u32, surface: WlSurface) {
        if let Some(xwayland) = &mut self.xwayland {
            xwayland.unpaired_serials.retain(|(_, known)| *known != surface && known.is_alive());
        }
        match self.x11_window(window) {
            Some(known) => known.surface = Some(surface),
            None => self.stack.insert(
                0,
                Window::X11(X11Window {
                    id: window,
                    surface: Some(surface),
                    rect: Rectangle::default(),
                    // Not mapped as far as we know: it must not become the base.
                    floating: true,
                    override_redirect: false,
                }),
            ),
        }
        self.windows_changed();
    }

    /// Xwayland made a surface: a window may wait for it.
    pub(crate) fn pair_x11_surface(&mut self, surface: &WlSurface) {
        let Some(xwayland) = &self.xwayland else { return };
        let key = SurfaceKey::Id(surface.id().protocol_id());
        let waiting = xwayland.unpaired_windows.iter().find(|(_, wanted)| *wanted == key).map(|(window, _)| *window);
        if let Some(window) = waiting {
            self.unpair(window);
            self.pair(window, surface.clone());
        }
    }

    fn pair_x11_serial(&mut self, serial: u64, surface: &WlSurface) {
        let Some(xwayland) = &mut self.xwayland else { return };
        let key = SurfaceKey::Serial(serial);
        let waiting = xwayland.unpaired_windows.iter().find(|(_, wanted)| *wanted == key).map(|(window, _)| *window);
        match waiting {
            Some(window) => {
                self.unpair(window);
                self.pair(window, surface.clone());
            }
            None if xwayland.unpaired_serials.len() < UNPAIRED_LIMIT => {
                xwayland.unpaired_serials.push((serial, surface.clone()));
            }
            None => tracing::debug!(serial, "too many surfaces wait for their window"),
        }
    }

    /// A surface is gone. Its window waits for another: ids are used again, and when windows come and go quickly the one
    /// that was announced may not have been this surface but the next of the same id.
    pub(crate) fn forget_x11_surface(&mut self, surface: &WlSurface) {
        let Some(xwayland) = &mut self.xwayland else { return };
        xwayland.unpaired_serials.retain(|(_, known)| known != surface);
        for window in &mut self.stack {
            if let Window::X11(window) = window
                && window.surface.as_ref() == Some(surface)
            {
                window.surface = None;
                if xwayland.unpaired_windows.len() < UNPAIRED_LIMIT {
                    let key = SurfaceKey::Id(surface.id().protocol_id());
                    xwayland.unpaired_windows.push((window.id, key));
                }
            }
        }
    }
}

/// Smithay's own implementation wants smithay's own way to start Xwayland.
impl GlobalDispatch<XwaylandShellV1, ()> for State {
    fn bind(
        _state: &mut State,
        _display: &DisplayHandle,
        _client: &Client,
        resource: New<XwaylandShellV1>,
        _data: &(),
        init: &mut DataInit<'_, State>,
    ) {
        init.init(resource, ());
    }

    fn can_view(client: Client, _data: &()) -> bool {
        client.get_data::<ClientState>().is_some_and(|state| state.xwayland_gone.is_some())
    }
}

impl Dispatch<XwaylandShellV1, ()> for State {
    fn request(
        _state: &mut State,
        _client: &Client,
        shell: &XwaylandShellV1,
        request: xwayland_shell_v1::Request,
        _data: &(),
        _display: &DisplayHandle,
        init: &mut DataInit<'_, State>,
    ) {
        if let xwayland_shell_v1::Request::GetXwaylandSurface { id, surface } = request {
            if give_role(&surface, "xwayland_shell").is_err() {
                shell.post_error(xwayland_shell_v1::Error::Role, "the surface has a role already");
                return;
            }
            init.init(id, surface);
        }
    }
}

impl Dispatch<XwaylandSurfaceV1, WlSurface> for State {
    fn request(
        state: &mut State,
        _client: &Client,
        _resource: &XwaylandSurfaceV1,
        request: xwayland_surface_v1::Request,
        surface: &WlSurface,
        _display: &DisplayHandle,
        _init: &mut DataInit<'_, State>,
    ) {
        if let xwayland_surface_v1::Request::SetSerial { serial_lo, serial_hi } = request {
            // Double-buffered by the protocol. Taking it at once pairs a surface that has no picture yet, which shows
            // nothing.
            state.pair_x11_serial(u64::from(serial_lo) | u64::from(serial_hi) << 32, surface);
        }
    }
}
