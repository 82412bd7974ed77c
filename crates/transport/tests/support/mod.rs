//! A seeded network in simulated time between a [`Peer`] and a player made of str0m, and a source of frames that follows the
//! peer's target as an encoder does.
#![allow(dead_code, reason = "each plan uses its own part")]
#![allow(missing_docs, unreachable_pub, missing_debug_implementations, reason = "test support")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "test support fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use impair::{Conditions, Link, Random};
use media::{AudioPacket, Bitrate, EncodedUnit, Size, VideoCodec};
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::Receive;
use str0m::rtp::Extension;
use str0m::{Candidate, Event, Rtc};
use transport::{BitrateLimits, Channel, Input, Output, Peer, PeerEvent, PeerSettings, Protocol, Statistics};

pub const SERVER: &str = "10.0.0.1:5000";
pub const PLAYER: &str = "10.0.0.2:6000";

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What became of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub index: u32,
    pub sent: Instant,
    pub arrived: Instant,
}

pub struct Source {
    pub frames_per_second: u32,
    /// Share of the target that the picture needs; a static screen needs little.
    pub activity: f64,
    pub target: Bitrate,
    pub key_wanted: bool,
    /// False sends nothing.
    pub running: bool,
    pub audio: bool,
    /// Frames are skipped when the peer says so.
    pub skip: bool,
    pub skipped: u32,
    index: u32,
    next: Instant,
    next_audio: Instant,
    random: Random,
    sent: BTreeMap<u32, (Instant, u64)>,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub peer: Peer,
    pub player: Rtc,
    player_wake: Instant,
    pub down: Link<()>,
    pub up: Link<()>,
    pub source: Source,
    pub video: Mid,
    pub audio: Mid,
    pub channels: Vec<ChannelId>,
    pub open: Vec<(ChannelId, String)>,
    pub connected_at: Option<Instant>,
    pub events: Vec<(Instant, PeerEvent)>,
    pub targets: Vec<(Instant, Bitrate)>,
    pub statistics: Vec<(Instant, Statistics)>,
    pub shown: Vec<Shown>,
    pub corrupt: u32,
    pub broken: u32,
    pub audio_packets: u32,
    pub messages: Vec<(ChannelId, Vec<u8>)>,
    pub key_frames: u32,
    waiting_for_key: bool,
    asked_at: Option<Instant>,
}

/// A path of this delay one way, otherwise perfect.
pub fn delay(milliseconds: u64) -> Conditions {
    Conditions { delay: ms(milliseconds), ..Conditions::default() }
}

/// A path with a bottleneck of this width, with room for `queue` bytes before it.
pub fn bottleneck(milliseconds: u64, bits_per_second: u64, queue: usize) -> Conditions {
    Conditions { rate: Some(bits_per_second), queue, ..delay(milliseconds) }
}

pub fn limits(min: u64, start: u64, max: u64) -> BitrateLimits {
    BitrateLimits { min: Bitrate::from_kbps(min), start: Bitrate::from_kbps(start), max: Bitrate::from_kbps(max) }
}

pub fn settings(bitrate: BitrateLimits) -> PeerSettings {
    PeerSettings {
        candidates: vec![SERVER.parse().unwrap()],
        tcp_candidates: vec![SERVER.parse().unwrap()],
        bitrate,
        prefer: vec![VideoCodec::H264, VideoCodec::Vp8],
    }
}

pub fn player(now: Instant) -> Rtc {
    let config = Rtc::builder().set_extension(5, Extension::PlayoutDelay).set_reordering_size_video(3000);
    let mut rtc = config.build(now);
    rtc.add_local_candidate(Candidate::host(PLAYER.parse().unwrap(), "udp").unwrap());
    rtc
}

