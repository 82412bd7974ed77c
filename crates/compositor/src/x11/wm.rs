//! The window manager: every game's main window fills the screen, dialogs float above it, nothing is decorated.
//!
//! A window that can have one size only keeps it: it is scaled in the picture. Deliberately absent: reparenting (nothing
//! is drawn around windows), minimising, moving by the user.

use std::collections::BTreeMap;

use media::Size;
use x11rb::connection::Connection as _;
use x11rb::errors::{ConnectError, ConnectionError, ReplyError, ReplyOrIdError};
use x11rb::properties::WmSizeHints;
use x11rb::protocol::Event;
use x11rb::protocol::composite::{ConnectionExt as _, Redirect};
use x11rb::protocol::xproto::{
    AtomEnum, CONFIGURE_NOTIFY_EVENT, ChangeWindowAttributesAux, ClientMessageEvent, ConfigWindow,
    ConfigureNotifyEvent, ConfigureRequestEvent, ConfigureWindowAux, ConnectionExt as _, CreateWindowAux, EventMask,
    InputFocus, PropMode, StackMode, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::selection::Selection;

mod atoms {
    x11rb::atom_manager! {
        /// Names that are used.
        pub(crate) Atoms: AtomsCookie {
            CLIPBOARD,
            INCR,
            PLAIN: b"text/plain",
            PLAIN_UTF8: b"text/plain;charset=utf-8",
            TARGETS,
            TEXT,
            UTF8_STRING,
            WL_SURFACE_ID,
            WL_SURFACE_SERIAL,
            WM_PROTOCOLS,
            WM_S0,
            WM_STATE,
            WM_TAKE_FOCUS,
            _KITE_CLIPBOARD,
            _NET_ACTIVE_WINDOW,
            _NET_FRAME_EXTENTS,
            _NET_SUPPORTED,
            _NET_SUPPORTING_WM_CHECK,
            _NET_WM_NAME,
            _NET_WM_STATE,
            _NET_WM_STATE_FULLSCREEN,
            _NET_WM_WINDOW_TYPE,
            _NET_WM_WINDOW_TYPE_NORMAL,
        }
    }
}
pub(crate) use atoms::Atoms;

/// Windows that are known at most; more are not managed. Games have a handful, toolkits some dozens.
const WINDOW_LIMIT: usize = 1024;

/// Glyphs of the arrow and of its mask in X's own cursor font.
const ARROW: (u16, u16) = (68, 69);

/// Why the window manager ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WmError {
    #[error("no connection to the X server")]
    Connect(#[from] ConnectError),
    #[error("the connection to the X server broke")]
    Connection(#[from] ConnectionError),
    #[error("the X server answered with an error")]
    Reply(#[from] ReplyError),
    #[error("the X server gave no identifier")]
    Id(#[from] ReplyOrIdError),
    #[error("the X server cannot be waited for")]
    Io(#[from] std::io::Error),
}

/// Place and size of a window on the screen, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) x: i16,
    pub(crate) y: i16,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// How Xwayland names the surface of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SurfaceKey {
    /// Its Wayland id: Xwayland before 23.1.
    Id(u32),
    /// A serial that the surface announces too.
    Serial(u64),
}

/// What the compositor must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WmEvent {
    /// Which surface shows a window.
    Surface { window: Window, key: SurfaceKey },
    /// A window is to be seen, on top.
    Mapped { window: Window, rect: Rect, floating: bool, override_redirect: bool },
    /// A visible window has another place or size.
    Moved { window: Window, rect: Rect, floating: bool },
    /// A visible window is on top now.
    Raised { window: Window },
    /// A window is no longer seen.
    Unmapped { window: Window },
    /// A client copied this text.
    Copied { text: String },
    /// The X server is gone.
    Lost { detail: String },
}

/// What is known of a window.
#[derive(Clone, Debug, Default)]
struct Managed {
    rect: Rect,
    /// The size that the client gave it last.
    wanted: (u16, u16),
    mapped: bool,
    override_redirect: bool,
    floating: bool,
    fullscreen: bool,
    takes_focus: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wm {
    connection: RustConnection,
    root: Window,
    check: Window,
    atoms: Atoms,
    size: Size,
    windows: BTreeMap<Window, Managed>,
    /// Mapped windows that may have the focus; the last has it.
    order: Vec<Window>,
    selection: Selection,
    events: Vec<WmEvent>,
}

impl Wm {
    /// Takes over the screen; `redirect` makes windows invisible to the server's own screen, as Xwayland wants.
    pub(crate) fn new(connection: RustConnection, size: Size, redirect: bool) -> Result<Wm, WmError> {
        let atoms = Atoms::new(&connection)?.reply()?;
        let root = connection.setup().roots[0].root;
        let mask = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY | EventMask::PROPERTY_CHANGE;
        connection.change_window_attributes(root, &ChangeWindowAttributesAux::new().event_mask(mask))?.check()?;
        if redirect {
            connection.composite_query_version(0, 4)?.reply()?;
            connection.composite_redirect_subwindows(root, Redirect::MANUAL)?;
        }
        let check = connection.generate_id()?;
        let nothing = CreateWindowAux::new();
        connection.create_window(0, check, root, -1, -1, 1, 1, 0, WindowClass::INPUT_ONLY, 0, &nothing)?;
        let selection = Selection::new(&connection, root, &atoms)?;
        let wm = Wm {
            connection,
            root,
            check,
            atoms,
            size,
            windows: BTreeMap::new(),
            order: Vec::new(),
            selection,
            events: Vec::new(),
        };
        wm.announce()?;
        Ok(wm)
    }

    fn announce(&self) -> Result<(), WmError> {
        let (connection, atoms) = (&self.connection, &self.atoms);
        for window in [self.root, self.check] {
            let property = atoms._NET_SUPPORTING_WM_CHECK;
            connection.change_property32(PropMode::REPLACE, window, property, AtomEnum::WINDOW, &[self.check])?;
        }
        connection.change_property8(PropMode::REPLACE, self.check, atoms._NET_WM_NAME, atoms.UTF8_STRING, b"Kite")?;
        let supported = [
            atoms._NET_ACTIVE_WINDOW,
            atoms._NET_FRAME_EXTENTS,
            atoms._NET_SUPPORTING_WM_CHECK,
            atoms._NET_WM_NAME,
            atoms._NET_WM_STATE,
            atoms._NET_WM_STATE_FULLSCREEN,
            atoms._NET_WM_WINDOW_TYPE,
        ];
        connection.change_property32(PropMode::REPLACE, self.root, atoms._NET_SUPPORTED, AtomEnum::ATOM, &supported)?;
        let (font, cursor) = (connection.generate_id()?, connection.generate_id()?);
        connection.open_font(font, b"cursor")?;
        connection.create_glyph_cursor(cursor, font, font, ARROW.0, ARROW.1, 0, 0, 0, 0xffff, 0xffff, 0xffff)?;
        connection.change_window_attributes(self.root, &ChangeWindowAttributesAux::new().cursor(cursor))?;
        connection.close_font(font)?;
        // Xwayland lets clients in when this selection has an owner.
        connection.set_selection_owner(self.check, atoms.WM_S0, x11rb::CURRENT_TIME)?;
        connection.flush()?;
        Ok(())
    }

    pub(crate) fn connection(&self) -> &RustConnection {
        &self.connection
    }

    pub(crate) fn root(&self) -> Window {
        self.root
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<WmEvent> {
        std::mem::take(&mut self.events)
    }

    /// The screen has another size: so have the windows.
    pub(crate) fn resize(&mut self, size: Size) -> Result<(), WmError> {
        self.size = size;
        for window in self.order.clone() {
            self.arrange(window)?;
        }
        Ok(())
    }

    /// The player copied.
    pub(crate) fn set_clipboard(&mut self, text: String) -> Result<(), WmError> {
        self.selection.offer(&self.connection, &self.atoms, text)
    }

    /// Handles an event; those that are not a window manager's are left alone.
    pub(crate) fn handle(&mut self, event: &Event) -> Result<(), WmError> {
        match event {
            Event::CreateNotify(n) => {
                let rect = Rect { x: n.x, y: n.y, width: n.width, height: n.height };
                self.add(n.window, rect, n.override_redirect);
            }
            Event::MapRequest(n) => self.map(n.window)?,
            Event::MapNotify(n) if n.event == self.root => self.mapped(n.window, n.override_redirect)?,
            Event::UnmapNotify(n) if n.event == self.root => self.unmapped(n.window)?,
            Event::DestroyNotify(n) => {
                self.unmapped(n.window)?;
                self.windows.remove(&n.window);
            }
            Event::ReparentNotify(n) if n.parent != self.root => {
                self.unmapped(n.window)?;
                self.windows.remove(&n.window);
            }
            Event::ReparentNotify(n) => {
                self.add(n.window, Rect { x: n.x, y: n.y, width: 1, height: 1 }, n.override_redirect)
            }
            Event::ConfigureRequest(n) => self.configure(n)?,
            Event::ConfigureNotify(n) => {
                self.moved(n.window, Rect { x: n.x, y: n.y, width: n.width, height: n.height });
            }
            Event::ClientMessage(n) => self.message(n)?,
            Event::PropertyNotify(n) if n.atom == u32::from(AtomEnum::WM_NORMAL_HINTS) => {
                if self.order.contains(&n.window) {
                    self.arrange(n.window)?;
                }
            }
            Event::Error(error) => tracing::debug!(?error, "an X11 request failed"),
            _ => {
                if let Some(text) = self.selection.handle(&self.connection, &self.atoms, event)? {
                    self.events.push(WmEvent::Copied { text });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, window: Window, rect: Rect, override_redirect: bool) {
        let own = window == self.check || window == self.selection.window;
        if own || self.windows.len() >= WINDOW_LIMIT {
            return;
        }
        let wanted = (rect.width, rect.height);
        self.windows.insert(window, Managed { rect, wanted, override_redirect, ..Managed::default() });
        // Its destruction between the event and this is reported as an event, and nothing else comes of it.
        let attributes = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
        if let Err(error) = self.connection.change_window_attributes(window, &attributes) {
            tracing::debug!(%error, "a window cannot be watched");
        }
    }

    fn map(&mut self, window: Window) -> Result<(), WmError> {
        if !self.windows.contains_key(&window) {
            return Ok(());
        }
        let (fullscreen, takes_focus) = (
            self.has_atom(window, self.atoms._NET_WM_STATE, self.atoms._NET_WM_STATE_FULLSCREEN)?,
            self.has_atom(window, self.atoms.WM_PROTOCOLS, self.atoms.WM_TAKE_FOCUS)?,
        );
        if let Some(managed) = self.windows.get_mut(&window) {
            (managed.fullscreen, managed.takes_focus) = (fullscreen, takes_focus);
        }
        self.arrange(window)?;
        let normal = [1, x11rb::NONE];
        let state = self.atoms.WM_STATE;
        self.connection.change_property32(PropMode::REPLACE, window, state, state, &normal)?;
        let extents = self.atoms._NET_FRAME_EXTENTS;
        self.connection.change_property32(PropMode::REPLACE, window, extents, AtomEnum::CARDINAL, &[0; 4])?;
        self.connection.map_window(window)?;
        Ok(())
    }

    fn mapped(&mut self, window: Window, override_redirect: bool) -> Result<(), WmError> {
        let Some(managed) = self.windows.get_mut(&window) else { return Ok(()) };
        (managed.mapped, managed.override_redirect) = (true, override_redirect);
        let (rect, floating) = (managed.rect, managed.floating);
        self.events.push(WmEvent::Mapped { window, rect, floating, override_redirect });
        if !override_redirect {
            self.focus(window)?;
        }
        Ok(())
    }

    fn unmapped(&mut self, window: Window) -> Result<(), WmError> {
        let had_focus = self.order.last() == Some(&window);
        self.order.retain(|known| *known != window);
        let Some(managed) = self.windows.get_mut(&window).filter(|managed| managed.mapped) else { return Ok(()) };
        managed.mapped = false;
        self.events.push(WmEvent::Unmapped { window });
        match self.order.last() {
            Some(next) if had_focus => self.focus(*next),
            Some(_) | None => Ok(()),
        }
    }

    /// Gives a mapped window the keyboard and puts it on top.
    pub(crate) fn focus(&mut self, window: Window) -> Result<(), WmError> {
        let Some(managed) = self.windows.get(&window).filter(|managed| managed.mapped) else { return Ok(()) };
        let takes_focus = managed.takes_focus;
        self.order.retain(|known| *known != window);
        self.order.push(window);
        let top = ConfigureWindowAux::new().stack_mode(StackMode::ABOVE);
        self.connection.configure_window(window, &top)?;
        self.connection.set_input_focus(InputFocus::POINTER_ROOT, window, x11rb::CURRENT_TIME)?;
        if takes_focus {
            let data = [self.atoms.WM_TAKE_FOCUS, x11rb::CURRENT_TIME, 0, 0, 0];
            let message = ClientMessageEvent::new(32, window, self.atoms.WM_PROTOCOLS, data);
            self.connection.send_event(false, window, EventMask::NO_EVENT, message)?;
        }
        let active = self.atoms._NET_ACTIVE_WINDOW;
        self.connection.change_property32(PropMode::REPLACE, self.root, active, AtomEnum::WINDOW, &[window])?;
        self.events.push(WmEvent::Raised { window });
        Ok(())
    }

    fn moved(&mut self, window: Window, rect: Rect) {
        let Some(managed) = self.windows.get_mut(&window) else { return };
        let changed = managed.rect != rect;
        managed.rect = rect;
        if managed.override_redirect {
            managed.wanted = (rect.width, rect.height);
        }
        if changed && managed.mapped {
            let floating = managed.floating;
            self.events.push(WmEvent::Moved { window, rect, floating });
        }
    }

    /// A client wants its window elsewhere. Before it is shown, and for dialogs, it may; else it is told what it has.
    fn configure(&mut self, request: &ConfigureRequestEvent) -> Result<(), WmError> {
        let window = request.window;
        let Some(managed) = self.windows.get_mut(&window) else { return Ok(()) };
        let has = |flag: ConfigWindow| request.value_mask.contains(flag);
        if has(ConfigWindow::WIDTH) {
            managed.wanted.0 = request.width;
        }
        if has(ConfigWindow::HEIGHT) {
            managed.wanted.1 = request.height;
        }
        if managed.mapped && !managed.floating {
            return self.arrange(window);
        }
        let mut rect = managed.rect;
        (rect.width, rect.height) = managed.wanted;
        if has(ConfigWindow::X) {
            rect.x = request.x;
        }
        if has(ConfigWindow::Y) {
            rect.y = request.y;
        }
        self.place(window, rect)
    }

    /// Gives a window its place by what it is.
    fn arrange(&mut self, window: Window) -> Result<(), WmError> {
        let screen = (self.size.width() as u16, self.size.height() as u16);
        let fixed = self.fixed_size(window)?;
        let dialog = self.is_dialog(window)?;
        // A dialog is centred over the topmost window that is none.
        let below = self.order.iter().rev().filter(|other| **other != window);
        let base = below.filter_map(|other| self.windows.get(other)).find(|managed| !managed.floating);
        let base = base.map_or(screen, |managed| (managed.rect.width, managed.rect.height));
        let Some(managed) = self.windows.get_mut(&window) else { return Ok(()) };
        let was_floating = managed.floating;
        managed.floating = dialog && !managed.fullscreen;
        let (width, height) = match (managed.floating, managed.fullscreen, fixed) {
            (true, _, _) => managed.wanted,
            (false, false, Some(fixed)) => fixed,
            (false, _, _) => screen,
        };
        let mut rect = Rect { x: 0, y: 0, width, height };
        if managed.floating {
            let middle = |whole: u16, part: u16| i16::try_from((i32::from(whole) - i32::from(part)) / 2).unwrap_or(0);
            (rect.x, rect.y) = (middle(base.0, width).max(0), middle(base.1, height).max(0));
        }
        if managed.mapped && was_floating != managed.floating {
            let floating = managed.floating;
            self.events.push(WmEvent::Moved { window, rect, floating });
        }
        self.place(window, rect)
    }

    fn place(&mut self, window: Window, rect: Rect) -> Result<(), WmError> {
        let aux = ConfigureWindowAux::new()
            .x(i32::from(rect.x))
            .y(i32::from(rect.y))
            .width(u32::from(rect.width.max(1)))
            .height(u32::from(rect.height.max(1)))
            .border_width(0);
        self.connection.configure_window(window, &aux)?;
        // When nothing changes, the server tells the client nothing, but it waits for an answer.
        let notify = ConfigureNotifyEvent {
            response_type: CONFIGURE_NOTIFY_EVENT,
            sequence: 0,
            event: window,
            window,
            above_sibling: x11rb::NONE,
            x: rect.x,
            y: rect.y,
            width: rect.width,
            height: rect.height,
            border_width: 0,
            override_redirect: false,
        };
        self.connection.send_event(false, window, EventMask::STRUCTURE_NOTIFY, notify)?;
        if let Some(managed) = self.windows.get_mut(&window).filter(|managed| !managed.mapped) {
            managed.rect = rect;
        }
        Ok(())
    }

    fn message(&mut self, message: &ClientMessageEvent) -> Result<(), WmError> {
        let (window, kind, data) = (message.window, message.type_, message.data.as_data32());
        if message.format != 32 {
            return Ok(());
        }
        if kind == self.atoms.WL_SURFACE_ID {
            self.events.push(WmEvent::Surface { window, key: SurfaceKey::Id(data[0]) });
        } else if kind == self.atoms.WL_SURFACE_SERIAL {
            let serial = u64::from(data[0]) | u64::from(data[1]) << 32;
            self.events.push(WmEvent::Surface { window, key: SurfaceKey::Serial(serial) });
        } else if kind == self.atoms._NET_ACTIVE_WINDOW {
            self.focus(window)?;
        } else if kind == self.atoms._NET_WM_STATE && data[1..3].contains(&self.atoms._NET_WM_STATE_FULLSCREEN) {
            let Some(managed) = self.windows.get_mut(&window) else { return Ok(()) };
            managed.fullscreen = match data[0] {
                0 => false,
                1 => true,
                _ => !managed.fullscreen,
            };
            let states: &[u32] = if managed.fullscreen { &[self.atoms._NET_WM_STATE_FULLSCREEN] } else { &[] };
            let property = self.atoms._NET_WM_STATE;
            self.connection.change_property32(PropMode::REPLACE, window, property, AtomEnum::ATOM, states)?;
            self.arrange(window)?;
        }
        Ok(())
    }

    fn has_atom(&self, window: Window, property: u32, atom: u32) -> Result<bool, WmError> {
        let reply = self.connection.get_property(false, window, property, AtomEnum::ATOM, 0, 64)?.reply();
        Ok(present(reply)?.is_some_and(|reply| reply.value32().is_some_and(|mut atoms| atoms.any(|have| have == atom))))
    }

    /// The only size that the client allows, if it allows only one.
    fn fixed_size(&self, window: Window) -> Result<Option<(u16, u16)>, WmError> {
        let reply = WmSizeHints::get_normal_hints(&self.connection, window)?.reply();
        let hints = present(reply)?.flatten();
        let Some((minimum, maximum)) = hints.and_then(|hints| Some((hints.min_size?, hints.max_size?))) else {
            return Ok(None);
        };
        let side = |value: i32| u16::try_from(value).ok().filter(|value| *value > 0);
        Ok(if minimum == maximum { side(minimum.0).zip(side(minimum.1)) } else { None })
    }

    fn is_dialog(&self, window: Window) -> Result<bool, WmError> {
        let transient = AtomEnum::WM_TRANSIENT_FOR;
        let reply = self.connection.get_property(false, window, transient, AtomEnum::WINDOW, 0, 1)?.reply();
        let owner = present(reply)?.and_then(|reply| reply.value32().and_then(|mut values| values.next()));
        if owner.is_some_and(|owner| owner != x11rb::NONE && owner != self.root) {
            return Ok(true);
        }
        let property = self.atoms._NET_WM_WINDOW_TYPE;
        let reply = self.connection.get_property(false, window, property, AtomEnum::ATOM, 0, 16)?.reply();
        let first = present(reply)?.and_then(|reply| reply.value32().and_then(|mut values| values.next()));
        // Whatever is no normal window (dialog, splash, utility, menu ...) floats.
        Ok(first.is_some_and(|kind| kind != self.atoms._NET_WM_WINDOW_TYPE_NORMAL))
    }
}

/// A reply, or nothing when the window is gone.
fn present<T>(reply: Result<T, ReplyError>) -> Result<Option<T>, WmError> {
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(ReplyError::X11Error(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
