//! One instance from nothing to nothing: directories, streamer, game, end.
//!
//! ```text
//! ContentFetching: only for releases, until the site's volume has them
//!        |
//! StreamerStarting -- Ready --> GameStarting -- sandbox stands --> Running -- FirstFrame --> Running(first_frame)
//!        |       \                  |                                 |                          |
//!        |        Prepared(warm) ---+ when somebody claims it         |                          |
//!        |            |             |                                 |                          |
//!        +------- any fault, any end, Stop ---------------------------+--------------------------+--> Stopping --> Ended
//! ```
//! Every way out goes through [`Life::end`], which stops what runs and removes what is there.

mod claim;
mod orders;
mod saving;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::node::{
    DesiredInstance, InstanceState, InstanceUsage, ObservedInstance, ObservedSave, OfferFailure, PackageSource,
    PlayerPresence, Warmth,
};
use api::session::EndReason;
use api::streamer::{FromStreamer, GamepadSettings, StreamStatistics, StreamerSettings, ToStreamer};
use content::{Use, Volume};
use sandbox::{Exit, FuseDevice};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

pub(crate) use self::orders::outcome_of;
use self::orders::{Orders, PictureTo, ScriptTo};
use crate::disk;
use crate::game::{self, Game, News, Screen, Start, describe};
use crate::leftover;
use crate::machine::Ticks;
use crate::meter::{Look, Meter};
use crate::place::{self, Place};
use crate::saves::{SaveError, Saves};
use crate::settings::NodeSettings;
use crate::steps::{Begun, Stage, Steps};
use crate::streamer::{GAMEPAD_FD, Heard, Streamer};
use crate::sys::Become;

/// Offers that wait for a streamer's answer. A player sends one a connection; more are not a player's.
const MAX_OFFERS: usize = 8;

/// How long a streamer may take to say good-bye to its player and to exit.
const STREAMER_GRACE: Duration = Duration::from_secs(3);

/// How long after a game's crash its streamer's end may be seen. Longer tells players later that their game crashed; shorter takes our fault
/// for the game's.
const STREAMER_FIRST: Duration = Duration::from_millis(100);

/// How long after the kill of a game its sandbox may take to be gone.
const SANDBOX_GRACE: Duration = Duration::from_secs(12);

/// How often the control plane is told the figures of a stream; the streamer measures each second. Shorter costs it a message a session and
/// second, for the operator's eyes alone.
const FIGURES_PERIOD: Duration = Duration::from_secs(5);

/// Longest detail of an end that is kept: a streamer's or sandbox's sentence.
const MAX_DETAIL_CHARS: usize = 500;

/// Where the answer to an offer goes.
pub(crate) type AnswerTo = oneshot::Sender<Result<String, OfferFailure>>;

/// To an instance.
#[derive(Debug)]
pub(crate) enum Command {
    /// A player's offer.
    Offer {
        /// The offer.
        sdp: String,
        /// Where the answer goes.
        answer: AnswerTo,
    },
    /// End, for this reason.
    Stop(EndReason),
    /// Somebody has it now: it is to be this.
    Claim(Box<DesiredInstance>),
    /// Captures of its save are versions now: up to this sequence.
    Committed(u32),
    /// Run a script beside the game.
    Script {
        /// The script.
        text: String,
        /// It is killed after so long.
        timeout: Duration,
        /// Where its end goes. Nobody waits for it any more when this is closed.
        reply: ScriptTo,
    },
    /// Make a picture of what the game shows.
    Screenshot {
        /// Where it goes.
        reply: PictureTo,
    },
}

/// What an instance is made of.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) desired: DesiredInstance,
    pub(crate) settings: Arc<NodeSettings>,
    /// Who it runs as, when the agent is root.
    pub(crate) uid: Option<u32>,
    /// Groups of the GPU's devices.
    pub(crate) groups: Vec<u32>,
    /// The releases that are here.
    pub(crate) volume: Volume,
}

