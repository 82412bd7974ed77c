//! What all of the store rests on, on the database under test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::clock::UtcTime;
use api::fleet::Duty;
use api::id::{InstanceId, NodeId, PlayerId, PoolId, SessionId};
use api::node::Capacity;
use api::rest::SiteProbe;
use api::session::{EndReason, SessionState};
use api::spec::StreamSpec;
use sea_orm::{ConnectionTrait, DbBackend};
use uuid::Uuid;

use super::test_store::TestStore;
use super::*;
use crate::demand::{Demand, Due, Key, Learned};

pub(super) fn record(app: &str) -> SessionRecord {
    let at = UtcTime::from_unix_ms(1_000);
    SessionRecord {
        id: SessionId::from_uuid(Uuid::now_v7()),
        instance: InstanceId::from_uuid(Uuid::now_v7()),
        epoch: 1,
        app: app.parse().unwrap(),
        spec: StreamSpec { width: 640, height: 360, frames_per_second: 30 },
        resizable: false,
        address: "hash".to_owned(),
        player_id: None,
        node: None,
        release: None,
        state: SessionState::Requested,
        observed: false,
        first_frame: false,
        unsaved: None,
        revision: 0,
        created_at: at,
        changed_at: at,
        ends_at: at,
        token_hash: blake3::hash(Uuid::now_v7().as_bytes()).into(),
        token_expires_at: at,
        tenant: "operator".to_owned(),
        explanation: None,
        probes: Vec::new(),
        asked_starts: 0,
        demand: crate::demand::Demand::default(),
        pool: None,
    }
}

const NODE: NodeId = NodeId::from_uuid(Uuid::from_u128(1));

