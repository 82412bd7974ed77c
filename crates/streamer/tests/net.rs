//! The net thread over real sockets, with a player made of str0m: UDP, ICE-TCP, a second player, goodbyes, refusals.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use media::{AudioPacket, Bitrate, EncodedUnit, Size, VideoCodec};
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive, TcpType};
use str0m::{Candidate, Event, Rtc};
use streamer::net::{Net, NetError, NetEvent, NetHandle, NetSettings, NetSink, OfferAnswer, PeerNumber};
use transport::{BitrateLimits, Channel, CloseReason, OfferError, PeerEvent};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(20);

struct Events(mpsc::SyncSender<NetEvent>);

impl NetSink for Events {
    fn event(&mut self, event: NetEvent) {
        drop(self.0.try_send(event));
    }
}

fn settings() -> NetSettings {
    let kbps = Bitrate::from_kbps;
    NetSettings {
        bind: LOCALHOST,
        advertise: vec![LOCALHOST],
        ports: 0..=0,
        advertise_port: None,
        tcp: true,
        bitrate: BitrateLimits { min: kbps(300), start: kbps(2000), max: kbps(4000) },
        prefer: vec![VideoCodec::H264],
    }
}

fn start() -> (Net, mpsc::Receiver<NetEvent>) {
    let (sender, events) = mpsc::sync_channel(10_000);
    (Net::start(&settings(), Box::new(Events(sender))).unwrap(), events)
}

fn offer(net: &NetHandle, sdp: String) -> OfferAnswer {
    let (sender, answer) = mpsc::sync_channel(1);
    net.offer(sdp, move |result| drop(sender.send(result))).unwrap();
    answer.recv_timeout(PATIENCE).unwrap()
}

enum Socket {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, buffer: Vec<u8> },
}

/// A player: everything it saw is kept.
struct Player {
    rtc: Rtc,
    socket: Socket,
    local: SocketAddr,
    server: SocketAddr,
    channels: [ChannelId; 2],
    number: PeerNumber,
    reset: bool,
    frames: usize,
    sounds: usize,
    open: usize,
    messages: Vec<Vec<u8>>,
}

impl Player {
    fn connect(net: &NetHandle, tcp: bool) -> Player {
        let now = Instant::now();
        let server = SocketAddr::new(LOCALHOST, net.port());
        let mut rtc = Rtc::builder().build(now);
        let (socket, local) = if tcp {
            let stream = TcpStream::connect(server).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let local = stream.local_addr().unwrap();
            (Socket::Tcp { stream, buffer: vec![] }, local)
        } else {
            let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let local = socket.local_addr().unwrap();
            (Socket::Udp(socket), local)
        };
        let candidate = if tcp {
            Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build()
        } else {
            Candidate::host(local, "udp")
        };
        rtc.add_local_candidate(candidate.unwrap());
        let mut api = rtc.sdp_api();
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let control = api.add_channel(wire::CONTROL_LABEL.into());
        let motion = api.add_channel_with_config(ChannelConfig {
            label: wire::MOTION_LABEL.into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..ChannelConfig::default()
        });
        let (sdp, pending) = api.apply().unwrap();
        let (number, answer) = offer(net, sdp.to_sdp_string()).unwrap();
        let wanted = if tcp { " tcp " } else { " udp " };
        let keep = |line: &&str| !line.starts_with("a=candidate") || line.contains(wanted);
        let answer: String = answer.lines().filter(keep).map(|line| format!("{line}\r\n")).collect();
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        let channels = [control, motion];
        Player {
            rtc,
            socket,
            local,
            server,
            channels,
            number,
            reset: false,
            frames: 0,
            sounds: 0,
            open: 0,
            messages: vec![],
        }
    }

    fn step(&mut self) {
        let protocol = if matches!(self.socket, Socket::Udp(_)) { Protocol::Udp } else { Protocol::Tcp };
        for bytes in self.receive() {
            let Ok(receive) = Receive::new(protocol, self.server, self.local, &bytes) else { continue };
            self.rtc.handle_input(str0m::Input::Receive(Instant::now(), receive)).unwrap();
            self.drain();
        }
        self.rtc.handle_input(str0m::Input::Timeout(Instant::now())).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                str0m::Output::Timeout(_) => return,
                str0m::Output::Transmit(transmit) => self.transmit(&transmit.contents),
                str0m::Output::Event(Event::MediaData(data)) => {
                    // Video is Annex B; the sound is two bytes.
                    if data.data.len() > 2 { self.frames += 1 } else { self.sounds += 1 }
                }
                str0m::Output::Event(Event::ChannelOpen(..)) => self.open += 1,
                str0m::Output::Event(Event::ChannelData(data)) => self.messages.push(data.data),
                str0m::Output::Event(_) => {}
            }
        }
    }

    fn transmit(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => drop(socket.send_to(bytes, self.server)),
            Socket::Tcp { stream, .. } => {
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                drop(stream.write_all(&length).and_then(|()| stream.write_all(bytes)));
            }
        }
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut chunk = [0; 4096];
        match &mut self.socket {
            Socket::Udp(socket) => {
                while let Ok((length, _)) = socket.recv_from(&mut chunk) {
                    datagrams.push(chunk[..length].to_vec());
                }
            }
            Socket::Tcp { stream, buffer } => loop {
                match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(length) => buffer.extend_from_slice(&chunk[..length]),
                    Err(error) => {
                        // A reset is a goodbye that crossed with what we were sending.
                        self.reset |= !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                        break;
                    }
                }
            },
        }
        if let Socket::Tcp { buffer, .. } = &mut self.socket {
            while buffer.len() >= 2 {
                let length = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
                if buffer.len() < 2 + length {
                    break;
                }
                datagrams.push(buffer[2..2 + length].to_vec());
                buffer.drain(..2 + length);
            }
        }
        datagrams
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Player) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waiting for {what}");
            self.step();
        }
    }

    fn say(&mut self, channel: usize, bytes: &[u8]) {
        assert!(self.rtc.channel(self.channels[channel]).unwrap().write(true, bytes).unwrap());
        self.drain();
    }
}

