//! The net thread: waits for sockets, the inbox and the peers' own times; carries between them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use media::{AudioPacket, EncodedUnit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport::{
    BitrateLimits, Channel, CloseReason, Input, Output, Peer, PeerEvent, PeerSettings, Protocol, SendError, Transmit,
};

use super::inbox::{Inbox, Message};
use super::tcp::TcpPort;
use super::udp::{MAX_DATAGRAM, UdpPort};
use super::{NetEvent, NetSink, OfferAnswer, PeerNumber, Published};

/// Datagrams read before the peers' outputs are sent: more would keep a frame waiting behind a flood.
const RECEIVE_BATCH: usize = 64;

/// Longest sleep. The peers' own times are nearer; this is for a session without one.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

struct Entry {
    number: PeerNumber,
    peer: Peer,
    wake: Instant,
    was_connected: bool,
}

/// See the module.
pub(super) struct Worker {
    udp: UdpPort,
    tcp: Option<TcpPort>,
    inbox: Arc<Inbox>,
    published: Arc<Published>,
    settings: PeerSettings,
    sink: Box<dyn NetSink>,
    /// The player that media goes to. Was connected at least once.
    current: Option<Box<Entry>>,
    /// Answered, but not connected yet; takes the place of `current` once it is. A further offer replaces it.
    next: Option<Box<Entry>>,
    offers: u64,
}

impl Worker {
    pub(super) fn new(
        udp: UdpPort,
        tcp: Option<TcpPort>,
        inbox: Arc<Inbox>,
        published: Arc<Published>,
        settings: PeerSettings,
        sink: Box<dyn NetSink>,
    ) -> Worker {
        Worker { udp, tcp, inbox, published, settings, sink, current: None, next: None, offers: 0 }
    }

