//! A real X11 client against both X servers: Xwayland under the compositor, and Xvfb.
#![allow(clippy::unwrap_used, clippy::let_underscore_must_use, reason = "a test's helpers fail like the test")]
#![allow(unreachable_pub, reason = "one support module serves several test programs")]

mod support;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use compositor::{Display, InputEvent, MAX_CLIPBOARD_BYTES, SourceError};
use media::Size;
use support::{BLACK, BLUE, GREEN, Output, PATIENCE, RED, Stage, color_at, is_color, position};
use wire::{Button, Cursor, KeyCode, PointerMode, TouchPhase};
use x11rb::connection::Connection as _;
use x11rb::properties::WmSizeHints;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ClientMessageEvent, ConnectionExt as _, CreateGCAux, CreateWindowAux,
    EventMask, Gcontext, PropMode, Rectangle, SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, Window, WindowClass,
};
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

const BOTH: [Display; 2] = [Display::X11, Display::Xvfb];

struct Client {
    connection: RustConnection,
    root: Window,
    events: Vec<Event>,
}

fn connect(stage: &Stage) -> Client {
    let path = stage.source.sockets().x11_dir.unwrap().join("X0");
    let (stream, _) = DefaultStream::from_unix_stream(UnixStream::connect(path).unwrap()).unwrap();
    let connection = RustConnection::connect_to_stream(stream, 0).unwrap();
    let root = connection.setup().roots[0].root;
    Client { connection, root, events: Vec::new() }
}

impl Client {
    fn atom(&self, name: &str) -> u32 {
        self.connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
    }

    /// An unmapped window with this background.
    fn window(&self, size: (u16, u16), color: u32, override_redirect: bool) -> Window {
        let window = self.connection.generate_id().unwrap();
        let mask = EventMask::KEY_PRESS
            | EventMask::KEY_RELEASE
            | EventMask::BUTTON_PRESS
            | EventMask::BUTTON_RELEASE
            | EventMask::POINTER_MOTION
            | EventMask::STRUCTURE_NOTIFY
            | EventMask::EXPOSURE
            | EventMask::FOCUS_CHANGE
            | EventMask::PROPERTY_CHANGE;
        let attributes = CreateWindowAux::new()
            .background_pixel(color)
            .event_mask(mask)
            .override_redirect(u32::from(override_redirect));
        let class = WindowClass::INPUT_OUTPUT;
        self.connection.create_window(0, window, self.root, 0, 0, size.0, size.1, 0, class, 0, &attributes).unwrap();
        window
    }

    fn map(&self, window: Window) {
        self.connection.map_window(window).unwrap();
        self.connection.flush().unwrap();
    }

    fn gc(&self, color: u32) -> Gcontext {
        let gc = self.connection.generate_id().unwrap();
        self.connection.create_gc(gc, self.root, &CreateGCAux::new().foreground(color)).unwrap();
        gc
    }

    fn fill(&self, window: Window, color: u32, (x, y, width, height): (i16, i16, u16, u16)) {
        let gc = self.gc(color);
        self.connection.poly_fill_rectangle(window, gc, &[Rectangle { x, y, width, height }]).unwrap();
        self.connection.free_gc(gc).unwrap();
        self.connection.flush().unwrap();
    }

    /// Handles events until one that `pick` takes.
    fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            while let Some(event) = self.connection.poll_for_event().unwrap() {
                let picked = pick(&event);
                self.events.push(event);
                if let Some(picked) = picked {
                    return picked;
                }
            }
            assert!(start.elapsed() < PATIENCE, "no {what}: {:?}", self.events);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn until_size(&mut self, window: Window, size: (u16, u16)) {
        self.until(&format!("{size:?}"), |event| match event {
            Event::ConfigureNotify(n) if n.window == window && (n.width, n.height) == size => Some(()),
            _ => None,
        });
    }

    fn until_exposed(&mut self, window: Window) {
        self.until("exposure", |event| matches!(event, Event::Expose(n) if n.window == window).then_some(()));
    }
}

/// A main window of this colour, which has the focus.
fn show(stage: &Stage, client: &mut Client, color: u32, rgb: [u8; 3]) -> Window {
    let window = client.window((640, 480), color, false);
    client.map(window);
    client.until_size(window, (1280, 720));
    client.until("focus", |event| matches!(event, Event::FocusIn(n) if n.event == window).then_some(()));
    stage.frame("the window", |frame| is_color(frame, (2, 2), rgb) && is_color(frame, (1277, 717), rgb));
    window
}

