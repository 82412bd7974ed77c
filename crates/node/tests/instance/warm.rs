//! Instances that are started for nobody, and become somebody's.

use std::fs;

use api::id::InstanceId;
use api::node::{DesiredSaves, InstanceState, Warmth};
use api::session::EndReason;

use crate::harness::{Harness, manifest, processes_with};

/// A game that says which process it is.
const GAME: &[&str] =
    &["/bin/sh", "-c", "echo $$ begun > ~/begun; cut -d' ' -f22 /proc/self/stat >> ~/begun; exec sleep 600"];

/// Wishes an instance for nobody.
async fn start(harness: &mut Harness, warmth: Warmth) -> InstanceId {
    let mut desired = harness.instance(manifest(GAME, ""));
    (desired.warm, desired.connect_timeout_s, desired.resizable) = (Some(warmth), u32::MAX, true);
    let id = desired.instance;
    harness.desired.push(desired);
    harness.want().await;
    id
}

/// Wishes it for somebody.
async fn claim(harness: &mut Harness) {
    let desired = &mut harness.desired[0];
    (desired.warm, desired.connect_timeout_s, desired.resizable) = (None, 45, false);
    harness.want().await;
}

fn begun(harness: &Harness, id: InstanceId) -> Option<String> {
    fs::read_to_string(harness.dir.path().join("data/instances").join(id.to_string()).join("home/begun")).ok()
}

/// What the game says, which its streamer's first frame does not wait for here.
async fn until_begun(harness: &Harness, id: InstanceId) -> String {
    for _ in 0..1000 {
        if let Some(begun) = begun(harness, id).filter(|begun| begun.lines().count() == 2) {
            return begun;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the game does not begin");
}

fn claimed(harness: &Harness, id: InstanceId) -> Option<String> {
    fs::read_to_string(harness.dir.path().join("run").join(id.to_string()).join("claimed")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_instance_starts_its_game_when_somebody_has_it() {
    let mut harness = Harness::new("no-frame").await;
    let id = start(&mut harness, Warmth::Prepared).await;
    harness.until("prepared", |node| node.instances.iter().all(|one| one.state == InstanceState::Prepared)).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!((begun(&harness, id), claimed(&harness, id)), (None, None));
    assert!(!processes_with(&id.to_string()).is_empty(), "its streamer runs");
    claim(&mut harness).await;
    harness.until_playing(id).await;
    assert_eq!(claimed(&harness, id).as_deref(), Some("45 false"));
    until_begun(&harness, id).await;
    // Said again it changes nothing.
    harness.want().await;
    harness.desired[0].stop = Some(EndReason::PlayerLeft);
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::PlayerLeft);
    harness.assert_nothing_left(id);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_instance_goes_on_with_the_same_game() {
    let mut harness = Harness::new("").await;
    let id = start(&mut harness, Warmth::Running).await;
    harness.until_playing(id).await;
    let before = until_begun(&harness, id).await;
    claim(&mut harness).await;
    let mut waited = 0;
    while claimed(&harness, id).is_none() {
        waited += 1;
        assert!(waited < 1000, "the streamer does not hear of it");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((claimed(&harness, id).as_deref(), begun(&harness, id)), (Some("45 false"), Some(before)));
    let answer = harness.offer(id, 1, "hello").await;
    assert_eq!(answer, Ok("answer to hello".to_owned()));
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_wants_any_more_leaves_nothing() {
    let mut harness = Harness::new("no-frame").await;
    let id = start(&mut harness, Warmth::Prepared).await;
    harness.until("prepared", |node| node.instances.iter().all(|one| one.state == InstanceState::Prepared)).await;
    harness.desired[0].stop = Some(EndReason::Unused);
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::Unused);
    harness.assert_nothing_left(id);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_save_of_who_claimed_it_is_waited_for() {
    const SAVING: &[&str] = &["/bin/sh", "-c", "mkdir -p ~/save; echo mine > ~/save/1; exec sleep 600"];
    let mut harness = Harness::new("no-frame").await;
    let mut desired = harness.instance(manifest(SAVING, "[saves]\npaths = [\"<home>/save/**\"]"));
    (desired.warm, desired.connect_timeout_s) = (Some(Warmth::Prepared), u32::MAX);
    let id = desired.instance;
    harness.desired.push(desired);
    // Wishes come again and again, and say nothing of saves as long as it is nobody's.
    for _ in 0..3 {
        harness.want().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    harness.until("prepared", |node| node.instances.iter().all(|one| one.state == InstanceState::Prepared)).await;
    harness.want().await;
    let saves = DesiredSaves { restore: None, key: [7; 32], max_bytes: 1 << 20, max_files: 100, committed: 0 };
    harness.desired[0].saves = Some(saves);
    claim(&mut harness).await;
    harness.until_playing(id).await;
    let file = harness.dir.path().join("data/instances").join(id.to_string()).join("home/save/1");
    let began = std::time::Instant::now();
    while !file.exists() {
        assert!(began.elapsed() < crate::harness::PATIENCE, "the game does not save");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    harness.desired[0].stop = Some(EndReason::PlayerLeft);
    harness.want().await;
    let saved =
        harness.until("saved", |node| node.instances[0].saved.is_some()).await.instances[0].saved.clone().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    harness.want().await;
    let node = harness.until("heard of", |_| true).await;
    assert!(matches!(node.instances[0].state, InstanceState::Stopping { .. }), "{:?}", node.instances[0].state);
    assert!(file.exists(), "what is no version yet is kept");
    harness.desired[0].saves.as_mut().unwrap().committed = saved.sequence;
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::PlayerLeft);
    harness.assert_nothing_left(id);
    harness.stop().await;
}
