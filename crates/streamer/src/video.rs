//! The encoder's thread: takes the newest captured frame, encodes it, hands it on.
//!
//! One frame waits at most: a newer one replaces it, because a late picture is worth nothing. While nobody watches,
//! nothing is encoded, but the newest frame is kept so that the first picture needs no new frame from the game.
//! Deliberately absent: networking and policy (who watches, which bitrate) — those come in as commands.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use encode::{Choice, Encoder, OpenError, VideoSettings};
use media::{Bitrate, EncodedUnit, Frame, FrameRate, PooledPicture, VideoCodec};

/// A picture that no newer one replaced is encoded again this long after the last one, so that what motion left blurred
/// becomes sharp. Shorter would compete with the game's own next frame, longer leaves the blur visible.
const REFINE_AFTER: Duration = Duration::from_millis(60);

/// How often a congested path is asked again while a frame waits. Shorter wakes the thread for nothing, longer adds to the
/// frame's age once the path is free.
const ASK_AGAIN: Duration = Duration::from_millis(3);

/// How often a still picture is encoded again. Six bring x264 from motion's quality to 40 dB, twenty to 46 (measured with
/// FreeDM at 4 Mbit/s); each costs an encoding, and a still screen must end up costing nothing.
const REFINE_TIMES: u32 = 12;

/// What the encoder's thread reports.
pub(crate) trait VideoSink: Send + 'static {
    /// An encoded picture, to be sent at once. False when it was dropped: the next one has to be a key frame.
    fn unit(&mut self, unit: EncodedUnit) -> bool;
    /// An encoder was opened.
    fn opened(&mut self, name: &str);
    /// False while the path to the player is congested: a frame encoded now would only be late. Asked right before encoding.
    fn ready(&self) -> bool;
    /// No encoder can be opened for what the player's client decodes.
    fn failed(&mut self, error: OpenError);
}

#[derive(Debug, Default)]
struct State {
    /// Newest frame that was not encoded yet.
    waiting: Option<Frame>,
    /// Newest picture, encoded or not; shares its memory with the frame.
    newest: Option<PooledPicture>,
    /// What the watching client decodes; `None` while nobody watches.
    codec: Option<VideoCodec>,
    key: bool,
    bitrate: Bitrate,
    quit: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }
}

/// Commands the encoder's thread; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Video {
    shared: Arc<Shared>,
}

impl Video {
    /// Starts the thread.
    pub(crate) fn start(
        frame_rate: FrameRate,
        bitrate: Bitrate,
        choice: Choice,
        sink: Box<dyn VideoSink>,
        on_thread: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Video, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        shared.lock().bitrate = bitrate;
        let worker = Worker {
            shared: Arc::clone(&shared),
            sink,
            frame_rate,
            choice,
            encoder: None,
            last: None,
            refined: REFINE_TIMES,
        };
        let thread = thread::Builder::new().name("encode".into()).spawn(move || {
            let _end = crate::run::EndOnPanic("encode");
            on_thread();
            worker.run();
        })?;
        Ok((Video { shared }, thread))
    }

    /// The newest picture of the game.
    pub(crate) fn frame(&self, frame: Frame) {
        // What is replaced goes back to its pool outside the lock.
        let mut newest = Some(frame.picture.clone());
        let mut waiting = Some(frame);
        self.shared.change(|state| {
            std::mem::swap(&mut state.newest, &mut newest);
            std::mem::swap(&mut state.waiting, &mut waiting);
        });
    }

    /// The newest picture, when there is one.
    pub(crate) fn last_picture(&self) -> Option<PooledPicture> {
        self.shared.lock().newest.clone()
    }

    /// Somebody who decodes this watches from now on, or nobody.
    pub(crate) fn watch(&self, codec: Option<VideoCodec>) {
        self.shared.change(|state| {
            state.codec = codec;
            state.key = true;
        });
    }

    /// The next picture must be decodable alone.
    pub(crate) fn request_key(&self) {
        self.shared.change(|state| state.key = true);
    }

