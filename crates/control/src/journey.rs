//! The way of one session, as far as this process saw it: what is counted of it, and the spans of its trace. Pure.
//!
//! It is told each new state and says what that was worth ([`Moment`]). Nothing depends on it: a process that begins anew, or takes over from
//! another one, knows less of the way and counts nothing twice. Deliberately absent: clocks, metrics, exporting.

use std::time::Duration;

use api::clock::UtcTime;
use api::session::{EndReason, Party, SessionState};
use api::trace::{Span, SpanId, TraceId, TraceParent};

use crate::store::SessionRecord;

/// How a start came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its player saw it.
    Connected,
    /// It ended before, by this party.
    Ended(Party),
}

/// What a new state was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It has its place, after so long.
    Placed { waited: Duration },
    /// A stage of the start was reached, so long after it was asked for.
    Reached { stage: Stage, after: Duration },
    /// The start is over: told once of each session.
    Started(Outcome),
    /// Its player was there for so long.
    Played(Duration),
    /// A play was interrupted by us: its node was lost or emptied, or it ended by a fault of the platform.
    Interrupted,
    /// The interruption lasted so long.
    InterruptedFor(Duration),
    /// It waits for another node.
    Recovering,
    /// It ended.
    Ended { reason: EndReason, party: Party },
    /// A save of it was not kept.
    Unsaved,
    /// A piece of the way is done: a span.
    Passed { name: &'static str, from: UtcTime, failure: Option<EndReason> },
}

/// How far a start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The game runs.
    Ready,
    /// It has drawn something.
    FirstFrame,
    /// Its player sees it.
    Connected,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::Ready, Self::FirstFrame, Self::Connected];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::FirstFrame => "first_frame",
            Self::Connected => "connected",
        }
    }
}

/// The trace of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) trace: TraceId,
    /// The client's span; `None` where the trace began here.
    pub(crate) parent: Option<SpanId>,
    /// The span of the session's start, under which everything else is.
    pub(crate) span: SpanId,
    pub(crate) sampled: bool,
}

impl Trace {
    /// For those who do a part of the work.
    pub(crate) fn below(self) -> TraceParent {
        TraceParent { trace: self.trace, span: self.span, sampled: self.sampled }
    }
}

/// The name of the span that is a session's whole start.
pub(crate) const START: &str = "session.start";

/// The way of a session.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    pub(crate) trace: Option<Trace>,
    asked: UtcTime,
    /// True when it was in the queue.
    pub(crate) has_queued: bool,
    /// When it had its place, its game ran, its first frame was drawn: of the first start alone.
    placed: Option<UtcTime>,
    ready: Option<UtcTime>,
    drawn: bool,
    /// Its start was counted.
    started: bool,
    playing_since: Option<UtcTime>,
    interrupted_since: Option<UtcTime>,
    unsaved: bool,
}

impl Journey {
    /// Of a session that is asked for now.
    pub(crate) fn new(asked: UtcTime, trace: Option<Trace>) -> Self {
        Self {
            trace,
            asked,
            has_queued: false,
            placed: None,
            ready: None,
            drawn: false,
            started: false,
            playing_since: None,
            interrupted_since: None,
            unsaved: false,
        }
    }

    /// Of a session that was there before this process: what it came through is not counted again.
    pub(crate) fn adopted(record: &SessionRecord, now: UtcTime) -> Self {
        let mut journey = Self::new(record.created_at, None);
        // How long it took is not known: it may have been down for a part of it.
        journey.placed = record.node.map(|_| record.changed_at);
        journey.unsaved = record.unsaved.is_some();
        journey.drawn = true;
        match record.state {
            SessionState::Connected { .. } => {
                (journey.ready, journey.started) = (Some(now), true);
                journey.playing_since = Some(now);
            }
            SessionState::Reconnecting { .. } | SessionState::Stopping { .. } => {
                (journey.ready, journey.started) = (Some(now), true);
            }
            SessionState::Recovering { since } => {
                (journey.ready, journey.started) = (Some(now), true);
                journey.interrupted_since = Some(since);
            }
            SessionState::Ready { .. } => journey.ready = Some(now),
            SessionState::Requested
            | SessionState::Queued { .. }
            | SessionState::Offered { .. }
            | SessionState::Reserved
            | SessionState::Preparing { .. }
            | SessionState::Ended { .. } => {}
        }
        journey
    }