/// The save, back from a task, and what that captured.
type Capture = (Saves, Result<Option<ObservedSave>, SaveError>);

/// Why and how it ended.
type End = (EndReason, Option<String>);

/// What happened.
enum Event {
    Heard(Heard),
    StreamerGone,
    GameGone(Exit),
    Command(Option<Command>),
    Deadline,
    CheckpointDue,
    CheckpointDone(Box<Result<Capture, JoinError>>),
    ScriptDone(sandbox::ScriptEnd),
    ScriptAbandoned,
}

/// An instance while it lives.
struct Life {
    instance: Instance,
    steps: Steps,
    /// When the streamer was started.
    streamer_begun: Begun,
    place: Place,
    /// The package's files; known once the release is here.
    package: PathBuf,
    /// The player's save, where any is kept.
    saves: Option<Saves>,
    /// The save was written once: from then on the directories may hold what is no version yet.
    has_saves_begun: bool,
    /// A checkpoint that is being captured; it holds the save until then.
    checkpoint: Option<JoinHandle<Capture>>,
    checkpoint_at: Option<Instant>,
    /// Captures that are versions.
    committed: u32,
    /// Keeps the release from being evicted.
    release: Option<Use>,
    observed: watch::Sender<ObservedInstance>,
    streamer: Option<Streamer>,
    /// Of a streamer that waits for somebody who plays.
    screen: Option<Screen>,
    game: Option<Game>,
    gamepads: Option<FuseDevice>,
    answers: HashMap<u64, AnswerTo>,
    next_request: u64,
    /// Scripts and screenshots that were asked for.
    orders: Orders,
    /// Offers that came before the streamer was up.
    early: Vec<(String, AnswerTo)>,
    deadline: Option<(Instant, End)>,
    /// When the stream's figures were told last.
    told_figures: Option<Instant>,
    meter: Meter,
    started: Instant,
}

/// How an instance looks before anything is done.
pub(crate) fn initial(desired: &DesiredInstance) -> ObservedInstance {
    ObservedInstance {
        instance: desired.instance,
        epoch: desired.epoch,
        state: match desired.package {
            PackageSource::Directory { .. } => InstanceState::StreamerStarting,
            PackageSource::Release { .. } => InstanceState::ContentFetching,
        },
        player: PlayerPresence::Awaited,
        saved: None,
        save_failure: None,
        statistics: None,
        usage: None,
    }
}

/// Lives until the instance is ended and nothing of it is left.
pub(crate) async fn live(
    instance: Instance,
    steps: Steps,
    mut commands: mpsc::Receiver<Command>,
    observed: watch::Sender<ObservedInstance>,
) {
    let place = Place::of(&instance.settings, instance.desired.instance);
    let mut life = Life {
        instance,
        steps,
        streamer_begun: Begun::now(),
        place,
        package: PathBuf::new(),
        saves: None,
        has_saves_begun: false,
        checkpoint: None,
        checkpoint_at: None,
        committed: 0,
        release: None,
        observed,
        streamer: None,
        screen: None,
        game: None,
        gamepads: None,
        answers: HashMap::new(),
        next_request: 0,
        orders: Orders::default(),
        early: Vec::new(),
        deadline: None,
        told_figures: None,
        meter: Meter::default(),
        started: Instant::now(),
    };
    let end = match life.fetch(&mut commands).await {
        Ok(()) => match life.begin().await {
            Ok(()) => life.run(&mut commands).await,
            Err(end) => end,
        },
        Err(end) => end,
    };
    life.end(end, &mut commands).await;
}

impl Life {
    fn id(&self) -> api::id::InstanceId {
        self.instance.desired.instance
    }

    fn set_state(&self, state: InstanceState) {
        self.observed.send_modify(|observed| observed.state = state);
    }

