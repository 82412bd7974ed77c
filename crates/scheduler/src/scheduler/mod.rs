//! The scheduler itself: requests, endings and changes of the fleet come in, placements and waits go out.
//!
//! ```text
//! ask -> placed | waits -> placed (an offer, until it is accepted) -> ended
//!          |        +-> cancelled, or its patience is over
//!          +-> refused: waiting cannot help
//! ```
//! The same calls in the same order give the same answers. After each call nobody waits who could be placed, but behind one who has been overtaken
//! as often as may be.

mod restart;
mod trials;
mod verify;
mod waits;
mod warm;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use self::trials::Trials;
pub use self::warm::Taken;
use crate::estimate::{Estimate, Lengths, Outcomes};
use crate::explain::{Explanation, Verdict};
use crate::fleet::{Fleet, NodeState, Presence, SiteSettings};
use crate::queue::{Queue, Ticket};
use crate::quota::{Grant, Tenant};
use crate::request::{ClassId, NodeId, ReleaseId, Request, SessionId, SiteId, TenantId};
use crate::resources::Resources;

/// What is the same for all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far a site is of which nothing was measured, there and back.
    pub unknown_round_trip: Duration,
    /// What a lost packet of a thousand costs, in milliseconds of distance.
    pub loss_weight: u32,
    /// What a full site costs against an empty one, in milliseconds of distance.
    pub load_weight: u32,
    /// What bringing a release to a site costs, in milliseconds of distance.
    pub fetch_weight: u32,
    /// What a start from nothing costs against an instance that waits warm, in milliseconds of distance.
    pub warm_weight: u32,
    /// What a unit of a site's cost costs, in thousandths of a millisecond of distance.
    pub cost_weight: u32,
    /// How long a placement that was waited for is kept for its player.
    pub offer: Duration,
    /// How long a trial is warned before it ends for somebody who ordered.
    pub warning: Duration,
    /// How long a session lasts, until it is learnt.
    pub usual_length: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            unknown_round_trip: Duration::from_millis(100),
            loss_weight: 4,
            load_weight: 10,
            fetch_weight: 30,
            warm_weight: 30,
            cost_weight: 1000,
            offer: Duration::from_secs(30),
            warning: Duration::from_secs(60),
            usual_length: Duration::from_secs(1800),
        }
    }
}

/// How often the first of a line is overtaken by later ones that fit where it does not, before the place is kept free for it. More leaves less of
/// the site idle, less makes large sessions wait less.
const MOST_OVERTAKEN: u32 = 32;

/// How many tickets are looked at for one that fits. More finds one behind many large ones, fewer decides sooner.
const LOOK_AHEAD: usize = 64;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has a node.
    Placed {
        /// Which.
        node: NodeId,
        /// Why there.
        why: Explanation,
    },
    /// It waits.
    Waits {
        /// For what.
        reason: WaitReason,
        /// What each site said.
        why: Explanation,
    },
    /// Waiting would not help.
    Refused {
        /// Why.
        reason: Refusal,
        /// What each site said.
        why: Explanation,
    },
}

/// What is waited for. The first is the tenant's own affair, the second everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The tenant uses all that it ordered: one of its own sessions has to end.
    Quota {
        /// Sessions at once.
        limit: u32,
    },
    /// All sites that would do are full: anybody's session has to end.
    Capacity,
}

/// Why waiting would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The tenant ordered nothing.
    NoGrant,
    /// No site can ever run it for this player.
    NoSite,
    /// The session is known already.
    Twice,
}

/// What happened to sessions that did not ask just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One that waited has a node, and has to [accept](Scheduler::accept) it.
    Placed {
        /// Which.
        session: SessionId,
        /// Where.
        node: NodeId,
        /// Until then.
        until: Duration,
    },
    /// It waited as long as it would.
    GaveUp {
        /// Which.
        session: SessionId,
    },
    /// It did not accept its place in time, and has lost it.
    OfferLapsed {
        /// Which.
        session: SessionId,
    },
    /// A trial has to end by then: somebody who ordered needs its place.
    Warned {
        /// Which.
        session: SessionId,
        /// When.
        until: Duration,
    },
    /// It need not end after all: whoever needed its place has another, or is gone.
    Reprieved {
        /// Which.
        session: SessionId,
    },
    /// Its time is over: end it, and say so by [`Scheduler::end`].
    MustEnd {
        /// Which.
        session: SessionId,
    },
}

