//! A peer that sends back what comes on one data channel, and ends by itself: by it a player's client measures the way to a site before it asks
//! for a session.
//!
//! ```text
//! accept(offer) -> connecting --ICE, DTLS, SCTP up--> echoing --goodbye, or enough-> ended
//!                      |                                 |                            ^
//!                      +---------------- LIFETIME is over ---------------------------+
//! ```
//!
//! No media, no state but counters. What it sends is never longer than what came, and goes only where a message of this connection came from: it cannot
//! be made to flood anybody. Deliberately absent: how many there may be, and who may ask.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Rtc, RtcConfig, RtcError};

use crate::offer::{OfferError, data_alone};

/// Name of the only channel that is echoed. Others are closed.
pub const ECHO_LABEL: &str = "kite-echo";

/// Longest message that is sent back. A client needs a number in it; longer ones would only be a load.
pub const MAX_ECHO_BYTES: usize = 64;

/// Most messages that one peer sends back. A measurement has about forty.
pub const MAX_ECHOES: u32 = 200;

/// Longest life. A measurement is over within two seconds; a client that goes without a word holds a place for so long.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// Messages that may come at once: a measurement's, when the way held all of them back and then let them go.
const BURST: u32 = 48;

/// How soon one more may: 80 a second, twice a measurement's rate.
const INTERVAL: Duration = Duration::from_micros(12_500);

/// Longest message that the engine puts together. The channel's own opening takes 21 bytes with its label; what is longer is an error of the
/// association.
const MAX_RECEIVED: u32 = 256;

/// Bytes that wait to be acknowledged: a burst. What does not fit is lost, as on a full way.
const BUFFER: usize = BURST as usize * MAX_ECHO_BYTES;

/// Outputs of one drain. Each input has a few; far more means that the engine does not come to rest.
const MAX_STEPS: usize = 2_000;

/// A datagram for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoTransmit {
    /// Where to.
    pub destination: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// Why an echo is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoEnd {
    /// Its client said goodbye.
    Left,
    /// [`LIFETIME`] is over.
    Late,
    /// It sent back [`MAX_ECHOES`] messages.
    Enough,
    /// The engine failed.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub struct Echo {
    rtc: Rtc,
    began: Instant,
    /// When the engine wants to be called.
    wake: Instant,
    last_heard: Instant,
    is_connected: bool,
    channel: Option<ChannelId>,
    transmits: VecDeque<EchoTransmit>,
    echoed: u32,
    /// When all of [`BURST`] may come again.
    full_at: Instant,
    end: Option<EchoEnd>,
}

impl Echo {
    /// Answers an offer of a data channel alone. The candidates are the addresses for UDP that the answer offers.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left behind.
    pub fn accept(offer: &str, candidates: &[SocketAddr], now: Instant) -> Result<(Echo, String), OfferError> {
        let sdp = data_alone(offer)?;
        // As with a player's peer: the engine asserts some properties of an offer, and this text comes from outside.
        let accepted = catch_unwind(AssertUnwindSafe(|| answer(&sdp, candidates, now)));
        let (rtc, answer) = accepted.map_err(|_panic| OfferError::Refused("it contradicts itself".into())).flatten()?;
        let mut echo = Echo {
            rtc,
            began: now,
            wake: now,
            last_heard: now,
            is_connected: false,
            channel: None,
            transmits: VecDeque::new(),
            echoed: 0,
            full_at: now,
            end: None,
        };
        echo.pump(now);
        Ok((echo, answer))
    }

    /// True when this datagram belongs to this peer: it comes from its client, or carries its ICE credentials.
    #[must_use]
    pub fn accepts(&self, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> bool {
        Receive::new(Protocol::Udp, source, destination, bytes)
            .is_ok_and(|receive| self.rtc.accepts(&str0m::Input::Receive(self.last_heard, receive)))
    }

    /// A datagram came. Bytes that are none of this connection are ignored.
    pub fn receive(&mut self, source: SocketAddr, destination: SocketAddr, bytes: &[u8], now: Instant) {
        let Ok(receive) = Receive::new(Protocol::Udp, source, destination, bytes) else { return };
        let input = str0m::Input::Receive(now, receive);
        if self.end.is_some() || !self.rtc.accepts(&input) {
            return;
        }
        self.last_heard = now;
        if let Err(error) = self.rtc.handle_input(input) {
            self.failed(&error);
        }
        self.pump(now);
    }

    /// The time of [`Self::due`] has come.
    pub fn pass_time(&mut self, now: Instant) {
        if self.end.is_some() {
            return;
        }
        if now.saturating_duration_since(self.began) >= LIFETIME {
            self.leave(EchoEnd::Late, now);
            return;
        }
        if self.wake <= now {
            if let Err(error) = self.rtc.handle_input(str0m::Input::Timeout(now)) {
                self.failed(&error);
            }
            self.pump(now);
        }
    }

    /// The next datagram to be sent. After the end there may be some still: the goodbye.
    pub fn transmit(&mut self) -> Option<EchoTransmit> {
        self.transmits.pop_front()
    }

    /// When [`Self::pass_time`] is to be called.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.wake.min(self.began + LIFETIME)
    }

