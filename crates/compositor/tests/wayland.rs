//! A real Wayland client against the compositor.
#![allow(clippy::unwrap_used, clippy::let_underscore_must_use, reason = "a test's helpers fail like the test")]
#![allow(unreachable_pub, reason = "one support module serves several test programs")]

mod support;

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use compositor::{Display, InputEvent, MAX_CLIPBOARD_BYTES};
use media::{ColorMatrix, Size};
use support::client::{Client, opaque};
use support::{BLACK, BLUE, GREEN, Output, RED, Stage, WHITE, color_at, is_color, position};
use wayland_client::protocol::wl_subcompositor::WlSubcompositor;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_device_v1::Shape;
use wayland_protocols::wp::cursor_shape::v1::client::wp_cursor_shape_manager_v1::WpCursorShapeManagerV1;
use wayland_protocols::xdg::shell::client::xdg_positioner::{Anchor, Gravity};
use wire::{Button, Cursor, KeyCode, PointerMode, TouchPhase};

fn stage() -> (Stage, Client) {
    let stage = Stage::new(Display::Wayland);
    let client = Client::connect(&stage.source.sockets().wayland.unwrap());
    (stage, client)
}

#[test]
fn a_commit_becomes_a_frame_and_the_buffer_comes_back() {
    let (stage, mut client) = stage();
    let window = client.window();
    assert_eq!(client.told.configured, Some((1280, 720)));
    let red = client.buffer((1280, 720), opaque(RED));
    let before = Instant::now();
    client.show(&window.surface, &red);
    let frame = stage.frame("frame", |_| true);
    assert_eq!(frame.picture.size(), Size::HD);
    for at in [(0, 0), (1279, 0), (0, 719), (1279, 719), (640, 360)] {
        assert!(is_color(&frame, at, RED), "{:?} at {at:?}", color_at(&frame, at));
    }
    assert!(frame.committed >= before && frame.captured >= frame.committed);
    assert_eq!(frame.input, None);
    client.until("release", |told| told.released.values().sum::<u32>() == 1);
    client.until("frame callback", |told| told.callbacks == 1);
    // The same buffer again, with other pixels.
    std::os::unix::fs::FileExt::write_all_at(&red.file, &[0, 255, 0, 0].repeat(1280 * 720), 0).unwrap();
    client.show(&window.surface, &red);
    stage.color((640, 360), GREEN);
    client.until("second release", |told| told.released.values().sum::<u32>() == 2);
}

#[test]
fn input_reaches_the_game_and_marks_the_answer() {
    let (mut stage, mut client) = stage();
    let (window, buffer) = client.colored_window(RED);
    stage.color((1, 1), RED);
    client.until("focus", |told| told.keyboard_inside && told.pointer_inside);
    assert_eq!(client.told.repeat_rate, Some(0));
    let size = Size::HD;
    stage.input(InputEvent::PointerMove(position(100, 200, size)));
    for pressed in [true, false] {
        stage.input(InputEvent::Key { code: KeyCode(30), pressed });
        stage.input(InputEvent::Button { button: Button::Right, pressed });
    }
    stage.input(InputEvent::Wheel { x: 0, y: -120 });
    stage.input(InputEvent::Touch { id: 3, phase: TouchPhase::Start, position: position(10, 20, size) });
    stage.input(InputEvent::Touch { id: 3, phase: TouchPhase::Move, position: position(30, 40, size) });
    let last = stage.input(InputEvent::Touch { id: 3, phase: TouchPhase::End, position: position(30, 40, size) });
    client.until("touches", |told| told.touches.len() == 3);
    assert_eq!(client.told.keys, [(30, true), (30, false)]);
    assert_eq!(client.told.buttons, [(0x111, true), (0x111, false)]);
    assert_eq!(client.told.axis, [(true, -120)]);
    assert_eq!(client.told.touches, ["down 3 10 20", "move 3 30 40", "up 3"]);
    let (x, y) = client.told.pointer.unwrap();
    assert!((x - 100.0).abs() < 0.1 && (y - 200.0).abs() < 0.1, "{x} {y}");
    client.show(&window.surface, &buffer);
    let frame = stage.frame("answer", |_| true);
    assert_eq!(frame.input.map(|mark| mark.sequence), Some(last));
}

