//! What travels: frames of JSON behind a length of four bytes, big-endian.
//!
//! ```text
//! node                          control plane
//!  | Opening: hello or join       |     one frame, at most 64 KiB
//!  |----------------------------->|
//!  | Reply: welcome, joined, refused
//!  |<-----------------------------|
//!  |<===== Frame<ToNode> =========|     at most 16 MiB each
//!  |====== Frame<FromNode> ======>|     at most 8 MiB each
//! ```
//!
//! Versions: both sides of a link speak the same [`VERSION`], or there is no link. Each change of these types or of
//! `api::node` that the other side would not understand counts it up. An opening of any version carries its version, so
//! that the refusal can name both.
//!
//! Decoding is total: any bytes give a frame or a [`FrameError`]. A length is checked before anything is reserved for it.

use api::id::NodeId;
use api::node::{FromNode, ToNode};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

use crate::token::JoinSecret;

/// Version of the link and of the messages on it.
pub const VERSION: u32 = 2;

/// Longest first frame and reply. A request for a certificate takes 1 kB; who is not known yet may not make us keep more.
pub const OPENING_LIMIT: usize = 64 * 1024;

/// Longest frame to a node: a thousand instances with their manifests take 5 MB. More would only let one side fill the
/// other's memory.
pub const TO_NODE_LIMIT: usize = 16 * 1024 * 1024;

/// Longest frame from a node: a thousand instances and ten thousand releases take 4 MB. Less than to a node, because the
/// control plane may have thousands of nodes to keep one of, each with several times its length while it is read.
pub const FROM_NODE_LIMIT: usize = 8 * 1024 * 1024;

/// Longest name of a machine that wants to join.
pub const MAX_NAME: usize = 128;

/// A frame that cannot be read: the other side is not Kite, or is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame cannot be read: {detail}")]
pub struct FrameError {
    detail: String,
}

/// The first frame, from the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", content = "body", rename_all = "snake_case")]
pub enum Opening {
    /// A new machine, without a certificate, asks for one.
    Join {
        /// Its [`VERSION`].
        version: u32,
        /// Of its join token.
        secret: JoinSecret,
        /// What it calls itself, for the operator.
        name: String,
        /// Its request for a certificate, as PEM.
        request: String,
    },
    /// A node, with its certificate, is here.
    Hello {
        /// Its [`VERSION`].
        version: u32,
        /// Who it thinks it is. Its certificate says so, too, and has to agree.
        node: NodeId,
    },
}

/// What an opening of whatever version has.
#[derive(Debug, Deserialize)]
struct AnyOpening {
    body: AnyBody,
}

#[derive(Debug, Deserialize)]
struct AnyBody {
    version: u32,
}

impl Opening {
    /// Reads an opening of this version; one of another version is a [`Refusal::Version`] for its sender.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Result<Self, Refusal>, FrameError> {
        let any: AnyOpening = decode(bytes)?;
        match any.body.version {
            VERSION => decode(bytes).map(Ok),
            node => Ok(Err(Refusal::Version { control: VERSION, node })),
        }
    }
}

/// The answer to an opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", content = "body", rename_all = "snake_case")]
pub enum Reply {
    /// To a join.
    Joined {
        /// Who it is from now on.
        node: NodeId,
        /// Its certificate, as PEM.
        certificate: String,
        /// The authority's certificate, as PEM.
        authority: String,
    },
    /// To a hello: from now on both sides send [`Frame`]s.
    Welcome {},
    /// To both.
    Refused(Refusal),
}

/// Why a node or a machine that wants to be one is sent away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The join token is unknown, was used, or is too old: make a new one.
    #[error("the join token is unknown, was used, or is too old: make a new one")]
    Token,
    /// The node was retired: remove its identity and join anew, if it shall come back.
    #[error("the node was retired: it has to join anew to come back")]
    Retired,
    /// The node's certificate was revoked: as with a retired one.
    #[error("the node's certificate was revoked: it has to join anew to come back")]
    Revoked,
    /// The two sides are of different releases: bring them to the same one.
    #[error(
        "the control plane speaks version {control} of the node link and the node version {node}: bring both to the same release"
    )]
    Version {
        /// The control plane's.
        control: u32,
        /// The node's.
        node: u32,
    },
    /// Too many come at once: it is tried again.
    #[error("the control plane is busy")]
    Busy,
    /// Something else.
    #[error("{detail}")]
    Other {
        /// For the operator, in a sentence.
        detail: String,
    },
}

