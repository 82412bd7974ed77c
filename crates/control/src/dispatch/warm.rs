//! Warm instances: which may be claimed, and by whom they are.
//!
//! A claim is decided here, and is good when it is written: until then it is said again with each look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::SessionState;

use super::{Played, release_name};
use crate::store::SessionRecord;

/// How long a player who asked is sure to be still there: the time that a warm instance needs to end. Longer starts games for players who have
/// gone, shorter asks players whether they want what they asked for a moment ago.
const MAKING_ROOM: Duration = Duration::from_secs(15);

/// What has to be the same: the release, and the picture.
type Kind = (String, [u32; 3]);

fn kind(record: &SessionRecord, played: &Played) -> Kind {
    let spec = record.spec;
    (release_name(record, played), [spec.width, spec.height, u32::from(spec.frames_per_second)])
}

#[derive(Debug, Default)]
pub(super) struct Warm {
    ready: BTreeMap<Kind, BTreeSet<SessionId>>,
    kinds: BTreeMap<SessionId, Kind>,
    /// Which session takes which one.
    claims: BTreeMap<SessionId, SessionId>,
    /// Which sessions asked in this look and wait.
    asked: Vec<SessionId>,
    /// For which ones a warm instance makes room, and since when.
    promised: BTreeMap<SessionId, UtcTime>,
}

impl Warm {
    /// Takes note of a row that lives.
    pub(super) fn see(&mut self, record: &SessionRecord, played: impl FnOnce() -> Played) {
        if record.pool.is_none() {
            return;
        }
        self.forget(record.id);
        if matches!(record.state, SessionState::Ready { .. }) {
            let kind = kind(record, &played());
            self.ready.entry(kind.clone()).or_default().insert(record.id);
            self.kinds.insert(record.id, kind);
        }
    }

    /// It lives no more, or is not to be had.
    pub(super) fn forget(&mut self, id: SessionId) {
        if let Some(kind) = self.kinds.remove(&id)
            && let Some(ready) = self.ready.get_mut(&kind)
        {
            ready.remove(&id);
            if ready.is_empty() {
                self.ready.remove(&kind);
            }
        }
    }

    /// Those that a session could take, the oldest first.
    pub(super) fn for_session(&self, record: &SessionRecord, played: &Played) -> Vec<SessionId> {
        // A later epoch is none that a warm instance has.
        if self.ready.is_empty() || record.epoch != 1 {
            return Vec::new();
        }
        let ready = self.ready.get(&kind(record, played)).into_iter().flatten();
        ready.filter(|id| !self.is_claimed(**id)).copied().collect()
    }

    /// One session takes one instance.
    pub(super) fn claim(&mut self, session: SessionId, warm: SessionId) {
        self.claims.insert(session, warm);
    }

    /// What a session that has no row with a place yet takes.
    pub(super) fn claimed_by(&self, session: SessionId) -> Option<SessionId> {
        self.claims.get(&session).copied()
    }

    /// Somebody takes it, and that is not written yet.
    pub(super) fn is_claimed(&self, warm: SessionId) -> bool {
        self.claims.values().any(|one| *one == warm)
    }

    /// The claim is written, or has come to nothing.
    pub(super) fn settle(&mut self, session: SessionId) {
        self.claims.remove(&session);
        self.promised.remove(&session);
    }

    /// A session asks, and waits.
    pub(super) fn asked(&mut self, session: SessionId) {
        self.asked.push(session);
    }

    /// Ends a look: warm instances make room for those that asked, or do not.
    pub(super) fn promise(&mut self, now: UtcTime, make_room: bool) {
        let asked = std::mem::take(&mut self.asked);
        if make_room {
            self.promised.extend(asked.into_iter().map(|session| (session, now)));
        }
    }

    /// True of one that gets the place of a warm instance in the time that this takes to end.
    pub(super) fn is_promised(&self, session: SessionId, now: UtcTime) -> bool {
        self.promised.get(&session).is_some_and(|since| now.since(*since) < MAKING_ROOM)
    }
}
