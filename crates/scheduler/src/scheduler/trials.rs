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

impl Trials {
    fn is_empty(&self) -> bool {
        self.playing.is_empty() && self.warned.is_empty()
    }
}

impl Scheduler {
    /// Warns one trial for each who ordered and waits here, and no more.
    pub(super) fn warn_trials(&mut self, now: Duration, site: SiteId, class: ClassId) {
        if self.trials.get(&(site, class)).is_none_or(Trials::is_empty) {
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
        // Who waits at several sites needs one place: at the first of them that has trials.
        let is_here = |session: SessionId| {
            self.queue.ticket(session).is_some_and(|ticket| {
                let has_trials =
                    |one: &&SiteId| self.trials.get(&(**one, class)).is_some_and(|trials| !trials.is_empty());
                ticket.sites.iter().find(has_trials) == Some(&site)
            })
        };
        let of_tenants = line.ordered.iter().map(|(id, tickets)| {
            let left = self.tenants.get(id).map_or(0, |tenant| tenant.grant.limit().saturating_sub(tenant.used));
            tickets.iter().filter(|(_, session)| is_here(*session)).take(left as usize).count()
        });
        let ordered = |session| self.queue.ticket(session).is_some_and(|ticket| !ticket.request.is_trial);
        let recovering = line.recovering.iter().filter(|(_, session)| ordered(*session) && is_here(*session));
        of_tenants.sum::<usize>() + recovering.count()
    }
}
