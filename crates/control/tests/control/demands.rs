//! What nodes measure of sessions decides where the next ones go, is shown, and survives a restart.

use api::node::{Capacity, InstanceUsage, PlayerPresence};
use serde_json::Value;

use crate::support::{Plane, until};

fn four_processors() -> Capacity {
    Capacity { sessions: 10, pixels_per_second: u64::MAX, cpu_milli: Some(4000), ..Capacity::default() }
}

async fn plane_with(capacity: Capacity) -> Plane {
    let plane = Plane::start_with(|settings| settings.limits.sessions_per_player = 20).await;
    set(&plane, capacity).await;
    plane
}

async fn set(plane: &Plane, capacity: Capacity) {
    plane.node.change(|script| script.capacity = capacity);
    until("the capacity is known", async || {
        plane.client.get("/v1/limits").await.json()["sessions"] == capacity.sessions
    })
    .await;
}

/// The node measures the session so often, each time the same.
async fn measure(plane: &Plane, index: usize, cpu_milli: u32, samples: std::ops::RangeInclusive<u32>) {
    for sample in samples {
        let usage = InstanceUsage { sample, cpu_milli, memory_mib: 700, egress_kbps: 5000, is_starved: false };
        plane.node.instance(index, |instance| instance.usage = Some(usage));
        // Each report is to be seen: a later one takes the place of one that waits.
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
}

async fn operator(plane: &Plane, path: &str) -> Value {
    plane.client.with_token(&plane.operator_token()).get(path).await.json()
}

async fn only_demand(plane: &Plane) -> Value {
    let list = operator(plane, "/v1/demands").await;
    let demands = list["demands"].as_array().unwrap();
    assert!(demands.len() < 2, "{list}");
    demands.first().cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_is_measured_of_a_session_decides_about_the_next_ones() {
    let plane = plane_with(four_processors()).await;
    let (first, token) = plane.create_ready().await;
    let node = operator(&plane, "/v1/nodes").await["nodes"][0].clone();
    let guessed = node["used"]["cpu_milli"].as_u64().unwrap();
    assert!((50..1000).contains(&guessed), "the guess: {node}");
    assert_eq!((&node["capacity"]["cpu_milli"], &node["capacity"]["memory_mib"]), (&4000.into(), &Value::Null));
    assert_eq!(only_demand(&plane).await, Value::Null);
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&first, &token, "connected").await;
    measure(&plane, 0, 3000, 1..=20).await;
    until("the measurement is known", async || only_demand(&plane).await["is_settled"] == true).await;
    let demand = only_demand(&plane).await;
    assert_eq!((&demand["app"], &demand["takes"]["cpu_milli"]), (&"pong".into(), &3000.into()), "{demand}");
    assert_eq!((&demand["takes"]["memory_mib"], &demand["takes"]["egress_kbps"]), (&704.into(), &5000.into()));
    // It counts for the session that was measured, too.
    until("the place is as large", async || {
        operator(&plane, "/v1/nodes").await["nodes"][0]["used"]["cpu_milli"] == 3000
    })
    .await;

    let (second, second_token) = plane.create().await;
    plane.until_state(&second, &second_token, "queued").await;
    let player = plane.client.with_token(&second_token);
    let placement = player.get(&format!("/v1/sessions/{second}/placement")).await.json();
    assert_eq!(placement["queue"]["sites"][0]["detail"], "it is full: no processor left", "{placement}");
    set(&plane, Capacity { sessions: 11, cpu_milli: Some(6000), ..four_processors() }).await;
    plane.until_state(&second, &second_token, "offered").await;

    // What no node has is refused, and what there is too little of is named.
    set(&plane, Capacity { sessions: 12, cpu_milli: Some(2000), ..four_processors() }).await;
    let refused = plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no_capacity"));
    assert!(refused.text().contains("too small for this session: processor"), "{}", refused.text());

    // What was measured while something was wrong is forgotten, also of who plays still; what is guessed is no reason to refuse.
    let forget = async || plane.client.with_token(&plane.operator_token()).delete("/v1/demands/pong").await.json();
    assert_eq!(forget().await["forgotten"], 1);
    assert_eq!(only_demand(&plane).await, Value::Null);
    assert_eq!(plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.status, 201);
    measure(&plane, 0, 3000, 20..=20).await;
    assert_eq!(forget().await["forgotten"], 0);
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(only_demand(&plane).await, Value::Null, "for good");
}

#[tokio::test]
async fn what_was_learnt_survives_a_restart() {
    let plane = plane_with(four_processors()).await;
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&id, &token, "connected").await;
    measure(&plane, 0, 1500, 1..=20).await;
    until("the measurement is known", async || only_demand(&plane).await["is_settled"] == true).await;
    // What is worth it is written each second.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let before = only_demand(&plane).await["takes"].clone();
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(only_demand(&plane).await["takes"], before);
    set(&plane, four_processors()).await;
    plane.create_ready().await;
    assert_eq!(operator(&plane, "/v1/nodes").await["nodes"][0]["used"]["cpu_milli"], 1500);
}