impl World {
    pub fn new(bitrate: BitrateLimits, path: &Conditions, seed: u64) -> World {
        let start = Instant::now();
        let mut rtc = player(start);
        let mut api = rtc.sdp_api();
        let video = api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        let audio = api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let control = api.add_channel(wire::CONTROL_LABEL.into());
        let motion = api.add_channel_with_config(ChannelConfig {
            label: wire::MOTION_LABEL.into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..ChannelConfig::default()
        });
        let (offer, pending) = api.apply().unwrap();
        let (peer, answer) = Peer::accept(&offer.to_sdp_string(), &settings(bitrate), start).unwrap();
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        World {
            start,
            now: start,
            peer,
            player: rtc,
            player_wake: start,
            down: Link::new(path.clone(), seed),
            up: Link::new(path.clone(), seed + 1),
            source: Source {
                frames_per_second: 60,
                activity: 1.0,
                target: bitrate.start,
                key_wanted: false,
                running: true,
                audio: true,
                skip: true,
                skipped: 0,
                index: 0,
                next: start,
                next_audio: start,
                random: Random::new(seed + 2),
                sent: BTreeMap::new(),
            },
            video,
            audio,
            channels: vec![control, motion],
            open: vec![],
            connected_at: None,
            events: vec![],
            targets: vec![],
            statistics: vec![],
            shown: vec![],
            corrupt: 0,
            broken: 0,
            audio_packets: 0,
            messages: vec![],
            key_frames: 0,
            waiting_for_key: true,
            asked_at: None,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `until` after the start.
    pub fn run(&mut self, until: Duration) {
        let end = self.start + until;
        while self.now < end {
            self.step(end);
        }
    }

    fn step(&mut self, end: Instant) {
        let peer_wake = self.drain_peer();
        self.drain_player();
        let source = self.source.running.then_some(self.source.next.min(self.source.next_audio));
        let next = [Some(peer_wake), Some(self.player_wake), self.down.next_arrival(), self.up.next_arrival(), source]
            .into_iter()
            .flatten()
            .fold(end, Instant::min);
        self.now = self.now.max(next);
        if peer_wake <= self.now {
            self.peer.handle(Input::Timeout, self.now);
        }
        if self.player_wake <= self.now {
            self.player.handle_input(str0m::Input::Timeout(self.now)).unwrap();
            self.drain_player();
        }
        while let Some(((), bytes)) = self.up.receive(self.now) {
            self.inject(&bytes);
            self.drain_peer();
        }
        while let Some(((), bytes)) = self.down.receive(self.now) {
            let (source, destination) = (SERVER.parse().unwrap(), PLAYER.parse().unwrap());
            if let Ok(receive) = Receive::new(str0m::net::Protocol::Udp, source, destination, &bytes) {
                self.player.handle_input(str0m::Input::Receive(self.now, receive)).unwrap();
            }
            self.drain_player();
        }
        self.produce();
    }

    /// A datagram from the player's address reaches the peer.
    pub fn inject(&mut self, bytes: &[u8]) {
        let (source, destination) = (PLAYER.parse().unwrap(), SERVER.parse().unwrap());
        self.peer.handle(Input::Receive { protocol: Protocol::Udp, source, destination, bytes }, self.now);
    }

    fn drain_peer(&mut self) -> Instant {
        loop {
            match self.peer.poll(self.now) {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.destination, PLAYER.parse::<SocketAddr>().unwrap());
                    self.down.send((), transmit.bytes, self.now);
                }
                Output::Event(event) => {
                    match &event {
                        PeerEvent::TargetBitrate(target) => {
                            self.targets.push((self.now, *target));
                            self.source.target = *target;
                        }
                        PeerEvent::KeyFrameWanted => self.source.key_wanted = true,
                        PeerEvent::Connected => {
                            self.connected_at = self.connected_at.or(Some(self.now));
                            self.source.next = self.source.next.max(self.now);
                            self.source.next_audio = self.source.next_audio.max(self.now);
                        }
                        PeerEvent::Statistics(statistics) => self.statistics.push((self.now, *statistics)),
                        _ => {}
                    }
                    self.events.push((self.now, event));
                }
                Output::Timeout(at) => return at,
            }
        }
    }

    fn drain_player(&mut self) {
        loop {
            match self.player.poll_output().unwrap() {
                str0m::Output::Timeout(at) => {
                    self.player_wake = at;
                    if at > self.now {
                        return;
                    }
                    self.player.handle_input(str0m::Input::Timeout(self.now)).unwrap();
                }
                str0m::Output::Transmit(transmit) => self.up.send((), transmit.contents.to_vec(), self.now),
                str0m::Output::Event(event) => self.player_event(event),
            }
        }
    }

