use api::id::{InstanceId, NodeId, SessionId};
use api::session::{PrepareStage, WaitCause};
use api::spec::StreamSpec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix_ms(seconds * 1000)
}

fn record(state: SessionState, first_frame: bool) -> SessionRecord {
    SessionRecord {
        asked_starts: 0,
        demand: crate::demand::Demand::default(),
        pool: None,
        id: SessionId::from_uuid(Uuid::from_u128(1)),
        instance: InstanceId::from_uuid(Uuid::from_u128(2)),
        epoch: 1,
        app: "doom".parse().unwrap(),
        spec: StreamSpec { width: 1280, height: 720, frames_per_second: 60 },
        resizable: true,
        address: String::new(),
        player_id: None,
        node: Some(NodeId::from_uuid(Uuid::from_u128(3))),
        release: None,
        state,
        observed: true,
        first_frame,
        unsaved: None,
        revision: 1,
        created_at: at(0),
        changed_at: at(0),
        ends_at: at(10_000),
        token_hash: [0; 32],
        token_expires_at: at(20_000),
        tenant: "operator".to_owned(),
        explanation: None,
        probes: Vec::new(),
    }
}

const PREPARING: SessionState = SessionState::Preparing { stage: PrepareStage::Game };

fn ready() -> SessionState {
    SessionState::Ready { connect_until: at(100) }
}

fn connected() -> SessionState {
    SessionState::Connected { since: at(0) }
}

fn ended(reason: EndReason) -> SessionState {
    SessionState::Ended { reason, party: reason.party(), at: at(0) }
}

/// Where a session is at a second, and whether it has drawn.
type Step = (i64, SessionState, bool);

