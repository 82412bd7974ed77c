use api::command::{CommandRole, CommandSubject, OutputKind};
use api::id::{CommandId, InstanceId, NodeId, SessionId};
use api::session::EndReason;
use api::spec::SpecRange;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> UtcTime {
    UtcTime::from_unix_ms(seconds * 1000)
}

fn record(request: CommandRequest, state: CommandState) -> CommandRecord {
    let started_at = (state == CommandState::Running).then(|| at(1));
    CommandRecord {
        id: CommandId::from_uuid(Uuid::from_u128(1)),
        session: SessionId::from_uuid(Uuid::from_u128(2)),
        instance: InstanceId::from_uuid(Uuid::from_u128(3)),
        epoch: 1,
        node: Some(NodeId::from_uuid(Uuid::from_u128(4))),
        app: "pong".parse().unwrap(),
        tenant: "house".into(),
        by: CommandSubject { role: CommandRole::Operator, name: None },
        request,
        state,
        created_at: at(0),
        started_at,
        ended_at: None,
        duration_ms: None,
        deadline_at: at(100),
        output: None,
    }
}

fn session(state: SessionState, epoch: u32) -> SessionRecord {
    SessionRecord {
        id: SessionId::from_uuid(Uuid::from_u128(2)),
        instance: InstanceId::from_uuid(Uuid::from_u128(3)),
        epoch,
        app: "pong".parse().unwrap(),
        spec: SpecRange::default().default,
        resizable: true,
        address: String::new(),
        player_id: None,
        node: None,
        release: None,
        state,
        observed: true,
        first_frame: true,
        unsaved: None,
        revision: 1,
        created_at: at(0),
        changed_at: at(0),
        ends_at: at(10_000),
        token_hash: [0; 32],
        token_expires_at: at(10_000),
        tenant: "house".into(),
        explanation: None,
        probes: Vec::new(),
        asked_starts: 0,
        demand: crate::demand::Demand::default(),
        pool: None,
    }
}

const CONNECTED: SessionState = SessionState::Connected { since: UtcTime::from_unix_ms(0) };

fn ended_session(reason: EndReason) -> SessionState {
    SessionState::Ended { reason, party: reason.party(), at: at(2) }
}

fn exec() -> CommandRequest {
    CommandRequest::Exec { script: "id".into(), timeout_s: 30 }
}

