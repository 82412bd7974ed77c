//! The program itself, over real sockets: an agent's socket on its standard input, a client made of str0m.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::echo::{EchoSettings, FromEcho, ToEcho};
use api::streamer::NetworkSettings;
use echo::MOST_PEERS;
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Rtc};
use transport::echo::ECHO_LABEL;

/// Longer than anything here takes on a machine under full load.
const PATIENCE: Duration = Duration::from_secs(30);

struct Service {
    child: Child,
    socket: UnixStream,
    lines: BufReader<UnixStream>,
    port: u16,
}

impl Service {
    fn start() -> Service {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kite-echo"));
        let child = command.env_clear().stdin(OwnedFd::from(theirs)).stderr(Stdio::inherit()).spawn().unwrap();
        drop(command);
        let mut service = Service { child, lines: BufReader::new(ours.try_clone().unwrap()), socket: ours, port: 0 };
        let localhost = [127, 0, 0, 1].into();
        let network = NetworkSettings {
            bind: localhost,
            advertise: vec![localhost],
            advertise_port: None,
            port_min: 0,
            port_max: 0,
        };
        service.write(&EchoSettings { network });
        match service.read() {
            FromEcho::Ready { port } => service.port = port,
            other => panic!("not ready: {other:?}"),
        }
        service
    }

    fn write(&mut self, value: &impl serde::Serialize) {
        let mut line = serde_json::to_vec(value).unwrap();
        line.push(b'\n');
        self.socket.write_all(&line).unwrap();
    }

    fn read(&mut self) -> FromEcho {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn offer(&mut self, request: u64, sdp: String) -> FromEcho {
        self.write(&ToEcho::Offer { request, sdp });
        self.read()
    }

    fn end(mut self) {
        drop((self.socket, self.lines));
        assert!(self.child.wait().unwrap().success(), "it ends with its agent");
    }
}

/// A client over a real socket.
struct Client {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    channel: ChannelId,
    is_open: bool,
    back: Vec<Vec<u8>>,
}

impl Client {
    fn connect(service: &mut Service, request: u64) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        let mut rtc = Rtc::builder().build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").unwrap());
        let mut api = rtc.sdp_api();
        let channel = api.add_channel_with_config(ChannelConfig {
            label: ECHO_LABEL.into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..ChannelConfig::default()
        });
        let (offer, pending) = api.apply().unwrap();
        let answer = match service.offer(request, offer.to_sdp_string()) {
            FromEcho::Answer { request: of, sdp } if of == request => sdp,
            other => panic!("no answer: {other:?}"),
        };
        assert!(answer.contains(&format!("127.0.0.1 {} typ host", service.port)), "{answer}");
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        Client { rtc, socket, local, channel, is_open: false, back: Vec::new() }
    }

    fn until(&mut self, good: impl Fn(&Client) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !good(self) {
            assert!(Instant::now() < deadline, "never");
            let wake = loop {
                match self.rtc.poll_output().unwrap() {
                    str0m::Output::Timeout(at) => break at,
                    str0m::Output::Transmit(transmit) => {
                        self.socket.send_to(&transmit.contents, transmit.destination).unwrap();
                    }
                    str0m::Output::Event(Event::ChannelOpen(id, _)) => self.is_open |= id == self.channel,
                    str0m::Output::Event(Event::ChannelData(data)) => self.back.push(data.data),
                    str0m::Output::Event(_) => {}
                }
            };
            let left = wake
                .saturating_duration_since(Instant::now())
                .clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 2048];
            let received = self.socket.recv_from(&mut buffer);
            let now = Instant::now();
            let input = match &received {
                Ok((length, from)) => {
                    let bytes = &buffer[..*length];
                    str0m::Input::Receive(now, Receive::new(Protocol::Udp, *from, self.local, bytes).unwrap())
                }
                Err(_timeout) => str0m::Input::Timeout(now),
            };
            self.rtc.handle_input(input).unwrap();
        }
    }
}

#[test]
fn several_clients_measure_at_once_and_the_end_of_the_agent_is_its_end() {
    let mut service = Service::start();
    let mut clients: Vec<Client> = (0..3).map(|number| Client::connect(&mut service, number)).collect();
    for client in &mut clients {
        client.until(|client| client.is_open);
    }
    for round in 0..20u8 {
        for (number, client) in clients.iter_mut().enumerate() {
            let message = [round, number as u8, 7];
            assert!(client.rtc.channel(client.channel).unwrap().write(true, &message).unwrap());
            client.until(|client| client.back.last().is_some_and(|bytes| bytes[..] == message));
        }
    }
    service.end();
}

#[test]
fn offers_that_are_none_and_too_many_of_them_are_refused_with_the_reason() {
    let mut service = Service::start();
    let sdp = include_str!("../../transport/tests/data/chromium.sdp").to_owned();
    match service.offer(1, sdp) {
        FromEcho::Refused { request: 1, detail } => assert!(detail.contains("a data channel alone"), "{detail}"),
        other => panic!("{other:?}"),
    }
    let offer = include_str!("../../transport/tests/data/firefox-echo.sdp");
    for request in 0..MOST_PEERS as u64 {
        assert!(matches!(service.offer(request, offer.to_owned()), FromEcho::Answer { .. }));
    }
    assert_eq!(service.offer(99, offer.to_owned()), FromEcho::Busy { request: 99 });
    service.end();
}

#[test]
fn a_line_that_is_none_ends_it() {
    let mut service = Service::start();
    service.socket.write_all(b"{\"type\":\"dance\"}\n").unwrap();
    assert!(!service.child.wait().unwrap().success());
}
