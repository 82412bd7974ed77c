//! Facts merged into intervals.
//!
//! What is kept of a span is a join of all that was told: the latest opening, the latest proof, the earliest closing. A join does not ask in which
//! order or how often, so duplicates, reorderings and delays change nothing; and each choice is the shorter time.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use serde::{Deserialize, Serialize};

use super::fact::{Closing, Fact, FactId, FactKind, MAX_EPOCH, MAX_SPAN};

/// A session's life: nothing outside of it is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// When it was asked for.
    pub begun: UtcTime,
    /// When it ended; `None` while it goes on, or while nobody knows.
    pub ended: Option<UtcTime>,
}

/// How an interval came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Ending {
    /// It goes on, as far as anybody knows: proven until `to`.
    Open,
    /// It was closed.
    Closed {
        /// Why.
        closing: Closing,
    },
    /// Nobody closed it before the next one opened or the session ended: it counts until the last moment that was proven.
    LastProven,
}

/// Time in which a player could play, without a gap. Not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The id of the fact that opened it.
    pub id: FactId,
    /// Whose.
    pub session: SessionId,
    /// Which instance of it.
    pub epoch: u32,
    /// Which connection to that instance.
    pub span: u32,
    /// From this moment.
    pub from: UtcTime,
    /// Until before this one.
    pub to: UtcTime,
    /// How it ended.
    pub ending: Ending,
}

impl Interval {
    /// How long, in milliseconds. Above zero.
    #[must_use]
    pub fn ms(&self) -> i64 {
        self.to.unix_ms().saturating_sub(self.from.unix_ms())
    }

    /// True when the platform broke it: metered, and rated zero, all of it.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self.ending {
            Ending::Closed { closing } => closing.is_fault(),
            Ending::Open | Ending::LastProven => false,
        }
    }
}

/// All that was told of one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    opened: Option<UtcTime>,
    proven: Option<UtcTime>,
    closed: Option<(UtcTime, Closing)>,
}

impl Span {
    fn join(&mut self, at: UtcTime, kind: FactKind) {
        match kind {
            FactKind::Opened => self.opened = self.opened.max(Some(at)),
            FactKind::Extended { .. } => self.proven = self.proven.max(Some(at)),
            FactKind::Closed { closing } => {
                // Of two closings at one moment, the one that is the platform's fault.
                let order = |(at, closing): &(UtcTime, Closing)| (*at, !closing.is_fault(), *closing);
                let told = (at, closing);
                self.closed = Some(self.closed.map_or(told, |known| std::cmp::min_by_key(known, told, order)));
            }
        }
    }
}

/// Why a fact is not taken. It is a bug of who told it: look at its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More instances than a session can have had.
    #[error("epoch {0} is above {MAX_EPOCH}: no session moves as often")]
    Epoch(u32),
    /// More connections than an instance can have had.
    #[error("span {0} is above {MAX_SPAN}: no player reconnects as often")]
    Span(u32),
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Something is known now that was not.
    New,
    /// It changes nothing: it was told before, or says less than what is known.
    Known,
}

/// What was told of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// By epoch, then span.
    spans: BTreeMap<(u32, u32), Span>,
}

impl Timeline {
    /// Takes one fact, whichever was taken before.
    ///
    /// # Errors
    /// Numbers that no session has.
    pub fn add(&mut self, fact: &Fact) -> Result<Added, Refused> {
        if fact.epoch > MAX_EPOCH {
            return Err(Refused::Epoch(fact.epoch));
        }
        if fact.span > MAX_SPAN {
            return Err(Refused::Span(fact.span));
        }
        let span = self.spans.entry((fact.epoch, fact.span)).or_default();
        let before = *span;
        span.join(fact.at, fact.kind);
        Ok(if *span == before { Added::Known } else { Added::New })
    }

