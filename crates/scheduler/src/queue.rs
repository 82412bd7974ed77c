//! Who waits, and who is next. Pure bookkeeping: whether there is room is asked elsewhere.
//!
//! A place goes, in this order,
//! 1. to sessions that lost their node;
//! 2. to those who ordered, then to trials, which would only be ended again for the others; among them
//!    to tenants under their guarantee, then to those that borrow;
//! 3. among these to the tenant that was served least for its weight;
//! 4. within the tenant by arrival, a higher priority being worth a fixed number of arrivals: nobody is overtaken by more than that many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::request::{ClassId, Request, SessionId, SiteId, TenantId};
use crate::resources::Resources;

/// So many later arrivals a step of priority goes before. More makes priorities worth more, fewer makes the others wait less.
pub(crate) const ARRIVALS_PER_PRIORITY: i64 = 64;

/// Where a ticket stands within its tenant: lower is earlier.
pub(crate) type Key = (i64, u64);

#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) request: Request,
    pub(crate) key: Key,
    pub(crate) since: Duration,
    /// Where it may be, the best first.
    pub(crate) sites: Vec<SiteId>,
    /// It holds its place in the tenant's quota: its node was lost.
    pub(crate) is_recovering: bool,
    /// Its position when it came, and in how many seconds it was to be its turn.
    pub(crate) told: Option<(u32, f64)>,
    /// How often a later one was served since it is the first.
    pub(crate) overtaken: u32,
}

/// Tickets in their order.
pub(crate) type ByTenant = BTreeMap<TenantId, BTreeSet<(Key, SessionId)>>;

/// The tickets of one site and class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) recovering: BTreeSet<(Key, SessionId)>,
    /// Of those who ordered.
    pub(crate) ordered: ByTenant,
    /// Trials come after all of these.
    pub(crate) trials: ByTenant,
    /// Tickets that are no trials, those that recover included.
    pub(crate) paid: u32,
    pub(crate) length: u32,
    /// What the tickets need, and how many need just that: few kinds, however long the line is.
    needs: BTreeMap<[u32; 6], (Resources, u32)>,
}

impl Line {
    /// Each kind of need once.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Resources> + '_ {
        self.needs.values().map(|(need, _)| *need)
    }
}

