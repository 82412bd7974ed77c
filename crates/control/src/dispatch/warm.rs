//! Warm instances: which may be claimed, and by whom they are.
//!
//! A claim is decided here, and is good when it is written: until then it is said again with each look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::clock::UtcTime;
use api::id::SessionId;
use api::manifest::AppName;
use api::session::SessionState;

use crate::store::SessionRecord;

/// How long a player who asked is sure to be still there: the time that a warm instance needs to end. Longer starts games for players who have
/// gone, shorter asks players whether they want what they asked for a moment ago.
const MAKING_ROOM: Duration = Duration::from_secs(15);

/// What has to be the same: app, release, picture.
type Kind = (AppName, Option<u32>, [u32; 3]);

fn kind(record: &SessionRecord) -> Kind {
    let spec = record.spec;
    (record.app.clone(), record.release, [spec.width, spec.height, u32::from(spec.frames_per_second)])
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
    /// Those that make room, until their rows say so.
    giving_up: BTreeSet<SessionId>,
    /// One more makes room since the end of the last look.
    makes_room: bool,
    /// Those whose claim has come to nothing, or is written.
    released: Vec<SessionId>,
    /// Those that could not be claimed: nobody tries again.
    spoiled: BTreeSet<SessionId>,
}

impl Warm {
    /// Takes note of a row that lives.
    pub(super) fn see(&mut self, record: &SessionRecord) {
        if record.pool.is_none() {
            return;
        }
        self.forget(record.id);
        if matches!(record.state, SessionState::Stopping { .. }) {
            self.giving_up.remove(&record.id);
        }
        // One that was started again has an epoch that nobody asks with.
        let is_whole = record.epoch == 1 && !self.spoiled.contains(&record.id);
        if is_whole && matches!(record.state, SessionState::Ready { .. }) {
            let kind = kind(record);
            self.ready.entry(kind.clone()).or_default().insert(record.id);
            self.kinds.insert(record.id, kind);
        }
    }

    /// It lives no more.
    pub(super) fn gone(&mut self, id: SessionId) {
        self.forget(id);
        self.settle(id);
        self.giving_up.remove(&id);
        self.spoiled.remove(&id);
    }

    /// It is not to be had.
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
    pub(super) fn for_session(&self, record: &SessionRecord) -> Vec<SessionId> {
        // A later epoch is none that a warm instance has.
        if self.ready.is_empty() || record.epoch != 1 {
            return Vec::new();
        }
        let ready = self.ready.get(&kind(record)).into_iter().flatten();
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
        self.released.extend(self.claims.remove(&session));
        self.promised.remove(&session);
    }

    /// Those that may be nobody's again.
    pub(super) fn take_released(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.released)
    }

    /// A claim was not written, as there was no room for it.
    pub(super) fn spoil(&mut self, session: SessionId) {
        self.spoiled.extend(self.claims.get(&session));
        self.settle(session);
    }

    /// It makes room.
    pub(super) fn give_up(&mut self, id: SessionId) {
        self.makes_room |= self.giving_up.insert(id);
    }

    /// It need not, after all.
    pub(super) fn reprieve(&mut self, id: SessionId) {
        self.giving_up.remove(&id);
    }

    /// Those that make room and have not heard of it.
    pub(super) fn giving_up(&self) -> &BTreeSet<SessionId> {
        &self.giving_up
    }

    /// A session asks, and waits.
    pub(super) fn asked(&mut self, session: SessionId) {
        self.asked.push(session);
    }

    /// Ends a look: warm instances make room for those that asked, or do not.
    pub(super) fn promise(&mut self, now: UtcTime) {
        let asked = std::mem::take(&mut self.asked);
        if std::mem::take(&mut self.makes_room) {
            self.promised.extend(asked.into_iter().map(|session| (session, now)));
        }
    }

    /// True of one that gets the place of a warm instance in the time that this takes to end.
    pub(super) fn is_promised(&self, session: SessionId, now: UtcTime) -> bool {
        self.promised.get(&session).is_some_and(|since| now.since(*since) < MAKING_ROOM)
    }
}
