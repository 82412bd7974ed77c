//! Puts the parts of a session together, and the main thread's loop: waits, ends, statistics, the agent.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use api::streamer::{CONTROL_FD, FromStreamer, StreamerSettings, ToStreamer};
use compositor::{Source, SourceError};
use encode::OpenError;
use media::{ColorMatrix, FrameRate, Size, VideoCodec};
use transport::Channel;
use wire::{Cursor, PROTOCOL_VERSION, PointerMode, ServerMessage};

use crate::agent::{self, AgentError, AgentWriter};
use crate::ledger::Ledger;
use crate::net::{Net, NetHandle, OfferAnswer};
use crate::pads::Pads;
use crate::router::Router;
use crate::screenshot::{Camera, ScreenshotError};
use crate::session::{EndReason, Phase, Session};
use crate::settings::{self, SettingsError};
use crate::sinks::{FrameOut, PeerOut, UnitOut};
use crate::video::Video;
use crate::{sound, sys};

/// Events that wait for the main thread. It answers each in microseconds; more would only hide that it hangs.
const EVENTS: usize = 256;

/// How often the player gets statistics.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// Every how many of those the agent gets them too.
const AGENT_STATISTICS_EVERY: u32 = 5;

/// How long the goodbye may take to leave before the sockets close. It is a few datagrams.
const GOODBYE: Duration = Duration::from_millis(150);

/// Something for the main thread.
#[derive(Debug)]
pub(crate) enum Event {
    Agent(Result<ToStreamer, AgentError>),
    Answer(u64, OfferAnswer),
    Screenshot(u64, Result<PathBuf, ScreenshotError>),
    Connected,
    Lost,
    /// The player's client introduced itself: tell it how things are.
    Hello,
    Resize(Size),
    FirstFrame,
    SizeChanged(Size),
    Cursor(Cursor),
    PointerMode(PointerMode),
    Clipboard(String),
    SourceFailed(SourceError),
    EncoderOpened(String),
    EncoderFailed(OpenError),
    SoundFailed(String),
}

