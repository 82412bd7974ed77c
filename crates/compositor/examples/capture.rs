//! Runs a program under a [`Source`], writes its last picture as PPM and says how fast it was captured.
//!
//! `cargo run -p compositor --example capture -- --display x11 --seconds 8 --out /tmp/a.ppm -- /usr/games/armagetronad`

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use compositor::{Display, InputEvent, Sockets, Source, SourceError, SourceSettings, SourceSink};
use media::{ColorMatrix, Frame, FrameRate, InputMark, PooledPicture, Size};
use wire::{Cursor, KeyCode, PointerMode};

#[derive(Default)]
struct Seen {
    last: Option<PooledPicture>,
    times: Vec<(Instant, Instant)>,
    notes: Vec<String>,
}

struct Sink(Arc<Mutex<Seen>>);

impl Sink {
    fn note(&self, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notes.push(note);
    }
}

impl SourceSink for Sink {
    fn frame(&mut self, frame: Frame) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.times.push((frame.committed, frame.captured));
        seen.last = Some(frame.picture);
    }
    fn cursor(&mut self, cursor: Cursor) {
        self.note(match cursor {
            Cursor::Image(image) => format!("cursor: {}x{}", image.width, image.height),
            other => format!("cursor: {other:?}"),
        });
    }
    fn pointer_mode(&mut self, mode: PointerMode) {
        self.note(format!("pointer: {mode:?}"));
    }
    fn clipboard(&mut self, text: String) {
        self.note(format!("clipboard: {text}"));
    }
    fn size(&mut self, size: Size) {
        self.note(format!("size: {size}"));
    }
    fn failed(&mut self, error: SourceError) {
        self.note(format!("failed: {error}"));
    }
}

