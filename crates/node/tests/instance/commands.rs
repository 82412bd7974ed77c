//! Commands: scripts in the real sandbox, logs, screenshots; each once, whatever is repeated and whoever restarts.

use std::fs;
use std::time::{Duration, Instant};

use api::command::{CommandOutput, OutputKind};
use api::id::{CommandId, InstanceId};
use api::node::{CommandOutcome, CommandProgress, CommandTask, InstanceState};
use api::session::EndReason;
use node::Agent;

use crate::harness::{Harness, processes_with, settings};

/// A game that says that it lives, and what it is.
const GAME: &[&str] = &["/bin/sh", "-c", "echo begun; while :; do date +%s%N > ~/beat; sleep 0.05; done"];

fn exec(script: &str, timeout_s: u32) -> CommandTask {
    CommandTask::Exec { script: script.to_owned(), timeout_s }
}

fn parts(progress: CommandProgress) -> (CommandOutcome, Option<CommandOutput>) {
    match progress {
        CommandProgress::Ended { outcome, output, .. } => (outcome, output),
        CommandProgress::Running {} => panic!("not ended"),
    }
}

async fn run(
    harness: &mut Harness,
    id: InstanceId,
    task: CommandTask,
) -> (CommandOutcome, Option<CommandOutput>, Vec<u8>) {
    let command = harness.ask(id, task).await;
    let (outcome, output) = parts(harness.until_done(command).await);
    let bytes = harness.output(command).await;
    assert_eq!(bytes.len() as u64, output.map_or(0, |output| output.bytes));
    (outcome, output, bytes)
}

fn done(exit: i32) -> CommandOutcome {
    CommandOutcome::Done { exit: Some(exit) }
}

fn assert_failed(outcome: &CommandOutcome, word: &str) {
    assert!(
        matches!(outcome, CommandOutcome::Failed { why } if why.contains(word) && why.ends_with('.')),
        "{outcome:?}"
    );
}

/// So many seconds to sleep as nothing else on the machine says.
fn long_sleep() -> String {
    format!("31337.{}", uuid::Uuid::now_v7().as_u128() % 1_000_000_000_000)
}

