//! A source whose output is recorded, and questions about its pictures.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod client;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use compositor::{Display, InputEvent, Source, SourceError, SourceSettings, SourceSink};
use media::{ColorMatrix, Frame, FrameRate, InputMark, Size};
use wire::{Cursor, PointerMode};

/// Generous, because the machine may be busy; nothing waits that long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const RED: [u8; 3] = [255, 0, 0];
pub const GREEN: [u8; 3] = [0, 255, 0];
pub const BLUE: [u8; 3] = [0, 0, 255];
pub const WHITE: [u8; 3] = [255, 255, 255];
pub const BLACK: [u8; 3] = [0, 0, 0];

#[derive(Debug)]
pub enum Output {
    Frame(Frame),
    Cursor(Cursor),
    PointerMode(PointerMode),
    Clipboard(String),
    Size(Size),
    Failed(SourceError),
}

struct Recorder(SyncSender<Output>);

impl Recorder {
    fn tell(&self, output: Output) {
        // A test that has seen enough does not listen any more.
        let _ = self.0.try_send(output);
    }
}

impl SourceSink for Recorder {
    fn frame(&mut self, frame: Frame) {
        self.tell(Output::Frame(frame));
    }
    fn cursor(&mut self, cursor: Cursor) {
        self.tell(Output::Cursor(cursor));
    }
    fn pointer_mode(&mut self, mode: PointerMode) {
        self.tell(Output::PointerMode(mode));
    }
    fn clipboard(&mut self, text: String) {
        self.tell(Output::Clipboard(text));
    }
    fn size(&mut self, size: Size) {
        self.tell(Output::Size(size));
    }
    fn failed(&mut self, error: SourceError) {
        self.tell(Output::Failed(error));
    }
}

/// A source in a directory of its own.
pub struct Stage {
    pub source: Source,
    pub outputs: Receiver<Output>,
    pub directory: tempfile::TempDir,
    sequence: u32,
}

impl Stage {
    pub fn new(display: Display) -> Stage {
        Stage::with_size(display, Size::HD)
    }

    pub fn with_size(display: Display, size: Size) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let (sender, outputs) = sync_channel(10_000);
        let settings = SourceSettings {
            size,
            frame_rate: FrameRate::FPS_60,
            display,
            runtime_dir: directory.path().to_owned(),
            matrix: ColorMatrix::Bt709,
            realtime: false,
        };
        let source = Source::start(settings, Box::new(Recorder(sender))).unwrap();
        Stage { source, outputs, directory, sequence: 0 }
    }

    /// Hands over an input; returns its sequence number.
    pub fn input(&mut self, event: InputEvent) -> u32 {
        self.sequence += 1;
        self.source.input(event, InputMark { sequence: self.sequence, delivered: Instant::now() });
        self.sequence
    }

    /// Waits for an output that `pick` takes; others are dropped.
    pub fn wait<T>(&self, what: &str, mut pick: impl FnMut(Output) -> Option<T>) -> T {
        self.look(PATIENCE, &mut pick).unwrap_or_else(|| panic!("no {what} came"))
    }

    /// Like [`Stage::wait`], but not for long, and nothing is an answer.
    pub fn look<T>(&self, patience: Duration, mut pick: impl FnMut(Output) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            match self.outputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(output) => {
                    if let Some(found) = pick(output) {
                        return Some(found);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits for a frame that looks like this.
    pub fn frame(&self, what: &str, mut accept: impl FnMut(&Frame) -> bool) -> Frame {
        self.wait(what, |output| match output {
            Output::Frame(frame) if accept(&frame) => Some(frame),
            _ => None,
        })
    }

    /// Waits for a frame with this colour at this place.
    pub fn color(&self, at: (u32, u32), color: [u8; 3]) -> Frame {
        self.frame(&format!("{color:?} at {at:?}"), |frame| is_color(frame, at, color))
    }

    /// Frames that come within this time.
    pub fn frames_within(&self, time: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.look(time, |output| {
            if let Output::Frame(frame) = output {
                frames.push(frame);
            }
            None::<()>
        });
        frames
    }

    pub fn pointer_mode(&self, wanted: PointerMode) {
        self.wait(&format!("{wanted:?}"), |output| {
            matches!(output, Output::PointerMode(mode) if mode == wanted).then_some(())
        });
    }
}

/// The colour of a pixel, by the inverse of BT.709 in limited range.
pub fn color_at(frame: &Frame, (x, y): (u32, u32)) -> [u8; 3] {
    let picture = &frame.picture;
    let (luma, u, v) = picture.planes();
    let chroma = (y / 2) as usize * picture.stride_uv() + (x / 2) as usize;
    let y = (f32::from(luma[y as usize * picture.stride_y() + x as usize]) - 16.0) * 255.0 / 219.0;
    let u = (f32::from(u[chroma]) - 128.0) * 255.0 / 224.0;
    let v = (f32::from(v[chroma]) - 128.0) * 255.0 / 224.0;
    [y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u].map(|value| value.round().clamp(0.0, 255.0) as u8)
}

pub fn is_color(frame: &Frame, at: (u32, u32), color: [u8; 3]) -> bool {
    let size = frame.picture.size();
    at.0 < size.width()
        && at.1 < size.height()
        && color_at(frame, at).iter().zip(color).all(|(have, want)| have.abs_diff(want) <= 6)
}

/// A fraction of the picture as the player's client gives it.
pub fn position(x: u32, y: u32, size: Size) -> wire::PointerPosition {
    let along = |pixel: u32, length: u32| ((pixel * 65_535 + (length - 1) / 2) / (length - 1)) as u16;
    wire::PointerPosition { x: along(x, size.width()), y: along(y, size.height()) }
}
