//! Who goes before whom, and what everybody is told: one site, places counted by hand.

use std::time::Duration;

use scheduler::{
    ClassId, Decision, Dimension, Event, Grant, NodeId, NodeState, Packing, Presence, Priority, Probe, Refusal,
    ReleaseId, Request, Resources, Scheduler, SessionId, Settings, SiteId, SiteSettings, TenantId, Verdict, WaitReason,
};

const CLASS: ClassId = ClassId(1);
const GAME: ReleaseId = ReleaseId(7);
const NOW: Duration = Duration::from_secs(1000);

fn places(sessions: u32) -> Resources {
    Resources { sessions, cpu_milli: sessions * 1000, ..Resources::default() }
}

fn grant(guarantee: u32, borrow: u32, weight: u32) -> Grant {
    Grant { guarantee, borrow, maximum: 1000, weight }
}

/// Sites with one node each of so many places, and tenants.
fn fleet(sites: &[u32], grants: &[Grant]) -> Scheduler {
    let mut scheduler = Scheduler::new(Settings::default());
    for size in sites {
        let site = scheduler.add_site(SiteSettings::default());
        scheduler.add_node(NOW, site, CLASS, places(*size));
        scheduler.set_presence(NOW, site, GAME, Some(Presence::Present));
    }
    for (tenant, grant) in (0..).zip(grants) {
        scheduler.set_grant(NOW, TenantId(tenant), *grant);
    }
    scheduler
}

fn request(tenant: u32) -> Request {
    Request {
        tenant: TenantId(tenant),
        release: GAME,
        class: CLASS,
        resources: places(1),
        priority: Priority(0),
        is_trial: false,
        probes: Vec::new(),
        sites: None,
        most_round_trip: Duration::from_millis(150),
        patience: Duration::from_secs(3600),
    }
}

/// Asks for the sessions; all have to wait.
fn all_wait(scheduler: &mut Scheduler, sessions: impl IntoIterator<Item = (u64, Request)>) {
    for (session, request) in sessions {
        let decision = scheduler.ask(NOW, SessionId(session), request);
        assert!(matches!(decision, Decision::Waits { .. }), "{session}: {decision:?}");
    }
}

fn check(scheduler: &mut Scheduler) {
    assert_eq!(scheduler.verify_invariants(), Ok(()));
}

fn is_placed(scheduler: &mut Scheduler, session: u64, request: Request) -> bool {
    let decision = scheduler.ask(NOW, SessionId(session), request);
    check(scheduler);
    matches!(decision, Decision::Placed { .. })
}

/// Ends a session; who got a place by that.
fn end(scheduler: &mut Scheduler, session: u64) -> Vec<u64> {
    scheduler.end(NOW, SessionId(session));
    check(scheduler);
    placed(scheduler)
}

fn placed(scheduler: &mut Scheduler) -> Vec<u64> {
    let events = scheduler.take_events();
    let placed = events.into_iter().filter_map(|event| match event {
        Event::Placed { session, .. } => Some(session.0),
        Event::GaveUp { .. }
        | Event::OfferLapsed { .. }
        | Event::Warned { .. }
        | Event::Reprieved { .. }
        | Event::MustEnd { .. } => None,
    });
    placed.collect()
}

#[test]
fn a_tenant_waits_for_its_own_third_although_there_is_room_and_another_is_served() {
    let mut scheduler = fleet(&[10], &[grant(2, 0, 1), grant(2, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)) && is_placed(&mut scheduler, 2, request(0)));
    let decision = scheduler.ask(NOW, SessionId(3), request(0));
    assert!(matches!(decision, Decision::Waits { reason: WaitReason::Quota { limit: 2 }, .. }), "{decision:?}");
    let waiting = scheduler.waiting(SessionId(3)).unwrap();
    assert_eq!((waiting.reason, waiting.position), (WaitReason::Quota { limit: 2 }, 1));
    assert!(is_placed(&mut scheduler, 4, request(1)));
    assert_eq!(end(&mut scheduler, 4), [0; 0], "another tenant's ending is no help");
    assert_eq!(end(&mut scheduler, 1), [3]);
}