    /// The intervals, earliest first: disjoint, none empty, inside the life, an earlier epoch before a later one.
    ///
    /// Where two spans overlap the later number has the time, from the moment at which it was opened: whoever opened it knew that the earlier one
    /// was over.
    #[must_use]
    pub fn intervals(&self, session: SessionId, life: Life) -> Vec<Interval> {
        let mut limit = life.ended.unwrap_or(UtcTime::from_unix_ms(i64::MAX));
        let mut is_last = life.ended.is_none();
        let mut intervals = Vec::new();
        for ((epoch, number), span) in self.spans.iter().rev() {
            // Without its opening nobody knows since when: nothing is counted until that fact comes.
            let Some(opened) = span.opened else { continue };
            let ending = match span.closed {
                Some((_, closing)) => Ending::Closed { closing },
                None if is_last => Ending::Open,
                None => Ending::LastProven,
            };
            let told = span.closed.map(|(at, _)| at).or(span.proven).unwrap_or(opened);
            let (from, to) = (opened.max(life.begun), told.min(limit));
            if from < to {
                let id = Fact { session, epoch: *epoch, span: *number, at: opened, kind: FactKind::Opened }.id();
                intervals.push(Interval { id, session, epoch: *epoch, span: *number, from, to, ending });
            }
            limit = limit.min(opened);
            is_last = false;
        }
        intervals.reverse();
        intervals
    }
}

/// What was told of many sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    timelines: BTreeMap<SessionId, Timeline>,
}

impl Book {
    /// Nothing was told yet.
    #[must_use]
    pub fn new() -> Book {
        Book::default()
    }

    /// Takes one fact.
    ///
    /// # Errors
    /// As [`Timeline::add`].
    pub fn add(&mut self, fact: &Fact) -> Result<Added, Refused> {
        self.timelines.entry(fact.session).or_default().add(fact)
    }

    /// The intervals of a session; none when nothing was told of it.
    #[must_use]
    pub fn intervals(&self, session: SessionId, life: Life) -> Vec<Interval> {
        self.timelines.get(&session).map_or_else(Vec::new, |timeline| timeline.intervals(session, life))
    }

    /// Sessions of which something was told, in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.timelines.keys().copied()
    }

    /// What is known of a session is not needed any more: it was invoiced, and its facts are in the database.
    pub fn forget(&mut self, session: SessionId) {
        self.timelines.remove(&session);
    }
}