    /// Congestion control's newest limit.
    pub(crate) fn set_bitrate(&self, bitrate: Bitrate) {
        self.shared.change(|state| state.bitrate = bitrate);
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.shared.change(|state| state.quit = true);
    }
}

struct Worker {
    shared: Arc<Shared>,
    sink: Box<dyn VideoSink>,
    frame_rate: FrameRate,
    choice: Choice,
    encoder: Option<(VideoSettings, Encoder)>,
    last: Option<Frame>,
    refined: u32,
}

/// What to encode next.
struct Job {
    /// A new frame, or `None` to repeat the last one.
    frame: Option<Frame>,
    codec: VideoCodec,
    key: bool,
    bitrate: Bitrate,
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.next_job() {
            self.encode(job);
        }
    }

    /// Waits for work; `None` means quit.
    fn next_job(&mut self) -> Option<Job> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.quit {
                return None;
            }
            let Some(codec) = state.codec else {
                // Nobody watches: close the encoder, keep the newest picture.
                self.encoder = None;
                if let Some(frame) = state.waiting.take() {
                    self.last = Some(frame);
                }
                state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let repeat_for_key = state.key && self.last.is_some();
            let wait = if state.waiting.is_some() || repeat_for_key {
                if self.sink.ready() {
                    let key = std::mem::take(&mut state.key);
                    return Some(Job { frame: state.waiting.take(), codec, key, bitrate: state.bitrate });
                }
                ASK_AGAIN
            } else if self.last.is_some() && self.refined < REFINE_TIMES {
                REFINE_AFTER
            } else {
                state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (next, timeout) = shared.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            state = next;
            let still = state.waiting.is_none() && !state.key && state.codec.is_some() && !state.quit;
            if wait == REFINE_AFTER && timeout.timed_out() && still && self.sink.ready() {
                return Some(Job { frame: None, codec, key: false, bitrate: state.bitrate });
            }
        }
    }

    fn encode(&mut self, job: Job) {
        if let Some(frame) = job.frame {
            self.last = Some(frame);
            self.refined = 0;
        } else if let Some(last) = &mut self.last {
            // A repetition is as old as now: its content is still what the game shows.
            let now = Instant::now();
            (last.committed, last.captured) = (now, now);
            self.refined = self.refined.saturating_add(1);
        }
        let Some(frame) = self.last.take() else { return };
        if let Err(error) = self.ensure_encoder(&frame, job.codec, job.bitrate) {
            self.shared.lock().codec = None;
            self.sink.failed(error);
        } else if let Some((_, encoder)) = &mut self.encoder {
            match encoder.encode(&frame, job.key, Instant::now) {
                Ok(Some(unit)) => {
                    if !self.sink.unit(unit) {
                        self.shared.lock().key = true;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "encoding a frame failed; opening the encoder again");
                    self.encoder = None;
                    self.shared.lock().key = true;
                }
            }
        }
        self.last = Some(frame);
    }

    fn ensure_encoder(&mut self, frame: &Frame, codec: VideoCodec, bitrate: Bitrate) -> Result<(), OpenError> {
        let size = frame.picture.size();
        if let Some((settings, encoder)) = &mut self.encoder
            && settings.codec == codec
            && settings.size == size
            && settings.matrix == frame.picture.matrix
        {
            if settings.bitrate != bitrate {
                settings.bitrate = bitrate;
                if let Err(error) = encoder.set_bitrate(bitrate) {
                    tracing::warn!(%error, "the encoder did not take the new bitrate");
                }
            }
            return Ok(());
        }
        let mut settings = VideoSettings::new(codec, size, self.frame_rate, bitrate);
        settings.choice = self.choice;
        settings.matrix = frame.picture.matrix;
        self.encoder = None;
        let encoder = encode::open(&settings)?;
        self.sink.opened(encoder.name());
        self.encoder = Some((settings, encoder));
        Ok(())
    }
}
