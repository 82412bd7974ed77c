//! One player's connection.
//!
//! ```text
//! accept(offer) -> Connecting --ICE and DTLS up--> Connected <--> Interrupted (the player's checks stopped coming)
//!                       |                              |                |
//!                       +------ close, error, player's close, or nothing heard for too long ------> Closed
//! ```
//!
//! str0m wants to be drained after every change, so every call of ours that changes something drains it into a queue;
//! [`Peer::poll`] only hands that queue out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use media::{AudioPacket, Bitrate, EncodedUnit, VideoCodec};
use str0m::channel::ChannelId;
use str0m::media::{Frequency, MediaTime};
use str0m::net::{Protocol as Str0mProtocol, Receive};
use str0m::rtp::RawPacket;
use str0m::rtp::rtcp::Rtcp;
use str0m::stats::PeerStats;
use str0m::{Event, IceConnectionState, Rtc, RtcError};

use crate::exchange::{
    Backlog, Channel, CloseReason, Input, Output, PeerEvent, Protocol, SendError, Statistics, Transmit,
};
use crate::feedback::Feedback;
use crate::keyframe::KeyFrameRequests;
use crate::negotiate::{Audio, Video, find_media, negotiate};
use crate::offer::{Offer, OfferError};
use crate::rate::{EngineOrder, RateControl};
use crate::settings::PeerSettings;

/// How often the engine's estimate is read. Its events carry an average over 3 s, its statistics the estimate itself. Rarer reacts
/// late; more often costs, and the estimate changes with each report of the player (50 ms).
pub(crate) const ESTIMATE_INTERVAL: Duration = Duration::from_millis(100);

/// Readings to one [`PeerEvent::Statistics`]: one second.
const STATISTICS_EVERY: u32 = 10;

/// Silence after which a connection is given up. Browsers check every 2.5 s and call a connection failed after 15 to 30 s of
/// silence; until then it may come back (a change of network, a tunnel). Longer would keep dead players' peers.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// Silence after which a connection counts as interrupted while media is sent, which the player reports on at least every 250 ms.
/// Shorter would call a bad moment of the path an interruption, longer wastes frames on nobody.
const INTERRUPTED_AFTER: Duration = Duration::from_millis(3500);

/// The same while nothing is sent: then only the player's checks are heard, every 2.5 s, and one of them may get lost.
const QUIET_INTERRUPTED_AFTER: Duration = Duration::from_millis(6500);

/// Time to reach the connected state. A browser on a bad path needs a few seconds; a peer that never connects must not
/// stay.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Sent packets kept for retransmission: 3 s at 12 Mbit/s. Less refuses late requests on long paths, more costs memory.
const RESEND_PACKETS: usize = 4096;
const RESEND_AGE: Duration = Duration::from_secs(3);
/// Share of retransmissions in all bytes above which they stop. The library's 0.15 stops exactly when a lossy second needs them;
/// above one half the path is broken and repeating makes it worse.
const RESEND_SHARE: f32 = 0.5;

/// Age of what the pacer holds above which frames are skipped: two frames at 60 a second. Less skips after every large frame, more
/// is latency.
const MAX_BACKLOG: Duration = Duration::from_millis(34);

/// Samples in an audio packet: 10 ms at 48 kHz.
const AUDIO_SAMPLES: u64 = 480;
/// Distance between the sound's own clock and its time of capture above which the clock is set anew. Smaller would follow every
/// scheduling delay and be heard, larger would leave sound late after a gap.
const AUDIO_SLIP: u64 = 48 * 60;

/// Outputs of one drain. A burst is at most 63 kB or 50 packets; far more means that the engine does not come to rest.
const MAX_STEPS: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for the player's checks.
    Connecting { since: Instant },
    /// Media flows.
    Connected,
    /// The player is not heard.
    Interrupted,
    /// Over.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    rtc: Rtc,
    state: State,
    outputs: VecDeque<Output>,
    /// When str0m wants to be called.
    wake: Instant,
    last_heard: Instant,
    /// When media was last sent.
    last_media: Option<Instant>,
    video: Video,
    audio: Option<Audio>,
    control: Option<ChannelId>,
    motion: Option<ChannelId>,
    requests: KeyFrameRequests,
    feedback: Feedback,
    rate: RateControl,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    readings: u32,
    resent: u64,
    sent_bytes: u64,
    queueing: Duration,
    round_trip: Option<Duration>,
    estimate: Bitrate,
}

