//! The link.

use std::time::{Duration, Instant};

use api::node::PlayerPresence;
use api::session::EndReason;
use api::streamer::StreamStatistics;

use crate::support::{Plane, until};

#[tokio::test]
async fn each_change_is_pushed_once_and_in_order() {
    let plane = Plane::start().await;
    let (id, token) = plane.create().await;
    let mut link = plane.link(&id, &token).await;
    let first = link.message("session").await["session"].clone();
    assert_eq!(first["id"], id.as_str());
    let mut revision = first["revision"].as_u64().unwrap();
    if first["state"]["state"] != "ready" {
        revision = link.until_state("ready").await["revision"].as_u64().unwrap();
    }
    let changes = [
        (PlayerPresence::Connected, "connected"),
        (PlayerPresence::Lost, "reconnecting"),
        (PlayerPresence::Connected, "connected"),
    ];
    for (player, state) in changes {
        let started = Instant::now();
        plane.node.player(0, player);
        let session = link.message("session").await["session"].clone();
        assert!(started.elapsed() < Duration::from_millis(900), "{:?}: on the signal", started.elapsed());
        assert_eq!(session["state"]["state"], state);
        assert_eq!(session["revision"], revision + 1);
        revision += 1;
    }
    plane.node.figures(0, StreamStatistics { video_kbps: 77, ..StreamStatistics::default() });
    assert_eq!(link.message("statistics").await["statistics"]["stream"]["video_kbps"], 77);
    plane.node.end(0, EndReason::GameCrashed);
    let ended = link.until_state("ended").await;
    assert_eq!(ended["state"]["reason"], "game_crashed");
    assert_eq!(link.closed().await, "game_crashed");
    // Whoever comes late hears the end too.
    let mut late = plane.link(&id, &token).await;
    assert_eq!(late.until_state("ended").await["state"]["reason"], "game_crashed");
    assert_eq!(late.closed().await, "game_crashed");
}

#[tokio::test]
async fn leaving_over_the_link_ends_the_session() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let mut link = plane.link(&id, &token).await;
    link.say(r#"{"type": "leave"}"#).await;
    assert_eq!(link.until_state("ended").await["state"]["reason"], "player_left");
    assert_eq!(link.closed().await, "player_left");
}

#[tokio::test]
async fn nonsense_closes_the_link_and_nothing_else() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&id, &token, "connected").await;
    for nonsense in ["", "leave", r#"{"type": "dance"}"#, r#"{"type": "leave", "more": 1}"#, "[[[[[[[["] {
        let mut link = plane.link(&id, &token).await;
        link.say(nonsense).await;
        assert_eq!(link.closed().await, "not_understood", "{nonsense}");
    }
    let mut link = plane.link(&id, &token).await;
    link.say(&"x".repeat(5000)).await;
    link.closed().await;
    assert_eq!(plane.session(&id, &token).await["state"]["state"], "connected");
}

#[tokio::test]
async fn presence_ends_what_was_never_played_and_not_what_is() {
    let plane = Plane::start_with(|settings| settings.limits.link_grace = Duration::from_millis(300)).await;
    let (waiting, waiting_token) = plane.create_ready().await;
    let (playing, playing_token) = plane.create_ready().await;
    let (without, without_token) = plane.create_ready().await;
    plane.node.player(1, PlayerPresence::Connected);
    plane.until_state(&playing, &playing_token, "connected").await;
    for (id, token) in [(&waiting, &waiting_token), (&playing, &playing_token)] {
        let mut link = plane.link(id, token).await;
        link.message("session").await;
        drop(link);
    }
    let ended = plane.until_state(&waiting, &waiting_token, "ended").await;
    assert_eq!(ended["state"]["reason"], "player_left");
    assert_eq!(plane.session(&playing, &playing_token).await["state"]["state"], "connected");
    assert_eq!(plane.session(&without, &without_token).await["state"]["state"], "ready", "it never had a link");
    // A page that reloads comes back in time.
    let (reloading, token) = plane.create_ready().await;
    drop(plane.link(&reloading, &token).await);
    let _back = plane.link(&reloading, &token).await;
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert_eq!(plane.session(&reloading, &token).await["state"]["state"], "ready");
}

#[tokio::test]
async fn links_of_one_session_are_bounded() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(plane.link(&id, &token).await);
    }
    assert_eq!(plane.client.link(&id, &token).await.err(), Some(429));
    links.clear();
    until("the links are seen gone", async || plane.client.link(&id, &token).await.is_ok()).await;
}

#[tokio::test]
async fn the_server_pings() {
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::Message;
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let mut link = plane.link(&id, &token).await;
    let pinged = async {
        while let Some(Ok(message)) = link.socket.next().await {
            if matches!(message, Message::Ping(_)) {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(15), pinged).await.unwrap());
}
