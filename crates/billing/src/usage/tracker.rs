//! Which facts a session's states are: the rule of what is billed, as a machine that whoever changes states shows them to.
//!
//! ```text
//!   not playable --connected--> playable(span, beats) --reconnecting, stopping, ended--> not playable
//!                                  |  ^
//!                                  '--' beat: he still could
//! ```

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::{EndReason, SessionState};
use serde::{Deserialize, Serialize};

use super::fact::{Closing, Fact, FactKind};

/// Whether the player can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
enum Playable {
    /// Not now.
    No {
        /// The span that opens next.
        next_span: u32,
    },
    /// Since its opening.
    Yes {
        /// This one.
        span: u32,
        /// The number of the next proof.
        next_beat: u32,
        /// The last moment at which it was proven.
        proven: UtcTime,
    },
}

/// What one session was seen doing. Kept in its row, it tells the same facts again after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracker {
    /// Whose.
    pub session: SessionId,
    epoch: u32,
    playable: Playable,
}

impl Tracker {
    /// Of a session that was asked for.
    #[must_use]
    pub const fn new(session: SessionId) -> Tracker {
        Tracker { session, epoch: 0, playable: Playable::No { next_span: 0 } }
    }

    /// The session is in this state, with this epoch, since `at`. Facts that follow, in order: none, one, or, when a new instance plays at once, two.
    ///
    /// A state that was seen before says nothing new. A state of an earlier epoch is nobody's.
    pub fn see(&mut self, at: UtcTime, epoch: u32, state: &SessionState) -> Vec<Fact> {
        let mut facts = Vec::new();
        if epoch < self.epoch {
            return facts;
        }
        if epoch > self.epoch {
            // Whoever moved or restarted it said why before; where nobody did, its node was lost.
            facts.extend(self.close_at_proof(Closing::Ended(EndReason::NodeLost)));
            self.epoch = epoch;
            self.playable = Playable::No { next_span: 0 };
        }
        match state {
            SessionState::Connected { .. } => facts.extend(self.open(at)),
            SessionState::Reconnecting { .. } => facts.extend(self.close(at, Closing::Disconnected)),
            SessionState::Stopping { reason } | SessionState::Ended { reason, .. } => {
                facts.extend(self.close(at, Closing::Ended(*reason)));
            }
            // Nobody knows when the node was lost: it was there at the last proof.
            SessionState::Recovering { .. } => facts.extend(self.close_at_proof(Closing::Ended(EndReason::NodeLost))),
            // The game begins anew, and its player is not there yet.
            SessionState::Requested
            | SessionState::Queued { .. }
            | SessionState::Offered { .. }
            | SessionState::Reserved
            | SessionState::Preparing { .. }
            | SessionState::Ready { .. } => facts.extend(self.close(at, Closing::Ended(EndReason::Restarted))),
        }
        facts
    }

    /// A node says that the player could still play at this moment. `None` where he could not, or where a later moment is proven.
    pub fn beat(&mut self, at: UtcTime, epoch: u32) -> Option<Fact> {
        let Playable::Yes { span, next_beat, proven } = self.playable else { return None };
        if epoch != self.epoch || at <= proven {
            return None;
        }
        self.playable = Playable::Yes { span, next_beat: next_beat.saturating_add(1), proven: at };
        Some(self.fact(at, span, FactKind::Extended { beat: next_beat }))
    }

    fn open(&mut self, at: UtcTime) -> Option<Fact> {
        let Playable::No { next_span: span } = self.playable else { return None };
        self.playable = Playable::Yes { span, next_beat: 0, proven: at };
        Some(self.fact(at, span, FactKind::Opened))
    }

    fn close(&mut self, at: UtcTime, closing: Closing) -> Option<Fact> {
        let Playable::Yes { span, .. } = self.playable else { return None };
        self.playable = Playable::No { next_span: span.saturating_add(1) };
        Some(self.fact(at, span, FactKind::Closed { closing }))
    }

    fn close_at_proof(&mut self, closing: Closing) -> Option<Fact> {
        let Playable::Yes { proven, .. } = self.playable else { return None };
        self.close(proven, closing)
    }

    const fn fact(&self, at: UtcTime, span: u32, kind: FactKind) -> Fact {
        Fact { session: self.session, epoch: self.epoch, span, at, kind }
    }
}