    fn player_event(&mut self, event: Event) {
        match event {
            Event::MediaData(data) if data.mid == self.audio => self.audio_packets += 1,
            Event::MediaData(data) if data.mid == self.video => {
                let (play_min, play_max) = (data.ext_vals.play_delay_min, data.ext_vals.play_delay_max);
                assert_eq!(play_min.map(|t| t.numer()), Some(0), "playout delay on every frame");
                assert_eq!(play_max.map(|t| t.numer()), Some(0), "playout delay on every frame");
                self.frame(&data.data, data.contiguous);
            }
            Event::ChannelOpen(id, label) => self.open.push((id, label)),
            Event::ChannelData(data) => self.messages.push((data.id, data.data)),
            _ => {}
        }
        if self.waiting_for_key && self.connected_at.is_some() {
            let ask = self.asked_at.is_none_or(|at| self.now - at >= ms(200));
            if ask {
                self.asked_at = Some(self.now);
                let writer = self.player.writer(self.video);
                if let Some(mut writer) = writer {
                    // Fails only before the first packet arrived; asked again later.
                    drop(writer.request_keyframe(None, KeyframeRequestKind::Pli));
                }
            }
        }
    }

    fn frame(&mut self, data: &[u8], contiguous: bool) {
        let Some((index, key, checksum)) = parse_unit(data) else {
            self.corrupt += 1;
            return;
        };
        let Some((sent, expected)) = self.source.sent.get(&index).copied() else {
            self.corrupt += 1;
            return;
        };
        if checksum != expected {
            self.corrupt += 1;
            return;
        }
        if key {
            self.waiting_for_key = false;
        } else if !contiguous {
            self.broken += 1;
            self.waiting_for_key = true;
        }
        if !self.waiting_for_key {
            self.shown.push(Shown { index, sent, arrived: self.now });
        }
    }

    fn produce(&mut self) {
        if !self.source.running || !self.peer.is_connected() {
            self.source.next = self.source.next.max(self.now);
            self.source.next_audio = self.source.next_audio.max(self.now);
            if !self.peer.is_connected() && self.source.running {
                // Look again when something happened.
                self.source.next = self.now + ms(10);
                self.source.next_audio = self.now + ms(10);
            }
            return;
        }
        if self.source.audio && self.source.next_audio <= self.now {
            self.source.next_audio += ms(10);
            let data = vec![7u8; 160];
            self.peer.send_audio(&AudioPacket { data, captured: self.now }, self.now);
            self.drain_peer();
        } else if !self.source.audio {
            self.source.next_audio = self.now + ms(1000);
        }
        if self.source.next <= self.now {
            self.source.next += Duration::from_secs(1) / self.source.frames_per_second;
            if self.source.skip && !self.peer.takes_frame(self.now) {
                self.source.skipped += 1;
                return;
            }
            let unit = self.source.encode(self.now);
            self.key_frames += u32::from(unit.key);
            let stamp = self.peer.send_video(&unit, self.now);
            if stamp.is_none() {
                self.source.sent.remove(&(self.source.index - 1));
            }
            self.drain_peer();
        }
    }

    // What the plans look at.

    /// Longest time between two shown frames, from `from` after the start.
    pub fn longest_gap(&self, from: Duration) -> Duration {
        let from = self.start + from;
        let times: Vec<Instant> = self.shown.iter().map(|shown| shown.arrived).filter(|at| *at >= from).collect();
        let inner = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(ms(1_000_000));
        inner.max(self.now.saturating_duration_since(times.last().copied().unwrap_or(from)))
    }

    /// Sorted ages of frames on arrival in milliseconds, sent between two times after the start.
    pub fn ages(&self, from: Duration, to: Duration) -> Vec<u64> {
        let span = self.start + from..self.start + to;
        let mut ages: Vec<u64> = self
            .shown
            .iter()
            .filter(|shown| span.contains(&shown.sent))
            .map(|shown| (shown.arrived - shown.sent).as_millis() as u64)
            .collect();
        ages.sort_unstable();
        ages
    }

    pub fn percentile(&self, from: Duration, to: Duration, percent: usize) -> u64 {
        let ages = self.ages(from, to);
        if ages.is_empty() { u64::MAX } else { ages[(ages.len() - 1) * percent / 100] }
    }

    /// The target at a time after the start, kbit/s.
    pub fn target_at(&self, at: Duration) -> u64 {
        let at = self.start + at;
        self.targets.iter().rev().find(|(when, _)| *when <= at).map_or(0, |(_, target)| target.kbps())
    }

