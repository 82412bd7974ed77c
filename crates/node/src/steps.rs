//! The steps of an instance's start: how long each took, and their spans in the play's trace.
//!
//! The streamer exports nothing itself: what it does is seen here, by what it says on its socket.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use api::node::DesiredInstance;
use api::session::{EndReason, Party};
use api::trace::{Span, SpanId, SpanSink, TraceParent};

use crate::metrics::Metrics;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The release is brought to the site.
    Content,
    /// Directories are made, and the home filled.
    Place,
    /// The player's save is written.
    Save,
    /// The streamer starts: display, sound, network, until it says that it is ready.
    Streamer,
    /// The sandbox is built, the package's layer mounted, the game's process begun.
    Game,
    /// From the game's start to its first frame, as the streamer saw it.
    FirstFrame,
    /// From the game's start to the player's connection, as the streamer saw it.
    Connected,
    /// All of it, to the first frame.
    Whole,
}

impl Stage {
    pub(crate) const ALL: [Self; 8] = [
        Self::Content,
        Self::Place,
        Self::Save,
        Self::Streamer,
        Self::Game,
        Self::FirstFrame,
        Self::Connected,
        Self::Whole,
    ];

    /// The word in metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Place => "place",
            Self::Save => "save",
            Self::Streamer => "streamer",
            Self::Game => "game",
            Self::FirstFrame => "first_frame",
            Self::Connected => "connected",
            Self::Whole => "whole",
        }
    }

    /// The name of its span.
    const fn span(self) -> &'static str {
        match self {
            Self::Content => "node.content",
            Self::Place => "node.place",
            Self::Save => "node.save",
            Self::Streamer => "node.streamer",
            Self::Game => "node.game",
            Self::FirstFrame => "streamer.first_frame",
            Self::Connected => "streamer.connected",
            Self::Whole => "node.start",
        }
    }
}

/// When a step began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    at: SystemTime,
    instant: Instant,
}

impl Begun {
    pub(crate) fn now() -> Self {
        Self { at: SystemTime::now(), instant: Instant::now() }
    }
}

/// The steps of one instance.
#[derive(Debug)]
pub(crate) struct Steps {
    metrics: Arc<Metrics>,
    sink: Option<SpanSink>,
    trace: Option<TraceParent>,
    /// The span of the whole start, above all others.
    whole: SpanId,
    attributes: Vec<(&'static str, String)>,
    began: Begun,
    /// When the game was started; then it draws, and its player connects.
    game: Option<Begun>,
    drawn: bool,
    connected: bool,
}

impl Steps {
    pub(crate) fn new(desired: &DesiredInstance, metrics: Arc<Metrics>, sink: Option<SpanSink>) -> Self {
        let trace = desired.trace.filter(|trace| trace.sampled);
        Self {
            metrics,
            sink,
            trace,
            whole: SpanId::new(random()),
            attributes: vec![
                ("kite.instance.id", desired.instance.to_string()),
                ("kite.app", desired.manifest.name.to_string()),
                ("kite.epoch", desired.epoch.to_string()),
            ],
            began: Begun::now(),
            game: None,
            drawn: false,
            connected: false,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A step is over; with why when it went wrong.
    pub(crate) fn done(&self, stage: Stage, begun: Begun, failure: Option<&str>) {
        self.metrics.stage(stage, begun.instant.elapsed(), failure.is_some());
        let (Some(trace), Some(sink)) = (self.trace, &self.sink) else { return };
        let is_whole = stage == Stage::Whole;
        sink.record(Span {
            trace: trace.trace,
            id: if is_whole { self.whole } else { SpanId::new(random()) },
            parent: Some(if is_whole { trace.span } else { self.whole }),
            name: stage.span(),
            start: begun.at,
            end: SystemTime::now(),
            attributes: self.attributes.clone(),
            failure: failure.map(str::to_owned),
        });
    }

    /// It is somebody's now: what follows stands in his trace, and its start is his, from this moment on.
    pub(crate) fn claimed(&mut self, desired: &DesiredInstance) {
        self.trace = desired.trace.filter(|trace| trace.sampled);
        if self.game.is_none() {
            self.began = Begun::now();
        }
    }

    /// The game's process runs.
    pub(crate) fn game_runs(&mut self) {
        self.game = Some(Begun::now());
    }

    /// The streamer saw the first frame.
    pub(crate) fn first_frame(&mut self) {
        if let Some(game) = self.game.filter(|_| !self.drawn) {
            self.drawn = true;
            self.done(Stage::FirstFrame, game, None);
            self.done(Stage::Whole, self.began, None);
        }
    }

    /// The streamer's player is there, for the first time.
    pub(crate) fn connected(&mut self) {
        if let Some(game) = self.game.filter(|_| !self.connected) {
            self.connected = true;
            self.done(Stage::Connected, game, None);
        }
    }

    /// The instance ends; its start was not over if nothing was drawn.
    pub(crate) fn end(&mut self, reason: EndReason) {
        if !self.drawn {
            self.drawn = true;
            let is_fault = matches!(reason.party(), Party::Game | Party::Platform);
            self.done(Stage::Whole, self.began, is_fault.then_some(reason.word()));
        }
    }
}

/// Random bytes for an id. Without any, which no Linux has come to, spans run together and nothing else happens.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::debug!("no random bytes for a trace");
    }
    bytes
}
