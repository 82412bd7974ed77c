//! Gamepads in a real SDL program, in a real sandbox: the FUSE device mounted inside, served by the `gamepad` crate here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

mod world;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use gamepad::{Backend, Pads, Rumble};
use sandbox::{Exit, FuseDevice, Gamepads, Running, Sandbox};
use wire::{PadButtons, PadState};
use world::{Place, wait_for_log};

/// Compiles the SDL program into the package.
fn compile(place: &Place) {
    let output = Command::new("sh")
        .arg("-c")
        .arg("cc -O1 -o \"$1\" \"$2\" $(pkg-config --cflags --libs sdl2)")
        .args(["sh".as_ref(), place.path("package/pads").as_os_str()])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pads.c"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A sandbox with pads, and who serves them.
fn with_pads(place: &Place, mut sandbox: Sandbox) -> (Sandbox, Pads, Receiver<Rumble>) {
    let device = FuseDevice::open(sandbox.helper.as_deref()).unwrap();
    let (sender, rumbles) = sync_channel(100);
    let on_rumble = Box::new(move |rumble| sender.try_send(rumble).unwrap());
    let pads = Pads::start(Backend::Fuse(device.server_descriptor().unwrap()), on_rumble).unwrap();
    sandbox.gamepads = Gamepads::Fuse(device);
    sandbox.package = Some(place.path("package"));
    sandbox.env.extend(gamepad::environment().map(|(name, value)| (name.into(), value.into())));
    sandbox.env.push(("SDL_VIDEODRIVER".into(), "dummy".into()));
    (sandbox, pads, rumbles)
}

fn buttons(bits: u32) -> PadState {
    PadState { buttons: PadButtons(bits), ..PadState::default() }
}

#[test]
fn an_sdl_game_sees_buttons_axes_and_rumbles() {
    let place = Place::new();
    compile(&place);
    let (sandbox, pads, rumbles) = with_pads(&place, place.command(["/app/pads"]));
    play(&place, sandbox, &pads, &rumbles);
}

/// The same with devices of the kernel, of which SDL sees several.
#[test]
#[ignore = "needs /dev/uinput, which containers and small virtual machines lack; run with --ignored where it is"]
fn an_sdl_game_sees_the_kernels_own_pads() {
    let place = Place::new();
    compile(&place);
    std::fs::create_dir(place.path("input")).unwrap();
    let open = || OwnedFd::from(File::options().read(true).write(true).open("/dev/uinput").unwrap());
    let (sender, rumbles) = sync_channel(100);
    let on_rumble = Box::new(move |rumble| sender.try_send(rumble).unwrap());
    let backend = Backend::Uinput { devices: vec![open(), open()], directory: place.path("input") };
    let pads = Pads::start(backend, on_rumble).unwrap();
    let prepare = || {
        let mut sandbox = place.command(["/app/pads"]);
        sandbox.gamepads = Gamepads::Directory(place.path("input"));
        sandbox.package = Some(place.path("package"));
        sandbox.env.extend(gamepad::environment().map(|(name, value)| (name.into(), value.into())));
        sandbox.env.push(("SDL_VIDEODRIVER".into(), "dummy".into()));
        sandbox
    };
    play(&place, prepare(), &pads, &rumbles);
    pads.connect(1).unwrap();
    let mut game = prepare().start().unwrap();
    wait_for_log(&place, &mut game, "ready with 2 pads");
    game.stop(Duration::ZERO);
    game.wait();
    drop(pads);
    assert_eq!(std::fs::read_dir(place.path("input")).unwrap().count(), 0);
}

/// The round trip that every kind of pad must pass.
fn play(place: &Place, sandbox: Sandbox, pads: &Pads, rumbles: &Receiver<Rumble>) {
    pads.connect(0).unwrap();
    let mut game = sandbox.start().unwrap();
    let expect = |game: &mut Running, text: &str| wait_for_log(place, game, text);
    expect(&mut game, "ready with 1 pads");
    expect(&mut game, "added X360 Controller rumble 1 of 1");

    // In the W3C standard mapping's order; the game must see each as itself.
    let names =
        ["a", "b", "x", "y", "leftshoulder", "rightshoulder", "", "", "back", "start", "leftstick", "rightstick"];
    for (bit, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        pads.update(0, &buttons(1 << bit)).unwrap();
        expect(&mut game, &format!("\n{name} down"));
        pads.update(0, &buttons(0)).unwrap();
        expect(&mut game, &format!("\n{name} up"));
    }
    for (bit, name) in [(12, "dpup"), (13, "dpdown"), (14, "dpleft"), (15, "dpright")] {
        pads.update(0, &buttons(1 << bit)).unwrap();
        expect(&mut game, &format!("\n{name} down"));
    }
    pads.update(0, &buttons(0)).unwrap();
    let state = PadState { axes: [-32767, 12345, 20000, 32767], triggers: [255, 200], ..PadState::default() };
    pads.update(0, &state).unwrap();
    for axis in
        ["leftx -32767", "lefty 12345", "rightx 20000", "righty 32767", "lefttrigger 32767", "righttrigger 25699"]
    {
        expect(&mut game, &format!("\n{axis}\n"));
    }

    // START made the game rumble, and SDL stops it after 300 ms.
    expect(&mut game, "rumble 0");
    let started = rumbles.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!((started.slot, started.strong, started.weak), (0, 0x4000, 0x8000));
    assert_eq!(rumbles.recv_timeout(Duration::from_secs(5)).unwrap(), Rumble::default());

    // Pulled out and plugged in again.
    pads.disconnect(0).unwrap();
    expect(&mut game, "removed");
    pads.connect(0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while place.log().matches("added X360 Controller").count() < 2 {
        assert!(Instant::now() < deadline, "not seen again: {}", place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    pads.update(0, &buttons(1 << 16)).unwrap();
    assert_eq!(game.wait_timeout(Duration::from_secs(10)), Some(Exit::Code(0)), "{}", place.log());
}

#[test]
fn a_pad_that_comes_later_is_noticed() {
    let place = Place::new();
    compile(&place);
    let (sandbox, pads, _rumbles) = with_pads(&place, place.command(["/app/pads"]));
    let mut game = sandbox.start().unwrap();
    wait_for_log(&place, &mut game, "ready with 0 pads");
    let asked = Instant::now();
    pads.connect(0).unwrap();
    wait_for_log(&place, &mut game, "added X360 Controller");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

/// Reads the first event of every pad as programs without SDL do.
#[test]
fn every_pad_is_there_for_those_who_look() {
    let place = Place::new();
    let script = "ls /dev/input; for n in 0 1 2 3; do head -c 24 /dev/input/event$n | od -An -tu2 -j16 -N4; done; \
                  ls -A /dev/input/.plug; echo x > /dev/input/new; rm -f /dev/input/event0; ls /dev/input";
    let (sandbox, pads, _rumbles) = with_pads(&place, place.script(script));
    for slot in 0..4 {
        pads.connect(slot).unwrap();
    }
    let mut game = sandbox.start().unwrap();
    let mut bit = 0;
    let deadline = Instant::now() + Duration::from_secs(20);
    let exit = loop {
        // Toggled until read: the program opens one after the other.
        bit ^= 1;
        for slot in 0..4 {
            pads.update(slot, &buttons(bit << slot)).unwrap();
        }
        if let Some(exit) = game.wait_timeout(Duration::from_millis(20)) {
            break exit;
        }
        assert!(Instant::now() < deadline, "{}", place.log());
    };
    let log = place.log();
    let all = "event0\nevent1\nevent2\nevent3\n";
    assert_eq!(exit, Exit::Code(0), "{log}");
    assert!(log.starts_with(all) && log.ends_with(all), "{log}");
    for code in [304, 305, 307, 308] {
        assert!(log.contains(&format!("     1   {code}\n")), "{code} in {log}");
    }
}

/// A game that is killed while it blocks in a read must die, and so must one whose pads' server is gone.
#[test]
fn a_blocked_reader_can_be_killed() {
    let place = Place::new();
    let (sandbox, pads, _rumbles) = with_pads(&place, place.script("echo ready; cat /dev/input/event0"));
    pads.connect(0).unwrap();
    let mut game = sandbox.start().unwrap();
    wait_for_log(&place, &mut game, "ready");
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    game.stop(Duration::ZERO);
    assert_eq!(game.wait_timeout(Duration::from_secs(5)), Some(Exit::Signal(9)));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn the_end_of_the_server_is_the_end_of_the_device() {
    let place = Place::new();
    let (sandbox, pads, _rumbles) =
        with_pads(&place, place.script("echo ready; cat /dev/input/event0; echo over; ls /dev/input"));
    pads.connect(0).unwrap();
    let mut game = sandbox.start().unwrap();
    wait_for_log(&place, &mut game, "ready");
    std::thread::sleep(Duration::from_millis(100));
    drop(pads);
    wait_for_log(&place, &mut game, "over");
    assert!(game.wait_timeout(Duration::from_secs(5)).is_some());
}
