//! What survives a restart, and what ends honestly.

use std::time::Duration;

use api::node::PlayerPresence;
use control::{DatabaseSettings, ServeError, serve};

use crate::support::{Home, Plane, until};

#[tokio::test]
async fn a_stop_ends_every_session_and_says_so() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    let mut link = plane.link(&id, &token).await;
    let client = plane.client.clone();
    let listen = tokio::spawn(async move {
        let session = link.until_state("ended").await;
        (session, link.closed().await)
    });
    let (dir, settings, took) = plane.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (session, reason) = listen.await.unwrap();
    assert_eq!(session["state"]["reason"], "service_stopped");
    assert_eq!(reason, "service_stopped");
    assert!(tokio::net::TcpStream::connect(client.address).await.is_err(), "it listens no more");

    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(plane.session(&id, &token).await["state"]["reason"], "service_stopped", "its end can still be read");
    assert!(plane.node.read(|script| script.desired.is_empty()));
}

#[tokio::test]
async fn sessions_that_the_process_took_along_end_honestly() {
    let plane = Plane::start_with(|settings| settings.limits.shutdown_wait = Duration::ZERO).await;
    plane.node.change(|script| script.stubborn = true);
    let (id, token) = plane.create_ready().await;
    let (stopping, stopping_token) = plane.create_ready().await;
    plane.client.with_token(&stopping_token).delete(&format!("/v1/sessions/{stopping}")).await;
    let operator = plane.operator_token();
    // Nothing ends in time: the rows stay as a killed process would leave them, except for the wish to stop.
    let (dir, settings, _) = plane.stop().await;
    let plane = Plane::start_in(dir, settings).await;
    assert_eq!(plane.session(&stopping, &stopping_token).await["state"]["reason"], "player_left");
    assert_eq!(plane.session(&id, &token).await["state"]["state"], "ended");
    assert_eq!(plane.operator_token(), operator, "the operator's token stays");
    let used = plane.client.get("/v1/limits").await.json()["sessions_used"].clone();
    assert_eq!(used, 0, "their places are free");
    plane.create_ready().await;
}

/// A process that was killed leaves rows in the middle of their lives.
#[tokio::test]
async fn a_killed_process_leaves_no_session_behind() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    plane.node.player(0, PlayerPresence::Connected);
    plane.until_state(&id, &token, "connected").await;
    let copy = Home::new();
    let settings = plane.copy_to(&copy);
    let after = Plane::start_in(copy, settings).await;
    let ended = after.session(&id, &token).await;
    assert_eq!(ended["state"]["reason"], "service_restarted");
    assert_eq!(ended["state"]["party"], "platform");
    let mut link = after.link(&id, &token).await;
    assert_eq!(link.until_state("ended").await["state"]["reason"], "service_restarted");
    assert_eq!(plane.session(&id, &token).await["state"]["state"], "connected", "the original goes on");
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() {
    let plane = Plane::start().await;
    let (link, _node) = api::node::in_process();
    let second = serve(plane.settings.clone(), Some(link), std::future::pending()).await;
    assert!(matches!(second, Err(ServeError::InUse(_))), "{second:?}");
}

/// Told apart by the data directory on one machine, and by the database on several.
#[tokio::test]
async fn two_processes_do_not_serve_from_one_database() {
    let plane = Plane::start().await;
    let mut settings = plane.settings.clone();
    settings.data_dir = plane.dir.path().join("another");
    if settings.database == DatabaseSettings::Embedded {
        std::os::unix::fs::symlink(plane.data_dir(), &settings.data_dir).unwrap();
    }
    let (link, _node) = api::node::in_process();
    let second = serve(settings, Some(link), std::future::pending()).await;
    assert!(matches!(second, Err(ServeError::InUse(_) | ServeError::DatabaseInUse)), "{second:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let plane = Plane::start().await;
    let check = async |change: fn(&mut control::Settings), address: Option<std::net::SocketAddr>, says: &str| {
        let dir = Home::new();
        let mut settings = crate::support::settings(&dir);
        change(&mut settings);
        if let Some(address) = address {
            settings.listen = address;
        }
        let (link, _node) = api::node::in_process();
        let error = serve(settings, Some(link), std::future::pending()).await.expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    check(|_| (), Some(plane.client.address), &format!("cannot listen on {}", plane.client.address)).await;
    check(|settings| settings.games = vec!["/nowhere/games".into()], None, "games cannot be read").await;
    check(|settings| settings.data_dir = "/proc/kite".into(), None, "/proc/kite cannot be used").await;
    check(
        |settings| {
            settings.database = DatabaseSettings::Embedded;
            std::fs::create_dir_all(&settings.data_dir).unwrap();
            std::fs::write(
                settings.data_dir.join("control.db"),
                "this is no database, but long enough to be one".repeat(100),
            )
            .unwrap();
        },
        None,
        "database cannot be opened",
    )
    .await;
}

#[tokio::test]
async fn the_data_directory_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let plane = Plane::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&plane.data_dir()), 0o700);
    assert_eq!(mode(&plane.data_dir().join(control::OPERATOR_TOKEN_FILE)), 0o600);
}

#[tokio::test]
async fn while_stopping_nothing_new_begins() {
    let plane = Plane::start_with(|settings| settings.limits.shutdown_wait = Duration::from_secs(3)).await;
    plane.node.change(|script| script.stubborn = true);
    let (id, token) = plane.create_ready().await;
    let client = plane.client.clone();
    let stop = tokio::spawn(plane.stop());
    let with_token = client.with_token(&token);
    until("the stop has begun", async || {
        with_token.get(&format!("/v1/sessions/{id}")).await.json()["state"]["state"] == "stopping"
    })
    .await;
    let refused = client.post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "service_stopping"));
    let (_, _, took) = stop.await.unwrap();
    assert!(took < Duration::from_secs(12), "bounded: {took:?}");
}