fn state_after(record: &CommandRecord, evidence: &Evidence<'_>) -> CommandState {
    match next(record, evidence) {
        Step::Become(new) => new.state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stop_is_done_when_the_session_has_ended() {
    let check = |state: CommandState, session_state: Option<SessionState>, seconds, expected: Step| {
        let session = session_state.map(|state| session(state, 1));
        let evidence = Evidence { session: session.as_ref(), node_gone: false, progress: None, now: at(seconds) };
        let row = record(CommandRequest::Stop {}, state);
        let found = match next(&row, &evidence) {
            Step::Become(new) => Step::Become(CommandRecord { ended_at: None, duration_ms: None, ..new }),
            step => step,
        };
        assert_eq!(found, expected, "{session_state:?}");
    };
    let done = |from| {
        Step::Become(CommandRecord {
            state: CommandState::Done { exit: None },
            ..record(CommandRequest::Stop {}, from)
        })
    };
    check(CommandState::Queued, Some(CONNECTED), 1, Step::Stop);
    check(CommandState::Running, Some(SessionState::Stopping { reason: EndReason::EndedByOperator }), 2, Step::Wait);
    check(CommandState::Running, Some(ended_session(EndReason::EndedByOperator)), 3, done(CommandState::Running));
    check(CommandState::Queued, Some(ended_session(EndReason::Idle)), 3, done(CommandState::Queued));
    check(CommandState::Running, None, 3, done(CommandState::Running));
}

#[test]
fn a_restart_is_done_when_the_next_start_plays() {
    let seen = |state: CommandState, session_state, epoch| {
        let session = session(session_state, epoch);
        let evidence = Evidence { session: Some(&session), node_gone: false, progress: None, now: at(5) };
        next(&record(CommandRequest::Restart {}, state), &evidence)
    };
    assert_eq!(seen(CommandState::Queued, CONNECTED, 1), Step::Restart);
    let stopping = SessionState::Stopping { reason: EndReason::Restarted };
    assert_eq!(seen(CommandState::Running, stopping, 1), Step::Wait);
    assert_eq!(seen(CommandState::Running, SessionState::Reserved, 2), Step::Wait);
    for played in [CONNECTED, SessionState::Ready { connect_until: at(60) }] {
        let Step::Become(new) = seen(CommandState::Running, played, 2) else { panic!("not done") };
        assert_eq!((new.state, new.duration_ms), (CommandState::Done { exit: None }, Some(4000)));
    }
    for (state, word) in [
        (ended_session(EndReason::GameStartFailed), "game_start_failed"),
        (SessionState::Stopping { reason: EndReason::PlayerLeft }, "player_left"),
    ] {
        let Step::Become(new) = seen(CommandState::Running, state, 1) else { panic!("goes on") };
        assert!(matches!(new.state, CommandState::Failed { why } if why.contains(word)));
    }
}

#[test]
fn a_node_says_what_became_of_its_commands() {
    let (row, connected) = (record(exec(), CommandState::Queued), session(CONNECTED, 1));
    let quiet = Evidence { session: Some(&connected), node_gone: false, progress: None, now: at(5) };
    assert_eq!(next(&row, &quiet), Step::Wait);
    let running = CommandProgress::Running {};
    let begun = next(&row, &Evidence { progress: Some(&running), ..quiet });
    let Step::Become(begun) = begun else { panic!("{begun:?}") };
    assert_eq!((begun.state.clone(), begun.started_at), (CommandState::Running, Some(at(5))));
    assert_eq!(next(&begun, &Evidence { progress: Some(&running), ..quiet }), Step::Wait, "it is begun once");
    let end = |outcome, output| CommandProgress::Ended { outcome, output, duration_ms: 77 };
    let done = end(CommandOutcome::Done { exit: Some(3) }, None);
    let Step::Become(new) = next(&begun, &Evidence { progress: Some(&done), ..quiet }) else { panic!() };
    assert_eq!((new.state, new.duration_ms), (CommandState::Done { exit: Some(3) }, Some(77)));
    let late = end(CommandOutcome::TimedOut {}, None);
    assert_eq!(state_after(&begun, &Evidence { progress: Some(&late), ..quiet }), CommandState::TimedOut);

    let output = CommandOutput { kind: OutputKind::Text, bytes: 10, cut_bytes: 0 };
    let brought = end(CommandOutcome::Done { exit: Some(0) }, Some(output));
    let seen = Evidence { progress: Some(&brought), ..quiet };
    let Step::Fetch(fetched) = next(&begun, &seen) else { panic!("its output is not fetched") };
    assert_eq!(fetched.output, Some(output));
    // What cannot be fetched until the end of time is given up; its end is kept.
    let Step::Become(given_up) = next(&begun, &Evidence { now: at(100), ..seen }) else { panic!() };
    assert_eq!((given_up.state, given_up.output), (CommandState::Done { exit: Some(0) }, None));
    // A node that claims more than can be kept has nothing to bring.
    let huge = CommandOutput { bytes: u64::MAX, ..output };
    let lied = end(CommandOutcome::Done { exit: Some(0) }, Some(huge));
    let Step::Become(new) = next(&begun, &Evidence { progress: Some(&lied), ..quiet }) else { panic!("fetched") };
    assert_eq!(new.output, None);

    let gone = Evidence { node_gone: true, ..quiet };
    assert!(matches!(state_after(&begun, &gone), CommandState::Failed { why } if why.contains("node was lost")));
    assert_eq!(
        state_after(&begun, &Evidence { progress: Some(&late), ..gone }),
        CommandState::TimedOut,
        "it had said so"
    );
    assert_eq!(state_after(&row, &Evidence { now: at(100), ..quiet }), CommandState::TimedOut, "a deadline closes it");
}

#[test]
fn a_node_is_told_what_it_has_to_do_and_until_when() {
    assert_eq!(desired(&record(CommandRequest::Stop {}, CommandState::Running), at(1)), None);
    let told = desired(&record(exec(), CommandState::Running), at(99)).unwrap();
    assert_eq!((told.epoch, told.task), (1, CommandTask::Exec { script: "id".into(), timeout_s: 30 }));
    assert_eq!(desired(&record(exec(), CommandState::Running), at(100)), None, "nobody begins it after its time");
    assert_eq!(desired(&record(exec(), CommandState::TimedOut), at(1)), None);
}

fn any_request() -> impl Strategy<Value = CommandRequest> {
    prop_oneof![
        Just(CommandRequest::Stop {}),
        Just(CommandRequest::Restart {}),
        Just(exec()),
        Just(CommandRequest::Logs { kib: 1 }),
        Just(CommandRequest::Screenshot {}),
    ]
}

fn any_progress() -> impl Strategy<Value = Option<CommandProgress>> {
    let output = prop::option::of((any::<bool>(), any::<u64>(), any::<u64>()).prop_map(|(png, bytes, cut_bytes)| {
        CommandOutput { kind: if png { OutputKind::Png } else { OutputKind::Text }, bytes, cut_bytes }
    }));
    let outcome = prop_oneof![
        any::<Option<i32>>().prop_map(|exit| CommandOutcome::Done { exit }),
        Just(CommandOutcome::Failed { why: "No.".into() }),
        Just(CommandOutcome::TimedOut {}),
    ];
    let ended = (outcome, output, any::<u64>()).prop_map(|(outcome, output, duration_ms)| CommandProgress::Ended {
        outcome,
        output,
        duration_ms,
    });
    prop::option::of(prop_oneof![Just(CommandProgress::Running {}), ended])
}

proptest! {
    #[test]
    fn every_command_ends_once_and_says_why(
        request in any_request(),
        steps in prop::collection::vec((any_progress(), any::<bool>(), 0_usize..6, 1_u32..3, 0_i64..60), 0..12),
    ) {
        let states = [
            CONNECTED,
            SessionState::Reserved,
            SessionState::Ready { connect_until: at(60) },
            SessionState::Stopping { reason: EndReason::Restarted },
            SessionState::Recovering { since: at(1) },
            ended_session(EndReason::Idle),
        ];
        let mut row = record(request, CommandState::Queued);
        let mut seconds = 0;
        let over = (None, false, 0, 1, 1000);
        for (progress, node_gone, state, epoch, passed) in steps.into_iter().chain([over]) {
            seconds += passed;
            let session = session(states[state], epoch);
            let evidence =
                Evidence { session: Some(&session), node_gone, progress: progress.as_ref(), now: at(seconds) };
            let new = match next(&row, &evidence) {
                Step::Wait => continue,
                Step::Stop | Step::Restart => running(&row, at(seconds)),
                Step::Become(new) | Step::Fetch(new) => new,
            };
            prop_assert!(!row.state.is_ended(), "left an end: {:?}", new);
            prop_assert_eq!(new.ended_at.is_some(), new.state.is_ended());
            prop_assert!(new.output.is_none_or(|output| output.bytes as usize <= output.kind.max_bytes()));
            prop_assert_eq!(&new.request, &row.request);
            row = new;
            prop_assert!(matches!(next(&row, &evidence), Step::Wait | Step::Fetch(_)), "not idempotent: {:?}", row);
        }
        prop_assert!(row.state.is_ended(), "stuck in {:?}", row.state);
        prop_assert!(seconds - 1000 < 100 || row.ended_at.is_some());
    }
}
