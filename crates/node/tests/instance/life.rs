//! What works: start, offers, two at once, stop, restart of the agent.

use std::fs;
use std::time::Duration;

use api::node::{InstanceState, OfferFailure, PlayerPresence, ProbeOutcome};
use api::session::EndReason;
use node::Agent;

use crate::harness::{Harness, open_dir, processes_with, settings};

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_starts_takes_offers_and_stops_without_a_trace() {
    let mut harness = Harness::new("").await;
    let id = harness.start(&["/bin/sh", "-c", "env; pwd; id -u; exec sleep 600"], "").await;
    // Before the streamer is up: it waits.
    assert_eq!(harness.offer(id, 1, "early").await, Ok("answer to early".to_owned()));
    harness.until_playing(id).await;
    let node = harness.until("connected", |node| node.instances[0].player == PlayerPresence::Connected).await;
    assert_eq!(node.instances[0].epoch, 1);
    harness.until("measured", |node| node.instances[0].statistics.is_some_and(|figures| figures.idle_s == 1)).await;
    let refused = harness.offer(id, 1, "bad").await;
    assert_eq!(refused, Err(OfferFailure::Refused { detail: "it is bad".to_owned() }));
    assert_eq!(harness.offer(id, 2, "of another epoch").await, Err(OfferFailure::Gone));

    harness.desired[0].stop = Some(EndReason::TimeLimit);
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::TimeLimit);
    harness.assert_nothing_left(id);
    assert!(harness.log(id, "streamer.log").contains("last word time_limit"));
    assert_eq!(harness.offer(id, 1, "late").await, Err(OfferFailure::Gone));

    let log = harness.log(id, "game.log");
    assert!(!log.is_empty());
    for line in ["HOME=/home/player", "SDL_VIDEODRIVER=x11", "SDL_AUDIODRIVER=dummy", "LANG=C.UTF-8", "/app"] {
        assert!(log.lines().any(|found| found == line), "no `{line}` in {log}");
    }
    assert!(!log.contains("KITE_"), "the agent's variables reach the game: {log}");

    harness.desired.clear();
    harness.want().await;
    harness.until("forgotten", |node| node.instances.is_empty()).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_have_homes_and_users_of_their_own() {
    let mut harness = Harness::new("").await;
    let script = "id -u; ls -A /home/player; echo mine > /home/player/file; exec sleep 600";
    let first = harness.start(&["/bin/sh", "-c", script], "").await;
    harness.until_playing(first).await;
    let second = harness.start(&["/bin/sh", "-c", script], "").await;
    harness.until_playing(second).await;
    let mut logs = Vec::new();
    for id in [first, second] {
        // The output travels through a pipe.
        let mut log = harness.log(id, "game.log");
        while log.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            log = harness.log(id, "game.log");
        }
        logs.push(log);
    }
    assert!(!logs[1].contains("file"), "the second sees the first's home");
    if rustix::process::geteuid().is_root() {
        assert_ne!(logs[0], logs[1], "both run as the same user");
        assert!(!logs[0].starts_with("0\n"));
    }
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packages_home_is_copied_and_its_placeholders_are_replaced() {
    let mut harness = Harness::new("").await;
    let package = harness.dir.path().join("package");
    fs::create_dir_all(package.join("home/.config")).unwrap();
    fs::write(package.join("home/.config/a.cfg.template"), "<width> <home>").unwrap();
    let id = harness
        .start(
            &[
                "/bin/sh",
                "-c",
                "cat ~/.config/a.cfg; echo \" $1\"; rm ~/.config/a.cfg && echo removed",
                "sh",
                "<height>",
            ],
            "home = \"home\"",
        )
        .await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::GameExited);
    let log = harness.log(id, "game.log");
    assert!(log.contains("1280 /home/player 720"), "{log}");
    assert!(log.contains("removed"), "the game does not own its home: {log}");
    assert!(package.join("home/.config/a.cfg.template").exists());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_epoch_replaces_an_instance() {
    let mut harness = Harness::new("").await;
    let id = harness.start(&["/bin/sleep", "600"], "").await;
    harness.until_playing(id).await;
    harness.desired[0].epoch = 2;
    // Level-triggered: the control plane repeats itself until it is so.
    for _ in 0..100 {
        harness.want().await;
        if harness.observed(id).is_some_and(|observed| observed.epoch == 2) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        harness.until("any report", |_| true).await;
        drop(harness.offer(id, 9, "only to receive").await);
    }
    assert_eq!(harness.observed(id).unwrap().epoch, 2);
    harness.until_playing(id).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_before_it_starts_is_reported_as_ended() {
    let mut harness = Harness::new("").await;
    let mut desired = harness.instance(crate::harness::manifest(&["/bin/true"], ""));
    desired.stop = Some(EndReason::PlayerLeft);
    let id = desired.instance;
    harness.desired.push(desired);
    harness.want().await;
    assert_eq!(harness.until_ended(id).await.0, EndReason::PlayerLeft);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_agent_ends_everything() {
    let mut harness = Harness::new("").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(harness.start(&["/bin/sleep", "600"], "").await);
    }
    for id in &ids {
        harness.until_playing(*id).await;
    }
    harness.agent.take().unwrap().stop().await;
    for id in ids {
        harness.assert_nothing_left(id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_does_not_touch_the_first_ones_directories() {
    let mut harness = Harness::new("").await;
    let id = harness.start(&["/bin/sleep", "600"], "").await;
    harness.until_playing(id).await;
    let (_link, node_end) = api::node::in_process();
    let error = Agent::start(settings(harness.dir.path()), node_end).await.unwrap_err();
    assert!(matches!(error, node::StartError::Locked { .. }), "{error}");
    assert!(matches!(harness.observed(id).unwrap().state, InstanceState::Running { .. }));
    assert!(!processes_with(&id.to_string()).is_empty());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_agent_removes_what_a_killed_one_left() {
    let dir = open_dir();
    let id = "ins_00000000000000000000000000abcdef";
    for place in ["data/instances", "run"] {
        fs::create_dir_all(dir.path().join(place).join(id).join("deep")).unwrap();
    }
    fs::create_dir_all(dir.path().join("data/instances/not-ours")).unwrap();
    let mut orphan = std::process::Command::new("sleep").arg("600").env("KITE_INSTANCE", id).spawn().unwrap();
    let reaper = std::thread::Builder::new().spawn(move || orphan.wait().unwrap()).unwrap();
    let (_link, node_end) = api::node::in_process();
    let agent = Agent::start(settings(dir.path()), node_end).await.unwrap();
    assert_eq!((agent.swept().processes, agent.swept().directories), (1, 2));
    assert!(!reaper.join().unwrap().success());
    assert!(!dir.path().join("data/instances").join(id).exists());
    assert!(dir.path().join("data/instances/not-ours").exists(), "a foreign directory was removed");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streamer_has_real_time_priority_and_no_other_right() {
    let mut harness = Harness::new("").await;
    let id = harness.start(&["/bin/sleep", "600"], "").await;
    harness.until_playing(id).await;
    let log = harness.log(id, "streamer.log");
    let field = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {log}")).trim().to_owned()
    };
    for capabilities in ["CapEff:", "CapPrm:"] {
        let held = u64::from_str_radix(&field(capabilities), 16).unwrap();
        // CAP_SYS_NICE, and that only where the limit could not be raised.
        assert_eq!(held & !(1 << 23), 0, "{log}");
    }
    let agent = std::process::Command::new("chrt").args(["-r", "5", "true"]).status().unwrap().success();
    if rustix::process::geteuid().is_root() {
        assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"), "{log}");
    }
    // It has the right where the agent has it.
    assert_eq!(field("realtime "), agent.to_string(), "{log}");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_looks_after_other_nodes() {
    let witness = link::witness::Witness::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = witness.address();
    let mut harness = Harness::with("", |settings| settings.witness = Some(address)).await;
    harness.until("with its witness", |node| node.witness == Some(address)).await;
    assert_eq!(harness.probe(address).await, ProbeOutcome::Alive);
    drop(witness);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(harness.probe(address).await, ProbeOutcome::Refused);
    harness.stop().await;
}