/// How somebody's wait stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub reason: WaitReason,
    /// 1 = the next.
    pub position: u32,
    /// `None` when nothing runs that could end.
    pub estimate: Option<Estimate>,
}

#[derive(Clone, Debug)]
struct Running {
    request: Request,
    node: NodeId,
    since: Duration,
    /// Until when it has to be accepted.
    offered_until: Option<Duration>,
}

/// Everything that decides.
#[derive(Clone, Debug)]
pub struct Scheduler {
    settings: Settings,
    fleet: Fleet,
    tenants: HashMap<TenantId, Tenant>,
    running: HashMap<SessionId, Running>,
    queue: Queue,
    /// The virtual time of the last that was served.
    served: u64,
    lengths: BTreeMap<(SiteId, ClassId), Lengths>,
    outcomes: Outcomes,
    /// Lines in which a place is kept for the first.
    kept: BTreeSet<(SiteId, ClassId)>,
    trials: BTreeMap<(SiteId, ClassId), Trials>,
    offers: BTreeSet<(Duration, SessionId)>,
    endings: BTreeSet<(Duration, SessionId)>,
    events: Vec<Event>,
}

impl Scheduler {
    /// One without sites.
    #[must_use]
    pub fn new(settings: Settings) -> Scheduler {
        Scheduler {
            settings,
            fleet: Fleet::default(),
            tenants: HashMap::new(),
            running: HashMap::new(),
            queue: Queue::default(),
            served: 0,
            lengths: BTreeMap::new(),
            outcomes: Outcomes::new(),
            kept: BTreeSet::new(),
            trials: BTreeMap::new(),
            offers: BTreeSet::new(),
            endings: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// What happened since this was asked last, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Adds a site without nodes.
    pub fn add_site(&mut self, settings: SiteSettings) -> SiteId {
        self.fleet.add_site(settings)
    }

    /// Adds a node that takes sessions at once.
    pub fn add_node(&mut self, now: Duration, site: SiteId, class: ClassId, capacity: Resources) -> NodeId {
        self.change_nodes(now, site, class, |fleet| fleet.add_node(site, class, capacity))
    }

    /// Changes what a node may be used for. Sessions on it are left alone: see [`Scheduler::recover`].
    pub fn set_node_state(&mut self, now: Duration, node: NodeId, state: NodeState) {
        self.fleet.set_state(node, state);
        let (site, class) = self.place_of(node);
        self.fill(now, site, class);
    }

    /// Changes what a node has. What runs there stays, even when it is more than that.
    pub fn set_node_capacity(&mut self, now: Duration, node: NodeId, capacity: Resources) {
        let (site, class) = self.place_of(node);
        self.change_nodes(now, site, class, |fleet| fleet.set_capacity(node, capacity));
    }

    /// Where there are other kinds of nodes than before, other tickets may fit.
    fn change_nodes<T>(
        &mut self,
        now: Duration,
        site: SiteId,
        class: ClassId,
        change: impl FnOnce(&mut Fleet) -> T,
    ) -> T {
        let before = self.fleet.shapes(site, class);
        let changed = change(&mut self.fleet);
        if self.fleet.shapes(site, class) != before {
            self.look_again(now, &|request| request.class == class);
        }
        self.fill(now, site, class);
        changed
    }

    /// What a site has of a release; `None` = nothing.
    pub fn set_presence(&mut self, now: Duration, site: SiteId, release: ReleaseId, presence: Option<Presence>) {
        let may_take = |presence| matches!(presence, Some(Presence::Present | Presence::Fetchable));
        let could_before = may_take(self.fleet.presence(site, release));
        self.fleet.set_presence(site, release, presence);
        if could_before != may_take(presence) {
            self.look_again(now, &|request| request.release == release);
        }
    }

    /// Other sites may take these tickets now. They keep their places among the others; first all are moved, then the lines are served.
    fn look_again(&mut self, now: Duration, is_concerned: &dyn Fn(&Request) -> bool) {
        let mut places = BTreeSet::new();
        for session in self.queue.sessions() {
            let Some(ticket) = self.queue.ticket(session).filter(|ticket| is_concerned(&ticket.request)) else {
                continue;
            };
            let sites = self.sites_for(&ticket.request);
            if sites != ticket.sites {
                let class = ticket.request.class;
                places.extend(ticket.sites.iter().chain(&sites).map(|site| (*site, class)));
                self.queue.move_to(session, sites);
            }
        }
        for (site, class) in places {
            self.fill(now, site, class);
        }
    }

    /// What a tenant may use from now on. What it uses already is left alone.
    pub fn set_grant(&mut self, now: Duration, tenant: TenantId, grant: Grant) {
        let served = self.served;
        let kept = self.tenants.entry(tenant).or_insert_with(|| Tenant::new(grant));
        let had_quota = kept.has_quota();
        kept.grant = grant;
        if !had_quota {
            kept.catch_up(served);
        }
        self.fill_for(now, tenant);
    }

    /// Where a node is.
    #[must_use]
    pub fn site_of(&self, node: NodeId) -> SiteId {
        self.place_of(node).0
    }

    fn place_of(&self, node: NodeId) -> (SiteId, ClassId) {
        let node = self.fleet.node(node);
        (node.site, node.class)
    }

    /// Sites that could take it when they have room, the best first.
    fn sites_for(&self, request: &Request) -> Vec<SiteId> {
        self.candidates(request).0.into_iter().map(|(_, site)| site).collect()
    }

    /// The same with their scores, and what the others say.
    fn candidates(&self, request: &Request) -> (Vec<(u32, SiteId)>, Explanation) {
        let (mut candidates, mut why) = (Vec::new(), Vec::new());
        for site in self.fleet.sites() {
            let verdict = self.look_at(request, site);
            match verdict {
                Ok(score) => {
                    candidates.push((score, site));
                    why.push((site, Verdict::Worse { score }));
                }
                Err(verdict) => why.push((site, verdict)),
            }
        }
        candidates.sort_unstable();
        (candidates, Explanation(why))
    }

    /// The score of a site that could take it; lower is better.
    fn look_at(&self, request: &Request, site: SiteId) -> Result<u32, Verdict> {
        if !request.may_be_at(site) {
            return Err(Verdict::NotAllowed);
        }
        let pool = self.fleet.pool(site, request.class).ok_or(Verdict::NoClass)?;
        self.fleet.is_ever(site, request.class, &request.resources).map_err(|of| Verdict::TooSmall { of })?;
        let probe = request.probe(site);
        let round_trip = probe.map_or(self.settings.unknown_round_trip, |probe| probe.round_trip);
        if round_trip > request.most_round_trip {
            return Err(Verdict::TooFar { round_trip, most: request.most_round_trip });
        }
        let fetch = match self.fleet.presence(site, request.release) {
            Some(Presence::Present) => 0,
            Some(Presence::Fetchable) => self.settings.fetch_weight.saturating_mul(10),
            Some(Presence::Arriving { permille }) => return Err(Verdict::ReleaseArriving { permille }),
            None => return Err(Verdict::ReleaseAbsent),
        };
        let millis = u32::try_from(round_trip.as_micros() / 100).unwrap_or(u32::MAX / 4);
        let loss =
            u32::from(probe.map_or(0, |probe| probe.loss_permille)).saturating_mul(self.settings.loss_weight * 10);
        let load = pool.load_permille().saturating_mul(self.settings.load_weight) / 100;
        let cost = self.fleet.cost(site).saturating_mul(self.settings.cost_weight) / 100;
        Ok(millis.saturating_add(loss).saturating_add(load).saturating_add(cost).saturating_add(fetch))
    }

    /// Asks for a session.
    pub fn ask(&mut self, now: Duration, session: SessionId, request: Request) -> Decision {
        let refused = |reason, why| Decision::Refused { reason, why };
        if self.running.contains_key(&session) || self.queue.ticket(session).is_some() {
            return refused(Refusal::Twice, Explanation::default());
        }
        let (candidates, mut why) = self.candidates(&request);
        let Some(tenant) = self.tenants.get(&request.tenant).filter(|tenant| tenant.grant.limit() > 0) else {
            return refused(Refusal::NoGrant, why);
        };
        if candidates.is_empty() && !why.may_change() {
            return refused(Refusal::NoSite, why);
        }
        let (has_quota, limit) = (tenant.has_quota(), tenant.grant.limit());
        let (class, need) = (request.class, request.resources);
        let is_free = |scheduler: &Scheduler, site| scheduler.queue.line(site, class).is_none();
        if has_quota && candidates.iter().all(|(_, site)| is_free(self, *site)) {
            // Nobody waits anywhere where this one would: who comes first is served at once.
            for (score, site) in &candidates {
                if let Some(node) = self.fleet.find(*site, class, &request.resources) {
                    self.tell_full(&mut why, &candidates, *site, class, &request.resources);
                    mark(&mut why, *site, Verdict::Chosen { node, score: *score });
                    self.start(now, session, request, node, None);
                    for (site, class) in std::mem::take(&mut self.kept) {
                        self.fill(now, site, class);
                    }
                    return Decision::Placed { node, why };
                }
            }
        }
        let sites: Vec<SiteId> = candidates.iter().map(|(_, site)| *site).collect();
        self.wait(now, session, request, sites.clone());
        for site in &sites {
            // The others of the line do not fit, or they would not wait.
            if self.fleet.find(*site, class, &need).is_some() {
                self.fill(now, *site, class);
            }
        }
        for site in &sites {
            self.warn_trials(now, *site, class);
        }
        if let Some(running) = self.running.get_mut(&session) {
            // It need not be asked whether it wants what it just asked for.
            let node = running.node;
            let until = running.offered_until.take();
            self.offers.remove(&(until.unwrap_or_default(), session));
            self.events.retain(|event| !matches!(event, Event::Placed { session: placed, .. } if *placed == session));
            let site = self.place_of(node).0;
            let score = candidates.iter().find(|(_, one)| *one == site).map_or(0, |(score, _)| *score);
            self.tell_full(&mut why, &candidates, site, class, &need);
            mark(&mut why, site, Verdict::Chosen { node, score });
            return Decision::Placed { node, why };
        }
        for (_, site) in &candidates {
            let verdict = self.why_not_now(session, *site);
            mark(&mut why, *site, verdict);
        }
        let turn = self.queue.ticket(session).filter(|_| has_quota).map(|ticket| self.turn(ticket, session));
        if let (Some((position, Some(expected_s))), Some(ticket)) = (turn, self.queue.ticket_mut(session)) {
            ticket.told = Some((position, expected_s));
        }
        let reason = if has_quota { WaitReason::Capacity } else { WaitReason::Quota { limit } };
        Decision::Waits { reason, why }
    }

    fn why_not_now(&self, session: SessionId, site: SiteId) -> Verdict {
        let Some(ticket) = self.queue.ticket(session) else { return Verdict::NoNode };
        let request = &ticket.request;
        if !self.fleet.pool(site, request.class).is_some_and(|pool| pool.has_ready()) {
            return Verdict::NoNode;
        }
        match self.fleet.lacking(site, request.class, &request.resources) {
            Some(of) => Verdict::Full { of },
            None => {
                let length = self.queue.line(site, request.class).map_or(0, |line| line.length);
                Verdict::Queued { ahead: length.saturating_sub(1) }
            }
        }
    }

    /// What each site says of a session that waits; nothing of one that does not.
    #[must_use]
    pub fn explain(&self, session: SessionId) -> Explanation {
        let Some(ticket) = self.queue.ticket(session) else { return Explanation::default() };
        let (candidates, mut why) = self.candidates(&ticket.request);
        for (_, site) in candidates {
            let verdict = self.why_not_now(session, site);
            mark(&mut why, site, verdict);
        }
        why
    }

    fn wait(&mut self, now: Duration, session: SessionId, request: Request, sites: Vec<SiteId>) {
        let served = self.served;
        if let Some(tenant) = self.tenants.get_mut(&request.tenant) {
            if tenant.waiting == 0 {
                tenant.catch_up(served);
            }
            tenant.waiting += 1;
        }
        self.queue.add(now, session, request, sites, false);
    }

    fn start(
        &mut self,
        now: Duration,
        session: SessionId,
        request: Request,
        node: NodeId,
        offered_until: Option<Duration>,
    ) {
        self.fleet.reserve(node, session, &request.resources);
        let place = self.place_of(node);
        if let Some(tenant) = self.tenants.get_mut(&request.tenant) {
            tenant.used += 1;
        }
        if request.is_trial {
            self.trials.entry(place).or_default().playing.insert((now, session));
        }
        if let Some(until) = offered_until {
            self.offers.insert((until, session));
        }
        self.running.insert(session, Running { request, node, since: now, offered_until });
    }

    /// A place that was waited for is taken. False when it is too late.
    pub fn accept(&mut self, session: SessionId) -> bool {
        let Some(running) = self.running.get_mut(&session) else { return false };
        if let Some(until) = running.offered_until.take() {
            self.offers.remove(&(until, session));
        }
        true
    }

    /// It ended, wherever it was: on a node, in the queue, or not at all.
    pub fn end(&mut self, now: Duration, session: SessionId) {
        if let Some(ticket) = self.leave(session) {
            self.fill_around(now, &ticket);
            return;
        }
        let Some(running) = self.stop(session) else { return };
        let place = self.place_of(running.node);
        // How long a trial lasts is up to others.
        if running.offered_until.is_none() && !running.request.is_trial {
            let usual = self.settings.usual_length;
            let lengths = self.lengths.entry(place).or_insert_with(|| Lengths::new(usual));
            lengths.learn(now.saturating_sub(running.since));
        }
        let had_quota = self.tenants.get(&running.request.tenant).is_some_and(Tenant::has_quota);
        self.return_quota(running.request.tenant);
        if !had_quota {
            // Its quota was what its own waited for: the first of them has it, wherever he may be.
            self.fill_for(now, running.request.tenant);
        }
        self.fill(now, place.0, place.1);
    }

    /// Takes a session off its node; its quota stays used.
    fn stop(&mut self, session: SessionId) -> Option<Running> {
        let running = self.running.remove(&session)?;
        self.fleet.release(running.node, session, &running.request.resources);
        if let Some(until) = running.offered_until {
            self.offers.remove(&(until, session));
        }
        if let Some(trials) = self.trials.get_mut(&self.place_of(running.node)) {
            trials.playing.remove(&(running.since, session));
            if let Some(until) = trials.warned.remove(&session) {
                self.endings.remove(&(until, session));
            }
        }
        Some(running)
    }

    fn return_quota(&mut self, tenant: TenantId) {
        let served = self.served;
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            if !tenant.has_quota() {
                tenant.catch_up(served);
            }
            tenant.used = tenant.used.saturating_sub(1);
        }
    }

    /// Takes a ticket from the queue, placed or not. One that recovers gives back its part of the quota, which it kept.
    fn leave(&mut self, session: SessionId) -> Option<Ticket> {
        let ticket = self.queue.remove(session)?;
        if ticket.is_recovering {
            self.return_quota(ticket.request.tenant);
        } else if let Some(tenant) = self.tenants.get_mut(&ticket.request.tenant) {
            tenant.waiting = tenant.waiting.saturating_sub(1);
        }
        Some(ticket)
    }

    /// Its node is lost: it goes before all others, wherever it may be, and keeps its part of the tenant's quota. Says where it is now, if there is
    /// room; else it waits.
    pub fn recover(&mut self, now: Duration, session: SessionId) -> Option<NodeId> {
        let running = self.stop(session)?;
        self.wait_recovering(now, session, running.request);
        self.running.get(&session).map(|running| running.node)
    }

    fn wait_recovering(&mut self, now: Duration, session: SessionId, request: Request) {
        let (sites, class) = (self.sites_for(&request), request.class);
        self.queue.add(now, session, request, sites.clone(), true);
        for site in sites {
            self.fill(now, site, class);
        }
    }

    /// The sessions of a node.
    pub fn sessions_of(&self, node: NodeId) -> impl Iterator<Item = SessionId> + '_ {
        self.fleet.node(node).sessions.iter().copied()
    }

