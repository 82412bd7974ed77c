//! A real game, started as a node starts it, on a display of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]
#![allow(clippy::print_stdout, reason = "the times are for whoever runs it with --nocapture")]

mod world;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::Exit;
use world::{Place, is_root};

/// An Xvfb whose picture is a file and whose socket is `x11/X0` in the place.
struct Display {
    server: Child,
}

impl Display {
    /// It must not reset: a game that closes its only connection and opens another would be turned away meanwhile.
    /// Namespaces of its own, because servers of one machine share the paths and abstract names of their sockets: one
    /// that ends removes the socket of the next, and both compile their keyboard into one file.
    fn start(place: &Place) -> Self {
        fs::create_dir(place.path("x11")).unwrap();
        let script = "mount -t tmpfs kite /var/lib/xkb && mount --bind \"$0/x11\" /tmp/.X11-unix && \
                      exec Xvfb :0 -nolock -displayfd 1 -screen 0 640x400x24 -nolisten tcp -ac -noreset -fbdir \"$0\"";
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.arg("--map-root-user");
        }
        let mut server = unshare
            .args(["--mount", "--net", "sh", "-c", script])
            .arg(place.root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        // It says its number once it listens.
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "0\n", "Xvfb does not start");
        Self { server }
    }

    /// How many different pixel values the screen shows.
    fn colours(&self, place: &Place) -> usize {
        let file = fs::read(place.path("Xvfb_screen0")).unwrap_or_default();
        let mut pixels: Vec<&[u8]> = file.get(4096..).unwrap_or_default().chunks_exact(4).collect();
        pixels.sort_unstable();
        pixels.dedup();
        pixels.len()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// Starts a game and waits for its picture; it must leave something at `kept` in its home.
fn check<const N: usize>(command: [&str; N], settings: &[&str], kept: &str) {
    let place = Place::new();
    let display = Display::start(&place);
    let mut sandbox = place.command(command);
    sandbox.runtime.extra = settings.iter().map(Into::into).collect();
    sandbox.sockets.x11_dir = Some(place.path("x11"));
    sandbox.env.push(("SDL_VIDEODRIVER".into(), "x11".into()));
    sandbox.env.push(("SDL_AUDIODRIVER".into(), "dummy".into()));
    let began = Instant::now();
    let mut game = sandbox.start().unwrap();
    while display.colours(&place) < 50 {
        assert!(began.elapsed() < Duration::from_secs(60), "no picture: {}", place.log());
        assert_eq!(game.try_wait(), None, "{}", place.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{}: first picture after {:?}, {:?}", command[0], began.elapsed(), game.usage());
    assert!(place.path("home").join(kept).exists(), "{}", place.log());
    game.stop(Duration::from_secs(5));
    let exit = game.wait_timeout(Duration::from_secs(10)).expect("it ends");
    assert!(matches!(exit, Exit::Code(_) | Exit::Signal(_)), "{exit:?}");
}

#[test]
fn chocolate_doom_draws_its_title() {
    let wad = "/usr/share/games/doom/freedm.wad";
    let command = ["chocolate-doom", "-iwad", wad, "-nosound", "-window", "-geometry", "640x400"];
    check(command, &[], ".local/share/chocolate-doom");
}

#[test]
fn extreme_tux_racer_draws_with_software_gl() {
    // It keeps nothing before its first race.
    check(["etr"], &[], "");
}

#[test]
fn armagetron_finds_its_settings() {
    check(["armagetronad"], &["/etc/armagetronad"], ".armagetronad");
}
