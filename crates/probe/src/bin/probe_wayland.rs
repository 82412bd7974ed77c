//! The probe as a native Wayland client: `wl_shm`, paced by frame callbacks, full screen, following the configured size.

use anyhow::Context as _;
use probe::clock::now_us;
use probe::picture::{PIXEL_BYTES, Painter};
use probe::report::{Report, run_delay_us};
use probe::shared_memory::SharedMemory;
use std::os::fd::AsFd as _;
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::{
    wl_buffer, wl_callback, wl_compositor, wl_keyboard, wl_pointer, wl_region, wl_registry, wl_seat, wl_shm,
    wl_shm_pool, wl_surface, wl_touch,
};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy as _, QueueHandle, WEnum, delegate_noop};
use wayland_protocols::xdg::shell::client::{xdg_surface, xdg_toplevel, xdg_wm_base};

/// Size when the compositor leaves it to the client, in pixels.
const OWN_SIZE: (i32, i32) = (1280, 720);
struct Buffer {
    proxy: wl_buffer::WlBuffer,
    memory: SharedMemory,
    busy: bool,
}

struct Probe {
    surface: wl_surface::WlSurface,
    compositor: wl_compositor::WlCompositor,
    shm: wl_shm::WlShm,
    toplevel: xdg_toplevel::XdgToplevel,
    wanted: (i32, i32),
    configured: bool,
    /// The compositor asked for a frame and none was drawn since.
    is_due: bool,
    run_delay_us: u64,
    buffers: Vec<Buffer>,
    painter: Painter,
    report: Report,
    /// Bound once: a second keyboard object would count every key twice.
    keyboard: Option<wl_keyboard::WlKeyboard>,
    pointer: Option<wl_pointer::WlPointer>,
    touch: Option<wl_touch::WlTouch>,
    closed: bool,
}

fn main() -> anyhow::Result<()> {
    let connection = Connection::connect_to_env().context("no Wayland display")?;
    let (globals, mut queue): (_, EventQueue<Probe>) = registry_queue_init(&connection).context("registry")?;
    let handle = queue.handle();
    let compositor: wl_compositor::WlCompositor = globals.bind(&handle, 4..=6, ()).context("wl_compositor")?;
    let shm: wl_shm::WlShm = globals.bind(&handle, 1..=1, ()).context("wl_shm")?;
    let shell: xdg_wm_base::XdgWmBase = globals.bind(&handle, 1..=5, ()).context("xdg_wm_base")?;
    let _seat: wl_seat::WlSeat = globals.bind(&handle, 1..=7, ()).context("wl_seat")?;
    let surface = compositor.create_surface(&handle, ());
    let role = shell.get_xdg_surface(&surface, &handle, ());
    let toplevel = role.get_toplevel(&handle, ());
    toplevel.set_title("Kite probe (Wayland)".into());
    toplevel.set_app_id("probe-wayland".into());
    toplevel.set_fullscreen(None);
    surface.commit();
    let mut probe = Probe {
        surface,
        compositor,
        shm,
        toplevel,
        wanted: OWN_SIZE,
        configured: false,
        is_due: false,
        run_delay_us: run_delay_us(),
        buffers: Vec::new(),
        painter: Painter::new(0, 0),
        report: Report::default(),
        keyboard: None,
        pointer: None,
        touch: None,
        closed: false,
    };
    while !probe.closed {
        queue.blocking_dispatch(&mut probe).context("the compositor closed the connection")?;
        probe.draw_when_due(&handle)?;
    }
    Ok(())
}

impl Probe {
    fn resize(&mut self, handle: &QueueHandle<Self>) -> anyhow::Result<()> {
        let (width, height) = self.wanted;
        let size = (usize::try_from(width)?, usize::try_from(height)?);
        if (self.painter.width(), self.painter.height()) == size {
            return Ok(());
        }
        for buffer in self.buffers.drain(..) {
            buffer.proxy.destroy();
        }
        self.painter = Painter::new(size.0, size.1);
        let stride = i32::try_from(size.0 * PIXEL_BYTES)?;
        for index in 0..2 {
            let memory = SharedMemory::new(self.painter.bytes())?;
            let pool = self.shm.create_pool(memory.file().as_fd(), i32::try_from(self.painter.bytes())?, handle, ());
            let proxy = pool.create_buffer(0, width, height, stride, wl_shm::Format::Xrgb8888, handle, index);
            pool.destroy();
            self.buffers.push(Buffer { proxy, memory, busy: false });
        }
        let region = self.compositor.create_region(handle, ());
        region.add(0, 0, width, height);
        self.surface.set_opaque_region(Some(&region));
        region.destroy();
        eprintln!("probe: width={width} height={height}");
        Ok(())
    }