    pub(super) fn run(mut self) {
        if let Err(error) = super::make_realtime() {
            tracing::info!(%error, "no real-time priority for the network: frames may leave late on a busy machine");
        }
        let mut messages = VecDeque::new();
        loop {
            let stopped = self.inbox.take(&mut messages);
            while let Some(message) = messages.pop_front() {
                self.message(message);
                self.flush();
            }
            self.receive_udp();
            self.receive_tcp();
            self.pass_time();
            self.flush();
            self.publish();
            if stopped {
                self.goodbye();
                if let Some(tcp) = &mut self.tcp {
                    tcp.finish(Instant::now());
                }
                return;
            }
            self.wait();
        }
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Offer { sdp, reply } => {
                let answer = self.offer(&sdp);
                reply(answer);
            }
            Message::Video(unit) => self.video(&unit),
            Message::Audio(packet) => self.audio(&packet),
            Message::Data { channel, bytes } => self.data(channel, &bytes),
            Message::Limits(limits) => self.limits(limits),
            Message::Disconnect => self.goodbye(),
        }
    }

    fn offer(&mut self, sdp: &str) -> OfferAnswer {
        let now = Instant::now();
        let (peer, answer) = Peer::accept(sdp, &self.settings, now)?;
        self.offers += 1;
        let number = PeerNumber(self.offers);
        self.next = Some(Box::new(Entry { number, peer, wake: now, was_connected: false }));
        self.drain();
        Ok((number, answer))
    }

    fn video(&mut self, unit: &EncodedUnit) {
        let Some(entry) = &mut self.current else { return };
        let sent = Instant::now();
        let Some(rtp_timestamp) = entry.peer.send_video(unit, sent) else { return };
        let peer = entry.number;
        self.drain();
        self.flush();
        self.sink.event(NetEvent::FrameSent {
            peer,
            rtp_timestamp,
            committed: unit.committed,
            captured: unit.captured,
            encoded: unit.encoded,
            sent,
            input: unit.input,
            bytes: unit.data.len(),
            key: unit.key,
        });
    }

    fn audio(&mut self, packet: &AudioPacket) {
        if let Some(entry) = &mut self.current {
            entry.peer.send_audio(packet, Instant::now());
            self.drain();
        }
    }

    fn data(&mut self, channel: Channel, bytes: &[u8]) {
        let Some(entry) = &mut self.current else { return };
        match entry.peer.send(channel, bytes, Instant::now()) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(error) => tracing::debug!(%error, bytes = bytes.len(), "a message was dropped"),
        }
        self.drain();
    }

    fn limits(&mut self, limits: BitrateLimits) {
        self.settings.bitrate = limits;
        let now = Instant::now();
        for entry in [&mut self.current, &mut self.next].into_iter().flatten() {
            entry.peer.set_limits(limits, now);
        }
        self.drain();
    }

    fn goodbye(&mut self) {
        let now = Instant::now();
        for entry in [&mut self.current, &mut self.next].into_iter().flatten() {
            entry.peer.close(now);
        }
        self.drain();
        self.flush();
        self.publish();
    }

    fn receive_udp(&mut self) {
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..RECEIVE_BATCH {
            let Some((length, source)) = self.udp.receive(&mut buffer) else { return };
            self.datagram(Protocol::Udp, source, &buffer[..length]);
        }
    }

    fn receive_tcp(&mut self) {
        let Some(tcp) = &mut self.tcp else { return };
        // Gathered first: the answers go out through the same connections.
        let mut frames = Vec::new();
        tcp.service(Instant::now(), |source, bytes| frames.push((source, bytes.to_vec())));
        for (source, bytes) in frames {
            self.datagram(Protocol::Tcp, source, &bytes);
        }
    }

    fn datagram(&mut self, protocol: Protocol, source: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        // One socket serves all candidates; which one the player used shows only in its address family.
        let candidates = match protocol {
            Protocol::Udp => &self.settings.candidates,
            Protocol::Tcp => &self.settings.tcp_candidates,
        };
        let Some(&destination) = candidates.iter().find(|candidate| candidate.is_ipv4() == source.is_ipv4()) else {
            return;
        };
        for entry in [&mut self.current, &mut self.next].into_iter().flatten() {
            if entry.peer.accepts(protocol, source, destination, bytes) {
                if let (Protocol::Tcp, Some(tcp)) = (protocol, &mut self.tcp) {
                    tcp.accepted(source, now);
                }
                entry.peer.handle(Input::Receive { protocol, source, destination, bytes }, now);
                break;
            }
        }
        self.drain();
    }

    fn pass_time(&mut self) {
        let now = Instant::now();
        for entry in [&mut self.current, &mut self.next].into_iter().flatten() {
            if entry.wake <= now {
                entry.peer.handle(Input::Timeout, now);
            }
        }
        self.drain();
    }

    /// Carries out what the peers want.
    fn drain(&mut self) {
        if self.next.as_ref().is_some_and(|next| next.peer.is_connected()) {
            self.promote();
        }
        for mut slot in [self.current.take(), self.next.take()].into_iter().flatten() {
            self.drain_entry(&mut slot);
            if slot.peer.is_closed() {
                continue;
            }
            // `drain_entry` changes neither slot, so both are where they were.
            if slot.was_connected { self.current = Some(slot) } else { self.next = Some(slot) }
        }
    }

    /// The next player takes the place of the current one.
    fn promote(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        next.was_connected = true;
        if let Some(mut old) = self.current.replace(next) {
            let now = Instant::now();
            old.peer.close(now);
            while let Some(transmit) = goodbye_of(&mut old.peer, now) {
                self.transmit(transmit);
            }
        }
    }

    fn drain_entry(&mut self, entry: &mut Entry) {
        loop {
            match entry.peer.poll(Instant::now()) {
                Output::Transmit(transmit) => self.transmit(transmit),
                Output::Event(event) => {
                    if event == PeerEvent::Connected {
                        self.published.set_codec(entry.peer.video_codec());
                        self.published.takes_frame.store(true, Ordering::Relaxed);
                        self.published.connected.store(true, Ordering::Relaxed);
                    }
                    if let PeerEvent::Closed(CloseReason::Failed(reason)) = &event {
                        tracing::warn!(peer = entry.number.0, %reason, "the connection failed");
                    }
                    self.sink.event(NetEvent::Peer { peer: entry.number, event });
                }
                Output::Timeout(at) => {
                    entry.wake = at;
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        match (transmit.protocol, &mut self.tcp) {
            (Protocol::Udp, _) => self.udp.send(transmit.destination, transmit.bytes),
            (Protocol::Tcp, Some(tcp)) => tcp.send(transmit.destination, &transmit.bytes),
            (Protocol::Tcp, None) => {}
        }
    }

    fn flush(&mut self) {
        self.udp.flush();
        if let Some(tcp) = &mut self.tcp {
            tcp.flush();
        }
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let (connected, takes_frame) = match &mut self.current {
            Some(entry) => (entry.peer.is_connected(), entry.peer.takes_frame(now)),
            None => (false, false),
        };
        self.published.connected.store(connected, Ordering::Relaxed);
        self.published.takes_frame.store(takes_frame, Ordering::Relaxed);
    }

    fn wait(&self) {
        let now = Instant::now();
        let wakes = [
            self.current.as_ref().map(|entry| entry.wake),
            self.next.as_ref().map(|entry| entry.wake),
            self.tcp.as_ref().and_then(TcpPort::next_timeout),
        ];
        let until = wakes.into_iter().flatten().fold(now + LONGEST_SLEEP, Instant::min);
        let left = until.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let (wake, udp) = (self.inbox.wake_fd(), self.udp.fd());
        let mut fds = vec![PollFd::new(&wake, PollFlags::IN), PollFd::new(&udp, PollFlags::IN)];
        if let Some(tcp) = &self.tcp {
            fds.extend(tcp.fds().map(|(fd, writes)| {
                let flags = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                PollFd::from_borrowed_fd(fd, flags)
            }));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                // Nothing that this thread can repair; a pause instead of a busy loop.
                tracing::error!(%error, "waiting failed");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// What a closed peer still has to send.
fn goodbye_of(peer: &mut Peer, now: Instant) -> Option<Transmit> {
    loop {
        match peer.poll(now) {
            Output::Transmit(transmit) => return Some(transmit),
            Output::Event(_) => {}
            Output::Timeout(_) => return None,
        }
    }
}
