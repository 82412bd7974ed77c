//! The camera and the finger: watches an X display on which a browser shows the probe's picture, and presses keys on it.
//!
//! ```text
//! probe-screen LEFT TOP WIDTH     the place of the picture on the display named by DISPLAY
//! ```
//! Standard input, a line each: `key C` presses the key of the letter C and lets it go as late as a person does; `click X Y` moves the
//! pointer there and clicks.
//!
//! Standard output, a line each, times in microseconds of `CLOCK_MONOTONIC`:
//! `pressed now_us` when a key was pressed, and for each new frame, at the display's report of the change,
//! `frame now_us frame toggles application_100us late_ms committed_100us since_500us`.
//!
//! Whatever way a page shows frames (`<video>`, canvas, worker), what counts is when the display has them; and keys come the way that a
//! keyboard's come, through the display server. Ends when its standard input is closed or the display goes.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use probe::clock::now_us;
use probe::strip::{COLUMNS, ROWS, Strip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::protocol::Event;
use x11rb::protocol::damage::{self, ConnectionExt as _};
use x11rb::protocol::xproto::{
    BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, ImageFormat, KEY_PRESS_EVENT, KEY_RELEASE_EVENT,
    Keycode, MOTION_NOTIFY_EVENT, Window,
};
use x11rb::protocol::xtest::{self, ConnectionExt as _};
use x11rb::rust_connection::RustConnection;

/// How long a key stays pressed: people hold a key for 70 to 120 ms. Letting go is an input, too: nearer to the press, it would change
/// what the game does with that one.
const HELD_US: u64 = 90_000;

/// Where the strip is on the display.
#[derive(Clone, Copy, Debug)]
struct Place {
    left: i16,
    top: i16,
    width: u16,
}

impl Place {
    fn from_arguments() -> anyhow::Result<Place> {
        let numbers: Vec<i16> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
        let [left, top, width] = numbers[..] else { anyhow::bail!("usage: probe-screen LEFT TOP WIDTH") };
        let width = u16::try_from(width).ok().filter(|&width| usize::from(width) >= 4 * COLUMNS);
        Ok(Place { left, top, width: width.context("the picture is too narrow to be read")? })
    }

    fn side(self) -> usize {
        usize::from(self.width) / COLUMNS
    }
}

struct Camera {
    connection: RustConnection,
    root: Window,
    place: Place,
    watch: damage::Damage,
    last: Option<u16>,
    /// Keys that are down, and when they are let go.
    held: VecDeque<(Keycode, u64)>,
}

fn main() -> anyhow::Result<()> {
    let mut camera = Camera::open(Place::from_arguments()?)?;
    let mut stdin = std::io::stdin();
    let mut orders = Vec::new();
    loop {
        camera.events()?;
        camera.let_go()?;
        let wait = camera.wait();
        let mut sources = [
            PollFd::from_borrowed_fd(camera.connection.stream().as_fd(), PollFlags::IN),
            PollFd::new(&stdin, PollFlags::IN),
        ];
        match poll(&mut sources, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        if sources[1].revents().is_empty() {
            continue;
        }
        let mut bytes = [0; 256];
        let length = stdin.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        orders.extend_from_slice(&bytes[..length]);
        while let Some(end) = orders.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = orders.drain(..=end).collect();
            camera.order(String::from_utf8_lossy(&line).trim())?;
        }
    }
}

impl Camera {
    fn open(place: Place) -> anyhow::Result<Camera> {
        let (connection, screen) = x11rb::connect(None).context("no X display")?;
        let root = connection.setup().roots.get(screen).context("no such screen")?.root;
        connection.extension_information(damage::X11_EXTENSION_NAME)?.context("the display has no DAMAGE")?;
        connection.extension_information(xtest::X11_EXTENSION_NAME)?.context("the display has no XTEST")?;
        connection.damage_query_version(1, 1)?.reply()?;
        let watch = connection.generate_id()?;
        connection.damage_create(watch, root, damage::ReportLevel::NON_EMPTY)?;
        connection.flush()?;
        Ok(Camera { connection, root, place, watch, last: None, held: VecDeque::new() })
    }

    /// Looks at the picture when anything changed.
    fn events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.connection.poll_for_event()? {
            // The first report of a change is when it was there.
            let at_us = now_us();
            if !matches!(event, Event::DamageNotify(_)) {
                continue;
            }
            // From here on the next change is reported again, also one that comes while the strip is read.
            self.connection.damage_subtract(self.watch, x11rb::NONE, x11rb::NONE)?;
            let last = self.last;
            let Some(strip) = self.look()?.filter(|strip| last != Some(strip.frame)) else { continue };
            self.last = Some(strip.frame);
            let Strip { frame, toggles, application_100us, late_ms, committed_100us, since_500us } = strip;
            say(&format!(
                "frame {at_us} {frame} {toggles} {application_100us} {late_ms} {committed_100us} {since_500us}"
            ))?;
        }
        Ok(())
    }

    /// Reads one line of pixels through the middle of each row of cells; `None` while no whole strip is there.
    fn look(&self) -> anyhow::Result<Option<Strip>> {
        let Place { left, top, width } = self.place;
        let side = self.place.side();
        let mut rows = Vec::new();
        for row in 0..ROWS {
            let y = top + i16::try_from(row * side + side / 2)?;
            rows.push(self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, left, y, width, 1, u32::MAX)?);
        }
        let mut cells = Vec::with_capacity(COLUMNS * ROWS);
        for row in rows {
            let line = row.reply()?.data;
            // Four bytes a pixel at the depths that browsers need; the second is green.
            let green = |column: usize| line.get((column * side + side / 2) * 4 + 1).copied().unwrap_or_default();
            cells.extend((0..COLUMNS).map(|column| green(column) > 127));
        }
        Ok(Strip::read(&cells))
    }

    fn order(&mut self, line: &str) -> anyhow::Result<()> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["key", letter] => {
                let key = self.key(letter)?;
                // Before it is sent, as a keyboard's own way to the server counts as well.
                let at_us = now_us();
                self.fake(KEY_PRESS_EVENT, key, 0, 0)?;
                self.connection.flush()?;
                say(&format!("pressed {at_us}"))?;
                self.held.push_back((key, at_us + HELD_US));
            }
            ["click", x, y] => {
                self.fake(MOTION_NOTIFY_EVENT, 0, x.parse()?, y.parse()?)?;
                self.fake(BUTTON_PRESS_EVENT, 1, 0, 0)?;
                self.fake(BUTTON_RELEASE_EVENT, 1, 0, 0)?;
            }
            _ => anyhow::bail!("no order is called {line:?}: key C, click X Y"),
        }
        Ok(self.connection.flush()?)
    }

    /// Lets go the keys that were pressed long enough.
    fn let_go(&mut self) -> anyhow::Result<()> {
        while let Some((key, _)) = self.held.pop_front_if(|(_, until_us)| *until_us <= now_us()) {
            self.fake(KEY_RELEASE_EVENT, key, 0, 0)?;
            self.connection.flush()?;
        }
        Ok(())
    }

    /// How long until a key is to be let go.
    fn wait(&self) -> Option<Timespec> {
        let wait_us = self.held.front()?.1.saturating_sub(now_us());
        Timespec::try_from(Duration::from_micros(wait_us)).ok()
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) -> anyhow::Result<()> {
        self.connection.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, self.root, x, y, 0)?;
        Ok(())
    }

    /// The key that writes this letter without a modifier.
    fn key(&self, letter: &str) -> anyhow::Result<Keycode> {
        let [symbol] = letter.as_bytes() else { anyhow::bail!("{letter:?} is not one letter") };
        let (first, last) = (self.connection.setup().min_keycode, self.connection.setup().max_keycode);
        let mapping = self.connection.get_keyboard_mapping(first, last - first + 1)?.reply()?;
        let mut keys = mapping.keysyms.chunks(usize::from(mapping.keysyms_per_keycode.max(1)));
        // Latin letters' symbols have their ASCII values.
        let index = keys.position(|symbols| symbols.first() == Some(&u32::from(*symbol)));
        Ok(first + u8::try_from(index.with_context(|| format!("no key writes {letter:?}"))?)?)
    }
}

/// One line, at once.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
