//! The contract between the node agent and the `kite-echo` that it starts beside itself, to which players' clients measure the way.
//!
//! The agent starts it with a Unix stream socket as its standard input. Both sides write one JSON value a line, at most
//! [`MAX_LINE_BYTES`](crate::streamer::MAX_LINE_BYTES) long. The agent's first line is [`EchoSettings`], the echo's first
//! [`FromEcho::Ready`]; then [`ToEcho`] one way and answers the other. End of file from the agent means that it is gone: the echo ends.

use serde::{Deserialize, Serialize};

use crate::streamer::NetworkSettings;

/// Everything an echo needs to know, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EchoSettings {
    /// As of streamers. It takes one UDP port, the last free one of the range: streamers begin with the first.
    pub network: NetworkSettings,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToEcho {
    /// A client's offer.
    Offer {
        /// Returned in the answer.
        request: u64,
        /// The offer.
        sdp: String,
    },
}

/// To the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FromEcho {
    /// Its port is open.
    Ready {
        /// UDP port in use.
        port: u16,
    },
    /// The answer to an offer.
    Answer {
        /// Of the offer.
        request: u64,
        /// The SDP answer.
        sdp: String,
    },
    /// The offer was not usable.
    Refused {
        /// Of the offer.
        request: u64,
        /// What was wrong, in a sentence.
        detail: String,
    },
    /// As many measure as may at once.
    Busy {
        /// Of the offer.
        request: u64,
    },
}