    /// Makes sure that the package is here. What is asked meanwhile waits, but for the end.
    async fn fetch(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), End> {
        let content = match &self.instance.desired.package {
            PackageSource::Directory { dir } => {
                self.package.clone_from(dir);
                return Ok(());
            }
            PackageSource::Release { content } => content.as_str(),
        };
        let root = content
            .parse()
            .map_err(|error: content::ObjectIdError| (EndReason::ContentFailed, Some(error.to_string())))?;
        let begun = Begun::now();
        let volume = self.instance.volume.clone();
        let mut ensured = std::pin::pin!(volume.ensure(root));
        let used = loop {
            tokio::select! {
                used = &mut ensured => break used,
                command = commands.recv() => match command {
                    Some(Command::Stop(reason)) => return Err((reason, None)),
                    None => return Err((EndReason::ServiceStopped, None)),
                    Some(Command::Offer { sdp, answer }) => self.offer(sdp, answer).await,
                    Some(Command::Claim(desired)) => self.becomes(*desired),
                    // Dropped: who waits is told that the game does not run.
                    Some(Command::Committed(_) | Command::Script { .. } | Command::Screenshot { .. }) => {}
                },
            }
        };
        let used = used.inspect_err(|error| self.steps.done(Stage::Content, begun, Some(&describe(error))));
        let used = used.map_err(|error| {
            let reason = if error.is_full() { EndReason::DiskFull } else { EndReason::ContentFailed };
            (reason, Some(describe(&error)))
        })?;
        self.steps.done(Stage::Content, begun, None);
        tracing::debug!(instance = %self.id(), after_ms = self.age_ms(), "the release is here");
        self.package = used.files().to_owned();
        self.release = Some(used);
        self.set_state(InstanceState::StreamerStarting);
        Ok(())
    }

    /// Directories and streamer.
    async fn begin(&mut self) -> Result<(), End> {
        let begun = Begun::now();
        let settings = Arc::clone(&self.instance.settings);
        let desired = &self.instance.desired;
        let (place, uid) = (self.place.clone(), self.instance.uid);
        let home = game::home_source(desired, &self.package);
        let (for_values, for_disk) = (desired.clone(), Arc::clone(&settings));
        let prepared = tokio::task::spawn_blocking(move || {
            let free = disk::free_mb(&for_disk).map_err(|error| (EndReason::SandboxFailed, error.to_string()))?;
            let min_free = for_disk.min_free_disk_mb;
            if free < min_free {
                return Err((EndReason::DiskFull, format!("{free} MiB are free, {min_free} MiB are needed")));
            }
            let failed = |error: std::io::Error| {
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                let reason = if full { EndReason::DiskFull } else { EndReason::SandboxFailed };
                (reason, format!("cannot make the instance's directories: {error}"))
            };
            place.create(uid).map_err(failed)?;
            if let Some(home) = home {
                let values = |placeholder| game::placeholder_value(&for_values, placeholder);
                place.fill_home(&home, uid, &values).map_err(failed)?;
            }
            Ok(())
        });
        match prepared.await {
            Ok(Ok(())) => self.steps.done(Stage::Place, begun, None),
            Ok(Err((reason, detail))) => {
                self.steps.done(Stage::Place, begun, Some(&detail));
                return Err((reason, Some(detail)));
            }
            Err(error) => return Err((EndReason::SandboxFailed, Some(error.to_string()))),
        }
        self.begin_saves().await?;
        let pads = self.open_gamepads().await;
        let user = Become { id: uid, groups: self.instance.groups.clone(), realtime: true };
        let streamer_settings = self.streamer_settings(pads.is_some());
        let log = self.place.logs.join("streamer.log");
        self.streamer_begun = Begun::now();
        let streamer = Streamer::spawn(&settings.streamer_program, &streamer_settings, pads, user, &log)
            .await
            .map_err(|error| (EndReason::StreamerFailed, Some(describe(&error))))?;
        self.streamer = Some(streamer);
        let end = (EndReason::DisplayFailed, Some("the streamer was not ready in time".to_owned()));
        self.deadline = Some((Instant::now() + settings.streamer_timeout, end));
        Ok(())
    }

