//! The world itself: a heap of what comes next, and what each session is doing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::f64::consts::TAU;
use std::time::Duration;

use impair::Random;
use scheduler::{
    ClassId, Decision, Event, NodeId, NodeState, Presence, Priority, Probe, ReleaseId, Request, Resources, Scheduler,
    SessionId, Settings, SiteId, SiteSettings, TenantId, WaitReason,
};

use crate::plan::Plan;
use crate::report::Report;

const CLASS: ClassId = ClassId(0);
const GAME: ReleaseId = ReleaseId(0);

/// How often offers, patience and warnings are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How soon a player takes his place, at most.
const REACTION: Duration = Duration::from_secs(10);

/// What comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives { tenant: u32 },
    Accepts { session: SessionId, life: u32 },
    Leaves { session: SessionId, life: u32 },
    Fails { node: NodeId },
    IsLost { node: NodeId },
    IsBack { node: NodeId },
    Tick,
}

/// A session that has not ended.
struct Session {
    tenant: u32,
    /// What it will still play.
    left: Duration,
    /// Since when it plays.
    since: Option<Duration>,
    /// Counts its nodes: what was planned on an earlier one is void.
    life: u32,
    /// When it began to wait, and the band and the mean that it was told.
    told: Option<(Duration, scheduler::Estimate)>,
    is_displaced: bool,
}

struct World<'a> {
    plan: &'a Plan,
    scheduler: Scheduler,
    random: Random,
    now: Duration,
    coming: BinaryHeap<Reverse<(Duration, u64, What)>>,
    order: u64,
    sessions: BTreeMap<SessionId, Session>,
    asked: u64,
    report: Report,
}