#[test]
fn release_all_lets_go_of_everything() {
    let (mut stage, mut client) = stage();
    client.colored_window(RED);
    client.until("focus", |told| told.keyboard_inside && told.pointer_inside);
    stage.input(InputEvent::Key { code: KeyCode(42), pressed: true });
    stage.input(InputEvent::Key { code: KeyCode(42), pressed: true });
    stage.input(InputEvent::Button { button: Button::Left, pressed: true });
    stage.input(InputEvent::Touch { id: 0, phase: TouchPhase::Start, position: position(10, 20, Size::HD) });
    stage.input(InputEvent::ReleaseAll);
    client.until("release", |told| told.touches.len() == 2 && told.buttons.len() == 2);
    assert_eq!(client.told.keys, [(42, true), (42, false)]);
    assert_eq!(client.told.buttons, [(0x110, true), (0x110, false)]);
    assert_eq!(client.told.touches, ["down 0 10 20", "up 0"]);
}

#[test]
fn text_is_written_by_keys_and_by_a_keymap() {
    let (mut stage, mut client) = stage();
    client.colored_window(RED);
    client.until("focus", |told| told.keyboard_inside && !told.keymaps.is_empty());
    stage.input(InputEvent::Text("Hé".to_owned()));
    client.until("keys", |told| told.keys.len() >= 6);
    let keys: Vec<u32> = client.told.keys.iter().filter(|(_, pressed)| *pressed).map(|(key, _)| *key).collect();
    assert_eq!(keys, [42, 35, 241]);
    let keymap = client.told.keymaps.last().unwrap();
    assert!(keymap.contains("eacute"), "the spare key writes it");
}

#[test]
fn a_lock_asked_before_the_focus_becomes_active() {
    let (mut stage, mut client) = stage();
    let window = client.window();
    client.relative_pointer();
    let lock = client.lock_pointer(&window.surface);
    let buffer = client.buffer((1280, 720), opaque(BLUE));
    client.show(&window.surface, &buffer);
    client.until("lock", |told| told.locked);
    stage.pointer_mode(PointerMode::Locked);
    let before = client.told.pointer;
    stage.input(InputEvent::PointerMotion { dx: 160, dy: -40 });
    client.until("relative motion", |told| told.relative == (10.0, -2.5));
    // Positions of a browser that did not lock its pointer turn the view too.
    stage.input(InputEvent::PointerMove(position(740, 360, Size::HD)));
    client.until("relative motion", |told| told.relative.0 > 50.0);
    assert_eq!(client.told.pointer, before, "a locked pointer does not move");
    lock.destroy();
    client.roundtrip();
    stage.pointer_mode(PointerMode::Absolute);
}

#[test]
fn cursors_are_told_and_not_drawn() {
    let (stage, mut client) = stage();
    client.colored_window(GREEN);
    client.until("pointer", |told| told.pointer_inside);
    let serial = client.told.pointer_serial;
    let cursor =
        |what: &str| stage.wait(what, |output| if let Output::Cursor(cursor) = output { Some(cursor) } else { None });

    client.pointer.set_cursor(serial, None, 0, 0);
    client.roundtrip();
    assert_eq!(cursor("hidden"), Cursor::Hidden);

    let manager: WpCursorShapeManagerV1 = client.globals.bind(&client.handle, 1..=1, ()).unwrap();
    manager.get_pointer(&client.pointer, &client.handle, ()).set_shape(serial, Shape::Crosshair);
    client.roundtrip();
    assert_eq!(cursor("shape"), Cursor::Named("crosshair".to_owned()));

    let surface = client.compositor.create_surface(&client.handle, ());
    let half_red = client.buffer((8, 6), [128, 0, 0, 128]);
    client.show(&surface, &half_red);
    client.pointer.set_cursor(serial, Some(&surface), 2, 3);
    client.roundtrip();
    let Cursor::Image(image) = cursor("image") else { panic!("no image") };
    assert_eq!((image.width, image.height, image.hotspot_x, image.hotspot_y), (8, 6, 2, 3));
    assert_eq!(image.rgba, [255, 0, 0, 128].repeat(48), "straight alpha");

    // One larger than allowed is cut.
    let large = client.buffer((300, 10), opaque(WHITE));
    client.show(&surface, &large);
    let Cursor::Image(image) = cursor("large image") else { panic!("no image") };
    assert_eq!((image.width, image.height), (128, 10));
    client.until("release", |told| told.released.len() >= 2);
    let frames = stage.frames_within(Duration::from_millis(100));
    assert!(frames.iter().all(|frame| is_color(frame, (640, 360), GREEN)));
}

