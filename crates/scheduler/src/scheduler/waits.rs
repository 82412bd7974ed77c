//! What somebody who waits is told: for what, at which place, for how long; and why a better place was not his.

use super::{Scheduler, WaitReason, Waiting, count, mark};
use crate::estimate::{Lengths, Outcomes};
use crate::explain::{Explanation, Verdict};
use crate::queue::Ticket;
use crate::request::{ClassId, SessionId, SiteId, TenantId};
use crate::resources::Resources;

impl Scheduler {
    /// Says of each site that would be better than the chosen one that it has no room, where that is why it is not taken.
    pub(super) fn tell_full(
        &mut self,
        why: &mut Explanation,
        candidates: &[(u32, SiteId)],
        chosen: SiteId,
        class: ClassId,
        need: &Resources,
    ) {
        for (_, site) in candidates.iter().take_while(|(_, site)| *site != chosen) {
            if self.fleet.find(*site, class, need).is_none() {
                mark(why, *site, self.no_room(*site, class, need));
            }
        }
    }

    /// Why there is no room at a site where there is none.
    pub(super) fn no_room(&self, site: SiteId, class: ClassId, need: &Resources) -> Verdict {
        let has_ready = self.fleet.pool(site, class).is_some_and(|pool| pool.has_ready());
        let lacking = self.fleet.lacking(site, class, need).filter(|_| has_ready);
        lacking.map_or(Verdict::NoNode, |of| Verdict::Full { of })
    }

    /// How a wait stands; `None` when it does not wait.
    #[must_use]
    pub fn waiting(&self, session: SessionId) -> Option<Waiting> {
        let ticket = self.queue.ticket(session)?;
        let tenant = self.tenants.get(&ticket.request.tenant)?;
        if ticket.is_recovering || tenant.has_quota() {
            let (position, expected_s) = self.turn(ticket, session);
            let estimate = expected_s.map(|expected_s| self.outcomes.estimate(position, expected_s));
            return Some(Waiting { reason: WaitReason::Capacity, position, estimate });
        }
        let own = self.queue.of_tenant(ticket.request.tenant)?;
        let position = count(own.range(..(ticket.key, session)).count()) + 1;
        let rate = self.lengths_at(ticket.sites.first().copied(), ticket.request.class).rate(tenant.used);
        // What is learnt is of full sites: a tenant's own sessions end as they end.
        let estimate = (rate > 0.0).then(|| Outcomes::new().estimate(position, f64::from(position) / rate));
        Some(Waiting { reason: WaitReason::Quota { limit: tenant.grant.limit() }, position, estimate })
    }

    /// Its best position, and in how many seconds it would be its turn if nobody ever gave up; `None` when nothing runs that could end. It waits at
    /// all its sites at once: turns come as often as at all of them together.
    pub(super) fn turn(&self, ticket: &Ticket, session: SessionId) -> (u32, Option<f64>) {
        let (mut best, mut turns_per_s) = (u32::MAX, 0.0);
        for site in &ticket.sites {
            let position = self.position(ticket, session, *site);
            let running = self.fleet.running_at(*site, ticket.request.class);
            let rate = self.lengths_at(Some(*site), ticket.request.class).rate(running);
            turns_per_s += rate / f64::from(position);
            best = best.min(position);
        }
        if ticket.sites.is_empty() {
            return (1, None);
        }
        (best, (turns_per_s > 0.0).then(|| 1.0 / turns_per_s))
    }

    fn lengths_at(&self, site: Option<SiteId>, class: ClassId) -> Lengths {
        let known = site.and_then(|site| self.lengths.get(&(site, class)).copied());
        known.unwrap_or_else(|| Lengths::new(self.settings.usual_length))
    }

    /// How manieth it is at a site, when all others there stay.
    fn position(&self, ticket: &Ticket, session: SessionId, site: SiteId) -> u32 {
        let Some(line) = self.queue.line(site, ticket.request.class) else { return 1 };
        let entry = (ticket.key, session);
        if ticket.is_recovering {
            return count(line.recovering.range(..entry).count()) + 1;
        }
        let lot = if ticket.request.is_trial { &line.trials } else { &line.ordered };
        // A trial comes after all who ordered.
        let paid = if ticket.request.is_trial { line.paid } else { count(line.recovering.len()) };
        let own = lot.get(&ticket.request.tenant).map_or(0, |own| count(own.range(..entry).count()));
        let weight = |id: &TenantId| self.tenants.get(id).map_or(1, |tenant| tenant.grant.weight.max(1));
        let own_weight = weight(&ticket.request.tenant);
        let others = lot.iter().filter(|(id, _)| **id != ticket.request.tenant);
        // While this tenant is served so often, another is served as often for its weight, or until it has nobody there.
        let before = others.map(|(id, tickets)| {
            let share = u64::from(own + 1) * u64::from(weight(id)) / u64::from(own_weight);
            count(tickets.len()).min(u32::try_from(share).unwrap_or(u32::MAX))
        });
        paid + own + before.sum::<u32>() + 1
    }
}