#[test]
fn a_window_fills_the_picture_and_what_it_draws_is_seen() {
    for display in BOTH {
        let stage = Stage::new(display);
        let mut client = connect(&stage);
        let window = show(&stage, &mut client, 0x00ff_0000, RED);
        client.fill(window, 0x0000_ff00, (100, 200, 50, 50));
        let frame = stage.color((125, 225), GREEN);
        for (at, color) in [((96, 225), RED), ((154, 225), RED), ((102, 202), GREEN), ((146, 246), GREEN)] {
            assert!(is_color(&frame, at, color), "{display:?}: {:?} at {at:?}", color_at(&frame, at));
        }
        assert_eq!(stage.frames_within(Duration::from_millis(200)).len(), 0, "{display:?}: a static screen is silent");
        stage.source.request_frame();
        stage.color((125, 225), GREEN);
    }
}

#[test]
fn keys_and_pointer_reach_the_window() {
    for display in BOTH {
        let mut stage = Stage::new(display);
        let mut client = connect(&stage);
        let window = show(&stage, &mut client, 0x00ff_0000, RED);
        stage.input(InputEvent::PointerMove(position(300, 400, Size::HD)));
        client.until("motion", |event| match event {
            Event::MotionNotify(n) if (n.root_x - 300).abs() <= 1 && (n.root_y - 400).abs() <= 1 => Some(()),
            _ => None,
        });
        stage.input(InputEvent::PointerMotion { dx: -16 * 50, dy: 16 * 20 });
        client.until("relative motion", |event| match event {
            Event::MotionNotify(n) if (n.root_x - 250).abs() <= 1 && (n.root_y - 420).abs() <= 1 => Some(()),
            _ => None,
        });
        for pressed in [true, false] {
            stage.input(InputEvent::Button { button: Button::Right, pressed });
            // Up: its X keycode is 111 by evdev's table alone.
            stage.input(InputEvent::Key { code: KeyCode(103), pressed });
        }
        stage.input(InputEvent::Wheel { x: 0, y: -120 });
        let last = stage.input(InputEvent::Wheel { x: 120, y: 0 });
        client.until("button 7", |event| matches!(event, Event::ButtonRelease(n) if n.detail == 7).then_some(()));
        let buttons: Vec<u8> = client
            .events
            .iter()
            .filter_map(|event| if let Event::ButtonPress(n) = event { Some(n.detail) } else { None })
            .collect();
        assert_eq!(buttons, [3, 4, 7], "{display:?}");
        let keys: Vec<(u8, bool)> = client
            .events
            .iter()
            .filter_map(|event| match event {
                Event::KeyPress(n) => Some((n.detail, true)),
                Event::KeyRelease(n) => Some((n.detail, false)),
                _ => None,
            })
            .collect();
        assert_eq!(keys, [(111, true), (111, false)], "{display:?}");
        let mapping = client.connection.get_keyboard_mapping(111, 1).unwrap().reply().unwrap();
        assert_eq!(mapping.keysyms[0], 0xff52, "{display:?}: keycode 111 is Up");
        client.fill(window, 0x0000_00ff, (0, 0, 1280, 720));
        let frame = stage.color((640, 360), BLUE);
        assert_eq!(frame.input.map(|mark| mark.sequence), Some(last), "{display:?}");
    }
}

#[test]
fn text_and_touch_reach_the_window() {
    for display in BOTH {
        let mut stage = Stage::new(display);
        let mut client = connect(&stage);
        show(&stage, &mut client, 0x00ff_0000, RED);
        stage.input(InputEvent::Text("aé".to_owned()));
        let mut keys = Vec::new();
        client.until("two keys", |event| {
            if let Event::KeyPress(n) = event {
                keys.push(n.detail);
            }
            (keys.len() == 2).then_some(())
        });
        assert_eq!(keys, [38, 249], "{display:?}");
        let mapping = client.connection.get_keyboard_mapping(249, 1).unwrap().reply().unwrap();
        assert_eq!(mapping.keysyms[0], 0xe9, "{display:?}: keycode 249 is é");
        if display == Display::Xvfb {
            let at = position(50, 60, Size::HD);
            for phase in [TouchPhase::Start, TouchPhase::End] {
                stage.input(InputEvent::Touch { id: 0, phase, position: at });
            }
            let place = client.until("click", |event| match event {
                Event::ButtonRelease(n) if n.detail == 1 => Some((n.root_x, n.root_y)),
                _ => None,
            });
            assert!((place.0 - 50).abs() <= 1 && (place.1 - 60).abs() <= 1, "{place:?}");
        }
    }
}

