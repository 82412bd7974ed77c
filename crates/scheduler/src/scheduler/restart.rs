//! What was before the scheduler began: it is told of every session that lives, and whoever drives it compares.

use std::time::Duration;

use super::Scheduler;
use crate::request::{NodeId, Request, SessionId};

impl Scheduler {
    /// A session that has its node already: from before the scheduler began. What it uses is counted, whether it fits or not. False when the session
    /// is known.
    pub fn adopt(
        &mut self,
        now: Duration,
        session: SessionId,
        request: Request,
        node: NodeId,
        offered_until: Option<Duration>,
    ) -> bool {
        let is_new = !self.running.contains_key(&session) && self.queue.ticket(session).is_none();
        if is_new {
            self.start(now, session, request, node, offered_until);
        }
        is_new
    }

    /// A session whose node was lost before the scheduler began. As [`Scheduler::recover`].
    pub fn adopt_lost(&mut self, now: Duration, session: SessionId, request: Request) {
        if self.running.contains_key(&session) || self.queue.ticket(session).is_some() {
            return;
        }
        if let Some(tenant) = self.tenants.get_mut(&request.tenant) {
            tenant.used += 1;
        }
        self.wait_recovering(now, session, request);
    }

    /// True when it waits or has a node.
    #[must_use]
    pub fn knows(&self, session: SessionId) -> bool {
        self.running.contains_key(&session) || self.queue.ticket(session).is_some()
    }

    /// All sessions, in order of their numbers.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.running.keys().copied().chain(self.queue.sessions()).collect();
        sessions.sort_unstable();
        sessions
    }
}