fn frame(key: bool) -> EncodedUnit {
    let now = Instant::now();
    let mut data = vec![];
    if key {
        data.extend([0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0x95, 0xa0, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80]);
    }
    data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
    data.extend([0xaa; 5000]);
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

/// Plays until ten frames and sounds have arrived.
fn play(net: &NetHandle, player: &mut Player) {
    player.until("the channels", |player| player.open == 2);
    assert_eq!(net.video_codec(), Some(VideoCodec::H264));
    let (mut next, mut sent, from) = (Instant::now(), 0, (player.frames, player.sounds));
    player.until("pictures and sound", |player| {
        if Instant::now() >= next {
            next += Duration::from_millis(16);
            if net.takes_frame() {
                net.video(frame(sent == 0)).unwrap();
                sent += 1;
            }
            net.audio(AudioPacket { data: vec![1, 2], captured: Instant::now() }).unwrap();
        }
        player.frames >= from.0 + 10 && player.sounds >= from.1 + 10
    });
}

fn check_play(tcp: bool) {
    let (net, events) = start();
    let handle = net.handle();
    let mut player = Player::connect(&handle, tcp);
    play(&handle, &mut player);
    player.say(0, b"key");
    player.say(1, b"mouse");
    handle.send(Channel::Control, vec![7; 100_000]).unwrap();
    handle.send(Channel::Motion, vec![8; 10]).unwrap();
    player.until("messages", |player| player.messages.len() == 2);
    let mut sizes: Vec<usize> = player.messages.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [10, 100_000]);
    drop(net);
    player.until("the goodbye", |player| !player.rtc.is_alive() || player.reset);

    let seen: Vec<NetEvent> = events.try_iter().collect();
    let peer =
        |wanted: PeerEvent| seen.iter().any(|event| matches!(event, NetEvent::Peer { event, .. } if *event == wanted));
    assert!(peer(PeerEvent::Connected) && peer(PeerEvent::KeyFrameWanted));
    assert!(peer(PeerEvent::Data { channel: Channel::Control, bytes: b"key".to_vec() }));
    assert!(peer(PeerEvent::Data { channel: Channel::Motion, bytes: b"mouse".to_vec() }));
    assert!(peer(PeerEvent::Closed(CloseReason::Local)));
    let stamps: Vec<u32> = seen
        .iter()
        .filter_map(|event| match event {
            NetEvent::FrameSent { rtp_timestamp, .. } => Some(*rtp_timestamp),
            NetEvent::Peer { .. } => None,
        })
        .collect();
    assert!(stamps.len() >= 10 && stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
}

#[test]
fn a_player_plays_over_udp() {
    check_play(false);
}

#[test]
fn a_player_plays_over_tcp() {
    check_play(true);
}

#[test]
fn a_second_player_takes_the_place_once_connected() {
    let (net, events) = start();
    let handle = net.handle();
    let mut first = Player::connect(&handle, false);
    play(&handle, &mut first);
    let mut second = Player::connect(&handle, false);
    assert!(second.number > first.number);
    // Answered, but not connected: the first one plays on.
    play(&handle, &mut first);
    play(&handle, &mut second);
    first.until("the first one's goodbye", |first| !first.rtc.is_alive());
    let order: Vec<(PeerNumber, PeerEvent)> = events
        .try_iter()
        .filter_map(|event| match event {
            NetEvent::Peer { peer, event: event @ (PeerEvent::Connected | PeerEvent::Closed(_)) } => {
                Some((peer, event))
            }
            _ => None,
        })
        .collect();
    assert_eq!(order, [(first.number, PeerEvent::Connected), (second.number, PeerEvent::Connected)]);
    second.rtc.close().unwrap();
    second.drain();
    let deadline = Instant::now() + PATIENCE;
    while handle.is_connected() {
        assert!(Instant::now() < deadline, "the goodbye is heard");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!handle.takes_frame());
}

#[test]
fn offers_that_can_not_work_disturb_nobody() {
    let (net, _events) = start();
    let handle = net.handle();
    let mut player = Player::connect(&handle, false);
    play(&handle, &mut player);
    assert!(matches!(offer(&handle, "hello".into()), Err(OfferError::NotSdp(_))));
    let stranger = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    let mut stranger_tcp = TcpStream::connect((LOCALHOST, handle.port())).unwrap();
    for byte in 0..=255u8 {
        stranger.send_to(&[byte; 100], (LOCALHOST, handle.port())).unwrap();
        drop(stranger_tcp.write_all(&[byte; 100]));
    }
    play(&handle, &mut player);
}

#[test]
fn a_taken_port_is_an_error_and_a_range_is_searched() {
    let (net, _events) = start();
    let port = net.handle().port();
    let taken = NetSettings { ports: port..=port, ..settings() };
    let error = Net::start(&taken, Box::new(Events(mpsc::sync_channel(1).0))).unwrap_err();
    assert!(matches!(error, NetError::NoPort { first, .. } if first == port), "{error}");
    let range = NetSettings { ports: port..=port.saturating_add(20), ..settings() };
    let other = Net::start(&range, Box::new(Events(mpsc::sync_channel(1).0))).unwrap();
    assert_ne!(other.handle().port(), port);
    let nowhere = NetSettings { advertise: vec![], ..settings() };
    assert!(matches!(Net::start(&nowhere, Box::new(Events(mpsc::sync_channel(1).0))), Err(NetError::NoAddress)));
}