#[test]
fn the_clipboard_goes_both_ways() {
    let (stage, mut client) = stage();
    let (manager, device) = client.data_device();
    client.colored_window(WHITE);
    client.until("focus", |told| told.keyboard_inside);

    stage.source.set_clipboard("from the player ☺".to_owned());
    client.until("offer", |told| told.offer.is_some());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    client.told.offer.take().unwrap().receive("text/plain;charset=utf-8".to_owned(), writer.as_fd());
    drop(writer);
    client.roundtrip();
    let mut text = String::new();
    std::fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the player ☺");

    let mut copied = |text: &str| {
        client.told.copies = text.to_owned();
        let source = manager.create_data_source(&client.handle, ());
        source.offer("text/plain".to_owned());
        device.set_selection(Some(&source), client.told.pointer_serial);
        client.connection.flush().unwrap();
        let start = Instant::now();
        loop {
            client.roundtrip();
            let told = stage.look(Duration::from_millis(20), |output| {
                if let Output::Clipboard(text) = output { Some(text) } else { None }
            });
            if let Some(text) = told {
                return text;
            }
            assert!(start.elapsed() < support::PATIENCE, "the player was not told");
        }
    };
    assert_eq!(copied("from the game"), "from the game");
    let long = copied(&"ä".repeat(MAX_CLIPBOARD_BYTES));
    assert!(long.len() <= MAX_CLIPBOARD_BYTES && long.chars().all(|c| c == 'ä'), "{}", long.len());
}

#[test]
fn a_resize_reaches_the_game_and_the_frames() {
    let (stage, mut client) = stage();
    let (window, _buffer) = client.colored_window(RED);
    stage.color((1, 1), RED);
    let size = Size::new(800, 600).unwrap();
    stage.source.resize(size);
    stage.wait("size", |output| matches!(output, Output::Size(told) if told == size).then_some(()));
    let scaled = stage.frame("the old picture, scaled", |frame| frame.picture.size() == size);
    assert!(is_color(&scaled, (400, 300), RED) && is_color(&scaled, (400, 10), BLACK), "letterboxed");
    client.until("configure", |told| told.configured == Some((800, 600)));
    let green = client.buffer((800, 600), opaque(GREEN));
    client.show(&window.surface, &green);
    let frame = stage.color((799, 599), GREEN);
    assert_eq!(frame.picture.size(), size);
}

#[test]
fn a_small_window_is_scaled_with_its_pointer() {
    let (mut stage, mut client) = stage();
    let window = client.window();
    let small = client.buffer((640, 480), opaque(BLUE));
    client.show(&window.surface, &small);
    let frame = stage.color((640, 360), BLUE);
    // 960 x 720 in the middle.
    assert!(is_color(&frame, (150, 360), BLACK) && is_color(&frame, (1130, 360), BLACK));
    assert!(is_color(&frame, (164, 4), BLUE) && is_color(&frame, (1116, 716), BLUE));
    client.until("pointer", |told| told.pointer_inside);
    stage.input(InputEvent::PointerMove(position(160 + 300, 150, Size::HD)));
    client
        .until("motion", |told| told.pointer.is_some_and(|(x, y)| (x - 200.0).abs() < 0.2 && (y - 100.0).abs() < 0.2));
}

