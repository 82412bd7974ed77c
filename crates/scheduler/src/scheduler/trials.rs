//! Trials: one is warned for each who ordered and waits for its place, and ends when its time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Event, Scheduler};
use crate::request::{ClassId, SessionId, SiteId};

/// Trials of one site and class.
#[derive(Clone, Debug, Default)]
pub(super) struct Trials {
    /// Those that were not warned, the longest-playing first.
    pub(super) playing: BTreeSet<(Duration, SessionId)>,
    /// Those that end, and when; the time is over of those that are not in `endings` any more.
    pub(super) warned: BTreeMap<SessionId, Duration>,
}

impl Scheduler {
    /// Warns one trial for each who ordered and waits here, and no more.
    pub(super) fn warn_trials(&mut self, now: Duration, site: SiteId, class: ClassId) {
        if !self.trials.contains_key(&(site, class)) {
            return;
        }
        let needed = self.needed_by_paid(site, class);
        let Some(trials) = self.trials.get_mut(&(site, class)) else { return };
        while trials.warned.len() > needed {
            // Whose time is over has been told to end.
            let may_stay = trials.warned.iter().filter(|(session, until)| self.endings.contains(&(**until, **session)));
            let Some((session, until)) = may_stay.max_by_key(|(session, until)| (**until, **session)) else { return };
            let (session, until) = (*session, *until);
            trials.warned.remove(&session);
            self.endings.remove(&(until, session));
            let since = self.running.get(&session).map_or(now, |running| running.since);
            trials.playing.insert((since, session));
            self.events.push(Event::Reprieved { session });
        }
        while trials.warned.len() < needed {
            let Some((_, session)) = trials.playing.pop_first() else { return };
            let until = now.saturating_add(self.settings.warning);
            trials.warned.insert(session, until);
            self.endings.insert((until, session));
            self.events.push(Event::Warned { session, until });
        }
    }

    /// Places that would be taken at once by those who ordered: not by those who wait for their tenant's own sessions to end.
    fn needed_by_paid(&self, site: SiteId, class: ClassId) -> usize {
        let Some(line) = self.queue.line(site, class).filter(|line| line.paid > 0) else { return 0 };
        let is_paid = |session: SessionId| self.queue.ticket(session).is_some_and(|ticket| !ticket.request.is_trial);
        let of_tenants = line.tenants.iter().map(|(id, tickets)| {
            let left = self.tenants.get(id).map_or(0, |tenant| tenant.grant.limit().saturating_sub(tenant.used));
            tickets.iter().filter(|(_, session)| is_paid(*session)).take(left as usize).count()
        });
        of_tenants.sum::<usize>() + line.recovering.iter().filter(|(_, session)| is_paid(*session)).count()
    }
}
