use api::id::{InstanceId, SessionId};
use api::session::Party;
use api::spec::StreamSpec;
use api::streamer::StreamStatistics;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const RULES: Rules = Rules {
    connect_timeout: Duration::from_secs(60),
    reconnect_grace: Duration::from_secs(30),
    link_grace: Duration::from_secs(20),
    idle_timeout: Duration::from_secs(900),
    start_timeout: Duration::from_secs(30),
    archive: Duration::ZERO,
    stop_grace: Duration::from_secs(3),
};

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix_ms(seconds * 1000)
}

const HERE: NodeId = NodeId::from_uuid(Uuid::from_u128(3));
const THERE: NodeId = NodeId::from_uuid(Uuid::from_u128(4));

/// A node that has not reported, and no other one.
const QUIET: Evidence<'static> = Evidence {
    node_gone: false,
    node_seen: false,
    node_drained: false,
    may_recover: false,
    instance: None,
    link_absent: None,
    now: UtcTime::from_unix_ms(0),
};

/// A session claimed at 0, in this state since 0, that ends at 10000 s.
pub(super) fn record(state: SessionState, observed: bool) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_uuid(Uuid::from_u128(1)),
        instance: InstanceId::from_uuid(Uuid::from_u128(2)),
        epoch: 1,
        app: "doom".parse().unwrap(),
        spec: StreamSpec { width: 1280, height: 720, frames_per_second: 60 },
        resizable: true,
        address: String::new(),
        player_id: None,
        node: Some(HERE),
        release: None,
        state,
        observed,
        first_frame: false,
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
        asked_starts: 0,
        demand: crate::demand::Demand::default(),
        pool: None,
    }
}

fn instance(state: InstanceState, player: PlayerPresence, idle_s: u32) -> ObservedInstance {
    ObservedInstance {
        instance: InstanceId::from_uuid(Uuid::from_u128(2)),
        epoch: 1,
        state,
        player,
        saved: None,
        save_failure: None,
        statistics: Some(StreamStatistics { idle_s, ..StreamStatistics::default() }),
        usage: None,
    }
}

fn running(player: PlayerPresence) -> ObservedInstance {
    instance(InstanceState::Running { first_frame: true }, player, 0)
}

/// The state after evidence at this second; `None` when nothing changes.
fn after(record: &SessionRecord, instance: Option<&ObservedInstance>, seconds: i64) -> Option<SessionState> {
    let evidence = Evidence { node_seen: true, instance, now: at(seconds), ..QUIET };
    next(record, &evidence, &RULES).map(|record| record.state)
}

const RESERVED: SessionState = SessionState::Reserved;
const READY: SessionState = SessionState::Ready { connect_until: UtcTime::from_unix_ms(60_000) };
const CONNECTED: SessionState = SessionState::Connected { since: UtcTime::from_unix_ms(5_000) };
const RECONNECTING: SessionState = SessionState::Reconnecting { until: UtcTime::from_unix_ms(35_000) };
const STARTING: SessionState = SessionState::Preparing { stage: PrepareStage::Streamer };

const fn stopping(reason: EndReason) -> SessionState {
    SessionState::Stopping { reason }
}

fn over(reason: EndReason, seconds: i64) -> SessionState {
    SessionState::Ended { reason, party: reason.party(), at: at(seconds) }
}

