//! Who gets a place, and what the others are told.

use std::collections::BTreeMap;

use api::node::{Capacity, NodeRefusal};

use crate::support::{PONG_PIXELS, Plane, until};

const PONG: &str = r#"{"app": "pong"}"#;

fn capacity(sessions: u32, pongs: u64) -> Capacity {
    Capacity { sessions, pixels_per_second: pongs * PONG_PIXELS }
}

async fn set(plane: &Plane, capacity: Capacity, refuses: Option<NodeRefusal>) {
    let status = if refuses.is_some() { "degraded" } else { "ok" };
    plane.node.change(|script| {
        script.capacity = capacity;
        script.refuses = refuses;
    });
    until("the capacity is known", async || {
        let limits = plane.client.get("/v1/limits").await.json();
        let health = plane.client.get("/healthz").await.json();
        limits["sessions"] == capacity.sessions && (health["status"] == status || limits["sessions_used"] != 0)
    })
    .await;
}

#[tokio::test]
async fn concurrent_claims_never_exceed_what_the_node_holds() {
    for (round, held) in [capacity(1, 10), capacity(3, 10), capacity(10, 4), capacity(7, 7)].into_iter().enumerate() {
        let plane = Plane::start().await;
        set(&plane, held, None).await;
        let most = u64::from(held.sessions).min(held.pixels_per_second / PONG_PIXELS);
        for wave in 0..4 {
            let mut tries = tokio::task::JoinSet::new();
            for _ in 0..16 {
                let client = plane.client.clone();
                tries.spawn(async move { client.post_json("/v1/sessions", PONG).await });
            }
            let replies = tries.join_all().await;
            let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
            for reply in &replies {
                *counts.entry(reply.status).or_default() += 1;
            }
            let expected = BTreeMap::from([(201, most), (503, 16 - most)]);
            assert_eq!(counts, expected, "round {round}, wave {wave}");
            for reply in replies.iter().filter(|reply| reply.status == 503) {
                assert_eq!(reply.problem(), "no_capacity");
                assert!(reply.header("retry-after").parse::<u32>().is_ok());
            }
            // Some leave, and exactly their places are free again.
            let operator = plane.client.with_token(&plane.operator_token());
            for reply in replies.iter().filter(|reply| reply.status == 201) {
                let id = reply.json()["session"]["id"].as_str().unwrap().to_owned();
                assert_eq!(operator.delete(&format!("/v1/sessions/{id}")).await.status, 200);
            }
            until("all places are free", async || plane.client.get("/v1/limits").await.json()["sessions_used"] == 0)
                .await;
        }
        let (wished, pixels) = plane.node.read(|script| (script.most_desired as u64, script.most_pixels));
        assert!(wished <= most, "{wished} instances were wished at once, of {most}");
        assert!(pixels <= held.pixels_per_second);
    }
}

#[tokio::test]
async fn refusals_say_why() {
    let plane = Plane::start().await;
    let check = async |held: Capacity, refuses: Option<NodeRefusal>, kind: &str, says: &str| {
        set(&plane, held, refuses).await;
        let reply = plane.client.post_json("/v1/sessions", PONG).await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, kind), "{}", reply.text());
        assert!(reply.json()["detail"].as_str().unwrap().contains(says), "{}", reply.text());
    };
    let disk = NodeRefusal::DiskFull { free_mb: 12, needed_mb: 4096 };
    check(capacity(5, 5), Some(disk), "disk_full", "12 MiB of disk space left").await;
    check(capacity(5, 5), Some(NodeRefusal::Stopping), "service_stopping", "being stopped").await;
    set(&plane, capacity(2, 5), None).await;
    plane.create_ready().await;
    plane.create_ready().await;
    let full = plane.client.post_json("/v1/sessions", PONG).await;
    assert!(full.text().contains("All places are taken: 2 of 2."), "{}", full.text());
    plane.node.change(|script| script.capacity = capacity(5, 2));
    until("the encoder is the limit", async || {
        plane.client.post_json("/v1/sessions", PONG).await.text().contains("million pixels a second")
    })
    .await;
}

#[tokio::test]
async fn one_player_may_neither_take_all_places_nor_ask_without_end() {
    let plane = Plane::start_with(|settings| {
        settings.limits.sessions_per_player = 2;
        settings.limits.creation_burst = 5;
        settings.limits.creations_per_minute = 1;
    })
    .await;
    let (first, token) = plane.create_ready().await;
    plane.create_ready().await;
    let third = plane.client.post_json("/v1/sessions", PONG).await;
    assert_eq!((third.status, third.problem().as_str()), (429, "too_many_sessions"));
    let forged = plane.client.with("x-forwarded-for", "198.51.100.7").post_json("/v1/sessions", PONG).await;
    assert_eq!(forged.problem(), "too_many_sessions", "without a proxy the header means nothing");
    plane.client.with_token(&token).delete(&format!("/v1/sessions/{first}")).await;
    plane.until_state(&first, &token, "ended").await;
    plane.create_ready().await;
    let often = plane.client.post_json("/v1/sessions", PONG).await;
    assert_eq!((often.status, often.problem().as_str()), (429, "rate_limited"));
    let wait: u32 = often.header("retry-after").parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(operator.post_json("/v1/sessions", PONG).await.status, 201, "the operator is not held back");
}

#[tokio::test]
async fn behind_a_proxy_players_are_told_apart() {
    let plane = Plane::start_with(|settings| {
        settings.limits.sessions_per_player = 1;
        settings.behind_proxy = true;
    })
    .await;
    let from = async |forwarded: &str| {
        plane.client.with("x-forwarded-for", forwarded).post_json("/v1/sessions", PONG).await.status
    };
    assert_eq!(from("198.51.100.1").await, 201);
    assert_eq!(from("198.51.100.2").await, 201);
    assert_eq!(from("198.51.100.2").await, 429);
    assert_eq!(from("203.0.113.9, 198.51.100.2").await, 429, "only the proxy's own entry counts");
}

#[tokio::test]
async fn without_guests_the_operator_alone_creates() {
    let plane = Plane::start_with(|settings| settings.guests = false).await;
    let guest = plane.client.post_json("/v1/sessions", PONG).await;
    assert_eq!((guest.status, guest.problem().as_str()), (401, "token_missing"));
    assert_eq!(guest.header("www-authenticate"), "Bearer");
    assert!(guest.text().contains("operator"));
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(operator.post_json("/v1/sessions", PONG).await.status, 201);
}
