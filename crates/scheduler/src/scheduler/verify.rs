//! What has to hold whatever happened.

use std::collections::BTreeMap;

use super::{Scheduler, count};
use crate::request::{ClassId, NodeId, SiteId, TenantId};
use crate::resources::Resources;

impl Scheduler {
    /// Checks everything that has to hold; says what does not. For tests: it looks at every session and node.
    pub fn verify_invariants(&mut self) -> Result<(), String> {
        self.fleet.verify()?;
        self.queue.verify()?;
        self.verify_sessions()?;
        self.verify_trials()?;
        self.verify_no_idle_wait()
    }

    fn verify_sessions(&self) -> Result<(), String> {
        let mut used: BTreeMap<TenantId, u32> = BTreeMap::new();
        let mut on_nodes = 0;
        for node in 0..count(self.fleet.node_count()) {
            let node = NodeId(node);
            let mut sum = Resources::default();
            for session in self.sessions_of(node) {
                let running = self.running.get(&session).ok_or_else(|| format!("{session:?} is on {node:?} alone"))?;
                if running.node != node || self.queue.ticket(session).is_some() {
                    return Err(format!("{session:?} is in two places"));
                }
                sum = sum.plus(&running.request.resources);
                *used.entry(running.request.tenant).or_default() += 1;
                on_nodes += 1;
            }
            let kept = self.fleet.node(node);
            if sum != kept.used {
                return Err(format!("{node:?} has {:?} in use, not {sum:?}", kept.used));
            }
        }
        if on_nodes != self.running.len() {
            return Err(format!("{} sessions run, {on_nodes} of them on nodes", self.running.len()));
        }
        for session in self.queue.sessions() {
            if let Some(ticket) = self.queue.ticket(session).filter(|ticket| ticket.is_recovering) {
                *used.entry(ticket.request.tenant).or_default() += 1;
            }
        }
        let mut tenants: Vec<_> = self.tenants.keys().copied().collect();
        tenants.sort_unstable();
        for id in tenants {
            let (kept, found) = (self.tenants[&id].used, used.get(&id).copied().unwrap_or(0));
            if kept != found {
                return Err(format!("{id:?} uses {found} sessions, {kept} are counted"));
            }
        }
        Ok(())
    }

    /// Every trial is known as one, and no more are warned than there are who ordered and wait.
    fn verify_trials(&self) -> Result<(), String> {
        let mut playing: BTreeMap<(SiteId, ClassId), usize> = BTreeMap::new();
        for node in 0..count(self.fleet.node_count()) {
            let trials = self.sessions_of(NodeId(node)).filter(|session| self.running[session].request.is_trial);
            *playing.entry(self.place_of(NodeId(node))).or_default() += trials.count();
        }
        for (place, trials) in &self.trials {
            let (warned, known) = (trials.warned.len(), trials.warned.len() + trials.playing.len());
            let found = playing.get(place).copied().unwrap_or(0);
            if known != found {
                return Err(format!("{found} trials play at {place:?}, {known} are known"));
            }
            let paid = self.queue.line(place.0, place.1).map_or(0, |line| line.paid as usize);
            let told = trials.warned.iter().filter(|(session, until)| !self.endings.contains(&(**until, **session)));
            if warned > paid.max(told.count()) {
                return Err(format!("{warned} trials at {place:?} are warned for {paid} who wait"));
            }
        }
        Ok(())
    }

    /// Nobody who may be served waits beside a place that he fits into, but behind one that it is kept for.
    fn verify_no_idle_wait(&mut self) -> Result<(), String> {
        for session in self.queue.sessions() {
            let Some(ticket) = self.queue.ticket(session) else { continue };
            let may = ticket.is_recovering
                || self.tenants.get(&ticket.request.tenant).is_some_and(crate::quota::Tenant::has_quota);
            let (sites, class, need) = (ticket.sites.clone(), ticket.request.class, ticket.request.resources);
            for site in sites {
                if may && !self.kept.contains(&(site, class)) && self.fleet.has_room(site, class, &need) {
                    return Err(format!("{session:?} waits although {site:?} has room"));
                }
            }
            let ticket = self.queue.ticket(session).ok_or("it was there")?;
            let now = self.sites_for(&ticket.request);
            if now.iter().collect::<std::collections::BTreeSet<_>>() != ticket.sites.iter().collect() {
                return Err(format!("{session:?} waits at {:?}, and could at {now:?}", ticket.sites));
            }
        }
        for (site, class) in self.queue.lines() {
            if let Some((session, node)) = self.clone().next(site, class) {
                return Err(format!("{session:?} waits although {node:?} has room"));
            }
        }
        Ok(())
    }
}