    /// Draws once the compositor asked for a frame and a buffer is free.
    fn draw_when_due(&mut self, handle: &QueueHandle<Self>) -> anyhow::Result<()> {
        if !self.configured || !self.is_due {
            return Ok(());
        }
        self.resize(handle)?;
        let Some(buffer) = self.buffers.iter_mut().find(|buffer| !buffer.busy) else {
            return Ok(());
        };
        // A callback is as early or late as the compositor likes; what makes this program late is a processor that it has to wait for.
        let run_delay_us = run_delay_us();
        let late_us = run_delay_us.saturating_sub(self.run_delay_us);
        self.run_delay_us = run_delay_us;
        self.is_due = false;
        let begun_us = now_us();
        let pixels = buffer.memory.bytes_mut();
        self.painter.paint_texture(pixels, self.report.frame());
        let strip = self.report.strip(now_us(), late_us);
        self.painter.paint_strip(pixels, &strip);
        buffer.busy = true;
        self.surface.attach(Some(&buffer.proxy), 0, 0);
        self.surface.damage_buffer(0, 0, self.wanted.0, self.wanted.1);
        self.surface.frame(handle, ());
        self.surface.commit();
        self.report.frame_done(late_us, now_us() - begun_us);
        Ok(())
    }
}

impl Dispatch<wl_callback::WlCallback, ()> for Probe {
    fn event(
        probe: &mut Self,
        _: &wl_callback::WlCallback,
        _: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        probe.is_due = true;
    }
}

impl Dispatch<wl_buffer::WlBuffer, usize> for Probe {
    fn event(
        probe: &mut Self,
        proxy: &wl_buffer::WlBuffer,
        _: wl_buffer::Event,
        _: &usize,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        for buffer in &mut probe.buffers {
            buffer.busy &= buffer.proxy.id() != proxy.id();
        }
    }
}

impl Dispatch<xdg_toplevel::XdgToplevel, ()> for Probe {
    fn event(
        probe: &mut Self,
        _: &xdg_toplevel::XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, .. } if width > 0 && height > 0 => {
                probe.wanted = (width, height);
            }
            xdg_toplevel::Event::Close => probe.closed = true,
            _ => {}
        }
    }
}

impl Dispatch<xdg_surface::XdgSurface, ()> for Probe {
    fn event(
        probe: &mut Self,
        role: &xdg_surface::XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            role.ack_configure(serial);
            if !probe.configured {
                probe.configured = true;
                probe.is_due = true;
                probe.toplevel.set_fullscreen(None);
            }
        }
    }
}

impl Dispatch<xdg_wm_base::XdgWmBase, ()> for Probe {
    fn event(
        _: &mut Self,
        shell: &xdg_wm_base::XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
        }
    }
}

impl Dispatch<wl_seat::WlSeat, ()> for Probe {
    fn event(
        probe: &mut Self,
        seat: &wl_seat::WlSeat,
        event: wl_seat::Event,
        (): &(),
        _: &Connection,
        handle: &QueueHandle<Self>,
    ) {
        let wl_seat::Event::Capabilities { capabilities: WEnum::Value(capabilities) } = event else {
            return;
        };
        if capabilities.contains(wl_seat::Capability::Keyboard) {
            probe.keyboard.get_or_insert_with(|| seat.get_keyboard(handle, ()));
        }
        if capabilities.contains(wl_seat::Capability::Pointer) {
            probe.pointer.get_or_insert_with(|| seat.get_pointer(handle, ()));
        }
        if capabilities.contains(wl_seat::Capability::Touch) {
            probe.touch.get_or_insert_with(|| seat.get_touch(handle, ()));
        }
    }
}

impl Dispatch<wl_keyboard::WlKeyboard, ()> for Probe {
    fn event(
        probe: &mut Self,
        _: &wl_keyboard::WlKeyboard,
        event: wl_keyboard::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_keyboard::Event::Key { state: WEnum::Value(wl_keyboard::KeyState::Pressed), .. } = event {
            probe.report.input(now_us());
        }
    }
}

impl Dispatch<wl_pointer::WlPointer, ()> for Probe {
    fn event(
        probe: &mut Self,
        _: &wl_pointer::WlPointer,
        event: wl_pointer::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_pointer::Event::Button { state: WEnum::Value(wl_pointer::ButtonState::Pressed), .. } = event {
            probe.report.input(now_us());
        }
    }
}

impl Dispatch<wl_touch::WlTouch, ()> for Probe {
    fn event(
        probe: &mut Self,
        _: &wl_touch::WlTouch,
        event: wl_touch::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_touch::Event::Down { .. } = event {
            probe.report.input(now_us());
        }
    }
}

impl Dispatch<wl_registry::WlRegistry, GlobalListContents> for Probe {
    fn event(
        _: &mut Self,
        _: &wl_registry::WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        // The probe needs no global that comes later.
    }
}

delegate_noop!(Probe: ignore wl_surface::WlSurface);
delegate_noop!(Probe: ignore wl_shm::WlShm);
delegate_noop!(Probe: wl_compositor::WlCompositor);
delegate_noop!(Probe: wl_shm_pool::WlShmPool);
delegate_noop!(Probe: wl_region::WlRegion);