/// Says what is wrong with intervals that shall be those of one session.
///
/// # Errors
/// A sentence that names the interval.
pub fn verify_intervals(intervals: &[Interval], life: Life) -> Result<(), String> {
    for interval in intervals {
        let name = interval.id;
        if interval.from >= interval.to {
            return Err(format!("interval {name} is empty or ends before it begins"));
        }
        if interval.from < life.begun || life.ended.is_some_and(|ended| interval.to > ended) {
            return Err(format!("interval {name} leaves the life of {}", interval.session));
        }
    }
    for pair in intervals.windows(2) {
        if pair[0].to > pair[1].from || (pair[0].epoch, pair[0].span) >= (pair[1].epoch, pair[1].span) {
            return Err(format!("intervals {} and {} overlap or are out of order", pair[0].id, pair[1].id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::session::EndReason;

    use super::*;

    const OPENED: FactKind = FactKind::Opened;
    const fn proof(beat: u32) -> FactKind {
        FactKind::Extended { beat }
    }
    const fn closed(reason: EndReason) -> FactKind {
        FactKind::Closed { closing: Closing::Ended(reason) }
    }
    const LEFT: FactKind = FactKind::Closed { closing: Closing::Disconnected };

    /// Facts as (epoch, span, ms, kind); intervals as (from, to, is a fault).
    fn check(life: (i64, Option<i64>), facts: &[(u32, u32, i64, FactKind)], expected: &[(i64, i64, bool)]) {
        let session = SessionId::from_uuid(uuid::Uuid::from_u128(3));
        let at = UtcTime::from_unix_ms;
        let life = Life { begun: at(life.0), ended: life.1.map(at) };
        let mut orders = vec![facts.to_vec(), facts.iter().rev().copied().collect(), [facts, facts].concat()];
        orders.push(facts.iter().skip(1).chain(facts.first()).copied().collect());
        for order in orders {
            let mut book = Book::new();
            for (epoch, span, ms, kind) in order {
                book.add(&Fact { session, epoch, span, at: at(ms), kind }).unwrap();
            }
            let intervals = book.intervals(session, life);
            verify_intervals(&intervals, life).unwrap();
            let found: Vec<_> =
                intervals.iter().map(|one| (one.from.unix_ms(), one.to.unix_ms(), one.is_fault())).collect();
            assert_eq!(found, expected, "{facts:?}");
        }
    }

    #[test]
    fn facts_become_intervals() {
        let left = closed(EndReason::PlayerLeft);
        let lost = closed(EndReason::NodeLost);
        let life = (0, Some(1000));
        check(life, &[(0, 0, 10, OPENED), (0, 0, 50, left)], &[(10, 50, false)]);
        check(life, &[(0, 0, 10, OPENED), (0, 0, 50, lost)], &[(10, 50, true)]);
        // Never closed: until the last proof.
        check(life, &[(0, 0, 10, OPENED), (0, 0, 20, proof(0)), (0, 0, 40, proof(1))], &[(10, 40, false)]);
        check(life, &[(0, 0, 10, OPENED)], &[]);
        // Without an opening nothing is counted.
        check(life, &[(0, 0, 50, left)], &[]);
        // A closing counts against a proof that came from elsewhere.
        check(life, &[(0, 0, 10, OPENED), (0, 0, 90, proof(4)), (0, 0, 50, left)], &[(10, 50, false)]);
        // The player came back.
        check(
            life,
            &[(0, 0, 10, OPENED), (0, 0, 50, LEFT), (0, 1, 60, OPENED), (0, 1, 90, left)],
            &[(10, 50, false), (60, 90, false)],
        );
        // The node was cut off and went on, while the session was elsewhere.
        check(
            life,
            &[(0, 0, 10, OPENED), (0, 0, 500, proof(9)), (1, 0, 60, OPENED), (1, 0, 90, left)],
            &[(10, 60, false), (60, 90, false)],
        );
        // The life cuts.
        check((20, Some(40)), &[(0, 0, 10, OPENED), (0, 0, 50, left)], &[(20, 40, false)]);
        check((0, None), &[(0, 0, 10, OPENED), (0, 0, 50, proof(0))], &[(10, 50, false)]);
        // Told twice with two readings of the clock: the shorter.
        check(life, &[(0, 0, 10, OPENED), (0, 0, 12, OPENED), (0, 0, 50, left), (0, 0, 48, left)], &[(12, 48, false)]);
        check(life, &[(0, 0, 10, OPENED), (0, 0, 50, left), (0, 0, 50, lost)], &[(10, 50, true)]);
        // The clock went back between two epochs.
        check(life, &[(0, 0, 50, OPENED), (0, 0, 90, left), (1, 0, 40, OPENED), (1, 0, 95, left)], &[(40, 95, false)]);
    }

    #[test]
    fn what_is_open_says_so() {
        let session = SessionId::from_uuid(uuid::Uuid::from_u128(3));
        let at = UtcTime::from_unix_ms;
        let mut line = Timeline::default();
        let mut add = |span, ms, kind| line.add(&Fact { session, epoch: 0, span, at: at(ms), kind });
        assert_eq!(add(0, 10, OPENED), Ok(Added::New));
        assert_eq!(add(0, 20, proof(0)), Ok(Added::New));
        assert_eq!(add(0, 20, proof(0)), Ok(Added::Known));
        assert_eq!(add(0, 15, proof(1)), Ok(Added::Known));
        assert_eq!(add(1, 30, OPENED), Ok(Added::New));
        assert_eq!(add(1, 40, proof(0)), Ok(Added::New));
        assert_eq!(add(MAX_SPAN + 1, 40, OPENED), Err(Refused::Span(MAX_SPAN + 1)));
        let endings = |ended: Option<i64>| -> Vec<Ending> {
            let life = Life { begun: at(0), ended: ended.map(at) };
            line.intervals(session, life).iter().map(|one| one.ending).collect()
        };
        assert_eq!(endings(None), [Ending::LastProven, Ending::Open]);
        assert_eq!(endings(Some(99)), [Ending::LastProven, Ending::LastProven]);
    }
}