fn walk(mut journey: Journey, steps: &[Step]) -> Vec<(i64, Moment)> {
    let mut all = Vec::new();
    for (second, state, drawn) in steps {
        let moments = journey.step(&record(*state, *drawn), at(*second));
        all.extend(moments.into_iter().map(|moment| (*second, moment)));
    }
    all
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn passed(name: &'static str, from: i64, failure: Option<EndReason>) -> Moment {
    Moment::Passed { name, from: at(from), failure }
}

fn check(journey: Journey, steps: &[Step], expected: &[(i64, Moment)]) {
    assert_eq!(walk(journey, steps), expected);
}

#[test]
fn a_play_from_its_request_to_its_end() {
    let left = EndReason::PlayerLeft;
    check(
        Journey::new(at(0), None),
        &[
            (0, SessionState::Requested, false),
            (1, SessionState::Queued { cause: WaitCause::Capacity }, false),
            (9, SessionState::Offered { until: at(60) }, false),
            (10, SessionState::Reserved, false),
            (10, PREPARING, false),
            (12, ready(), false),
            (13, ready(), true),
            (14, connected(), true),
            (14, connected(), true),
            (20, SessionState::Reconnecting { until: at(80) }, true),
            (23, connected(), true),
            (30, SessionState::Stopping { reason: left }, true),
            (31, ended(left), true),
        ],
        &[
            (10, Moment::Placed { waited: seconds(10) }),
            (10, passed("session.place", 0, None)),
            (12, Moment::Reached { stage: Stage::Ready, after: seconds(12) }),
            (12, passed("session.prepare", 10, None)),
            (13, Moment::Reached { stage: Stage::FirstFrame, after: seconds(13) }),
            (14, Moment::Started(Outcome::Connected)),
            (14, Moment::Reached { stage: Stage::Connected, after: seconds(14) }),
            (14, passed("session.connect", 12, None)),
            (14, passed(START, 0, None)),
            (20, Moment::Played(seconds(6))),
            (30, Moment::Played(seconds(7))),
            (31, Moment::Ended { reason: left, party: Party::Player }),
        ],
    );
}

#[test]
fn a_start_that_fails_is_counted_once_and_by_who_failed() {
    let failed = EndReason::StreamerFailed;
    check(
        Journey::new(at(0), None),
        &[(1, SessionState::Reserved, false), (2, ended(failed), false)],
        &[
            (1, Moment::Placed { waited: seconds(1) }),
            (1, passed("session.place", 0, None)),
            (2, Moment::Started(Outcome::Ended(Party::Platform))),
            (2, passed(START, 0, Some(failed))),
            (2, Moment::Ended { reason: failed, party: Party::Platform }),
        ],
    );
}

#[test]
fn a_lost_node_interrupts_a_play_until_it_goes_on() {
    let mut journey = Journey::new(at(0), None);
    for state in [SessionState::Reserved, ready(), connected()] {
        journey.step(&record(state, true), at(0));
    }
    check(
        journey.clone(),
        &[
            (5, SessionState::Recovering { since: at(5) }, false),
            (6, SessionState::Reserved, false),
            (8, ready(), true),
            (9, connected(), true),
        ],
        &[
            (5, Moment::Played(seconds(5))),
            (5, Moment::Recovering),
            (5, Moment::Interrupted),
            (9, Moment::InterruptedFor(seconds(4))),
            (9, passed("session.recover", 5, None)),
        ],
    );
    let lost = EndReason::NodeLost;
    check(
        journey,
        &[(5, SessionState::Recovering { since: at(5) }, false), (7, ended(lost), false)],
        &[
            (5, Moment::Played(seconds(5))),
            (5, Moment::Recovering),
            (5, Moment::Interrupted),
            (7, Moment::InterruptedFor(seconds(2))),
            (7, passed("session.recover", 5, Some(lost))),
            (7, Moment::Ended { reason: lost, party: Party::Platform }),
        ],
    );
}

#[test]
fn what_was_there_before_is_not_counted_again() {
    let failed = EndReason::StreamerFailed;
    check(
        Journey::adopted(&record(connected(), true), at(100)),
        &[(110, connected(), true), (120, ended(failed), true)],
        &[
            (120, Moment::Played(seconds(20))),
            (120, Moment::Interrupted),
            (120, Moment::Ended { reason: failed, party: Party::Platform }),
        ],
    );
    check(
        Journey::adopted(&record(ready(), true), at(100)),
        &[(110, connected(), true)],
        &[
            (110, Moment::Started(Outcome::Connected)),
            (110, Moment::Reached { stage: Stage::Connected, after: seconds(110) }),
            (110, passed("session.connect", 100, None)),
            (110, passed(START, 0, None)),
        ],
    );
}

fn any_state() -> impl Strategy<Value = SessionState> {
    prop_oneof![
        Just(SessionState::Queued { cause: WaitCause::Quota }),
        Just(SessionState::Reserved),
        Just(PREPARING),
        Just(ready()),
        Just(connected()),
        Just(SessionState::Reconnecting { until: at(0) }),
        Just(SessionState::Recovering { since: at(0) }),
        Just(SessionState::Stopping { reason: EndReason::Moved }),
        Just(SessionState::Stopping { reason: EndReason::Idle }),
    ]
}

proptest! {
    /// Whatever order states come in: a start is counted once, as much is interrupted as goes on or ends, and no more is played than passed.
    #[test]
    fn every_way_adds_up(states in prop::collection::vec((any_state(), any::<bool>()), 0..40), platform: bool) {
        let reason = if platform { EndReason::NodeLost } else { EndReason::PlayerLeft };
        let mut steps: Vec<Step> = states.iter().zip(1..).map(|((state, drawn), second)| (second, *state, *drawn)).collect();
        let last = i64::try_from(steps.len()).unwrap() + 1;
        steps.push((last, ended(reason), true));
        let moments = walk(Journey::new(at(0), None), &steps);
        let count = |is: fn(&Moment) -> bool| moments.iter().filter(|(_, moment)| is(moment)).count();
        prop_assert_eq!(count(|moment| matches!(moment, Moment::Started(_))), 1);
        prop_assert_eq!(count(|moment| matches!(moment, Moment::Passed { name: START, .. })), 1);
        prop_assert_eq!(count(|moment| matches!(moment, Moment::Ended { .. })), 1);
        let placed = count(|moment| matches!(moment, Moment::Placed { .. }));
        prop_assert!(placed <= 1);
        let begun = count(|moment| matches!(moment, Moment::Interrupted));
        let over = count(|moment| matches!(moment, Moment::InterruptedFor(_)));
        prop_assert!(begun == over || begun == over + 1 && platform, "{} {}", begun, over);
        let played: Duration = moments.iter().map(|(_, moment)| match moment {
            Moment::Played(time) | Moment::InterruptedFor(time) => *time,
            _ => Duration::ZERO,
        }).sum();
        prop_assert!(played <= seconds(u64::try_from(last).unwrap()), "{:?}", played);
    }
}
