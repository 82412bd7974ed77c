//! Who has no business here, and what he can do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::node::{FromNode, NodeLink, ToNode};
use bytes::Bytes;
use futures_util::future::join_all;
use link::frame::{FROM_NODE_LIMIT, Frame, OPENING_LIMIT, Opening, Refusal, Reply, VERSION};
use link::{ConnectionState, Identity, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::support::{Installation, LOOPBACK, Raw, certificate, key, node_id, report, soon};

/// What a node's link says of its failure.
async fn failure(identity: Identity, address: std::net::SocketAddr, dir: std::path::PathBuf) -> String {
    let (_end, connection) = connect(vec![address.to_string()], identity, dir);
    let mut state = connection.state();
    let failed = |state: &ConnectionState| matches!(state, ConnectionState::Connecting { failure: Some(_) });
    let state = soon(state.wait_for(failed)).await.unwrap().clone();
    match state {
        ConnectionState::Connecting { failure: Some(failure) } => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (mut installation, mut other) = (Installation::new().await, Installation::new().await);
    other.joined(1).await;
    // The other installation's node, which believes this one.
    let pem = other.identity_pem(1);
    let own = pem.rfind("-----BEGIN CERTIFICATE").unwrap();
    let mixed = format!("{}{}", &pem[..own], installation.authority.certificate_pem());
    std::fs::write(other.dir(1).join("identity.pem"), mixed).unwrap();
    let identity = Identity::load(&other.dir(1)).unwrap().unwrap();
    let said = failure(identity, installation.address, other.dir(1)).await;
    assert!(said.contains("does not accept this node's certificate"), "{said}");
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn a_node_does_not_believe_another_installation() {
    let (mut installation, mut other) = (Installation::new().await, Installation::new().await);
    let identity = installation.joined(1).await;
    let said = failure(identity, other.address, installation.dir(1)).await;
    assert!(said.contains("is not the control plane of this installation"), "{said}");
    assert!(other.is_quiet().await);
}

#[tokio::test]
async fn a_node_cannot_pretend_to_be_the_control_plane() {
    let mut installation = Installation::new().await;
    let identity = installation.joined(1).await;
    installation.joined(2).await;
    let pem = installation.identity_pem(2);
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate(&pem)], key(&pem))
        .unwrap();
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            assert!(TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await.is_err());
        }
    });
    let said = failure(identity, address, installation.dir(1)).await;
    assert!(said.contains("is not the control plane of this installation"), "{said}");
}

