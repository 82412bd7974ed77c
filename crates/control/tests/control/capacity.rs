//! Who gets a place, and what the others are told.

use api::node::{Capacity, NodeRefusal};

use crate::support::{BARE, Home, PONG_PIXELS, Plane, settings, until};

const PONG: &str = r#"{"app": "pong"}"#;

fn capacity(sessions: u32, pongs: u64) -> Capacity {
    Capacity { sessions, pixels_per_second: pongs * PONG_PIXELS, ..Capacity::default() }
}

async fn set(plane: &Plane, capacity: Capacity, refuses: Option<NodeRefusal>) {
    // One refusal after another is known by its words.
    let (status, says) = match &refuses {
        None => ("ok", ""),
        Some(NodeRefusal::DiskFull { .. }) => ("degraded", "disk space"),
        Some(NodeRefusal::Stopping) => ("degraded", "being stopped"),
    };
    plane.node.change(|script| {
        script.capacity = capacity;
        script.refuses = refuses;
    });
    until("the capacity is known", async || {
        let limits = plane.client.get("/v1/limits").await.json();
        let health = plane.client.get("/healthz").await.json();
        let is_said = health["status"] == status && health["detail"].as_str().unwrap_or_default().contains(says);
        limits["sessions"] == capacity.sessions && (is_said || limits["sessions_used"] != 0)
    })
    .await;
}

/// Ids and tokens of sessions that are all asked for at once.
async fn ask_at_once(plane: &Plane, count: usize) -> Vec<(String, String)> {
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..count {
        let client = plane.client.clone();
        tries.spawn(async move { client.post_json("/v1/sessions", PONG).await });
    }
    let replies = tries.join_all().await;
    let mut sessions: Vec<_> = replies
        .iter()
        .map(|reply| {
            assert_eq!(reply.status, 201, "{}", reply.text());
            let json = reply.json();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&json["session"]["id"]), text(&json["token"]))
        })
        .collect();
    // In the order of their coming.
    sessions.sort();
    sessions
}

async fn states(plane: &Plane, sessions: &[(String, String)]) -> Vec<String> {
    let mut states = Vec::new();
    for (id, token) in sessions {
        states.push(plane.session(id, token).await["state"]["state"].as_str().unwrap().to_owned());
    }
    states
}

#[tokio::test]
async fn concurrent_claims_never_exceed_what_the_node_holds_and_everybody_has_his_turn() {
    for (round, held) in [capacity(1, 10), capacity(3, 10), capacity(10, 4), capacity(7, 7)].into_iter().enumerate() {
        let plane = Plane::start().await;
        set(&plane, held, None).await;
        let most = u64::from(held.sessions).min(held.pixels_per_second / PONG_PIXELS) as usize;
        let sessions = ask_at_once(&plane, 16).await;
        let waits = states(&plane, &sessions).await.iter().filter(|state| *state == "queued").count();
        assert_eq!(waits, 16 - most, "round {round}");
        let limits = plane.client.get("/v1/limits").await.json();
        assert_eq!((&limits["sessions_used"], &limits["sessions_waiting"]), (&most.into(), &waits.into()));
        // Whoever plays leaves, whoever is offered a place takes it.
        let mut served = Vec::new();
        until("everybody has played", async || {
            for ((id, token), state) in sessions.iter().zip(states(&plane, &sessions).await) {
                let player = plane.client.with_token(token);
                match state.as_str() {
                    "offered" => {
                        assert_eq!(player.send("POST", &format!("/v1/sessions/{id}/accept"), "").await.status, 200)
                    }
                    "ready" => {
                        served.push(id.clone());
                        assert_eq!(player.delete(&format!("/v1/sessions/{id}")).await.status, 200);
                    }
                    _ => {}
                }
            }
            states(&plane, &sessions).await.iter().all(|state| state == "ended")
        })
        .await;
        assert_eq!(served.len(), 16, "each once");
        let (wished, pixels) = plane.node.read(|script| (script.most_desired, script.most_pixels));
        assert!(wished <= most, "{wished} instances were wished at once, of {most}");
        assert!(pixels <= held.pixels_per_second);
    }
}

#[tokio::test]
async fn refusals_say_why() {
    let plane = Plane::start_with(|settings| settings.limits.queue_length = 1).await;
    let check = async |held: Capacity, refuses: Option<NodeRefusal>, kind: &str, says: &str| {
        set(&plane, held, refuses).await;
        let reply = plane.client.post_json("/v1/sessions", PONG).await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, kind), "{}", reply.text());
        assert!(reply.json()["detail"].as_str().unwrap().contains(says), "{}", reply.text());
    };
    let disk = NodeRefusal::DiskFull { free_mb: 12, needed_mb: 4096 };
    check(capacity(5, 5), Some(disk), "disk_full", "12 MiB of disk space left").await;
    check(capacity(5, 5), Some(NodeRefusal::Stopping), "service_stopping", "being stopped").await;
    check(
        Capacity { sessions: 5, pixels_per_second: PONG_PIXELS - 1, ..Capacity::default() },
        None,
        "no_capacity",
        "too small",
    )
    .await;
    set(&plane, capacity(2, 5), None).await;
    plane.create_ready().await;
    plane.create_ready().await;
    plane.create().await;
    let full = plane.client.post_json("/v1/sessions", PONG).await;
    assert_eq!((full.status, full.problem().as_str()), (503, "no_capacity"));
    assert!(full.header("retry-after").parse::<u32>().is_ok());
    assert!(full.text().contains("1 are waiting, which is the limit"), "{}", full.text());
}

#[tokio::test]
async fn an_app_of_a_class_that_no_machine_has_is_refused_until_one_has_it() {
    let dir = Home::new();
    let mut settings = settings(&dir);
    let package = dir.path().join("games/drawn");
    std::fs::create_dir_all(&package).unwrap();
    let manifest = format!("{BARE}\n[spec]\nclass = \"gpu\"\n").replace("\"bare\"", "\"drawn\"");
    std::fs::write(package.join("kite.toml"), manifest).unwrap();
    let plane = Plane::start_in(dir, settings.clone()).await;
    assert_eq!(plane.client.get("/v1/apps/drawn").await.json()["class"], "gpu");
    let refused = plane.client.post_json("/v1/sessions", r#"{"app": "drawn"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no_capacity"));
    assert!(refused.text().contains("local: it has no machines of this class"), "{}", refused.text());
    // The machine is given another class by its configuration.
    let (dir, ..) = plane.stop().await;
    settings.embedded_class = "gpu".to_owned();
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(plane.client.post_json("/v1/sessions", r#"{"app": "drawn"}"#).await.status, 201);
    let refused = plane.client.post_json("/v1/sessions", PONG).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no_capacity"));
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
