//! What a control plane counts, for Prometheus. Names are without the prefix `kite_`, which the registry adds.
//!
//! Each is a number of the process: a registry belongs to one control plane, and nothing here is global. Labels have few values: words of the
//! contract, sites, classes, routes. Never a session, a player, a node, an app or a release: their number has no bound. Of tenants the largest
//! are told, and the rest together ([`fleet`]).

pub(crate) mod fleet;

use std::time::Duration;

use api::node::SaveKind;
use api::problem::{Problem, ProblemKind, TYPE_PREFIX};
use api::session::{EndReason, Party};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::journey::{Outcome, Stage};

/// One label whose values are words.
type Word = [(&'static str, &'static str); 1];
/// Two of them.
type Words = [(&'static str, &'static str); 2];
/// Seconds, or whole things, of which parts count.
type Total = Counter<f64>;

/// From a quick start of a small game (0.3 s) to one that fetches a large release.
const START_SECONDS: [f64; 13] = [0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// From a decision at once (milliseconds) to the longest patience (two hours).
const WAIT_SECONDS: [f64; 13] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0];

/// A pass takes a millisecond for a hundred sessions; at a second deadlines are late.
const PASS_SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// From a look-up to an offer that waits for its game.
const HTTP_SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Methods that have a label of their own; a client may send any other word.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What is in the content store: what is needed, and what is too young to be asked whether it is.
const CONTENT: [&str; 2] = ["kept", "young"];

/// What the dispatcher decided about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It waits.
    Queue,
    /// A place is offered.
    Offer,
    /// It has a place.
    Reserve,
    /// It has a warm instance.
    Claim,
    /// A warm instance makes room.
    GiveUp,
    /// It gets none.
    End,
    /// The place was not there when it was to be written.
    Full,
}

impl Decision {
    const ALL: [Self; 7] = [Self::Queue, Self::Offer, Self::Reserve, Self::Claim, Self::GiveUp, Self::End, Self::Full];

    const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Offer => "offer",
            Self::Reserve => "reserve",
            Self::Claim => "claim",
            Self::GiveUp => "give_up",
            Self::End => "end",
            Self::Full => "full",
        }
    }
}

/// Where a save was lost on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaveStep {
    /// The node could not capture it.
    Capture,
    /// It is no version: the database failed. It is tried again.
    Commit,
}

impl SaveStep {
    const ALL: [Self; 2] = [Self::Capture, Self::Commit];

    const fn word(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Commit => "commit",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StartLabels {
    site: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabels {
    site: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    method: &'static str,
}

/// The counters of a control plane.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    wait: Histogram,
    start: Family<Words, Histogram>,
    starts: Family<StartLabels, Counter>,
    refusals: Family<Words, Counter>,
    placements: Family<SiteLabels, Counter>,
    recoveries: Counter,
    ends: Family<Words, Counter>,
    played: Total,
    interruptions: Counter,
    interrupted: Total,
    pass: Histogram,
    pass_failures: Counter,
    leads: Gauge,
    pass_succeeded_at: Gauge<f64, std::sync::atomic::AtomicU64>,
    decisions: Family<Word, Counter>,
    requests: Family<RequestLabels, Counter>,
    request: Family<RouteLabels, Histogram>,
    saves: Family<Word, Counter>,
    save_failures: Family<Word, Counter>,
    content: Family<Word, Gauge>,
}

const fn party_word(party: Party) -> &'static str {
    match party {
        Party::Player => "player",
        Party::Game => "game",
        Party::Platform => "platform",
        Party::Operator => "operator",
    }
}

const fn save_word(kind: SaveKind) -> &'static str {
    match kind {
        SaveKind::Checkpoint => "checkpoint",
        SaveKind::Final => "final",
        SaveKind::Chosen => "chosen",
    }
}

/// Whose fault it is that a session was not even asked for.
fn refusing_party(kind: &str, status: u16) -> Party {
    let is = |other: ProblemKind| other.word() == kind;
    if is(ProblemKind::NoCapacity) || is(ProblemKind::ServiceStopping) {
        Party::Operator
    } else if status >= 500 {
        Party::Platform
    } else {
        Party::Player
    }
}