struct Arguments {
    display: Display,
    size: Size,
    seconds: f64,
    out: Option<PathBuf>,
    /// Keys by evdev code, and when to press them.
    keys: Vec<(u16, f64)>,
    command: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let mut result = Arguments {
        display: Display::X11,
        size: Size::HD,
        seconds: 5.0,
        out: None,
        keys: Vec::new(),
        command: Vec::new(),
    };
    while let Some(name) = given.next() {
        if name == "--" {
            result.command = given.by_ref().collect();
            break;
        }
        let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = |text: &str| text.parse::<f64>().map_err(|error| format!("{text}: {error}"));
        match name.as_str() {
            "--display" => {
                result.display = match value.as_str() {
                    "wayland" => Display::Wayland,
                    "x11" => Display::X11,
                    "xvfb" => Display::Xvfb,
                    _ => return Err(format!("{value} is neither wayland nor x11 nor xvfb")),
                }
            }
            "--size" => {
                let (width, height) = value.split_once('x').ok_or("a size is like 1280x720")?;
                result.size = Size::new(number(width)? as u32, number(height)? as u32).map_err(|e| e.to_string())?;
            }
            "--seconds" => result.seconds = number(&value)?,
            "--out" => result.out = Some(value.into()),
            "--key" => {
                let (code, at) = value.split_once('@').ok_or("a key is like 28@2.5")?;
                result.keys.push((number(code)? as u16, number(at)?));
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if result.command.is_empty() { Err("no command after --".to_owned()) } else { Ok(result) }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let directory = std::env::temp_dir().join(format!("kite-capture-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let settings = SourceSettings {
        size: arguments.size,
        frame_rate: FrameRate::FPS_60,
        display: arguments.display,
        runtime_dir: directory.clone(),
        matrix: ColorMatrix::Bt709,
        realtime: true,
    };
    let source = Source::start(settings, Box::new(Sink(Arc::clone(&seen))))?;
    let sockets = source.sockets();
    let mut command = game(&arguments.command, &sockets);
    command.env("XDG_RUNTIME_DIR", &directory);
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut keys = arguments.keys.clone();
    keys.sort_by(|a, b| a.1.total_cmp(&b.1));
    for (sequence, (code, at)) in keys.into_iter().enumerate() {
        std::thread::sleep(Duration::from_secs_f64(at).saturating_sub(start.elapsed()));
        for pressed in [true, false] {
            let mark = InputMark { sequence: sequence as u32 + 1, delivered: Instant::now() };
            source.input(InputEvent::Key { code: KeyCode(code), pressed }, mark);
            std::thread::sleep(Duration::from_millis(60));
        }
    }
    std::thread::sleep(Duration::from_secs_f64(arguments.seconds).saturating_sub(start.elapsed()));
    source.stop();
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(&directory)?;
    report(&seen.lock().unwrap_or_else(PoisonError::into_inner), start, arguments.out)
}

/// The command with its display. X11 programs look for theirs in `/tmp/.X11-unix` alone, so they get a view of the file
/// system of their own; the network namespace hides other X servers' abstract sockets.
fn game(command: &[String], sockets: &Sockets) -> Command {
    match (&sockets.wayland, &sockets.x11_dir) {
        (_, Some(dir)) => {
            let mut wrapped = Command::new("unshare");
            if !rustix::process::getuid().is_root() {
                wrapped.args(["--user", "--map-root-user"]);
            }
            let script = "mkdir -p /tmp/.X11-unix && mount --bind \"$0\" /tmp/.X11-unix && exec \"$@\"";
            wrapped.args(["--mount", "--net", "sh", "-c", script]).arg(dir).args(command);
            wrapped.env("DISPLAY", ":0").env("SDL_VIDEODRIVER", "x11").env_remove("WAYLAND_DISPLAY");
            wrapped
        }
        (wayland, None) => {
            let mut plain = Command::new(&command[0]);
            plain.args(&command[1..]).env("SDL_VIDEODRIVER", "wayland").env_remove("DISPLAY");
            plain.envs(wayland.iter().map(|path| ("WAYLAND_DISPLAY", path)));
            plain
        }
    }
}

#[expect(clippy::print_stdout, reason = "a tool that prints its result")]
fn report(seen: &Seen, start: Instant, out: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    for note in &seen.notes {
        println!("{note}");
    }
    let Some(((first, _), (last, _))) = seen.times.first().zip(seen.times.last()) else {
        return Err("no picture came".into());
    };
    let mut latencies: Vec<_> = seen.times.iter().map(|(committed, captured)| *captured - *committed).collect();
    latencies.sort();
    let percent = |part: usize| latencies[(latencies.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let mut gaps: Vec<_> = seen.times.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    gaps.sort();
    println!(
        "frames {} first after {:.0} ms, {:.1} fps, commit to captured ms: p50 {:.2} p99 {:.2}, longest gap {:.0} ms",
        seen.times.len(),
        (*first - start).as_secs_f64() * 1000.0,
        (seen.times.len() - 1) as f64 / (*last - *first).as_secs_f64().max(1e-9),
        percent(50),
        percent(99),
        gaps.last().copied().unwrap_or_default().as_secs_f64() * 1000.0,
    );
    if let (Some(path), Some(picture)) = (out, &seen.last) {
        std::fs::write(path, ppm(picture))?;
    }
    Ok(())
}

/// The picture as PPM, by the inverse of BT.709 in limited range.
fn ppm(picture: &PooledPicture) -> Vec<u8> {
    let (width, height) = (picture.size().width() as usize, picture.size().height() as usize);
    let (y_plane, u_plane, v_plane) = picture.planes();
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    for row in 0..height {
        for column in 0..width {
            let chroma = row / 2 * picture.stride_uv() + column / 2;
            let y = (f32::from(y_plane[row * picture.stride_y() + column]) - 16.0) * 255.0 / 219.0;
            let u = (f32::from(u_plane[chroma]) - 128.0) * 255.0 / 224.0;
            let v = (f32::from(v_plane[chroma]) - 128.0) * 255.0 / 224.0;
            for value in [y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u] {
                bytes.push(value.round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    bytes
}