/// Asks for a session, and for a place on a node that has so many.
async fn claim(store: &Store, record: &SessionRecord, places: u32) -> bool {
    let capacity = Capacity { sessions: places, pixels_per_second: u64::MAX, ..Capacity::default() };
    let (name, site, class) = ("one".to_owned(), "local".to_owned(), "standard".to_owned());
    let joined_at = UtcTime::from_unix_ms(1);
    let node = NodeRecord { id: NODE, name, site, class, duty: Duty::Active, capacity, joined_at };
    store.add_node(&node).await.unwrap();
    store.set_node_capacity(NODE, capacity).await.unwrap();
    assert_eq!(store.request(record, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
    let take =
        |row: &SessionRecord| Some(SessionRecord { node: Some(NODE), state: SessionState::Reserved, ..row.clone() });
    let step = Step { on: Some(NODE), ..Step::new(record.id, take) };
    matches!(store.apply(vec![step]).await.unwrap()[..], [Stepped::Yes(_)])
}

/// Two handles as two processes have them. On SQLite the data directory has one process, and the same handle stands for both.
async fn two_processes(place: &TestStore) -> [Arc<Store>; 2] {
    let first = Arc::new(place.open().await);
    let second = match place.database.url() {
        Some(_) => Arc::new(place.open().await),
        None => Arc::clone(&first),
    };
    [first, second]
}

#[tokio::test]
async fn a_full_disk_is_told_from_other_faults() {
    let place = TestStore::new();
    let store = place.open().await;
    let fault = async |sql: &str| StoreError::from(store.write.execute_unprepared(sql).await.unwrap_err());
    let full = match store.write.get_database_backend() {
        DbBackend::Postgres => fault("DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$").await,
        _ => {
            // As many pages as it has: the next one fails as on a full disk.
            store.write.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
            fault("CREATE TABLE much AS SELECT zeroblob(1048576)").await
        }
    };
    assert!(full.is_full(), "{full}");
    let other = fault("SELECT nothing").await;
    assert!(!other.is_full(), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_two_processes_never_share_the_last_places() {
    let place = TestStore::new();
    let stores = two_processes(&place).await;
    let tasks: Vec<_> = (0..24)
        .map(|index: usize| {
            let store = Arc::clone(&stores[index % 2]);
            tokio::spawn(async move { claim(&store, &record("pong"), 5).await })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += u32::from(task.await.unwrap());
    }
    assert_eq!(taken, 5);
    let store = stores[0].as_ref();
    store.load_live().await.unwrap();
    let usage = store.live.usage("hash", None);
    assert_eq!((usage.placed, usage.waiting, usage.of_address), (5, 19, 24));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_of_a_session_is_lost_between_two_processes() {
    let place = TestStore::new();
    let stores = two_processes(&place).await;
    let session = record("pong");
    assert!(claim(&stores[0], &session, 1).await);
    let tasks: Vec<_> = (0..40)
        .map(|index: usize| {
            let (store, id) = (Arc::clone(&stores[index % 2]), session.id);
            tokio::spawn(async move {
                let next = |old: &SessionRecord| Some(SessionRecord { epoch: old.epoch + 1, ..old.clone() });
                store.change(id, next).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Changed::Yes(_)));
    }
    let after = stores[1].read_session(session.id).await.unwrap().unwrap();
    assert_eq!((after.epoch, after.revision), (41, 41));
}

#[tokio::test]
async fn two_processes_that_start_at_once_make_one_schema() {
    let place = TestStore::new();
    // SQLite's data directory is locked before it is opened: see `serve`.
    if place.database.url().is_none() {
        place.open().await;
        place.open().await;
        return;
    }
    let stores = tokio::join!(place.open(), place.open(), place.open(), place.open());
    assert!(claim(&stores.0, &record("pong"), 1).await);
    assert_eq!(stores.3.newest_sessions(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn texts_sort_by_their_bytes() {
    let place = TestStore::new();
    let store = place.open().await;
    // A language's order puts `a-b` behind `aa`.
    for app in ["aa", "a-b", "a0"] {
        let add = format!("INSERT INTO app (name, tenant, created_at) VALUES ('{app}', 't', 1)");
        store.write.execute_unprepared(&add).await.unwrap();
    }
    let sorted =
        sea_orm::Statement::from_string(store.read.get_database_backend(), "SELECT name FROM app ORDER BY name");
    let rows = store.read.query_all_raw(sorted).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.try_get("", "name").unwrap()).collect();
    assert_eq!(names, ["a-b", "a0", "aa"]);
}

#[tokio::test]
async fn one_process_has_a_role() {
    let place = TestStore::new();
    let [first, second] = two_processes(&place).await;
    let held = first.take(Role::Keeper, BUSY).await.unwrap().unwrap();
    if place.database.url().is_some() {
        assert!(second.take(Role::Keeper, Duration::ZERO).await.unwrap().is_none());
        second.take(Role::ControlPlane, BUSY).await.unwrap().expect("another role is free").release().await;
    }
    held.release().await;
    second.take(Role::Keeper, BUSY).await.unwrap().expect("it was given back");
}

#[tokio::test]
async fn a_lost_connection_heals_by_itself() {
    let place = TestStore::new();
    let store = place.open().await;
    assert!(claim(&store, &record("pong"), 9).await);
    assert_eq!(store.newest_sessions(None).await.unwrap().len(), 1);
    if place.database.url().is_some() {
        let other = place.connect().await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        other.execute_unprepared(cut).await.unwrap();
    }
    assert_eq!(store.newest_sessions(None).await.unwrap().len(), 1);
    assert!(claim(&store, &record("pong"), 9).await);
}

/// While a serial transaction is open, a session still changes on PostgreSQL, and a second serial one waits.
#[tokio::test]
async fn one_session_changes_while_another_process_decides() {
    let place = TestStore::new();
    let [first, second] = two_processes(&place).await;
    let session = record("pong");
    assert!(claim(&first, &session, 1).await);
    let open = first.begin().await.unwrap();
    if place.database.url().is_some() {
        let next = |old: &SessionRecord| Some(old.clone());
        let changed = tokio::time::timeout(BUSY / 2, second.change(session.id, next)).await;
        assert!(matches!(changed.unwrap().unwrap(), Changed::Yes(_)));
    }
    let since = Instant::now();
    let take = |row: &SessionRecord| Some(SessionRecord { epoch: 7, ..row.clone() });
    let refused = second.apply(vec![Step { on: Some(NODE), ..Step::new(session.id, take) }]).await;
    assert!(refused.is_err() && since.elapsed() < BUSY * 2, "bounded: {refused:?} after {:?}", since.elapsed());
    open.rollback().await.unwrap();
    assert!(claim(&second, &record("pong"), 9).await);
    assert!(since.elapsed() >= BUSY - Duration::from_millis(500));
}

#[tokio::test]
async fn a_player_with_a_play_is_not_forgotten() {
    let place = TestStore::new();
    let store = place.open().await;
    let player = PlayerRecord {
        id: PlayerId::from_uuid(Uuid::now_v7()),
        token_hash: [7; 32],
        guest: true,
        created_at: UtcTime::from_unix_ms(1),
        last_seen_at: UtcTime::from_unix_ms(1),
    };
    store.add_player(&player).await.unwrap();
    assert!(claim(&store, &SessionRecord { player_id: Some(player.id), ..record("pong") }, 9).await);
    let later = UtcTime::from_unix_ms(9_000);
    assert_eq!(store.forget_players(later, later).await.unwrap(), 0);
    assert_eq!(store.live.usage("", Some(player.id)).of_player, 1);
}

/// Neither what is said nor what is shown of it holds the password.
async fn check_open(url: &str, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let settings = crate::DatabaseSettings::Postgres(url.parse().unwrap());
    let error = Store::open(dir.path(), &settings).await.expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}");
    let mut shown = format!("{error:?}");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        shown.push_str(&format!("{error} "));
        cause = error.source();
    }
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named_without_its_password() {
    check_open("postgres://kite:secret@127.0.0.1:1/games", "the database `games` at 127.0.0.1:1 cannot be reached")
        .await;
    check_open("postgres://kite:secret@%2Fnowhere/games", "the database `games` at /nowhere cannot be reached").await;
    let place = TestStore::new();
    let Some(url) = place.database.url() else { return };
    let (user, rest) = url.split_once("://").unwrap().1.split_once(':').unwrap();
    let (password, host) = rest.split_once('@').unwrap();
    let wrong = url.replacen(password, "secret", 1);
    check_open(&wrong, &format!("refuses the user `{user}`")).await;
    let (host, _name) = host.split_once('/').unwrap();
    let missing = format!("postgres://{user}:{password}@{host}/nowhere");
    check_open(&missing, "the database `nowhere`").await;
    check_open(&missing, &format!("createdb --owner={user} nowhere")).await;
}

/// A server that takes connections and says nothing.
#[tokio::test]
async fn a_silent_server_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let since = Instant::now();
    let port = listener.local_addr().unwrap().port();
    check_open(&format!("postgres://kite:secret@127.0.0.1:{port}/games"), "does not answer within 5 s").await;
    assert!(since.elapsed() < BUSY * 2);
}

fn demand(cpu_milli: u32, memory_mib: u32, egress_kbps: u32) -> Demand {
    Demand { cpu_milli, memory_mib, egress_kbps }
}

/// More than anything here takes.
const PIXELS: u64 = 1_000_000_000_000;

/// Asks for sessions that take this, on a node that has so much; how many got a place.
async fn placed(capacity: Capacity, demands: &[Demand]) -> usize {
    let place = TestStore::new();
    let store = place.open().await;
    let (name, site, class) = ("one".to_owned(), "local".to_owned(), "standard".to_owned());
    let joined_at = UtcTime::from_unix_ms(1);
    let node = NodeRecord { id: NODE, name, site, class, duty: Duty::Active, capacity: Capacity::default(), joined_at };
    store.add_node(&node).await.unwrap();
    store.set_node_capacity(NODE, capacity).await.unwrap();
    assert_eq!(store.nodes().await.unwrap()[0].capacity, capacity, "it is kept as it was said");
    let mut steps = Vec::new();
    for demand in demands.iter().copied() {
        let session = record("pong");
        assert_eq!(store.request(&session, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
        let take = move |row: &SessionRecord| {
            Some(SessionRecord { node: Some(NODE), state: SessionState::Reserved, demand, ..row.clone() })
        };
        steps.push(Step { on: Some(NODE), ..Step::new(session.id, take) });
    }
    // Half of them by what others have left in the table, half by what was given in the same transaction.
    let second = steps.split_off(steps.len() / 2);
    let mut placed = 0;
    for part in [steps, second] {
        for stepped in store.apply(part).await.unwrap() {
            match stepped {
                Stepped::Yes(record) => {
                    placed += 1;
                    let read = store.read_session(record.id).await.unwrap().unwrap();
                    assert_eq!(read.demand, record.demand, "it is read as it was placed");
                }
                Stepped::Full => {}
                other => panic!("{other:?}"),
            }
        }
    }
    placed
}

#[tokio::test]
async fn a_node_gives_away_no_more_than_it_has_of_anything() {
    let takes = [demand(900, 500, 4000); 6];
    let check = async |change: fn(&mut Capacity), expected: usize| {
        let mut capacity = Capacity { sessions: 5, pixels_per_second: PIXELS, ..Capacity::default() };
        change(&mut capacity);
        assert_eq!(placed(capacity, &takes).await, expected, "{capacity:?}");
    };
    check(|_| (), 5).await;
    check(|capacity| capacity.cpu_milli = Some(3599), 3).await;
    check(|capacity| capacity.cpu_milli = Some(3600), 4).await;
    check(|capacity| capacity.memory_mib = Some(1100), 2).await;
    check(|capacity| capacity.egress_kbps = Some(4000), 1).await;
    check(|capacity| capacity.egress_kbps = Some(3999), 0).await;
    // A session that takes more than the node has, because it was measured to, leaves nothing to others; old rows take nothing.
    let capacity = Capacity { sessions: 9, pixels_per_second: PIXELS, cpu_milli: Some(1000), ..Capacity::default() };
    assert_eq!(placed(capacity, &[demand(0, 0, 0); 4]).await, 4);
}

#[tokio::test]
async fn what_was_learnt_survives_and_is_written_over() {
    let place = TestStore::new();
    let store = place.open().await;
    assert_eq!(store.demands().await.unwrap(), []);
    let spec = StreamSpec { width: 1280, height: 720, frames_per_second: 60 };
    let kind = |app: &str, release| Key::new(&app.parse().unwrap(), release, spec);
    let learned = |cpu_milli| {
        let measured_at = UtcTime::from_unix_ms(7);
        Learned { demand: demand(cpu_milli, 400, u32::MAX), samples: u32::MAX, sessions: 3, measured_at }
    };
    let rows =
        [(kind("doom", None), learned(1)), (kind("quake", Some(1)), learned(2)), (kind("quake", Some(2)), learned(3))];
    store.write_demands(&Due { write: rows.to_vec(), remove: Vec::new() }).await.unwrap();
    assert_eq!(store.demands().await.unwrap().len(), 3);
    let again = Due { write: vec![(kind("quake", Some(1)), learned(9))], remove: vec![kind("quake", Some(2))] };
    store.write_demands(&again).await.unwrap();
    store.write_demands(&Due::default()).await.unwrap();
    store.close().await.unwrap();
    let mut read = place.open().await.demands().await.unwrap();
    read.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(read, [(kind("doom", None), learned(1)), (kind("quake", Some(1)), learned(9))]);
}

/// One that may be taken over, on the only place of a node.
async fn warm(store: &Store) -> SessionRecord {
    let pool = Some(PoolId::from_uuid(Uuid::from_u128(5)));
    let record = SessionRecord { pool, ..record("pong") };
    assert!(claim(store, &record, 1).await);
    let ready = |row: &SessionRecord| {
        Some(SessionRecord { state: SessionState::Ready { connect_until: row.ends_at }, ..row.clone() })
    };
    let Changed::Yes(record) = store.change(record.id, ready).await.unwrap() else { panic!("not changed") };
    record
}

fn taking<'a>(record: &SessionRecord, warm: &SessionRecord, demand: Demand) -> Step<'a> {
    let reserve = move |row: &SessionRecord| {
        Some(SessionRecord { node: Some(NODE), state: SessionState::Reserved, demand, ..row.clone() })
    };
    let spare = InstanceId::from_uuid(Uuid::now_v7());
    let join = move |new: &SessionRecord, warm: &SessionRecord| {
        crate::reconcile::session::claimed(new, warm, Duration::from_secs(60), spare, UtcTime::from_unix_ms(9))
    };
    let takes = Some(Takes { from: warm.id, join: Box::new(join) });
    Step { on: Some(NODE), takes, ..Step::new(record.id, reserve) }
}

#[tokio::test]
async fn one_of_many_has_a_warm_instance_and_its_place() {
    let place = TestStore::new();
    let stores = two_processes(&place).await;
    let warm = warm(&stores[0]).await;
    stores[1].load_live().await.unwrap();
    let mut takers = Vec::new();
    for number in 0..8 {
        let taker = record("pong");
        assert_eq!(stores[number % 2].request(&taker, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
        takers.push(taker);
    }
    let mut tries = Vec::new();
    for (number, taker) in takers.iter().enumerate() {
        let (store, step) = (Arc::clone(&stores[number % 2]), taking(taker, &warm, Demand::default()));
        tries.push(tokio::spawn(async move { store.apply(vec![step]).await.unwrap().remove(0) }));
    }
    let mut winners = Vec::new();
    for one in tries {
        match one.await.unwrap() {
            Stepped::Yes(record) => winners.push(record),
            other => assert_eq!(other, Stepped::Full),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!((winners[0].instance, winners[0].node), (warm.instance, Some(NODE)));
    let gone = stores[1].read_session(warm.id).await.unwrap().unwrap();
    assert!(
        matches!(gone.state, SessionState::Ended { reason: EndReason::Claimed, .. }) && gone.instance != warm.instance
    );
    // Who wrote it knows what the other one is now.
    let live = stores.iter().find(|store| store.live.get(winners[0].id).is_some_and(|row| row.node.is_some())).unwrap();
    assert!(live.live.get(warm.id).is_none() && live.live.of_pools().is_empty());
    assert!(live.live.take_found().iter().any(|record| record.id == warm.id));
}

#[tokio::test]
async fn who_needs_more_than_the_warm_instance_leaves_takes_nothing() {
    let place = TestStore::new();
    let store = place.open().await;
    let warm = warm(&store).await;
    let capacity = Capacity { sessions: 2, pixels_per_second: u64::MAX, cpu_milli: Some(1000), ..Capacity::default() };
    store.set_node_capacity(NODE, capacity).await.unwrap();
    for (needs, expected) in [(1500, None), (1000, Some(warm.instance))] {
        let taker = record("pong");
        assert_eq!(store.request(&taker, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
        let stepped = store.apply(vec![taking(&taker, &warm, demand(needs, 0, 0))]).await.unwrap().remove(0);
        match expected {
            None => assert_eq!(stepped, Stepped::Full),
            Some(instance) => assert!(matches!(stepped, Stepped::Yes(taker) if taker.instance == instance)),
        }
    }
    // The last step saw that it was gone, and took the place beside it alone.
    let late = record("pong");
    assert_eq!(store.request(&late, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
    let stepped = store.apply(vec![taking(&late, &warm, Demand::default())]).await.unwrap().remove(0);
    assert!(matches!(stepped, Stepped::Yes(taker) if taker.instance == late.instance));
}

#[tokio::test]
async fn what_a_client_measured_is_kept_with_its_session() {
    let place = TestStore::new();
    let store = place.open().await;
    let probe = |site: &str| SiteProbe { site: site.to_owned(), round_trip_us: 12_345, loss_permille: 25 };
    let measured = SessionRecord { probes: vec![probe("paris"), probe("a \"b\" c")], ..record("pong") };
    let nothing = record("pong");
    for record in [&measured, &nothing] {
        assert_eq!(store.request(record, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
    }
    assert_eq!(store.read_session(measured.id).await.unwrap().unwrap().probes, measured.probes);
    assert_eq!(store.read_session(nothing.id).await.unwrap().unwrap().probes, []);
}