#[test]
fn release_all_lets_go_of_everything() {
    for display in BOTH {
        let mut stage = Stage::new(display);
        let mut client = connect(&stage);
        show(&stage, &mut client, 0x00ff_0000, RED);
        stage.input(InputEvent::Key { code: KeyCode(30), pressed: true });
        stage.input(InputEvent::Button { button: Button::Left, pressed: true });
        client.until("press", |event| matches!(event, Event::ButtonPress(_)).then_some(()));
        stage.input(InputEvent::ReleaseAll);
        client.until("release", |event| matches!(event, Event::ButtonRelease(_)).then_some(()));
        let keymap = client.connection.query_keymap().unwrap().reply().unwrap();
        assert_eq!(keymap.keys, [0; 32], "{display:?}");
    }
}

#[test]
fn menus_lie_over_the_window_and_dialogs_are_centred() {
    let stage = Stage::new(Display::X11);
    let mut client = connect(&stage);
    let main = show(&stage, &mut client, 0x00ff_0000, RED);
    let menu = client.window((100, 100), 0x0000_ff00, true);
    let place = x11rb::protocol::xproto::ConfigureWindowAux::new().x(200).y(300);
    client.connection.configure_window(menu, &place).unwrap();
    client.map(menu);
    let frame = stage.color((250, 350), GREEN);
    assert!(is_color(&frame, (196, 350), RED) && is_color(&frame, (304, 350), RED));
    client.connection.unmap_window(menu).unwrap();
    client.connection.flush().unwrap();
    stage.color((250, 350), RED);

    let dialog = client.window((400, 200), 0x0000_00ff, false);
    let property = AtomEnum::WM_TRANSIENT_FOR;
    client.connection.change_property32(PropMode::REPLACE, dialog, property, AtomEnum::WINDOW, &[main]).unwrap();
    client.map(dialog);
    let frame = stage.color((640, 360), BLUE);
    assert!(
        is_color(&frame, (430, 360), RED) && is_color(&frame, (450, 270), BLUE) && is_color(&frame, (850, 470), RED)
    );
    client.connection.destroy_window(dialog).unwrap();
    client.connection.flush().unwrap();
    stage.color((640, 360), RED);
    client.until("focus again", |event| matches!(event, Event::FocusIn(n) if n.event == main).then_some(()));
}

#[test]
fn a_window_of_one_size_is_scaled_until_it_wants_the_full_screen() {
    let mut stage = Stage::new(Display::X11);
    let mut client = connect(&stage);
    let window = client.window((640, 480), 0x00ff_0000, false);
    let mut hints = WmSizeHints::new();
    hints.min_size = Some((640, 480));
    hints.max_size = Some((640, 480));
    hints.set_normal_hints(&client.connection, window).unwrap();
    client.map(window);
    client.until_exposed(window);
    let frame = stage.color((640, 360), RED);
    assert!(is_color(&frame, (150, 360), BLACK) && is_color(&frame, (1130, 360), BLACK));
    assert!(is_color(&frame, (166, 4), RED) && is_color(&frame, (1114, 716), RED));
    stage.input(InputEvent::PointerMove(position(160 + 300, 150, Size::HD)));
    client.until("scaled motion", |event| match event {
        Event::MotionNotify(n) if (n.event_x - 200).abs() <= 1 && (n.event_y - 100).abs() <= 1 => Some(()),
        _ => None,
    });
    let (state, fullscreen) = (client.atom("_NET_WM_STATE"), client.atom("_NET_WM_STATE_FULLSCREEN"));
    let message = ClientMessageEvent::new(32, window, state, [1, fullscreen, 0, 1, 0]);
    let mask = EventMask::SUBSTRUCTURE_NOTIFY | EventMask::SUBSTRUCTURE_REDIRECT;
    client.connection.send_event(false, client.root, mask, message).unwrap();
    client.connection.flush().unwrap();
    client.until_size(window, (1280, 720));
    stage.frame("the full screen", |frame| is_color(frame, (4, 4), RED) && is_color(frame, (1276, 716), RED));
}

