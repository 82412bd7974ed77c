//! What stands in front of the server where several replicas share a database: the one that leads answers, every other passes on.
//!
//! A replica that waits decides nothing. It passes requests on as they are, links included, with the client's address and the pass that only
//! this database's replicas know; the leader believes the address of nobody else.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::problem::{Problem, ProblemKind};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::sync::watch;
use tower::ServiceExt;
use tracing::{debug, warn};
use uuid::Uuid;

use super::guard::client_address;
use super::problem::{Refusal, write_out};
use crate::app::token::TokenHash;
use crate::store::Leader;

/// A leader that says nothing for so long is asked by the network whether it is there.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// Of the leader's pass, as hexadecimal digits.
const PASS: HeaderName = HeaderName::from_static("x-kite-pass");

/// Where the client of a request that was passed on is.
const CLIENT: HeaderName = HeaderName::from_static("x-kite-client");

/// Where a request that a replica passed on comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelayedAddress(pub(super) Option<IpAddr>);

/// The front of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Front(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Answers, once this replica leads: of the pass by which others are known.
    ruling: OnceLock<(Router, [u8; 32])>,
    leader: watch::Sender<Option<Leader>>,
    /// Where this one is reached by the others.
    own: Option<String>,
    client: Client<HttpConnector, Body>,
    behind_proxy: bool,
}

impl Front {
    pub(crate) fn new(behind_proxy: bool, own: Option<String>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // A leader whose machine is gone says nothing.
        connector.set_connect_timeout(Some(GONE_AFTER));
        connector.set_keepalive(Some(GONE_AFTER));
        connector.set_keepalive_interval(Some(Duration::from_secs(1)));
        connector.set_keepalive_retries(Some(3));
        connector.set_tcp_user_timeout(Some(GONE_AFTER * 2));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let leader = watch::Sender::new(None);
        Self(Arc::new(Inner { ruling: OnceLock::new(), leader, own, client, behind_proxy }))
    }

    /// From now on this replica answers by itself.
    pub(crate) fn lead(&self, router: Router, pass: [u8; 32]) {
        if self.0.ruling.set((router, pass)).is_err() {
            warn!("this replica leads already");
        }
    }

    /// From now on requests are passed on to this one. What was passed on to another one ends.
    pub(crate) fn follow(&self, leader: Option<Leader>) {
        self.0.leader.send_if_modified(|known| {
            let is_new = *known != leader;
            *known = leader;
            is_new
        });
    }

    pub(crate) fn router(self) -> Router {
        Router::new().fallback(answer).with_state(self)
    }
}

async fn answer(State(front): State<Front>, mut request: Request) -> Response<Body> {
    if let Some((router, pass)) = front.0.ruling.get() {
        believe(&mut request, pass);
        return router.clone().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    }
    match pass_on(&front, request).await {
        Ok(response) => response,
        Err(problem) => write_out(Refusal(problem).into_response(), &Uuid::now_v7().simple().to_string()),
    }
}

/// Takes the client's address from a replica; from anybody else the headers are taken away.
fn believe(request: &mut Request, pass: &[u8; 32]) {
    let headers = request.headers_mut();
    let (shown, client) = (headers.remove(PASS), headers.remove(CLIENT));
    let Some(shown) = shown.and_then(|shown| blake3::Hash::from_hex(shown.as_bytes()).ok()) else { return };
    // Equal in the same time wherever the difference is.
    if TokenHash::from_bytes(*shown.as_bytes()) == TokenHash::from_bytes(*pass) {
        let address = client.and_then(|client| client.to_str().ok()?.parse().ok());
        request.extensions_mut().insert(RelayedAddress(address));
    }
}

fn no_leader() -> Problem {
    ProblemKind::NoLeader.because("Another machine is taking over the service.").retry_after(1)
}

async fn pass_on(front: &Front, mut request: Request) -> Result<Response<Body>, Problem> {
    let mut changes = front.0.leader.subscribe();
    let leader = changes.borrow_and_update().clone().ok_or_else(no_leader)?;
    let address = leader.address.as_deref().ok_or_else(no_leader)?;
    // Once is enough: two that each take the other for the leader would never end.
    if request.headers().contains_key(PASS) || front.0.own.as_deref() == Some(address) {
        return Err(no_leader());
    }
    let client = client_address(front.0.behind_proxy, &request);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority(address)
        .path_and_query(path)
        .build()
        .map_err(|_no_address| no_leader())?;
    let headers = request.headers_mut();
    headers.remove(CLIENT);
    let pass = blake3::Hash::from_bytes(leader.pass).to_hex();
    headers.insert(PASS, HeaderValue::from_str(&pass).map_err(|_never| no_leader())?);
    if let Some(client) = client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok()) {
        headers.insert(CLIENT, client);
    }
    let upgrade = headers.contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    if upgrade.is_none() {
        // Of this hop alone.
        request.headers_mut().remove(CONNECTION);
    }
    let mut response = tokio::select! {
        response = front.0.client.request(request) => response.map_err(|error| {
            debug!(%error, "a request could not be passed on");
            no_leader()
        })?,
        _changed = changes.changed() => return Err(no_leader()),
    };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(near)) = (response.status(), upgrade) {
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            tokio::select! {
                () = join(near, far) => {}
                // Its client opens another one, which goes to the new leader.
                _changed = changes.changed() => {}
            }
        });
    } else {
        response.headers_mut().remove(CONNECTION);
    }
    Ok(response.map(Body::new))
}

/// Passes the bytes of a link in both directions until one side closes it.
async fn join(near: OnUpgrade, far: OnUpgrade) {
    let (near, far) = match tokio::try_join!(near, far) {
        Ok(both) => both,
        Err(error) => {
            debug!(%error, "a link could not be passed on");
            return;
        }
    };
    if let Err(error) = copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await {
        debug!(%error, "a link that was passed on broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replica_is_believed_where_a_client_is() {
        let check = |pass: Option<[u8; 32]>, expected: Option<&str>| {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert(CLIENT, HeaderValue::from_static("192.0.2.7"));
            if let Some(pass) = pass {
                let pass = blake3::Hash::from_bytes(pass).to_hex();
                request.headers_mut().insert(PASS, HeaderValue::from_str(&pass).unwrap());
            }
            believe(&mut request, &[7; 32]);
            let believed = request.extensions().get::<RelayedAddress>().and_then(|address| address.0);
            assert_eq!(believed, expected.map(|address| address.parse().unwrap()));
            assert!(request.headers().is_empty(), "nobody behind this sees them");
        };
        check(Some([7; 32]), Some("192.0.2.7"));
        check(Some([8; 32]), None);
        check(None, None);
    }
}