impl Peer {
    /// Answers an offer.
    ///
    /// # Errors
    /// [`OfferError`]; nothing is left behind.
    pub fn accept(offer_sdp: &str, settings: &PeerSettings, now: Instant) -> Result<(Peer, String), OfferError> {
        let offer = Offer::parse(offer_sdp)?;
        // The engine asserts some properties of an offer (a payload type claimed twice, for one). The text comes from
        // outside, so such an offer is refused instead of ending the session's process. Nothing outlives the attempt.
        let accepted = catch_unwind(AssertUnwindSafe(|| negotiate(&offer, settings, now)));
        let (rtc, answer) = accepted.map_err(|_panic| OfferError::Refused("it contradicts itself".into())).flatten()?;
        Self::start(rtc, &offer, settings, now).map(|peer| (peer, answer))
    }

    fn start(mut rtc: Rtc, offer: &Offer, settings: &PeerSettings, now: Instant) -> Result<Peer, OfferError> {
        let (video, audio) = find_media(&mut rtc, offer, settings, now)?;
        let limits = settings.bitrate.ordered();
        if let Some(stream) = rtc.direct_api().stream_tx_by_mid(video.mid, None) {
            stream.set_rtx_cache(RESEND_PACKETS, RESEND_AGE, Some(RESEND_SHARE));
        }
        let rate = RateControl::new(limits, audio.is_some(), now);
        let mut peer = Peer {
            rtc,
            state: State::Connecting { since: now },
            outputs: VecDeque::new(),
            wake: now,
            last_heard: now,
            last_media: None,
            video,
            audio,
            control: None,
            motion: None,
            requests: KeyFrameRequests::default(),
            feedback: Feedback::new(now),
            rate,
            counters: Counters::default(),
        };
        peer.pump(now);
        Ok(peer)
    }

    /// The codec that [`Peer::send_video`] takes.
    #[must_use]
    pub fn video_codec(&self) -> VideoCodec {
        self.video.codec
    }