    /// The gamepads' device when the game can have pads and the machine has FUSE: one half is kept for the sandbox, the
    /// other is returned for the streamer.
    async fn open_gamepads(&mut self) -> Option<OwnedFd> {
        if self.instance.desired.manifest.input.gamepads == 0 {
            return None;
        }
        let helper = self.instance.settings.sandbox_program.clone();
        let opened = tokio::task::spawn_blocking(move || FuseDevice::open(helper.as_deref())).await.ok()?;
        match opened.map_err(|error| describe(&error)).and_then(|device| {
            let server = device.server_descriptor().map_err(|error| error.to_string())?;
            Ok((device, server))
        }) {
            Ok((device, server)) => {
                self.gamepads = Some(device);
                Some(server)
            }
            Err(error) => {
                tracing::warn!(instance = %self.id(), error, "the game gets no gamepads");
                None
            }
        }
    }

    fn streamer_settings(&self, gamepads: bool) -> StreamerSettings {
        let (settings, desired) = (&self.instance.settings, &self.instance.desired);
        StreamerSettings {
            instance: desired.instance,
            runtime_dir: self.place.runtime.clone(),
            display: desired.manifest.display,
            width: desired.spec.width,
            height: desired.spec.height,
            frames_per_second: desired.spec.frames_per_second,
            resizable: desired.resizable,
            encoder: settings.encoder,
            bitrate: settings.bitrate,
            network: settings.network.clone(),
            audio: settings.audio,
            gamepads: if gamepads { GamepadSettings::Fuse { fd: GAMEPAD_FD } } else { GamepadSettings::None },
            reconnect_grace_s: desired.reconnect_grace_s,
            connect_timeout_s: desired.connect_timeout_s,
            trace: desired.trace,
        }
    }

