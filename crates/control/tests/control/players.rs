//! Players: made once, known by their token, with a history of their own that they can erase.

use std::time::Duration;

use api::session::EndReason;
use serde_json::Value;

use crate::support::{Client, Plane, until};

const PONG: &str = r#"{"app": "pong"}"#;

async fn plays(client: &Client, path: &str) -> Vec<Value> {
    let reply = client.get(path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["plays"].as_array().unwrap().clone()
}

fn ids(plays: &[Value]) -> Vec<&str> {
    plays.iter().map(|play| play["session"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_player_is_made_once_and_known_by_his_token() {
    let plane = Plane::start().await;
    let created = plane.client.send("POST", "/v1/players", "").await;
    assert_eq!(created.header("cache-control"), "no-store");
    assert_eq!(created.header("location"), "/v1/players/me");
    let token = created.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("kpl_"), "scanners for leaked secrets find it");
    let me = plane.client.with_token(&token).get("/v1/players/me").await;
    assert_eq!(me.json(), created.json()["player"], "and the token is shown once");
    let id = me.json()["id"].as_str().unwrap().to_owned();
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(operator.get(&format!("/v1/players/{id}")).await.json(), me.json());
    let (dir, settings, _) = plane.stop().await;
    let database = dir.database_bytes();
    assert!(!database.windows(token.len()).any(|window| window == token.as_bytes()), "only its hash is kept");
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(
        plane.client.with_token(&token).get("/v1/players/me").await.json()["id"],
        id,
        "a restart changes nothing"
    );
}

#[tokio::test]
async fn a_history_tells_what_was_played_where_and_why_it_ended() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_player().await;
    let (_, other) = plane.create_player().await;
    let (first, _) = plane.play(&token).await;
    plane.node.end(0, EndReason::GameCrashed);
    let (_, nobody) = plane.create_ready().await;
    plane.play(&other).await;
    let (second, _) = plane.play(&token).await;
    let himself = plane.client.with_token(&token);
    until("the first has ended", async || plays(&himself, "/v1/players/me/plays").await[1]["ended_at"].is_string())
        .await;
    let mine = plays(&himself, "/v1/players/me/plays").await;
    assert_eq!(ids(&mine), [second.as_str(), &first], "newest first, and nobody else's");
    let (live, ended) = (&mine[0], &mine[1]);
    for play in [live, ended] {
        assert_eq!((play["app"].as_str(), play["title"].as_str()), (Some("pong"), Some("Pong")));
        assert_eq!(play["node"], "nod_00000000000000000000000000000001");
        assert_eq!(play["release"], Value::Null);
    }
    assert_eq!((&live["ended_at"], &live["reason"], &live["party"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(live["sentence"], "The game is ready for you.");
    assert_eq!((ended["reason"].as_str(), ended["party"].as_str()), (Some("game_crashed"), Some("game")));
    assert!(ended["sentence"].as_str().unwrap().starts_with("The game crashed."));
    assert!(ended["started_at"].as_str() <= ended["ended_at"].as_str());
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(plays(&operator, &format!("/v1/players/{id}/plays")).await, mine);
    assert_eq!(plane.client.with_token(&nobody).get("/v1/players/me/plays").await.problem(), "forbidden");
}

#[tokio::test]
async fn a_game_that_is_offered_no_more_stays_in_the_history() {
    let plane = Plane::start().await;
    let (_, token) = plane.create_player().await;
    plane.play(&token).await;
    let (dir, settings, _) = plane.stop().await;
    std::fs::remove_dir_all(dir.path().join("games/pong")).unwrap();
    let plane = Plane::start_in(dir, settings).await;
    let mine = plays(&plane.client.with_token(&token), "/v1/players/me/plays").await;
    assert_eq!((mine[0]["app"].as_str(), &mine[0]["title"]), (Some("pong"), &Value::Null));
    assert_eq!(mine[0]["reason"], "service_stopped");
}

#[tokio::test]
async fn a_history_comes_in_pages() {
    let plane = Plane::start().await;
    let (_, token) = plane.create_player().await;
    let himself = plane.client.with_token(&token);
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(plane.play(&token).await.0);
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/players/me/plays?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let page = plays(&himself, &path).await;
        let Some(last) = page.last() else { break };
        path = format!("/v1/players/me/plays?before={}&limit=3", last["session"].as_str().unwrap());
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        pages += 1;
    }
    assert_eq!((seen, pages), (made, 3));
    assert_eq!(plays(&himself, "/v1/players/me/plays?limit=100").await.len(), 7);
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "before=x",
        "before=ply_00000000000000000000000000000001",
        "page=2",
    ] {
        let reply = himself.get(&format!("/v1/players/me/plays?{wrong}")).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid_request"), "{wrong}");
    }
}

#[tokio::test]
async fn erasing_forgets_the_player_and_whose_the_plays_were() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_player().await;
    let (session, session_token) = plane.play(&token).await;
    let himself = plane.client.with_token(&token);
    let busy = himself.delete("/v1/players/me").await;
    assert_eq!((busy.status, busy.problem().as_str()), (409, "player_busy"));
    assert_eq!(himself.get("/v1/players/me").await.status, 200);
    plane.end(&session, &session_token).await;
    assert_eq!(himself.delete("/v1/players/me").await.status, 204);
    for reply in [himself.get("/v1/players/me").await, himself.post_json("/v1/sessions", PONG).await] {
        assert_eq!((reply.status, reply.problem().as_str()), (401, "token_unknown"));
    }
    let operator = plane.client.with_token(&plane.operator_token());
    for path in [format!("/v1/players/{id}"), format!("/v1/players/{id}/plays"), "/v1/players/nonsense".to_owned()] {
        let reply = operator.get(&path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, "player_unknown"), "{path}");
    }
    assert_eq!(plane.session(&session, &session_token).await["state"]["state"], "ended", "the session itself stays");
    let (dir, _settings, _) = plane.stop().await;
    let database = dir.database_bytes();
    let holds = |text: &str| database.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&session) && !holds(&id), "nor does the file hold him where rows were");
}

