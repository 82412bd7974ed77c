//! Traces: which play a piece of work belongs to, as W3C Trace Context writes it, and finished pieces on their way to whoever exports them.
//!
//! Who does a piece of work says what it did and when ([`Span`]); programs that were told where to send it take it from there. Nobody waits for
//! that: what does not fit is dropped and counted.
//! Deliberately absent: making ids, reading clocks, exporting.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Bytes of a `traceparent` of version 00, the only one there is.
const LENGTH: usize = 55;

/// Spans that wait to be exported. A play has about fifteen; more would only hide a collector that hangs.
const DEPTH: usize = 4096;

/// A trace: everything that belongs to one play. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A piece of work in a trace. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

macro_rules! hex_id {
    ($name:ident, $length:literal) => {
        impl $name {
            /// From random bytes. Zero, which is no id, becomes one.
            #[must_use]
            pub const fn new(bytes: [u8; $length]) -> Self {
                let mut bytes = bytes;
                let mut index = 0;
                while index < $length {
                    if bytes[index] != 0 {
                        return Self(bytes);
                    }
                    index += 1;
                }
                bytes[$length - 1] = 1;
                Self(bytes)
            }

            /// Its bytes.
            #[must_use]
            pub const fn bytes(self) -> [u8; $length] {
                self.0
            }

            fn parse(text: &[u8]) -> Option<Self> {
                let mut bytes = [0; $length];
                if text.len() != 2 * $length {
                    return None;
                }
                for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                    *byte = hex_byte(pair)?;
                }
                (bytes != [0; $length]).then_some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id!(TraceId, 16);
hex_id!(SpanId, 8);

/// Two lower-case hexadecimal digits: the standard forbids others.
fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// Where a piece of work belongs: its trace, the span that it is a part of, and whether anybody wants to see it.
///
/// Written as the header `traceparent` of W3C Trace Context (Recommendation of 2021-11-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span above.
    pub span: SpanId,
    /// True when spans of this trace are exported.
    pub sampled: bool,
}

/// A text that is no `traceparent`. Whoever gets one begins a trace of his own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent of W3C Trace Context")]
pub struct TraceParentError;

impl FromStr for TraceParent {
    type Err = TraceParentError;

    /// A version that is not known yet may say more after the flags, and means the same by what comes before.
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let parse = || {
            let text = text.as_bytes();
            let (head, rest) = text.split_at_checked(LENGTH)?;
            let version = hex_byte(head.get(0..2)?)?;
            let is_complete =
                if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|byte| *byte == b'-') };
            let dashes = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
            if version == 0xff || !is_complete || !dashes {
                return None;
            }
            let flags = hex_byte(head.get(53..55)?)?;
            Some(Self {
                trace: TraceId::parse(head.get(3..35)?)?,
                span: SpanId::parse(head.get(36..52)?)?,
                sampled: flags & 1 == 1,
            })
        };
        parse().ok_or(TraceParentError)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

impl TryFrom<String> for TraceParent {
    type Error = TraceParentError;

    fn try_from(text: String) -> Result<Self, TraceParentError> {
        text.parse()
    }
}

/// A piece of work that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is a part of; `None` when it is the first of its trace.
    pub parent: Option<SpanId>,
    /// What was done: one of a few words.
    pub name: &'static str,
    /// From when.
    pub start: SystemTime,
    /// To when.
    pub end: SystemTime,
    /// More about it. No address and no name of a player.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it went wrong; `None` when it did not.
    pub failure: Option<String>,
}

/// Where spans go.
#[derive(Clone, Debug)]
pub struct SpanSink {
    spans: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

/// Two are equal when spans of both come to the same place.
impl PartialEq for SpanSink {
    fn eq(&self, other: &Self) -> bool {
        self.spans.same_channel(&other.spans)
    }
}

impl Eq for SpanSink {}

impl SpanSink {
    /// A sink, and where its spans come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(DEPTH);
        (Self { spans, dropped: Arc::default() }, receiver)
    }

    /// Hands a span on. When the sink is full it is dropped: work is worth more than its record.
    pub fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa05a902b7-01";

    #[test]
    fn an_example_is_read_and_written() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span.to_string(), "00f067aa05a902b7");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(serde_json::to_value(parent).unwrap(), GOOD);
        assert_eq!(serde_json::from_value::<TraceParent>(GOOD.into()).unwrap(), parent);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let check = |text: &str, expected: Option<bool>| {
            assert_eq!(text.parse::<TraceParent>().ok().map(|parent| parent.sampled), expected, "{text}");
        };
        check(&GOOD.replace("-01", "-00"), Some(false));
        check(&GOOD.replace("-01", "-ff"), Some(true));
        check(&GOOD.replace("00-4", "01-4"), Some(true));
        check(&format!("{}-more", GOOD.replace("00-4", "cc-4")), Some(true));
        check(&format!("{}more", GOOD.replace("00-4", "cc-4")), None);
        check(&format!("{GOOD}-more"), None);
        check(&GOOD.replace("00-4", "ff-4"), None);
        check(&GOOD.to_uppercase(), None);
        check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), None);
        check(&GOOD.replace("00f067aa05a902b7", &"0".repeat(16)), None);
        check(&GOOD.replacen('-', "_", 1), None);
        check(&GOOD[..54], None);
        check("", None);
        check(&"é".repeat(40), None);
    }

    proptest! {
        #[test]
        fn every_text_is_read_or_refused(text in ".{0,80}") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
            }
        }

        #[test]
        fn what_is_written_is_read(trace: [u8; 16], span: [u8; 8], sampled: bool) {
            let parent = TraceParent { trace: TraceId::new(trace), span: SpanId::new(span), sampled };
            prop_assert_eq!(parent.to_string().parse::<TraceParent>(), Ok(parent));
        }
    }

    #[test]
    fn a_full_sink_drops_and_counts() {
        let (sink, mut spans) = SpanSink::new();
        let span = Span {
            trace: TraceId::new([1; 16]),
            id: SpanId::new([0; 8]),
            parent: None,
            name: "test",
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            failure: None,
        };
        for _ in 0..DEPTH + 3 {
            sink.record(span.clone());
        }
        assert_eq!(sink.dropped(), 3);
        assert_eq!(spans.try_recv().unwrap(), span);
    }
}
