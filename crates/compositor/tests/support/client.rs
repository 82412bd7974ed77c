//! A Wayland client that draws single colours and remembers what it is told.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use wayland_client::globals::{GlobalList, GlobalListContents, registry_queue_init};
use wayland_client::protocol::{
    wl_buffer::{self, WlBuffer},
    wl_callback::{self, WlCallback},
    wl_compositor::WlCompositor,
    wl_data_device::{self, WlDataDevice},
    wl_data_device_manager::WlDataDeviceManager,
    wl_data_offer::{self, WlDataOffer},
    wl_data_source::{self, WlDataSource},
    wl_keyboard::{self, WlKeyboard},
    wl_pointer::{self, WlPointer},
    wl_registry::{self, WlRegistry},
    wl_seat::WlSeat,
    wl_shm::{self, WlShm},
    wl_shm_pool::WlShmPool,
    wl_subcompositor::WlSubcompositor,
    wl_subsurface::WlSubsurface,
    wl_surface::WlSurface,
    wl_touch::{self, WlTouch},
};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle, WEnum, delegate_noop, event_created_child};
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_device_v1::WpCursorShapeDeviceV1;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_locked_pointer_v1::{self, ZwpLockedPointerV1};
use wayland_protocols::wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1::ZwpPointerConstraintsV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_manager_v1::ZwpRelativePointerManagerV1;
use wayland_protocols::wp::relative_pointer::zv1::client::zwp_relative_pointer_v1::{self, ZwpRelativePointerV1};
use wayland_protocols::xdg::shell::client::{
    xdg_popup::{self, XdgPopup},
    xdg_positioner::XdgPositioner,
    xdg_surface::{self, XdgSurface},
    xdg_toplevel::{self, XdgToplevel},
    xdg_wm_base::{self, XdgWmBase},
};

use super::PATIENCE;

/// What the client was told.
#[derive(Debug, Default)]
pub struct Told {
    pub configured: Option<(i32, i32)>,
    pub configures: u32,
    pub popup_configured: bool,
    pub keys: Vec<(u32, bool)>,
    pub keymaps: Vec<String>,
    pub keyboard_inside: bool,
    pub repeat_rate: Option<i32>,
    pub pointer_serial: u32,
    pub pointer_inside: bool,
    pub pointer: Option<(f64, f64)>,
    pub buttons: Vec<(u32, bool)>,
    pub axis: Vec<(bool, i32)>,
    pub relative: (f64, f64),
    pub locked: bool,
    pub touches: Vec<String>,
    pub released: HashMap<u32, u32>,
    pub callbacks: u32,
    pub offer: Option<WlDataOffer>,
    pub pasted: Option<OwnedFd>,
    /// What this client offers to others.
    pub copies: String,
}

pub struct Client {
    pub connection: Connection,
    pub queue: EventQueue<Told>,
    pub handle: QueueHandle<Told>,
    pub globals: GlobalList,
    pub told: Told,
    pub compositor: WlCompositor,
    pub shm: WlShm,
    pub seat: WlSeat,
    pub pointer: WlPointer,
    pub shell: XdgWmBase,
}

/// A window with its own pool of buffers.
pub struct Window {
    pub surface: WlSurface,
    pub xdg: XdgSurface,
    pub toplevel: XdgToplevel,
}

pub struct Buffer {
    pub buffer: WlBuffer,
    pub file: std::fs::File,
    pub size: (i32, i32),
}

impl Client {
    pub fn connect(socket: &Path) -> Client {
        let connection = Connection::from_socket(UnixStream::connect(socket).unwrap()).unwrap();
        let (globals, queue) = registry_queue_init::<Told>(&connection).unwrap();
        let handle = queue.handle();
        let seat: WlSeat = globals.bind(&handle, 7..=9, ()).unwrap();
        let pointer = seat.get_pointer(&handle, ());
        seat.get_keyboard(&handle, ());
        seat.get_touch(&handle, ());
        Client {
            told: Told::default(),
            compositor: globals.bind(&handle, 6..=6, ()).unwrap(),
            shm: globals.bind(&handle, 1..=1, ()).unwrap(),
            shell: globals.bind(&handle, 3..=6, ()).unwrap(),
            pointer,
            seat,
            connection,
            queue,
            handle,
            globals,
        }
    }

    pub fn roundtrip(&mut self) {
        self.queue.roundtrip(&mut self.told).unwrap();
    }