    /// Takes the session as it is now; says what that was worth. The same state again is worth nothing.
    pub(crate) fn step(&mut self, record: &SessionRecord, now: UtcTime) -> Vec<Moment> {
        let mut moments = Vec::new();
        if record.unsaved.is_some() && !self.unsaved {
            moments.push(Moment::Unsaved);
        }
        self.unsaved = record.unsaved.is_some();
        let is_playing = matches!(record.state, SessionState::Connected { .. });
        if let Some(since) = self.playing_since.take_if(|_| !is_playing) {
            moments.push(Moment::Played(now.since(since)));
        }
        match record.state {
            SessionState::Requested | SessionState::Offered { .. } => {}
            SessionState::Queued { .. } => self.has_queued = true,
            SessionState::Reserved | SessionState::Preparing { .. } => self.placed(now, &mut moments),
            SessionState::Ready { .. } => self.ready(now, &mut moments),
            SessionState::Connected { .. } => {
                self.ready(now, &mut moments);
                self.connected(now, &mut moments);
            }
            SessionState::Reconnecting { .. } => {}
            SessionState::Recovering { .. } => {
                moments.push(Moment::Recovering);
                self.interrupted(now, &mut moments);
            }
            SessionState::Stopping { reason: EndReason::Moved } => self.interrupted(now, &mut moments),
            SessionState::Stopping { .. } => {}
            SessionState::Ended { reason, party, .. } => self.ended(reason, party, now, &mut moments),
        }
        if record.first_frame && !self.drawn && !record.state.is_ended() {
            self.drawn = true;
            moments.push(Moment::Reached { stage: Stage::FirstFrame, after: now.since(self.asked) });
        }
        moments
    }

    fn placed(&mut self, now: UtcTime, moments: &mut Vec<Moment>) {
        if self.placed.is_none() {
            self.placed = Some(now);
            moments.push(Moment::Placed { waited: now.since(self.asked) });
            moments.push(Moment::Passed { name: "session.place", from: self.asked, failure: None });
        }
    }

    fn ready(&mut self, now: UtcTime, moments: &mut Vec<Moment>) {
        if self.ready.is_none() {
            self.ready = Some(now);
            moments.push(Moment::Reached { stage: Stage::Ready, after: now.since(self.asked) });
            let from = self.placed.unwrap_or(self.asked);
            moments.push(Moment::Passed { name: "session.prepare", from, failure: None });
        }
    }

    fn connected(&mut self, now: UtcTime, moments: &mut Vec<Moment>) {
        if !self.started {
            self.started = true;
            moments.push(Moment::Started(Outcome::Connected));
            moments.push(Moment::Reached { stage: Stage::Connected, after: now.since(self.asked) });
            let from = self.ready.unwrap_or(self.asked);
            moments.push(Moment::Passed { name: "session.connect", from, failure: None });
            moments.push(Moment::Passed { name: START, from: self.asked, failure: None });
        }
        if let Some(since) = self.interrupted_since.take() {
            moments.push(Moment::InterruptedFor(now.since(since)));
            moments.push(Moment::Passed { name: "session.recover", from: since, failure: None });
        }
        self.playing_since.get_or_insert(now);
    }

    /// Only a play that had begun is interrupted.
    fn interrupted(&mut self, now: UtcTime, moments: &mut Vec<Moment>) {
        if self.started && self.interrupted_since.is_none() {
            self.interrupted_since = Some(now);
            moments.push(Moment::Interrupted);
        }
    }

    fn ended(&mut self, reason: EndReason, party: Party, now: UtcTime, moments: &mut Vec<Moment>) {
        let failure = matches!(party, Party::Game | Party::Platform).then_some(reason);
        if !self.started {
            self.started = true;
            moments.push(Moment::Started(Outcome::Ended(party)));
            moments.push(Moment::Passed { name: START, from: self.asked, failure });
        } else if party == Party::Platform && self.interrupted_since.is_none() {
            moments.push(Moment::Interrupted);
        }
        if let Some(since) = self.interrupted_since.take() {
            moments.push(Moment::InterruptedFor(now.since(since)));
            moments.push(Moment::Passed { name: "session.recover", from: since, failure });
        }
        moments.push(Moment::Ended { reason, party });
    }
}

/// The span of a piece of the way.
pub(crate) fn span(
    trace: Trace,
    (name, from, to): (&'static str, UtcTime, UtcTime),
    failure: Option<EndReason>,
    new: SpanId,
    record: &SessionRecord,
) -> Span {
    let is_whole = name == START;
    let at = |time: UtcTime| {
        std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(time.unix_ms()).unwrap_or(0))
    };
    let mut attributes = vec![
        ("kite.session.id", record.id.to_string()),
        ("kite.app", record.app.to_string()),
        ("kite.epoch", record.epoch.to_string()),
    ];
    attributes.extend(record.node.map(|node| ("kite.node.id", node.to_string())));
    Span {
        trace: trace.trace,
        id: if is_whole { trace.span } else { new },
        parent: if is_whole { trace.parent } else { Some(trace.span) },
        name,
        start: at(from),
        end: at(to),
        attributes,
        failure: failure.map(|reason| reason.word().to_owned()),
    }
}

#[cfg(test)]
mod tests;
