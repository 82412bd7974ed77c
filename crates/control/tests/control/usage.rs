//! What was played is told: to the operator and to the tenant, open and closed, billed and not.

use api::clock::UtcTime;
use api::node::PlayerPresence;
use api::session::EndReason;
use serde_json::Value;

use crate::content::{package_of, release};
use crate::support::{Client, Plane, until};

async fn usage(client: &Client, query: &str) -> Vec<Value> {
    let reply = client.get(&format!("/v1/usage{query}")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["sessions"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_play_is_told_from_its_first_connection_to_its_end() {
    let plane = Plane::start().await;
    let owner = plane.client.with_token(&plane.create_tenant("studio").await);
    let operator = plane.client.with_token(&plane.operator_token());
    release(&owner, "tetris", package_of("tetris").path()).await;
    let (player, player_token) = plane.create_player().await;
    let created = plane.client.with_token(&player_token).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    plane.until_state(id, token, "ready").await;
    assert!(usage(&owner, "").await.is_empty(), "waiting is no play");
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(id, token, "connected").await;
    plane.node.player(0, PlayerPresence::Lost);
    plane.until_state(id, token, "reconnecting").await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(id, token, "connected").await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let open = usage(&owner, "").await;
    assert_eq!((open.len(), &open[0]["player"]), (1, &player.as_str().into()), "{open:?}");
    assert!(open[0]["ended"].is_null());
    plane.client.with_token(token).delete(&format!("/v1/sessions/{id}")).await;
    plane.until_state(id, token, "ended").await;

    let told = usage(&owner, &format!("?session={id}")).await;
    let intervals = told[0]["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 2, "{told:?}");
    let because: Vec<&str> = intervals.iter().map(|one| one["because"].as_str().unwrap()).collect();
    assert_eq!(because, ["disconnected", "player_left"]);
    let sum: u64 = intervals.iter().map(|one| one["ms"].as_u64().unwrap()).sum();
    assert_eq!((&told[0]["billed_ms"], &told[0]["fault_ms"]), (&sum.into(), &0.into()));
    assert!(sum >= 30, "{sum}");
    let time = |value: &Value| serde_json::from_value::<UtcTime>(value.clone()).unwrap();
    assert!(time(&intervals[0]["to"]) <= time(&intervals[1]["from"]));
    assert_eq!(usage(&operator, "?tenant=studio").await, usage(&owner, "").await);
    assert!(usage(&operator, "?tenant=nobody").await.is_empty());
    assert_eq!(owner.get("/v1/usage?tenant=nobody").await.problem(), "tenant_unknown");
    assert_eq!(owner.get("/v1/usage?limit=501").await.problem(), "invalid_request");

    // Who played is forgotten with the player, how long is not.
    assert_eq!(plane.client.with_token(&player_token).delete("/v1/players/me").await.status, 204);
    let told = usage(&owner, "").await;
    assert!(told[0].get("player").is_none() && told[0]["billed_ms"] == sum, "{told:?}");
}

#[tokio::test]
async fn what_the_platform_broke_is_told_and_costs_nothing() {
    let plane = Plane::start().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&id, &token, "connected").await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    plane.node.end(0, EndReason::StreamerFailed);
    plane.until_state(&id, &token, "ended").await;
    until("it is told", async || usage(&operator, "").await[0]["ended"].is_string()).await;
    let told = usage(&operator, "").await;
    assert_eq!(told[0]["billed_ms"], 0, "{told:?}");
    assert!(told[0]["fault_ms"].as_u64().unwrap() >= 20);
    assert_eq!((&told[0]["intervals"][0]["is_fault"], &told[0]["tenant"]), (&true.into(), &"@operator".into()));
    // For good.
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(usage(&operator, "").await, told);
}
