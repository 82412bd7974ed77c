//! A simulated player: he creates a session, keeps its link as a page does, sends an offer, and leaves when he is told to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::Swarm;

/// First pause after a try that failed; it doubles to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// After so long in vain he gives up, and that is told.
const PATIENCE: Duration = Duration::from_secs(60);

const OFFER: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

/// A play that goes on by itself.
#[derive(Debug)]
pub(crate) struct Play {
    leaves: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Play {
    pub(crate) fn start(swarm: &Arc<Swarm>) -> Self {
        let (leaves, leaving) = watch::channel(false);
        let player = Player { swarm: Arc::clone(swarm), leaving, began: Instant::now() };
        Self { leaves, task: tokio::spawn(player.run()) }
    }

    /// Ends it; it is over a moment later.
    pub(crate) fn leave(self) -> Self {
        self.leaves.send_replace(true);
        self
    }

    /// Waits until it is over.
    pub(crate) async fn over(self) {
        // A task that broke says so by itself.
        if self.task.await.is_err() {
            self.leaves.send_replace(true);
        }
    }
}

/// Pauses between tries.
struct Pauses(Duration);

impl Pauses {
    async fn pause(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

struct Session {
    id: String,
    token: String,
}

struct Player {
    swarm: Arc<Swarm>,
    leaving: watch::Receiver<bool>,
    began: Instant,
}

type Link = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What his session is, as its link says.
struct Seen {
    is_placed: bool,
    is_ready: bool,
    is_connected: bool,
}

impl Player {
    async fn run(mut self) {
        self.swarm.report.began();
        match self.play().await {
            Ok(reason) => self.swarm.report.ended(&reason),
            Err(error) => {
                self.swarm.report.ended("gave_up");
                self.swarm.ledger.violation(format!("a player gave up: {error:#}"));
            }
        }
    }

    /// Says why it ended.
    async fn play(&mut self) -> anyhow::Result<String> {
        let player = self.create_player().await?;
        // The wait that counts begins with the wish to play.
        self.began = Instant::now();
        let (session, state) = match self.create_session(&player).await? {
            Some(created) => created,
            None => return Ok("refused".to_owned()),
        };
        let mut seen = Seen { is_placed: false, is_ready: false, is_connected: false };
        self.see(&state, &mut seen);
        let since = Instant::now();
        let mut failed_since: Option<Instant> = None;
        let mut pauses = Pauses(FIRST_PAUSE);
        loop {
            match self.follow(&session, &mut seen).await {
                Ok(Some(reason)) => {
                    self.swarm.report.set_connected(&mut seen.is_connected, false);
                    return Ok(reason);
                }
                Ok(None) => (failed_since, pauses) = (None, Pauses(FIRST_PAUSE)),
                Err(error) => {
                    let failed = *failed_since.get_or_insert_with(Instant::now);
                    if failed.elapsed() >= PATIENCE {
                        self.swarm.report.set_connected(&mut seen.is_connected, false);
                        return Err(error.context(format!("after {:?} of play", since.elapsed())));
                    }
                }
            }
            pauses.pause().await;
        }
    }

    async fn create_player(&self) -> anyhow::Result<String> {
        let mut pauses = Pauses(FIRST_PAUSE);
        let until = Instant::now() + PATIENCE;
        loop {
            match self.swarm.http.ask(Method::POST, "/v1/players", None, None).await {
                Ok(answer) if answer.status == StatusCode::CREATED => return answer.text("/token"),
                Ok(answer) if Instant::now() >= until => bail!("no player: {} {}", answer.status, answer.body),
                Err(error) if Instant::now() >= until => return Err(error.context("no player")),
                Ok(_) | Err(_) => pauses.pause().await,
            }
        }
    }

    /// `None` when he is refused with a reason that trying again does not mend.
    async fn create_session(&mut self, player: &str) -> anyhow::Result<Option<(Session, Value)>> {
        let mut pauses = Pauses(FIRST_PAUSE);
        let until = Instant::now() + PATIENCE;
        loop {
            let body = json!({ "app": self.swarm.app }).to_string();
            let began = Instant::now();
            let asked =
                self.swarm.http.ask(Method::POST, "/v1/sessions", Some(player), Some(("application/json", body))).await;
            let failed = match asked {
                Ok(answer) if answer.status == StatusCode::CREATED => {
                    self.began = began;
                    let session = Session { id: answer.text("/session/id")?, token: answer.text("/token")? };
                    let state = answer.body.get("session").cloned().unwrap_or_default();
                    return Ok(Some((session, state)));
                }
                Ok(answer) if answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS => {
                    self.swarm.report.refused(&answer.body);
                    return Ok(None);
                }
                Ok(answer) => anyhow!("{} {}", answer.status, answer.body),
                Err(error) => error,
            };
            if *self.leaving.borrow() {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(failed.context("no session"));
            }
            pauses.pause().await;
        }
    }

    /// Notes what a session is now; says whether it has ended, and why.
    fn see(&self, session: &Value, seen: &mut Seen) -> Option<String> {
        let word = |path: &str| session.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let state = word("/state/state");
        // Who leaves while he waits never has a place.
        let waits = matches!(state, "requested" | "queued" | "offered" | "stopping" | "ended");
        if !waits && !seen.is_placed {
            seen.is_placed = true;
            self.swarm.report.placed(self.began.elapsed());
        }
        let is_ready = matches!(state, "ready" | "connected" | "reconnecting") || word("/state/stage") == "game";
        if is_ready && !seen.is_ready {
            self.swarm.report.ready(self.began.elapsed());
        }
        // A session that is started anew elsewhere wants a new offer.
        seen.is_ready = is_ready;
        self.swarm.report.set_connected(&mut seen.is_connected, state == "connected");
        (state == "ended").then(|| word("/state/reason").to_owned())
    }

    /// Follows one link of the session to its end; the reason when the session ended, `None` when only the link did.
    async fn follow(&mut self, session: &Session, seen: &mut Seen) -> anyhow::Result<Option<String>> {
        let mut link = self.open(session).await?;
        self.swarm.report.linked(true);
        let followed = self.listen(&mut link, session, seen).await;
        self.swarm.report.linked(false);
        followed
    }

    async fn open(&self, session: &Session) -> anyhow::Result<Link> {
        let base = self.swarm.http.base().replacen("http://", "ws://", 1);
        let mut request = format!("{base}/v1/sessions/{}/link", session.id).into_client_request()?;
        let protocols = format!("kite.link.v1, kite.token.{}", session.token);
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse()?);
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let opened = timeout(Duration::from_secs(20), connect_async_with_config(request, Some(config), true)).await;
        let (link, _response) = opened.map_err(|_elapsed| anyhow!("the link did not open"))??;
        Ok(link)
    }

    async fn listen(&mut self, link: &mut Link, session: &Session, seen: &mut Seen) -> anyhow::Result<Option<String>> {
        let mut has_left = false;
        let mut offered = false;
        loop {
            if *self.leaving.borrow() && !has_left {
                let path = format!("/v1/sessions/{}", session.id);
                let left = self.swarm.http.ask(Method::DELETE, &path, Some(&session.token), None).await?;
                anyhow::ensure!(left.status.is_success(), "leaving: {} {}", left.status, left.body);
                has_left = true;
            }
            if seen.is_ready && !seen.is_connected && !offered && !has_left {
                offered = true;
                self.offer(session).await?;
            }
            let message = tokio::select! {
                message = link.next() => message,
                changed = self.leaving.changed(), if !has_left => {
                    if changed.is_err() { bail!("nobody watches") }
                    continue;
                }
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(text.as_str())?;
                    if let Some(state) = message.get("session") {
                        let was_ready = seen.is_ready;
                        if let Some(reason) = self.see(state, seen) {
                            return Ok(Some(reason));
                        }
                        offered &= was_ready;
                        if state.pointer("/state/state").and_then(Value::as_str) == Some("offered") && !has_left {
                            link.send(Message::text(json!({ "type": "accept" }).to_string())).await?;
                        }
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }

    async fn offer(&self, session: &Session) -> anyhow::Result<()> {
        let path = format!("/v1/sessions/{}/whep", session.id);
        let body = Some(("application/sdp", OFFER.to_owned()));
        let answer = self.swarm.http.ask(Method::POST, &path, Some(&session.token), body).await?;
        anyhow::ensure!(answer.status == StatusCode::CREATED, "an offer: {} {}", answer.status, answer.body);
        Ok(())
    }
}
