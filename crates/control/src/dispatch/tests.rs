//! Places by what sessions take: what was learnt of them decides who shares a node, who waits and who is refused, and why is said.

use api::fleet::STANDARD_CLASS;
use api::node::{Capacity, ObservedNode};
use api::rest::SiteProbe;
use api::spec::StreamSpec;
use uuid::Uuid;

use super::*;
use crate::store::NodeRecord;

const HEAVY: Demand = Demand { cpu_milli: 3000, memory_mib: 1000, egress_kbps: 8000 };
const LIGHT: Demand = Demand { cpu_milli: 1000, memory_mib: 500, egress_kbps: 4000 };

/// A fleet, its sessions by number, and what is known of each app.
struct World {
    dispatcher: Dispatcher,
    nodes: Nodes,
    records: BTreeMap<SessionId, Arc<SessionRecord>>,
    known: BTreeMap<String, Asked>,
    version: u64,
}

fn node_id(number: u128) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(number))
}

fn session_id(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

fn at(second: i64) -> UtcTime {
    UtcTime::from_unix_ms(second * 1000)
}

fn four_processors() -> Capacity {
    Capacity { sessions: 10, pixels_per_second: u64::MAX, cpu_milli: Some(4000), ..Capacity::default() }
}

impl World {
    fn new(capacities: &[Capacity]) -> Self {
        let node = |(number, capacity): (u128, &Capacity)| {
            let (id, capacity) = (node_id(number), *capacity);
            let (name, site, class) = ("one".to_owned(), "paris".to_owned(), "standard".to_owned());
            let record = NodeRecord { id, name, site, class, duty: Duty::Active, capacity, joined_at: at(0) };
            let last = ObservedNode {
                node: id,
                capacity,
                refuses: None,
                instances: Vec::new(),
                replicas: Vec::new(),
                commands: Vec::new(),
                witness: None,
                echo: false,
            };
            (id, NodeView { record: Arc::new(record), health: Health::Alive, last: Some(Arc::new(last)) })
        };
        Self {
            dispatcher: Dispatcher::new(at(0), Duration::from_secs(60)),
            nodes: (1..).zip(capacities).map(node).collect(),
            records: BTreeMap::new(),
            known: BTreeMap::new(),
            version: 0,
        }
    }

    fn learn(&mut self, app: &str, demand: Demand) {
        self.know(app, Asked { demand, is_known: true });
    }

    fn know(&mut self, app: &str, asked: Asked) {
        self.known.insert(app.to_owned(), asked);
        self.version += 1;
    }

    fn ask(&mut self, number: u128, app: &str) {
        let id = session_id(number);
        let record = SessionRecord {
            id,
            instance: api::id::InstanceId::from_uuid(Uuid::from_u128(number)),
            epoch: 1,
            app: app.parse().unwrap(),
            spec: StreamSpec { width: 640, height: 360, frames_per_second: 30 },
            resizable: false,
            address: String::new(),
            player_id: None,
            node: None,
            release: None,
            state: SessionState::Requested,
            observed: false,
            first_frame: false,
            unsaved: None,
            revision: 1,
            created_at: at(0),
            changed_at: at(0),
            ends_at: at(10_000),
            token_hash: [0; 32],
            token_expires_at: at(10_000),
            tenant: "operator".to_owned(),
            explanation: None,
            probes: Vec::new(),
            asked_starts: 0,
            demand: Demand::default(),
            pool: None,
        };
        self.records.insert(id, Arc::new(record));
    }

    fn change(&mut self, number: u128, change: impl FnOnce(&mut SessionRecord)) {
        let record = self.records.get_mut(&session_id(number)).unwrap();
        change(Arc::make_mut(record));
    }

    /// Each node is at a site of its own.
    fn at_sites(mut self, sites: &[&str]) -> Self {
        for (view, site) in self.nodes.values_mut().zip(sites) {
            Arc::make_mut(&mut view.record).site = (*site).to_owned();
        }
        self
    }

    /// One look at everything; nothing comes of it.
    fn show(&mut self) -> Said {
        let touched: Touched = self.records.iter().map(|(id, record)| (*id, Some(Arc::clone(record)))).collect();
        let (records, known) = (self.records.clone(), self.known.clone());
        self.dispatcher.look(&Shown {
            now: at(1),
            touched: &touched,
            is_whole: true,
            record: &|id| records.get(&id).cloned(),
            nodes: &self.nodes,
            changed_nodes: &BTreeSet::new(),
            grants: &BTreeMap::new(),
            played: &|record| {
                let class = if record.app.as_str().starts_with("gpu") { "gpu" } else { STANDARD_CLASS };
                Played { content: None, site: None, class: class.to_owned() }
            },
            asked: &|record| known[record.app.as_str()],
            asked_version: self.version,
            patience: Duration::from_secs(600),
            tells_waits: true,
        })
    }

    /// One look at everything; its acts become the rows.
    fn look(&mut self) -> Said {
        let said = self.show();
        for act in &said.acts {
            match act.clone() {
                Act::Reserve { session, node, demand, .. } | Act::Offer { session, node, demand, .. } => {
                    let record = Arc::make_mut(self.records.get_mut(&session).unwrap());
                    (record.node, record.state, record.demand) = (Some(node), SessionState::Reserved, demand);
                }
                Act::Queue { session, cause } => {
                    Arc::make_mut(self.records.get_mut(&session).unwrap()).state = SessionState::Queued { cause };
                }
                Act::End { session, .. } => drop(self.records.remove(&session)),
                Act::Claim { .. } | Act::GiveUp { .. } => panic!("nothing is kept warm here: {act:?}"),
            }
        }
        said
    }

    /// On which node each session is; 0 for none.
    fn places(&self) -> Vec<u128> {
        self.records.values().map(|record| record.node.map_or(0, |node| node.uuid().as_u128())).collect()
    }
}

fn only_site(said: &Said, number: u128) -> (String, String) {
    let (_, place) = said.waits.iter().find(|(id, _)| *id == session_id(number)).expect("it waits");
    let [site] = &place.sites[..] else { panic!("{place:?}") };
    (site.verdict.clone(), site.detail.clone())
}

#[test]
fn heavy_apps_do_not_share_a_node_and_light_ones_do() {
    let mut world = World::new(&[four_processors(), four_processors()]);
    world.learn("heavy", HEAVY);
    world.learn("light", LIGHT);
    for (number, app) in (1..).zip(["heavy", "heavy", "heavy", "light", "light", "light"]) {
        world.ask(number, app);
    }
    let said = world.look();
    let places = world.places();
    assert!(places[0] != places[1] && places[0] > 0 && places[1] > 0, "{places:?}");
    assert_eq!(places[2], 0, "a third heavy one has no room");
    assert!(places[3] > 0 && places[4] > 0 && places[3] != places[4], "one beside each heavy one: {places:?}");
    assert_eq!(places[5], 0, "a third light one has no room");
    let full = ("full".to_owned(), "it is full: no processor left".to_owned());
    assert_eq!((only_site(&said, 3), only_site(&said, 6)), (full.clone(), full));
    assert_eq!(world.records[&session_id(1)].demand, HEAVY, "the row says what it was placed with");
}

#[test]
fn what_no_node_has_is_refused_by_its_name_and_a_guess_never_is() {
    let capacity = Capacity { memory_mib: Some(2048), egress_kbps: Some(6000), ..four_processors() };
    let check = |demand: Demand, is_known, detail: Option<&str>| {
        let mut world = World::new(&[capacity]);
        world.know("app", Asked { demand, is_known });
        world.ask(1, "app");
        let said = world.look();
        match (&said.acts[..], detail) {
            ([Act::End { reason: EndReason::NoPlace, why, .. }], Some(detail)) => {
                assert_eq!((why[0].verdict.as_str(), why[0].detail.as_str()), ("too_small", detail));
            }
            ([Act::Reserve { demand, .. }], None) => assert!(demand.cpu_milli <= 4000 && demand.egress_kbps <= 6000),
            other => panic!("{other:?}"),
        }
    };
    let too_small = "its machines are too small for this session: ";
    check(Demand { cpu_milli: 4050, ..LIGHT }, true, Some(&format!("{too_small}processor")));
    check(Demand { memory_mib: 2049, ..LIGHT }, true, Some(&format!("{too_small}memory")));
    check(Demand { egress_kbps: 6250, ..LIGHT }, true, Some(&format!("{too_small}network")));
    check(Demand { cpu_milli: 64_000, memory_mib: 300_000, egress_kbps: 90_000 }, false, None);
    check(LIGHT, true, None);
}

#[test]
fn an_app_goes_to_its_class_of_machines_and_waits_for_these_alone() {
    let mut world = World::new(&[four_processors(), Capacity { sessions: 1, ..four_processors() }]);
    world.learn("gpu-app", LIGHT);
    world.learn("light", LIGHT);
    world.ask(1, "gpu-app");
    let said = world.look();
    let [Act::End { reason: EndReason::NoPlace, why, .. }] = &said.acts[..] else { panic!("{said:?}") };
    assert_eq!((why[0].verdict.as_str(), why[0].detail.as_str()), ("no_class", "it has no machines of this class"));

    let view = world.nodes.get_mut(&node_id(2)).unwrap();
    view.record = Arc::new(NodeRecord { class: "gpu".to_owned(), ..NodeRecord::clone(&view.record) });
    world.dispatcher = Dispatcher::new(at(0), Duration::from_secs(60));
    for (number, app) in (2..).zip(["gpu-app", "gpu-app", "light"]) {
        world.ask(number, app);
    }
    let said = world.look();
    assert_eq!(world.places(), [2, 0, 1], "the second waits although the other class has room");
    assert_eq!(only_site(&said, 3).0, "full");
}

#[test]
fn nodes_that_state_places_alone_are_filled_as_before() {
    let old = Capacity { sessions: 3, pixels_per_second: u64::MAX, ..Capacity::default() };
    let mut world = World::new(&[old]);
    world.learn("heavy", HEAVY);
    (1..=4).for_each(|number| world.ask(number, "heavy"));
    let said = world.look();
    assert_eq!(world.places(), [1, 1, 1, 0]);
    assert_eq!(only_site(&said, 4).1, "it is full: no places left");
}

#[test]
fn what_is_learnt_later_counts_for_who_plays_and_for_who_waits() {
    let mut world = World::new(&[four_processors()]);
    world.learn("app", LIGHT);
    world.ask(1, "app");
    world.look();
    // It was measured to take more: its row says so, and there is room for one more only.
    world.change(1, |record| record.demand = Demand { cpu_milli: 2500, ..LIGHT });
    world.ask(2, "app");
    world.ask(3, "app");
    world.look();
    assert_eq!(world.places(), [1, 1, 0]);
    // Who waits asks by what is known now.
    world.learn("app", Demand { cpu_milli: 500, ..LIGHT });
    world.look();
    assert_eq!(world.places(), [1, 1, 1]);
    assert_eq!(world.records[&session_id(3)].demand.cpu_milli, 500);
}

#[test]
fn a_process_that_begins_anew_counts_the_same() {
    let mut world = World::new(&[four_processors()]);
    world.learn("heavy", HEAVY);
    world.learn("light", LIGHT);
    world.ask(1, "heavy");
    world.look();
    // What is thought of the kind has changed since, what it was placed with has not.
    world.learn("heavy", LIGHT);
    world.dispatcher = Dispatcher::new(at(0), Duration::from_secs(60));
    world.ask(2, "light");
    world.ask(3, "light");
    world.look();
    assert_eq!(world.places(), [1, 1, 0]);
}

/// A warm instance of an app that has settled, and a session that is to have it.
fn claimed() -> World {
    let mut world = World::new(&[Capacity { sessions: 2, ..four_processors() }]);
    world.learn("app", LIGHT);
    world.ask(1, "app");
    world.look();
    world.change(1, |record| {
        record.pool = Some(api::id::PoolId::from_uuid(Uuid::from_u128(1)));
        record.state = SessionState::Ready { connect_until: at(100) };
    });
    world.dispatcher = Dispatcher::new(at(0), Duration::from_secs(60));
    world.ask(2, "app");
    let said = world.show();
    assert_eq!(claims(&said), [(2, 1)], "{said:?}");
    assert_eq!(claims(&world.show()), [(2, 1)], "said until it is written");
    world
}

fn claims(said: &Said) -> Vec<(u128, u128)> {
    let number = |id: &SessionId| id.uuid().as_u128();
    let claims = said.acts.iter().filter_map(|act| match act {
        Act::Claim { session, warm, .. } => Some((number(session), number(warm))),
        _ => None,
    });
    claims.collect()
}

#[test]
fn a_claim_whose_player_goes_before_it_is_written_leaves_its_instance_to_the_next_one() {
    let mut world = claimed();
    world.records.remove(&session_id(2));
    let said = world.show();
    assert!(said.acts.is_empty(), "{said:?}");
    world.ask(3, "app");
    let said = world.show();
    assert_eq!(claims(&said), [(3, 1)], "{said:?}");
    // Its place was counted once: another session fits beside it, and a third does not.
    world.learn("other", LIGHT);
    world.ask(4, "other");
    world.ask(5, "other");
    let said = world.show();
    let reserved = said.acts.iter().filter(|act| matches!(act, Act::Reserve { .. })).count();
    assert_eq!((claims(&said), reserved, said.waits.len()), (vec![(3, 1)], 1, 1), "{said:?}");
}

#[test]
fn an_instance_that_could_not_be_claimed_is_tried_by_nobody_again() {
    let mut world = claimed();
    world.dispatcher.claim_failed(at(1), session_id(2));
    let said = world.look();
    assert_eq!((claims(&said), world.places()), (Vec::new(), vec![1, 1]), "it starts beside it: {said:?}");
    world.ask(3, "app");
    assert!(claims(&world.show()).is_empty());
}

fn probe(site: &str, ms: u32, loss_permille: u16) -> SiteProbe {
    SiteProbe { site: site.to_owned(), round_trip_us: ms * 1000, loss_permille }
}

#[test]
fn who_measured_plays_at_the_nearest_site_and_is_told_how_far_each_is() {
    let mut world = World::new(&[four_processors(), four_processors(), four_processors()]);
    world = world.at_sites(&["paris", "oslo", "lima"]);
    world.learn("app", LIGHT);
    (1..=4).for_each(|number| world.ask(number, "app"));
    world.change(1, |record| record.probes = vec![probe("paris", 80, 0), probe("oslo", 15, 0)]);
    world.change(2, |record| record.probes = vec![probe("paris", 15, 0), probe("oslo", 80, 0)]);
    // Near, and lossy.
    world.change(3, |record| record.probes = vec![probe("paris", 15, 50), probe("lima", 90, 0)]);
    // Far from everywhere: he plays all the same.
    let far = vec![probe("paris", 900, 0), probe("oslo", 400, 0), probe("lima", 300, 0)];
    world.change(4, |record| record.probes = far);
    let said = world.look();
    assert_eq!(world.places(), [2, 1, 3, 3]);
    let why = |number: u128| {
        let why = said.acts.iter().find_map(|act| match act {
            Act::Reserve { session, why, .. } if *session == session_id(number) => Some(why.clone()),
            _ => None,
        });
        let said =
            why.unwrap().into_iter().map(|said| (said.site, said.verdict, said.round_trip_us, said.loss_permille));
        said.collect::<Vec<_>>()
    };
    let line = |site: &str, verdict: &str, way: Option<(u32, u16)>| {
        (site.to_owned(), verdict.to_owned(), way.map(|way| way.0 * 1000), way.map(|way| way.1))
    };
    let first =
        [line("paris", "worse", Some((80, 0))), line("oslo", "chosen", Some((15, 0))), line("lima", "worse", None)];
    assert_eq!(why(1), first);
    let third =
        [line("paris", "worse", Some((15, 50))), line("oslo", "worse", None), line("lima", "chosen", Some((90, 0)))];
    assert_eq!(why(3), third);
    assert_eq!(why(4)[0], line("paris", "too_far", Some((900, 0))));
}

#[test]
fn who_waits_is_told_how_far_the_sites_are_and_comes_to_the_nearest_that_is_free() {
    let one = Capacity { sessions: 1, pixels_per_second: u64::MAX, ..Capacity::default() };
    let mut world = World::new(&[one, one]).at_sites(&["paris", "oslo"]);
    world.learn("app", LIGHT);
    (1..=3).for_each(|number| world.ask(number, "app"));
    world.change(3, |record| record.probes = vec![probe("paris", 5, 0), probe("oslo", 300, 10)]);
    let said = world.look();
    let (_, place) = said.waits.iter().find(|(id, _)| *id == session_id(3)).expect("it waits");
    let sites: Vec<_> = place.sites.iter().map(|said| (said.verdict.as_str(), said.round_trip_us)).collect();
    assert_eq!(sites, [("full", Some(5_000)), ("too_far", Some(300_000))]);
    // A process that begins anew knows it from the row.
    world.dispatcher = Dispatcher::new(at(0), Duration::from_secs(60));
    let far = world.records.iter().find(|(_, record)| record.node == Some(node_id(2))).map(|(id, _)| *id).unwrap();
    world.records.remove(&far);
    world.look();
    assert_eq!(world.records[&session_id(3)].node, None, "the free one is too far");
    let near = world.records.iter().find(|(_, record)| record.node == Some(node_id(1))).map(|(id, _)| *id).unwrap();
    world.records.remove(&near);
    world.look();
    assert_eq!(world.records[&session_id(3)].node, Some(node_id(1)));
}

#[test]
fn a_near_site_that_is_full_is_said_to_be_full() {
    let one = Capacity { sessions: 1, pixels_per_second: u64::MAX, ..Capacity::default() };
    let mut world = World::new(&[one, one]).at_sites(&["paris", "oslo"]);
    world.learn("app", LIGHT);
    for number in 1..=2 {
        world.ask(number, "app");
        world.change(number, |record| record.probes = vec![probe("paris", 5, 0), probe("oslo", 50, 0)]);
    }
    let said = world.look();
    assert_eq!(world.places(), [1, 2]);
    let [_, Act::Reserve { why, .. }] = &said.acts[..] else { panic!("{:?}", said.acts) };
    let said: Vec<_> = why.iter().map(|said| (said.verdict.as_str(), said.detail.as_str())).collect();
    assert_eq!(said, [("full", "it is full: no places left"), ("chosen", "it is here")]);
}
