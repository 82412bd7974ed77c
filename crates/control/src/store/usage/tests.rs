//! What is kept of plays is what their states were, on the database under test.

use api::session::EndReason;
use billing::usage::{Ending, verify_intervals};
use uuid::Uuid;

use super::*;
use crate::store::test_store::TestStore;
use crate::store::tests::record;
use crate::store::{Claimed, Store};

const fn at(second: i64) -> UtcTime {
    UtcTime::from_unix_ms(second * 1000)
}

async fn asked(store: &Store) -> SessionId {
    let record = record("pong");
    assert_eq!(store.request(&record, None, |_| Ok::<_, ()>(())).await.unwrap(), Claimed::Yes);
    record.id
}

/// The session is in another state from this second on.
async fn becomes(store: &Store, id: SessionId, second: i64, epoch: u32, state: SessionState) {
    let next = |row: &SessionRecord| Some(SessionRecord { state, epoch, changed_at: at(second), ..row.clone() });
    store.change(id, next).await.unwrap();
}

fn ended(second: i64, reason: EndReason) -> SessionState {
    SessionState::Ended { reason, party: reason.party(), at: at(second) }
}

const CONNECTED: SessionState = SessionState::Connected { since: at(0) };
const RECONNECTING: SessionState = SessionState::Reconnecting { until: at(0) };

/// Its intervals in seconds, and whether each is the platform's fault.
async fn intervals(store: &Store, id: SessionId) -> Vec<(i64, i64, bool)> {
    let of = UsageOf { session: Some(id), ..UsageOf::default() };
    let played = store.played(of, 10).await.unwrap();
    let Some(played) = played.first() else { return Vec::new() };
    verify_intervals(&played.intervals, played.life).unwrap();
    played.intervals.iter().map(|one| (one.from.unix_ms() / 1000, one.to.unix_ms() / 1000, one.is_fault())).collect()
}