/// Why a streamer could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing is open at [`CONTROL_FD`]: this program is started by the node agent, not by hand.
    #[error("file descriptor {CONTROL_FD} is not open: kite-streamer is started by the node agent")]
    NoAgent,
    /// The agent's socket failed before the settings came.
    #[error("the agent's settings could not be read")]
    Agent(#[from] AgentError),
    /// The settings make no sense.
    #[error("the agent's settings are not usable")]
    Settings(#[from] SettingsError),
    /// The display did not start.
    #[error("the display did not start")]
    Display(#[from] compositor::StartError),
    /// The network did not start.
    #[error("the network did not start")]
    Net(#[from] crate::net::NetError),
    /// Sound did not start.
    #[error("the sound did not start: {0}")]
    Sound(String),
    /// The gamepads did not start.
    #[error("the gamepads did not start")]
    Pads(#[source] std::io::Error),
    /// The system refused a thread.
    #[error("the system refused a thread")]
    Thread(#[source] std::io::Error),
}

impl RunError {
    /// What the agent is told.
    fn reason(&self) -> &'static str {
        match self {
            RunError::Display(_) => "display_failed",
            RunError::Net(_) => "network_failed",
            RunError::NoAgent
            | RunError::Agent(_)
            | RunError::Settings(_)
            | RunError::Sound(_)
            | RunError::Pads(_)
            | RunError::Thread(_) => "streamer_failed",
        }
    }
}

/// Runs the session that the agent describes, to its end.
///
/// # Errors
/// [`RunError`] when it cannot start; the agent was told, too, as far as it could be.
pub fn run() -> Result<(), RunError> {
    let socket = sys::take_inherited(CONTROL_FD).ok_or(RunError::NoAgent)?;
    let (mut reader, mut writer) = agent::open(UnixStream::from(socket)).map_err(AgentError::Io)?;
    let settings = reader.settings()?;
    let trace = settings.trace.map(|parent| parent.trace.to_string());
    let span = tracing::info_span!("session", instance = %settings.instance, trace);
    let _entered = span.enter();
    let (hub, events) = sync_channel(EVENTS);
    let stage = match Stage::start(&settings, &hub) {
        Ok(stage) => stage,
        Err(error) => {
            let detail = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": ");
            let ended = FromStreamer::Ended { reason: error.reason().into(), detail: Some(detail) };
            if let Err(error) = writer.send(&ended) {
                tracing::warn!(%error, "the agent could not be told");
            }
            return Err(error);
        }
    };
    let to_hub = hub.clone();
    // The agent waits for its answers: here the main thread may be waited for.
    let started = reader.spawn(move |line| {
        if to_hub.send(Event::Agent(line)).is_err() {
            tracing::debug!("a line of the agent came after the end");
        }
    });
    started.map_err(RunError::Thread)?;
    stage.play(&settings, writer, &events, &hub);
    Ok(())
}

/// The running parts.
struct Stage {
    source: Arc<Source>,
    net: Net,
    video: Video,
    encoder: JoinHandle<()>,
    sound: Option<sound::Sound>,
    ledger: Arc<Ledger>,
    runtime_dir: PathBuf,
}

impl Stage {
    fn start(settings: &StreamerSettings, hub: &SyncSender<Event>) -> Result<Stage, RunError> {
        let zero = Instant::now();
        let ledger = Arc::new(Ledger::default());
        let bitrate = settings::bitrate(&settings.bitrate);
        let frame_rate = settings::frame_rate(settings)?;
        let handle: Arc<OnceLock<NetHandle>> = Arc::default();
        let (video, encoder) = Video::start(
            frame_rate,
            bitrate.start,
            settings::choice(settings.encoder),
            Box::new(UnitOut { net: Arc::clone(&handle), hub: hub.clone() }),
            || realtime("the encoder"),
        )
        .map_err(RunError::Thread)?;
        // Display and sound start side by side: each waits for a program of its own.
        let sound = start_sound(settings, &handle, hub)?;
        let out = FrameOut { video: video.clone(), hub: hub.clone(), seen: false };
        let source = Arc::new(Source::start(settings::source(settings, frame_rate)?, Box::new(out))?);
        let sound = sound.map(join_sound).transpose()?;
        let pads =
            Pads::start(&settings.gamepads, &settings.runtime_dir, Arc::clone(&handle)).map_err(RunError::Pads)?;
        let router = Router::new(Arc::clone(&source), pads, video.clone(), Arc::clone(&ledger), hub.clone(), zero);
        let sink = PeerOut { router, net: Arc::clone(&handle), hub: hub.clone(), current: None };
        let net = Net::start(&settings::net(settings, bitrate), Box::new(sink))?;
        // Set once, here: the sinks that read it drop what comes before.
        handle.get_or_init(|| net.handle());
        Ok(Stage { source, net, video, encoder, sound, ledger, runtime_dir: settings.runtime_dir.clone() })
    }

    /// The session, from the first wait to the goodbye.
    fn play(self, settings: &StreamerSettings, writer: AgentWriter, events: &Receiver<Event>, hub: &SyncSender<Event>) {
        let now = Instant::now();
        let session = Session::new(
            now,
            Duration::from_secs(settings.connect_timeout_s.into()),
            Duration::from_secs(settings.reconnect_grace_s.into()),
        );
        let mut director = Director {
            net: self.net.handle(),
            source: Arc::clone(&self.source),
            video: self.video.clone(),
            ledger: Arc::clone(&self.ledger),
            agent: Some(writer),
            session,
            ending: None,
            size: settings::size(settings).unwrap_or(Size::HD),
            largest: settings::size(settings).unwrap_or(Size::HD),
            resizable: settings.resizable,
            frame_rate: FrameRate::new(settings.frames_per_second).unwrap_or(FrameRate::FPS_60),
            cursor: Cursor::Named("default".into()),
            pointer_mode: PointerMode::Absolute,
            codec: None,
            has_drawn: false,
            hub: hub.clone(),
            runtime_dir: self.runtime_dir.clone(),
            camera: Camera::default(),
            next_statistics: now + STATISTICS_EVERY,
            statistics_sent: 0,
        };
        let sockets = self.source.sockets();
        director.tell_agent(&FromStreamer::Ready {
            wayland_socket: sockets.wayland,
            x11_dir: sockets.x11_dir,
            pulse_socket: self.sound.as_ref().map(sound::Sound::socket),
            port: self.net.handle().port(),
        });
        let (reason, detail) = director.run(events);
        tracing::info!(reason, "the session ends");
        director.say(&ServerMessage::Ended { reason: reason.clone() });
        if director.net.is_connected() {
            thread::sleep(GOODBYE);
        }
        self.video.stop();
        drop(self.net);
        drop(self.sound);
        if self.encoder.join().is_err() {
            tracing::error!("the encoder's thread panicked");
        }
        drop(self.source);
        director.tell_agent(&FromStreamer::Ended { reason, detail });
    }
}

type StartingSound = JoinHandle<Result<sound::Sound, RunError>>;

fn start_sound(
    settings: &StreamerSettings,
    net: &Arc<OnceLock<NetHandle>>,
    hub: &SyncSender<Event>,
) -> Result<Option<StartingSound>, RunError> {
    if !settings.audio {
        return Ok(None);
    }
    let (dir, net, hub) = (settings.runtime_dir.clone(), Arc::clone(net), hub.clone());
    let start = move || sound::Sound::start(&dir, net, hub);
    thread::Builder::new().name("sound-start".into()).spawn(start).map(Some).map_err(RunError::Thread)
}

fn join_sound(thread: StartingSound) -> Result<sound::Sound, RunError> {
    thread.join().unwrap_or_else(|_panic| Err(RunError::Sound("its start panicked".into())))
}

/// Ends the program when the thread that holds it panics: without that thread the player would look at a picture that stands still, and
/// nobody would know. The agent ends the session as the platform's fault.
pub(crate) struct EndOnPanic(pub(crate) &'static str);

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(thread = self.0, "a thread panicked: the session cannot go on");
            std::process::abort();
        }
    }
}

/// Real-time scheduling for the calling thread, or a line that says what its absence costs.
pub(crate) fn realtime(what: &str) {
    if let Err(error) = crate::net::make_realtime() {
        tracing::info!(%error, thread = what, "no real-time priority: frames may be late on a busy machine");
    }
}

/// The main thread's side: decides, with everything that it decides about.
struct Director {
    net: NetHandle,
    source: Arc<Source>,
    video: Video,
    ledger: Arc<Ledger>,
    /// `None` once the agent is gone.
    agent: Option<AgentWriter>,
    session: Session,
    /// Set when the agent or the game ended the session.
    ending: Option<String>,
    size: Size,
    /// What the spec allows in area.
    largest: Size,
    resizable: bool,
    frame_rate: FrameRate,
    cursor: Cursor,
    pointer_mode: PointerMode,
    codec: Option<VideoCodec>,
    /// The game drew at least once.
    has_drawn: bool,
    hub: SyncSender<Event>,
    runtime_dir: PathBuf,
    camera: Camera,
    next_statistics: Instant,
    statistics_sent: u32,
}

impl Director {
    /// Runs until the session ends; gives the reason and, for failures, the detail.
    fn run(&mut self, events: &Receiver<Event>) -> (String, Option<String>) {
        let mut detail = None;
        loop {
            let now = Instant::now();
            self.session.tick(now);
            if let Phase::Ended(reason) = self.session.phase() {
                return (reason.as_str().to_owned(), detail);
            }
            if let Some(reason) = self.ending.take() {
                return (reason, detail);
            }
            if now >= self.next_statistics {
                self.statistics(now);
            }
            let until = self.session.deadline().map_or(self.next_statistics, |at| at.min(self.next_statistics));
            match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => detail = self.event(event).or(detail),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return ("streamer_failed".into(), detail),
            }
        }
    }

    /// Handles one event; gives the detail of a failure.
    fn event(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Agent(line) => self.agent_line(line),
            Event::Screenshot(request, written) => self.tell_screenshot(request, written),
            Event::Answer(request, Ok((_, sdp))) => self.tell_agent(&FromStreamer::Answer { request, sdp }),
            Event::Answer(request, Err(error)) => {
                self.tell_agent(&FromStreamer::OfferRefused { request, detail: error.to_string() });
            }
            Event::Connected => self.connected(),
            Event::Lost => self.lost(),
            Event::Hello => self.greet(),
            Event::Resize(wanted) => self.resize(wanted),
            Event::FirstFrame => {
                self.has_drawn = true;
                self.tell_agent(&FromStreamer::FirstFrame);
            }
            Event::SizeChanged(size) => {
                self.size = size;
                let (width, height) = dimensions(size);
                self.say(&ServerMessage::StreamSize { width, height });
            }
            Event::Cursor(cursor) => {
                self.say(&ServerMessage::Cursor(cursor.clone()));
                self.cursor = cursor;
            }
            Event::PointerMode(mode) => {
                self.say(&ServerMessage::PointerMode(mode));
                self.pointer_mode = mode;
            }
            Event::Clipboard(text) => self.say(&ServerMessage::Clipboard { text }),
            Event::EncoderOpened(name) => tracing::info!(encoder = name, size = %self.size, "encoder opened"),
            Event::SourceFailed(error) => return Some(self.failed(EndReason::DisplayFailed, &error)),
            Event::EncoderFailed(error) => return Some(self.failed(EndReason::EncoderFailed, &error)),
            // A game without sound is worth more than no game.
            Event::SoundFailed(error) => tracing::error!(error, "the sound failed; the session goes on without"),
        }
        None
    }

    fn failed(&mut self, reason: EndReason, error: &dyn std::error::Error) -> String {
        tracing::error!(%error, reason = reason.as_str(), "the session fails");
        self.session.fail(reason);
        error.to_string()
    }

    fn agent_line(&mut self, line: Result<ToStreamer, AgentError>) {
        match line {
            Ok(ToStreamer::Offer { request, sdp }) => self.offer(request, sdp),
            Ok(ToStreamer::GameEnded { reason } | ToStreamer::Stop { reason }) => self.ending = Some(reason),
            Ok(ToStreamer::Screenshot { request }) => self.screenshot(request),
            Ok(ToStreamer::Claimed { connect_timeout_s, resizable }) => {
                self.resizable = resizable;
                self.session.claimed(Instant::now(), Duration::from_secs(connect_timeout_s.into()));
            }
            Err(error @ AgentError::Malformed(_)) => tracing::error!(%error, "a line of the agent was skipped"),
            Err(error) => {
                tracing::warn!(%error, "the agent is gone; the player who is here goes on");
                self.agent = None;
                self.session.agent_gone();
            }
        }
    }

    fn offer(&mut self, request: u64, sdp: String) {
        let hub = self.hub.clone();
        let reply = move |answer| {
            if hub.try_send(Event::Answer(request, answer)).is_err() {
                tracing::warn!("the main thread is behind: an answer was dropped");
            }
        };
        if self.net.offer(sdp, reply).is_err() {
            let detail = "offers come faster than they are answered: wait a second".to_owned();
            self.tell_agent(&FromStreamer::OfferRefused { request, detail });
        }
    }

    fn screenshot(&mut self, request: u64) {
        let path = self.runtime_dir.join(format!("screenshot-{request}.png"));
        let hub = self.hub.clone();
        let done = move |written| {
            if hub.try_send(Event::Screenshot(request, written)).is_err() {
                tracing::warn!("the main thread is behind: a screenshot was dropped");
            }
        };
        if let Err(error) = self.camera.take(self.video.last_picture(), path, done) {
            self.tell_screenshot(request, Err(error));
        }
    }

    fn tell_screenshot(&mut self, request: u64, written: Result<PathBuf, ScreenshotError>) {
        let (path, detail) = match written {
            Ok(path) => (Some(path), None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.tell_agent(&FromStreamer::Screenshot { request, path, detail });
    }

    fn connected(&mut self) {
        self.session.connected();
        let codec = self.net.video_codec();
        if self.codec != codec {
            self.codec = codec;
            let matrix = codec.map_or(ColorMatrix::default(), encode::VideoSettings::matrix_for);
            self.source.set_matrix(matrix);
            // Not before the game drew: a picture made for the player is no sign of life of the game.
            if self.has_drawn {
                self.source.request_frame();
            }
        }
        self.video.watch(codec);
        tracing::info!(?codec, "player connected");
        self.tell_agent(&FromStreamer::Player { connected: true });
    }

    fn lost(&mut self) {
        self.video.watch(None);
        if matches!(self.session.phase(), Phase::Playing) {
            tracing::info!("player lost");
            self.session.lost(Instant::now());
            self.tell_agent(&FromStreamer::Player { connected: false });
        }
    }

    /// Tells a client that just opened its channel how things are.
    fn greet(&mut self) {
        let (width, height) = dimensions(self.size);
        self.say(&ServerMessage::Hello {
            version: PROTOCOL_VERSION,
            width,
            height,
            frames_per_second: self.frame_rate.get(),
        });
        self.say(&ServerMessage::Cursor(self.cursor.clone()));
        self.say(&ServerMessage::PointerMode(self.pointer_mode));
    }

    fn resize(&mut self, wanted: Size) {
        if self.resizable {
            let size = settings::fit(wanted, self.largest);
            if size != self.size {
                self.source.resize(size);
            }
        }
    }

    fn statistics(&mut self, now: Instant) {
        self.next_statistics = now + STATISTICS_EVERY;
        if !self.net.is_connected() {
            return;
        }
        let (player, agent) = self.ledger.take(now);
        self.say(&ServerMessage::Statistics(player));
        self.statistics_sent += 1;
        if self.statistics_sent.is_multiple_of(AGENT_STATISTICS_EVERY) {
            self.tell_agent(&FromStreamer::Statistics(agent));
        }
    }

    fn say(&self, message: &ServerMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        if self.net.send(Channel::Control, bytes).is_err() {
            tracing::warn!("the network is behind: a message was dropped");
        }
    }

    fn tell_agent(&mut self, message: &FromStreamer) {
        if let Some(agent) = &mut self.agent
            && let Err(error) = agent.send(message)
        {
            tracing::warn!(%error, "the agent is gone; the player who is here goes on");
            self.agent = None;
            self.session.agent_gone();
        }
    }
}

/// A size in the wire's unit; [`Size::MAX_SIDE`] is well below its limit.
fn dimensions(size: Size) -> (u16, u16) {
    let side = |pixels| u16::try_from(pixels).unwrap_or(u16::MAX);
    (side(size.width()), side(size.height()))
}
