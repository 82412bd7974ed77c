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
    Ask {
        tenant: u32,
        release: u32,
        class: u16,
        size: u32,
        priority: u8,
        is_trial: bool,
        far: u32,
        patience_s: u64,
    },
    /// Something is started that nobody waits for.
    Place {
        size: u32,
    },
    /// Somebody wants what trials run, and takes one over where that is better.
    TakeOver {
        tenant: u32,
        size: u32,
        far: u32,
    },
    End {
        which: usize,
    },
    Accept {
        which: usize,
    },
    AddNode {
        site: u32,
        class: u16,
        places: u32,
    },
    State {
        node: u32,
        state: u8,
    },
    Grow {
        node: u32,
        places: u32,
    },
    Grant {
        tenant: u32,
        guarantee: u32,
        borrow: u32,
        maximum: u32,
        weight: u32,
    },
    Presence {
        site: u32,
        release: u32,
        state: u8,
    },
    Wait {
        seconds: u64,
    },
    /// More is learnt of what a session takes.
    Learn {
        which: usize,
        size: u32,
    },
    /// Another process takes over: it knows of each session what a database would.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..TENANTS, 0..RELEASES, 0..2_u16, 1..4_u32, 0..3_u8, prop::bool::weighted(0.2), 0..SITES + 2, 1..4000_u64).prop_map(
            |(tenant, release, class, size, priority, is_trial, far, patience_s)| Step::Ask {
                tenant, release, class, size, priority, is_trial, far, patience_s,
            }
        ),
        3 => (1..4_u32).prop_map(|size| Step::Place { size }),
        3 => (0..TENANTS, 1..4_u32, 0..SITES + 2).prop_map(|(tenant, size, far)| Step::TakeOver { tenant, size, far }),
        8 => any::<usize>().prop_map(|which| Step::End { which }),
        4 => any::<usize>().prop_map(|which| Step::Accept { which }),
        1 => (0..SITES, 0..2_u16, 1..6_u32).prop_map(|(site, class, places)| Step::AddNode { site, class, places }),
        2 => (any::<u32>(), 0..4_u8).prop_map(|(node, state)| Step::State { node, state }),
        1 => (any::<u32>(), 1..9_u32).prop_map(|(node, places)| Step::Grow { node, places }),
        1 => (0..TENANTS, 0..5_u32, 0..5_u32, 0..8_u32, 1..5_u32).prop_map(|(tenant, guarantee, borrow, maximum, weight)| {
            Step::Grant { tenant, guarantee, borrow, maximum, weight }
        }),
        1 => (0..SITES, 0..RELEASES, 0..4_u8).prop_map(|(site, release, state)| Step::Presence { site, release, state }),
        2 => (0..100_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => (any::<usize>(), 1..5_u32).prop_map(|(which, size)| Step::Learn { which, size }),
        1 => Just(Step::Restart),
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
    requests: BTreeMap<SessionId, Request>,
    /// Those whose node was lost, and that have no other one yet.
    lost: BTreeSet<SessionId>,
    nodes: Vec<(SiteId, ClassId, Resources, NodeState)>,
    presence: BTreeMap<(SiteId, ReleaseId), Option<Presence>>,
    /// Everything that was said, to compare.
    said: Vec<String>,
}

impl World {
    fn new() -> World {
        let grant = |tenant| Grant { guarantee: 2, borrow: 2, maximum: 9, weight: tenant + 1 };
        let sites_and_releases = (0..SITES).flat_map(|site| (0..RELEASES).map(move |release| (site, release)));
        let mut world = World {
            scheduler: Scheduler::new(Settings::default()),
            now: Duration::from_secs(1),
            asked: 0,
            states: BTreeMap::new(),
            ended: BTreeSet::new(),
            grants: (0..TENANTS).map(|tenant| (TenantId(tenant), grant(tenant))).collect(),
            requests: BTreeMap::new(),
            lost: BTreeSet::new(),
            nodes: (0..SITES).map(|site| (SiteId(site), ClassId(0), places(3), NodeState::Ready)).collect(),
            presence: sites_and_releases
                .map(|(site, release)| ((SiteId(site), ReleaseId(release)), Some(Presence::Present)))
                .collect(),
            said: Vec::new(),
        };
        world.scheduler = world.rebuilt();
        world
    }

