//! The node's echo: the real program, beside the agent.
//!
//! Needs `kite-echo` in the target directory: `cargo build -p echo`.

use std::fs;
use std::path::PathBuf;

use api::node::{OfferFailure, ToNode};
use node::NodeSettings;

use crate::harness::Harness;

const OFFER: &str = include_str!("../../../transport/tests/data/chromium-echo.sdp");

fn with_echo(settings: &mut NodeSettings) {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("kite-echo");
    assert!(program.is_file(), "{} is missing: cargo build -p echo", program.display());
    settings.echo_program = Some(program);
}

/// The echo that this process started last, and what it may.
fn child() -> Option<(PathBuf, String)> {
    let parent = format!("PPid:\t{}", std::process::id());
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let is_ours = status.starts_with("Name:\tkite-echo") && status.lines().any(|line| line == parent);
        (is_ours && !status.contains("State:\tZ")).then(|| (entry.path(), status))
    })
}

async fn measure(harness: &mut Harness, sdp: &str) -> Result<String, OfferFailure> {
    let sdp = sdp.to_owned();
    harness.ask_offer(|request| ToNode::Echo { request, sdp }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_measure_at_a_program_without_rights_that_comes_back_when_it_dies() {
    let mut harness = Harness::with("", with_echo).await;
    harness.until("measurable", |node| node.echo).await;
    let answer = measure(&mut harness, OFFER).await.unwrap();
    let port = answer.lines().find_map(|line| line.split_once("127.0.0.1 ")?.1.split(' ').next()?.parse::<u16>().ok());
    assert!(port.is_some_and(|port| (50_050..=50_100).contains(&port)), "one of the range's last ports: {answer}");
    let refused = measure(&mut harness, "nonsense").await;
    assert!(matches!(&refused, Err(OfferFailure::Refused { detail }) if detail.contains("not SDP")), "{refused:?}");

    let (process, status) = child().unwrap();
    if rustix::process::geteuid().is_root() {
        for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Groups:\t "] {
            assert!(status.lines().any(|found| found == line), "no `{line}` in {status}");
        }
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse::<u32>().ok());
        assert_eq!(uid.map(|uid| uid % 1000), Some(999), "the last of the node's users");
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let priority = limits.lines().find(|line| line.starts_with("Max realtime priority")).unwrap();
    assert!(priority.contains("  0  "), "{priority}");
    let environment = fs::read_to_string(process.join("environ")).unwrap();
    assert!(!environment.contains("HOME"), "nothing of ours: {environment}");

    let pid = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    harness.until("gone", |node| !node.echo).await;
    assert_eq!(measure(&mut harness, OFFER).await, Err(OfferFailure::Gone));
    harness.until("back", |node| node.echo).await;
    assert!(measure(&mut harness, OFFER).await.is_ok());
    harness.stop().await;
    assert!(child().is_none(), "it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_ports_are_all_for_sessions_has_no_echo() {
    let mut harness = Harness::with("", |settings| {
        with_echo(settings);
        settings.network.port_min = 50_100;
        settings.capacity.sessions = 1;
    })
    .await;
    let node = harness.until("reported", |_| true).await;
    assert!(!node.echo);
    assert_eq!(measure(&mut harness, OFFER).await, Err(OfferFailure::Gone));
    harness.stop().await;
}