    /// True when the player takes sound.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.audio.is_some()
    }

    /// True when media can flow.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// True when the peer is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// True when this datagram belongs to this peer: it comes from its player, or carries its ICE credentials.
    #[must_use]
    pub fn accepts(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> bool {
        Receive::new(engine_protocol(protocol), source, destination, bytes)
            .is_ok_and(|receive| self.rtc.accepts(&str0m::Input::Receive(self.last_heard, receive)))
    }

    /// Drives the peer. Bytes that are no datagram of this connection are ignored.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let result = match input {
            Input::Timeout => self.rtc.handle_input(str0m::Input::Timeout(now)),
            Input::Receive { protocol, source, destination, bytes } => {
                let Ok(receive) = Receive::new(engine_protocol(protocol), source, destination, bytes) else { return };
                let input = str0m::Input::Receive(now, receive);
                if !self.rtc.accepts(&input) {
                    return;
                }
                self.last_heard = now;
                self.rtc.handle_input(input)
            }
        };
        if let Err(error) = result {
            self.engine_failed(&error);
        }
        self.pump(now);
    }

    /// What the peer wants; call until it gives [`Output::Timeout`].
    pub fn poll(&mut self, now: Instant) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        self.tick(now);
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.next_wake(now)))
    }

    /// Sends a frame. Gives its RTP timestamp (90 kHz), `None` when it was not sent: the player is not connected, no key frame
    /// was sent yet, or the codec is not [`Peer::video_codec`].
    pub fn send_video(&mut self, unit: &EncodedUnit, now: Instant) -> Option<u32> {
        let video = &mut self.video;
        if self.state != State::Connected || unit.codec != video.codec || (video.needs_key && !unit.key) {
            return None;
        }
        let elapsed = unit.committed.saturating_duration_since(video.zero);
        let ticks = (elapsed.as_micros() * 9 / 100) as u64;
        // Two frames never share a timestamp: the player would take them for one.
        let ticks = video.last_ticks.map_or(ticks, |last| ticks.max(last + 1));
        // Zero and zero: show at once. Any larger maximum makes browsers buffer (measured: 18 ms).
        let writer = self.rtc.writer(video.mid)?.playout_delay(MediaTime::ZERO, MediaTime::ZERO);
        let time = MediaTime::from_90khz(ticks);
        match writer.write(video.pt, unit.committed.min(now), time, unit.data.as_slice()) {
            Ok(()) => {}
            Err(error) => {
                self.engine_failed(&error);
                return None;
            }
        }
        if video.last_ticks.replace(ticks).is_none() {
            self.rate.video_began(now);
        }
        self.last_media = Some(now);
        if unit.key {
            video.needs_key = false;
            self.requests.sent(now);
        }
        self.pump(now);
        Some(ticks as u32)
    }

    /// Sends 10 ms of sound; without a connection or an audio section it goes nowhere.
    pub fn send_audio(&mut self, packet: &AudioPacket, now: Instant) {
        let Some(audio) = &mut self.audio else { return };
        if self.state != State::Connected {
            return;
        }
        let elapsed = packet.captured.saturating_duration_since(audio.zero);
        let captured = (elapsed.as_micros() * 48 / 1000) as u64;
        let start = match audio.next {
            Some(next) if next.abs_diff(captured) <= AUDIO_SLIP => next,
            // Never backwards: the player's decoder would drop what it takes for late.
            other => captured.max(other.unwrap_or_default()),
        };
        audio.next = Some(start + AUDIO_SAMPLES);
        let time = MediaTime::new(start, Frequency::FORTY_EIGHT_KHZ);
        let (mid, pt) = (audio.mid, audio.pt);
        self.last_media = Some(now);
        let Some(writer) = self.rtc.writer(mid) else { return };
        if let Err(error) = writer.write(pt, packet.captured.min(now), time, packet.data.as_slice()) {
            self.engine_failed(&error);
        }
        self.pump(now);
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`SendError`]; the message was not sent.
    pub fn send(&mut self, channel: Channel, bytes: &[u8], now: Instant) -> Result<(), SendError> {
        if bytes.len() > wire::MAX_MESSAGE_BYTES {
            return Err(SendError::TooLong);
        }
        let id = match channel {
            Channel::Control => self.control,
            Channel::Motion => self.motion,
        };
        let Some(mut open) = id.and_then(|id| self.rtc.channel(id)) else { return Err(SendError::Closed) };
        // A message on the motion channel is worth nothing once a newer one exists: it does not queue behind much.
        if channel == Channel::Motion && open.buffered_amount() > 16 * 1024 {
            return Err(SendError::Full);
        }
        let written = open.write(true, bytes);
        self.pump(now);
        match written {
            Ok(true) => Ok(()),
            Ok(false) => Err(SendError::Full),
            Err(_gone) => Err(SendError::Closed),
        }
    }

    /// What the pacer holds back. When `oldest` is more than about two frames' time the streamer should skip frames until it
    /// is gone: frames are never dropped here, so they would only be late.
    #[must_use]
    pub fn backlog(&mut self, now: Instant) -> Backlog {
        let mut api = self.rtc.direct_api();
        let Some(info) = api.stream_tx_by_mid(self.video.mid, None).and_then(|stream| stream.queue_info()) else {
            return Backlog::default();
        };
        let oldest = info.first_unsent().map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        Backlog { bytes: info.byte_size(), oldest }
    }

    /// False when the next frame should be skipped before it is encoded, because the path or the pacer still holds earlier ones: it
    /// could only be late. Ask right before encoding.
    #[must_use]
    pub fn takes_frame(&mut self, now: Instant) -> bool {
        self.state == State::Connected
            && self.backlog(now).oldest <= MAX_BACKLOG
            && self.rate.takes_frame(self.feedback.under_way(now), now)
    }

    /// New limits (another spec, another operator's wish). The target follows at the next [`Peer::poll`].
    pub fn set_limits(&mut self, limits: crate::BitrateLimits, now: Instant) {
        self.rate.set_limits(limits.ordered());
        self.order_engine(now);
    }

    /// Says goodbye to the player. Poll once more: the goodbye has to be sent.
    pub fn close(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if let Err(error) = self.rtc.close() {
            tracing::debug!(%error, "closing failed");
        }
        self.pump(now);
        self.closed(CloseReason::Local);
    }
}

