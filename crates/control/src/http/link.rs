//! The link: a WebSocket on which a session's state and figures are pushed. Its life is the player's presence.

use std::time::Duration;

use api::id::SessionId;
use api::problem::{Problem, ProblemKind};
use api::rest::{
    LINK_PROTOCOL, LINK_TOKEN_PROTOCOL_PREFIX, LinkMessage, LinkRequest, QueuePlace, Session, SessionStatistics,
};
use api::session::{EndReason, SessionState};
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::{HeaderMap, Response};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tracing::debug;

use super::Edge;
use super::extract::{Params, bearer};
use super::problem::Refusal;
use crate::app::access::own_session;
use crate::coordinator::LinkGuard;
use crate::store::SessionRecord;

/// How often a link is pinged. Proxies close what is silent for 30 to 60 seconds.
const PING_PERIOD: Duration = Duration::from_secs(5);

/// A link that said nothing for so long is lost: three pings went unanswered.
const SILENCE_LIMIT: Duration = Duration::from_secs(16);

/// How long one message may take to be written. A client that does not read has gone.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Longest message of a client in bytes: the longest good one has 16.
const MAX_MESSAGE: usize = 1024;

/// What is read at once, in bytes. It is kept for as long as the link is open, and there are ten thousands of links.
const READ_BUFFER: usize = 1024;

/// Most that is buffered for a client that reads slowly, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// Close code of a link whose client sent what is none of ours (RFC 6455: policy violation).
const NONSENSE: u16 = close_code::POLICY;