#[test]
fn a_full_site_is_waited_for_in_the_order_of_arrival_and_everybody_knows_his_place() {
    let mut scheduler = fleet(&[3], &[grant(9, 0, 1)]);
    for session in 1..=3 {
        assert!(is_placed(&mut scheduler, session, request(0)));
    }
    all_wait(&mut scheduler, (4..=6).map(|session| (session, request(0))));
    let waiting: Vec<_> = (4..=6).map(|session| scheduler.waiting(SessionId(session)).unwrap()).collect();
    assert_eq!(waiting.iter().map(|one| one.position).collect::<Vec<_>>(), [1, 2, 3]);
    // Three sessions of half an hour: one ends every ten minutes.
    assert_eq!(waiting[1].estimate.unwrap().expected, Duration::from_secs(1200));
    let why = scheduler.explain(SessionId(5)).0;
    assert_eq!(why, [(SiteId(0), Verdict::Full { of: Dimension::Sessions })]);
    assert_eq!(why[0].1.to_string(), "it is full: no places left");
    assert_eq!(end(&mut scheduler, 2), [4]);
    assert_eq!(scheduler.waiting(SessionId(5)).unwrap().position, 1);
    assert_eq!(end(&mut scheduler, 5), [0; 0], "who leaves the queue frees nothing");
    assert_eq!(end(&mut scheduler, 1), [6]);
}

#[test]
fn what_becomes_free_goes_by_weight() {
    let mut scheduler = fleet(&[1], &[grant(999, 0, 1), grant(999, 0, 3)]);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    all_wait(&mut scheduler, (100..140).map(|session| (session, request(0))));
    all_wait(&mut scheduler, (200..240).map(|session| (session, request(1))));
    let (mut last, mut served) = (1, [0_i32; 2]);
    for round in 1..=40 {
        let next = end(&mut scheduler, last);
        assert_eq!(next.len(), 1);
        last = next[0];
        served[usize::from(last >= 200)] += 1;
        assert!((served[1] - 3 * served[0]).abs() <= 3, "after {round}: {served:?}");
    }
    assert_eq!(served, [10, 30]);
}