    /// Until when a session's place has to be accepted; `None` when it need not be, or has none.
    #[must_use]
    pub fn offered_until(&self, session: SessionId) -> Option<Duration> {
        self.running.get(&session).and_then(|running| running.offered_until)
    }

    /// Where a session is.
    #[must_use]
    pub fn node_of(&self, session: SessionId) -> Option<NodeId> {
        self.running.get(&session).map(|running| running.node)
    }

    /// Lets time pass: offers lapse, patience ends, warned trials end.
    pub fn tick(&mut self, now: Duration) {
        while let Some((until, session)) = self.offers.first().copied().filter(|(until, _)| *until <= now) {
            self.offers.remove(&(until, session));
            self.end(now, session);
            self.events.push(Event::OfferLapsed { session });
        }
        // First all who give up: none of them is to have what another one leaves.
        let mut gone = Vec::new();
        for session in self.queue.overdue(now) {
            if let Some(ticket) = self.leave(session) {
                self.events.push(Event::GaveUp { session });
                gone.push(ticket);
            }
        }
        for ticket in gone {
            self.fill_around(now, &ticket);
        }
        while let Some((until, session)) = self.endings.first().copied().filter(|(until, _)| *until <= now) {
            self.endings.remove(&(until, session));
            self.events.push(Event::MustEnd { session });
        }
    }