/// Opens the session's link: a WebSocket with the subprotocols `kite.link.v1` and `kite.token.` followed by the token. The
/// server pushes a `LinkMessage` at once and at each change, and closes after `ended`; the client may send a `LinkRequest`.
/// Losing the link ends no session that is being played.
#[utoipa::path(get, path = "/v1/sessions/{id}/link", operation_id = "link", tag = "sessions",
    params(("id" = SessionId, Path, description = "The session's id.")),
    security(("session_token" = []), ("link_token" = [])),
    responses(
        (status = 101, description = "The link is open."),
        (status = "default", description = "A problem.", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn open(
    State(edge): State<Edge>,
    Params(id): Params<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response<Body>, Refusal> {
    let token = match bearer(&headers)? {
        Some(token) => Some(token),
        None => protocol_token(&headers),
    };
    let record = own_session(edge.plane.caller(token).await?, &id)?;
    let upgrade = upgrade.map_err(|error| {
        ProblemKind::InvalidRequest.because(format!("This path is a WebSocket, and the request opens none: {error}."))
    })?;
    let guard = edge.plane.coordinator.join(record.id).ok_or_else(|| {
        ProblemKind::RateLimited.because("The session has as many links open as it may.").retry_after(5)
    })?;
    let upgrade = upgrade
        .protocols([LINK_PROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| async move { serve(socket, edge, record, guard).await }))
}

/// The token among the subprotocols.
fn protocol_token(headers: &HeaderMap) -> Option<&str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let mut protocols = lists.flat_map(|list| list.split(',')).map(str::trim);
    protocols.find_map(|protocol| protocol.strip_prefix(LINK_TOKEN_PROTOCOL_PREFIX))
}

/// Why a link ended.
enum Over {
    /// The session did; the client has its last state.
    Ended(EndReason),
    /// The service closes.
    Closing,
    /// The client sent what is none of ours.
    Nonsense,
    /// The client is gone or reads nothing.
    Lost,
}

async fn serve(mut socket: WebSocket, edge: Edge, record: SessionRecord, guard: LinkGuard) {
    let session = record.id;
    debug!(%session, "link opened");
    let over = Link::new(edge, &record).run(&mut socket).await;
    let close = match over {
        Over::Ended(reason) => Some((close_code::NORMAL, reason.word())),
        Over::Closing => Some((close_code::AWAY, "service_stopped")),
        Over::Nonsense => Some((NONSENSE, "not_understood")),
        Over::Lost => None,
    };
    if let Some((code, reason)) = close {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        if send(&mut socket, Message::Close(Some(frame))).await.is_ok() {
            // The other half of the closing handshake, so that the client's last messages reset nothing.
            while let Ok(Some(Ok(_))) = timeout(Duration::from_secs(1), socket.recv()).await {}
        }
    }
    drop(guard);
    debug!(%session, "link closed");
}

struct Link {
    edge: Edge,
    id: SessionId,
    sessions: watch::Receiver<Option<Session>>,
    figures: watch::Receiver<Option<SessionStatistics>>,
    queue: watch::Receiver<Option<QueuePlace>>,
    /// Revision that the client has.
    revision: u64,
}

impl Link {
    fn new(edge: Edge, record: &SessionRecord) -> Self {
        let sessions = edge.plane.coordinator.watch_session(record.id);
        let mut figures = edge.plane.coordinator.watch_statistics(record.id);
        figures.mark_changed();
        let mut queue = edge.plane.coordinator.watch_queue(record.id);
        queue.mark_changed();
        Self { edge, id: record.id, sessions, figures, queue, revision: 0 }
    }

    async fn run(mut self, socket: &mut WebSocket) -> Over {
        // Read after the watch began, so that no change falls in between.
        let first = match self.edge.plane.store.session(self.id).await {
            Ok(Some(record)) => record.view(),
            Ok(None) => return Over::Lost,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a link's session could not be read");
                return Over::Lost;
            }
        };
        match self.push(socket, first).await {
            Ok(()) => {}
            Err(over) => return over,
        }
        let mut ping = tokio::time::interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut closing = self.edge.closing.clone();
        loop {
            let step = tokio::select! {
                biased;
                changed = self.sessions.changed() => self.session_changed(socket, changed.is_err()).await,
                Ok(()) = self.queue.changed() => self.queue_changed(socket).await,
                Ok(()) = self.figures.changed() => self.figures_changed(socket).await,
                message = socket.recv() => {
                    heard = Instant::now();
                    self.heard(message).await
                }
                _ = ping.tick() => {
                    if heard.elapsed() >= SILENCE_LIMIT { Err(Over::Lost) } else { send(socket, Message::Ping(bytes::Bytes::new())).await }
                }
                () = closing.raised() => Err(Over::Closing),
            };
            if let Err(over) = step {
                return over;
            }
        }
    }

    async fn session_changed(&mut self, socket: &mut WebSocket, sender_gone: bool) -> Result<(), Over> {
        if sender_gone {
            // The session ended before the watch began, and after it was read.
            let record = self.edge.plane.store.session(self.id).await.ok().flatten().ok_or(Over::Lost)?;
            return match self.push(socket, record.view()).await {
                Ok(()) => Err(Over::Lost),
                Err(over) => Err(over),
            };
        }
        let newest = self.sessions.borrow_and_update().clone();
        match newest {
            Some(session) => self.push(socket, session).await,
            None => Ok(()),
        }
    }

    async fn push(&mut self, socket: &mut WebSocket, session: Session) -> Result<(), Over> {
        let state = session.state;
        if session.revision > self.revision {
            self.revision = session.revision;
            send(socket, text(&LinkMessage::Session { session })).await?;
        }
        match state {
            SessionState::Ended { reason, .. } => Err(Over::Ended(reason)),
            SessionState::Requested
            | SessionState::Queued { .. }
            | SessionState::Offered { .. }
            | SessionState::Recovering { .. }
            | SessionState::Reserved
            | SessionState::Preparing { .. }
            | SessionState::Ready { .. }
            | SessionState::Connected { .. }
            | SessionState::Reconnecting { .. }
            | SessionState::Stopping { .. } => Ok(()),
        }
    }

    async fn queue_changed(&mut self, socket: &mut WebSocket) -> Result<(), Over> {
        let newest = self.queue.borrow_and_update().clone();
        match newest {
            Some(queue) => send(socket, text(&LinkMessage::Queue { queue })).await,
            None => Ok(()),
        }
    }

    async fn figures_changed(&mut self, socket: &mut WebSocket) -> Result<(), Over> {
        let newest = *self.figures.borrow_and_update();
        match newest {
            Some(statistics) => send(socket, text(&LinkMessage::Statistics { statistics })).await,
            None => Ok(()),
        }
    }

    async fn heard(&self, message: Option<Result<Message, axum::Error>>) -> Result<(), Over> {
        match message {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(LinkRequest::Leave {}) => {
                    let left = crate::reconcile::request_stop(&self.edge.plane, self.id, EndReason::PlayerLeft).await;
                    if let Err(error) = left {
                        tracing::error!(error = &error as &dyn std::error::Error, "a session could not be stopped");
                    }
                    Ok(())
                }
                Ok(LinkRequest::Accept {}) => {
                    // What became of it is told by the session's next state; a store that failed is in the log.
                    match self.edge.plane.accept_offer(self.id).await {
                        Ok(_) | Err(_) => Ok(()),
                    }
                }
                Err(_nonsense) => Err(Over::Nonsense),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => Err(Over::Nonsense),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Over::Lost),
        }
    }
}

fn text(message: &LinkMessage) -> Message {
    // The contract's types have string keys alone, so this cannot fail; an empty message would be seen by every test.
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Over> {
    match timeout(SEND_LIMIT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Over::Lost),
    }
}