#[test]
fn popups_subsurfaces_and_dialogs_are_composed() {
    let (mut stage, mut client) = stage();
    let (window, _red) = client.colored_window(RED);
    stage.color((1, 1), RED);

    let positioner = client.shell.create_positioner(&client.handle, ());
    positioner.set_size(200, 100);
    positioner.set_anchor_rect(300, 200, 1, 1);
    positioner.set_anchor(Anchor::BottomRight);
    positioner.set_gravity(Gravity::BottomRight);
    let surface = client.compositor.create_surface(&client.handle, ());
    let xdg = client.shell.get_xdg_surface(&surface, &client.handle, ());
    let popup = xdg.get_popup(Some(&window.xdg), &positioner, &client.handle, ());
    surface.commit();
    client.until("popup", |told| told.popup_configured);
    let green = client.buffer((200, 100), opaque(GREEN));
    client.show(&surface, &green);
    let frame = stage.color((400, 250), GREEN);
    for (at, color) in [((298, 198), RED), ((304, 204), GREEN), ((498, 298), GREEN), ((504, 304), RED)] {
        assert!(is_color(&frame, at, color), "{:?} at {at:?}", color_at(&frame, at));
    }
    // The popup has the pointer there.
    stage.input(InputEvent::PointerMove(position(311, 221, Size::HD)));
    client.until("pointer on the popup", |told| {
        told.pointer.is_some_and(|(x, y)| (x - 10.0).abs() < 0.2 && (y - 20.0).abs() < 0.2)
    });

    // A half transparent blue subsurface over the red window.
    let subcompositor: WlSubcompositor = client.globals.bind(&client.handle, 1..=1, ()).unwrap();
    let child = client.compositor.create_surface(&client.handle, ());
    let sub = subcompositor.get_subsurface(&child, &window.surface, &client.handle, ());
    sub.set_position(600, 400);
    sub.set_desync();
    let half = client.buffer((100, 100), [0, 0, 128, 128]);
    client.show(&child, &half);
    window.surface.commit();
    client.roundtrip();
    let frame = stage.frame("blend", |frame| is_color(frame, (650, 450), [127, 0, 128]));
    assert!(is_color(&frame, (590, 450), RED) && is_color(&frame, (400, 250), GREEN));

    popup.destroy();
    xdg.destroy();
    child.attach(None, 0, 0);
    child.commit();
    client.roundtrip();
    stage.frame("the window alone", |frame| is_color(frame, (400, 250), RED) && is_color(frame, (650, 450), RED));
}

#[test]
fn a_static_screen_is_silent_until_asked() {
    let (stage, mut client) = stage();
    let (window, _buffer) = client.colored_window(WHITE);
    stage.color((1, 1), WHITE);
    for _ in 0..20 {
        // Commits without a new picture.
        window.surface.frame(&client.handle, ());
        window.surface.commit();
        client.roundtrip();
    }
    assert_eq!(stage.frames_within(Duration::from_millis(200)).len(), 0);
    let asked = Instant::now();
    stage.source.request_frame();
    let frame = stage.color((640, 360), WHITE);
    assert!(frame.committed >= asked);
    assert_eq!(stage.frames_within(Duration::from_millis(100)).len(), 0);
}

#[test]
fn before_the_first_window_a_request_shows_black() {
    let stage = Stage::new(Display::Wayland);
    assert_eq!(stage.frames_within(Duration::from_millis(50)).len(), 0);
    // What a player's arrival changes is no sign of life of the game.
    stage.source.set_matrix(ColorMatrix::Bt601);
    stage.source.resize(Size::new(640, 360).unwrap());
    assert_eq!(stage.frames_within(Duration::from_millis(200)).len(), 0);
    stage.source.resize(Size::HD);
    stage.source.request_frame();
    stage.color((640, 360), BLACK);
}