#[test]
fn the_nodes_report_becomes_the_players_state() {
    use InstanceState as I;
    use PlayerPresence as P;
    let check = |old: SessionState, instance_state: I, player: P, expected: Option<SessionState>| {
        let seen = instance(instance_state, player, 0);
        assert_eq!(after(&record(old, true), Some(&seen), 5), expected, "{old:?} {seen:?}");
    };
    let game = SessionState::Preparing { stage: PrepareStage::Game };
    check(RESERVED, I::StreamerStarting, P::Awaited, Some(STARTING));
    check(STARTING, I::StreamerStarting, P::Awaited, None);
    check(STARTING, I::GameStarting, P::Awaited, Some(game));
    check(game, I::Running { first_frame: false }, P::Awaited, Some(SessionState::Ready { connect_until: at(65) }));
    check(READY, I::Running { first_frame: false }, P::Awaited, None);
    check(READY, I::Running { first_frame: false }, P::Connected, Some(CONNECTED));
    check(CONNECTED, I::Running { first_frame: false }, P::Connected, None);
    check(CONNECTED, I::Running { first_frame: false }, P::Lost, Some(RECONNECTING));
    check(RECONNECTING, I::Running { first_frame: false }, P::Lost, None);
    check(RECONNECTING, I::Running { first_frame: false }, P::Connected, Some(CONNECTED));
    check(CONNECTED, I::Stopping { reason: EndReason::Idle }, P::Lost, Some(stopping(EndReason::Idle)));
    let crashed = I::Ended { reason: EndReason::GameCrashed, detail: None };
    check(CONNECTED, crashed, P::Lost, Some(over(EndReason::GameCrashed, 5)));
    // What was asked for is not taken back by an older picture of the node.
    check(stopping(EndReason::PlayerLeft), I::Running { first_frame: false }, P::Connected, None);
    check(stopping(EndReason::PlayerLeft), I::Stopping { reason: EndReason::Idle }, P::Connected, None);
    let exited = I::Ended { reason: EndReason::PlayerLeft, detail: None };
    check(stopping(EndReason::PlayerLeft), exited.clone(), P::Lost, Some(over(EndReason::PlayerLeft, 5)));
    check(over(EndReason::PlayerLeft, 1), exited, P::Lost, None);
}

#[test]
fn a_missing_instance_is_lost_only_after_it_was_there() {
    assert_eq!(after(&record(RESERVED, false), None, 5), None, "the report may be older than the wish");
    assert_eq!(after(&record(READY, true), None, 5), Some(over(EndReason::NodeLost, 5)));
    assert_eq!(after(&record(stopping(EndReason::PlayerLeft), true), None, 5), Some(over(EndReason::PlayerLeft, 5)));
    let gone = Evidence { node_gone: true, now: at(1), ..QUIET };
    let ended = next(&record(RESERVED, false), &gone, &RULES).unwrap();
    assert_eq!(ended.state, SessionState::Ended { reason: EndReason::NodeLost, party: Party::Platform, at: at(1) });
    let silent = Evidence { node_gone: false, ..gone };
    assert_eq!(next(&record(READY, true), &silent, &RULES), None, "a node that has not reported yet has lost nothing");
}

#[test]
fn what_a_lost_node_had_waits_for_another_one() {
    let gone = Evidence { node_gone: true, may_recover: true, now: at(7), ..QUIET };
    let there = running(PlayerPresence::Connected);
    let mut playing = record(CONNECTED, true);
    for epoch in 2..=MOST_RECOVERIES + 1 {
        let lost = next(&playing, &gone, &RULES).unwrap();
        assert_eq!((lost.state, lost.epoch, lost.node), (SessionState::Recovering { since: at(7) }, epoch, None));
        assert!(!lost.observed && !lost.first_frame, "nothing of the new instance was seen");
        assert_eq!(next(&lost, &gone, &RULES), None, "it is lost once");
        playing = reserved(&lost, THERE, Duration::ZERO, at(8)).unwrap();
        assert_eq!((playing.state, playing.node, playing.ends_at), (RESERVED, Some(THERE), at(10_000)));
    }
    // Three machines are enough.
    assert_eq!(next(&playing, &gone, &RULES).unwrap().state, over(EndReason::NodeLost, 7));
    // A node that was started again has forgotten what it had.
    let again = Evidence { node_gone: false, node_seen: true, ..gone };
    assert_eq!(next(&record(CONNECTED, true), &again, &RULES).unwrap().epoch, 2);
    let ending = record(stopping(EndReason::Idle), true);
    assert_eq!(next(&ending, &gone, &RULES).unwrap().state, over(EndReason::Idle, 7), "who leaves is not brought back");
    let drained = Evidence { node_drained: true, instance: Some(&there), ..again };
    let moving = next(&record(CONNECTED, true), &drained, &RULES).unwrap();
    assert_eq!((moving.state, moving.epoch), (stopping(EndReason::Moved), 1), "its save comes first");
    assert_eq!(next(&moving, &drained, &RULES), None);
    let stopped_there =
        instance(InstanceState::Ended { reason: EndReason::Moved, detail: None }, PlayerPresence::Lost, 0);
    let moved = next(&moving, &Evidence { instance: Some(&stopped_there), ..drained }, &RULES).unwrap();
    assert_eq!((moved.state, moved.epoch, moved.node), (SessionState::Recovering { since: at(7) }, 2, None));
    let hung = next(&moving, &Evidence { now: at(100), ..drained }, &RULES).unwrap();
    assert_eq!(hung.epoch, 2, "a node that does not stop it keeps it from nobody");
    let left = stopped(&moving, EndReason::PlayerLeft, at(8)).unwrap();
    assert_eq!(left.state, stopping(EndReason::PlayerLeft), "who leaves meanwhile is not started again");
    let alone = Evidence { may_recover: false, ..drained };
    let stays = next(&record(CONNECTED, true), &alone, &RULES).unwrap();
    assert_eq!((stays.state, stays.node, stays.epoch), (CONNECTED, Some(HERE), 1), "with nowhere to go it stays");
    let offered = record(SessionState::Offered { until: at(60) }, false);
    let waits = next(&offered, &gone, &RULES).unwrap();
    assert_eq!((waits.state, waits.node), (SessionState::Queued { cause: WaitCause::Capacity }, None));
}