    /// When it was made.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// True as soon as its client was reached.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Why it is over; `None` while it lives.
    #[must_use]
    pub fn end(&self) -> Option<EchoEnd> {
        self.end
    }

    /// Messages that were sent back.
    #[must_use]
    pub fn echoed(&self) -> u32 {
        self.echoed
    }

    /// Drains the engine until it waits for a time that has not come.
    fn pump(&mut self, now: Instant) {
        for _ in 0..MAX_STEPS {
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(transmit)) => {
                    let (destination, bytes) = (transmit.destination, transmit.contents.into());
                    self.transmits.push_back(EchoTransmit { destination, bytes });
                }
                Ok(str0m::Output::Event(event)) => self.event(event, now),
                Ok(str0m::Output::Timeout(at)) if at <= now && self.end.is_none() => {
                    if let Err(error) = self.rtc.handle_input(str0m::Input::Timeout(now)) {
                        self.failed(&error);
                    }
                }
                Ok(str0m::Output::Timeout(at)) => {
                    self.wake = at;
                    return;
                }
                Err(error) => {
                    self.failed(&error);
                    return;
                }
            }
        }
        // Should not happen; a short pause instead of a busy loop.
        tracing::error!("the engine did not come to rest");
        self.wake = now + Duration::from_millis(1);
    }

    fn event(&mut self, event: Event, now: Instant) {
        if self.end.is_some() {
            return;
        }
        match event {
            Event::Connected => self.is_connected = true,
            Event::ChannelOpen(id, label) if label == ECHO_LABEL && self.channel.is_none() => self.channel = Some(id),
            Event::ChannelOpen(id, _) => self.rtc.direct_api().close_data_channel(id),
            Event::ChannelClose(id) if self.channel == Some(id) => self.leave(EchoEnd::Left, now),
            Event::ChannelData(data) if self.channel == Some(data.id) => self.heard(data.id, &data.data, now),
            Event::Closed => self.leave(EchoEnd::Left, now),
            _ => {}
        }
    }

    fn heard(&mut self, channel: ChannelId, bytes: &[u8], now: Instant) {
        if bytes.len() > MAX_ECHO_BYTES || !self.take(now) {
            return;
        }
        let Some(mut open) = self.rtc.channel(channel) else { return };
        match open.write(true, bytes) {
            Ok(true) => self.echoed += 1,
            // Too much waits: it is lost, as on a full way.
            Ok(false) => {}
            Err(error) => self.failed(&error),
        }
        if self.echoed >= MAX_ECHOES {
            self.leave(EchoEnd::Enough, now);
        }
    }

    /// May one more message come now?
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        let may = full_at <= now + INTERVAL * BURST;
        if may {
            self.full_at = full_at;
        }
        may
    }

    /// Says goodbye, and is over.
    fn leave(&mut self, end: EchoEnd, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        if let Err(error) = self.rtc.close() {
            tracing::debug!(%error, "closing failed");
        }
        self.pump(now);
    }

    fn failed(&mut self, error: &RtcError) {
        tracing::debug!(%error, "the WebRTC engine failed");
        self.end = self.end.or(Some(EchoEnd::Failed));
    }
}

fn answer(offer: &str, candidates: &[SocketAddr], now: Instant) -> Result<(Rtc, String), OfferError> {
    let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| OfferError::NotSdp(error.to_string()))?;
    let mut rtc = RtcConfig::new()
        .set_ice_lite(true)
        .clear_codecs()
        .set_sctp_max_message_size(MAX_RECEIVED)
        .set_sctp_max_buffered_amount(BUFFER)
        .build(now);
    for address in candidates {
        match Candidate::host(*address, "udp") {
            Ok(candidate) => {
                if rtc.add_local_candidate(candidate).is_none() {
                    tracing::debug!("a candidate was ignored: it is redundant");
                }
            }
            Err(error) => tracing::warn!(%error, "a candidate was ignored"),
        }
    }
    let answer = rtc.sdp_api().accept_offer(parsed).map_err(|error| OfferError::Refused(error.to_string()))?;
    Ok((rtc, answer.to_sdp_string()))
}