    /// Handles events until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Told) -> bool) {
        let start = Instant::now();
        while !done(&self.told) {
            assert!(
                start.elapsed() < PATIENCE,
                "the client was not told: {what}; {:?}",
                Told { keymaps: Vec::new(), ..std::mem::take(&mut self.told) }
            );
            self.roundtrip();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// A toplevel that has been told its size and shows nothing yet.
    pub fn window(&mut self) -> Window {
        let surface = self.compositor.create_surface(&self.handle, ());
        let xdg = self.shell.get_xdg_surface(&surface, &self.handle, ());
        let toplevel = xdg.get_toplevel(&self.handle, ());
        surface.commit();
        let before = self.told.configures;
        self.until("its size", |told| told.configures > before);
        Window { surface, xdg, toplevel }
    }

    /// A buffer of one colour (red, green, blue, alpha, premultiplied).
    pub fn buffer(&self, size: (i32, i32), rgba: [u8; 4]) -> Buffer {
        let [red, green, blue, alpha] = rgba;
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = std::fs::File::from(fd);
        let length = size.0 * size.1 * 4;
        file.write_all_at(&[blue, green, red, alpha].repeat((size.0 * size.1) as usize), 0).unwrap();
        let pool = self.shm.create_pool(file.as_fd(), length, &self.handle, ());
        let format = if alpha == 255 { wl_shm::Format::Xrgb8888 } else { wl_shm::Format::Argb8888 };
        let buffer = pool.create_buffer(0, size.0, size.1, size.0 * 4, format, &self.handle, ());
        pool.destroy();
        Buffer { buffer, file, size }
    }

    pub fn show(&mut self, surface: &WlSurface, buffer: &Buffer) {
        surface.attach(Some(&buffer.buffer), 0, 0);
        surface.damage_buffer(0, 0, buffer.size.0, buffer.size.1);
        surface.frame(&self.handle, ());
        surface.commit();
        self.connection.flush().unwrap();
    }

    /// A full-size window of one colour.
    pub fn colored_window(&mut self, rgb: [u8; 3]) -> (Window, Buffer) {
        let window = self.window();
        let size = self.told.configured.unwrap();
        let buffer = self.buffer(size, opaque(rgb));
        self.show(&window.surface, &buffer);
        (window, buffer)
    }

    pub fn released(&self, buffer: &Buffer) -> u32 {
        self.told.released.get(&buffer.buffer.id().protocol_id()).copied().unwrap_or(0)
    }

    pub fn lock_pointer(&self, surface: &WlSurface) -> ZwpLockedPointerV1 {
        let constraints: ZwpPointerConstraintsV1 = self.globals.bind(&self.handle, 1..=1, ()).unwrap();
        let lifetime =
            wayland_protocols::wp::pointer_constraints::zv1::client::zwp_pointer_constraints_v1::Lifetime::Persistent;
        constraints.lock_pointer(surface, &self.pointer, None, lifetime, &self.handle, ())
    }

    pub fn relative_pointer(&self) -> ZwpRelativePointerV1 {
        let manager: ZwpRelativePointerManagerV1 = self.globals.bind(&self.handle, 1..=1, ()).unwrap();
        manager.get_relative_pointer(&self.pointer, &self.handle, ())
    }

    pub fn data_device(&self) -> (WlDataDeviceManager, WlDataDevice) {
        let manager: WlDataDeviceManager = self.globals.bind(&self.handle, 3..=3, ()).unwrap();
        let device = manager.get_data_device(&self.seat, &self.handle, ());
        (manager, device)
    }
}

pub fn opaque([red, green, blue]: [u8; 3]) -> [u8; 4] {
    [red, green, blue, 255]
}

impl Dispatch<WlRegistry, GlobalListContents> for Told {
    fn event(
        _: &mut Told,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Told>,
    ) {
    }
}

macro_rules! events {
    ($interface:ty, $event:path, |$told:ident, $proxy:ident, $got:ident| $body:block) => {
        impl Dispatch<$interface, ()> for Told {
            fn event(
                $told: &mut Told,
                $proxy: &$interface,
                $got: $event,
                _: &(),
                _: &Connection,
                _: &QueueHandle<Told>,
            ) $body
        }
    };
}

events!(XdgWmBase, xdg_wm_base::Event, |_told, shell, event| {
    if let xdg_wm_base::Event::Ping { serial } = event {
        shell.pong(serial);
    }
});
events!(XdgSurface, xdg_surface::Event, |told, surface, event| {
    if let xdg_surface::Event::Configure { serial } = event {
        surface.ack_configure(serial);
        told.configures += 1;
    }
});
events!(XdgToplevel, xdg_toplevel::Event, |told, _toplevel, event| {
    if let xdg_toplevel::Event::Configure { width, height, .. } = event {
        told.configured = Some((width, height));
    }
});
events!(XdgPopup, xdg_popup::Event, |told, _popup, event| {
    if let xdg_popup::Event::Configure { .. } = event {
        told.popup_configured = true;
    }
});
events!(WlBuffer, wl_buffer::Event, |told, buffer, _event| {
    *told.released.entry(buffer.id().protocol_id()).or_default() += 1;
});
events!(WlCallback, wl_callback::Event, |told, _callback, _event| {
    told.callbacks += 1;
});
events!(WlKeyboard, wl_keyboard::Event, |told, _keyboard, event| {
    match event {
        wl_keyboard::Event::Key { key, state, .. } => {
            told.keys.push((key, state == WEnum::Value(wl_keyboard::KeyState::Pressed)));
        }
        wl_keyboard::Event::Keymap { fd, size, .. } => {
            let mut bytes = vec![0; size as usize];
            std::fs::File::from(fd).read_exact_at(&mut bytes, 0).unwrap();
            told.keymaps.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        wl_keyboard::Event::Enter { .. } => told.keyboard_inside = true,
        wl_keyboard::Event::Leave { .. } => told.keyboard_inside = false,
        wl_keyboard::Event::RepeatInfo { rate, .. } => told.repeat_rate = Some(rate),
        _ => {}
    }
});
events!(WlPointer, wl_pointer::Event, |told, _pointer, event| {
    match event {
        wl_pointer::Event::Enter { serial, surface_x, surface_y, .. } => {
            told.pointer_serial = serial;
            told.pointer_inside = true;
            told.pointer = Some((surface_x, surface_y));
        }
        wl_pointer::Event::Leave { .. } => told.pointer_inside = false,
        wl_pointer::Event::Motion { surface_x, surface_y, .. } => told.pointer = Some((surface_x, surface_y)),
        wl_pointer::Event::Button { button, state, .. } => {
            told.buttons.push((button, state == WEnum::Value(wl_pointer::ButtonState::Pressed)));
        }
        wl_pointer::Event::AxisValue120 { axis, value120 } => {
            told.axis.push((axis == WEnum::Value(wl_pointer::Axis::VerticalScroll), value120));
        }
        _ => {}
    }
});
events!(WlTouch, wl_touch::Event, |told, _touch, event| {
    match event {
        wl_touch::Event::Down { id, x, y, .. } => told.touches.push(format!("down {id} {x:.0} {y:.0}")),
        wl_touch::Event::Motion { id, x, y, .. } => told.touches.push(format!("move {id} {x:.0} {y:.0}")),
        wl_touch::Event::Up { id, .. } => told.touches.push(format!("up {id}")),
        wl_touch::Event::Cancel => told.touches.push("cancel".to_owned()),
        _ => {}
    }
});
events!(ZwpRelativePointerV1, zwp_relative_pointer_v1::Event, |told, _pointer, event| {
    if let zwp_relative_pointer_v1::Event::RelativeMotion { dx, dy, .. } = event {
        told.relative.0 += dx;
        told.relative.1 += dy;
    }
});
events!(ZwpLockedPointerV1, zwp_locked_pointer_v1::Event, |told, _pointer, event| {
    told.locked = matches!(event, zwp_locked_pointer_v1::Event::Locked);
});
events!(WlDataOffer, wl_data_offer::Event, |_told, _offer, _event| {});
events!(WlDataSource, wl_data_source::Event, |told, _source, event| {
    if let wl_data_source::Event::Send { fd, .. } = event {
        // In a thread, because a client that waits for its reader here would not answer anything else; the reader stops
        // at its limit, which ends the writing with an error.
        let text = told.copies.clone();
        std::thread::Builder::new()
            .name("copy".to_owned())
            .spawn(move || drop(std::io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes())))
            .unwrap();
    }
});
impl Dispatch<WlDataDevice, ()> for Told {
    fn event(
        told: &mut Told,
        _: &WlDataDevice,
        event: wl_data_device::Event,
        _: &(),
        _: &Connection,
        _: &QueueHandle<Told>,
    ) {
        if let wl_data_device::Event::Selection { id } = event {
            told.offer = id;
        }
    }
    event_created_child!(Told, WlDataDevice, [wl_data_device::EVT_DATA_OFFER_OPCODE => (WlDataOffer, ())]);
}

delegate_noop!(Told: ignore WlCompositor);
delegate_noop!(Told: ignore WlSubcompositor);
delegate_noop!(Told: ignore WlSubsurface);
delegate_noop!(Told: ignore WlShm);
delegate_noop!(Told: ignore WlShmPool);
delegate_noop!(Told: ignore WlSeat);
delegate_noop!(Told: ignore WlSurface);
delegate_noop!(Told: ignore WlDataDeviceManager);
delegate_noop!(Told: ignore XdgPositioner);
delegate_noop!(Told: ignore ZwpPointerConstraintsV1);
delegate_noop!(Told: ignore ZwpRelativePointerManagerV1);
delegate_noop!(Told: ignore WpCursorShapeManagerV1);
delegate_noop!(Told: ignore WpCursorShapeDeviceV1);