#[test]
fn nobody_saves_up_what_he_did_not_use() {
    let mut scheduler = fleet(&[1], &[grant(999, 0, 1), grant(999, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    all_wait(&mut scheduler, (100..150).map(|session| (session, request(0))));
    let mut last = 1;
    for _ in 0..20 {
        last = end(&mut scheduler, last)[0];
    }
    all_wait(&mut scheduler, (200..210).map(|session| (session, request(1))));
    let mut served = [0; 2];
    for _ in 0..10 {
        last = end(&mut scheduler, last)[0];
        served[usize::from(last >= 200)] += 1;
    }
    assert_eq!(served, [5, 5]);
}

#[test]
fn a_guarantee_goes_before_borrowers_and_nobody_who_plays_is_ended_for_it() {
    let mut scheduler = fleet(&[4], &[grant(1, 9, 100), grant(2, 0, 1)]);
    for session in 1..=4 {
        assert!(is_placed(&mut scheduler, session, request(0)), "what nobody uses can be borrowed");
    }
    all_wait(&mut scheduler, [(5, request(0)), (6, request(1)), (7, request(1))]);
    assert_eq!(scheduler.running(), 4);
    assert_eq!(end(&mut scheduler, 1), [6]);
    assert_eq!(end(&mut scheduler, 2), [7]);
    assert_eq!(end(&mut scheduler, 3), [5]);
}

#[test]
fn a_maximum_ends_borrowing() {
    let mut scheduler = fleet(&[10], &[Grant { guarantee: 2, borrow: 5, maximum: 3, weight: 1 }]);
    for session in 1..=3 {
        assert!(is_placed(&mut scheduler, session, request(0)));
    }
    all_wait(&mut scheduler, [(4, request(0))]);
    scheduler.set_grant(NOW, TenantId(0), Grant { guarantee: 2, borrow: 5, maximum: 4, weight: 1 });
    assert_eq!(placed(&mut scheduler), [4]);
}

#[test]
fn a_priority_overtakes_so_many_and_no_more() {
    let mut scheduler = fleet(&[1], &[grant(999, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    all_wait(&mut scheduler, [(2, request(0))]);
    let urgent = Request { priority: Priority(1), ..request(0) };
    let (mut last, mut overtaken) = (1, 0);
    for session in 1000.. {
        all_wait(&mut scheduler, [(session, urgent.clone())]);
        last = end(&mut scheduler, last)[0];
        if last == 2 {
            break;
        }
        overtaken += 1;
        assert!(overtaken <= 64, "it is never its turn");
    }
    assert!(overtaken >= 60, "a priority is worth something: {overtaken}");
}

#[test]
fn a_large_session_is_overtaken_by_small_ones_a_while_and_then_comes() {
    let mut scheduler = fleet(&[4], &[grant(9999, 0, 1)]);
    for session in 1..=4 {
        assert!(is_placed(&mut scheduler, session, request(0)));
    }
    all_wait(&mut scheduler, [(5, Request { resources: places(4), ..request(0) })]);
    let (mut playing, mut next) = (vec![1, 2, 3, 4], 100);
    for _ in 0..200 {
        next += 1;
        let decision = scheduler.ask(NOW, SessionId(next), request(0));
        if matches!(decision, Decision::Placed { .. }) {
            playing.push(next);
        }
        let first = playing.remove(0);
        playing.extend(end(&mut scheduler, first));
        if playing.contains(&5) {
            assert_eq!(playing, [5]);
            return;
        }
    }
    panic!("it never came");
}

#[test]
fn the_best_site_is_the_near_one_that_has_room() {
    let mut scheduler = fleet(&[1, 1, 1], &[grant(99, 0, 1)]);
    let probe = |site, millis, loss_permille| Probe {
        site: SiteId(site),
        round_trip: Duration::from_millis(millis),
        loss_permille,
    };
    let near = |probes: Vec<Probe>| Request { probes, ..request(0) };
    let probes = vec![probe(0, 40, 0), probe(1, 15, 0), probe(2, 200, 0)];
    let Decision::Placed { node, why } = scheduler.ask(NOW, SessionId(1), near(probes.clone())) else {
        panic!("there is room")
    };
    assert_eq!(node, NodeId(1));
    let [(_, Verdict::Worse { score: farther }), (_, Verdict::Chosen { score, .. }), (_, too_far)] = why.0[..] else {
        panic!("{why:?}")
    };
    assert!(score < farther);
    assert_eq!(too_far.to_string(), "it is too far: 200 ms, of at most 150");
    let second = scheduler.ask(NOW, SessionId(2), near(probes.clone()));
    assert!(matches!(second, Decision::Placed { node: NodeId(0), .. }), "{second:?}");
    let third = scheduler.ask(NOW, SessionId(3), near(probes));
    assert!(matches!(third, Decision::Waits { reason: WaitReason::Capacity, .. }), "{third:?}");
    // A lossy way is a long one.
    scheduler.end(NOW, SessionId(1));
    scheduler.end(NOW, SessionId(2));
    scheduler.end(NOW, SessionId(3));
    let lossy = scheduler.ask(NOW, SessionId(4), near(vec![probe(0, 40, 0), probe(1, 15, 20)]));
    assert!(matches!(lossy, Decision::Placed { node: NodeId(0), .. }), "{lossy:?}");
}

#[test]
fn what_can_never_be_is_refused_with_each_sites_reason() {
    let mut scheduler = fleet(&[2, 2], &[grant(9, 0, 1), grant(0, 0, 1)]);
    let refusal = |scheduler: &mut Scheduler, request| match scheduler.ask(NOW, SessionId(9), request) {
        Decision::Refused { reason, why } => (reason, why.0.into_iter().map(|(_, one)| one.word()).collect::<Vec<_>>()),
        other => panic!("{other:?}"),
    };
    let large = Request { resources: places(3), ..request(0) };
    assert_eq!(refusal(&mut scheduler, large), (Refusal::NoSite, vec!["too_small", "too_small"]));
    let unknown = Request { release: ReleaseId(1), sites: Some(vec![SiteId(0)]), ..request(0) };
    assert_eq!(refusal(&mut scheduler, unknown), (Refusal::NoSite, vec!["release_absent", "not_allowed"]));
    let other = Request { class: ClassId(2), ..request(0) };
    assert_eq!(refusal(&mut scheduler, other), (Refusal::NoSite, vec!["no_class", "no_class"]));
    assert_eq!(refusal(&mut scheduler, request(1)).0, Refusal::NoGrant);
    assert_eq!(refusal(&mut scheduler, request(5)).0, Refusal::NoGrant);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    assert!(matches!(scheduler.ask(NOW, SessionId(1), request(0)), Decision::Refused { reason: Refusal::Twice, .. }));
}

#[test]
fn a_release_that_is_on_its_way_is_waited_for() {
    let mut scheduler = fleet(&[2], &[grant(9, 0, 1)]);
    let other = Request { release: ReleaseId(8), ..request(0) };
    scheduler.set_presence(NOW, SiteId(0), ReleaseId(8), Some(Presence::Arriving { permille: 250 }));
    let Decision::Waits { why, .. } = scheduler.ask(NOW, SessionId(1), other) else { panic!("it is not there yet") };
    assert_eq!(why.0[0].1.to_string(), "the game is being brought there: 25 %");
    scheduler.set_presence(NOW, SiteId(0), ReleaseId(8), Some(Presence::Present));
    assert_eq!(placed(&mut scheduler), [1]);
}

#[test]
fn an_offer_lapses_and_the_next_has_it() {
    let mut scheduler = fleet(&[1], &[grant(9, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    all_wait(&mut scheduler, [(2, request(0)), (3, request(0))]);
    assert_eq!(end(&mut scheduler, 1), [2]);
    scheduler.tick(NOW + Duration::from_secs(31));
    let events = scheduler.take_events();
    assert!(
        matches!(
            events[..],
            [Event::Placed { session: SessionId(3), .. }, Event::OfferLapsed { session: SessionId(2) }]
        ),
        "{events:?}"
    );
    assert!(scheduler.accept(SessionId(3)) && !scheduler.accept(SessionId(2)));
    scheduler.tick(NOW + Duration::from_secs(3600));
    assert_eq!((scheduler.take_events(), scheduler.node_of(SessionId(3))), (Vec::new(), Some(NodeId(0))));
}

#[test]
fn patience_ends() {
    let mut scheduler = fleet(&[1], &[grant(9, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)));
    all_wait(&mut scheduler, [(2, request(0))]);
    scheduler.tick(NOW + Duration::from_secs(3600));
    assert_eq!(scheduler.take_events(), [Event::GaveUp { session: SessionId(2) }]);
    assert_eq!((scheduler.queued(), scheduler.waiting(SessionId(2))), (0, None));
}

#[test]
fn a_trial_is_warned_for_who_ordered_and_ends_in_time() {
    let mut scheduler = fleet(&[2], &[grant(9, 0, 1)]);
    let trial = Request { is_trial: true, ..request(0) };
    assert!(is_placed(&mut scheduler, 1, trial.clone()) && is_placed(&mut scheduler, 2, request(0)));
    all_wait(&mut scheduler, [(3, trial)]);
    assert_eq!(scheduler.take_events(), [], "a trial ends no trial");
    all_wait(&mut scheduler, [(4, request(0))]);
    let until = NOW + Duration::from_secs(60);
    assert_eq!(scheduler.take_events(), [Event::Warned { session: SessionId(1), until }]);
    all_wait(&mut scheduler, [(5, request(0))]);
    assert_eq!(scheduler.take_events(), [], "who ordered is not ended for another");
    scheduler.tick(until);
    assert_eq!(scheduler.take_events(), [Event::MustEnd { session: SessionId(1) }]);
    assert_eq!(end(&mut scheduler, 1).len(), 1);
}

#[test]
fn no_trial_ends_for_who_waits_for_his_own() {
    let mut scheduler = fleet(&[2], &[grant(1, 0, 1), grant(9, 0, 1)]);
    let trial = Request { is_trial: true, ..request(1) };
    assert!(is_placed(&mut scheduler, 1, trial) && is_placed(&mut scheduler, 2, request(0)));
    all_wait(&mut scheduler, [(3, request(0))]);
    assert_eq!(scheduler.take_events(), []);
    scheduler.set_grant(NOW, TenantId(0), grant(2, 0, 1));
    assert!(matches!(scheduler.take_events()[..], [Event::Warned { session: SessionId(1), .. }]));
}

#[test]
fn a_trial_is_reprieved_when_nobody_needs_its_place_any_more() {
    let mut scheduler = fleet(&[1, 1], &[grant(9, 0, 1)]);
    let trial = Request { is_trial: true, ..request(0) };
    assert!(is_placed(&mut scheduler, 1, trial.clone()) && is_placed(&mut scheduler, 2, request(0)));
    let until = NOW + Duration::from_secs(60);
    for gone in [3, 2] {
        all_wait(&mut scheduler, [(gone + 10, request(0))]);
        assert_eq!(scheduler.take_events(), [Event::Warned { session: SessionId(1), until }]);
        // He leaves, and the second time there is a place for him at the other site.
        scheduler.end(NOW, SessionId(if gone == 3 { 13 } else { 2 }));
        assert!(scheduler.take_events().contains(&Event::Reprieved { session: SessionId(1) }));
        check(&mut scheduler);
    }
    scheduler.tick(until);
    assert_eq!(scheduler.take_events().iter().find(|event| matches!(event, Event::MustEnd { .. })), None);
}

#[test]
fn sessions_of_a_lost_node_go_before_all_others() {
    let mut scheduler = fleet(&[2], &[grant(2, 0, 1), grant(9, 0, 1)]);
    let other = scheduler.add_node(NOW, SiteId(0), CLASS, places(2));
    for session in 1..=4 {
        assert!(is_placed(&mut scheduler, session, request(u32::from(session > 2))));
    }
    all_wait(&mut scheduler, [(5, request(1))]);
    let lost = scheduler.node_of(SessionId(1)).unwrap();
    scheduler.set_node_state(NOW, lost, NodeState::Suspect);
    assert_eq!(scheduler.sessions_of(lost).count(), 2, "who is suspected only gets nothing new");
    scheduler.set_node_state(NOW, lost, NodeState::Lost);
    for session in scheduler.sessions_of(lost).collect::<Vec<_>>() {
        assert_eq!(scheduler.recover(NOW, session), None, "all is full");
        check(&mut scheduler);
    }
    let survivors: Vec<_> = scheduler.sessions_of(NodeId(u32::from(lost == NodeId(0)))).collect();
    assert_eq!((survivors.len(), other), (2, NodeId(1)));
    let first = end(&mut scheduler, survivors[0].0);
    assert_eq!(first, [1], "not the fifth, who waits for longer");
    assert_eq!(end(&mut scheduler, survivors[1].0), [2]);
    assert_eq!(end(&mut scheduler, 1), [5]);
}

#[test]
fn nodes_are_filled_as_the_site_says() {
    for (packing, expected) in [(Packing::Pack, [0, 0, 0, 1]), (Packing::Spread, [1, 0, 1, 0])] {
        let mut scheduler = Scheduler::new(Settings::default());
        let site = scheduler.add_site(SiteSettings { packing, cost: 0 });
        scheduler.set_grant(NOW, TenantId(0), grant(99, 0, 1));
        scheduler.set_presence(NOW, site, GAME, Some(Presence::Present));
        for _ in 0..2 {
            scheduler.add_node(NOW, site, CLASS, places(3));
        }
        for (session, node) in (0..).zip(expected) {
            assert!(is_placed(&mut scheduler, session, request(0)));
            let found = scheduler.node_of(SessionId(session)).unwrap();
            assert_eq!(found, NodeId(node), "{packing:?} {session}");
        }
    }
}

#[test]
fn those_who_wait_hear_of_new_nodes_and_new_copies_in_their_order() {
    let mut scheduler = fleet(&[1], &[grant(99, 0, 1)]);
    let other = scheduler.add_site(SiteSettings::default());
    assert!(is_placed(&mut scheduler, 1, request(0)));
    // The later number came first.
    all_wait(&mut scheduler, [(9, request(0)), (5, request(0)), (7, request(0))]);
    scheduler.add_node(NOW, other, CLASS, places(1));
    assert_eq!(placed(&mut scheduler), [0; 0], "the game is not there");
    scheduler.set_presence(NOW, other, GAME, Some(Presence::Present));
    assert_eq!(placed(&mut scheduler), [9]);
    // A site that had no machine of the class.
    let third = scheduler.add_site(SiteSettings::default());
    scheduler.set_presence(NOW, third, GAME, Some(Presence::Present));
    let node = scheduler.add_node(NOW, third, CLASS, places(1));
    assert_eq!(placed(&mut scheduler), [5]);
    let large = Request { resources: places(2), sites: Some(vec![third, SiteId(0)]), ..request(0) };
    assert!(matches!(
        scheduler.ask(NOW, SessionId(20), large.clone()),
        Decision::Refused { reason: Refusal::NoSite, .. }
    ));
    scheduler.set_node_capacity(NOW, node, places(3));
    assert_eq!(placed(&mut scheduler), [7], "there is room for one more");
    check(&mut scheduler);
    all_wait(&mut scheduler, [(21, large)]);
    assert_eq!(end(&mut scheduler, 5), [21]);
}

#[test]
fn a_tenants_own_quota_goes_to_the_first_of_its_own_wherever_he_may_be() {
    let mut scheduler = fleet(&[5, 5], &[grant(2, 0, 1)]);
    let at = |site| Request { sites: Some(vec![SiteId(site)]), ..request(0) };
    assert!(is_placed(&mut scheduler, 1, at(0)) && is_placed(&mut scheduler, 2, at(0)));
    all_wait(&mut scheduler, [(3, at(1)), (4, at(0)), (5, at(0))]);
    assert_eq!(end(&mut scheduler, 1), [3], "the end of one at the other site is his as well");
    assert_eq!(end(&mut scheduler, 3), [4]);
}

#[test]
fn of_those_whose_patience_ends_together_none_is_placed() {
    let mut scheduler = fleet(&[2, 2], &[grant(1, 0, 1), grant(9, 0, 1)]);
    let at = |tenant, site| Request { sites: Some(vec![SiteId(site)]), ..request(tenant) };
    assert!(is_placed(&mut scheduler, 1, at(0, 0)) && is_placed(&mut scheduler, 2, at(1, 0)));
    all_wait(&mut scheduler, [(3, at(0, 1))]);
    scheduler.set_node_state(NOW, NodeId(0), NodeState::Lost);
    assert_eq!(scheduler.recover(NOW, SessionId(1)), None);
    scheduler.tick(NOW + Duration::from_secs(3600));
    let gave_up = [1, 3].map(|session| Event::GaveUp { session: SessionId(session) });
    assert_eq!(scheduler.take_events(), gave_up);
    check(&mut scheduler);
}

#[test]
fn nobody_saves_up_while_his_quota_is_used_up() {
    let mut scheduler = fleet(&[2], &[grant(1, 0, 1), grant(999, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, request(0)) && is_placed(&mut scheduler, 2, request(1)));
    all_wait(&mut scheduler, (100..120).map(|session| (session, request(0))));
    all_wait(&mut scheduler, (200..260).map(|session| (session, request(1))));
    let mut last = 2;
    for _ in 0..30 {
        last = end(&mut scheduler, last)[0];
        assert!(last >= 200);
    }
    scheduler.set_grant(NOW, TenantId(0), grant(999, 0, 1));
    let mut served = [0; 2];
    for _ in 0..10 {
        last = end(&mut scheduler, last)[0];
        served[usize::from(last >= 200)] += 1;
    }
    assert!((4..=6).contains(&served[0]), "{served:?}");
}

#[test]
fn what_is_learnt_of_a_session_counts_from_then_on() {
    let need = |cpu_milli| Resources { sessions: 1, cpu_milli, ..Resources::default() };
    let with = |cpu_milli| Request { resources: need(cpu_milli), ..request(0) };
    let mut scheduler = fleet(&[4], &[grant(99, 0, 1)]);
    assert!(is_placed(&mut scheduler, 1, with(500)));
    // It takes more than it was placed with, even more than there is: it stays, and nothing else comes.
    assert!(scheduler.set_resources(NOW, SessionId(1), need(4500)));
    check(&mut scheduler);
    let Decision::Waits { why, .. } = scheduler.ask(NOW, SessionId(2), with(500)) else { panic!("it is full") };
    assert_eq!(why.0[0].1, Verdict::Full { of: Dimension::Cpu });
    assert_eq!(why.0[0].1.to_string(), "it is full: no processor left");
    // Who waits keeps his place when he turns out to need more; when what he needs is there, he has it.
    all_wait(&mut scheduler, [(3, with(500))]);
    assert!(scheduler.set_resources(NOW, SessionId(2), need(3000)));
    check(&mut scheduler);
    assert_eq!(scheduler.waiting(SessionId(2)).map(|waiting| waiting.position), Some(1));
    assert!(scheduler.set_resources(NOW, SessionId(1), need(1000)));
    check(&mut scheduler);
    assert_eq!(placed(&mut scheduler), [2]);
    assert_eq!(end(&mut scheduler, 2), [3]);
    // What no node has is waited for nowhere.
    all_wait(&mut scheduler, [(4, with(4000))]);
    assert!(scheduler.set_resources(NOW, SessionId(4), need(5000)));
    check(&mut scheduler);
    assert_eq!(scheduler.explain(SessionId(4)).0[0].1, Verdict::TooSmall { of: Dimension::Cpu });
    assert_eq!(scheduler.resources_of(SessionId(4)), Some(need(5000)));
    assert!(!scheduler.set_resources(NOW, SessionId(9), need(1)));
}

#[test]
fn a_warm_instance_is_taken_over_where_that_is_best() {
    let mut scheduler = fleet(&[2, 2], &[grant(9, 0, 1), grant(9, 9, 1), grant(1, 0, 1)]);
    let warm = |site| Request { is_trial: true, sites: Some(vec![SiteId(site)]), ..request(0) };
    assert!(is_placed(&mut scheduler, 1, warm(1)) && is_placed(&mut scheduler, 2, warm(1)));
    let take = |scheduler: &mut Scheduler, session, request: &Request| {
        let taken = scheduler.take_over(NOW, SessionId(session), request, &[SessionId(1), SessionId(2)]);
        check(scheduler);
        taken.map(|taken| (taken.of.0, taken.node))
    };
    // The other site is 50 ms nearer: that is more than a start takes.
    let probes = |near, far| {
        let probe = |site, ms| Probe { site: SiteId(site), round_trip: Duration::from_millis(ms), loss_permille: 0 };
        Request { probes: vec![probe(0, near), probe(1, far)], ..request(1) }
    };
    assert_eq!(take(&mut scheduler, 3, &probes(10, 60)), None);
    assert_eq!(take(&mut scheduler, 3, &probes(10, 20)), Some((1, NodeId(1))));
    assert_eq!(scheduler.node_of(SessionId(1)), None);
    // Neither what is not the tenant's to use, nor what a cordoned node has.
    assert!(is_placed(&mut scheduler, 4, request(2)));
    assert_eq!(take(&mut scheduler, 5, &request(2)), None);
    scheduler.set_node_state(NOW, NodeId(1), NodeState::Cordoned);
    assert_eq!(take(&mut scheduler, 5, &request(1)), None);
    scheduler.set_node_state(NOW, NodeId(1), NodeState::Ready);
    // All is full but for the warm one, and nobody waits.
    assert!(is_placed(&mut scheduler, 6, Request { sites: Some(vec![SiteId(0)]), ..request(1) }));
    assert_eq!(take(&mut scheduler, 5, &request(1)), Some((2, NodeId(1))));
    all_wait(&mut scheduler, [(7, request(1))]);
    assert_eq!(end(&mut scheduler, 3), [7]);
    // Who comes when somebody waits does so behind him.
    assert!(scheduler.accept(SessionId(7)));
    assert_eq!(end(&mut scheduler, 5), [0; 0]);
    assert!(is_placed(&mut scheduler, 8, warm(1)));
    all_wait(&mut scheduler, [(9, Request { resources: places(2), sites: Some(vec![SiteId(1)]), ..request(1) })]);
    assert_eq!(scheduler.take_over(NOW, SessionId(10), &request(1), &[SessionId(8)]), None);
}

#[test]
fn what_nobody_waits_for_is_placed_beside_nobody_who_does() {
    let mut scheduler = fleet(&[3], &[grant(2, 0, 1), grant(9, 9, 1)]);
    let warm = || Request { is_trial: true, ..request(1) };
    let place = |scheduler: &mut Scheduler, session| {
        let placed = scheduler.place(NOW, SessionId(session), warm());
        check(scheduler);
        placed
    };
    assert_eq!(place(&mut scheduler, 1), Ok(NodeId(0)));
    assert!(is_placed(&mut scheduler, 2, request(0)));
    // Who waits for a session of his own tenant to end has no use for the place: neither it, nor a warm instance is kept from others.
    assert!(is_placed(&mut scheduler, 3, request(0)));
    all_wait(&mut scheduler, [(4, request(0))]);
    let taken = scheduler.take_over(NOW, SessionId(5), &request(1), &[SessionId(1)]);
    assert_eq!(taken.map(|taken| taken.of), Some(SessionId(1)));
    let full = vec![(SiteId(0), Verdict::Full { of: Dimension::Sessions })];
    assert_eq!(place(&mut scheduler, 6).map_err(|why| why.0), Err(full));
    assert_eq!(scheduler.waiting(SessionId(6)), None, "it stands in no line");
    // Somebody who does not fit waits: what fits beside him is not for what nobody waits for.
    assert_eq!(end(&mut scheduler, 5), [0; 0]);
    all_wait(&mut scheduler, [(7, Request { resources: places(2), ..request(1) })]);
    assert!(matches!(place(&mut scheduler, 8).map_err(|why| why.0[0].1), Err(Verdict::Queued { .. })));
}