#[tokio::test]
async fn each_return_of_a_player_is_an_interval_and_waiting_is_none() {
    let place = TestStore::new();
    let store = place.open().await;
    let id = asked(&store).await;
    becomes(&store, id, 5, 1, SessionState::Ready { connect_until: at(60) }).await;
    assert_eq!(intervals(&store, id).await, []);
    becomes(&store, id, 10, 1, CONNECTED).await;
    assert_eq!(store.prove(at(30), &[(id, 1)]).await.unwrap(), 1);
    assert_eq!(intervals(&store, id).await, [(10, 30, false)], "as far as it is proven");
    becomes(&store, id, 50, 1, RECONNECTING).await;
    assert_eq!(store.prove(at(55), &[(id, 1)]).await.unwrap(), 0, "nobody can play then");
    becomes(&store, id, 60, 1, CONNECTED).await;
    becomes(&store, id, 70, 1, SessionState::Stopping { reason: EndReason::PlayerLeft }).await;
    becomes(&store, id, 75, 1, ended(75, EndReason::PlayerLeft)).await;
    assert_eq!(intervals(&store, id).await, [(10, 50, false), (60, 70, false)]);
    // The session is forgotten, what was played of it is not.
    store.forget_ended_before(at(1000), at(1000)).await.unwrap();
    assert_eq!(store.session(id).await.unwrap(), None);
    let played = store.played(UsageOf { tenant: Some("operator"), ..UsageOf::default() }, 10).await.unwrap();
    assert_eq!((played.len(), played[0].life.ended, played[0].intervals.len()), (1, Some(at(75)), 2));
    assert!(store.played(UsageOf { tenant: Some("other"), ..UsageOf::default() }, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_nobody_saw_end_counts_until_its_last_proof() {
    let place = TestStore::new();
    let store = place.open().await;
    // Its node was lost: until the proof, and not billed. It goes on elsewhere, with another epoch.
    let lost = asked(&store).await;
    becomes(&store, lost, 10, 1, CONNECTED).await;
    store.prove(at(40), &[(lost, 1)]).await.unwrap();
    becomes(&store, lost, 47, 2, SessionState::Recovering { since: at(47) }).await;
    becomes(&store, lost, 60, 2, CONNECTED).await;
    assert_eq!(store.prove(at(65), &[(lost, 1)]).await.unwrap(), 0, "a proof of the epoch before is nobody's");
    becomes(&store, lost, 80, 2, ended(80, EndReason::GameExited)).await;
    assert_eq!(intervals(&store, lost).await, [(10, 40, true), (60, 80, false)]);
    // The control plane was away for an hour, and found it ended: nobody knows when that was.
    let unseen = asked(&store).await;
    becomes(&store, unseen, 10, 1, CONNECTED).await;
    store.prove(at(40), &[(unseen, 1)]).await.unwrap();
    becomes(&store, unseen, 3640, 1, ended(3640, EndReason::GameExited)).await;
    assert_eq!(intervals(&store, unseen).await, [(10, 40, false)]);
    // It came back, and the play went on: what nobody saw is the customer's.
    let seen = asked(&store).await;
    becomes(&store, seen, 10, 1, CONNECTED).await;
    store.prove(at(40), &[(seen, 1)]).await.unwrap();
    store.prove(at(3600), &[(seen, 1)]).await.unwrap();
    becomes(&store, seen, 3610, 1, ended(3610, EndReason::PlayerLeft)).await;
    assert_eq!(intervals(&store, seen).await, [(10, 40, false), (3600, 3610, false)]);
    let of = UsageOf { session: Some(unseen), ..UsageOf::default() };
    let closed = store.played(of, 1).await.unwrap()[0].intervals[0].ending;
    assert!(matches!(closed, Ending::Closed { .. }), "{closed:?}");
}

#[tokio::test]
async fn one_session_that_cannot_be_metered_takes_nobody_else_along() {
    let place = TestStore::new();
    let store = place.open().await;
    let (broken, good) = (asked(&store).await, asked(&store).await);
    for id in [broken, good] {
        becomes(&store, id, 10, 1, CONNECTED).await;
    }
    let spoil = format!("UPDATE usage_session SET tracker = '{{}}' WHERE session = '{broken}'");
    sea_orm::ConnectionTrait::execute_unprepared(&store.write, &spoil).await.unwrap();
    assert_eq!(store.prove(at(20), &[(broken, 1), (good, 1)]).await.unwrap(), 1);
    for id in [broken, good] {
        becomes(&store, id, 30, 1, ended(30, EndReason::PlayerLeft)).await;
    }
    // Connections beyond what any session has.
    let many = "INSERT INTO usage_fact (session, epoch, span, kind, at) VALUES";
    let many = format!("{many} ('{broken}', 1, 10000, 'opened', 5)");
    sea_orm::ConnectionTrait::execute_unprepared(&store.write, &many).await.unwrap();
    assert_eq!(intervals(&store, good).await, [(10, 30, false)]);
    assert_eq!(store.played(UsageOf::default(), 10).await.unwrap().len(), 2);
}

/// Random changes and proofs, told through the database, and through `billing` alone: the same intervals.
#[tokio::test]
async fn the_database_keeps_what_the_machine_says() {
    let seed = std::env::var("KITE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::try_from(Uuid::now_v7().as_u128() & 0xffff_ffff).unwrap());
    eprintln!("KITE_TEST_SEED={seed}");
    let mut random = impair::Random::new(seed);
    let mut below = |limit: u32| (random.unit() * f64::from(limit)) as u32;
    let place = TestStore::new();
    let store = place.open().await;
    for _ in 0..6 {
        let id = asked(&store).await;
        let (mut tracker, mut timeline) = (Tracker::new(id), Timeline::default());
        let (mut second, mut epoch, mut connected) = (2_i64, 1, false);
        let mut end = None;
        for step in 0..30 {
            second += i64::from(1 + below(20));
            if below(3) == 0 {
                let proven = store.prove(at(second), &[(id, epoch)]).await.unwrap();
                let fact = tracker.beat(at(second), epoch);
                assert_eq!(proven, usize::from(fact.is_some()), "step {step}");
                if let Some(fact) = &fact {
                    timeline.add(fact).unwrap();
                }
                continue;
            }
            let state = match (below(8), connected) {
                (0, _) => {
                    epoch += 1;
                    SessionState::Recovering { since: at(second) }
                }
                (1, _) if step > 20 => ended(second, EndReason::PlayerLeft),
                (_, false) => CONNECTED,
                (_, true) => RECONNECTING,
            };
            connected = matches!(state, SessionState::Connected { .. });
            becomes(&store, id, second, epoch, state).await;
            for fact in tracker.see(at(second), epoch, &state) {
                timeline.add(&fact).unwrap();
            }
            if state.is_ended() {
                end = Some(at(second));
                break;
            }
        }
        let expected = timeline.intervals(id, Life { begun: at(1), ended: end });
        let of = UsageOf { session: Some(id), ..UsageOf::default() };
        let kept = store.played(of, 1).await.unwrap();
        assert_eq!(kept.first().map_or(&[][..], |played| &played.intervals[..]), &expected[..]);
    }
}