/// Lets the world run to its end. Says what broke, if anything did.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let mut world = World::new(plan);
    while let Some(Reverse((at, _, what))) = world.coming.pop() {
        world.now = at;
        world.take(what);
        world.hear();
        world.report.events += 1;
        let (running, waiting) = (world.scheduler.running() as u64, world.scheduler.queued() as u64);
        world.report.most_running = world.report.most_running.max(running);
        world.report.most_waiting = world.report.most_waiting.max(waiting);
        if running + waiting != world.sessions.len() as u64 {
            return Err(format!("{running} run and {waiting} wait of {} at {:?}", world.sessions.len(), world.now));
        }
        if world.report.events.is_multiple_of(plan.check_every) {
            world.scheduler.verify_invariants()?;
        }
    }
    world.scheduler.verify_invariants()?;
    Ok(world.report)
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> World<'a> {
        let mut scheduler = Scheduler::new(Settings { usual_length: plan.session, ..Settings::default() });
        let mut nodes = Vec::new();
        for site in &plan.sites {
            let id = scheduler.add_site(SiteSettings::default());
            scheduler.set_presence(Duration::ZERO, id, GAME, Some(Presence::Present));
            let places = Resources { sessions: site.places, cpu_milli: site.places * 2000, ..Resources::default() };
            nodes.extend((0..site.nodes).map(|_| scheduler.add_node(Duration::ZERO, id, CLASS, places)));
        }
        for (tenant, number) in plan.tenants.iter().zip(0..) {
            scheduler.set_grant(Duration::ZERO, TenantId(number), tenant.grant);
        }
        let report = Report { placed: vec![0; plan.tenants.len()], ..Report::default() };
        let (random, now, coming) = (Random::new(plan.seed), Duration::ZERO, BinaryHeap::new());
        let sessions = BTreeMap::new();
        let mut world = World { plan, scheduler, random, now, coming, order: 0, sessions, asked: 0, report };
        for tenant in 0..plan.tenants.len() {
            world.next_arrival(u32::try_from(tenant).unwrap_or(u32::MAX));
        }
        if !plan.between_failures.is_zero() {
            nodes.into_iter().for_each(|node| world.next_failure(node));
        }
        world.plan_at(TICK, What::Tick);
        world
    }

    fn plan_at(&mut self, after: Duration, what: What) {
        self.order += 1;
        self.coming.push(Reverse((self.now + after, self.order, what)));
    }

    /// A time of this mean: the next of events that do not know of one another.
    fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.random.unit()).max(1e-12).ln())
    }

    fn happens(&mut self, permille: u32) -> bool {
        self.random.unit() * 1000.0 < f64::from(permille)
    }

    fn end_of_arrivals(&self) -> Duration {
        Duration::from_secs(u64::from(self.plan.hours) * 3600)
    }

    /// Arrivals at the day's highest rate, of which those are left out that are too many for the hour (Lewis and Shedler 1979).
    fn next_arrival(&mut self, tenant: u32) {
        let highest = self.plan.tenants[tenant as usize].per_hour * (1.0 + self.plan.wave);
        let mut at = self.now;
        loop {
            at += self.exponential(Duration::from_secs_f64(3600.0 / highest));
            if at >= self.end_of_arrivals() {
                return;
            }
            let hour = at.as_secs_f64() / 3600.0;
            // Lowest at eight in the morning, highest at eight in the evening.
            let rate = 1.0 - self.plan.wave * ((hour - 2.0) / 24.0 * TAU).sin();
            if self.random.unit() * (1.0 + self.plan.wave) < rate {
                break;
            }
        }
        self.plan_at(at - self.now, What::Arrives { tenant });
    }

    fn next_failure(&mut self, node: NodeId) {
        let after = self.exponential(self.plan.between_failures);
        if self.now + after < self.end_of_arrivals() {
            self.plan_at(after, What::Fails { node });
        }
    }

    fn take(&mut self, what: What) {
        match what {
            What::Arrives { tenant } => {
                self.next_arrival(tenant);
                self.arrive(tenant);
            }
            What::Accepts { session, life } => {
                if self.sessions.get(&session).is_some_and(|one| one.life == life) {
                    self.scheduler.accept(session);
                }
            }
            What::Leaves { session, life } => {
                if self.sessions.get(&session).is_some_and(|one| one.life == life) {
                    self.sessions.remove(&session);
                    self.scheduler.end(self.now, session);
                    self.report.played += 1;
                }
            }
            What::Fails { node } => {
                self.scheduler.set_node_state(self.now, node, NodeState::Suspect);
                self.plan_at(self.plan.confirm, What::IsLost { node });
            }
            What::IsLost { node } => self.lose(node),
            What::IsBack { node } => {
                self.scheduler.set_node_state(self.now, node, NodeState::Ready);
                self.next_failure(node);
            }
            What::Tick => {
                self.scheduler.tick(self.now);
                if self.now < self.end_of_arrivals() || !self.sessions.is_empty() {
                    self.plan_at(TICK, What::Tick);
                }
            }
        }
    }

    fn arrive(&mut self, tenant: u32) {
        self.asked += 1;
        let session = SessionId(self.asked);
        let sites = u32::try_from(self.plan.sites.len()).unwrap_or(u32::MAX);
        let home = (self.random.unit() * f64::from(sites)) as u32;
        let probes = (0..sites).map(|site| Probe {
            site: SiteId(site),
            round_trip: if site == home { Duration::from_millis(8) } else { self.plan.sites[site as usize].distance },
            loss_permille: 0,
        });
        let probes = probes.collect();
        let (left, is_trial) =
            (self.exponential(self.plan.session), self.plan.tenants[tenant as usize].trials_permille);
        let request = Request {
            tenant: TenantId(tenant),
            release: GAME,
            class: CLASS,
            resources: Resources { sessions: 1, cpu_milli: 2000, ..Resources::default() },
            priority: Priority(0),
            is_trial: self.happens(is_trial),
            probes,
            sites: None,
            most_round_trip: Duration::from_millis(100),
            patience: self.plan.patience,
        };
        let mut new = Session { tenant, left, since: None, life: 0, told: None, is_displaced: false };
        self.report.asked += 1;
        match self.scheduler.ask(self.now, session, request) {
            Decision::Placed { .. } => {
                self.report.at_once += 1;
                self.sessions.insert(session, new);
                self.play(session);
            }
            Decision::Waits { reason: WaitReason::Quota { .. }, .. } => {
                self.report.waited_for_quota += 1;
                self.sessions.insert(session, new);
            }
            Decision::Waits { reason: WaitReason::Capacity, .. } => {
                self.report.waited_for_capacity += 1;
                let estimate = self.scheduler.waiting(session).and_then(|waiting| waiting.estimate);
                new.told = estimate.map(|estimate| (self.now, estimate));
                self.sessions.insert(session, new);
            }
            Decision::Refused { .. } => self.report.refused += 1,
        }
    }

    /// It has a node, and will leave when its time is over.
    fn play(&mut self, session: SessionId) {
        let Some(one) = self.sessions.get_mut(&session) else { return };
        one.since = Some(self.now);
        one.life += 1;
        one.is_displaced = false;
        let (left, life) = (one.left, one.life);
        if life == 1 {
            self.report.placed[one.tenant as usize] += 1;
        }
        self.plan_at(left, What::Leaves { session, life });
    }

    /// A node is gone for certain: its sessions go on elsewhere, or wait.
    fn lose(&mut self, node: NodeId) {
        self.report.lost_nodes += 1;
        self.scheduler.set_node_state(self.now, node, NodeState::Lost);
        for session in self.scheduler.sessions_of(node).collect::<Vec<_>>() {
            self.report.displaced += 1;
            if let Some(one) = self.sessions.get_mut(&session) {
                let played = one.since.take().map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
                one.left = one.left.saturating_sub(played);
                // What was planned on the lost node is void.
                one.life += 1;
                (one.is_displaced, one.told) = (true, None);
            }
            let place = self.scheduler.recover(self.now, session);
            self.report.recovered_at_once += u64::from(place.is_some());
        }
        self.plan_at(self.plan.repair, What::IsBack { node });
    }

    /// To the end: what is done for an event may make others.
    fn hear(&mut self) {
        loop {
            let events = self.scheduler.take_events();
            if events.is_empty() {
                return;
            }
            events.into_iter().for_each(|event| self.hear_one(event));
        }
    }

    fn hear_one(&mut self, event: Event) {
        match event {
            Event::Placed { session, .. } => self.offered(session),
            Event::GaveUp { session } => {
                self.report.gave_up += 1;
                self.forget(session);
            }
            Event::OfferLapsed { session } => {
                self.report.absent += 1;
                self.forget(session);
            }
            Event::Warned { .. } => self.report.warned += 1,
            Event::Reprieved { .. } => self.report.reprieved += 1,
            Event::MustEnd { session } => {
                self.report.ended_trials += 1;
                self.scheduler.end(self.now, session);
                self.forget(session);
            }
        }
    }

    fn forget(&mut self, session: SessionId) {
        if let Some(gone) = self.sessions.remove(&session) {
            self.report.unrecovered += u64::from(gone.is_displaced);
        }
    }

    /// It is somebody's turn: he takes his place, or has gone.
    fn offered(&mut self, session: SessionId) {
        let Some(one) = self.sessions.get_mut(&session) else { return };
        if let Some((since, told)) = one.told.take() {
            let (waited, waits) = (self.now.saturating_sub(since), &mut self.report.waits);
            waits.served += 1;
            waits.within += u64::from((told.low..=told.high).contains(&waited));
            waits.sooner += u64::from(waited < told.low);
            waits.waited_s += waited.as_secs_f64();
            waits.expected_s += told.expected.as_secs_f64();
        }
        let is_displaced = one.is_displaced;
        if !is_displaced && self.happens(self.plan.absent_permille) {
            return;
        }
        self.play(session);
        let life = self.sessions.get(&session).map_or(0, |one| one.life);
        let reaction = REACTION.mul_f64(self.random.unit());
        self.plan_at(reaction, What::Accepts { session, life });
    }
}
