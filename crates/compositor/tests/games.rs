//! Real games from Debian's packages: something that changes must be seen.
#![allow(clippy::unwrap_used, clippy::let_underscore_must_use, reason = "a test's helpers fail like the test")]
#![allow(unreachable_pub, reason = "one support module serves several test programs")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use compositor::{Display, InputEvent, Sockets};
use media::Frame;
use support::{Output, Stage};
use wire::{Cursor, KeyCode, PointerMode};

struct Game(Child);

impl Drop for Game {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a game on the display. X11 games look in `/tmp/.X11-unix` alone, so they get a view of the file system of their
/// own; the network namespace hides other X servers' abstract sockets.
fn play(sockets: &Sockets, home: &std::path::Path, game: &[&str]) -> Game {
    let mut command = match (&sockets.wayland, &sockets.x11_dir) {
        (_, Some(dir)) => {
            let mut command = Command::new("unshare");
            if !rustix::process::getuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            let script = "mkdir -p /tmp/.X11-unix && mount --bind \"$0\" /tmp/.X11-unix && exec \"$@\"";
            command.args(["--mount", "--net", "sh", "-c", script]).arg(dir).args(game);
            command.env("DISPLAY", ":0").env("SDL_VIDEODRIVER", "x11").env_remove("WAYLAND_DISPLAY");
            command
        }
        (Some(path), None) => {
            let mut command = Command::new(game[0]);
            command.args(&game[1..]).env("WAYLAND_DISPLAY", path).env("SDL_VIDEODRIVER", "wayland");
            command.env_remove("DISPLAY");
            command
        }
        (None, None) => panic!("no display"),
    };
    command.env("HOME", home).env("XDG_RUNTIME_DIR", home).env("SDL_AUDIODRIVER", "dummy");
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    Game(command.spawn().unwrap())
}

/// Brightest luma, and how many of a grid of pixels are not black.
fn lit(frame: &Frame) -> (u8, usize) {
    let (luma, _, _) = frame.picture.planes();
    let sampled = luma.iter().step_by(997);
    (sampled.clone().copied().max().unwrap_or(0), sampled.filter(|value| **value > 24).count())
}

/// How many of a grid of pixels differ.
fn different(a: &Frame, b: &Frame) -> usize {
    let (a, b) = (a.picture.planes().0, b.picture.planes().0);
    a.iter().zip(b).step_by(997).filter(|(a, b)| a.abs_diff(**b) > 24).count()
}

const DOOM: [&str; 4] = ["/usr/games/chocolate-doom", "-iwad", "/usr/share/games/doom/freedm.wad", "-nosound"];

fn doom(display: Display) {
    let mut stage = Stage::new(display);
    let home = tempfile::tempdir().unwrap();
    let _game = play(&stage.source.sockets(), home.path(), &DOOM);
    let title = stage.frame("title", |frame| {
        let (brightest, count) = lit(frame);
        brightest > 120 && count > 300
    });
    // Enter opens the menu, which is drawn over the title.
    std::thread::sleep(Duration::from_millis(300));
    for pressed in [true, false] {
        stage.input(InputEvent::Key { code: KeyCode(28), pressed });
        std::thread::sleep(Duration::from_millis(60));
    }
    let menu = stage.frame("menu", |frame| different(&title, frame) > 20);
    assert!(menu.input.is_some());
    // The demo behind it, or the skull in front: it moves.
    stage.frame("motion", |frame| different(&menu, frame) > 0);
}

#[test]
fn doom_natively() {
    doom(Display::Wayland);
}

#[test]
fn doom_by_xwayland() {
    doom(Display::X11);
}

#[test]
fn doom_by_xvfb() {
    doom(Display::Xvfb);
}

#[test]
fn a_playing_doom_locks_and_hides_the_pointer() {
    let stage = Stage::new(Display::X11);
    let home = tempfile::tempdir().unwrap();
    let mut arguments = DOOM.to_vec();
    arguments.extend(["-warp", "1"]);
    let _game = play(&stage.source.sockets(), home.path(), &arguments);
    let (mut locked, mut hidden) = (false, false);
    stage.wait("a locked, hidden pointer", |output| {
        match output {
            Output::PointerMode(mode) => locked = mode == PointerMode::Locked,
            Output::Cursor(cursor) => hidden = cursor == Cursor::Hidden,
            Output::Frame(_) | Output::Clipboard(_) | Output::Size(_) | Output::Failed(_) => {}
        }
        (locked && hidden).then_some(())
    });
}

/// Games on OpenGL, which Mesa draws in software here.
#[test]
fn games_on_opengl_are_seen() {
    for game in ["/usr/games/armagetronad", "/usr/games/etr"] {
        let stage = Stage::new(Display::X11);
        let home = tempfile::tempdir().unwrap();
        let _game = play(&stage.source.sockets(), home.path(), &[game]);
        stage.frame(game, |frame| {
            let (brightest, count) = lit(frame);
            brightest > 150 && count > 15
        });
    }
}