#[tokio::test]
async fn a_hello_needs_the_certificate_of_the_same_node() {
    let mut installation = Installation::new().await;
    installation.joined(1).await;
    let pem = installation.identity_pem(1);
    for (identity, node) in [(None, node_id(1)), (Some(pem.as_str()), node_id(2))] {
        let mut raw = Raw::connect(&installation, identity).await;
        raw.send(&Opening::Hello { version: VERSION, node }).await;
        assert!(matches!(raw.reply().await, Some(Reply::Refused(Refusal::Other { .. }))));
        assert_eq!(raw.receive().await, None);
    }
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn another_version_is_told_both() {
    let mut installation = Installation::new().await;
    let mut raw = Raw::connect(&installation, None).await;
    raw.send(&Opening::Hello { version: 99, node: node_id(1) }).await;
    let expected = Refusal::Version { control: VERSION, node: 99 };
    assert_eq!(raw.reply().await, Some(Reply::Refused(expected)));
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let mut installation = Installation::new().await;
    // No TLS at all.
    let mut plain = TcpStream::connect(installation.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It gets an alert at most.
    let _reset = soon(plain.read_to_end(&mut answer)).await;
    assert!(answer.len() < 100);
    // No opening inside TLS.
    let openings: [&[u8]; 4] = [b"", b"{}", b"\xff\xfe", br#"{"frame":"beat","body":{"version":2}}"#];
    for opening in openings {
        let mut raw = Raw::connect(&installation, None).await;
        raw.send_bytes(Bytes::from_static(opening)).await;
        assert_eq!(raw.receive().await, None);
    }
    // No frame after the welcome.
    installation.joined(1).await;
    let pem = installation.identity_pem(1);
    let frames: [&'static [u8]; 3] = [b"", b"{\"frame\":\"message\"}", b"\0\0\0"];
    for frame in frames {
        let mut raw = Raw::connect(&installation, Some(&pem)).await;
        raw.send(&Opening::Hello { version: VERSION, node: node_id(1) }).await;
        let mut link = installation.next_link().await;
        assert_eq!(raw.reply().await, Some(Reply::Welcome {}));
        raw.send(&Frame::Message(report(7))).await;
        raw.send_bytes(Bytes::from_static(frame)).await;
        // What came before is kept.
        assert_eq!(soon(link.receive()).await, Some(report(7)));
        assert_eq!(soon(link.receive()).await, None);
    }
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn a_length_is_looked_at_before_anything_is_kept_for_it() {
    let mut installation = Installation::new().await;
    installation.joined(1).await;
    let pem = installation.identity_pem(1);
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    for too_long in [length(OPENING_LIMIT + 1), u32::MAX.to_be_bytes()] {
        let mut raw = Raw::connect(&installation, None).await;
        raw.frames.get_mut().write_all(&too_long).await.unwrap();
        assert_eq!(raw.receive().await, None);
    }
    for too_long in [length(FROM_NODE_LIMIT + 1), u32::MAX.to_be_bytes()] {
        let mut raw = Raw::connect(&installation, Some(&pem)).await;
        raw.send(&Opening::Hello { version: VERSION, node: node_id(1) }).await;
        let mut link = installation.next_link().await;
        raw.frames.get_mut().write_all(&too_long).await.unwrap();
        assert_eq!(soon(link.receive()).await, None);
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_dropped_and_the_link_goes_on() {
    let mut installation = Installation::new().await;
    let identity = installation.joined(1).await;
    let (mut end, _connection) = connect(vec![installation.address.to_string()], identity, installation.dir(1));
    let mut link = installation.next_link().await;
    let offer = |request, bytes| ToNode::Offer {
        request,
        instance: api::id::InstanceId::from_uuid(uuid::Uuid::nil()),
        epoch: 1,
        sdp: "x".repeat(bytes),
    };
    for (request, bytes) in [(1, 17 << 20), (2, 15 << 20), (3, 10)] {
        link.send(offer(request, bytes)).await.unwrap();
    }
    for expected in [2, 3] {
        match soon(end.from_control.recv()).await {
            Some(ToNode::Offer { request, .. }) => assert_eq!(request, expected),
            other => panic!("{}", other.is_some()),
        }
    }
    // A long frame is a sign of life while it comes, and beats come behind it.
    let outcome = Ok("x".repeat(7 << 20));
    end.to_control.send(FromNode::Answer { request: 2, outcome: outcome.clone() }).await.unwrap();
    assert_eq!(soon(link.receive()).await, Some(FromNode::Answer { request: 2, outcome }));
}

#[tokio::test]
async fn who_says_nothing_takes_a_bounded_place_for_a_bounded_time() {
    let mut installation = Installation::new().await;
    installation.joined(1).await;
    let pem = installation.identity_pem(1);
    // Who is turned away is so at once; who got in, when it has said nothing for five seconds.
    let closings = (0..300).map(async |_| {
        let mut stream = TcpStream::connect(installation.address).await.unwrap();
        let began = Instant::now();
        let _closed = timeout(Duration::from_secs(60), stream.read_u8()).await.expect("it is never closed");
        began.elapsed()
    });
    let kept = join_all(closings).await.into_iter().filter(|stayed| *stayed >= Duration::from_secs(5)).count();
    assert_eq!(kept, 128);
    // They are closed, and then a node gets in again.
    let mut raw = Raw::connect(&installation, Some(&pem)).await;
    raw.send(&Opening::Hello { version: VERSION, node: node_id(1) }).await;
    installation.next_link().await;
}
