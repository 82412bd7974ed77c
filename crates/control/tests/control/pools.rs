//! Instances that are kept ready: filled, claimed, given up, found again.

use api::node::{Capacity, InstanceState, Warmth};
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::{Client, Home, Plane, until};

fn places(sessions: u32) -> Capacity {
    Capacity { sessions, pixels_per_second: u64::MAX, ..Capacity::default() }
}

async fn plane_with(sessions: u32) -> (Plane, Client) {
    let plane = Plane::start().await;
    plane.node.change(|script| script.capacity = places(sessions));
    until("the capacity is known", async || plane.client.get("/v1/limits").await.json()["sessions"] == sessions).await;
    let operator = plane.client.with_token(&plane.operator_token());
    (plane, operator)
}

async fn add(operator: &Client, app: &str, size: u32) -> Reply {
    let body = json!({ "app": app, "site": "local", "size": size });
    operator.post_json("/v1/pools", body.to_string()).await
}

/// The only pool.
async fn pool(operator: &Client) -> Value {
    operator.get("/v1/pools").await.json()["pools"][0].clone()
}

async fn filled(operator: &Client, size: u32) {
    until(&format!("{size} are ready"), async || {
        let pool = pool(operator).await;
        pool["ready"] == size && pool["starting"] == 0
    })
    .await;
}

/// Ids of the instances that run, and whether they are somebody's.
fn instances(plane: &Plane) -> Vec<(String, bool)> {
    let is_somebodys = |wish: &api::node::DesiredInstance| (wish.instance.to_string(), wish.warm.is_none());
    plane.node.read(|script| script.desired.iter().filter(|wish| wish.stop.is_none()).map(is_somebodys).collect())
}

#[tokio::test]
async fn who_asks_has_an_instance_that_is_ready_and_another_one_takes_its_place() {
    let (plane, operator) = plane_with(10).await;
    let made = add(&operator, "pong", 2).await;
    assert_eq!((made.status, &made.json()["warmth"], &made.json()["size"]), (201, &"running".into(), &2.into()));
    filled(&operator, 2).await;
    let before = instances(&plane);
    assert!(before.iter().all(|(_, is_somebodys)| !is_somebodys), "{before:?}");
    assert_eq!(plane.node.read(|script| script.desired[0].warm), Some(Warmth::Running));
    // Nobody's: neither in lists, nor in what is used.
    assert_eq!(operator.get("/v1/sessions").await.json()["sessions"], json!([]));
    assert_eq!(plane.client.get("/v1/limits").await.json()["sessions_used"], 0);

    let created = plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.json();
    assert_eq!(created["session"]["state"]["state"], "ready", "{created}");
    filled(&operator, 2).await;
    let after = instances(&plane);
    let claimed: Vec<_> = after.iter().filter(|(_, is_somebodys)| *is_somebodys).collect();
    assert_eq!((claimed.len(), after.len()), (1, 3), "{after:?}");
    assert!(before.iter().any(|(id, _)| *id == claimed[0].0), "{before:?} {after:?}");
    // Another picture starts from nothing.
    let spec = r#"{"app": "pong", "spec": {"width": 320, "height": 180, "frames_per_second": 30}}"#;
    plane.client.post_json("/v1/sessions", spec).await;
    until("it is there", async || instances(&plane).len() == 4).await;
    assert_eq!(pool(&operator).await["ready"], 2);
}

#[tokio::test]
async fn a_full_machine_gives_what_nobody_plays_to_who_plays() {
    let (plane, operator) = plane_with(3).await;
    add(&operator, "pong", 3).await;
    filled(&operator, 3).await;
    // Of the same app: each takes one.
    let (id, token) = plane.create_ready().await;
    let hindered = async || pool(&operator).await["hindered"].as_str().is_some_and(|why| why.contains("full"));
    until("it is said why it is not full", hindered).await;
    assert_eq!(pool(&operator).await["ready"], 2);
    // Of another one: one makes room.
    let (other, other_token) = plane.create_of("bare").await;
    // Nobody asks him whether he wants what he just asked for.
    plane.until_state(&other, &other_token, "ready").await;
    assert_eq!(pool(&operator).await["ready"], 1);
    assert!(plane.node.read(|script| script.most_desired) <= 3);
    plane.client.with_token(&token).delete(&format!("/v1/sessions/{id}")).await;
    filled(&operator, 2).await;
}