impl Refusal {
    /// True when trying again is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Token | Self::Retired | Self::Revoked => true,
            // The control plane may be updated meanwhile.
            Self::Version { .. } | Self::Busy | Self::Other { .. } => false,
        }
    }
}

/// Every frame after the welcome. `M` is `ToNode` or `FromNode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", content = "body", rename_all = "snake_case")]
pub enum Frame<M> {
    /// Nothing but that the sender lives.
    Beat {},
    /// A message of the contract.
    Message(M),
    /// From a node: a request for a new certificate. To a node: the new certificate.
    Renewal {
        /// The one or the other.
        pem: String,
    },
}

/// A message of which only the newest one of one kind counts.
pub trait Message: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// True for that kind: a newer one stands for all older ones.
    fn replaces_older(&self) -> bool;
}

impl Message for ToNode {
    fn replaces_older(&self) -> bool {
        match self {
            Self::Desired(_) => true,
            Self::Offer { .. } | Self::Echo { .. } | Self::Probe { .. } | Self::Fetch { .. } => false,
        }
    }
}

impl Message for FromNode {
    fn replaces_older(&self) -> bool {
        match self {
            Self::Observed(_) => true,
            Self::Answer { .. } | Self::Probed { .. } | Self::Part { .. } => false,
        }
    }
}

/// A frame's bytes.
///
/// # Errors
/// [`FrameError`] when a value cannot be written as JSON.
pub fn encode(frame: &impl Serialize) -> Result<Bytes, FrameError> {
    serde_json::to_vec(frame).map(Bytes::from).map_err(|error| FrameError { detail: error.to_string() })
}

/// A frame of its bytes.
///
/// # Errors
/// [`FrameError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    // The text names what was expected and where, never what was found: that may be a secret.
    serde_json::from_slice(bytes).map_err(|error| FrameError {
        detail: format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()),
    })
}

/// How frames are told apart.
#[must_use]
pub fn codec(limit: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_type::<u32>().big_endian().max_frame_length(limit).new_codec()
}

