//! Around every request: its id, the host name, the origin, security headers, problems written out, one log line.
//!
//! Log lines hold no address, no token and no query.

use std::net::IpAddr;
use std::time::Instant;

use api::problem::{Problem, ProblemKind};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use tracing::{Instrument, debug, debug_span};
use uuid::Uuid;

use super::problem::{Refusal, write_out};
use super::relay::RelayedAddress;
use super::{Edge, PeerAddress};
use crate::settings::Settings;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Longest host name that is looked at: a DNS name has at most 253 characters.
const MAX_HOST: usize = 270;

/// Where a request comes from: a keyed hash of the address.
#[derive(Clone, Debug)]
pub(super) struct Address(pub(super) String);

/// The `Host` header, checked: only letters, digits, `.`, `-`, `:`, `[` and `]`.
#[derive(Clone, Debug)]
pub(super) struct CheckedHost(pub(super) String);

pub(super) async fn guard(State(edge): State<Edge>, mut request: Request, next: Next) -> Response<Body> {
    let started = Instant::now();
    let request_id = Uuid::now_v7().simple().to_string();
    let settings = &edge.plane.settings;
    let method = request.method().clone();
    // The route, not the path: a path may hold what a client put there by mistake.
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let address = Address(address_hash(settings, &edge.plane.address_key, &request));
    request.extensions_mut().insert(address);
    let origin = request.headers().get(ORIGIN).cloned();
    let admitted = check_host(settings, request.headers()).and_then(|host| {
        let foreign = check_origin(settings, origin.as_ref(), &host)?;
        Ok((host, foreign))
    });
    let response = match admitted {
        Err(problem) => Refusal(problem).into_response(),
        Ok((_, Some(origin))) if is_preflight(&request) => preflight(&origin),
        Ok((host, foreign)) => {
            request.extensions_mut().insert(CheckedHost(host));
            let span = debug_span!("request", %request_id);
            let mut response = to_its_end(next.run(request).instrument(span), &method).await;
            if let Some(origin) = foreign {
                let headers = response.headers_mut();
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                let exposed = HeaderValue::from_static("location, retry-after, x-request-id");
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
            response
        }
    };
    let mut response = keep_cors(response, &request_id);
    finish(&mut response, settings, &request_id);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    edge.plane.observer.metrics.answered(&route, method.as_str(), status, took);
    let ms = took.as_millis();
    debug!(%method, route, status, ms, request_id, "request");
    response
}

/// What changes something is done to its end, also when whoever asked goes away: a change and its place in the record are two steps.
async fn to_its_end(answer: impl Future<Output = Response<Body>> + Send + 'static, method: &Method) -> Response<Body> {
    if method.is_safe() {
        return answer.await;
    }
    match tokio::spawn(answer).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request was not answered");
            Refusal(ProblemKind::Internal.plain()).into_response()
        }
    }
}

