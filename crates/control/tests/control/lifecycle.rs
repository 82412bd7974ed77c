//! A session from its claim to its end.

use std::time::{Duration, Instant};

use api::node::{InstanceState, PackageSource, PlayerPresence};
use api::session::EndReason;
use api::streamer::StreamStatistics;

use crate::support::{PIXEL, Plane, until};

#[tokio::test]
async fn the_catalogue_says_what_can_be_played() {
    let plane = Plane::start().await;
    let apps = plane.client.get("/v1/apps").await.json();
    let names: Vec<&str> = apps["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bare", "pong"], "by title");
    let pong = plane.client.get("/v1/apps/pong").await.json();
    assert_eq!(pong["picture"], "/v1/apps/pong/picture");
    assert_eq!(pong["spec"]["max"]["width"], 1280);
    let picture = plane.client.get("/v1/apps/pong/picture").await;
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/png"));
    assert_eq!(picture.body, PIXEL);
    assert!(plane.client.get("/v1/apps/bare").await.json().get("picture").is_none());
    for (path, problem) in [
        ("/v1/apps/bare/picture", "picture_missing"),
        ("/v1/apps/chess", "app_unknown"),
        ("/v1/apps/..%2f..%2fetc", "app_unknown"),
        ("/v1/apps/%ff", "path_unknown"),
    ] {
        let reply = plane.client.get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, problem), "{path}");
    }
}

#[tokio::test]
async fn a_play_from_the_claim_to_the_end() {
    let plane = Plane::start().await;
    let reply = plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((reply.status, reply.header("cache-control")), (201, "no-store"));
    let created = reply.json();
    let (id, token) = (created["session"]["id"].as_str().unwrap(), created["token"].as_str().unwrap());
    assert_eq!(reply.header("location"), format!("/v1/sessions/{id}"));
    assert_eq!(created["whep"], format!("/v1/sessions/{id}/whep"));
    assert_eq!(created["session"]["state"]["state"], "reserved");
    assert_eq!(created["session"]["spec"]["width"], 640, "the app's default");
    let ready = plane.until_state(id, token, "ready").await;
    assert_eq!(ready["first_frame"], true);
    let wish = plane.node.read(|script| script.desired[0].clone());
    assert_eq!((wish.manifest.name.as_str(), wish.spec.width, wish.epoch, wish.stop), ("pong", 640, 1, None));
    let PackageSource::Directory { dir } = &wish.package else { panic!("{:?}", wish.package) };
    assert!(dir.join("kite.toml").is_file());

    let player = plane.client.with_token(token);
    let answer = player.post_sdp(&format!("/v1/sessions/{id}/whep"), "v=0\r\noffer\r\n").await;
    assert_eq!((answer.status, answer.header("content-type")), (201, "application/sdp"), "{}", answer.text());
    assert_eq!(answer.text(), "v=0\r\ns=answer to 12 bytes\r\n");
    let peer = answer.header("location").to_owned();
    assert!(peer.starts_with(&format!("/v1/sessions/{id}/whep/")), "{peer}");

    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(id, token, "connected").await;
    let figures = format!("/v1/sessions/{id}/statistics");
    assert!(player.get(&figures).await.json().get("measured_at").is_none());
    plane.node.figures(0, StreamStatistics { video_kbps: 4321, ..StreamStatistics::default() });
    until("the figures are there", async || player.get(&figures).await.json()["stream"]["video_kbps"] == 4321).await;

    assert_eq!(player.delete(&peer).await.status, 204);
    assert_eq!(player.delete(&peer).await.problem(), "peer_unknown");
    plane.node.player(0, PlayerPresence::Lost);
    plane.until_state(id, token, "reconnecting").await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(id, token, "connected").await;

    let stopping = player.delete(&format!("/v1/sessions/{id}")).await;
    assert_eq!((stopping.status, stopping.json()["state"]["reason"].as_str()), (200, Some("player_left")));
    let ended = plane.until_state(id, token, "ended").await;
    assert_eq!(ended["state"]["party"], "player");
    assert_eq!(ended["sentence"], EndReason::PlayerLeft.sentence());
    let again = player.delete(&format!("/v1/sessions/{id}")).await;
    assert_eq!((again.status, again.json()), (200, ended), "asking again changes nothing");
    let late = player.post_sdp(&format!("/v1/sessions/{id}/whep"), "v=0\r\n").await;
    assert_eq!((late.status, late.problem().as_str()), (409, "session_ended"));
    until("the node has forgotten it", async || plane.node.read(|script| script.instances.is_empty())).await;
}

