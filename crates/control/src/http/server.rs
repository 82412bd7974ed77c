//! Connections: accepted up to a bound, headers within a time limit, closed gracefully.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::PeerAddress;
use crate::stop::Stop;

/// Connections at once, without those that became links. A browser keeps its own for [`HEADER_LIMIT`] after its last request, so that two
/// hundred plays a second leave some thousands; each costs some kilobytes and a descriptor.
const MAX_CONNECTIONS: usize = 16_384;

/// How long a client may take to send a request's headers, and to send the next request. Browsers reuse connections
/// within seconds; longer lets idle ones take all places.
const HEADER_LIMIT: Duration = Duration::from_secs(20);

/// Most bytes of headers. The longest good ones, with a token and a browser's own headers, have 2 kB.
const MAX_HEADERS: usize = 32 * 1024;

/// How long a client may leave unread what was written to it. A phone in a tunnel comes back sooner or connects anew.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How long open requests may take after the service is asked to stop.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// How long to wait after an error of `accept`: descriptors ran out, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is raised, then finishes what is open, bounded.
pub(crate) async fn run(listener: TcpListener, router: Router, mut stop: Stop) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.raised() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { break };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, stop).await;
            drop(place);
        });
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(CLOSE_LIMIT, all).await.is_err() {
        debug!("some requests did not end in time");
        connections.shutdown().await;
    }
}

type Accepted = (TcpStream, tokio::sync::OwnedSemaphorePermit);

/// The next connection; `None` never comes as long as the semaphore lives.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => return Some((stream, place)),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut stop: Stop) {
    let Ok(address) = stream.peer_addr() else { return };
    // The kernel gives up a client that takes nothing of what was written; a response has no other limit.
    if let Err(error) = set_tcp_user_timeout(&stream, WRITE_LIMIT.as_millis() as u32) {
        debug!(%error, "a connection's time limit could not be set");
    }
    // Small messages go out at once: a state that waits for an acknowledgement is 40 ms late.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection's delay could not be turned off");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(address.ip()));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.raised() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection broke");
    }
}
