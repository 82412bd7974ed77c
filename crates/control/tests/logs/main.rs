//! What is logged, at the finest level, while everything happens: no token, no address of a player, one line a transition.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test's support fails the test")]

#[path = "../control/support/mod.rs"]
#[expect(dead_code, reason = "shared with the other test program, which uses all of it")]
mod support;

use std::io;
use std::sync::{Arc, Mutex};

use api::node::PlayerPresence;
use api::session::EndReason;
use tracing_subscriber::fmt::MakeWriter;

use self::support::Plane;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_tell_the_story_and_no_secret() {
    let captured = Captured::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(captured.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let plane = Plane::start_with(|settings| settings.behind_proxy = true).await;
    let address = "198.51.100.77";
    let reply = plane.client.with("x-forwarded-for", address).post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    let created = reply.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    let player = plane.client.with("x-forwarded-for", address).with_token(token);
    plane.until_state(id, token, "ready").await;
    let mut link = plane.link(id, token).await;
    let offer = "v=0\r\na=candidate:1 1 udp 1 198.51.100.78 9 typ host\r\n";
    assert_eq!(player.post_sdp(&format!("/v1/sessions/{id}/whep"), offer).await.status, 201);
    plane.node.player(0, PlayerPresence::Connected);
    link.until_state("connected").await;
    // Mistakes that put a token where it does not belong.
    player.get(&format!("/v1/sessions/{id}?token={token}")).await;
    player.get(&format!("/v1/sessions/{token}")).await;
    player.get(&format!("/{token}")).await;
    plane.client.with_token(&format!("{token}x")).get("/v1/sessions").await;
    player.post_json("/v1/sessions", format!(r#"{{"app": "{token}"}}"#)).await;
    let of_player = plane.create_player().await.1;
    let himself = plane.client.with_token(&of_player);
    himself.get("/v1/players/me/plays").await;
    himself.get(&format!("/v1/players/{of_player}")).await;
    himself.get(&format!("/v1/players/me/plays?before={of_player}")).await;
    let operator = plane.operator_token();
    plane.client.with_token(&operator).get("/v1/sessions").await;
    plane.node.end(0, EndReason::StreamerFailed);
    link.until_state("ended").await;
    let plane_database = plane.dir.database.url();
    let (_dir, _settings, _took) = plane.stop().await;

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let database = plane_database.as_deref().and_then(|url| url.split(['@', ':']).nth(2));
    assert!(database.is_none_or(|password| !log.contains(password)), "the database's password is logged");
    for secret in [&token[4..], &of_player[4..], &operator[4..], address, "198.51.100.78", "candidate:1"] {
        assert!(!log.contains(secret), "{secret} is logged:\n{log}");
    }
    let info: Vec<&str> = log.lines().filter(|line| line.contains(" INFO ") && line.contains(id)).collect();
    let states: Vec<&str> = ["session created", "state=\"ready\"", "state=\"connected\"", "state=\"ended\""]
        .into_iter()
        .filter(|state| info.iter().filter(|line| line.contains(state)).count() == 1)
        .collect();
    assert_eq!(states.len(), 4, "one line a transition: {info:#?}");
    assert!(log.contains("reason=\"streamer_failed\" detail=\"scripted\""), "the operator reads why:\n{log}");
}