#[tokio::test]
async fn the_nodes_reasons_reach_the_player() {
    let plane = Plane::start().await;
    for reason in [EndReason::GameExited, EndReason::GameCrashed, EndReason::DiskFull, EndReason::EncoderFailed] {
        let (id, token) = plane.create_ready().await;
        plane.node.end(0, reason);
        let ended = plane.until_state(&id, &token, "ended").await;
        assert_eq!(ended["state"]["reason"], reason.word());
        assert_eq!(ended["state"]["party"], serde_json::to_value(reason.party()).unwrap());
        until("the node has forgotten it", async || plane.node.read(|script| script.instances.is_empty())).await;
    }
}

#[tokio::test]
async fn the_operator_lists_and_ends_any_session() {
    let plane = Plane::start().await;
    let (first, token) = plane.create_ready().await;
    let (second, _) = plane.create_ready().await;
    let operator = plane.client.with_token(&plane.operator_token());
    let list = operator.get("/v1/sessions").await.json();
    let ids: Vec<&str> = list["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()], "newest first");
    assert_eq!(operator.delete(&format!("/v1/sessions/{first}")).await.status, 200);
    let ended = plane.until_state(&first, &token, "ended").await;
    assert_eq!(
        (&ended["state"]["reason"], &ended["state"]["party"]),
        (&"ended_by_operator".into(), &"operator".into())
    );
    assert_eq!(operator.get("/v1/sessions/ses_nonsense").await.problem(), "session_unknown");
    let unknown = "/v1/sessions/ses_00000000000000000000000000000001";
    assert_eq!(operator.delete(unknown).await.problem(), "session_unknown");
}

#[tokio::test]
async fn an_offer_that_comes_early_waits_for_the_streamer() {
    let plane = Plane::start().await;
    plane.node.change(|script| script.start_at = InstanceState::StreamerStarting);
    let (id, token) = plane.create().await;
    let player = plane.client.with_token(&token);
    let path = format!("/v1/sessions/{id}/whep");
    let offer = tokio::spawn({
        let (player, path) = (player.clone(), path.clone());
        async move { player.post_sdp(&path, "v=0\r\n").await }
    });
    plane.until_state(&id, &token, "preparing").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!offer.is_finished());
    let started = Instant::now();
    plane.node.instance(0, |instance| instance.state = InstanceState::GameStarting);
    assert_eq!(offer.await.unwrap().status, 201);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}: on the signal, not on the period", started.elapsed());

    let refused = player.post_sdp(&path, "v=0\r\nnonsense").await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid_offer"));
    assert!(refused.text().contains("there is no video section"));
    plane.node.end(0, EndReason::StreamerFailed);
    plane.until_state(&id, &token, "ended").await;
    assert_eq!(player.post_sdp(&path, "v=0\r\n").await.problem(), "session_ended");
}

#[tokio::test]
async fn an_offer_that_nobody_answers_is_given_up() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.change(|script| script.silent = true);
    let started = Instant::now();
    let reply = plane.client.with_token(&token).post_sdp(&format!("/v1/sessions/{id}/whep"), "v=0\r\n").await;
    assert_eq!((reply.status, reply.problem().as_str()), (504, "streamer_timeout"));
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    assert_eq!(plane.session(&id, &token).await["state"]["state"], "ready", "the session goes on");
}

#[tokio::test]
async fn a_session_ends_at_its_limit_and_when_idle() {
    let plane = Plane::start_with(|settings| settings.limits.session_length = Duration::from_secs(3)).await;
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.node.figures(0, StreamStatistics { idle_s: 5, ..StreamStatistics::default() });
    let ended = plane.until_state(&id, &token, "ended").await;
    assert_eq!(ended["state"]["reason"], "idle");
    let (id, token) = plane.create_ready().await;
    let ended = plane.until_state(&id, &token, "ended").await;
    assert_eq!(ended["state"]["reason"], "time_limit");
}

#[tokio::test]
async fn a_lost_node_ends_its_sessions_and_takes_no_new_one() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.change(|script| script.gone = true);
    let ended = plane.until_state(&id, &token, "ended").await;
    assert_eq!((&ended["state"]["reason"], &ended["state"]["party"]), (&"node_lost".into(), &"platform".into()));
    let refused = plane.client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "no_node"));
    let health = plane.client.get("/healthz").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("degraded")));
}

#[tokio::test]
async fn a_click_reaches_the_node_and_the_way_back_takes_milliseconds() {
    let plane = Plane::start().await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let (id, token) = plane.create().await;
        let mut link = plane.link(&id, &token).await;
        link.until_state("ready").await;
        took.push(started.elapsed());
        plane.client.with_token(&token).delete(&format!("/v1/sessions/{id}")).await;
    }
    took.sort();
    println!("claim to ready over the link, median of 20: {:?}, slowest {:?}", took[10], took[19]);
    // The periods are 1 s and 2 s: a median far under them proves that signals carry it, on a busy machine too.
    assert!(took[10] < Duration::from_millis(500), "{took:?}");
}