/// Writes out a problem; the headers that the origin needs to read it stay.
fn keep_cors(response: Response<Body>, request_id: &str) -> Response<Body> {
    let origin = response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
    let exposed = response.headers().get(ACCESS_CONTROL_EXPOSE_HEADERS).cloned();
    let mut response = write_out(response, request_id);
    if let (Some(origin), Some(exposed)) = (origin, exposed) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// Headers that every response has.
fn finish(response: &mut Response<Body>, settings: &Settings, request_id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = if settings.allowed_origins.is_empty() { "same-origin" } else { "cross-origin" };
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static(policy));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// The host name, when it is one under which this server is reached.
fn check_host(settings: &Settings, headers: &HeaderMap) -> Result<String, Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(plain) {
        return Err(ProblemKind::InvalidRequest.because("The Host header is missing or cannot be read."));
    }
    let name = without_port(host);
    let listed = |list: &[String]| list.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
    if name.eq_ignore_ascii_case("localhost") || is_address(name) || listed(&settings.allowed_hosts) {
        Ok(host.to_owned())
    } else {
        Err(ProblemKind::HostNotAllowed.because(format!("This server is not reached as `{name}`.")))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn is_address(name: &str) -> bool {
    name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// `None` for a page of this server and for what is no page; the origin of an allowed page of another one.
fn check_origin(settings: &Settings, origin: Option<&HeaderValue>, host: &str) -> Result<Option<HeaderValue>, Problem> {
    let Some(value) = origin else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let of_page = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if of_page.is_some_and(|page| page.eq_ignore_ascii_case(host)) {
        return Ok(None);
    }
    if settings.allowed_origins.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(text)) {
        return Ok(Some(value.clone()));
    }
    let text: String = text.chars().take(100).collect();
    Err(ProblemKind::OriginNotAllowed.because(format!("Pages of `{text}` may not use this server.")))
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(origin: &HeaderValue) -> Response<Body> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, traceparent"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Where a request comes from, as far as that is known.
pub(super) fn client_address(behind_proxy: bool, request: &Request) -> Option<IpAddr> {
    let direct = request.extensions().get::<PeerAddress>().map(|address| address.0);
    let forwarded = || {
        let value = request.headers().get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next()?.trim().parse::<IpAddr>().ok()
    };
    if behind_proxy { forwarded().or(direct) } else { direct }
}

/// A keyed hash of the client's address: enough to count by, useless without the key.
fn address_hash(settings: &Settings, key: &[u8; 32], request: &Request) -> String {
    let address = match request.extensions().get::<RelayedAddress>() {
        Some(relayed) => relayed.0,
        None => client_address(settings.behind_proxy, request),
    };
    let hash = match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => blake3::keyed_hash(key, &address.octets()),
        // A home has a /64: it can make up as many addresses in it as it likes.
        Some(IpAddr::V6(address)) => blake3::keyed_hash(key, &address.octets()[..8]),
        None => blake3::keyed_hash(key, b"unknown"),
    };
    hash.to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::new(([127, 0, 0, 1], 0).into(), "unused");
        settings.allowed_hosts = vec!["play.example.org".to_owned()];
        settings.allowed_origins = vec!["https://portal.example.org".to_owned()];
        settings
    }

    #[test]
    fn only_names_of_this_server_are_hosts() {
        let check = |host: &str, expected: Result<(), u16>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            let got = check_host(&settings(), &headers).map(|_| ()).map_err(|problem| problem.status);
            assert_eq!(got, expected, "{host}");
        };
        for good in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "192.0.2.7", "Play.Example.org"]
        {
            check(good, Ok(()));
        }
        for foreign in
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "play.example.org.evil"]
        {
            check(foreign, Err(403));
        }
        for garbage in ["", "a b", "a/b", "evil\"x", &"a".repeat(300)] {
            check(garbage, Err(400));
        }
    }

    #[test]
    fn pages_of_this_server_and_of_listed_origins_alone() {
        let check = |origin: &str, expected: Result<bool, u16>| {
            let value = HeaderValue::from_str(origin).unwrap();
            let got = check_origin(&settings(), Some(&value), "127.0.0.1:8080");
            let got = got.map(|foreign| foreign.is_some()).map_err(|problem| problem.status);
            assert_eq!(got, expected, "{origin}");
        };
        check("http://127.0.0.1:8080", Ok(false));
        check("https://127.0.0.1:8080", Ok(false));
        check("https://portal.example.org", Ok(true));
        for foreign in [
            "http://127.0.0.1:8081",
            "http://127.0.0.1",
            "null",
            "",
            "https://portal.example.org.evil",
            "file://127.0.0.1:8080",
        ] {
            check(foreign, Err(403));
        }
    }

    #[test]
    fn an_address_is_counted_by_itself_or_its_prefix_and_never_readable() {
        let of = |address: &str, forwarded: Option<&str>, behind_proxy: bool| {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(PeerAddress(address.parse().unwrap()));
            if let Some(forwarded) = forwarded {
                request.headers_mut().insert(FORWARDED_FOR, HeaderValue::from_str(forwarded).unwrap());
            }
            address_hash(&Settings { behind_proxy, ..settings() }, &[7; 32], &request)
        };
        assert_eq!(of("192.0.2.1", None, false), of("::ffff:192.0.2.1", None, false));
        assert_ne!(of("192.0.2.1", None, false), of("192.0.2.2", None, false));
        assert_eq!(of("2001:db8::1", None, false), of("2001:db8::ffff:1", None, false));
        assert_ne!(of("2001:db8::1", None, false), of("2001:db8:0:1::1", None, false));
        assert_eq!(
            of("192.0.2.1", Some("198.51.100.9"), false),
            of("192.0.2.1", None, false),
            "the header is not believed"
        );
        assert_eq!(
            of("192.0.2.1", Some("203.0.113.5, 198.51.100.9"), true),
            of("198.51.100.9", None, false),
            "only the proxy's entry is"
        );
        assert!(!of("192.0.2.1", None, false).contains("192"));
    }
}
