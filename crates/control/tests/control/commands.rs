//! Commands: from the request to the end, by role, each on record, none stuck, none done twice.

use std::time::Duration;

use api::node::{CommandOutcome, CommandProgress, InstanceState, PlayerPresence};
use api::session::EndReason;
use serde_json::{Value, json};

use crate::content::{package_of, release};
use crate::support::{Client, Home, PIXEL, Plane, settings, until};

impl Plane {
    fn operator(&self) -> Client {
        self.client.with_token(&self.operator_token())
    }

    /// Asks for a command as the operator; its id.
    async fn ask(&self, session: &str, request: Value) -> String {
        let reply = self.operator().post_json(&format!("/v1/sessions/{session}/commands"), request.to_string()).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(reply.header("location"), format!("/v1/commands/{id}"));
        id
    }

    async fn command(&self, id: &str) -> Value {
        let reply = self.operator().get(&format!("/v1/commands/{id}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn until_done(&self, id: &str) -> Value {
        let is_over = |command: &Value| command.get("ended_at").is_some();
        until(&format!("{id} has ended"), async || is_over(&self.command(id).await)).await;
        self.command(id).await
    }

    async fn asked_and_done(&self, session: &str, request: Value) -> Value {
        let id = self.ask(session, request).await;
        self.until_done(&id).await
    }
}

fn exec() -> Value {
    json!({"action": "exec", "script": "0123456789\n"})
}

#[tokio::test]
async fn what_a_node_does_is_on_record_with_what_it_brought() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let done = plane.asked_and_done(&id, exec()).await;
    assert_eq!(
        (&done["state"], &done["by"]),
        (&json!({"state": "done", "exit": 3}), &json!({"role": "operator"})),
        "{done}"
    );
    assert_eq!(done["request"], json!({"action": "exec", "script": "0123456789\n", "timeout_s": 30}));
    assert_eq!((&done["session"], &done["app"], &done["duration_ms"]), (&json!(id), &json!("pong"), &json!(5)));
    assert_eq!(done["output"], json!({"kind": "text", "bytes": 110_000, "cut_bytes": 0}));
    let output = format!("/v1/commands/{}/output", done["id"].as_str().unwrap());
    let bytes = plane.operator().get(&output).await;
    assert_eq!((bytes.status, bytes.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!((bytes.header("cache-control"), bytes.header("x-content-type-options")), ("no-store", "nosniff"));
    assert_eq!(bytes.text(), "0123456789\n".repeat(10_000));
    assert!(plane.node.read(|script| script.begun.values().all(|times| *times == 1)));
    until("the node forgets it", async || plane.node.read(|script| script.asked.is_empty())).await;

    let logs = plane.asked_and_done(&id, json!({"action": "logs"})).await;
    let bytes = plane.operator().get(&format!("/v1/commands/{}/output", logs["id"].as_str().unwrap())).await;
    assert_eq!(bytes.body.as_ref(), b"no utf-8: \xff\xfe\n", "as it was written");
    let picture = plane.asked_and_done(&id, json!({"action": "screenshot"})).await;
    let bytes = plane.operator().get(&format!("/v1/commands/{}/output", picture["id"].as_str().unwrap())).await;
    assert_eq!((bytes.header("content-type"), bytes.body.as_ref()), ("image/png", PIXEL));

    // Newest first, a page at a time, of the session and of all.
    for path in [format!("/v1/sessions/{id}/commands"), "/v1/commands".to_owned()] {
        let list = plane.operator().get(&path).await.json();
        assert_eq!(list["commands"], json!([picture, logs, done]), "{path}");
        let page = plane.operator().get(&format!("{path}?limit=1&before={}", picture["id"].as_str().unwrap())).await;
        assert_eq!(page.json()["commands"], json!([logs]), "{path}");
        assert_eq!(plane.operator().get(&format!("{path}?limit=51")).await.problem(), "invalid_request");
    }
    // Who plays hears nothing of it.
    assert_eq!(plane.session(&id, &token).await["state"]["state"], "ready");
}

#[tokio::test]
async fn a_stop_ends_the_session_and_is_done_then() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.change(|script| script.stubborn = true);
    let stop = plane.ask(&id, json!({"action": "stop"})).await;
    plane.until_state(&id, &token, "stopping").await;
    until("it is at work", async || plane.command(&stop).await["state"]["state"] == "running").await;
    plane.node.end(0, EndReason::EndedByOperator);
    let done = plane.until_done(&stop).await;
    assert_eq!(done["state"], json!({"state": "done"}));
    assert_eq!(plane.session(&id, &token).await["state"]["reason"], "ended_by_operator");
    // Of a session that has ended there is nothing to do, and logs to read.
    assert_eq!(plane.asked_and_done(&id, json!({"action": "stop"})).await["state"]["state"], "done");
    assert_eq!(plane.asked_and_done(&id, json!({"action": "logs"})).await["state"]["state"], "done");
    for action in ["restart", "screenshot"] {
        let path = format!("/v1/sessions/{id}/commands");
        let reply = plane.operator().post_json(&path, json!({"action": action}).to_string()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (409, "session_ended"), "{action}");
    }
}

#[tokio::test]
async fn a_restart_goes_on_on_the_same_node_as_often_as_somebody_asks() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let mut link = plane.link(&id, &token).await;
    for epoch in 2..=7 {
        plane.node.player(0, PlayerPresence::Connected);
        plane.until_state(&id, &token, "connected").await;
        let restart = plane.ask(&id, json!({"action": "restart"})).await;
        // The page hears that it goes on.
        let stopping = link.until_state("stopping").await;
        assert_eq!(stopping["state"]["reason"], "restarted");
        link.until_state("reserved").await;
        assert_eq!(plane.until_done(&restart).await["state"], json!({"state": "done"}));
        let wish = plane.node.read(|script| script.desired[0].clone());
        assert_eq!((wish.epoch, wish.stop), (epoch, None));
        let place = plane.operator().get(&format!("/v1/sessions/{id}/placement")).await.json();
        assert_eq!((&place["epoch"], place["node"].is_string()), (&json!(epoch), true));
    }
    assert_eq!(plane.client.get("/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn a_restart_whose_start_fails_says_why() {
    let plane = Plane::start().await;
    let (id, _) = plane.create_ready().await;
    plane.node.change(|script| {
        script.start_at = InstanceState::Ended { reason: EndReason::GameStartFailed, detail: None };
    });
    let failed = plane.asked_and_done(&id, json!({"action": "restart"})).await;
    assert_eq!(failed["state"]["state"], "failed");
    assert!(failed["state"]["why"].as_str().unwrap().contains("game_start_failed"), "{failed}");
}

#[tokio::test]
async fn requests_are_bounded_and_what_cannot_be_done_is_refused() {
    let plane = Plane::start().await;
    let (id, _) = plane.create_ready().await;
    let path = format!("/v1/sessions/{id}/commands");
    let check = async |body: String, status: u16, problem: &str| {
        let reply = plane.operator().post_json(&path, body.clone()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, problem), "{}", &body[..body.len().min(100)]);
    };
    check(json!({"action": "launch"}).to_string(), 400, "invalid_request").await;
    check(json!({"action": "exec"}).to_string(), 400, "invalid_request").await;
    check(json!({"action": "exec", "script": "a\u{0}b"}).to_string(), 400, "invalid_request").await;
    check(json!({"action": "exec", "script": "x", "timeout_s": 301}).to_string(), 400, "invalid_request").await;
    check(json!({"action": "exec", "script": "x".repeat((64 << 10) + 1)}).to_string(), 400, "invalid_request").await;
    check(json!({"action": "exec", "script": "x".repeat(200 << 10)}).to_string(), 413, "too_large").await;
    check(json!({"action": "logs", "kib": 121}).to_string(), 400, "invalid_request").await;
    let long = plane.asked_and_done(&id, json!({"action": "exec", "script": "\n".repeat(64 << 10)})).await;
    assert_eq!(long["state"]["state"], "done", "the longest script");
    let waiting = {
        plane.node.change(|script| script.start_at = InstanceState::StreamerStarting);
        plane.node.change(|script| script.capacity.sessions = 1);
        until("the node is full", async || plane.client.get("/v1/limits").await.json()["sessions"] == 1).await;
        plane.create().await.0
    };
    let waiting = format!("/v1/sessions/{waiting}/commands");
    for action in ["restart", "screenshot", "logs"] {
        let reply = plane.operator().post_json(&waiting, json!({"action": action}).to_string()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (409, "not_running"), "{action}");
    }
    for (path, problem) in [
        ("/v1/sessions/ses_00000000000000000000000000000001/commands", "session_unknown"),
        ("/v1/sessions/nonsense/commands", "session_unknown"),
        ("/v1/commands/cmd_00000000000000000000000000000001", "command_unknown"),
        ("/v1/commands/nonsense/output", "command_unknown"),
    ] {
        let reply = plane.operator().get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, problem), "{path}");
    }
}