#[test]
fn what_is_started_again_keeps_its_node_and_is_no_loss() {
    let seen = Evidence { node_seen: true, may_recover: true, now: at(7), ..QUIET };
    let there = running(PlayerPresence::Connected);
    let mut playing = record(CONNECTED, true);
    let stopped_there =
        instance(InstanceState::Ended { reason: EndReason::Restarted, detail: None }, PlayerPresence::Lost, 0);
    for epoch in 2..=MOST_RECOVERIES + 5 {
        assert_eq!(restarted(&playing, epoch, at(6)), None, "asked of another start");
        let stopping_now = restarted(&playing, epoch - 1, at(6)).unwrap();
        assert_eq!(stopping_now.state, stopping(EndReason::Restarted));
        assert_eq!(restarted(&stopping_now, epoch - 1, at(6)), None, "asked twice");
        let waits = Evidence { instance: Some(&there), ..seen };
        assert_eq!(next(&stopping_now, &waits, &RULES), None, "its save comes first");
        let over = Evidence { instance: Some(&stopped_there), ..seen };
        let again = next(&stopping_now, &over, &RULES).unwrap();
        assert_eq!((again.state, again.node, again.epoch), (RESERVED, Some(HERE), epoch));
        assert!(!again.observed && !again.first_frame, "nothing of the new instance was seen");
        assert_eq!(next(&again, &seen, &RULES), None);
        // On a node that is emptied, or lost meanwhile, it goes elsewhere.
        for elsewhere in [Evidence { node_drained: true, ..over }, Evidence { node_gone: true, ..over }] {
            let moved = next(&stopping_now, &elsewhere, &RULES).unwrap();
            assert_eq!((moved.state, moved.node), (SessionState::Recovering { since: at(7) }, None));
        }
        let left = stopped(&stopping_now, EndReason::PlayerLeft, at(6)).unwrap();
        assert_eq!(left.state, stopping(EndReason::PlayerLeft), "who leaves meanwhile is not started again");
        playing = SessionRecord { state: CONNECTED, observed: true, ..again };
    }
    // So many losses as any other session may have are still left.
    let gone = Evidence { node_gone: true, ..seen };
    for _ in 0..MOST_RECOVERIES {
        playing = reserved(&next(&playing, &gone, &RULES).unwrap(), THERE, Duration::ZERO, at(8)).unwrap();
    }
    assert_eq!(next(&playing, &gone, &RULES).unwrap().state, over(EndReason::NodeLost, 7));
    for nothing_runs in [SessionState::Requested, SessionState::Recovering { since: at(1) }] {
        assert_eq!(restarted(&record(nothing_runs, false), 1, at(6)), None);
    }
}

