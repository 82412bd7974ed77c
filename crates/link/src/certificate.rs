//! What is read out of certificates: whose they are, how long they are valid, their fingerprint.
//!
//! Whether a certificate is to be believed is rustls' business; here nothing is verified.

use std::fmt;
use std::time::{Duration, SystemTime};

use api::id::NodeId;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// What a node's certificate names it by, before the id: a URI of the subject's alternative names.
const NODE_URI: &str = "kite:node:";

/// A text that is no certificate of this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no certificate. Whoever made it is broken, or the file is.
    #[error("it is no certificate")]
    Malformed,
    /// It is not a node's: another kind of certificate was given.
    #[error("it names no node")]
    NoNode,
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate's DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: SystemTime,
    /// Up to then.
    pub until: SystemTime,
}

impl Validity {
    /// True when half of it has passed: time for a new certificate.
    #[must_use]
    pub fn is_past_half(&self, now: SystemTime) -> bool {
        let whole = self.until.duration_since(self.from).unwrap_or_default();
        now >= self.from + whole / 2
    }
}

/// The URI that names a node.
pub(crate) fn node_uri(node: NodeId) -> String {
    format!("{NODE_URI}{node}")
}

/// Whose a node's certificate is.
pub(crate) fn node_of(der: &CertificateDer<'_>) -> Result<NodeId, CertificateError> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().map_err(|_detail| CertificateError::Malformed)?;
    let mut names = names.iter().flat_map(|names| &names.value.general_names);
    // One name exactly: what names two nodes is nobody's.
    match (names.next(), names.next()) {
        (Some(GeneralName::URI(uri)), None) => {
            let node = uri.strip_prefix(NODE_URI).and_then(|id| id.parse().ok());
            node.ok_or(CertificateError::NoNode)
        }
        _ => Err(CertificateError::NoNode),
    }
}

/// How long a certificate is valid.
pub(crate) fn validity_of(der: &CertificateDer<'_>) -> Result<Validity, CertificateError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok(Validity { from: system_time(validity.not_before)?, until: system_time(validity.not_after)? })
}

/// The public key that a certificate is for.
pub(crate) fn key_of(der: &CertificateDer<'_>) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::Malformed),
    }
}

fn system_time(time: ASN1Time) -> Result<SystemTime, CertificateError> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_before_1970| CertificateError::Malformed)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_validity() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let validity = Validity { from, until: from + Duration::from_secs(10) };
        assert!(!validity.is_past_half(from));
        assert!(!validity.is_past_half(from + Duration::from_secs(4)));
        assert!(validity.is_past_half(from + Duration::from_secs(5)));
        assert!(validity.is_past_half(from + Duration::from_secs(50)));
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        for bytes in [&b""[..], b"x", &[0x30, 0x82, 0xff, 0xff], &[0; 100]] {
            let der = CertificateDer::from(bytes);
            assert_eq!(node_of(&der), Err(CertificateError::Malformed));
            assert!(validity_of(&der).is_err());
        }
    }
}