#[tokio::test]
async fn a_pool_is_changed_and_removed_and_who_plays_goes_on() {
    let (plane, operator) = plane_with(10).await;
    let id = add(&operator, "pong", 3).await.json()["id"].as_str().unwrap().to_owned();
    filled(&operator, 3).await;
    let (session, token) = plane.create_ready().await;
    let patch = operator.with("content-type", "application/json");
    let resized = patch.send("PATCH", &format!("/v1/pools/{id}"), r#"{"size": 1}"#).await;
    assert_eq!((resized.status, &resized.json()["size"]), (200, &1.into()));
    filled(&operator, 1).await;
    assert_eq!(operator.delete(&format!("/v1/pools/{id}")).await.status, 204);
    until("the player is alone", async || instances(&plane).len() == 1).await;
    assert_eq!(plane.session(&session, &token).await["state"]["state"], "ready");
    assert_eq!(operator.get("/v1/pools").await.json()["pools"], json!([]));
    for reply in [
        operator.delete(&format!("/v1/pools/{id}")).await,
        patch.send("PATCH", "/v1/pools/nonsense", r#"{"size": 1}"#).await,
    ] {
        assert_eq!((reply.status, reply.problem().as_str()), (404, "pool_unknown"));
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let (_plane, operator) = plane_with(1).await;
    let good = json!({ "app": "pong", "site": "local", "size": 1 });
    let check = async |change: Value, status: u16, word: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = operator.post_json("/v1/pools", body.to_string()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, word), "{}", reply.text());
    };
    check(json!({ "size": 0 }), 400, "invalid_request").await;
    check(json!({ "size": 1001 }), 400, "invalid_request").await;
    check(json!({ "lifetime_s": 59 }), 400, "invalid_request").await;
    check(json!({ "site": "../etc" }), 400, "invalid_request").await;
    check(json!({ "app": "nothing" }), 404, "app_unknown").await;
    check(json!({ "channel": "beta" }), 404, "app_unknown").await;
    let large = json!({ "width": 4096, "height": 4096, "frames_per_second": 60 });
    check(json!({ "spec": large }), 422, "spec_out_of_range").await;
    assert_eq!(add(&operator, "pong", 1).await.status, 201);
    check(json!({ "size": 5 }), 409, "name_taken").await;
    // A site that nobody has yet: the pool waits for it, and says so.
    let far = json!({ "app": "pong", "site": "moon", "size": 1 });
    assert_eq!(operator.post_json("/v1/pools", far.to_string()).await.status, 201);
    until("the far one says what it lacks", async || {
        operator.get("/v1/pools").await.json()["pools"][1]["hindered"].is_string()
    })
    .await;
}

#[tokio::test]
async fn a_game_that_does_not_start_is_not_tried_without_end() {
    let (plane, operator) = plane_with(10).await;
    plane.node.change(|script| {
        let detail = Some("scripted".to_owned());
        script.start_at = InstanceState::Ended { reason: api::session::EndReason::GameCrashed, detail };
    });
    add(&operator, "pong", 1).await;
    let said = async || pool(&operator).await["hindered"].as_str().is_some_and(|why| why.contains("game_crashed"));
    until("it is said why", said).await;
    plane.node.change(|script| script.start_at = InstanceState::Running { first_frame: true });
    filled(&operator, 1).await;
    assert_eq!(pool(&operator).await["hindered"], Value::Null);
}

#[tokio::test]
async fn a_control_plane_that_starts_again_finds_its_pools() {
    let (plane, operator) = plane_with(10).await;
    add(&operator, "pong", 2).await;
    filled(&operator, 2).await;
    let copy = Home::new();
    let settings = plane.copy_to(&copy);
    let after = Plane::start_beside(copy, settings, |script| script.capacity = places(10)).await;
    let operator = after.client.with_token(&after.operator_token());
    filled(&operator, 2).await;
    let created = after.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await.json();
    assert_eq!(created["session"]["state"]["state"], "ready", "{created}");
}
