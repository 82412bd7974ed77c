//! The installation's own certificate authority: it says who is the control plane and who is a node.
//!
//! One file holds its key and its certificate, so there is never one without the other. The control plane makes itself a
//! certificate at each start, whose key is in memory alone; nodes get theirs by joining, for a key that never leaves them.
//!
//! Deliberately absent: lists of revoked certificates. The server asks its caller about each node that comes, and that
//! caller knows at once who was retired. Absent, too, is a change of the authority: after ten years nodes join anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::id::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
    string::Ia5String,
};
use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use crate::certificate::{Fingerprint, key_of, node_uri};
use crate::private::{PrivateDir, PrivateError};
use crate::token::NoRandomness;

/// The name that the control plane's certificate is for. Nodes look for this name whatever address they connect to, so
/// that addresses may change.
pub const CONTROL_NAME: &str = "kite-control";

/// The authority's file in its directory.
const FILE: &str = "authority.pem";

/// How long the authority is valid. Shorter makes fleets join anew; longer keeps a key in use that nobody looks after.
const LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a node's certificate is valid where nothing else is said. It is renewed at half of it: a node that was off for
/// half a year still comes back. A stolen certificate is locked out by retiring the node, not by waiting.
const NODE_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// How far in the past a certificate begins: as far may a machine's clock be behind.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its file cannot be used.
    #[error("the authority's file cannot be used")]
    File(#[from] PrivateError),
    /// Its file holds something else. Bring it back from a copy; with a new one all nodes have to join anew.
    #[error("{path} is no authority: {detail}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A key or a certificate cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// Why a key or a certificate cannot be made: the system is broken, or out of randomness.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The cryptographic library refused.
    #[error("the certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The TLS library refused.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The TLS library refused to verify clients.
    #[error("TLS cannot be set up to know nodes")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Why a node got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is none, or not signed by its own key: the node's program is broken.
    #[error("the certificate request is not valid")]
    Request(#[source] rcgen::Error),
    /// Its key is of another kind than ECDSA on P-256: the node's program is another one.
    #[error("the certificate request's key is not ECDSA on P-256")]
    Key,
    /// The certificate cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// The authority of an installation.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    node_life: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority in `dir`; at the first start, makes it. Blocks.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let dir = PrivateDir::open(dir)?;
        // Two processes that start at once shall not make two authorities.
        let _lock = dir.lock()?;
        let text = match dir.read(FILE)? {
            Some(text) => text,
            None => {
                let text = make()?;
                dir.write(FILE, &text)?;
                text
            }
        };
        Self::parse(&text).map_err(|detail| AuthorityError::Broken { path: dir.path(FILE), detail })
    }

    /// Gives nodes certificates that are valid for so long from now on. Default one year.
    #[must_use]
    pub fn with_node_life(self, node_life: Duration) -> Self {
        Self { node_life, ..self }
    }

    /// What join tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The authority's certificate. It is no secret.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for a node, as PEM. Of the request its public key is taken alone: who the node is says the caller.
    ///
    /// # Errors
    /// See [`SignError`].
    pub fn sign_node(&self, request: &NodeRequest, node: NodeId) -> Result<String, SignError> {
        let uri = Ia5String::try_from(node_uri(node)).map_err(MakeError::from)?;
        let mut params = leaf(&node.to_string(), self.node_life, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let certificate = params.signed_by(&request.0.public_key, &self.issuer).map_err(MakeError::from)?;
        Ok(certificate.pem())
    }

    /// How the server speaks TLS: as the control plane, to nodes of this authority and to machines that want to join.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, MakeError> {
        let key = KeyPair::generate()?;
        // Whoever has the key of this certificate has the authority's, too: it lives as long, and ends with the process.
        let mut params = leaf(CONTROL_NAME, LIFE, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(CONTROL_NAME)?)];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.into(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());

        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = crypto();
        let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(nodes)
            .with_single_cert(chain, key)?;
        // A resumed session would go on with the certificate of its first handshake, which may have ended since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let key = KeyPair::from_pem(text).map_err(|_detail| "its key cannot be read")?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_detail| "its certificate cannot be read")?
            .into_owned();
        if key_of(&certificate).map_err(|_detail| "its certificate cannot be read")? != key.public_key_raw() {
            return Err("its certificate is another key's");
        }
        let certificate_pem = pem_of(text).ok_or("its certificate cannot be read")?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_detail| "its certificate cannot sign")?;
        Ok(Self { issuer, certificate, certificate_pem, node_life: NODE_LIFE })
    }
}

/// A node's request for a certificate, whose signature shows that it has the key.
#[derive(Debug)]
pub struct NodeRequest(Box<CertificateSigningRequestParams>);

impl NodeRequest {
    /// Reads and verifies a request.
    ///
    /// # Errors
    /// See [`SignError`].
    pub fn from_pem(pem: &str) -> Result<Self, SignError> {
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(SignError::Request)?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::Key);
        }
        Ok(Self(Box::new(request)))
    }

    /// The hash of the key that it asks for. A machine that asks again with the same key is the same machine.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        use rcgen::PublicKeyData;
        Fingerprint::of(self.0.public_key.der_bytes())
    }
}

/// The cryptography of all links: named, because a process may have several.
pub(crate) fn crypto() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A new authority: key and certificate, as PEM.
fn make() -> Result<String, MakeError> {
    let key = KeyPair::generate()?;
    let mut params = params("Kite node authority", LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

fn leaf(name: &str, life: Duration, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, MakeError> {
    let mut params = params(name, life)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(name: &str, life: Duration) -> Result<CertificateParams, MakeError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_unspecified| NoRandomness)?;
    // RFC 5280: serial numbers are positive.
    serial[0] &= 0x7f;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + life;
    Ok(params)
}

/// The first certificate in a text.
fn pem_of(text: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = text.find("-----BEGIN CERTIFICATE-----")?;
    let length = text[start..].find(END)? + END.len();
    Some(format!("{}\n", &text[start..start + length]))
}
