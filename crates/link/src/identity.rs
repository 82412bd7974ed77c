//! Who a node is: its id, its key, its certificate, and the authority that it believes.
//!
//! All of it is one file, so that it is there as a whole or not at all. The key is made here and goes nowhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::id::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::authority::{MakeError, crypto};
use crate::certificate::{CertificateError, Fingerprint, Validity, node_of, validity_of};
use crate::dial::tighten;
use crate::private::{PrivateDir, PrivateError};

/// The identity's file in its directory.
const FILE: &str = "identity.pem";

/// The key of a machine that is joining.
const JOINING: &str = "joining.pem";

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file cannot be used.
    #[error("the node's identity cannot be used")]
    File(#[from] PrivateError),
    /// Its file holds something else: remove it and join anew.
    #[error("{path} is no identity of a node")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PartsError,
    },
    /// A key cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// Why key, certificate and authority are no identity together.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A part is missing, or is no PEM.
    #[error("a part is missing or cannot be read")]
    Pem,
    /// The certificate is no node's.
    #[error("the certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The parts do not belong together.
    #[error("the key, the certificate and the authority do not belong together")]
    Mismatch(#[from] rustls::Error),
}

/// Who a node is. `Debug` hides the key.
#[derive(Clone)]
pub struct Identity {
    node: NodeId,
    validity: Validity,
    authority: Fingerprint,
    /// Key, certificate, authority, as PEM.
    text: String,
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { node, validity, authority, .. } = self;
        f.debug_struct("Identity")
            .field("node", node)
            .field("validity", validity)
            .field("authority", authority)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the identity in `dir`; `None` when the machine never joined. Blocks.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let dir = PrivateDir::open(dir)?;
        let Some(text) = dir.read(FILE)? else { return Ok(None) };
        let identity = Self::from_pem(text);
        identity.map(Some).map_err(|source| IdentityError::Broken { path: dir.path(FILE), source })
    }

    /// Writes the identity into `dir`, in the place of an older one. Blocks.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let dir = PrivateDir::open(dir)?;
        let _lock = dir.lock()?;
        dir.write(FILE, &self.text)?;
        // The key is in the identity now.
        Ok(dir.remove(JOINING)?)
    }

    /// Who the node is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How long its certificate is valid. It is renewed while the node is connected.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The authority that it believes.
    #[must_use]
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Of a key, a certificate for it, and the authority's, as PEM.
    pub(crate) fn assemble(key: &NodeKey, certificate: &str, authority: &str) -> Result<Self, PartsError> {
        Self::from_pem(format!("{}{certificate}{authority}", key.0.serialize_pem()))
    }

    /// The same node with a newer key and certificate.
    pub(crate) fn renewed(&self, key: &NodeKey, certificate: &str) -> Result<Self, PartsError> {
        let (_certificate, authority) = certificates(&self.text)?;
        let authority = pem(&authority);
        let renewed = Self::assemble(key, certificate, &authority)?;
        if renewed.node == self.node { Ok(renewed) } else { Err(CertificateError::NoNode.into()) }
    }

    fn from_pem(text: String) -> Result<Self, PartsError> {
        let (certificate, authority) = certificates(&text)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_detail| PartsError::Pem)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let (node, validity) = (node_of(&certificate)?, validity_of(&certificate)?);
        let config = ClientConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        let config = Arc::new(tighten(config));
        Ok(Self { node, validity, authority: Fingerprint::of(&authority), text, config })
    }
}

/// The node's certificate and the authority's.
fn certificates(text: &str) -> Result<(CertificateDer<'static>, CertificateDer<'static>), PartsError> {
    let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    match (certificates.next(), certificates.next(), certificates.next()) {
        (Some(Ok(certificate)), Some(Ok(authority)), None) => Ok((certificate, authority)),
        _ => Err(PartsError::Pem),
    }
}

/// A certificate as PEM.
fn pem(der: &CertificateDer<'_>) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// A key that is to become a node's.
pub(crate) struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey(hidden)")
    }
}

impl NodeKey {
    /// A new one.
    pub(crate) fn generate() -> Result<Self, MakeError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// The key of a join that did not end, or a new one that is kept until it ends. So a machine that is cut off between
    /// the control plane's answer and its own file asks again as the same one.
    pub(crate) fn joining(dir: &Path) -> Result<Self, IdentityError> {
        let dir = PrivateDir::open(dir)?;
        let _lock = dir.lock()?;
        if let Some(key) = dir.read(JOINING)?.and_then(|text| KeyPair::from_pem(&text).ok()) {
            return Ok(Self(key));
        }
        let key = Self::generate()?;
        dir.write(JOINING, &key.0.serialize_pem())?;
        Ok(key)
    }

    /// A request for a certificate, as PEM.
    pub(crate) fn request(&self) -> Result<String, MakeError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "node");
        Ok(params.serialize_request(&self.0)?.pem()?)
    }
}