    /// A scheduler that knows the fleet and no session.
    fn rebuilt(&self) -> Scheduler {
        let (now, mut scheduler) = (self.now, Scheduler::new(Settings::default()));
        for site in 0..SITES {
            let packing = if site == 0 { Packing::Spread } else { Packing::Pack };
            scheduler.add_site(SiteSettings { cost: site, packing });
        }
        for ((site, release), presence) in &self.presence {
            scheduler.set_presence(now, *site, *release, *presence);
        }
        for (site, class, capacity, state) in &self.nodes {
            let node = scheduler.add_node(now, *site, *class, *capacity);
            scheduler.set_node_state(now, node, *state);
        }
        for (tenant, grant) in &self.grants {
            scheduler.set_grant(now, *tenant, *grant);
        }
        scheduler
    }

    /// What a process does that takes over: first those that have a node, then those that had one, then those that wait.
    fn restart(&mut self) {
        let after = self.rebuilt();
        let before = std::mem::replace(&mut self.scheduler, after);
        let (now, sessions) = (self.now, self.states.keys().copied().collect::<Vec<_>>());
        for session in &sessions {
            if let Some(node) = before.node_of(*session) {
                let until = before.offered_until(*session);
                assert!(self.scheduler.adopt(now, *session, self.requests[session].clone(), node, until));
            }
        }
        for session in sessions.iter().filter(|session| self.lost.contains(session)) {
            self.scheduler.adopt_lost(now, *session, self.requests[session].clone());
        }
        self.hear();
        for session in sessions {
            if !self.scheduler.knows(session) && self.states.remove(&session).is_some() {
                self.ask_for(session, self.requests[&session].clone());
                self.hear();
            }
        }
    }

    fn some_session(&self, which: usize) -> Option<SessionId> {
        self.states.keys().nth(which.checked_rem(self.states.len())?).copied()
    }

    fn some_node(&self, which: u32) -> NodeId {
        NodeId(which % u32::try_from(self.nodes.len()).unwrap_or(u32::MAX))
    }