/// The engine's side.
impl Peer {
    /// Drains str0m until it waits for a time that has not come.
    fn pump(&mut self, now: Instant) {
        for _ in 0..MAX_STEPS {
            if self.state == State::Closed {
                return;
            }
            match self.rtc.poll_output() {
                Ok(str0m::Output::Transmit(transmit)) => {
                    self.counters.sent_bytes += transmit.contents.len() as u64;
                    self.outputs.push_back(Output::Transmit(Transmit {
                        protocol: match transmit.proto {
                            Str0mProtocol::Udp => Protocol::Udp,
                            _ => Protocol::Tcp,
                        },
                        source: transmit.source,
                        destination: transmit.destination,
                        bytes: transmit.contents.into(),
                    }));
                }
                Ok(str0m::Output::Event(event)) => self.event(event, now),
                Ok(str0m::Output::Timeout(at)) if at <= now => {
                    if let Err(error) = self.rtc.handle_input(str0m::Input::Timeout(now)) {
                        self.engine_failed(&error);
                    }
                }
                Ok(str0m::Output::Timeout(at)) => {
                    self.wake = at;
                    return;
                }
                Err(error) => self.engine_failed(&error),
            }
        }
        // Should not happen; a short pause instead of a busy loop.
        tracing::error!("the engine did not come to rest");
        self.wake = now + Duration::from_millis(1);
    }

    fn order_engine(&mut self, now: Instant) {
        while let Some(order) = self.rate.engine(now) {
            match order {
                EngineOrder::Desired(rate) => {
                    self.rtc.bwe().set_bitrate(str0m::bwe::Bitrate::ZERO, engine_rate(rate));
                }
                EngineOrder::Restart(rate) => self.rtc.bwe().reset(engine_rate(rate)),
            }
            self.pump(now);
        }
    }

    fn engine_failed(&mut self, error: &RtcError) {
        tracing::warn!(%error, "the WebRTC engine failed");
        self.closed(CloseReason::Failed(error.to_string()));
    }