impl Metrics {
    /// All at zero. What has words of the contract for labels is there from the beginning, so that the first event is a step up and no
    /// new line, which rates do not see.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            wait: Histogram::new(WAIT_SECONDS),
            start: Family::new_with_constructor(|| Histogram::new(START_SECONDS)),
            starts: Family::default(),
            refusals: Family::default(),
            placements: Family::default(),
            recoveries: Counter::default(),
            ends: Family::default(),
            played: Total::default(),
            interruptions: Counter::default(),
            interrupted: Total::default(),
            pass: Histogram::new(PASS_SECONDS),
            pass_failures: Counter::default(),
            leads: Gauge::default(),
            pass_succeeded_at: Gauge::default(),
            decisions: Family::default(),
            requests: Family::default(),
            request: Family::new_with_constructor(|| Histogram::new(HTTP_SECONDS)),
            saves: Family::default(),
            save_failures: Family::default(),
            content: Family::default(),
        };
        for stage in Stage::ALL {
            for has_queued in [false, true] {
                drop(metrics.start.get_or_create(&start_labels(stage, has_queued)));
            }
        }
        for reason in EndReason::ALL {
            drop(metrics.ends.get_or_create(&end_labels(*reason, reason.party())));
        }
        for kind in [ProblemKind::NoNode, ProblemKind::Internal] {
            drop(metrics.refusals.get_or_create(&[("reason", kind.word()), ("party", "platform")]));
        }
        for decision in Decision::ALL {
            drop(metrics.decisions.get_or_create(&[("decision", decision.word())]));
        }
        for kind in [SaveKind::Checkpoint, SaveKind::Final, SaveKind::Chosen] {
            drop(metrics.saves.get_or_create(&[("kind", save_word(kind))]));
        }
        for of in CONTENT {
            drop(metrics.content.get_or_create(&[("of", of)]));
        }
        for step in SaveStep::ALL {
            drop(metrics.save_failures.get_or_create(&[("step", step.word())]));
        }
        metrics.meet_site("");
        metrics
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let r = registry;
        r.register("session_wait_seconds", "From the request of a session to its place", self.wait.clone());
        let help = "From the request of a session to a stage of its start, by whether it was in the queue";
        r.register("session_start_seconds", help, self.start.clone());
        let help = "Starts of sessions that are over: connected, or ended before by this party; site is empty where none was given";
        r.register("session_starts", help, self.starts.clone());
        r.register("session_refusals", "Sessions that were asked for and not made", self.refusals.clone());
        r.register("session_placements", "Places that were given to sessions", self.placements.clone());
        r.register("session_recoveries", "Sessions that wait for another node", self.recoveries.clone());
        r.register("session_ends", "Sessions that ended, by reason and by who caused it", self.ends.clone());
        r.register("session_played_seconds", "Time in which players were connected", self.played.clone());
        let help = "Plays that a lost or emptied node or a fault of the platform interrupted";
        r.register("session_interruptions", help, self.interruptions.clone());
        let help = "Time from the interruption of a play to its going on, or its end";
        r.register("session_interrupted_seconds", help, self.interrupted.clone());
        r.register("control_leads", "1 in the replica that leads, 0 in one that waits", self.leads.clone());
        r.register("reconcile_pass_seconds", "How long a look at everything takes", self.pass.clone());
        r.register("reconcile_failures", "Passes that the database broke off", self.pass_failures.clone());
        let help = "When the last pass succeeded, in seconds since 1970";
        r.register("reconcile_success_timestamp_seconds", help, self.pass_succeeded_at.clone());
        r.register("scheduler_decisions", "What was decided about sessions without a place", self.decisions.clone());
        let help = "Requests that were answered; the route is empty for a path that is none";
        r.register("http_requests", help, self.requests.clone());
        r.register("http_request_seconds", "From a request to the beginning of its answer", self.request.clone());
        r.register("saves_committed", "Captures of saves that became versions", self.saves.clone());
        r.register("save_failures", "Captures of saves that did not", self.save_failures.clone());
        let help = "Bytes of the content store at the last collection, every six hours; 0 before the first";
        r.register("content_store_bytes", help, self.content.clone());
    }

    /// A site has its lines from the moment on in which it is known.
    pub(crate) fn meet_site(&self, site: &str) {
        for outcome in ["connected", "player", "game", "platform", "operator"] {
            drop(self.starts.get_or_create(&StartLabels { site: site.to_owned(), outcome }));
        }
        if !site.is_empty() {
            drop(self.placements.get_or_create(&SiteLabels { site: site.to_owned() }));
        }
    }

    pub(crate) fn placed(&self, site: &str, waited: Duration) {
        self.wait.observe(waited.as_secs_f64());
        self.placements.get_or_create(&SiteLabels { site: site.to_owned() }).inc();
    }

    pub(crate) fn reached(&self, stage: Stage, after: Duration, has_queued: bool) {
        self.start.get_or_create(&start_labels(stage, has_queued)).observe(after.as_secs_f64());
    }

    pub(crate) fn started(&self, site: &str, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Connected => "connected",
            Outcome::Ended(party) => party_word(party),
        };
        self.starts.get_or_create(&StartLabels { site: site.to_owned(), outcome }).inc();
    }

    pub(crate) fn refused(&self, problem: &Problem) {
        let word = problem.kind.strip_prefix(TYPE_PREFIX).unwrap_or_default();
        // The catalogue's words alone are labels.
        let kind = ProblemKind::ALL.iter().map(|kind| kind.word()).find(|known| *known == word);
        let reason = kind.unwrap_or("unknown");
        let party = party_word(refusing_party(reason, problem.status));
        self.refusals.get_or_create(&[("reason", reason), ("party", party)]).inc();
    }

    pub(crate) fn recovering(&self) {
        self.recoveries.inc();
    }

    pub(crate) fn ended(&self, reason: EndReason, party: Party) {
        self.ends.get_or_create(&end_labels(reason, party)).inc();
    }

    pub(crate) fn played(&self, time: Duration) {
        self.played.inc_by(time.as_secs_f64());
    }

    pub(crate) fn interrupted(&self) {
        self.interruptions.inc();
    }

    pub(crate) fn interrupted_for(&self, time: Duration) {
        self.interrupted.inc_by(time.as_secs_f64());
    }

    /// This process leads from now on.
    pub(crate) fn leads(&self) {
        self.leads.set(1);
    }

    /// A pass took so long; `None` for the instant of one that failed.
    pub(crate) fn passed(&self, took: Duration, succeeded_at: Option<api::clock::UtcTime>) {
        self.pass.observe(took.as_secs_f64());
        match succeeded_at {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact for 285,000 years")]
            Some(at) => {
                self.pass_succeeded_at.set(at.unix_ms() as f64 / 1000.0);
            }
            None => {
                self.pass_failures.inc();
            }
        }
    }

    pub(crate) fn decided(&self, decision: Decision) {
        self.decisions.get_or_create(&[("decision", decision.word())]).inc();
    }

    pub(crate) fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let route = route.to_owned();
        self.request.get_or_create(&RouteLabels { route: route.clone(), method }).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
    }

    pub(crate) fn save_committed(&self, kind: SaveKind) {
        self.saves.get_or_create(&[("kind", save_word(kind))]).inc();
    }

    pub(crate) fn save_failed(&self, step: SaveStep) {
        self.save_failures.get_or_create(&[("step", step.word())]).inc();
    }

    pub(crate) fn collected(&self, collected: &content::Collected) {
        for (of, amount) in CONTENT.into_iter().zip([collected.kept, collected.young]) {
            self.content.get_or_create(&[("of", of)]).set(i64::try_from(amount.bytes).unwrap_or(i64::MAX));
        }
    }
}

fn start_labels(stage: Stage, has_queued: bool) -> Words {
    [("stage", stage.word()), ("queued", if has_queued { "yes" } else { "no" })]
}

fn end_labels(reason: EndReason, party: Party) -> Words {
    [("reason", reason.word()), ("party", party_word(party))]
}
