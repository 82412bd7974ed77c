//! What was before the scheduler began: it is told of every session that lives, and whoever drives it compares. And what is learnt of sessions
//! while it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Scheduler;
use crate::request::{NodeId, Request, SessionId, SiteId};
use crate::resources::Resources;

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

    /// What it takes, where it has a node, or will take, where it waits.
    #[must_use]
    pub fn resources_of(&self, session: SessionId) -> Option<Resources> {
        let running = self.running.get(&session).map(|running| running.request.resources);
        running.or_else(|| self.queue.ticket(session).map(|ticket| ticket.request.resources))
    }

    /// It takes so much, as is known now. Where it runs that counts from now on, also when the node has not so much: nothing else goes there
    /// then. Where it waits it keeps its place among the others. False when it is not known.
    pub fn set_resources(&mut self, now: Duration, session: SessionId, resources: Resources) -> bool {
        if let Some(running) = self.running.get_mut(&session) {
            let (node, before) = (running.node, running.request.resources);
            running.request.resources = resources;
            self.fleet.release(node, session, &before);
            self.fleet.reserve(node, session, &resources);
            let (site, class) = self.place_of(node);
            self.fill(now, site, class);
            return true;
        }
        let Some(before) = self.queue.ticket(session).cloned() else { return false };
        let request = Request { resources, ..before.request };
        let (sites, class) = (self.sites_for(&request), request.class);
        self.queue.resize(session, resources, sites.clone());
        let places: BTreeSet<SiteId> = before.sites.into_iter().chain(sites).collect();
        for site in places {
            self.fill(now, site, class);
        }
        true
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