#[cfg(test)]
mod tests {
    use api::session::{Party, PrepareStage};

    use super::*;
    use crate::usage::{Life, Timeline};

    fn at(ms: i64) -> UtcTime {
        UtcTime::from_unix_ms(ms)
    }

    enum Seen {
        State(SessionState),
        Beat,
    }

    /// What is seen as (ms, epoch, what); and the intervals as (from, to, is a fault).
    fn check(seen: &[(i64, u32, Seen)], expected: &[(i64, i64, bool)]) {
        let session = SessionId::from_uuid(uuid::Uuid::from_u128(1));
        let (mut tracker, mut timeline) = (Tracker::new(session), Timeline::default());
        for (ms, epoch, seen) in seen {
            let facts = match seen {
                Seen::State(state) => {
                    let facts = tracker.see(at(*ms), *epoch, state);
                    assert!(tracker.see(at(*ms + 1), *epoch, state).is_empty(), "the same state again says nothing");
                    facts
                }
                Seen::Beat => tracker.beat(at(*ms), *epoch).into_iter().collect(),
            };
            facts.iter().for_each(|fact| assert!(timeline.add(fact).is_ok()));
            let text = serde_json::to_string(&tracker).unwrap();
            assert_eq!(serde_json::from_str::<Tracker>(&text).unwrap(), tracker);
        }
        let intervals = timeline.intervals(session, Life { begun: at(0), ended: None });
        let found: Vec<_> =
            intervals.iter().map(|one| (one.from.unix_ms(), one.to.unix_ms(), one.is_fault())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_time_in_which_the_player_could_play_is_billed() {
        let connected = || Seen::State(SessionState::Connected { since: at(0) });
        let broken = || Seen::State(SessionState::Reconnecting { until: at(0) });
        let ready = || Seen::State(SessionState::Ready { connect_until: at(0) });
        let preparing = || Seen::State(SessionState::Preparing { stage: PrepareStage::Game });
        let ended = |reason: EndReason| Seen::State(SessionState::Ended { reason, party: reason.party(), at: at(0) });
        let stopping = |reason| Seen::State(SessionState::Stopping { reason });
        let lost = || Seen::State(SessionState::Recovering { since: at(0) });
        assert_eq!(EndReason::NodeLost.party(), Party::Platform);
        // Preparing and ready cost nothing, nor does stopping.
        let whole = [
            (1, 0, Seen::State(SessionState::Requested)),
            (2, 0, preparing()),
            (9, 0, ready()),
            (20, 0, connected()),
            (50, 0, stopping(EndReason::PlayerLeft)),
            (70, 0, ended(EndReason::PlayerLeft)),
        ];
        check(&whole, &[(20, 50, false)]);
        // Nor does the time in which the connection was broken.
        let twice = [(20, 0, connected()), (30, 0, broken()), (45, 0, connected()), (60, 0, ended(EndReason::Idle))];
        check(&twice, &[(20, 30, false), (45, 60, false)]);
        // Who never connects pays nothing.
        check(&[(9, 0, ready()), (99, 0, ended(EndReason::ConnectTimeout))], &[]);
        // A lost node: on record until the last proof, free, and then another instance.
        let moved = [
            (20, 0, connected()),
            (30, 0, Seen::Beat),
            (25, 0, Seen::Beat),
            (40, 0, lost()),
            (50, 1, preparing()),
            (55, 0, Seen::Beat),
            (60, 1, connected()),
            (75, 1, Seen::Beat),
        ];
        check(&moved, &[(20, 30, true), (60, 75, false)]);
        // A restart that somebody asked for is no fault.
        let restarted = [
            (20, 0, connected()),
            (30, 0, stopping(EndReason::Restarted)),
            (40, 1, preparing()),
            (50, 1, connected()),
            (60, 1, ended(EndReason::StreamerFailed)),
        ];
        check(&restarted, &[(20, 30, false), (50, 60, true)]);
        // Nobody told that the first instance was gone.
        let silent = [(20, 0, connected()), (30, 0, Seen::Beat), (50, 1, connected()), (60, 1, ended(EndReason::Idle))];
        check(&silent, &[(20, 30, true), (50, 60, false)]);
    }
}
