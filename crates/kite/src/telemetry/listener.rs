//! `/metrics` on a listener of its own: never on the port that players reach.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::process;

/// OpenMetrics, as the library writes it.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once. A Prometheus has one; more than a few are none of ours.
const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to send a request, and to take the answer. Prometheus gives up after 10 s itself.
const LIMIT: Duration = Duration::from_secs(15);

/// How long to wait after an error of `accept`: descriptors ran out, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Most bytes of headers.
const MAX_HEADERS: usize = 16 * 1024;

/// Where to listen, and what a client has to know.
#[derive(Clone)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// `None`: everybody who reaches it may ask.
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listen").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A listener that answers nobody yet.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    token: Option<Arc<str>>,
}

struct Served {
    registries: Vec<Arc<Registry>>,
    token: Option<Arc<str>>,
}

impl Listener {
    pub(crate) async fn bind(listen: Listen) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen.address).await;
        let listener = listener.with_context(|| format!("metrics cannot be served on {}", listen.address))?;
        Ok(Self { listener, token: listen.token.map(Arc::from) })
    }

    /// Answers until the program ends.
    pub(crate) fn spawn(self, mut registries: Vec<Arc<Registry>>) {
        registries.push(Arc::new(process::registry()));
        if let Ok(address) = self.listener.local_addr() {
            info!(%address, "metrics are served");
        }
        let served = Arc::new(Served { registries, token: self.token });
        tokio::spawn(accept(self.listener, served));
    }
}

async fn accept(listener: TcpListener, served: Arc<Served>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _address)) => {
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    connection(stream, served).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request: a client that asks every 15 s may as well connect anew, and none holds a place.
async fn connection(stream: TcpStream, served: Arc<Served>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&served, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(LIMIT).max_buf_size(MAX_HEADERS).keep_alive(false);
    match tokio::time::timeout(LIMIT, builder.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics broke"),
        Err(_elapsed) => debug!("a client of metrics took too long"),
    }
}

fn answer<B>(served: &Served, request: &Request<B>) -> Response<Full<Bytes>> {
    if let Some(token) = &served.token
        && !is_allowed(token, request.headers().get(AUTHORIZATION))
    {
        let mut refused = said(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    if request.uri().path() != "/metrics" {
        return said(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match text(&served.registries) {
        Ok(text) => {
            let mut response = said(StatusCode::OK, text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
            response
        }
        Err(_full) => said(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
    }
}

/// All registries as one text. They name nothing twice.
fn text(registries: &[Arc<Registry>]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry)?;
    }
    encode_eof(&mut text)?;
    Ok(text)
}

fn said(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Compares all bytes, however early they differ: how long it takes tells nothing.
fn is_allowed(token: &str, header: Option<&HeaderValue>) -> bool {
    let given =
        header.map(HeaderValue::as_bytes).and_then(|header| header.strip_prefix(b"Bearer ")).unwrap_or_default();
    let differences = token.bytes().zip(given).fold(0, |all, (wanted, given)| all | (wanted ^ given));
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: Option<&str>, method: &str, path: &str, given: Option<&str>, expected: u16) {
        let served = Served { registries: vec![Arc::new(process::registry())], token: token.map(Arc::from) };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(given) = given {
            request = request.header(AUTHORIZATION, given);
        }
        let response = answer(&served, &request.body(()).unwrap());
        assert_eq!(response.status().as_u16(), expected, "{method} {path} {given:?}");
    }

    #[test]
    fn only_metrics_and_only_for_who_may() {
        check(None, "GET", "/metrics", None, 200);
        check(None, "HEAD", "/metrics", None, 200);
        check(None, "POST", "/metrics", None, 405);
        check(None, "GET", "/", None, 404);
        check(Some("secret"), "GET", "/metrics", None, 401);
        check(Some("secret"), "GET", "/", None, 401);
        check(Some("secret"), "GET", "/metrics", Some("Bearer secre"), 401);
        check(Some("secret"), "GET", "/metrics", Some("Bearer secrets"), 401);
        check(Some("secret"), "GET", "/metrics", Some("Basic secret"), 401);
        check(Some("secret"), "GET", "/metrics", Some("Bearer secret"), 200);
    }

    #[test]
    fn the_token_is_not_shown() {
        let listen = Listen { address: ([127, 0, 0, 1], 1).into(), token: Some("secret".to_owned()) };
        assert!(!format!("{listen:?}").contains("secret"));
    }
}