#[test]
fn a_fast_game_is_capped_and_its_last_picture_comes_out() {
    let (stage, mut client) = stage();
    let window = client.window();
    let buffers: Vec<_> = (0..8_u8).map(|i| client.buffer((1280, 720), opaque([i * 30, 0, 0]))).collect();
    let last = client.buffer((1280, 720), opaque(BLUE));
    let start = Instant::now();
    let mut commits = 0;
    while start.elapsed() < Duration::from_secs(1) {
        client.show(&window.surface, &buffers[commits % 8]);
        commits += 1;
        client.queue.dispatch_pending(&mut client.told).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    client.show(&window.surface, &last);
    let elapsed = start.elapsed();
    let frames = stage.frames_within(Duration::from_millis(300));
    let cap = elapsed.as_secs_f64() * 60.0 + 4.0;
    assert!(frames.len() as f64 <= cap, "{} frames of {commits} commits in {elapsed:?}", frames.len());
    assert!(frames.len() > 10, "{} frames", frames.len());
    assert!(is_color(frames.last().unwrap(), (9, 9), BLUE), "the last picture");
}

#[test]
fn frame_callbacks_come_at_the_frame_rate_and_hurry_after_input() {
    let (mut stage, mut client) = stage();
    let (window, buffer) = client.colored_window(RED);
    let start = Instant::now();
    let mut drawn = 1;
    while start.elapsed() < Duration::from_secs(1) {
        client.queue.blocking_dispatch(&mut client.told).unwrap();
        if client.told.callbacks >= drawn {
            drawn += 1;
            client.show(&window.surface, &buffer);
        }
        if drawn % 10 == 0 {
            stage.input(InputEvent::PointerMotion { dx: 16, dy: 0 });
        }
    }
    assert!(drawn <= 64, "{drawn} frames in a second");
    assert!(drawn >= 20, "{drawn} frames in a second");
}

#[test]
fn a_client_that_takes_its_memory_away_dies_alone() {
    let (stage, mut client) = stage();
    let (window, buffer) = client.colored_window(RED);
    stage.color((1, 1), RED);
    buffer.file.set_len(4096).unwrap();
    client.show(&window.surface, &buffer);
    let start = Instant::now();
    while client.queue.roundtrip(&mut client.told).is_ok() {
        assert!(start.elapsed() < support::PATIENCE, "the client was not disconnected");
    }
    // The next client of the same compositor works.
    let mut other = Client::connect(&stage.source.sockets().wayland.unwrap());
    other.colored_window(GREEN);
    stage.color((640, 360), GREEN);
}

#[test]
fn surfaces_that_are_gone_do_not_count() {
    let (stage, mut client) = stage();
    for _ in 0..30 {
        for _ in 0..100 {
            client.compositor.create_surface(&client.handle, ()).destroy();
        }
        client.roundtrip();
    }
    client.colored_window(GREEN);
    stage.color((640, 360), GREEN);
}

#[test]
fn a_client_with_too_many_surfaces_is_disconnected() {
    let (stage, mut client) = stage();
    for _ in 0..1100 {
        client.compositor.create_surface(&client.handle, ());
    }
    let start = Instant::now();
    while client.queue.roundtrip(&mut client.told).is_ok() {
        assert!(start.elapsed() < support::PATIENCE, "the client was not disconnected");
    }
    let mut other = Client::connect(&stage.source.sockets().wayland.unwrap());
    other.colored_window(GREEN);
    stage.color((640, 360), GREEN);
}

#[test]
fn a_game_that_does_not_read_for_a_while_loses_nothing() {
    let (mut stage, mut client) = stage();
    client.relative_pointer();
    client.colored_window(RED);
    client.until("focus", |told| told.pointer_inside);
    for i in 0..6000_u32 {
        // Spread so that the source's own queue is not what is tried here.
        if i % 1000 == 999 {
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.input(InputEvent::PointerMotion { dx: 16, dy: 0 });
    }
    std::thread::sleep(Duration::from_millis(200));
    client.until("all motion", |told| told.relative.0 == 6000.0);
}

#[test]
fn sockets_go_with_the_source() {
    let stage = Stage::new(Display::Wayland);
    let path = stage.source.sockets().wayland.unwrap();
    assert!(path.exists());
    stage.source.stop();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(stage.directory.path()).unwrap().count(), 0);
}

#[test]
fn two_sources_do_not_share_a_directory() {
    let stage = Stage::new(Display::Wayland);
    let settings = compositor::SourceSettings {
        size: Size::HD,
        frame_rate: media::FrameRate::FPS_60,
        display: Display::Wayland,
        runtime_dir: stage.directory.path().to_owned(),
        matrix: media::ColorMatrix::Bt709,
        realtime: false,
    };
    struct Nobody;
    impl compositor::SourceSink for Nobody {
        fn frame(&mut self, _: media::Frame) {}
        fn cursor(&mut self, _: Cursor) {}
        fn pointer_mode(&mut self, _: PointerMode) {}
        fn clipboard(&mut self, _: String) {}
        fn size(&mut self, _: Size) {}
        fn failed(&mut self, _: compositor::SourceError) {}
    }
    let error = compositor::Source::start(settings, Box::new(Nobody)).unwrap_err();
    assert!(matches!(error, compositor::StartError::Listen { .. }), "{error}");
}
