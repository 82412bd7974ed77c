//! How instances end: each cause with its reason, each without a trace.

use std::time::{Duration, Instant};

use api::node::NodeRefusal;
use api::session::EndReason;
use node::{Agent, StartError};

use crate::harness::{Harness, open_dir, settings};

/// One instance under a streamer that behaves so: it ends for this reason, and nothing is left.
async fn check(behaviour: &str, command: &[&str], extra: &str, expected: EndReason, detail: &str) {
    let mut harness = Harness::with(behaviour, |settings| settings.streamer_timeout = Duration::from_secs(3)).await;
    let id = harness.start(command, extra).await;
    if behaviour == "idle" {
        harness.until_playing(id).await;
        assert!(harness.offer(id, 1, "hello").await.is_ok());
    }
    let (reason, found) = harness.until_ended(id).await;
    let log = harness.log(id, "streamer.log");
    assert_eq!(reason, expected, "{found:?} {log}");
    assert!(found.clone().unwrap_or_default().contains(detail), "`{found:?}` has no `{detail}`");
    harness.assert_nothing_left(id);
    harness.stop().await;
}

const SLEEP: &[&str] = &["/bin/sleep", "600"];

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_exits() {
    check("", &["/bin/sh", "-c", "sleep 0.3"], "", EndReason::GameExited, "status 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_exits_with_an_error() {
    check("", &["/bin/sh", "-c", "exit 3"], "", EndReason::GameCrashed, "status 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_the_manifest_calls_clean() {
    check("", &["/bin/sh", "-c", "exit 3"], "[session]\nclean_exit_codes = [3]", EndReason::GameExited, "status 3")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_crashes() {
    check("", &["/bin/sh", "-c", "kill -SEGV $$"], "", EndReason::GameCrashed, "signal 11").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_eats_memory() {
    let limits = "[limits]\nmemory_mb = 64";
    check("", &["/usr/bin/tail", "/dev/zero"], limits, EndReason::OutOfMemory, "memory limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_does_not_exist() {
    check("", &["/usr/games/no-such-game"], "", EndReason::GameStartFailed, "no-such-game").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_draws_nothing() {
    check("no-frame", SLEEP, "[session]\nstart_timeout_s = 1", EndReason::StartTimeout, "within 1 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_who_does_nothing() {
    check("idle", SLEEP, "[session]\nidle_timeout_s = 60", EndReason::Idle, "100 s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_who_leaves() {
    check("leaves", SLEEP, "", EndReason::PlayerLeft, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_dies() {
    check("dies", SLEEP, "", EndReason::StreamerFailed, "exit status: 7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_finds_no_encoder() {
    check("no-encoder", SLEEP, "", EndReason::EncoderFailed, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_never_gets_ready() {
    check("silent", SLEEP, "", EndReason::DisplayFailed, "not ready in time").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_writes_nonsense_is_logged_and_goes_on() {
    check("garbage", &["/bin/sh", "-c", "sleep 0.3"], "", EndReason::GameExited, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamer_that_does_not_end_is_killed_with_what_it_started() {
    let began = Instant::now();
    check("stubborn", &["/bin/sh", "-c", "sleep 0.3"], "", EndReason::GameExited, "").await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_game_that_ignores_the_request_to_stop_is_killed_after_its_grace() {
    let mut harness = Harness::new("").await;
    let script = "trap '' TERM; while true; do sleep 1; done";
    let id = harness.start(&["/bin/sh", "-c", script], "[session]\nstop_grace_s = 1").await;
    harness.until_playing(id).await;
    harness.desired[0].stop = Some(EndReason::EndedByOperator);
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::EndedByOperator);
    harness.assert_nothing_left(id);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_instances_and_says_so() {
    let mut harness = Harness::with("", |settings| settings.min_free_disk_mb = u64::MAX).await;
    let node = harness.until("refusing", |node| node.refuses.is_some()).await;
    assert!(matches!(node.refuses, Some(NodeRefusal::DiskFull { needed_mb: u64::MAX, .. })));
    let id = harness.start(SLEEP, "").await;
    let (reason, detail) = harness.until_ended(id).await;
    assert_eq!(reason, EndReason::DiskFull);
    assert!(detail.unwrap().contains("MiB are needed"));
    harness.assert_nothing_left(id);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_end_ends_nothing_else() {
    let mut harness = Harness::new("").await;
    let stays = harness.start(SLEEP, "").await;
    harness.until_playing(stays).await;
    let crashes = harness.start(&["/bin/sh", "-c", "kill -SEGV $$"], "").await;
    assert_eq!(harness.until_ended(crashes).await.0, EndReason::GameCrashed);
    assert!(harness.offer(stays, 1, "still here").await.is_ok());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_streamer_is_said_at_the_start() {
    let dir = open_dir();
    let mut settings = settings(dir.path());
    settings.streamer_program = "/nowhere/kite-streamer".into();
    let (_link, node_end) = api::node::in_process();
    let error = Agent::start(settings, node_end).await.unwrap_err();
    assert!(matches!(error, StartError::Streamer { .. }), "{error}");
}