    fn finish(&mut self, session: SessionId) {
        self.lost.remove(&session);
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
                if self.scheduler.node_of(session).is_some() {
                    self.lost.remove(&session);
                }
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
            self.requests[session].tenant == tenant && self.scheduler.node_of(**session).is_some()
        };
        self.states.iter().filter(has).count()
    }

    fn ask(&mut self, request: Request) {
        self.asked += 1;
        self.ask_for(SessionId(self.asked), request);
    }

    fn ask_for(&mut self, session: SessionId, request: Request) {
        let tenant = request.tenant;
        self.requests.insert(session, request.clone());
        let decision = self.scheduler.ask(self.now, session, request);
        self.said.push(format!("{decision:?}"));
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

    /// The trials that play are what may be taken over.
    fn take_over(&mut self, request: Request) {
        let is_warm = |(session, state): &(&SessionId, &State)| {
            **state == State::Plays && self.requests[session].is_trial && self.scheduler.node_of(**session).is_some()
        };
        let warm: Vec<SessionId> = self.states.iter().filter(is_warm).map(|(session, _)| *session).collect();
        let session = SessionId(self.asked + 1);
        let Some(taken) = self.scheduler.take_over(self.now, session, &request, &warm) else {
            return self.ask(request);
        };
        self.said.push(format!("{taken:?}"));
        self.asked += 1;
        assert!(warm.contains(&taken.of) && self.scheduler.node_of(taken.of).is_none());
        assert_eq!(self.scheduler.node_of(session), Some(taken.node));
        assert_eq!(self.nodes[taken.node.0 as usize].3, NodeState::Ready);
        self.finish(taken.of);
        assert!(self.used(request.tenant) < self.grants[&request.tenant].limit() as usize, "more than was ordered");
        self.requests.insert(session, request);
        self.start(session, State::Plays);
    }

    fn set_state(&mut self, node: NodeId, state: u8) {
        let state = [NodeState::Ready, NodeState::Suspect, NodeState::Cordoned, NodeState::Lost][usize::from(state)];
        self.nodes[node.0 as usize].3 = state;
        self.scheduler.set_node_state(self.now, node, state);
        if state == NodeState::Lost {
            for session in self.scheduler.sessions_of(node).collect::<Vec<_>>() {
                self.hear();
                let place = self.scheduler.recover(self.now, session);
                assert_ne!(place, Some(node));
                self.states.insert(session, State::Waits);
                self.lost.insert(session);
                self.hear();
            }
            assert_eq!(self.scheduler.sessions_of(node).count(), 0);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask { tenant, release, class, size, priority, is_trial, far, patience_s } => {
                self.ask(Request {
                    release: ReleaseId(release),
                    class: ClassId(class),
                    priority: Priority(priority),
                    is_trial,
                    patience: Duration::from_secs(patience_s),
                    ..wanted(tenant, size, far)
                });
            }
            Step::Place { size } => {
                let request = Request { is_trial: true, ..wanted(0, size, SITES) };
                self.asked += 1;
                let session = SessionId(self.asked);
                let placed = self.scheduler.place(self.now, session, request.clone());
                self.said.push(format!("{placed:?}"));
                if let Ok(node) = placed {
                    assert_eq!(self.scheduler.node_of(session), Some(node));
                    self.requests.insert(session, request);
                    self.start(session, State::Plays);
                }
            }
            Step::TakeOver { tenant, size, far } => self.take_over(wanted(tenant, size, far)),
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
                self.nodes.push((SiteId(site), ClassId(class), places(size), NodeState::Ready));
            }
            Step::State { node, state } => self.set_state(self.some_node(node), state),
            Step::Grow { node, places: size } => {
                let node = self.some_node(node);
                self.nodes[node.0 as usize].2 = places(size);
                self.scheduler.set_node_capacity(self.now, node, places(size));
            }
            Step::Grant { tenant, guarantee, borrow, maximum, weight } => {
                let grant = Grant { guarantee, borrow, maximum, weight };
                self.grants.insert(TenantId(tenant), grant);
                self.scheduler.set_grant(self.now, TenantId(tenant), grant);
            }
            Step::Presence { site, release, state } => {
                let presence = [
                    None,
                    Some(Presence::Arriving { permille: 500 }),
                    Some(Presence::Fetchable),
                    Some(Presence::Present),
                ];
                let presence = presence[usize::from(state)];
                self.presence.insert((SiteId(site), ReleaseId(release)), presence);
                self.scheduler.set_presence(self.now, SiteId(site), ReleaseId(release), presence);
            }
            Step::Wait { seconds } => {
                self.now += Duration::from_secs(seconds);
                self.scheduler.tick(self.now);
            }
            Step::Learn { which, size } => {
                if let Some(session) = self.some_session(which) {
                    assert!(self.scheduler.set_resources(self.now, session, places(size)));
                    assert_eq!(self.scheduler.resources_of(session), Some(places(size)));
                    if let Some(request) = self.requests.get_mut(&session) {
                        request.resources = places(size);
                    }
                }
            }
            Step::Restart => self.restart(),
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

fn wanted(tenant: u32, size: u32, far: u32) -> Request {
    let probe = |site| Probe { site: SiteId(site), round_trip: Duration::from_millis(300), loss_permille: 0 };
    Request {
        tenant: TenantId(tenant),
        release: ReleaseId(0),
        class: ClassId(0),
        resources: places(size),
        priority: Priority(0),
        is_trial: false,
        probes: (far < SITES).then(|| probe(far)).into_iter().collect(),
        sites: None,
        most_round_trip: Duration::from_millis(150),
        patience: Duration::from_secs(600),
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