#[test]
fn places_are_offered_taken_and_left() {
    let (cause, length) = (WaitCause::Quota, Duration::from_secs(100));
    let mut asked = record(SessionState::Requested, false);
    asked.node = None;
    let waiting = queued(&asked, cause, at(1)).unwrap();
    assert_eq!(waiting.state, SessionState::Queued { cause });
    assert_eq!(queued(&waiting, cause, at(2)), None);
    let offer = offered(&waiting, HERE, at(30), at(3)).unwrap();
    assert_eq!((offer.state, offer.node), (SessionState::Offered { until: at(30) }, Some(HERE)));
    assert_eq!(accepted(&offer, length, at(30)), None, "too late");
    let taken = accepted(&offer, length, at(29)).unwrap();
    assert_eq!((taken.state, taken.ends_at), (RESERVED, at(129)), "the wait is not counted");
    assert_eq!(accepted(&taken, length, at(29)), None);
    assert_eq!(reserved(&taken, THERE, length, at(29)), None, "it has a place");
    for nothing_runs in [&asked, &waiting, &offer] {
        let left = stopped(nothing_runs, EndReason::PlayerLeft, at(4)).unwrap();
        assert_eq!(left.state, over(EndReason::PlayerLeft, 4));
    }
}

#[test]
fn deadlines_act_for_a_node_that_does_not() {
    let there = running(PlayerPresence::Awaited);
    let check = |old: SessionState, seen: Option<&ObservedInstance>, seconds: i64, expected: Option<SessionState>| {
        assert_eq!(after(&record(old, seen.is_some()), seen, seconds), expected, "{old:?} at {seconds}");
    };
    check(RESERVED, None, 14, None);
    check(RESERVED, None, 15, Some(stopping(EndReason::NodeLost)));
    let start = instance(InstanceState::StreamerStarting, PlayerPresence::Awaited, 0);
    check(STARTING, Some(&start), 49, None);
    check(STARTING, Some(&start), 50, Some(stopping(EndReason::StartTimeout)));
    let mut ready = record(READY, true);
    ready.first_frame = true;
    assert_eq!(after(&ready, Some(&there), 69), None);
    assert_eq!(after(&ready, Some(&there), 70), Some(stopping(EndReason::ConnectTimeout)));
    let lost = running(PlayerPresence::Lost);
    let mut reconnecting = record(RECONNECTING, true);
    reconnecting.first_frame = true;
    assert_eq!(after(&reconnecting, Some(&lost), 44), None);
    assert_eq!(after(&reconnecting, Some(&lost), 45), Some(stopping(EndReason::ReconnectTimeout)));
    check(stopping(EndReason::Idle), Some(&there), 32, None);
    check(stopping(EndReason::Idle), Some(&there), 33, Some(over(EndReason::Idle, 33)));
    check(stopping(EndReason::Idle), None, 9, None);
    check(stopping(EndReason::Idle), None, 10, Some(over(EndReason::Idle, 10)));
    for state in [RESERVED, STARTING, READY, CONNECTED, RECONNECTING] {
        let limit = Evidence { now: at(10_000), ..QUIET };
        let new = next(&record(state, true), &limit, &RULES).unwrap();
        assert_eq!(new.state, stopping(EndReason::TimeLimit), "{state:?}");
    }
}

#[test]
fn an_idle_player_ends_the_session_and_zero_means_never() {
    let seen = |idle_s| instance(InstanceState::Running { first_frame: false }, PlayerPresence::Connected, idle_s);
    assert_eq!(after(&record(CONNECTED, true), Some(&seen(899)), 6), None);
    assert_eq!(after(&record(CONNECTED, true), Some(&seen(900)), 6), Some(stopping(EndReason::Idle)));
    let never = Rules { idle_timeout: Duration::ZERO, ..RULES };
    let instance = seen(u32::MAX);
    let evidence = Evidence { node_seen: true, instance: Some(&instance), now: at(6), ..QUIET };
    assert_eq!(next(&record(CONNECTED, true), &evidence, &never), None);
}