    /// Largest target between two times, kbit/s.
    pub fn largest_target(&self, from: Duration, to: Duration) -> u64 {
        let inside = self.targets.iter().filter(|(at, _)| (self.start + from..self.start + to).contains(at));
        inside.map(|(_, target)| target.kbps()).chain([self.target_at(from)]).max().unwrap_or(0)
    }

    pub fn shown_between(&self, from: Duration, to: Duration) -> usize {
        self.ages(from, to).len()
    }

    pub fn saw(&self, event: &PeerEvent) -> usize {
        self.events.iter().filter(|(_, seen)| seen == event).count()
    }

    /// A line a second for people.
    pub fn print(&self, every: Duration) {
        let mut at = Duration::ZERO;
        while self.start + at < self.now {
            let next = at + every;
            let ages = self.ages(at, next);
            let statistics = self.statistics.iter().rev().find(|(when, _)| *when <= self.start + next).map(|s| s.1);
            let statistics = statistics.unwrap_or_default();
            println!(
                "{:5.1}s target {:6} estimate {:6} sent {:6} queueing {:4} ms loss {:4.1}% resent {:5} shown {:3} age p50 {:4} max {:4}",
                next.as_secs_f64(),
                self.target_at(next),
                statistics.estimate.kbps(),
                statistics.sent.kbps(),
                statistics.queueing.as_millis(),
                statistics.loss * 100.0,
                statistics.resent,
                ages.len(),
                ages.get(ages.len() / 2).copied().unwrap_or_default(),
                ages.last().copied().unwrap_or_default(),
            );
            at = next;
        }
        println!(
            "gap {:?} corrupt {} broken {} skipped {} key frames {} dropped {}",
            self.longest_gap(ms(1000)),
            self.corrupt,
            self.broken,
            self.source.skipped,
            self.key_frames,
            self.down.counters().lost + self.down.counters().overflowed
        );
    }
}

impl Source {
    fn encode(&mut self, now: Instant) -> EncodedUnit {
        let key = std::mem::take(&mut self.key_wanted) || self.index == 0;
        let share = if key { 5.0 } else { 0.7 + 0.6 * self.random.unit() };
        let mean = self.target.bps() as f64 / 8.0 / f64::from(self.frames_per_second);
        let size = ((mean * self.activity * share) as usize).max(60);
        let data = make_unit(self.index, key, size, &mut self.random);
        self.sent.insert(self.index, (now, checksum(&data)));
        self.index += 1;
        EncodedUnit {
            codec: VideoCodec::H264,
            data,
            key,
            size: Size::HD,
            committed: now,
            captured: now,
            encoded: now,
            input: None,
        }
    }
}

/// An Annex B access unit of about `size` bytes: on a key frame SPS and PPS first. No byte is zero, so no start code appears
/// inside.
pub fn make_unit(index: u32, key: bool, size: usize, random: &mut Random) -> Vec<u8> {
    let mut data = Vec::with_capacity(size + 64);
    if key {
        data.extend([0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0x95, 0xa0, 0x14, 0x01, 0x6e, 0x40]);
        data.extend([0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80]);
    }
    data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
    data.extend((0..4).map(|digit| (index >> (digit * 7)) as u8 & 0x7f | 0x80));
    while data.len() < size {
        data.extend(random.next().to_le_bytes().map(|byte| byte | 1));
    }
    data
}

fn checksum(data: &[u8]) -> u64 {
    // Over the slice alone: parameter sets may be framed otherwise on arrival.
    let Some(slice) = slice_of(data) else { return 0 };
    slice.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn slice_of(data: &[u8]) -> Option<&[u8]> {
    let found = data.windows(5).position(|w| w[..4] == [0, 0, 0, 1] && (w[4] == 0x65 || w[4] == 0x41))?;
    Some(&data[found + 4..])
}

fn parse_unit(data: &[u8]) -> Option<(u32, bool, u64)> {
    let slice = slice_of(data)?;
    let digits = slice.get(1..5)?;
    let index = digits.iter().rev().fold(0u32, |index, byte| index << 7 | u32::from(byte & 0x7f));
    Some((index, slice[0] == 0x65, checksum(data)))
}

/// Sends on one of the player's channels.
pub fn player_send(world: &mut World, channel: usize, bytes: &[u8]) {
    let id = world.channels[channel];
    assert!(world.player.channel(id).expect("open").write(true, bytes).unwrap());
}

/// The peer's channel of the same index.
pub fn peer_channel(channel: usize) -> Channel {
    [Channel::Control, Channel::Motion][channel]
}
