//! A running control plane, a scripted node on the other end of its link, and a client over real HTTP.

pub(crate) mod backup;
pub(crate) mod client;
pub(crate) mod database;
pub(crate) mod node;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use control::{DatabaseSettings, Running, Settings, serve};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub(crate) use self::client::{Client, Link};
use self::database::TestDatabase;
pub(crate) use self::node::ScriptedNode;

/// A package called `pong` with a picture, and `bare` without one.
const PONG: &str = r#"
name = "pong"
title = "Pong"
summary = "A ball."
picture = "picture.png"
[launch]
command = ["/bin/true"]
[spec]
min = { width = 320, height = 180, frames_per_second = 10 }
max = { width = 1280, height = 720, frames_per_second = 60 }
default = { width = 640, height = 360, frames_per_second = 30 }
[session]
idle_timeout_s = 5
"#;

pub(crate) const BARE: &str = r#"
name = "bare"
title = "Bare"
summary = "Nothing to see."
[launch]
command = ["/bin/true"]
"#;

pub(crate) const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\nnot more than its beginning";

/// Pixels a second of `pong`'s default spec.
pub(crate) const PONG_PIXELS: u64 = 640 * 360 * 30;

/// Longest wait for something that takes milliseconds on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where everything of a control plane is kept: it goes with this.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    pub(crate) database: TestDatabase,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), database: TestDatabase::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) struct Plane {
    pub(crate) client: Client,
    pub(crate) node: ScriptedNode,
    pub(crate) dir: Home,
    pub(crate) settings: Settings,
    running: Option<(Running, oneshot::Sender<()>)>,
}

/// Games and data in a home of their own.
pub(crate) fn settings(home: &Home) -> Settings {
    let dir = home.path();
    for (name, manifest) in [("pong", PONG), ("bare", BARE)] {
        let package = dir.join("games").join(name);
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("kite.toml"), manifest).unwrap();
        std::fs::write(package.join("picture.png"), PIXEL).unwrap();
    }
    let mut settings = Settings::new(([127, 0, 0, 1], 0).into(), dir.join("data"));
    settings.games = vec![dir.join("games")];
    settings.embedded = Some(node::ID);
    settings.database = home.database.settings();
    // Tests that are not about these limits do not meet them.
    settings.limits.sessions_per_player = 1000;
    settings.limits.creation_burst = 1000;
    settings.limits.creations_per_minute = 1000;
    settings
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = Home::new();
        let mut settings = settings(&dir);
        change(&mut settings);
        Self::start_in(dir, settings).await
    }

    pub(crate) async fn start_in(dir: Home, settings: Settings) -> Self {
        Self::start_beside(dir, settings, |_| ()).await
    }

    /// Beside a node that is so from its first word on.
    pub(crate) async fn start_beside(dir: Home, settings: Settings, node: impl FnOnce(&mut node::Script)) -> Self {
        log_to_tests();
        let (link, end) = api::node::in_process();
        let node = ScriptedNode::spawn(end, node);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let running = serve(settings.clone(), Some(link), shutdown).await.unwrap();
        let client = Client::new(running.address());
        let plane = Self { client, node, dir, settings, running: Some((running, stop)) };
        until("the node has reported", async || plane.client.get("/healthz").await.json()["status"] == "ok").await;
        plane
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Arc<Registry> {
        self.running.as_ref().unwrap().0.metrics()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.settings.data_dir.clone()
    }

    /// Copies what a killed process would leave into another home, while this one goes on.
    pub(crate) fn copy_to(&self, copy: &Home) -> Settings {
        let mut settings = self.settings.clone();
        settings.database = copy.database.settings();
        settings.data_dir = copy.path().join("data");
        std::fs::create_dir(&settings.data_dir).unwrap();
        for entry in std::fs::read_dir(self.data_dir()).unwrap() {
            let entry = entry.unwrap();
            // The content store is a directory, and has nothing of sessions.
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), settings.data_dir.join(entry.file_name())).unwrap();
            }
        }
        if copy.database.url().is_some() {
            let backup = copy.path().join("backup");
            self.dir.back_up(&backup);
            copy.restore(&backup);
        }
        settings
    }

    pub(crate) fn operator_token(&self) -> String {
        let path = self.settings.data_dir.join(control::OPERATOR_TOKEN_FILE);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    /// A new session of `pong`: its id and its token.
    pub(crate) async fn create(&self) -> (String, String) {
        self.create_of("pong").await
    }

    /// A new session of an app: its id and its token.
    pub(crate) async fn create_of(&self, app: &str) -> (String, String) {
        let reply = self.client.post_json("/v1/sessions", format!("{{\"app\": \"{app}\"}}")).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let json = reply.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&json["session"]["id"]), text(&json["token"]))
    }

    /// A new player: his id and his token.
    pub(crate) async fn create_player(&self) -> (String, String) {
        let reply = self.client.send("POST", "/v1/players", "").await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let json = reply.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&json["player"]["id"]), text(&json["token"]))
    }

    /// A new session of `pong` of the player with this token, whose game runs.
    pub(crate) async fn create_tenant(&self, name: &str) -> String {
        let client = self.client.with_token(&self.operator_token());
        let reply = client.post_json("/v1/tenants", format!("{{\"name\": \"{name}\"}}")).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn play(&self, player: &str) -> (String, String) {
        let reply = self.client.with_token(player).post_json("/v1/sessions", r#"{"app": "pong"}"#).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        let json = reply.json();
        let (id, token) = (json["session"]["id"].as_str().unwrap(), json["token"].as_str().unwrap());
        self.until_state(id, token, "ready").await;
        (id.to_owned(), token.to_owned())
    }

    /// Ends a session and waits for its end.
    pub(crate) async fn end(&self, id: &str, token: &str) {
        self.client.with_token(token).delete(&format!("/v1/sessions/{id}")).await;
        self.until_state(id, token, "ended").await;
    }

    /// A new session whose game runs.
    pub(crate) async fn create_ready(&self) -> (String, String) {
        let (id, token) = self.create().await;
        self.until_state(&id, &token, "ready").await;
        (id, token)
    }

    pub(crate) async fn session(&self, id: &str, token: &str) -> serde_json::Value {
        let reply = self.client.with_token(token).get(&format!("/v1/sessions/{id}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    pub(crate) async fn until_state(&self, id: &str, token: &str, state: &str) -> serde_json::Value {
        until(&format!("{id} is {state}"), async || self.session(id, token).await["state"]["state"] == state).await;
        self.session(id, token).await
    }

    pub(crate) async fn link(&self, id: &str, token: &str) -> Link {
        self.client.link(id, token).await.unwrap()
    }

    /// Stops it as the operator would; how long that took.
    pub(crate) async fn stop(mut self) -> (Home, Settings, Duration) {
        let (mut running, stop) = self.running.take().unwrap();
        let started = Instant::now();
        stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, running.stopped()).await.unwrap().unwrap();
        (self.dir, self.settings, started.elapsed())
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !so().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn log_to_tests() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
        // A test program may have set its own before.
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().unwrap_or_default();
    });
}
