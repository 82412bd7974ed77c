//! The probe as an X11 client: `MIT-SHM` images at its own precise beat, full size, following the screen's size.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use probe::clock::{RATE_MHZ, Ticker, now_us};
use probe::picture::Painter;
use probe::report::Report;
use probe::shared_memory::SharedMemory;
use rustix::event::{PollFd, PollFlags, poll};
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::Event;
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{
    AtomEnum, ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, Gcontext, ImageFormat,
    InputFocus, PropMode, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// Segments: one with the server, one to draw into. A third would add a frame of delay on a slow server.
const SEGMENTS: usize = 2;

struct Segment {
    memory: SharedMemory,
    id: shm::Seg,
    busy: bool,
}

struct Probe {
    connection: RustConnection,
    root: Window,
    window: Window,
    gc: Gcontext,
    depth: u8,
    /// Without a window manager the probe follows the screen's size by itself.
    managed: bool,
    painter: Painter,
    segments: Vec<Segment>,
    report: Report,
}

fn main() -> anyhow::Result<()> {
    let (connection, screen) = x11rb::connect(None).context("no X display")?;
    let mut probe = Probe::new(connection, screen)?;
    let mut ticker = Ticker::new(RATE_MHZ, now_us());
    loop {
        while let Some(event) = probe.connection.poll_for_event()? {
            probe.event(&event)?;
        }
        if let Some(late_us) = ticker.take(now_us()) {
            probe.draw(late_us)?;
        }
        let wait = ticker.wait(now_us());
        let mut sources = [PollFd::from_borrowed_fd(probe.connection.stream().as_fd(), PollFlags::IN)];
        match poll(&mut sources, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

impl Probe {
    fn new(connection: RustConnection, screen: usize) -> anyhow::Result<Probe> {
        let screen = connection.setup().roots.get(screen).context("no such screen")?.clone();
        connection.extension_information(shm::X11_EXTENSION_NAME)?.context("the display has no MIT-SHM")?;
        let check = connection.intern_atom(false, b"_NET_SUPPORTING_WM_CHECK")?.reply()?.atom;
        let manager = connection.get_property(false, screen.root, check, AtomEnum::WINDOW, 0, 1)?.reply()?;
        let managed = manager.value32().and_then(|mut values| values.next()).is_some();
        let geometry = connection.get_geometry(screen.root)?.reply()?;

        let window = connection.generate_id()?;
        let events = EventMask::KEY_PRESS | EventMask::BUTTON_PRESS | EventMask::STRUCTURE_NOTIFY;
        let attributes = CreateWindowAux::new().background_pixel(screen.black_pixel).event_mask(events);
        connection.create_window(
            screen.root_depth,
            window,
            screen.root,
            0,
            0,
            geometry.width,
            geometry.height,
            0,
            WindowClass::INPUT_OUTPUT,
            screen.root_visual,
            &attributes,
        )?;
        let gc = connection.generate_id()?;
        connection.create_gc(gc, window, &CreateGCAux::new().graphics_exposures(0))?;
        let mut probe = Probe {
            root: screen.root,
            window,
            gc,
            depth: screen.root_depth,
            managed,
            painter: Painter::new(0, 0),
            segments: Vec::new(),
            report: Report::default(),
            connection,
        };
        probe.name_and_map()?;
        probe.resize(usize::from(geometry.width), usize::from(geometry.height))?;
        Ok(probe)
    }

    fn name_and_map(&self) -> anyhow::Result<()> {
        let connection = &self.connection;
        connection.change_property8(
            PropMode::REPLACE,
            self.window,
            AtomEnum::WM_NAME,
            AtomEnum::STRING,
            b"Kite probe (X11)",
        )?;
        connection.change_property8(
            PropMode::REPLACE,
            self.window,
            AtomEnum::WM_CLASS,
            AtomEnum::STRING,
            b"probe-x11\0Probe\0",
        )?;
        // WM_HINTS with InputHint and input = true: give this window the keyboard.
        let hints = [1, 1, 0, 0, 0, 0, 0, 0, 0];
        connection.change_property32(PropMode::REPLACE, self.window, AtomEnum::WM_HINTS, AtomEnum::WM_HINTS, &hints)?;
        let state = connection.intern_atom(false, b"_NET_WM_STATE")?.reply()?.atom;
        let fullscreen = connection.intern_atom(false, b"_NET_WM_STATE_FULLSCREEN")?.reply()?.atom;
        connection.change_property32(PropMode::REPLACE, self.window, state, AtomEnum::ATOM, &[fullscreen])?;
        connection.map_window(self.window)?;
        if !self.managed {
            let root_events =
                x11rb::protocol::xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
            connection.change_window_attributes(self.root, &root_events)?;
        }
        connection.flush()?;
        Ok(())
    }

    fn resize(&mut self, width: usize, height: usize) -> anyhow::Result<()> {
        if (self.painter.width(), self.painter.height()) == (width, height) {
            return Ok(());
        }
        for segment in self.segments.drain(..) {
            shm::detach(&self.connection, segment.id)?;
        }
        self.painter = Painter::new(width, height);
        for _ in 0..SEGMENTS {
            let memory = SharedMemory::new(self.painter.bytes())?;
            let id = self.connection.generate_id()?;
            let file = memory.file().try_clone_to_owned().context("duplicate the segment's file")?;
            self.connection.shm_attach_fd(id, file, false)?.check().context("shm_attach_fd")?;
            self.segments.push(Segment { memory, id, busy: false });
        }
        eprintln!("probe: width={width} height={height} managed={}", self.managed);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::KeyPress(_) | Event::ButtonPress(_) => self.report.input(now_us()),
            Event::MapNotify(_) if !self.managed => {
                self.connection.set_input_focus(InputFocus::PARENT, self.window, x11rb::CURRENT_TIME)?;
                self.connection.flush()?;
            }
            Event::ConfigureNotify(configure) if configure.window == self.window => {
                self.resize(usize::from(configure.width), usize::from(configure.height))?;
            }
            Event::ConfigureNotify(configure) if configure.window == self.root => {
                let size =
                    ConfigureWindowAux::new().width(u32::from(configure.width)).height(u32::from(configure.height));
                self.connection.configure_window(self.window, &size)?;
                self.connection.flush()?;
            }
            Event::ShmCompletion(done) => {
                for segment in &mut self.segments {
                    segment.busy &= segment.id != done.shmseg;
                }
            }
            Event::Error(error) => eprintln!("probe: X error {error:?}"),
            _ => {}
        }
        Ok(())
    }

    /// Draws and commits one frame; skips the tick when the server still reads both segments.
    fn draw(&mut self, late_us: u64) -> anyhow::Result<()> {
        let Some(segment) = self.segments.iter_mut().find(|segment| !segment.busy) else {
            return Ok(());
        };
        let begun_us = now_us();
        let pixels = segment.memory.bytes_mut();
        self.painter.paint_texture(pixels, self.report.frame());
        let committed_us = now_us();
        let strip = self.report.strip(committed_us, late_us);
        self.painter.paint_strip(pixels, &strip);
        let (width, height) = (u16::try_from(self.painter.width())?, u16::try_from(self.painter.height())?);
        shm::put_image(
            &self.connection,
            self.window,
            self.gc,
            width,
            height,
            0,
            0,
            width,
            height,
            0,
            0,
            self.depth,
            ImageFormat::Z_PIXMAP.into(),
            true,
            segment.id,
            0,
        )?;
        segment.busy = true;
        self.connection.flush()?;
        self.report.frame_done(late_us, now_us() - begun_us);
        Ok(())
    }
}
