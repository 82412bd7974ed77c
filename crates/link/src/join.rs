//! A machine becomes a node: it shows the secret of a join token, and gets a certificate.
//!
//! The token's fingerprint tells the control plane from everybody else, before the secret is sent. That is the one place
//! where a certificate is believed for another reason than a known authority: the chain that is shown has to hold the
//! authority of that fingerprint, and is then verified against it as any other chain.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::authority::{MakeError, crypto};
use crate::certificate::Fingerprint;
use crate::dial::{DialError, dial, reply, tighten};
use crate::frame::{MAX_NAME, Opening, Reply, VERSION};
use crate::identity::{Identity, IdentityError, NodeKey, PartsError};
use crate::token::JoinToken;

/// Why a machine did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The control plane was not reached, or refused.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Its answer cannot be used: it is broken, or of another release.
    #[error("the control plane's answer is no identity")]
    Answer(#[source] PartsError),
    /// The identity cannot be kept.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A key or a request cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// Joins by the control plane at `address` (host and port), as a machine called `name`, and keeps the identity in `dir`.
///
/// A join that was cut off can be made again with the same token and directory: the control plane knows it by its key.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(address: &str, token: &JoinToken, name: &str, dir: &Path) -> Result<Identity, JoinError> {
    let key = off_the_runtime(dir, NodeKey::joining).await?;
    let opening = Opening::Join {
        version: VERSION,
        secret: token.secret().clone(),
        name: name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME / 4).collect(),
        request: key.request()?,
    };
    let (_opened, answer) = dial(address, joining_config(token.fingerprint())?, &opening).await?;
    let Reply::Joined { node, certificate, authority } = answer else {
        return Err(reply(address, None).into());
    };
    let identity = Identity::assemble(&key, &certificate, &authority).map_err(JoinError::Answer)?;
    if identity.authority() != token.fingerprint() || identity.node() != node {
        return Err(reply(address, None).into());
    }
    let saved = identity.clone();
    off_the_runtime(dir, move |dir| saved.save(dir)).await?;
    Ok(identity)
}

/// Runs what blocks where it holds nobody up.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce(&Path) -> Result<T, IdentityError> + Send + 'static,
) -> Result<T, IdentityError> {
    let path = dir.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&path)).await;
    done.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(crate::private::PrivateError::Io { path: dir.to_owned(), source }.into())
    })
}

fn joining_config(fingerprint: Fingerprint) -> Result<Arc<ClientConfig>, MakeError> {
    let provider = crypto();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByFingerprint { fingerprint, provider }))
        .with_no_client_auth();
    Ok(Arc::new(tighten(config)))
}

/// Believes the authority of one fingerprint.
#[derive(Debug)]
struct ByFingerprint {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut shown = intermediates.iter().filter(|der| Fingerprint::of(der) == self.fingerprint);
        let authority = shown.next().ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let usual = usual.build().map_err(|_no_roots| unknown())?;
        usual.verify_server_cert(end_entity, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
