//! Warm instances: sessions without a player, which somebody may take over as they are.
//!
//! They are asked for as trials, so that they go first where somebody else has no place, and never before anybody in a line.

use std::time::Duration;

use super::{Running, Scheduler, mark};
use crate::explain::{Explanation, Verdict};
use crate::fleet::NodeState;
use crate::quota::Tenant;
use crate::request::{ClassId, NodeId, Request, SessionId, SiteId, TenantId};

/// A place that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whose it was: it runs no more, as far as the scheduler is concerned.
    pub of: SessionId,
    /// Where.
    pub node: NodeId,
    /// Why there.
    pub why: Explanation,
}

impl Scheduler {
    /// Gives a session that asks the place of one of these, which run what it wants and have nobody. `None` when another site is so much better
    /// that it had rather start there from nothing, when others wait where it would, or when its tenant's quota is used: then it is to
    /// [ask](Scheduler::ask).
    pub fn take_over(
        &mut self,
        now: Duration,
        session: SessionId,
        request: &Request,
        warm: &[SessionId],
    ) -> Option<Taken> {
        let is_known = self.running.contains_key(&session) || self.queue.ticket(session).is_some();
        if warm.is_empty() || is_known || !self.tenants.get(&request.tenant).is_some_and(Tenant::has_quota) {
            return None;
        }
        let (candidates, mut why) = self.candidates(request);
        if candidates.iter().any(|(_, site)| self.is_waited_for(*site, request.class)) {
            return None;
        }
        let bonus = self.settings.warm_weight.saturating_mul(10);
        let (mut found, mut best_cold): (Option<(u32, SessionId, NodeId)>, Option<u32>) = (None, None);
        for (score, site) in candidates.iter().copied() {
            if found.is_none() {
                found = self.warm_at(site, request, warm).map(|(of, node)| (score, of, node));
            }
            if best_cold.is_none() && self.fleet.find(site, request.class, &request.resources).is_some() {
                best_cold = Some(score);
            }
        }
        let (score, of, node) = found.filter(|(score, ..)| best_cold.is_none_or(|cold| *score <= cold + bonus))?;
        let chosen = self.place_of(node).0;
        self.tell_full(&mut why, &candidates, chosen, request.class, &request.resources);
        let before = self.stop(of)?;
        let had_quota = self.tenants.get(&before.request.tenant).is_some_and(Tenant::has_quota);
        self.return_quota(before.request.tenant);
        self.start(now, session, request.clone(), node, None);
        if !had_quota {
            self.fill_for(now, before.request.tenant);
        }
        let (site, class) = self.place_of(node);
        mark(&mut why, site, Verdict::Chosen { node, score });
        // It may need less than what it replaces.
        self.fill(now, site, class);
        Some(Taken { of, node, why })
    }

    /// Gives a place to what nobody waits for: now, beside nobody who does, or not at all. Says what each site said.
    ///
    /// # Errors
    /// There is no such place.
    pub fn place(&mut self, now: Duration, session: SessionId, request: Request) -> Result<NodeId, Explanation> {
        let is_known = self.running.contains_key(&session) || self.queue.ticket(session).is_some();
        let (candidates, mut why) = self.candidates(&request);
        if is_known || !self.tenants.get(&request.tenant).is_some_and(Tenant::has_quota) {
            return Err(why);
        }
        let class = request.class;
        for (_, site) in &candidates {
            if self.is_waited_for(*site, class) {
                let length = self.queue.line(*site, class).map_or(0, |line| line.length);
                mark(&mut why, *site, Verdict::Queued { ahead: length });
                continue;
            }
            if let Some(node) = self.fleet.find(*site, class, &request.resources) {
                self.start(now, session, request, node, None);
                return Ok(node);
            }
            mark(&mut why, *site, self.no_room(*site, class, &request.resources));
        }
        Err(why)
    }

    /// Somebody waits here who would have what is free: not only for sessions of his own tenant to end.
    fn is_waited_for(&self, site: SiteId, class: ClassId) -> bool {
        let Some(line) = self.queue.line(site, class) else { return false };
        let has_quota = |id: &TenantId| self.tenants.get(id).is_some_and(Tenant::has_quota);
        !line.recovering.is_empty() || [&line.ordered, &line.trials].into_iter().any(|lot| lot.keys().any(has_quota))
    }

    /// The first of these that is at the site, on a node that takes sessions.
    fn warm_at(&self, site: SiteId, request: &Request, warm: &[SessionId]) -> Option<(SessionId, NodeId)> {
        let is_here = |running: &&Running| {
            let node = self.fleet.node(running.node);
            let room = node.capacity.minus(&node.used.minus(&running.request.resources));
            (node.site, node.class) == (site, request.class)
                && node.state == NodeState::Ready
                && running.offered_until.is_none()
                && request.resources.fits_in(&room)
        };
        warm.iter().find_map(|of| self.running.get(of).filter(is_here).map(|running| (*of, running.node)))
    }
}
