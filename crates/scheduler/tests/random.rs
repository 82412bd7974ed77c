//! Whatever is asked and whatever happens to the fleet: no node is oversold, no quota exceeded, no session lost or doubled, nobody waits beside a
//! place that he may have; and the same calls give the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use scheduler::{
    ClassId, Decision, Event, Grant, NodeId, NodeState, Packing, Presence, Priority, Probe, ReleaseId, Request,
    Resources, Scheduler, SessionId, Settings, SiteId, SiteSettings, TenantId,
};

const TENANTS: u32 = 4;
const RELEASES: u32 = 3;
const SITES: u32 = 3;

/// What a test does; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Ask { tenant: u32, release: u32, class: u16, size: u32, priority: u8, is_trial: bool, far: u32, patience_s: u64 },
    End { which: usize },
    Accept { which: usize },
    AddNode { site: u32, class: u16, places: u32 },
    State { node: u32, state: u8 },
    Grow { node: u32, places: u32 },
    Grant { tenant: u32, guarantee: u32, borrow: u32, maximum: u32, weight: u32 },
    Presence { site: u32, release: u32, state: u8 },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..TENANTS, 0..RELEASES, 0..2_u16, 1..4_u32, 0..3_u8, prop::bool::weighted(0.2), 0..SITES + 2, 1..4000_u64).prop_map(
            |(tenant, release, class, size, priority, is_trial, far, patience_s)| Step::Ask {
                tenant, release, class, size, priority, is_trial, far, patience_s,
            }
        ),
        8 => any::<usize>().prop_map(|which| Step::End { which }),
        4 => any::<usize>().prop_map(|which| Step::Accept { which }),
        1 => (0..SITES, 0..2_u16, 1..6_u32).prop_map(|(site, class, places)| Step::AddNode { site, class, places }),
        2 => (any::<u32>(), 0..4_u8).prop_map(|(node, state)| Step::State { node, state }),
        1 => (any::<u32>(), 1..9_u32).prop_map(|(node, places)| Step::Grow { node, places }),
        1 => (0..TENANTS, 0..5_u32, 0..5_u32, 0..8_u32, 1..5_u32).prop_map(|(tenant, guarantee, borrow, maximum, weight)| {
            Step::Grant { tenant, guarantee, borrow, maximum, weight }
        }),
        1 => (0..SITES, 0..RELEASES, 0..3_u8).prop_map(|(site, release, state)| Step::Presence { site, release, state }),
        2 => (0..100_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn places(sessions: u32) -> Resources {
    Resources { sessions, cpu_milli: sessions * 1000, memory_mib: 512 * sessions, ..Resources::default() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Offered,
    Plays,
}

/// What the test itself knows.
struct World {
    scheduler: Scheduler,
    now: Duration,
    asked: u64,
    states: BTreeMap<SessionId, State>,
    ended: BTreeSet<SessionId>,
    grants: BTreeMap<TenantId, Grant>,
    tenants: BTreeMap<SessionId, TenantId>,
    nodes: u32,
    /// Everything that was said, to compare.
    said: Vec<String>,
}

impl World {
    fn new() -> World {
        let mut scheduler = Scheduler::new(Settings::default());
        let (now, mut grants) = (Duration::from_secs(1), BTreeMap::new());
        for site in 0..SITES {
            let packing = if site == 0 { Packing::Spread } else { Packing::Pack };
            let site = scheduler.add_site(SiteSettings { cost: site, packing });
            for release in 0..RELEASES {
                scheduler.set_presence(now, site, ReleaseId(release), Some(Presence::Present));
            }
            scheduler.add_node(now, site, ClassId(0), places(3));
        }
        for tenant in 0..TENANTS {
            let grant = Grant { guarantee: 2, borrow: 2, maximum: 9, weight: tenant + 1 };
            scheduler.set_grant(now, TenantId(tenant), grant);
            grants.insert(TenantId(tenant), grant);
        }
        let (states, ended, tenants) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        World { scheduler, now, asked: 0, states, ended, grants, tenants, nodes: SITES, said: Vec::new() }
    }

    fn some_session(&self, which: usize) -> Option<SessionId> {
        self.states.keys().nth(which.checked_rem(self.states.len())?).copied()
    }

    fn finish(&mut self, session: SessionId) {
        assert!(self.states.remove(&session).is_some(), "{session:?} ended twice");
        assert!(self.ended.insert(session));
    }

    fn start(&mut self, session: SessionId, state: State) {
        let node = self.scheduler.node_of(session);
        assert!(node.is_some() && !self.ended.contains(&session), "{session:?} is placed nowhere, or has ended");
        self.states.insert(session, state);
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
        self.said.push(format!("{event:?}"));
        match event {
            Event::Placed { session, until, .. } => {
                assert!(until > self.now && self.states.get(&session) == Some(&State::Waits), "{session:?}");
                // It may have lost it again since.
                self.states.insert(session, State::Offered);
            }
            Event::GaveUp { session } => {
                assert_eq!(self.states.get(&session), Some(&State::Waits));
                self.finish(session);
            }
            Event::OfferLapsed { session } => {
                assert_eq!(self.states.get(&session), Some(&State::Offered));
                self.finish(session);
            }
            Event::Warned { session, .. } | Event::Reprieved { session } => {
                assert!(self.states.contains_key(&session));
            }
            Event::MustEnd { session } => {
                self.scheduler.end(self.now, session);
                self.finish(session);
            }
        }
    }

    fn used(&self, tenant: TenantId) -> usize {
        let has = |(session, _): &(&SessionId, &State)| {
            self.tenants[session] == tenant && self.scheduler.node_of(**session).is_some()
        };
        self.states.iter().filter(has).count()
    }

    fn ask(&mut self, request: Request) {
        self.asked += 1;
        let (session, tenant) = (SessionId(self.asked), request.tenant);
        let decision = self.scheduler.ask(self.now, session, request);
        self.said.push(format!("{decision:?}"));
        self.tenants.insert(session, tenant);
        match decision {
            Decision::Placed { node, .. } => {
                assert_eq!(self.scheduler.node_of(session), Some(node));
                assert!(self.used(tenant) < self.grants[&tenant].limit() as usize, "more than was ordered");
                self.start(session, State::Plays);
            }
            Decision::Waits { .. } => {
                assert!(self.scheduler.waiting(session).is_some_and(|waiting| waiting.position > 0));
                self.states.insert(session, State::Waits);
            }
            Decision::Refused { .. } => {
                assert_eq!(self.scheduler.node_of(session), None);
                self.ended.insert(session);
            }
        }
    }

    fn set_state(&mut self, node: NodeId, state: u8) {
        let state = [NodeState::Ready, NodeState::Suspect, NodeState::Cordoned, NodeState::Lost][usize::from(state)];
        self.scheduler.set_node_state(self.now, node, state);
        if state == NodeState::Lost {
            for session in self.scheduler.sessions_of(node).collect::<Vec<_>>() {
                self.hear();
                let place = self.scheduler.recover(self.now, session);
                assert_ne!(place, Some(node));
                self.states.insert(session, State::Waits);
                self.hear();
            }
            assert_eq!(self.scheduler.sessions_of(node).count(), 0);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask { tenant, release, class, size, priority, is_trial, far, patience_s } => {
                let probe =
                    |site| Probe { site: SiteId(site), round_trip: Duration::from_millis(300), loss_permille: 0 };
                self.ask(Request {
                    tenant: TenantId(tenant),
                    release: ReleaseId(release),
                    class: ClassId(class),
                    resources: places(size),
                    priority: Priority(priority),
                    is_trial,
                    probes: (far < SITES).then(|| probe(far)).into_iter().collect(),
                    sites: None,
                    most_round_trip: Duration::from_millis(150),
                    patience: Duration::from_secs(patience_s),
                });
            }
            Step::End { which } => {
                if let Some(session) = self.some_session(which) {
                    self.scheduler.end(self.now, session);
                    self.finish(session);
                }
            }
            Step::Accept { which } => {
                if let Some(session) = self.some_session(which) {
                    let is_placed = self.scheduler.node_of(session).is_some();
                    assert_eq!(self.scheduler.accept(session), is_placed);
                    if is_placed {
                        self.states.insert(session, State::Plays);
                    }
                }
            }
            Step::AddNode { site, class, places: size } => {
                self.scheduler.add_node(self.now, SiteId(site), ClassId(class), places(size));
                self.nodes += 1;
            }
            Step::State { node, state } => self.set_state(NodeId(node % self.nodes), state),
            Step::Grow { node, places: size } => {
                self.scheduler.set_node_capacity(self.now, NodeId(node % self.nodes), places(size));
            }
            Step::Grant { tenant, guarantee, borrow, maximum, weight } => {
                let grant = Grant { guarantee, borrow, maximum, weight };
                self.grants.insert(TenantId(tenant), grant);
                self.scheduler.set_grant(self.now, TenantId(tenant), grant);
            }
            Step::Presence { site, release, state } => {
                let presence = [None, Some(Presence::Arriving { permille: 500 }), Some(Presence::Present)];
                self.scheduler.set_presence(self.now, SiteId(site), ReleaseId(release), presence[usize::from(state)]);
            }
            Step::Wait { seconds } => {
                self.now += Duration::from_secs(seconds);
                self.scheduler.tick(self.now);
            }
        }
        self.hear();
        if let Err(fault) = self.scheduler.verify_invariants() {
            panic!("{fault}");
        }
        let placed = self.states.keys().filter(|session| self.scheduler.node_of(**session).is_some()).count();
        assert_eq!(placed, self.scheduler.running());
        assert_eq!(self.states.len() - placed, self.scheduler.queued(), "every session is somewhere, and in one place");
    }
}

fn run(steps: &[Step]) -> Vec<String> {
    let mut world = World::new();
    for step in steps {
        world.take(step);
    }
    world.said
}

proptest! {
    #[test]
    fn everything_that_has_to_hold_holds(steps in prop::collection::vec(step(), 1..200)) {
        prop_assert_eq!(run(&steps), run(&steps));
    }
}
