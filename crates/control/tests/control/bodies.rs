//! Whatever is sent: a problem that says what was wrong, and no more than the bound is read.

use api::rest::{MAX_JSON_BYTES, MAX_SDP_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Plane;

#[tokio::test]
async fn each_bad_request_names_what_was_wrong() {
    let plane = Plane::start().await;
    let spec = |width: u32, height: u32, rate: u32| {
        format!(r#"{{"app": "pong", "spec": {{"width": {width}, "height": {height}, "frames_per_second": {rate}}}}}"#)
    };
    let large = format!(r#"{{"app": "{}"}}"#, "x".repeat(MAX_JSON_BYTES));
    let check = async |body: &str, status: u16, kind: &str, says: &str| {
        let reply = plane.client.post_json("/v1/sessions", body.to_owned()).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!((reply.status, reply.problem().as_str()), (status, kind), "{shown}");
        assert!(reply.text().contains(says), "{shown}: {}", reply.text());
    };
    check("", 400, "invalid_request", "EOF").await;
    check("nonsense", 400, "invalid_request", "line 1").await;
    check("{}", 400, "invalid_request", "missing field `app`").await;
    check(r#"{"app": "pong", "colour": 1}"#, 400, "invalid_request", "colour").await;
    check(r#"{"app": "No Name"}"#, 400, "invalid_request", "is no app name").await;
    check(r#"{"app": 7}"#, 400, "invalid_request", "integer").await;
    check(&"[".repeat(10_000), 400, "invalid_request", "expected").await;
    check(r#"{"app": "chess"}"#, 404, "app_unknown", "chess").await;
    check(&spec(4000, 360, 30), 422, "spec_out_of_range", "The spec's width is 4000, but this app allows 320 to 1280.")
        .await;
    check(&spec(640, 361, 30), 422, "spec_out_of_range", "even").await;
    check(&spec(640, 360, 61), 422, "spec_out_of_range", "frames_per_second is 61").await;
    check(&large, 413, "too_large", "16384").await;
    let typeless = plane.client.send("POST", "/v1/sessions", r#"{"app": "pong"}"#).await;
    assert_eq!((typeless.status, typeless.problem().as_str()), (415, "wrong_media_type"));
    let form = plane.client.with("content-type", "text/plain").send("POST", "/v1/sessions", "app=pong").await;
    assert_eq!((form.status, form.problem().as_str()), (415, "wrong_media_type"));
    assert!(form.text().contains("text/plain was sent"));
}

#[tokio::test]
async fn each_bad_offer_too() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let player = plane.client.with_token(&token);
    let path = format!("/v1/sessions/{id}/whep");
    let check = async |body: Vec<u8>, status: u16, kind: &str| {
        let reply = player.post_sdp(&path, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, kind));
    };
    check(Vec::new(), 400, "invalid_offer").await;
    check(b"hello".to_vec(), 400, "invalid_offer").await;
    check(vec![0xff, 0xfe, 0xfd], 400, "invalid_offer").await;
    check(vec![b'v'; MAX_SDP_BYTES + 1], 413, "too_large").await;
    let json = player.post_json(&path, "{}").await;
    assert_eq!((json.status, json.problem().as_str()), (415, "wrong_media_type"));
    let mut largest = b"v=0\r\n".to_vec();
    largest.resize(MAX_SDP_BYTES, b' ');
    assert_eq!(player.post_sdp(&path, largest).await.status, 201);
    let patch = player.send("PATCH", &path, "").await;
    assert_eq!((patch.status, patch.problem().as_str()), (405, "method_not_allowed"));
    assert_eq!(patch.header("allow"), "POST");
}

#[tokio::test]
async fn a_session_may_not_send_offers_without_end() {
    let plane = Plane::start().await;
    let (id, token) = plane.create_ready().await;
    let (other, other_token) = plane.create_ready().await;
    let player = plane.client.with_token(&token);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(player.post_sdp(&format!("/v1/sessions/{id}/whep"), "v=0\r\n").await);
    }
    let refused = statuses.iter().find(|reply| reply.status != 201).expect("no bound on offers");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    let other = plane.client.with_token(&other_token).post_sdp(&format!("/v1/sessions/{other}/whep"), "v=0\r\n").await;
    assert_eq!(other.status, 201, "another session is not held back");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems() {
    let plane = Plane::start().await;
    for path in
        ["/nothing", "/v1", "/v1/", "/v2/apps", "/v1/sessions/", "/.env", "/..%2f..%2fetc/passwd", "/v1/apps/a/b/c"]
    {
        let reply = plane.client.get(path).await;
        assert_eq!((reply.status, reply.problem().as_str()), (404, "path_unknown"), "{path}");
    }
    for (method, path, allow) in
        [("PUT", "/v1/apps", "GET,HEAD"), ("DELETE", "/healthz", "GET,HEAD"), ("POST", "/openapi.json", "GET,HEAD")]
    {
        let reply = plane.client.send(method, path, "").await;
        assert_eq!((reply.status, reply.problem().as_str()), (405, "method_not_allowed"), "{method} {path}");
        assert_eq!(reply.header("allow"), allow);
    }
}

/// Sends raw bytes and reads all that comes back until the server closes, which has to be within this many seconds.
async fn within(plane: &Plane, bytes: &[u8], seconds: u64) -> String {
    let mut stream = TcpStream::connect(plane.client.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(std::time::Duration::from_secs(seconds), stream.read_to_end(&mut answer)).await;
    read.expect("the server does not close").unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends raw bytes and reads all that comes back.
async fn raw(plane: &Plane, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(plane.client.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as its end: what counts is what came.
    let read = async { stream.read_to_end(&mut answer).await.unwrap_or_default() };
    tokio::time::timeout(std::time::Duration::from_secs(5), read).await.unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_as_well() {
    let plane = Plane::start().await;
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let mut request = head.as_bytes().to_vec();
    for _ in 0..40 {
        request.extend_from_slice(b"400\r\n");
        request.extend_from_slice(&[b' '; 0x400]);
        request.extend_from_slice(b"\r\n");
    }
    let answer = raw(&plane, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("too_large"), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_too_slowly_is_given_up() {
    let plane = Plane::start().await;
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let slow_body = within(&plane, head.as_bytes(), 15);
    let slow_head = within(&plane, b"GET /healthz HTTP/1.1\r\nhost: local", 30);
    let (body, head) = tokio::join!(slow_body, slow_head);
    assert!(body.starts_with("HTTP/1.1 400") && body.contains("took too long"), "{body}");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 4"), "{head}");
}

#[tokio::test]
async fn garbage_instead_of_http_breaks_one_connection_alone() {
    let plane = Plane::start().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        &[b'A'; 100_000],
    ] {
        let answer = raw(&plane, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(plane.client.get("/healthz").await.status, 200);
}