#[tokio::test]
async fn the_operator_erases_too() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_player().await;
    let (session, session_token) = plane.play(&token).await;
    let operator = plane.client.with_token(&plane.operator_token());
    let path = format!("/v1/players/{id}");
    assert_eq!(operator.delete(&path).await.problem(), "player_busy");
    plane.end(&session, &session_token).await;
    assert_eq!(operator.delete(&path).await.status, 204);
    assert_eq!(operator.delete(&path).await.problem(), "player_unknown");
    assert_eq!(plane.client.with_token(&token).get("/v1/players/me").await.problem(), "token_unknown");
}

/// Whatever the order, a session is never of a player who is not there.
#[tokio::test]
async fn a_play_and_an_erasure_at_once_leave_no_orphan() {
    let plane = Plane::start().await;
    for _ in 0..20 {
        let (id, token) = plane.create_player().await;
        let himself = plane.client.with_token(&token);
        let (played, erased) = tokio::join!(himself.post_json("/v1/sessions", PONG), himself.delete("/v1/players/me"));
        match (played.status, erased.status) {
            (201, 409) => assert_eq!(plays(&himself, "/v1/players/me/plays").await.len(), 1),
            (401, 204) => {}
            other => panic!("{id}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_player_has_no_more_places_from_elsewhere_and_an_address_none_by_more_players() {
    let plane = Plane::start_with(|settings| {
        settings.limits.sessions_per_player = 1;
        settings.behind_proxy = true;
    })
    .await;
    let (_, first) = plane.create_player().await;
    let (_, second) = plane.create_player().await;
    let play = async |token: &str, address: &str| {
        let reply =
            plane.client.with_token(token).with("x-forwarded-for", address).post_json("/v1/sessions", PONG).await;
        (reply.status, reply.text())
    };
    assert_eq!(play(&first, "198.51.100.1").await.0, 201);
    let (status, text) = play(&first, "198.51.100.2").await;
    assert!(status == 429 && text.contains("1 sessions of yours"), "{text}");
    let (status, text) = play(&second, "198.51.100.1").await;
    assert!(status == 429 && text.contains("from your address"), "{text}");
    assert_eq!(play(&second, "198.51.100.2").await.0, 201);
}

#[tokio::test]
async fn players_are_not_made_without_end() {
    let plane = Plane::start_with(|settings| {
        settings.limits.creation_burst = 3;
        settings.limits.creations_per_minute = 1;
    })
    .await;
    for _ in 0..3 {
        plane.create_player().await;
    }
    let often = plane.client.send("POST", "/v1/players", "").await;
    assert_eq!((often.status, often.problem().as_str()), (429, "rate_limited"));
    assert!((50..=60).contains(&often.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(plane.client.post_json("/v1/sessions", PONG).await.status, 201, "sessions are counted on their own");
    let operator = plane.client.with_token(&plane.operator_token());
    assert_eq!(operator.send("POST", "/v1/players", "").await.status, 201, "the operator is not held back");
}

#[tokio::test]
async fn without_guests_the_players_of_the_operator_alone_play() {
    let plane = Plane::start().await;
    let (_, guest) = plane.create_player().await;
    let (dir, mut settings, _) = plane.stop().await;
    settings.guests = false;
    let plane = Plane::start_in(dir, settings).await;
    let refused = plane.client.send("POST", "/v1/players", "").await;
    assert_eq!((refused.status, refused.problem().as_str()), (401, "token_missing"));
    let operator = plane.client.with_token(&plane.operator_token());
    let created = operator.send("POST", "/v1/players", "").await.json();
    plane.play(created["token"].as_str().unwrap()).await;
    let guest = plane.client.with_token(&guest);
    let refused = guest.post_json("/v1/sessions", PONG).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"));
    assert!(refused.text().contains("Guests may not play"), "{}", refused.text());
    assert_eq!(guest.get("/v1/players/me/plays").await.status, 200, "what is kept of him he may see");
    assert_eq!(guest.delete("/v1/players/me").await.status, 204, "and erase");
}

#[tokio::test]
async fn plays_of_players_are_kept_longer_than_those_of_nobody() {
    let plane = Plane::start().await;
    let (_, token) = plane.create_player().await;
    let (_, never_back) = plane.create_player().await;
    plane.play(&token).await;
    let (nobodys, nobody) = plane.create_ready().await;
    let (dir, mut settings, _) = plane.stop().await;
    settings.limits.history = Duration::from_millis(1);
    let plane = Plane::start_in(dir, settings).await;
    until("the session of nobody is forgotten", async || {
        plane.client.with_token(&nobody).get(&format!("/v1/sessions/{nobodys}")).await.status == 401
    })
    .await;
    let himself = plane.client.with_token(&token);
    assert_eq!(plays(&himself, "/v1/players/me/plays").await.len(), 1);
    let never_back = plane.client.with_token(&never_back);
    until("who never played is forgotten", async || never_back.get("/v1/players/me").await.status == 401).await;
    let (dir, mut settings, _) = plane.stop().await;
    settings.limits.plays = Duration::from_millis(1);
    let plane = Plane::start_in(dir, settings).await;
    let himself = plane.client.with_token(&token);
    until("the player is forgotten, with his plays", async || himself.get("/v1/players/me").await.status == 401).await;
}