    /// Until something ends it.
    async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        loop {
            let event = self.next_event(commands).await;
            let outcome = match event {
                Event::Heard(Heard::Message(message)) => self.heard(message).await,
                Event::Heard(Heard::Garbage(error)) => {
                    tracing::error!(instance = %self.id(), error, "the streamer wrote a line that is not of the contract");
                    Ok(())
                }
                Event::StreamerGone => Err(self.streamer_gone().await),
                Event::GameGone(exit) => {
                    let (reason, detail) =
                        game::meaning(exit, &self.instance.desired.manifest.session.clean_exit_codes);
                    // A game whose display is gone crashes, and is sometimes seen first.
                    if reason == EndReason::GameCrashed && self.streamer_has_ended().await {
                        Err(self.streamer_gone().await)
                    } else {
                        Err((reason, Some(detail)))
                    }
                }
                Event::Command(Some(Command::Offer { sdp, answer })) => {
                    self.offer(sdp, answer).await;
                    Ok(())
                }
                Event::Command(Some(Command::Stop(reason))) => Err((reason, None)),
                Event::Command(Some(Command::Claim(desired))) => self.claim(*desired).await,
                Event::Command(Some(Command::Committed(sequence))) => {
                    self.committed = self.committed.max(sequence);
                    Ok(())
                }
                Event::CheckpointDue => {
                    self.checkpoint();
                    Ok(())
                }
                Event::CheckpointDone(done) => {
                    self.checkpoint_done(*done);
                    Ok(())
                }
                Event::Command(Some(Command::Script { text, timeout, reply })) => {
                    self.script(text, timeout, reply);
                    Ok(())
                }
                Event::Command(Some(Command::Screenshot { reply })) => {
                    self.screenshot(reply).await;
                    Ok(())
                }
                Event::ScriptDone(end) => {
                    self.script_done(end);
                    Ok(())
                }
                Event::ScriptAbandoned => {
                    self.abandon_script();
                    Ok(())
                }
                Event::Command(None) => Err((EndReason::ServiceStopped, None)),
                Event::Deadline => Err(self.deadline.take().map_or((EndReason::StartTimeout, None), |(_, end)| end)),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn next_event(&mut self, commands: &mut mpsc::Receiver<Command>) -> Event {
        let deadline = self.deadline.as_ref().map(|(at, _)| *at);
        let due = self.checkpoint_at.filter(|_| self.saves.is_some() && self.game.is_some());
        let due = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let done = async {
            match &mut self.checkpoint {
                Some(running) => running.await,
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match &mut self.streamer {
                Some(streamer) => streamer.hear().await,
                None => None,
            }
        };
        let game = async {
            match &mut self.game {
                Some(game) => game.next().await,
                None => std::future::pending().await,
            }
        };
        let abandoned = self.orders.abandoned();
        let passed = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => heard.map_or(Event::StreamerGone, Event::Heard),
            news = game => match news {
                News::Ended(exit) => Event::GameGone(exit),
                News::Script(end) => Event::ScriptDone(end),
            },
            () = abandoned => Event::ScriptAbandoned,
            command = commands.recv() => Event::Command(command),
            () = passed => Event::Deadline,
            () = due => Event::CheckpointDue,
            done = done => Event::CheckpointDone(Box::new(done)),
        }
    }

    /// Did the streamer end, a moment ago or just now?
    async fn streamer_has_ended(&mut self) -> bool {
        match &mut self.streamer {
            Some(streamer) => tokio::time::timeout(STREAMER_FIRST, streamer.wait()).await.is_ok(),
            None => false,
        }
    }

    /// The streamer closed its socket without a last word.
    async fn streamer_gone(&mut self) -> End {
        let Some(streamer) = &mut self.streamer else { return (EndReason::StreamerFailed, None) };
        let status = tokio::time::timeout(Duration::from_secs(1), streamer.wait()).await;
        let detail = match status {
            Ok(Ok(status)) => format!("the streamer ended without a word: {status}"),
            Ok(Err(error)) => format!("the streamer is lost: {error}"),
            Err(_elapsed) => "the streamer closed its socket".to_owned(),
        };
        (EndReason::StreamerFailed, Some(detail))
    }

    async fn heard(&mut self, message: FromStreamer) -> Result<(), End> {
        match message {
            FromStreamer::Ready { wayland_socket, x11_dir, pulse_socket, port } => {
                tracing::debug!(instance = %self.id(), port, after_ms = self.age_ms(), "streamer ready");
                self.steps.done(Stage::Streamer, self.streamer_begun, None);
                let own = |path: Option<PathBuf>| path.map(|path| self.place.own_runtime_path(&path)).transpose();
                let screen = || {
                    Ok::<_, std::io::Error>(Screen {
                        wayland: own(wayland_socket)?,
                        x11_dir: own(x11_dir)?,
                        pulse: own(pulse_socket)?,
                    })
                };
                let screen = screen().map_err(|error| (EndReason::StreamerFailed, Some(error.to_string())))?;
                match self.instance.desired.warm {
                    Some(Warmth::Prepared) => {
                        self.hold(screen);
                        Ok(())
                    }
                    Some(Warmth::Running) | None => self.start_game(screen).await,
                }
            }
            FromStreamer::Answer { request, sdp } => {
                self.answer(request, Ok(sdp));
                Ok(())
            }
            FromStreamer::OfferRefused { request, detail } => {
                self.answer(request, Err(OfferFailure::Refused { detail: bounded(&detail) }));
                Ok(())
            }
            FromStreamer::FirstFrame => {
                tracing::debug!(instance = %self.id(), after_ms = self.age_ms(), "first frame");
                self.steps.first_frame();
                self.deadline = None;
                self.set_state(InstanceState::Running { first_frame: true });
                Ok(())
            }
            FromStreamer::Player { connected } => {
                let player = if connected { PlayerPresence::Connected } else { PlayerPresence::Lost };
                self.observed.send_modify(|observed| observed.player = player);
                if connected {
                    self.steps.connected();
                } else {
                    // He may not come back.
                    self.checkpoint();
                }
                Ok(())
            }
            FromStreamer::Statistics(statistics) => self.statistics(statistics),
            FromStreamer::Screenshot { request, path, detail } => {
                self.pictured(request, path, detail);
                Ok(())
            }
            FromStreamer::Ended { reason, detail } => Err(streamer_end(&reason, detail)),
        }
    }

    fn statistics(&mut self, statistics: StreamStatistics) -> Result<(), End> {
        if self.told_figures.is_none_or(|at| at.elapsed() >= FIGURES_PERIOD) {
            self.told_figures = Some(Instant::now());
            let usage = self.measure(&statistics);
            self.observed.send_modify(|observed| {
                observed.statistics = Some(statistics);
                observed.usage = usage.or(observed.usage);
            });
        }
        self.steps.metrics().stream(&statistics);
        // Some small files of the kernel's, which nothing makes wait.
        if let Some(usage) = self.game.as_ref().and_then(Game::usage) {
            self.steps.metrics().usage(self.id(), usage);
        }
        let limit = self.instance.desired.manifest.session.idle_timeout_s;
        if limit > 0 && statistics.idle_s >= limit {
            return Err((EndReason::Idle, Some(format!("no input for {} s", statistics.idle_s))));
        }
        Ok(())
    }

    /// What it takes of the machine. Some small files of the kernel's, too.
    fn measure(&mut self, statistics: &StreamStatistics) -> Option<InstanceUsage> {
        let (game, servers) = (self.game.as_ref()?.usage()?, self.streamer.as_ref()?.usage()?);
        let look = Look { at: Instant::now(), game, servers, machine: Ticks::now() };
        self.meter.look(look, FIGURES_PERIOD * 3, statistics, self.instance.settings.audio)
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn start_game(&mut self, screen: Screen) -> Result<(), End> {
        if self.game.is_some() {
            tracing::error!(instance = %self.id(), "the streamer said twice that it is ready");
            return Ok(());
        }
        self.set_state(InstanceState::GameStarting);
        for (sdp, answer) in std::mem::take(&mut self.early) {
            self.offer(sdp, answer).await;
        }
        let start = Start { place: self.place.clone(), package: self.package.clone(), uid: self.instance.uid, screen };
        let gamepads = self.gamepads.take();
        let begun = Begun::now();
        let game = start.start(&self.instance.settings, &self.instance.desired, gamepads).await;
        self.steps.done(Stage::Game, begun, game.as_ref().err().map(|(_, detail)| detail.as_str()));
        self.steps.game_runs();
        self.game = Some(game.map_err(|(reason, detail)| (reason, Some(detail)))?);
        let limit = self.instance.desired.manifest.session.start_timeout_s;
        let end = (EndReason::StartTimeout, Some(format!("nothing was drawn within {limit} s")));
        self.deadline = Some((Instant::now() + Duration::from_secs(u64::from(limit)), end));
        self.set_state(InstanceState::Running { first_frame: false });
        Ok(())
    }

    async fn offer(&mut self, sdp: String, answer: AnswerTo) {
        let ready =
            !matches!(self.observed.borrow().state, InstanceState::ContentFetching | InstanceState::StreamerStarting);
        self.answers.retain(|_, waiting| !waiting.is_closed());
        self.early.retain(|(_, waiting)| !waiting.is_closed());
        if self.answers.len() + self.early.len() >= MAX_OFFERS {
            let detail = "too many offers are waiting".to_owned();
            // Nobody may be waiting any more, which is fine.
            let _unheard = answer.send(Err(OfferFailure::Refused { detail }));
            return;
        }
        if !ready {
            self.early.push((sdp, answer));
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        self.answers.insert(request, answer);
        if let Some(streamer) = &mut self.streamer
            && !streamer.send(&ToStreamer::Offer { request, sdp }).await
        {
            self.answer(request, Err(OfferFailure::Gone));
        }
    }

    fn answer(&mut self, request: u64, outcome: Result<String, OfferFailure>) {
        if let Some(waiting) = self.answers.remove(&request) {
            let _unheard = waiting.send(outcome);
        }
    }

    /// Stops what runs, removes what is there, and says so.
    async fn end(mut self, (reason, detail): End, commands: &mut mpsc::Receiver<Command>) {
        self.set_state(InstanceState::Stopping { reason });
        self.steps.end(reason);
        self.answers.clear();
        self.early.clear();
        self.orders.clear();
        let from_game = matches!(
            reason,
            EndReason::GameExited | EndReason::GameCrashed | EndReason::OutOfMemory | EndReason::DiskLimit
        );
        let streamer = self.streamer.take();
        let farewell = async {
            let Some(mut streamer) = streamer else { return };
            let word = reason.word().to_owned();
            let message =
                if from_game { ToStreamer::GameEnded { reason: word } } else { ToStreamer::Stop { reason: word } };
            streamer.send(&message).await;
            streamer.end_within(STREAMER_GRACE).await;
        };
        let grace = Duration::from_secs(u64::from(self.instance.desired.manifest.session.stop_grace_s));
        let game = self.game.take();
        let (steps, id) = (&self.steps, self.instance.desired.instance);
        let stopped = async {
            let Some(mut game) = game else { return };
            game.stop(grace);
            if tokio::time::timeout(grace + SANDBOX_GRACE, game.wait()).await.is_err() {
                tracing::error!(instance = %self.instance.desired.instance, "the game's sandbox does not end");
            }
            let usage = game.usage();
            // Kills and waits, when it must.
            let dropped = tokio::task::spawn_blocking(move || drop(game)).await;
            if let (Some(usage), Ok(())) = (usage, dropped) {
                steps.metrics().usage(id, usage);
                tracing::debug!(
                    instance = %self.instance.desired.instance,
                    cpu_s = usage.cpu_time.as_secs_f32(),
                    memory_peak_mb = usage.memory_peak_bytes >> 20,
                    "game ended"
                );
            }
        };
        tokio::join!(farewell, stopped);
        let is_archived = self.archive(commands).await;
        // Offers that come now are told that the instance is gone, because their senders are dropped.
        commands.close();
        self.release = None;
        self.clean(is_archived).await;
        let detail = detail.as_deref().map(bounded);
        tracing::info!(instance = %self.id(), reason = reason.word(), detail, "instance ended");
        self.steps.metrics().gone(self.id());
        self.steps.metrics().ended(reason);
        self.set_state(InstanceState::Ended { reason, detail });
    }

    /// Removes what is there; what holds a save that is no version yet is kept for the operator.
    async fn clean(&self, is_archived: bool) {
        let (id, uid, place) = (self.id(), self.instance.uid, self.place.clone());
        let settings = Arc::clone(&self.instance.settings);
        let cleaned = tokio::task::spawn_blocking(move || {
            let killed = leftover::kill_processes(id, uid);
            if killed > 0 {
                tracing::debug!(instance = %id, killed, "processes were left by the streamer");
            }
            // Also that of a sandbox helper that hung.
            sandbox::remove_groups(&id.to_string());
            if !is_archived {
                match place.rescue(&settings) {
                    Ok(kept) => {
                        tracing::error!(instance = %id, kept = %kept.display(), "the save's files are kept for rescue")
                    }
                    Err(error) => tracing::error!(instance = %id, %error, "the save's files cannot be kept"),
                }
            }
            if let Err(error) = place.remove() {
                tracing::error!(instance = %id, %error, "the instance's directories cannot be removed");
            }
            place::prune_logs(&settings);
        });
        if let Err(error) = cleaned.await {
            tracing::error!(instance = %id, %error, "cleaning failed");
        }
    }
}

/// What a streamer's last word means.
fn streamer_end(word: &str, detail: Option<String>) -> End {
    match EndReason::from_word(word) {
        Some(reason) => (reason, detail),
        // `stopped` without having been asked, and words of a newer version.
        None => {
            (EndReason::StreamerFailed, Some(detail.map_or_else(|| word.to_owned(), |text| format!("{word}: {text}"))))
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_DETAIL_CHARS).collect()
}
