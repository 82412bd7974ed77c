//! An installation, peers that speak TLS and nothing else of the link, and a way that can be cut.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::id::NodeId;
use api::node::{Capacity, FromNode, NodeRefusal, ObservedNode};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use link::frame::{Reply, codec, decode, encode};
use link::{Authority, Identity, Incoming, JoinRequest, JoinToken, LinkRequest, Listener, TlsLink, join};
use serde::Serialize;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use uuid::Uuid;

/// Longest wait for what has to happen. The machine that tests run on may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

pub(crate) fn node_id(number: u128) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(number))
}

/// A report that is told from others by a number.
pub(crate) fn report(number: u64) -> FromNode {
    FromNode::Observed(ObservedNode {
        node: node_id(1),
        capacity: Capacity { sessions: 1, pixels_per_second: 1, ..Capacity::default() },
        refuses: Some(NodeRefusal::DiskFull { free_mb: number, needed_mb: 0 }),
        instances: Vec::new(),
        replicas: Vec::new(),
        commands: Vec::new(),
        witness: None,
        echo: false,
    })
}

/// A control plane, and the directories of its nodes.
pub(crate) struct Installation {
    pub(crate) home: TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) listener: Option<Listener>,
    pub(crate) address: SocketAddr,
}

impl Installation {
    pub(crate) async fn new() -> Self {
        Self::with(|authority| authority).await
    }

    pub(crate) async fn with(change: impl FnOnce(Authority) -> Authority) -> Self {
        let home = tempfile::tempdir().unwrap();
        let authority = Arc::new(change(Authority::open(&home.path().join("control")).unwrap()));
        let listener = Listener::bind(LOOPBACK, Arc::clone(&authority)).await.unwrap();
        let address = listener.address();
        Self { home, authority, listener: Some(listener), address }
    }

    /// Starts it anew at the same address, with what is in its files.
    pub(crate) async fn restart(&mut self) {
        self.listener = None;
        self.authority = Arc::new(Authority::open(&self.home.path().join("control")).unwrap());
        // The old one's task needs a moment to close its socket.
        for _ in 0..200 {
            if let Ok(listener) = Listener::bind(self.address, Arc::clone(&self.authority)).await {
                self.listener = Some(listener);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the port is not free");
    }

    pub(crate) fn token(&self) -> JoinToken {
        JoinToken::generate(self.authority.fingerprint()).unwrap()
    }

    pub(crate) fn dir(&self, number: u128) -> PathBuf {
        self.home.path().join(format!("node-{number}"))
    }

    pub(crate) async fn next(&mut self) -> Incoming {
        soon(self.listener.as_mut().unwrap().next()).await.unwrap()
    }

    pub(crate) async fn next_join(&mut self) -> JoinRequest {
        match self.next().await {
            Incoming::Join(join) => join,
            Incoming::Link(link) => panic!("{link:?}"),
        }
    }

    pub(crate) async fn next_link_request(&mut self) -> LinkRequest {
        match self.next().await {
            Incoming::Link(link) => link,
            Incoming::Join(join) => panic!("{join:?}"),
        }
    }

    pub(crate) async fn next_link(&mut self) -> TlsLink {
        self.next_link_request().await.accept().await.unwrap()
    }

    /// True when nobody is led to the caller for a moment.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(300), self.listener.as_mut().unwrap().next()).await.is_err()
    }

    /// Makes a machine a node.
    pub(crate) async fn joined(&mut self, number: u128) -> Identity {
        let (address, token, dir) = (self.address.to_string(), self.token(), self.dir(number));
        let joining = tokio::spawn(async move { join(&address, &token, "machine", &dir).await });
        self.next_join().await.accept(node_id(number)).await.unwrap();
        soon(joining).await.unwrap().unwrap()
    }

    /// The whole identity of a node, as PEM.
    pub(crate) fn identity_pem(&self, number: u128) -> String {
        fs::read_to_string(self.dir(number).join("identity.pem")).unwrap()
    }
}

/// Somebody with TLS who believes the installation, with the certificate of an identity or without one.
pub(crate) struct Raw {
    pub(crate) frames: Framed<TlsStream<TcpStream>, LengthDelimitedCodec>,
}

impl Raw {
    pub(crate) async fn connect(installation: &Installation, identity: Option<&str>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(installation.authority.certificate_pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some(pem) => config.with_client_auth_cert(vec![certificate(pem)], key(pem)).unwrap(),
            None => config.with_no_client_auth(),
        };
        let tcp = TcpStream::connect(installation.address).await.unwrap();
        let name = link::CONTROL_NAME.try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        Self { frames: Framed::new(tls, codec(64 * 1024 * 1024)) }
    }

    pub(crate) async fn send(&mut self, frame: &impl Serialize) {
        self.send_bytes(encode(frame).unwrap()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Bytes) {
        self.frames.send(bytes).await.unwrap();
    }

    /// The next frame; `None` when the connection ended in whatever way.
    pub(crate) async fn receive(&mut self) -> Option<BytesMut> {
        soon(self.frames.next()).await?.ok()
    }

    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        Some(decode(&self.receive().await?).unwrap())
    }
}

pub(crate) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

pub(crate) fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A way to an address that can be frozen: what is sent then arrives nowhere, and nobody is told.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    frozen: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, state) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((near, _peer)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(carry(near_read, far_write, state.clone()));
                tokio::spawn(carry(far_read, near_write, state.clone()));
            }
        });
        Self { address, frozen, _task: task }
    }

    /// Freezes what is connected, and thaws what connects later.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

async fn carry(
    from: tokio::net::tcp::OwnedReadHalf,
    to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            biased;
            () = async { drop(frozen.wait_for(|frozen| *frozen).await) } => {
                // It keeps both sockets, for ever.
                std::future::pending::<()>().await;
            }
            readable = from.readable() => if readable.is_err() { return },
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_broken) => return,
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_broken) => return,
            }
        }
    }
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map(|mut entries| entries.next().is_none()).unwrap_or(true)
}