async fn assert_game_goes_on(harness: &Harness, id: InstanceId) {
    let beat = || fs::read(harness.dir.path().join("data/instances").join(id.to_string()).join("home/beat"));
    let (before, began) = (beat().unwrap_or_default(), Instant::now());
    while beat().unwrap_or_default() == before {
        assert!(began.elapsed() < Duration::from_secs(20), "the game stands still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_in_the_sandbox_and_its_output_is_fetched_in_parts() {
    let mut harness = Harness::new("").await;
    let id = harness.start(GAME, "").await;
    harness.until_playing(id).await;
    let (outcome, output, bytes) = run(&mut harness, id, exec("id -u; ls /; echo wrong >&2; exit 3", 10)).await;
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(outcome, done(3), "{text}");
    assert_eq!(output.unwrap().kind, OutputKind::Text);
    assert!(text.contains("\napp\n") && text.ends_with("wrong\n") && !text.contains("root\n"), "{text}");
    if rustix::process::geteuid().is_root() {
        assert!(!text.starts_with("0\n"), "{text}");
    }
    // More than a part, more than is kept, and no UTF-8.
    let (outcome, output, bytes) = run(
        &mut harness,
        id,
        exec("printf 'first \\377\\n'; head -c 3000000 /dev/zero | tr '\\0' '\\376'; echo last", 30),
    )
    .await;
    assert_eq!(outcome, done(0));
    assert!(bytes.starts_with(b"first \xff\n\xfe") && bytes.ends_with(b"\xfelast\n"));
    assert!((200_000..=256 << 10).contains(&bytes.len()), "{}", bytes.len());
    assert!(output.unwrap().cut_bytes > 2_700_000);
    let (outcome, output, _) = run(&mut harness, id, exec("true", 10)).await;
    assert_eq!((outcome, output), (done(0), None));
    assert_game_goes_on(&harness, id).await;
    // What is desired no more is forgotten.
    let last = harness.commands.last().unwrap().command;
    harness.commands.clear();
    harness.want().await;
    harness.until("forgotten", |node| node.commands.is_empty()).await;
    assert!(harness.output(last).await.is_empty());
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_scripts_end_with_all_that_they_started_and_the_game_goes_on() {
    let mut harness = Harness::new("").await;
    let id = harness.start(GAME, "[limits]\nprocesses = 100").await;
    harness.until_playing(id).await;
    let sleep = long_sleep();
    for script in [
        format!("trap '' TERM INT HUP; setsid sleep {sleep} & while :; do sleep 0.01; done"),
        // The shell itself does not fork any more: it would end where it cannot.
        format!("(setsid sleep {sleep} &); (f() {{ f | f & }}; f) & while :; do :; done"),
        "exec cat /dev/zero".to_owned(),
    ] {
        let began = Instant::now();
        let (outcome, ..) = run(&mut harness, id, exec(&script, 1)).await;
        assert_eq!(outcome, CommandOutcome::TimedOut {}, "{script}");
        assert!(began.elapsed() < Duration::from_secs(15), "{script}: {:?}", began.elapsed());
        assert_eq!(processes_with(&sleep), Vec::<String>::new(), "{script}");
        assert_game_goes_on(&harness, id).await;
    }
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_begun_once_however_often_it_is_desired_and_whoever_restarts() {
    let mut harness = Harness::new("").await;
    let id = harness.start(GAME, "").await;
    harness.until_playing(id).await;
    let command = harness.ask(id, exec("echo once >> ~/count; sleep 1; cat ~/count", 20)).await;
    for _ in 0..20 {
        harness.want().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    harness.until_done(command).await;
    assert_eq!(harness.output(command).await, b"once\n");
    // Forgotten and desired again, as by a control plane that is late: the note on the disk remembers.
    let commands = std::mem::take(&mut harness.commands);
    harness.want().await;
    harness.until("forgotten", |node| node.commands.is_empty()).await;
    harness.commands = commands;
    harness.want().await;
    let (outcome, _) = parts(harness.until_done(command).await);
    assert_failed(&outcome, "not begun a second time");
    let (_, _, bytes) = run(&mut harness, id, exec("cat ~/count", 20)).await;
    assert_eq!(bytes, b"once\n");

    // The same by an agent that was started anew.
    harness.agent.take().unwrap().stop().await;
    let (link, node_end) = api::node::in_process();
    let agent = Agent::start(settings(harness.dir.path()), node_end).await.unwrap();
    (harness.link, harness.agent) = (link, Some(agent));
    harness.commands.truncate(1);
    harness.want().await;
    harness
        .until("of the new agent", |node| {
            node.commands.len() == 1
                && matches!(
                    &node.commands[0].progress,
                    CommandProgress::Ended { outcome: CommandOutcome::Failed { .. }, .. }
                )
        })
        .await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_wait_for_each_other_and_end_with_whoever_wanted_them() {
    let mut harness = Harness::new("").await;
    let id = harness.start(GAME, "").await;
    harness.until_playing(id).await;
    let sleep = long_sleep();
    let first = harness.ask(id, exec(&format!("exec sleep {sleep}"), 60)).await;
    let second = harness.ask(id, exec("echo second", 60)).await;
    let began = Instant::now();
    while processes_with(&sleep).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let running = harness.until("both", |node| node.commands.len() == 2).await;
    assert!(running.commands.iter().all(|one| one.progress == CommandProgress::Running {}));
    // Nobody wants the first one any more: it is killed, and the second one's turn comes.
    harness.commands.retain(|one| one.command != first);
    harness.want().await;
    harness.until_done(second).await;
    assert_eq!(harness.output(second).await, b"second\n");
    assert_eq!(processes_with(&sleep), Vec::<String>::new());

    let third = harness.ask(id, exec("sleep 600", 60)).await;
    harness.until("begun", |node| node.commands.iter().any(|one| one.command == third)).await;
    harness.desired[0].stop = Some(EndReason::Restarted);
    harness.want().await;
    let (outcome, _) = parts(harness.until_done(third).await);
    assert_failed(&outcome, "ended before");
    assert_eq!(harness.until_ended(id).await.0, EndReason::Restarted);
    harness.assert_nothing_left(id);
    let (outcome, ..) = run(&mut harness, id, exec("id", 5)).await;
    assert_failed(&outcome, "does not run");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_of_instances_that_run_and_of_those_that_ended() {
    let mut harness = Harness::new("").await;
    let id = harness.start(&["/bin/sh", "-c", "seq 1 3000; echo no utf-8: '\u{fffd}'; exec sleep 600"], "").await;
    harness.until_playing(id).await;
    let logs = CommandTask::Logs { kib: 4 };
    for ended in [false, true] {
        if ended {
            harness.desired[0].stop = Some(EndReason::Idle);
            harness.want().await;
            harness.until_ended(id).await;
            harness.desired.clear();
            harness.want().await;
        }
        let (outcome, output, bytes) = run(&mut harness, id, logs.clone()).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(outcome, CommandOutcome::Done { exit: None }, "{text}");
        assert!(text.starts_with("== game, the newest 4096 of "), "{text}");
        assert!(text.contains("\n3000\n") && text.contains("== streamer"), "{text}");
        assert_eq!(text.contains("last word idle"), ended, "{text}");
        assert!(output.unwrap().cut_bytes > 1000);
    }
    let unknown = InstanceId::from_uuid(uuid::Uuid::from_u128(99));
    let (outcome, ..) = run(&mut harness, unknown, logs).await;
    assert_failed(&outcome, "no logs");
    harness.stop().await;
}

async fn screenshot(behaviour: &str) -> (CommandOutcome, Vec<u8>) {
    let mut harness = Harness::new(behaviour).await;
    let id = harness.start(GAME, "").await;
    harness.until_playing(id).await;
    let (outcome, _, bytes) = run(&mut harness, id, CommandTask::Screenshot {}).await;
    assert_eq!(harness.observed(id).unwrap().state, InstanceState::Running { first_frame: true });
    let left = fs::read_dir(harness.dir.path().join("run").join(id.to_string())).unwrap().flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("screenshot")), "it is left");
    harness.stop().await;
    (outcome, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screenshot_is_the_streamers_own_picture_or_none() {
    let (outcome, bytes) = screenshot("").await;
    assert_eq!(outcome, CommandOutcome::Done { exit: None });
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    for (behaviour, word) in [
        ("black", "black all over"),
        ("foreign-picture", "not its own"),
        ("linked-picture", "symbolic links"),
        ("no-picture", "something else than a picture"),
    ] {
        let (outcome, bytes) = screenshot(behaviour).await;
        assert_failed(&outcome, word);
        assert!(bytes.is_empty(), "{behaviour}");
    }
}

/// Ids sort by creation, and so does what a node is asked.
#[test]
fn ids_of_commands_sort() {
    let ids: Vec<CommandId> = (0..9).map(|_| CommandId::from_uuid(uuid::Uuid::now_v7())).collect();
    assert!(ids.is_sorted());
}
