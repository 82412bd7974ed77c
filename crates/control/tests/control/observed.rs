//! What is counted of sessions, and the trace of a play from the client's header to the node and back.

use std::collections::BTreeMap;
use std::time::Duration;

use api::node::{InstanceState, PlayerPresence};
use api::session::EndReason;
use api::trace::{Span, SpanSink, TraceParent};
use prometheus_client::encoding::text::encode;
use tokio::sync::mpsc;

use crate::support::{Plane, until};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa05a902b7-01";

/// The lines of a scrape.
fn scrape(plane: &Plane) -> BTreeMap<String, f64> {
    let mut text = String::new();
    encode(&mut text, &plane.metrics()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

async fn until_counted(plane: &Plane, line: &str, expected: f64) {
    until(&format!("{line} {expected}"), async || scrape(plane).get(line) == Some(&expected)).await;
}

#[tokio::test]
async fn a_play_is_counted() {
    let plane = Plane::start().await;
    let before = scrape(&plane);
    assert_eq!(before["kite_session_ends_total{reason=\"player_left\",party=\"player\"}"], 0.0, "from the beginning");
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&id, &token, "connected").await;
    let link = plane.link(&id, &token).await;
    until_counted(&plane, "kite_sessions{site=\"local\",state=\"connected\"}", 1.0).await;
    until_counted(&plane, "kite_links", 1.0).await;
    drop(link);
    plane.end(&id, &token).await;
    let refused = plane.client.post_json("/v1/sessions", r#"{"app": "chess"}"#).await;
    assert_eq!(refused.status, 404);

    let after = scrape(&plane);
    for (line, expected) in [
        ("kite_session_starts_total{site=\"local\",outcome=\"connected\"}", 1.0),
        ("kite_session_starts_total{site=\"local\",outcome=\"platform\"}", 0.0),
        ("kite_session_placements_total{site=\"local\"}", 1.0),
        ("kite_session_wait_seconds_count", 1.0),
        ("kite_session_start_seconds_count{stage=\"ready\",queued=\"no\"}", 1.0),
        ("kite_session_start_seconds_count{stage=\"first_frame\",queued=\"no\"}", 1.0),
        ("kite_session_start_seconds_count{stage=\"connected\",queued=\"no\"}", 1.0),
        ("kite_session_ends_total{reason=\"player_left\",party=\"player\"}", 1.0),
        ("kite_session_refusals_total{reason=\"app_unknown\",party=\"player\"}", 1.0),
        ("kite_scheduler_decisions_total{decision=\"reserve\"}", 1.0),
        ("kite_http_requests_total{route=\"/v1/sessions\",method=\"POST\",status=\"201\"}", 1.0),
        ("kite_http_requests_total{route=\"/v1/sessions\",method=\"POST\",status=\"404\"}", 1.0),
        ("kite_nodes{site=\"local\",class=\"standard\",duty=\"active\",health=\"alive\"}", 1.0),
        ("kite_places{site=\"local\",class=\"standard\"}", 100.0),
        ("kite_session_queue_length{cause=\"capacity\"}", 0.0),
        ("kite_database_errors_total{call=\"query\"}", 0.0),
        ("kite_reconcile_failures_total", 0.0),
    ] {
        assert_eq!(after.get(line), Some(&expected), "{line} among {:#?}", after.keys());
    }
    for line in ["kite_session_played_seconds_total", "kite_reconcile_success_timestamp_seconds"] {
        assert!(after[line] > 0.0, "{line}");
    }
    assert!(after["kite_database_call_seconds_count{call=\"commit\"}"] > 0.0);
    let unbounded = after.keys().find(|line| line.contains(&id) || line.contains("/v1/sessions/ses"));
    assert_eq!(unbounded, None, "no session is a label");
}

#[tokio::test]
async fn whose_fault_a_failed_start_is() {
    let plane = Plane::start_with(|_| ()).await;
    plane.node.change(|script| {
        script.start_at = InstanceState::Ended { reason: EndReason::StreamerFailed, detail: None };
    });
    let (id, token) = plane.create().await;
    plane.until_state(&id, &token, "ended").await;
    until_counted(&plane, "kite_session_starts_total{site=\"local\",outcome=\"platform\"}", 1.0).await;
    until_counted(&plane, "kite_session_ends_total{reason=\"streamer_failed\",party=\"platform\"}", 1.0).await;
    until_counted(&plane, "kite_session_interruptions_total", 0.0).await;
}

async fn traced() -> (Plane, mpsc::Receiver<Span>) {
    let (sink, spans) = SpanSink::new();
    (Plane::start_with(|settings| settings.spans = Some(sink)).await, spans)
}

async fn spans_until(spans: &mut mpsc::Receiver<Span>, last: &str) -> Vec<Span> {
    let mut all = Vec::new();
    loop {
        let span = tokio::time::timeout(Duration::from_secs(20), spans.recv()).await.expect("a span in time").unwrap();
        all.push(span);
        if all.last().is_some_and(|span| span.name == last) {
            return all;
        }
    }
}

#[tokio::test]
async fn a_trace_goes_from_the_client_to_the_node_and_back() {
    let (plane, mut spans) = traced().await;
    let client = plane.client.with("traceparent", PARENT);
    let created = client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    plane.until_state(id, token, "ready").await;
    plane.node.player(0, PlayerPresence::Connected);
    let spans = spans_until(&mut spans, "session.start").await;
    let names: Vec<&str> = spans.iter().map(|span| span.name).collect();
    assert_eq!(names, ["session.place", "session.prepare", "session.connect", "session.start"]);

    let parent: TraceParent = PARENT.parse().unwrap();
    let whole = &spans[3];
    assert_eq!((whole.trace, whole.parent), (parent.trace, Some(parent.span)));
    for part in &spans[..3] {
        assert_eq!((part.trace, part.parent), (parent.trace, Some(whole.id)));
        assert!(part.start >= whole.start && part.end <= whole.end, "{part:?} in {whole:?}");
    }
    assert!(whole.attributes.contains(&("kite.session.id", id.to_owned())), "{whole:?}");
    assert_eq!(whole.failure, None);
    let wished = plane.node.read(|script| script.desired[0].trace).unwrap();
    assert_eq!((wished.trace, wished.span, wished.sampled), (parent.trace, whole.id, true));
}

#[tokio::test]
async fn the_client_says_whether_a_trace_is_wanted() {
    let (plane, mut spans) = traced().await;
    let unsampled = PARENT.replace("-01", "-00");
    let check = async |header: Option<&str>, expected: Option<bool>| {
        let client = header.map_or_else(|| plane.client.clone(), |header| plane.client.with("traceparent", header));
        let created = client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.json();
        let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
        plane.until_state(id, token, "ready").await;
        let trace = plane.node.read(|script| script.desired.last().unwrap().trace);
        assert_eq!(trace.map(|trace| trace.sampled), expected, "{header:?}");
        plane.end(id, token).await;
    };
    check(Some(&unsampled), Some(false)).await;
    assert!(spans.try_recv().is_err(), "nobody wants to see it");
    check(None, Some(true)).await;
    check(Some("nonsense"), Some(true)).await;
    check(Some(&"0".repeat(10_000)), Some(true)).await;
    let failed = spans_until(&mut spans, "session.start").await;
    assert_eq!(failed.last().unwrap().parent, None, "it began here");
}

#[tokio::test]
async fn without_a_sink_a_clients_trace_still_reaches_the_node() {
    let plane = Plane::start().await;
    let client = plane.client.with("traceparent", PARENT);
    client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    until("wished", async || plane.node.read(|script| !script.desired.is_empty())).await;
    let trace = plane.node.read(|script| script.desired[0].trace).unwrap();
    assert_eq!(trace.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    plane.create().await;
    until("two", async || plane.node.read(|script| script.desired.len() == 2)).await;
    let traces = plane.node.read(|script| script.desired.iter().filter(|one| one.trace.is_some()).count());
    assert_eq!(traces, 1, "nobody asked for the other one's");
}