    /// A tenant may use more than before: its tickets may find room anywhere.
    fn fill_for(&mut self, now: Duration, tenant: TenantId) {
        let tickets: Vec<SessionId> =
            self.queue.of_tenant(tenant).into_iter().flatten().map(|(_, session)| *session).collect();
        // What is known to fit nowhere is not tried for each.
        let mut full = BTreeSet::new();
        for session in tickets {
            if !self.tenants.get(&tenant).is_some_and(Tenant::has_quota) {
                return;
            }
            let Some(ticket) = self.queue.ticket(session) else { continue };
            let (sites, class, need) = (ticket.sites.clone(), ticket.request.class, ticket.request.resources);
            for site in sites {
                if full.contains(&(site, class, need.amounts())) {
                    continue;
                }
                if self.fleet.find(site, class, &need).is_some() {
                    self.fill(now, site, class);
                } else {
                    self.warn_trials(now, site, class);
                    full.insert((site, class, need.amounts()));
                }
            }
        }
    }

    /// A ticket is gone: a place may have been kept for it.
    fn fill_around(&mut self, now: Duration, ticket: &Ticket) {
        for site in &ticket.sites {
            self.fill(now, *site, ticket.request.class);
        }
        if ticket.is_recovering {
            self.fill_for(now, ticket.request.tenant);
        }
    }

