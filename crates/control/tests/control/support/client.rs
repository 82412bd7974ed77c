//! A small HTTP and WebSocket client. It sends what it is told, however wrong.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::PATIENCE;

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    http: HyperClient<HttpConnector, Full<Bytes>>,
    headers: Vec<(String, String)>,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Word of the problem, after checking that it is a whole one.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{} {}", self.status, self.text());
        let json = self.json();
        assert_eq!(json["status"], self.status);
        assert_eq!(json["request_id"], self.header("x-request-id"));
        for member in ["title", "detail", "remedy"] {
            assert!(json[member].as_str().is_some_and(|text| text.ends_with('.') || member == "title"), "{json}");
        }
        json["type"].as_str().unwrap().strip_prefix("urn:kite:problem:").unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = HyperClient::builder(TokioExecutor::new()).build_http();
        Self { address, http, headers: Vec::new() }
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = tokio::time::timeout(PATIENCE * 2, self.http.request(request)).await.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "").await
    }

    pub(crate) async fn post_json(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.with("content-type", "application/json").send("POST", path, body).await
    }

    pub(crate) async fn post_sdp(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.with("content-type", "application/sdp").send("POST", path, body).await
    }

    /// Opens a link; the status of the refusal when there is none.
    pub(crate) async fn link(&self, id: &str, token: &str) -> Result<Link, u16> {
        let mut request = format!("ws://{}/v1/sessions/{id}/link", self.address).into_client_request().unwrap();
        let protocols = format!("{}, {}{token}", api::rest::LINK_PROTOCOL, api::rest::LINK_TOKEN_PROTOCOL_PREFIX);
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        for (name, value) in &self.headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], api::rest::LINK_PROTOCOL);
                Ok(Link { socket })
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) struct Link {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What a link says.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(serde_json::Value),
    Closed(Option<CloseFrame>),
}

impl Link {
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the link says nothing");
            match message {
                Some(Ok(Message::Text(text))) => return Heard::Message(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// The next message of this type.
    pub(crate) async fn message(&mut self, kind: &str) -> serde_json::Value {
        loop {
            match self.next().await {
                Heard::Message(message) if message["type"] == kind => return message,
                Heard::Message(_) => {}
                Heard::Closed(frame) => panic!("the link closed: {frame:?}"),
            }
        }
    }

    /// The messages until the session is in this state; the last one.
    pub(crate) async fn until_state(&mut self, state: &str) -> serde_json::Value {
        loop {
            let session = self.message("session").await["session"].clone();
            if session["state"]["state"] == state {
                return session;
            }
        }
    }

    /// The reason with which the server closes.
    pub(crate) async fn closed(&mut self) -> String {
        loop {
            if let Heard::Closed(frame) = self.next().await {
                return frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
            }
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }
}
