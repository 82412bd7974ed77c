//! What somebody who waits is told: for what, at which place, for how long.

use std::time::Duration;

use super::{Scheduler, WaitReason, Waiting, count};
use crate::estimate::Lengths;
use crate::queue::Ticket;
use crate::request::{ClassId, SessionId, SiteId, TenantId};

impl Scheduler {
    /// How a wait stands; `None` when it does not wait.
    #[must_use]
    pub fn waiting(&self, session: SessionId) -> Option<Waiting> {
        let ticket = self.queue.ticket(session)?;
        let tenant = self.tenants.get(&ticket.request.tenant)?;
        if !ticket.is_recovering && !tenant.has_quota() {
            let own = self.queue.of_tenant(ticket.request.tenant)?;
            let position = count(own.range(..(ticket.key, session)).count()) + 1;
            let lengths = self.lengths_at(ticket.sites.first().copied(), ticket.request.class);
            let estimate = lengths.wait(position, tenant.used);
            return Some(Waiting { reason: WaitReason::Quota { limit: tenant.grant.limit() }, position, estimate });
        }
        let at = |site: &SiteId| {
            let position = self.position(ticket, session, *site);
            let running = self.fleet.running_at(*site, ticket.request.class);
            (self.lengths_at(Some(*site), ticket.request.class).wait(position, running), position)
        };
        let best = ticket.sites.iter().map(at).min_by_key(|(estimate, position)| {
            (estimate.map_or(Duration::MAX, |estimate| estimate.expected), *position)
        });
        let (estimate, position) = best.unwrap_or((None, 1));
        Some(Waiting { reason: WaitReason::Capacity, position, estimate })
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
        let own = line.tenants.get(&ticket.request.tenant).map_or(0, |own| count(own.range(..entry).count()));
        let weight = |id: &TenantId| self.tenants.get(id).map_or(1, |tenant| tenant.grant.weight.max(1));
        let own_weight = weight(&ticket.request.tenant);
        let others = line.tenants.iter().filter(|(id, _)| **id != ticket.request.tenant);
        // While this tenant is served so often, another is served as often for its weight, or until it has nobody there.
        let before = others.map(|(id, tickets)| {
            let share = u64::from(own + 1) * u64::from(weight(id)) / u64::from(own_weight);
            count(tickets.len()).min(u32::try_from(share).unwrap_or(u32::MAX))
        });
        count(line.recovering.len()) + own + before.sum::<u32>() + 1
    }
}