    /// Gives what is free to those who wait, until nothing fits.
    fn fill(&mut self, now: Duration, site: SiteId, class: ClassId) {
        let (mut touched, mut lines) = (BTreeSet::from([(site, class)]), vec![(site, class)]);
        while let Some((site, class)) = lines.pop() {
            if self.fill_line(now, site, class, &mut touched) {
                // A place may be kept elsewhere for one who has another now, or for whose tenant that was the last.
                lines.extend(std::mem::take(&mut self.kept));
            }
        }
        for (site, class) in touched {
            self.warn_trials(now, site, class);
        }
    }

    /// One line alone; whether anybody was served.
    fn fill_line(
        &mut self,
        now: Duration,
        site: SiteId,
        class: ClassId,
        touched: &mut BTreeSet<(SiteId, ClassId)>,
    ) -> bool {
        let mut was_served = false;
        while let Some((session, node)) = self.next(site, class) {
            let Some(ticket) = self.leave(session) else { break };
            was_served = true;
            touched.extend(ticket.sites.iter().map(|site| (*site, class)));
            if let Some(tenant) = self.tenants.get_mut(&ticket.request.tenant).filter(|_| !ticket.is_recovering) {
                if let Some((position, expected_s)) = ticket.told {
                    self.outcomes.learn(position, expected_s, now.saturating_sub(ticket.since));
                }
                self.served = self.served.max(tenant.served);
                tenant.serve();
            }
            let until = now.saturating_add(self.settings.offer);
            self.start(now, session, ticket.request, node, Some(until));
            self.events.push(Event::Placed { session, node, until });
        }
        was_served
    }

