//! One connection to the control plane: TCP, TLS, one opening, its reply.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription, ClientConfig};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::authority::CONTROL_NAME;
use crate::frame::{FrameError, OPENING_LIMIT, Opening, Refusal, Reply, codec, decode, encode};

/// How long it may take to be connected, to each address. A round trip across the world takes 0.3 s, there are three; longer
/// only delays the try of the next address.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the control plane may take to reply: it looks into its database.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// An opened connection.
pub(crate) type Opened = Framed<TlsStream<TcpStream>, LengthDelimitedCodec>;

/// Why there is no connection to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers at the address: is it right, does the control plane run, is its port open?
    #[error("nobody answers at {address}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing came in time: a firewall, or a control plane that is overloaded.
    #[error("{address} did not answer in time")]
    Timeout {
        /// The address.
        address: String,
    },
    /// Who answers is not the control plane of this installation: a wrong address, a wrong token, or somebody in between.
    /// No secret was sent.
    #[error("who answers at {address} is not the control plane of this installation")]
    Stranger {
        /// The address.
        address: String,
    },
    /// The control plane does not know this node's certificate, or it has ended: join anew.
    #[error("the control plane at {address} does not accept this node's certificate: join anew")]
    NotAccepted {
        /// The address.
        address: String,
    },
    /// TLS failed in another way, or the connection broke.
    #[error("the connection to {address} broke")]
    Broken {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The reply is none: the other side is of another release.
    #[error("{address} replied something else")]
    Reply {
        /// The address.
        address: String,
        /// What is wrong with it; `None` when it answers another question.
        #[source]
        source: Option<FrameError>,
    },
    /// The control plane refused.
    #[error("refused by the control plane: {0}")]
    Refused(Refusal),
}

/// Connects, sends the opening, and gives the reply that is no refusal.
pub(crate) async fn dial(
    address: &str,
    config: Arc<ClientConfig>,
    opening: &Opening,
) -> Result<(Opened, Reply), DialError> {
    let broken = |source| broken(address, source);
    let late = |_elapsed| DialError::Timeout { address: address.to_owned() };
    let stream = timeout(CONNECT_LIMIT, connect(address, config)).await.map_err(late)??;
    let mut opened = Framed::new(stream, codec(OPENING_LIMIT));
    let opening = encode(opening).map_err(|source| reply(address, Some(source)))?;
    let exchange = async {
        opened.send(opening).await.map_err(broken)?;
        let closed = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        opened.next().await.unwrap_or_else(closed).map_err(broken)
    };
    let bytes: BytesMut = timeout(REPLY_LIMIT, exchange).await.map_err(late)??;
    match decode(&bytes).map_err(|source| reply(address, Some(source)))? {
        Reply::Refused(refusal) => Err(DialError::Refused(refusal)),
        reply @ (Reply::Joined { .. } | Reply::Welcome {}) => Ok((opened, reply)),
    }
}

/// A reply that answers another question.
pub(crate) fn reply(address: &str, source: Option<FrameError>) -> DialError {
    DialError::Reply { address: address.to_owned(), source }
}

/// Settings that all configurations of clients share.
pub(crate) fn tighten(mut config: ClientConfig) -> ClientConfig {
    // A resumed session goes on with the older certificate.
    config.resumption = Resumption::disabled();
    config
}

async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let name = ServerName::try_from(CONTROL_NAME).map_err(|error| unreachable(io::Error::other(error)))?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|source| broken(address, source))
}

fn broken(address: &str, source: io::Error) -> DialError {
    let address = address.to_owned();
    match source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => DialError::Stranger { address },
        // The server looks at the certificate after the client's side of the handshake is done.
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        )) => DialError::NotAccepted { address },
        Some(_) | None => DialError::Broken { address, source },
    }
}

/// An error with all its sources, for a state that is shown.
pub(crate) fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
