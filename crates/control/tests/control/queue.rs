//! Waiting for a place: in whose turn, for what, how long, and what happens to those who look away.

use std::time::{Duration, Instant};

use api::node::Capacity;

use crate::content::{package_of, release};
use crate::support::{Home, Link, Plane, until};

/// A plane whose node holds so many sessions.
async fn plane_with(places: u32, change: impl FnOnce(&mut control::Settings)) -> Plane {
    let plane = Plane::start_with(change).await;
    plane.node.change(|script| {
        script.capacity = Capacity { sessions: places, pixels_per_second: u64::MAX, ..Capacity::default() }
    });
    until("the capacity is known", async || plane.client.get("/v1/limits").await.json()["sessions"] == places).await;
    plane
}

async fn leave(plane: &Plane, (id, token): &(String, String)) {
    assert_eq!(plane.client.with_token(token).delete(&format!("/v1/sessions/{id}")).await.status, 200);
}

async fn queue(link: &mut Link) -> serde_json::Value {
    link.message("queue").await["queue"].clone()
}

#[tokio::test]
async fn the_link_tells_the_place_in_the_queue_and_the_turn() {
    let plane = plane_with(1, |_| ()).await;
    let first = plane.create_ready().await;
    let (second, third) = (plane.create().await, plane.create().await);
    let mut near = plane.link(&second.0, &second.1).await;
    let mut far = plane.link(&third.0, &third.1).await;
    assert_eq!(near.until_state("queued").await["state"]["cause"], "capacity");
    let place = queue(&mut near).await;
    assert_eq!((&place["position"], &place["cause"]), (&1.into(), &"capacity".into()));
    assert_eq!(place["sites"][0]["verdict"], "full");
    assert!(place["sentence"].as_str().unwrap().contains("You are next."), "{place}");
    assert!(place["estimate"]["high_s"].as_u64() > place["estimate"]["low_s"].as_u64(), "{place}");
    assert_eq!(queue(&mut far).await["position"], 2);
    let placement = plane.client.with_token(&third.1).get(&format!("/v1/sessions/{}/placement", third.0)).await.json();
    assert_eq!((&placement["queue"]["position"], &placement["sites"]), (&2.into(), &serde_json::json!([])));

    let started = Instant::now();
    leave(&plane, &first).await;
    near.until_state("offered").await;
    while queue(&mut far).await["position"] != 1 {}
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    near.say(r#"{"type": "accept"}"#).await;
    near.until_state("ready").await;
    // Asking again changes nothing.
    near.say(r#"{"type": "accept"}"#).await;
    leave(&plane, &second).await;
    let mine = plane.client.with_token(&third.1);
    plane.until_state(&third.0, &third.1, "offered").await;
    let accepted = mine.send("POST", &format!("/v1/sessions/{}/accept", third.0), "").await;
    assert_eq!((accepted.status, &accepted.json()["state"]["state"]), (200, &"reserved".into()));
    plane.until_state(&third.0, &third.1, "ready").await;
}

#[tokio::test]
async fn a_place_that_nobody_takes_goes_to_the_next() {
    let plane = plane_with(1, |settings| settings.limits.offer = Duration::from_secs(1)).await;
    let first = plane.create_ready().await;
    let (sleeper, second) = (plane.create().await, plane.create().await);
    leave(&plane, &first).await;
    plane.until_state(&sleeper.0, &sleeper.1, "offered").await;
    let gone = plane.until_state(&sleeper.0, &sleeper.1, "ended").await;
    assert_eq!((&gone["state"]["reason"], &gone["state"]["party"]), (&"offer_lapsed".into(), &"player".into()));
    plane.until_state(&second.0, &second.1, "offered").await;
    assert_eq!(plane.node.read(|script| script.most_desired), 1, "nothing was started for who did not answer");
    let late =
        plane.client.with_token(&sleeper.1).send("POST", &format!("/v1/sessions/{}/accept", sleeper.0), "").await;
    assert_eq!(late.json()["state"]["state"], "ended");
}

#[tokio::test]
async fn who_cannot_wait_longer_or_closes_the_page_is_out() {
    let plane = plane_with(1, |settings| {
        settings.limits.patience = Duration::from_secs(2);
        settings.limits.link_grace = Duration::from_millis(500);
    })
    .await;
    let (_held, patient, hasty) = (plane.create_ready().await, plane.create().await, plane.create().await);
    let link = plane.link(&hasty.0, &hasty.1).await;
    drop(link);
    let left = plane.until_state(&hasty.0, &hasty.1, "ended").await;
    assert_eq!(left["state"]["reason"], "player_left");
    let tired = plane.until_state(&patient.0, &patient.1, "ended").await;
    assert_eq!((&tired["state"]["reason"], &tired["state"]["party"]), (&"queue_timeout".into(), &"platform".into()));
}

#[tokio::test]
async fn who_comes_back_in_time_keeps_his_place() {
    let plane = plane_with(1, |settings| settings.limits.link_grace = Duration::from_secs(10)).await;
    let (_held, first, second) = (plane.create_ready().await, plane.create().await, plane.create().await);
    drop(plane.link(&first.0, &first.1).await);
    let mut other = plane.link(&second.0, &second.1).await;
    assert_eq!(queue(&mut other).await["position"], 2);
    let mut back = plane.link(&first.0, &first.1).await;
    assert_eq!(queue(&mut back).await["position"], 1);
}

#[tokio::test]
async fn waits_survive_a_restart_in_their_order() {
    let plane = plane_with(1, |settings| settings.limits.shutdown_wait = Duration::ZERO).await;
    let held = plane.create_ready().await;
    let waiting = [plane.create().await, plane.create().await, plane.create().await];
    // As a kill leaves it: the rows are copied while it runs.
    let copy = Home::new();
    let settings = plane.copy_to(&copy);
    let one = Capacity { sessions: 1, pixels_per_second: u64::MAX, ..Capacity::default() };
    let after = Plane::start_beside(copy, settings, |script| script.capacity = one).await;
    let ended = after.session(&held.0, &held.1).await;
    assert_eq!(ended["state"]["reason"], "service_restarted");
    let mut links = Vec::new();
    for (id, token) in &waiting {
        links.push(after.link(id, token).await);
    }
    // The one whose game ended with the process has left its place to the first.
    for (number, (id, token)) in waiting.iter().enumerate() {
        let player = after.client.with_token(token);
        until(&format!("number {number} has his turn"), async || {
            player.send("POST", &format!("/v1/sessions/{id}/accept"), "").await;
            after.session(id, token).await["state"]["state"] == "ready"
        })
        .await;
        leave(&after, &waiting[number]).await;
    }
    assert_eq!(after.node.read(|script| script.most_desired), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_waits_for_its_own_while_another_is_served() {
    let plane = plane_with(10, |_| ()).await;
    let operator = plane.client.with_token(&plane.operator_token());
    let (studio, house) = (plane.create_tenant("studio").await, plane.create_tenant("house").await);
    for (app, tenant) in [("quake", &studio), ("chess", &house)] {
        release(&plane.client.with_token(tenant), app, package_of(app).path()).await;
    }
    let path = "/v1/tenants/studio/grant";
    let json = operator.with("content-type", "application/json");
    let bad = json.send("PUT", path, r#"{"guarantee": 2, "weight": 0}"#).await;
    assert_eq!((bad.status, bad.problem().as_str()), (400, "invalid_request"));
    let nobody = json.send("PUT", "/v1/tenants/nobody/grant", r#"{"guarantee": 2}"#).await;
    assert_eq!(nobody.problem(), "tenant_unknown");
    let granted = json.send("PUT", path, r#"{"guarantee": 2}"#).await;
    assert_eq!((granted.status, &granted.json()["weight"]), (200, &1.into()), "{}", granted.text());

    let first = plane.create_of("quake").await;
    plane.create_of("quake").await;
    let third = plane.create_of("quake").await;
    let mut link = plane.link(&third.0, &third.1).await;
    assert_eq!(link.until_state("queued").await["state"]["cause"], "quota");
    let place = queue(&mut link).await;
    assert!(place["sentence"].as_str().unwrap().starts_with("All 2 places that were ordered"), "{place}");
    let chess = plane.create_of("chess").await;
    plane.until_state(&chess.0, &chess.1, "ready").await;
    leave(&plane, &first).await;
    link.until_state("offered").await;
    // More is ordered: nobody has to leave for the next.
    let fourth = plane.create_of("quake").await;
    assert_eq!(plane.session(&fourth.0, &fourth.1).await["state"]["state"], "queued");
    json.send("PUT", path, r#"{"guarantee": 3}"#).await;
    plane.until_state(&fourth.0, &fourth.1, "offered").await;
}

#[tokio::test]
async fn a_cordoned_node_takes_nothing_new_and_a_session_waits_for_it() {
    let plane = plane_with(2, |_| ()).await;
    let operator = plane.client.with_token(&plane.operator_token()).with("content-type", "application/json");
    let playing = plane.create_ready().await;
    let nodes = operator.get("/v1/nodes").await.json();
    let node = &nodes["nodes"][0];
    assert_eq!(
        (&node["health"], &node["places"], &node["sessions"]),
        (&"alive".into(), &2.into(), &1.into()),
        "{node}"
    );
    let duty = format!("/v1/nodes/{}/duty", node["id"].as_str().unwrap());
    let cordoned = operator.send("PUT", &duty, r#"{"duty": "cordoned"}"#).await;
    assert_eq!((cordoned.status, &cordoned.json()["duty"]), (200, &"cordoned".into()));
    let refused = plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no_node"), "nothing else is there");
    assert_eq!(plane.session(&playing.0, &playing.1).await["state"]["state"], "ready", "what runs goes on");
    operator.send("PUT", &duty, r#"{"duty": "active"}"#).await;
    plane.create_ready().await;
    let unknown = operator.send("PUT", "/v1/nodes/nod_nothing/duty", r#"{"duty": "active"}"#).await;
    assert_eq!(unknown.problem(), "node_unknown");
}

#[tokio::test]
async fn what_a_link_may_say_stays_bounded() {
    let plane = plane_with(1, |_| ()).await;
    let (id, token) = plane.create_ready().await;
    let mut link = plane.link(&id, &token).await;
    link.say(r#"{"type": "accept", "more": 1}"#).await;
    assert_eq!(link.closed().await, "not_understood");
}