    /// Whether what becomes free is kept for this one: others went before it often enough, and some node could take it.
    fn is_kept_for(&self, first: SessionId, site: SiteId, class: ClassId) -> bool {
        let ticket = self.queue.ticket(first).filter(|ticket| ticket.overtaken >= MOST_OVERTAKEN);
        ticket.is_some_and(|ticket| self.fleet.has_ready_for(site, class, &ticket.request.resources))
    }

    /// Who of a line gets a place now, and which.
    fn next(&mut self, site: SiteId, class: ClassId) -> Option<(SessionId, NodeId)> {
        let line = self.queue.line(site, class)?;
        // Mostly nothing fits: that is known without looking at anybody.
        if !line.needs().any(|need| self.fleet.find(site, class, &need).is_some()) {
            return None;
        }
        let mut order: Vec<SessionId> = line.recovering.iter().take(LOOK_AHEAD).map(|(_, session)| *session).collect();
        for lot in [&line.ordered, &line.trials] {
            let mut tenants: Vec<(bool, u64, TenantId)> = Vec::with_capacity(lot.len());
            for id in lot.keys() {
                if let Some(tenant) = self.tenants.get(id).filter(|tenant| tenant.has_quota()) {
                    tenants.push((tenant.is_borrowing(), tenant.served, *id));
                }
            }
            tenants.sort_unstable();
            for (_, _, tenant) in tenants {
                let left = LOOK_AHEAD.saturating_sub(order.len());
                order.extend(lot.get(&tenant).into_iter().flatten().take(left).map(|(_, session)| *session));
            }
        }
        let mut unfit: Vec<Resources> = Vec::new();
        for (index, session) in order.iter().enumerate() {
            let ticket = self.queue.ticket(*session)?;
            if index == 1 && self.is_kept_for(order[0], site, class) {
                self.kept.insert((site, class));
                return None;
            }
            let need = ticket.request.resources;
            if unfit.iter().any(|unfit| unfit.fits_in(&need)) {
                continue;
            }
            match self.fleet.find(site, class, &need) {
                Some(node) => {
                    if index > 0
                        && let Some(first) = self.queue.ticket_mut(order[0])
                    {
                        first.overtaken += 1;
                    }
                    return Some((*session, node));
                }
                None => unfit.push(need),
            }
        }
        None
    }

    /// Sessions that have a node.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sessions that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Nodes, in whatever state.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.fleet.node_count()
    }
}

fn mark(why: &mut Explanation, site: SiteId, verdict: Verdict) {
    if let Some((_, said)) = why.0.iter_mut().find(|(one, _)| *one == site) {
        *said = verdict;
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