/// All tickets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    tickets: HashMap<SessionId, Ticket>,
    lines: BTreeMap<(SiteId, ClassId), Line>,
    deadlines: BTreeSet<(Duration, SessionId)>,
    of_tenant: HashMap<TenantId, BTreeSet<(Key, SessionId)>>,
    arrivals: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn ticket(&self, session: SessionId) -> Option<&Ticket> {
        self.tickets.get(&session)
    }

    pub(crate) fn ticket_mut(&mut self, session: SessionId) -> Option<&mut Ticket> {
        self.tickets.get_mut(&session)
    }

    pub(crate) fn line(&self, site: SiteId, class: ClassId) -> Option<&Line> {
        self.lines.get(&(site, class))
    }

    /// The tenant's tickets in their order; those that recover are not among them.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> Option<&BTreeSet<(Key, SessionId)>> {
        self.of_tenant.get(&tenant)
    }

    /// Sites and classes at which somebody waits.
    pub(crate) fn lines(&self) -> Vec<(SiteId, ClassId)> {
        self.lines.keys().copied().collect()
    }

    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<_> = self.deadlines.iter().map(|(_, session)| *session).collect();
        sessions.sort_unstable();
        sessions
    }

    pub(crate) fn add(
        &mut self,
        now: Duration,
        session: SessionId,
        request: Request,
        sites: Vec<SiteId>,
        is_recovering: bool,
    ) {
        self.arrivals += 1;
        let rank =
            i64::try_from(self.arrivals).unwrap_or(i64::MAX) - i64::from(request.priority.0) * ARRIVALS_PER_PRIORITY;
        let key = (rank, self.arrivals);
        self.insert(session, Ticket { request, key, since: now, sites, is_recovering, told: None, overtaken: 0 });
    }

    fn insert(&mut self, session: SessionId, ticket: Ticket) {
        let (request, entry) = (&ticket.request, (ticket.key, session));
        for site in &ticket.sites {
            let line = self.lines.entry((*site, request.class)).or_default();
            line.length += 1;
            line.needs.entry(request.resources.amounts()).or_insert((request.resources, 0)).1 += 1;
            line.paid += u32::from(!request.is_trial);
            if ticket.is_recovering {
                line.recovering.insert(entry);
            } else {
                let lot = if request.is_trial { &mut line.trials } else { &mut line.ordered };
                lot.entry(request.tenant).or_default().insert(entry);
            }
        }
        if !ticket.is_recovering {
            self.of_tenant.entry(request.tenant).or_default().insert(entry);
        }
        self.deadlines.insert((ticket.since.saturating_add(request.patience), session));
        self.tickets.insert(session, ticket);
    }

    pub(crate) fn remove(&mut self, session: SessionId) -> Option<Ticket> {
        let ticket = self.tickets.remove(&session)?;
        let (tenant, class, entry) = (ticket.request.tenant, ticket.request.class, (ticket.key, session));
        for site in &ticket.sites {
            let Some(line) = self.lines.get_mut(&(*site, class)) else { continue };
            line.length -= 1;
            let need = ticket.request.resources.amounts();
            if let Some((_, count)) = line.needs.get_mut(&need) {
                *count -= 1;
                if *count == 0 {
                    line.needs.remove(&need);
                }
            }
            line.paid -= u32::from(!ticket.request.is_trial);
            line.recovering.remove(&entry);
            let lot = if ticket.request.is_trial { &mut line.trials } else { &mut line.ordered };
            if let Some(own) = lot.get_mut(&tenant) {
                own.remove(&entry);
                if own.is_empty() {
                    lot.remove(&tenant);
                }
            }
            if line.length == 0 {
                self.lines.remove(&(*site, class));
            }
        }
        if let Some(own) = self.of_tenant.get_mut(&tenant) {
            own.remove(&entry);
            if own.is_empty() {
                self.of_tenant.remove(&tenant);
            }
        }
        self.deadlines.remove(&(ticket.since.saturating_add(ticket.request.patience), session));
        Some(ticket)
    }

    /// Other sites may take it now; its place among the others stays.
    pub(crate) fn move_to(&mut self, session: SessionId, sites: Vec<SiteId>) {
        let Some(ticket) = self.remove(session) else { return };
        self.insert(session, Ticket { sites, ..ticket });
    }

    /// It needs so much, and so other sites may take it now; its place among the others stays.
    pub(crate) fn resize(&mut self, session: SessionId, resources: Resources, sites: Vec<SiteId>) {
        let Some(mut ticket) = self.remove(session) else { return };
        ticket.request.resources = resources;
        self.insert(session, Ticket { sites, ..ticket });
    }

    /// Whose patience is over.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<SessionId> {
        self.deadlines.iter().take_while(|(until, _)| *until <= now).map(|(_, session)| *session).collect()
    }

    pub(crate) fn verify(&self) -> Result<(), String> {
        let mut entries = 0;
        for ((site, class), line) in &self.lines {
            let all: Vec<_> =
                line.recovering.iter().chain(line.ordered.values().chain(line.trials.values()).flatten()).collect();
            if all.len() != line.length as usize || all.is_empty() {
                return Err(format!("the line of {site:?} {class:?} has {} tickets, not {}", all.len(), line.length));
            }
            for (key, session) in all {
                let ticket = self.tickets.get(session).ok_or_else(|| format!("{session:?} waits without a ticket"))?;
                if ticket.key != *key || !ticket.sites.contains(site) || ticket.request.class != *class {
                    return Err(format!("{session:?} waits where it should not"));
                }
                entries += 1;
            }
        }
        let expected: usize =
            self.sessions().iter().filter_map(|one| self.ticket(*one)).map(|one| one.sites.len()).sum();
        if entries != expected || self.deadlines.len() != self.tickets.len() {
            return Err(format!("{expected} places in lines are taken by {entries}"));
        }
        Ok(())
    }
}