#[test]
fn a_resize_reaches_the_screen_and_the_window() {
    for display in BOTH {
        let stage = Stage::new(display);
        let mut client = connect(&stage);
        let window = show(&stage, &mut client, 0x00ff_0000, RED);
        for size in [Size::new(800, 600).unwrap(), Size::new(1400, 700).unwrap()] {
            stage.source.resize(size);
            stage.wait("size", |output| matches!(output, Output::Size(told) if told == size).then_some(()));
            client.until_size(window, (size.width() as u16, size.height() as u16));
            let corner = (size.width() - 3, size.height() - 3);
            let frame = stage.color(corner, RED);
            assert_eq!(frame.picture.size(), size, "{display:?}");
            let start = Instant::now();
            loop {
                let root = client.connection.get_geometry(client.root).unwrap().reply().unwrap();
                if (u32::from(root.width), u32::from(root.height)) == (size.width(), size.height()) {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{display:?}: the X screen is {}x{}", root.width, root.height);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn the_clipboard_goes_both_ways() {
    for display in BOTH {
        let stage = Stage::new(display);
        let mut client = connect(&stage);
        let window = show(&stage, &mut client, 0x00ff_0000, RED);
        let (clipboard, utf8, property) = (client.atom("CLIPBOARD"), client.atom("UTF8_STRING"), client.atom("MINE"));

        stage.source.set_clipboard("from the player ☺".to_owned());
        let start = Instant::now();
        let text =
            loop {
                client.connection.convert_selection(window, clipboard, utf8, property, x11rb::CURRENT_TIME).unwrap();
                client.connection.flush().unwrap();
                let answer = client.until("selection", |event| {
                    if let Event::SelectionNotify(n) = event { Some(n.property) } else { None }
                });
                if answer != x11rb::NONE {
                    let reply = client.connection.get_property(true, window, property, utf8, 0, 10_000).unwrap();
                    break String::from_utf8(reply.reply().unwrap().value).unwrap();
                }
                assert!(start.elapsed() < PATIENCE, "{display:?}: no owner");
                std::thread::sleep(Duration::from_millis(10));
            };
        assert_eq!(text, "from the player ☺", "{display:?}");

        for copied in ["from the game".to_owned(), "ä".repeat(MAX_CLIPBOARD_BYTES)] {
            client.connection.set_selection_owner(window, clipboard, x11rb::CURRENT_TIME).unwrap();
            client.connection.flush().unwrap();
            let request = client.until("request", |event| match event {
                Event::SelectionRequest(n) if n.target == utf8 => Some(*n),
                _ => None,
            });
            let (requestor, to) = (request.requestor, request.property);
            client.connection.change_property8(PropMode::REPLACE, requestor, to, utf8, copied.as_bytes()).unwrap();
            let notify = SelectionNotifyEvent {
                response_type: SELECTION_NOTIFY_EVENT,
                sequence: 0,
                time: request.time,
                requestor,
                selection: clipboard,
                target: utf8,
                property: to,
            };
            client.connection.send_event(false, requestor, EventMask::NO_EVENT, notify).unwrap();
            client.connection.flush().unwrap();
            let told =
                stage.wait("copy", |output| if let Output::Clipboard(text) = output { Some(text) } else { None });
            assert!(told.len() <= MAX_CLIPBOARD_BYTES && copied.starts_with(&told) && told.len() > 10, "{display:?}");
        }
    }
}

#[test]
fn a_hidden_cursor_is_told() {
    for display in BOTH {
        let mut stage = Stage::new(display);
        let mut client = connect(&stage);
        let window = show(&stage, &mut client, 0x00ff_0000, RED);
        stage.input(InputEvent::PointerMove(position(300, 400, Size::HD)));
        client.until("motion", |event| matches!(event, Event::MotionNotify(_)).then_some(()));
        // As games do it: a cursor whose mask is empty.
        let (bitmap, cursor) = (client.connection.generate_id().unwrap(), client.connection.generate_id().unwrap());
        client.connection.create_pixmap(1, bitmap, client.root, 8, 8).unwrap();
        let gc = client.connection.generate_id().unwrap();
        client.connection.create_gc(gc, bitmap, &CreateGCAux::new().foreground(0)).unwrap();
        let all = Rectangle { x: 0, y: 0, width: 8, height: 8 };
        client.connection.poly_fill_rectangle(bitmap, gc, &[all]).unwrap();
        client.connection.create_cursor(cursor, bitmap, bitmap, 0, 0, 0, 0, 0, 0, 0, 0).unwrap();
        let attributes = ChangeWindowAttributesAux::new().cursor(cursor);
        client.connection.change_window_attributes(window, &attributes).unwrap();
        client.connection.flush().unwrap();
        let (mut hidden, mut locked) = (false, display == Display::X11);
        stage.wait("a hidden cursor", |output| {
            match output {
                Output::Cursor(cursor) => hidden = cursor == Cursor::Hidden,
                Output::PointerMode(mode) => locked = mode == PointerMode::Locked,
                Output::Frame(_) | Output::Clipboard(_) | Output::Size(_) | Output::Failed(_) => {}
            }
            (hidden && locked).then_some(())
        });
    }
}

/// The processes whose parent is this one, by name.
fn children(name: &str) -> Vec<i32> {
    let parent = std::process::id();
    let stat = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let (pid, comm) = head.split_once(" (")?;
        let mut fields = tail.split_whitespace();
        let (state, ppid) = (fields.next()?, fields.next()?);
        (comm == name && ppid == parent.to_string() && state != "Z").then(|| pid.parse().ok())?
    };
    std::fs::read_dir("/proc").unwrap().filter_map(stat).collect()
}

/// The child of this name that started last: tests run side by side.
fn child_with_socket(name: &str, directory: &Path) -> i32 {
    let mark = directory.to_string_lossy().into_owned();
    let start = Instant::now();
    loop {
        for pid in children(name) {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains(&mark) {
                return pid;
            }
        }
        assert!(start.elapsed() < PATIENCE, "no {name}");
    }
}

#[test]
fn a_killed_x_server_is_told_once_and_nothing_hangs() {
    for (display, name) in [(Display::X11, "Xwayland"), (Display::Xvfb, "Xvfb")] {
        let stage = Stage::new(display);
        let mut client = connect(&stage);
        show(&stage, &mut client, 0x00ff_0000, RED);
        let pid = child_with_socket(name, stage.directory.path());
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        let error = stage.wait("failure", |output| if let Output::Failed(error) = output { Some(error) } else { None });
        assert!(matches!(error, SourceError::XServerExited { .. }), "{display:?}: {error}");
        stage.source.request_frame();
        stage.source.stop();
        assert_eq!(std::fs::read_dir(stage.directory.path()).unwrap().count(), 0, "{display:?}");
    }
}

#[test]
fn several_run_at_once_and_leave_nothing() {
    let host_before = std::fs::read_dir("/tmp/.X11-unix").map(Iterator::count).unwrap_or(0);
    for display in BOTH {
        let stages: Vec<Stage> = (0..3).map(|_| Stage::new(display)).collect();
        let colors = [(0x00ff_0000, RED), (0x0000_ff00, GREEN), (0x0000_00ff, BLUE)];
        let clients: Vec<Client> = stages
            .iter()
            .zip(colors)
            .map(|(stage, (color, rgb))| {
                let mut client = connect(stage);
                show(stage, &mut client, color, rgb);
                client
            })
            .collect();
        for (stage, (_, rgb)) in stages.iter().zip(colors) {
            stage.source.request_frame();
            stage.color((640, 360), rgb);
        }
        assert_eq!(std::fs::read_dir("/tmp/.X11-unix").map(Iterator::count).unwrap_or(0), host_before);
        drop(clients);
        for stage in stages {
            let Stage { source, directory, .. } = stage;
            source.stop();
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{display:?}");
        }
    }
}

#[test]
fn a_flood_of_windows_does_not_stop_the_display() {
    let stage = Stage::new(Display::X11);
    let flood = connect(&stage);
    for _ in 0..3000 {
        let window = flood.window((10, 10), 0x00ff_0000, true);
        flood.connection.map_window(window).unwrap();
        flood.connection.destroy_window(window).unwrap();
    }
    flood.connection.flush().unwrap();
    flood.connection.sync().unwrap();
    let mut client = connect(&stage);
    show(&stage, &mut client, 0x0000_ff00, GREEN);
}