    fn closed(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.outputs.push_back(Output::Event(PeerEvent::Closed(reason)));
        }
    }

    fn emit(&mut self, event: PeerEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => self.connected(),
            Event::IceConnectionStateChange(state) => self.ice_state(state),
            Event::ChannelOpen(id, label) => self.channel_open(id, &label),
            Event::ChannelData(data) => self.channel_data(data.id, data.data),
            Event::ChannelClose(id) => {
                for slot in [&mut self.control, &mut self.motion] {
                    if *slot == Some(id) {
                        *slot = None;
                    }
                }
            }
            Event::KeyframeRequest(_) => self.requests.request(),
            Event::PeerStats(stats) => self.statistics(&stats, now),
            Event::RawPacket(packet) => self.raw_packet(*packet, now),
            Event::Closed => self.closed(CloseReason::Remote),
            _ => {}
        }
    }

    fn connected(&mut self) {
        if self.state == State::Closed || self.state == State::Connected {
            return;
        }
        self.state = State::Connected;
        self.video.needs_key = true;
        self.emit(PeerEvent::Connected);
        self.requests.request();
    }

    fn ice_state(&mut self, state: IceConnectionState) {
        match state {
            IceConnectionState::Disconnected => self.interrupted(),
            IceConnectionState::Connected | IceConnectionState::Completed => {
                if self.state == State::Interrupted && self.rtc.is_connected() {
                    self.connected();
                }
            }
            IceConnectionState::New | IceConnectionState::Checking => {}
        }
    }

    fn interrupted(&mut self) {
        if self.state == State::Connected {
            self.state = State::Interrupted;
            self.emit(PeerEvent::Disconnected);
        }
    }

    fn channel_open(&mut self, id: ChannelId, label: &str) {
        let (slot, channel) = match label {
            wire::CONTROL_LABEL => (&mut self.control, Channel::Control),
            wire::MOTION_LABEL => (&mut self.motion, Channel::Motion),
            _ => {
                self.rtc.direct_api().close_data_channel(id);
                return;
            }
        };
        if slot.is_some() {
            self.rtc.direct_api().close_data_channel(id);
            return;
        }
        *slot = Some(id);
        self.emit(PeerEvent::ChannelOpen(channel));
    }

    fn channel_data(&mut self, id: ChannelId, bytes: Vec<u8>) {
        let channel = if self.control == Some(id) {
            Channel::Control
        } else if self.motion == Some(id) {
            Channel::Motion
        } else {
            return;
        };
        if bytes.len() <= wire::MAX_MESSAGE_BYTES {
            self.emit(PeerEvent::Data { channel, bytes });
        }
    }

    fn raw_packet(&mut self, packet: RawPacket, now: Instant) {
        match packet {
            RawPacket::RtpTx(header, bytes) => {
                if let Some(sequence) = header.ext_vals.transport_cc {
                    self.feedback.sent(sequence, bytes.len(), now);
                }
                let ssrc = header.ssrc;
                let mut api = self.rtc.direct_api();
                let repair = api.stream_tx_by_mid(self.video.mid, None).and_then(|stream| stream.rtx());
                if repair == Some(ssrc) {
                    self.counters.resent += 1;
                }
            }
            RawPacket::RtcpRx(Rtcp::Twcc(report)) => {
                let items = report.into_iter(self.feedback.zero(), self.feedback.next_sequence().into());
                let items = items.map(|(sequence, _, arrived)| (*sequence, arrived));
                if let Some(report) = self.feedback.report(items, now) {
                    self.counters.queueing = report.standing;
                    self.counters.round_trip = report.round_trip.or(self.counters.round_trip);
                    self.rate.report(&report, now);
                }
            }
            RawPacket::RtcpRx(_) | RawPacket::RtcpTx(_) | RawPacket::RtpRx(..) => {}
        }
    }

    fn statistics(&mut self, stats: &PeerStats, now: Instant) {
        if let Some(estimate) = stats.bwe_tx.filter(|_| self.state == State::Connected) {
            let estimate = Bitrate::from_bps(estimate.as_u64());
            self.counters.estimate = estimate;
            self.rate.estimate(estimate, now);
        }
        self.counters.readings += 1;
        if self.counters.readings < STATISTICS_EVERY {
            return;
        }
        let sent = std::mem::take(&mut self.counters.sent_bytes);
        self.counters.readings = 0;
        if self.state != State::Connected {
            return;
        }
        let span = ESTIMATE_INTERVAL * STATISTICS_EVERY;
        self.emit(PeerEvent::Statistics(Statistics {
            round_trip: stats.rtt,
            queueing: self.counters.queueing,
            loss: stats.egress_loss_fraction.unwrap_or_default(),
            resent: self.counters.resent,
            sent: Bitrate::from_bps(sent * 8 * 1000 / span.as_millis() as u64),
            target: self.rate.target(),
            estimate: self.counters.estimate,
        }));
    }

    /// When the connection counts as interrupted if nothing is heard until then.
    fn interrupted_at(&self) -> Instant {
        let answered = self.last_media.is_some_and(|sent| sent > self.last_heard + INTERRUPTED_AFTER / 2);
        self.last_heard + if answered { INTERRUPTED_AFTER } else { QUIET_INTERRUPTED_AFTER }
    }

    /// What is due by time alone.
    fn tick(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.last_heard);
        match self.state {
            State::Connecting { since } if now.saturating_duration_since(since) >= CONNECT_WITHIN => {
                self.closed(CloseReason::ConnectTimeout);
            }
            State::Connected if now >= self.interrupted_at() => self.interrupted(),
            State::Interrupted if silent >= GIVE_UP_AFTER => self.closed(CloseReason::Silent),
            State::Interrupted if silent < INTERRUPTED_AFTER && self.rtc.is_connected() => self.connected(),
            State::Connecting { .. } | State::Connected | State::Interrupted | State::Closed => {}
        }
        if self.state == State::Connected {
            if self.requests.take(now) {
                self.emit(PeerEvent::KeyFrameWanted);
            }
            if let Some(target) = self.rate.poll(now) {
                self.emit(PeerEvent::TargetBitrate(target));
            }
            self.order_engine(now);
        }
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let own = match self.state {
            State::Closed => return now + GIVE_UP_AFTER,
            State::Connecting { since } => since + CONNECT_WITHIN,
            State::Interrupted => self.last_heard + GIVE_UP_AFTER,
            State::Connected => {
                let wakes = [self.requests.due(), self.rate.due(now)];
                wakes.into_iter().flatten().fold(self.interrupted_at(), Instant::min)
            }
        };
        own.min(self.wake)
    }
}

fn engine_protocol(protocol: Protocol) -> Str0mProtocol {
    match protocol {
        Protocol::Udp => Str0mProtocol::Udp,
        Protocol::Tcp => Str0mProtocol::Tcp,
    }
}

pub(crate) fn engine_rate(rate: Bitrate) -> str0m::bwe::Bitrate {
    str0m::bwe::Bitrate::bps(rate.bps())
}
