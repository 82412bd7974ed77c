//! The way to sites: who may measure it, how often, and what becomes of what clients say.

use std::time::Duration;

use api::node::Capacity;
use serde_json::json;

use crate::support::{Home, Plane, until};

const OFFER: &str = "v=0\r\ns=-\r\n";

async fn measure(plane: &Plane, site: &str) -> crate::support::client::Reply {
    let client = plane.client.with("content-type", "application/sdp");
    client.send("POST", &format!("/v1/sites/{site}/probe"), OFFER).await
}

async fn until_listed(plane: &Plane, sites: serde_json::Value) {
    until("the sites are known", async || plane.client.get("/v1/sites").await.json() == json!({ "sites": sites }))
        .await;
}

#[tokio::test]
async fn sites_with_an_echo_are_listed_and_answer() {
    let plane = Plane::start().await;
    until_listed(&plane, json!([{ "name": "local" }])).await;
    let answer = measure(&plane, "local").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/sdp"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.text(), format!("v=0\r\ns=answer to {} bytes\r\n", OFFER.len()));
    let foreign = measure(&plane, "nowhere").await;
    assert_eq!((foreign.status, foreign.problem()), (404, "site_unknown".to_owned()));
    let client = plane.client.with("content-type", "application/sdp");
    let bad = client.send("POST", "/v1/sites/local/probe", "v=0 nonsense").await;
    assert_eq!((bad.status, bad.problem()), (400, "invalid_offer".to_owned()));
    let detail = bad.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "The offer cannot be used to measure: there is no video section.");
    let none = client.send("POST", "/v1/sites/local/probe", "nothing").await;
    assert_eq!(none.problem(), "invalid_offer");

    plane.node.change(|script| script.busy = true);
    let busy = measure(&plane, "local").await;
    assert_eq!((busy.status, busy.problem()), (503, "site_busy".to_owned()));
    // As nodes of earlier versions are: nothing is sent to them.
    plane.node.change(|script| script.echo = false);
    until_listed(&plane, json!([])).await;
    assert_eq!(measure(&plane, "local").await.problem(), "site_unknown");
}

#[tokio::test]
async fn only_those_measure_who_may_play_and_not_without_end() {
    let plane = Plane::start_with(|settings| {
        settings.limits.creation_burst = 1;
        settings.limits.creations_per_minute = 1;
    })
    .await;
    for _ in 0..8 {
        assert_eq!(measure(&plane, "local").await.status, 200);
    }
    let often = measure(&plane, "local").await;
    assert_eq!((often.status, often.problem()), (429, "rate_limited".to_owned()));
    assert!(!often.header("retry-after").is_empty());
    assert_eq!(plane.create().await.0.len(), 36, "sessions are counted on their own");

    let closed = Plane::start_with(|settings| settings.guests = false).await;
    assert_eq!(measure(&closed, "local").await.problem(), "token_missing");
    assert_eq!(closed.client.get("/v1/sites").await.problem(), "token_missing");
    assert_eq!(closed.client.with_token(&closed.operator_token()).get("/v1/sites").await.status, 200);
}

#[tokio::test]
async fn a_session_says_what_was_measured_and_nonsense_is_refused() {
    let plane = Plane::start().await;
    let say = async |probes: serde_json::Value| {
        plane.client.post_json("/v1/sessions", json!({ "app": "pong", "probes": probes }).to_string()).await
    };
    let way = |site: &str, us: u32, loss: u32| json!({ "site": site, "round_trip_us": us, "loss_permille": loss });
    let created = say(json!([way("local", 12_500, 30), way("nowhere", 1, 0)])).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    let placement = plane.client.with_token(token).get(&format!("/v1/sessions/{id}/placement")).await.json();
    let said = json!([{ "site": "local", "verdict": "chosen", "detail": "it is here", "round_trip_us": 12_500, "loss_permille": 30 }]);
    assert_eq!(placement["sites"], said);

    let many: Vec<_> = (0..65).map(|number| way(&format!("site-{number}"), 1, 0)).collect();
    for bad in [
        json!(many),
        json!([way("local", 1, 0), way("local", 2, 0)]),
        json!([way("local", 10_000_001, 0)]),
        json!([way("local", 1, 1001)]),
        json!([{ "site": "local" }]),
        json!([{ "site": "local", "round_trip_us": 1, "loss_permille": 0, "hops": 3 }]),
        json!([{ "site": "local", "round_trip_us": -1, "loss_permille": 0 }]),
        json!("near"),
    ] {
        let refused = say(bad.clone()).await;
        assert_eq!((refused.status, refused.problem()), (400, "invalid_request".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn who_waits_keeps_what_he_measured_over_a_restart() {
    let one = Capacity { sessions: 1, pixels_per_second: u64::MAX, ..Capacity::default() };
    let plane = Plane::start_with(|settings| settings.limits.shutdown_wait = Duration::ZERO).await;
    plane.node.change(|script| script.capacity = one);
    until("the capacity is known", async || plane.client.get("/v1/limits").await.json()["sessions"] == 1).await;
    plane.create_ready().await;
    let way = json!({ "site": "local", "round_trip_us": 12_500, "loss_permille": 30 });
    let body = json!({ "app": "pong", "probes": [way] }).to_string();
    let created = plane.client.post_json("/v1/sessions", body).await.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    let waits_so = async |plane: &Plane| {
        let placement = plane.client.with_token(token).get(&format!("/v1/sessions/{id}/placement")).await.json();
        let site = &placement["queue"]["sites"][0];
        (site["verdict"].clone(), site["round_trip_us"].clone()) == (json!("full"), json!(12_500))
    };
    until("he waits, and is told how far it is", async || waits_so(&plane).await).await;
    // As a kill leaves it: the rows are copied while it runs.
    let copy = Home::new();
    let settings = plane.copy_to(&copy);
    // What played ends with its process: it is his turn, and the new process knows how far the site is from the row alone.
    let after = Plane::start_beside(copy, settings, |script| script.capacity = one).await;
    // It is offered to him, or his at once where it was free before anybody looked.
    until("he has a place", async || {
        let state = after.session(id, token).await["state"]["state"].clone();
        state != "queued" && state != "requested"
    })
    .await;
    let placement = after.client.with_token(token).get(&format!("/v1/sessions/{id}/placement")).await.json();
    let site = &placement["sites"][0];
    assert_eq!((&site["verdict"], &site["round_trip_us"]), (&json!("chosen"), &json!(12_500)), "{placement}");
}