#[cfg(test)]
mod tests {
    use api::id::CommandId;
    use api::node::{DesiredInstances, OfferFailure, Part, ProbeOutcome};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// What other versions of this program send and expect: a change here is a change of [`VERSION`].
    fn golden<T>(value: &T, json: &str)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(std::str::from_utf8(&encode(value).unwrap()).unwrap(), json);
        assert_eq!(&decode::<T>(json.as_bytes()).unwrap(), value);
    }

    #[test]
    fn golden_openings_and_replies() {
        let node = NodeId::from_uuid(Uuid::from_u128(7));
        golden(
            &Opening::Hello { version: 1, node },
            r#"{"frame":"hello","body":{"version":1,"node":"nod_00000000000000000000000000000007"}}"#,
        );
        let secret = JoinSecret::try_from("00".repeat(16)).unwrap();
        golden(
            &Opening::Join { version: 1, secret, name: "n".to_owned(), request: "r".to_owned() },
            r#"{"frame":"join","body":{"version":1,"secret":"00000000000000000000000000000000","name":"n","request":"r"}}"#,
        );
        golden(&Reply::Welcome {}, r#"{"frame":"welcome","body":{}}"#);
        golden(&Reply::Refused(Refusal::Retired), r#"{"frame":"refused","body":{"reason":"retired"}}"#);
        golden(
            &Reply::Refused(Refusal::Version { control: 1, node: 2 }),
            r#"{"frame":"refused","body":{"reason":"version","control":1,"node":2}}"#,
        );
        golden(
            &Reply::Joined { node, certificate: "c".to_owned(), authority: "a".to_owned() },
            r#"{"frame":"joined","body":{"node":"nod_00000000000000000000000000000007","certificate":"c","authority":"a"}}"#,
        );
    }

    #[test]
    fn golden_frames() {
        golden(&Frame::<ToNode>::Beat {}, r#"{"frame":"beat","body":{}}"#);
        golden(&Frame::<FromNode>::Renewal { pem: "p".to_owned() }, r#"{"frame":"renewal","body":{"pem":"p"}}"#);
        golden(
            &Frame::Message(ToNode::Desired(DesiredInstances::default())),
            r#"{"frame":"message","body":{"type":"desired","instances":[],"replicas":[],"commands":[]}}"#,
        );
        let command = CommandId::from_uuid(Uuid::from_u128(8));
        golden(
            &Frame::Message(ToNode::Fetch { request: 3, command, offset: 5 }),
            r#"{"frame":"message","body":{"type":"fetch","request":3,"command":"cmd_00000000000000000000000000000008","offset":5}}"#,
        );
        golden(
            &Frame::Message(FromNode::Part { request: 3, part: Some(Part(vec![0, 255])) }),
            r#"{"frame":"message","body":{"type":"part","request":3,"part":"AP8="}}"#,
        );
        golden(
            &Frame::Message(ToNode::Probe { request: 3, address: "192.0.2.1:7".parse().unwrap() }),
            r#"{"frame":"message","body":{"type":"probe","request":3,"address":"192.0.2.1:7"}}"#,
        );
        golden(
            &Frame::Message(ToNode::Echo { request: 3, sdp: "v=0".to_owned() }),
            r#"{"frame":"message","body":{"type":"echo","request":3,"sdp":"v=0"}}"#,
        );
        golden(
            &Frame::Message(FromNode::Answer { request: 3, outcome: Err(OfferFailure::Busy) }),
            r#"{"frame":"message","body":{"type":"answer","request":3,"outcome":{"Err":{"failure":"busy"}}}}"#,
        );
        golden(
            &Frame::Message(FromNode::Answer { request: 3, outcome: Err(OfferFailure::Gone) }),
            r#"{"frame":"message","body":{"type":"answer","request":3,"outcome":{"Err":{"failure":"gone"}}}}"#,
        );
        golden(
            &Frame::Message(FromNode::Probed { request: 3, outcome: ProbeOutcome::Silent }),
            r#"{"frame":"message","body":{"type":"probed","request":3,"outcome":"silent"}}"#,
        );
    }

    #[test]
    fn an_opening_of_another_version_is_refused_by_its_version_whatever_else_it_has() {
        let later = br#"{"frame":"hello_with_hat","body":{"version":9,"hat":true},"more":1}"#;
        assert_eq!(Opening::decode(later), Ok(Err(Refusal::Version { control: VERSION, node: 9 })));
        assert!(Opening::decode(br#"{"frame":"hello_with_hat","body":{"version":2}}"#).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
            prop_assert!(Opening::decode(&bytes).is_err());
            prop_assert!(decode::<Frame<ToNode>>(&bytes).is_err());
            prop_assert!(decode::<Frame<FromNode>>(&bytes).is_err());
        }

        #[test]
        fn frames_with_some_bytes_changed_are_frames_or_errors(
            golden in 0_usize..5,
            changes in proptest::collection::vec((0_usize..120, 0x20_u8..0x7f), 0..4),
        ) {
            let golden = [
                r#"{"frame":"message","body":{"type":"desired","instances":[],"replicas":[],"commands":[]}}"#,
                r#"{"frame":"message","body":{"type":"part","request":3,"part":"AP8="}}"#,
                r#"{"frame":"message","body":{"type":"probe","request":3,"address":"192.0.2.1:7"}}"#,
                r#"{"frame":"message","body":{"type":"answer","request":3,"outcome":{"Ok":"v=0"}}}"#,
                r#"{"frame":"refused","body":{"reason":"version","control":1,"node":2}}"#,
            ][golden];
            let mut bytes = golden.as_bytes().to_vec();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(frame) = decode::<Frame<ToNode>>(&bytes) {
                prop_assert_eq!(decode::<Frame<ToNode>>(&encode(&frame).unwrap()), Ok(frame));
            }
            if let Ok(frame) = decode::<Frame<FromNode>>(&bytes) {
                prop_assert_eq!(decode::<Frame<FromNode>>(&encode(&frame).unwrap()), Ok(frame));
            }
            if let Ok(reply) = decode::<Reply>(&bytes) {
                prop_assert_eq!(decode::<Reply>(&encode(&reply).unwrap()), Ok(reply));
            }
            let _error_or_refusal = Opening::decode(&bytes);
        }
    }
}