#[test]
fn a_lost_link_ends_what_was_never_played_alone() {
    let check = |old: SessionState, absent: u64, expected: Option<SessionState>| {
        let evidence = Evidence { link_absent: Some(Duration::from_secs(absent)), now: at(5), ..QUIET };
        assert_eq!(next(&record(old, true), &evidence, &RULES).map(|new| new.state), expected, "{old:?}");
    };
    for early in [RESERVED, STARTING, READY] {
        check(early, 19, None);
        check(early, 20, Some(stopping(EndReason::PlayerLeft)));
    }
    let queued = SessionState::Queued { cause: WaitCause::Capacity };
    for waiting in [SessionState::Requested, queued, SessionState::Offered { until: at(60) }] {
        check(waiting, 19, None);
        check(waiting, 20, Some(over(EndReason::PlayerLeft, 5)));
    }
    check(CONNECTED, 5000, None);
    check(RECONNECTING, 5000, None);
}

fn any_instance() -> impl Strategy<Value = Option<ObservedInstance>> {
    let reason = prop::sample::select(EndReason::ALL);
    let state = prop_oneof![
        Just(InstanceState::StreamerStarting),
        Just(InstanceState::GameStarting),
        any::<bool>().prop_map(|first_frame| InstanceState::Running { first_frame }),
        reason.clone().prop_map(|reason| InstanceState::Stopping { reason }),
        reason.prop_map(|reason| InstanceState::Ended { reason, detail: None }),
    ];
    let player = prop::sample::select(vec![PlayerPresence::Awaited, PlayerPresence::Connected, PlayerPresence::Lost]);
    prop::option::of((state, player, 0_u32..2000).prop_map(|(state, player, idle)| instance(state, player, idle)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is seen in whatever order: deciding twice is deciding once, an end is final, a wish to stop stays, and
    /// every session reaches an end when time passes.
    #[test]
    fn any_history_is_idempotent_and_ends(
        steps in prop::collection::vec(
            (any_instance(), 0_i64..40, any::<(bool, bool, bool)>(), prop::bool::weighted(0.1), prop::option::of(0_u64..40)),
            1..40,
        )
    ) {
        let mut row = record(RESERVED, false);
        let mut seconds = 0;
        for (instance, passed, (node_seen, node_drained, may_recover), node_gone, absent) in steps {
            seconds += passed;
            let evidence = Evidence {
                node_gone,
                node_seen,
                node_drained,
                may_recover,
                instance: instance.as_ref(),
                link_absent: absent.map(Duration::from_secs),
                now: at(seconds),
            };
            if seconds % 5 == 0 {
                row = restarted(&row, row.epoch, at(seconds)).unwrap_or(row);
            }
            let Some(new) = next(&row, &evidence, &RULES) else { continue };
            prop_assert!(!row.state.is_ended(), "left an end: {:?}", new);
            let was_stopping = matches!(row.state, SessionState::Stopping { reason } if !reason.goes_on());
            let is_stopping = matches!(new.state, SessionState::Stopping { .. } | SessionState::Ended { .. });
            prop_assert!(is_stopping || !was_stopping, "took a stop back: {:?}", new);
            // Of the next instance nothing is seen yet.
            let instance = evidence.instance.filter(|_| new.epoch == row.epoch);
            prop_assert_eq!(next(&new, &Evidence { instance, ..evidence }, &RULES), None);
            let is_lost = matches!(new.state, SessionState::Recovering { .. });
            let goes_on = matches!(new.state, SessionState::Ended { reason, .. } if reason.goes_on());
            prop_assert!(!goes_on, "a move is no end");
            let may_begin_anew = is_lost || row.state == stopping(EndReason::Restarted);
            prop_assert!(new.epoch == row.epoch + u32::from(is_lost) || may_begin_anew, "an epoch is a loss, or was asked for");
            prop_assert!(new.epoch - new.asked_starts <= MOST_RECOVERIES + 1, "more losses than may be: {:?}", new);
            row = reserved(&new, THERE, RULES.start_timeout, at(seconds)).filter(|_| is_lost).unwrap_or(new);
        }
        let mut later = seconds;
        for _ in 0..4 {
            later += 20_000;
            let evidence = Evidence { now: at(later), ..QUIET };
            row = next(&row, &evidence, &RULES).unwrap_or(row);
        }
        prop_assert!(row.state.is_ended(), "stuck in {:?}", row.state);
    }
}

#[test]
fn a_warm_instance_becomes_somebodys() {
    let pool = Some(api::id::PoolId::from_uuid(Uuid::from_u128(9)));
    let (spare, other) = (InstanceId::from_uuid(Uuid::from_u128(77)), InstanceId::from_uuid(Uuid::from_u128(78)));
    let warm = |state, first_frame| SessionRecord { pool, first_frame, ..record(state, true) };
    let mine = SessionRecord { instance: other, ..record(RESERVED, false) };
    let claim = |mine: &SessionRecord, warm: &SessionRecord| {
        claimed(mine, warm, Duration::from_secs(60), spare, at(3)).map(|(taker, gone)| {
            assert_eq!((taker.instance, taker.observed, taker.pool), (warm.instance, true, None));
            assert_eq!((gone.instance, gone.state), (spare, over(EndReason::Claimed, 3)));
            (taker.state, taker.first_frame)
        })
    };
    let until = SessionState::Ready { connect_until: at(63) };
    let game = SessionState::Preparing { stage: PrepareStage::Game };
    assert_eq!(claim(&mine, &warm(READY, true)), Some((until, true)));
    assert_eq!(claim(&mine, &warm(READY, false)), Some((game, false)));
    for state in [RESERVED, STARTING, stopping(EndReason::Unused), over(EndReason::NodeLost, 1)] {
        assert_eq!(claim(&mine, &warm(state, true)), None, "{state:?}");
    }
    assert_eq!(claim(&mine, &record(READY, true)), None, "it is somebody's");
    for mine in [
        SessionRecord { epoch: 2, ..mine.clone() },
        SessionRecord { node: Some(THERE), ..mine.clone() },
        SessionRecord { release: Some(1), ..mine.clone() },
        SessionRecord { state: CONNECTED, ..mine.clone() },
    ] {
        assert_eq!(claim(&mine, &warm(READY, true)), None, "{mine:?}");
    }
}

#[test]
fn a_warm_instance_waits_until_its_life_is_over_and_is_not_moved() {
    let pool = Some(api::id::PoolId::from_uuid(Uuid::from_u128(9)));
    let warm = |state| SessionRecord { pool, ..record(state, true) };
    let ready = SessionState::Ready { connect_until: at(10_000) };
    let prepared = instance(InstanceState::Prepared, PlayerPresence::Awaited, 0);
    assert_eq!(after(&warm(STARTING), Some(&prepared), 5), Some(ready));
    assert_eq!(after(&warm(STARTING), Some(&running(PlayerPresence::Awaited)), 5), Some(ready));
    let black = instance(InstanceState::Running { first_frame: false }, PlayerPresence::Awaited, 0);
    let game = SessionState::Preparing { stage: PrepareStage::Game };
    assert_eq!(after(&warm(STARTING), Some(&black), 5), Some(game));
    // Somebody has it, and the node does not know yet.
    assert_eq!(after(&record(STARTING, true), Some(&prepared), 5), Some(game));
    assert_eq!(after(&warm(ready), Some(&prepared), 9_999), None);
    assert_eq!(after(&warm(ready), Some(&prepared), 10_000), Some(stopping(EndReason::Unused)));
    // Its pool says how long it lives, whatever sessions may last.
    let asked = SessionRecord { node: None, ..warm(SessionState::Requested) };
    assert_eq!(reserved(&asked, HERE, Duration::from_secs(5), at(1)).unwrap().ends_at, at(10_000));
    let lost = Evidence { node_gone: true, now: at(7), ..QUIET };
    assert_eq!(next(&warm(ready), &lost, &RULES).unwrap().state, over(EndReason::NodeLost, 7));
}