#[tokio::test]
async fn so_many_at_once_and_no_more() {
    let plane = Plane::start().await;
    let (id, _) = plane.create_ready().await;
    plane.node.change(|script| script.slow = true);
    for _ in 0..4 {
        plane.ask(&id, exec()).await;
    }
    let reply = plane.operator().post_json(&format!("/v1/sessions/{id}/commands"), exec().to_string()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (429, "too_many_commands"));
    let output = plane.operator().get("/v1/commands").await.json()["commands"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(plane.operator().get(&format!("/v1/commands/{output}/output")).await.problem(), "output_missing");
    until("the node has heard of all", async || plane.node.read(|script| script.commands.len() == 4)).await;
    plane.node.change(|script| {
        script.slow = false;
        for (progress, _) in script.commands.values_mut() {
            *progress =
                CommandProgress::Ended { outcome: CommandOutcome::TimedOut {}, output: None, duration_ms: 30_000 };
        }
    });
    let all = async || plane.operator().get("/v1/commands").await.json()["commands"].clone();
    until("all have ended", async || {
        all().await.as_array().unwrap().iter().all(|one| one["state"]["state"] == "timed_out")
    })
    .await;
    assert_eq!(plane.asked_and_done(&id, exec()).await["state"]["exit"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_commands_what_is_played_of_its_apps_and_others_find_nothing() {
    let plane = Plane::start().await;
    let (studio, other) = (plane.create_tenant("studio").await, plane.create_tenant("other").await);
    let (id, _) = plane.create_ready().await;
    // A directory's app is the operator's.
    for tenant in [&studio, &other] {
        let client = plane.client.with_token(tenant);
        let path = format!("/v1/sessions/{id}/commands");
        assert_eq!(client.post_json(&path, exec().to_string()).await.problem(), "session_unknown");
        assert_eq!(client.get(&path).await.problem(), "session_unknown");
        assert_eq!(client.get(&format!("/v1/sessions/{id}")).await.problem(), "session_unknown");
        assert_eq!(client.get("/v1/sessions").await.json()["sessions"], json!([]));
        let launched = client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
        assert_eq!(launched.problem(), "app_unknown");
    }
    release(&plane.client.with_token(&studio), "tetris", package_of("tetris").path()).await;
    let launched = plane.client.with_token(&studio).post_json("/v1/sessions", r#"{"app": "tetris"}"#).await;
    assert_eq!(launched.status, 201, "{}", launched.text());
    let id = launched.json()["session"]["id"].as_str().unwrap().to_owned();
    let token = launched.json()["token"].as_str().unwrap().to_owned();
    plane.until_state(&id, &token, "ready").await;
    let (client, stranger) = (plane.client.with_token(&studio), plane.client.with_token(&other));
    let path = format!("/v1/sessions/{id}/commands");
    let asked = client.post_json(&path, exec().to_string()).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let command = asked.json()["id"].as_str().unwrap().to_owned();
    let done = plane.until_done(&command).await;
    assert_eq!(done["by"], json!({"role": "tenant", "name": "studio"}));
    assert_eq!(client.get("/v1/commands").await.json()["commands"][0], done);
    assert_eq!(client.get(&format!("/v1/commands/{command}/output")).await.status, 200);
    assert_eq!(client.get("/v1/sessions").await.json()["sessions"][0]["id"], id.as_str());
    assert_eq!(stranger.get("/v1/commands").await.json()["commands"], json!([]));
    assert_eq!(stranger.get(&path).await.problem(), "session_unknown");
    assert_eq!(stranger.post_json(&path, exec().to_string()).await.problem(), "session_unknown");
    for path in [format!("/v1/commands/{command}"), format!("/v1/commands/{command}/output")] {
        assert_eq!(stranger.get(&path).await.problem(), "command_unknown");
    }
    // Players never, whosever session it is.
    let (_, player) = plane.create_player().await;
    for token in [token.as_str(), player.as_str()] {
        let reply = plane.client.with_token(token).post_json(&path, exec().to_string()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (403, "forbidden"));
    }
}

#[tokio::test]
async fn a_session_is_launched_for_a_player_by_who_may() {
    let plane = Plane::start().await;
    let (player, token) = plane.create_player().await;
    let body = json!({"app": "pong", "player": player}).to_string();
    let launched = plane.operator().post_json("/v1/sessions", body.clone()).await;
    assert_eq!(launched.status, 201, "{}", launched.text());
    let plays = plane.client.with_token(&token).get("/v1/players/me/plays").await.json();
    assert_eq!(plays["plays"][0]["session"], launched.json()["session"]["id"], "it stands in his history");
    for refused in [plane.client.clone(), plane.client.with_token(&token)] {
        assert_eq!(refused.post_json("/v1/sessions", body.clone()).await.problem(), "forbidden");
    }
    let nobody = json!({"app": "pong", "player": "ply_00000000000000000000000000000001"}).to_string();
    assert_eq!(plane.operator().post_json("/v1/sessions", nobody).await.problem(), "player_unknown");
}

#[tokio::test]
async fn a_node_that_is_gone_fails_its_commands() {
    let plane = Plane::start().await;
    let (id, _) = plane.create_ready().await;
    plane.node.change(|script| script.slow = true);
    let command = plane.ask(&id, exec()).await;
    until("it is at work", async || plane.command(&command).await["state"]["state"] == "running").await;
    plane.node.change(|script| script.gone = true);
    let failed = plane.until_done(&command).await;
    assert!(failed["state"]["why"].as_str().unwrap().contains("node was lost"), "{failed}");
}

#[tokio::test]
async fn a_service_that_starts_again_fails_what_it_had_begun_and_does_nothing_twice() {
    let plane = Plane::start().await;
    let (id, _) = plane.create_ready().await;
    plane.node.change(|script| script.slow = true);
    let command = plane.ask(&id, exec()).await;
    let restart = plane.ask(&id, json!({"action": "restart"})).await;
    until("it is at work", async || plane.command(&command).await["state"]["state"] == "running").await;
    // As after kill -9.
    let copy = Home::new();
    let settings = plane.copy_to(&copy);
    let again = Plane::start_in(copy, settings).await;
    let failed = again.until_done(&command).await;
    assert!(failed["state"]["why"].as_str().unwrap().contains("restarted"), "{failed}");
    assert!(again.node.read(|script| script.begun.is_empty()), "it was begun a second time");
    let restart = again.until_done(&restart).await;
    assert!(["failed", "done"].contains(&restart["state"]["state"].as_str().unwrap()), "{restart}");
    again.stop().await;
    plane.stop().await;
}

#[tokio::test]
async fn commands_are_forgotten_in_their_time_and_outlive_their_sessions() {
    let home = Home::new();
    let mut settings = settings(&home);
    settings.limits.history = Duration::from_millis(1);
    let plane = Plane::start_in(home, settings).await;
    let (id, token) = plane.create_ready().await;
    let done = plane.asked_and_done(&id, exec()).await;
    plane.end(&id, &token).await;
    let (home, mut settings, _) = plane.stop().await;
    let plane = Plane::start_in(home, settings.clone()).await;
    until("the session is forgotten", async || plane.operator().get(&format!("/v1/sessions/{id}")).await.status == 404)
        .await;
    let list = plane.operator().get(&format!("/v1/sessions/{id}/commands")).await.json();
    assert_eq!(list["commands"], json!([done]), "the record stays");
    let (home, ..) = plane.stop().await;
    settings.limits.commands = Duration::from_millis(1);
    let plane = Plane::start_in(home, settings).await;
    until("it is forgotten", async || plane.operator().get("/v1/commands").await.json()["commands"] == json!([])).await;
    let output = format!("/v1/commands/{}/output", done["id"].as_str().unwrap());
    assert_eq!(plane.operator().get(&output).await.problem(), "command_unknown");
}
