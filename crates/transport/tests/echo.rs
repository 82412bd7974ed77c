//! The echo: what comes back, what does not, and what strangers send.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use impair::{Conditions, Link};
use proptest::prelude::*;
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Rtc};
use transport::OfferError;
use transport::echo::{ECHO_LABEL, Echo, EchoEnd, LIFETIME, MAX_ECHO_BYTES, MAX_ECHOES};

const SERVER: &str = "10.0.0.1:5000";
const CLIENT: &str = "10.0.0.2:6000";
const CHROMIUM: &str = include_str!("data/chromium-echo.sdp");
const FIREFOX: &str = include_str!("data/firefox-echo.sdp");
const PLAYERS: &str = include_str!("data/chromium.sdp");

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn accept(offer: &str) -> Result<(Echo, String), OfferError> {
    Echo::accept(offer, &[address(SERVER)], Instant::now())
}

/// A client made of str0m, an echo, and a way between them, in simulated time.
struct World {
    start: Instant,
    now: Instant,
    echo: Echo,
    client: Rtc,
    client_wake: Instant,
    up: Link<()>,
    down: Link<()>,
    channel: ChannelId,
    is_open: bool,
    /// What came back, and when.
    back: Vec<(Instant, Vec<u8>)>,
    closed: Vec<ChannelId>,
}

impl World {
    fn new(label: &str, path: &Conditions, seed: u64) -> World {
        let start = Instant::now();
        let mut client = Rtc::builder().build(start);
        client.add_local_candidate(Candidate::host(address(CLIENT), "udp").unwrap());
        let mut api = client.sdp_api();
        let channel = api.add_channel_with_config(config(label));
        let (offer, pending) = api.apply().unwrap();
        let (echo, answer) = Echo::accept(&offer.to_sdp_string(), &[address(SERVER)], start).unwrap();
        client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
        let (up, down) = (Link::new(path.clone(), seed), Link::new(path.clone(), seed + 1));
        World {
            start,
            now: start,
            echo,
            client,
            client_wake: start,
            up,
            down,
            channel,
            is_open: false,
            back: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.drain();
            let wakes =
                [Some(self.echo.due()), Some(self.client_wake), self.up.next_arrival(), self.down.next_arrival()];
            let next = wakes.into_iter().flatten().filter(|at| *at > self.now).fold(end, Instant::min);
            self.now = next;
            self.echo.pass_time(self.now);
            if self.client_wake <= self.now {
                self.client.handle_input(str0m::Input::Timeout(self.now)).unwrap();
            }
            while let Some(((), bytes)) = self.up.receive(self.now) {
                self.inject(&bytes);
            }
            self.drain();
            while let Some(((), bytes)) = self.down.receive(self.now) {
                if let Ok(receive) = Receive::new(Protocol::Udp, address(SERVER), address(CLIENT), &bytes) {
                    self.client.handle_input(str0m::Input::Receive(self.now, receive)).unwrap();
                }
                self.drain();
            }
            self.drain();
        }
    }

    fn inject(&mut self, bytes: &[u8]) {
        self.echo.receive(address(CLIENT), address(SERVER), bytes, self.now);
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.echo.transmit() {
            assert_eq!(transmit.destination, address(CLIENT));
            self.down.send((), transmit.bytes, self.now);
        }
        loop {
            match self.client.poll_output().unwrap() {
                str0m::Output::Timeout(at) if at <= self.now => {
                    self.client.handle_input(str0m::Input::Timeout(self.now)).unwrap();
                }
                str0m::Output::Timeout(at) => {
                    self.client_wake = at;
                    return;
                }
                str0m::Output::Transmit(transmit) => self.up.send((), transmit.contents.to_vec(), self.now),
                str0m::Output::Event(Event::ChannelOpen(id, _)) => self.is_open |= id == self.channel,
                str0m::Output::Event(Event::ChannelClose(id)) => self.closed.push(id),
                str0m::Output::Event(Event::ChannelData(data)) => self.back.push((self.now, data.data)),
                str0m::Output::Event(_) => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let taken = self.client.channel(self.channel).is_some_and(|mut open| open.write(true, bytes).unwrap());
        assert!(taken, "the channel is open and has room");
    }

    /// Sends so many numbers at this distance; round trips of those that came back.
    fn measure(&mut self, count: u32, apart: Duration) -> Vec<Duration> {
        let mut sent = Vec::new();
        self.back.clear();
        for number in 0..count {
            sent.push(self.now);
            self.send(&number.to_be_bytes());
            self.run(apart);
        }
        self.run(ms(500));
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        self.back.iter().map(|(at, bytes)| *at - sent[number(bytes)]).collect()
    }
}

fn config(label: &str) -> ChannelConfig {
    let reliability = Reliability::MaxRetransmits { retransmits: 0 };
    ChannelConfig { label: label.into(), ordered: false, reliability, ..ChannelConfig::default() }
}

fn path(delay: u64, loss: f64) -> Conditions {
    Conditions { delay: ms(delay), loss, ..Conditions::default() }
}

fn open(delay: u64, loss: f64, seed: u64) -> World {
    let mut world = World::new(ECHO_LABEL, &path(delay, loss), seed);
    world.run(ms(3000));
    assert!(world.is_open, "the channel is open");
    world
}

#[test]
fn what_comes_goes_back_at_once() {
    let mut world = open(30, 0.0, 1);
    let round_trips = world.measure(40, ms(25));
    assert_eq!(round_trips.len(), 40, "nothing is lost");
    let (least, most) = (round_trips.iter().min().unwrap(), round_trips.iter().max().unwrap());
    assert!(*least >= ms(60) && *most <= ms(61), "{least:?} to {most:?}");
    assert_eq!(world.echo.echoed(), 40);
}

#[test]
fn what_is_lost_is_not_sent_again() {
    let mut world = open(10, 0.1, 7);
    let round_trips = world.measure(120, ms(25));
    let lost = 120 - round_trips.len();
    assert!((8..45).contains(&lost), "{lost} of 120 with 19 % lost there and back");
    assert!(round_trips.iter().all(|took| *took < ms(30)), "none came later: {round_trips:?}");
}

#[test]
fn long_messages_and_floods_do_not_come_back() {
    let mut world = open(5, 0.0, 1);
    world.send(&[7; MAX_ECHO_BYTES + 1]);
    world.send(&[7; MAX_ECHO_BYTES]);
    world.run(ms(200));
    assert_eq!(world.back.len(), 1);
    world.back.clear();
    for _ in 0..100 {
        world.send(&[1; 8]);
    }
    world.run(ms(200));
    assert!((40..60).contains(&world.back.len()), "{} of 100 at once", world.back.len());
}

#[test]
fn it_sends_back_so_many_and_is_over() {
    let mut world = open(5, 0.0, 1);
    let back = world.measure(MAX_ECHOES, ms(20));
    assert!(back.len() >= MAX_ECHOES as usize - 1, "{}", back.len());
    assert_eq!(world.echo.end(), Some(EchoEnd::Enough));
}

#[test]
fn it_is_over_when_its_time_is_and_tells_its_client() {
    let mut world = open(5, 0.0, 1);
    world.run(LIFETIME);
    assert_eq!(world.echo.end(), Some(EchoEnd::Late));
    assert!(!world.client.is_alive(), "the client was told");
}

#[test]
fn one_that_nobody_comes_to_is_over_at_the_same_time() {
    let start = Instant::now();
    let (mut echo, _) = Echo::accept(CHROMIUM, &[address(SERVER)], start).unwrap();
    let (mut now, mut steps) = (start, 0);
    while echo.end().is_none() {
        steps += 1;
        assert!(steps < 10_000, "it does not spin");
        now = echo.due().max(now);
        echo.pass_time(now);
        assert_eq!(echo.transmit(), None, "to nobody");
    }
    assert_eq!((echo.end(), now - start), (Some(EchoEnd::Late), LIFETIME));
}

#[test]
fn a_goodbye_is_heard() {
    let mut world = open(5, 0.0, 1);
    world.client.close().unwrap();
    world.run(ms(1000));
    assert_eq!(world.echo.end(), Some(EchoEnd::Left));
}

#[test]
fn channels_of_another_name_and_second_ones_are_closed() {
    let mut world = World::new("chat", &path(5, 0.0), 1);
    world.run(ms(3000));
    assert_eq!(world.closed, [world.channel]);
    let mut world = open(5, 0.0, 1);
    let mut api = world.client.sdp_api();
    let second = api.add_channel_with_config(config(ECHO_LABEL));
    assert!(api.apply().is_none(), "no negotiation for a further channel");
    world.run(ms(2000));
    assert_eq!(world.closed, [second]);
    world.send(b"the first one stays");
    world.run(ms(100));
    assert_eq!(world.back.len(), 1);
}

#[test]
fn the_browsers_own_offers_are_answered() {
    for offer in [CHROMIUM, FIREFOX] {
        let (_, answer) = accept(offer).unwrap();
        let count = |needle: &str| answer.lines().filter(|line| line.contains(needle)).count();
        assert_eq!((count("a=ice-lite"), count("10.0.0.1 5000 typ host"), count("m=")), (1, 1, 1), "{answer}");
        assert_eq!(count("a=max-message-size:256"), 1, "{answer}");
    }
}

#[test]
fn offers_of_more_than_a_channel_are_refused_with_the_reason() {
    let check = |offer: &str, sentence: &str| match accept(offer) {
        Ok(_) => panic!("accepted, expected `{sentence}`"),
        Err(error) => assert!(error.to_string().contains(sentence), "`{error}` is not `{sentence}`"),
    };
    check("", "is not SDP: it is empty");
    check("hello", "is not SDP: it does not begin with v=0");
    check(&"v=0\r\n".repeat(20_000), "at most 65536 are accepted");
    check(PLAYERS, "has a section of video, but an echo has a data channel alone");
    check("v=0\r\ns=-\r\n", "no data channel");
    check(&CHROMIUM.replace("a=group:BUNDLE 0\r\n", ""), "does not bundle");
    check(&CHROMIUM.replace("a=fingerprint", "a=finger"), "no certificate fingerprint");
    check(&CHROMIUM.replace("a=ice-pwd", "a=ice"), "no ICE credentials");
    let section = CHROMIUM.find("m=application").unwrap();
    check(&format!("{CHROMIUM}{}", &CHROMIUM[section..]), "2 application sections");
}

/// Text like an offer: lines of real ones, changed, repeated, left out, in any order.
fn broken_offer() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = CHROMIUM.lines().chain(PLAYERS.lines()).collect();
    let edit = (0..4u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,12}");
    prop::collection::vec(edit, 1..20).prop_map(move |edits| {
        let mut text: Vec<String> = CHROMIUM.lines().map(str::to_owned).collect();
        for (kind, at, other, word) in edits {
            let index = at.index(text.len());
            match kind {
                0 => drop(text.remove(index)),
                1 => text.insert(index, (*other.get(&lines)).to_owned()),
                2 => text[index].push_str(&word),
                _ => {
                    let cut = other.index(text[index].len() + 1);
                    if text[index].is_char_boundary(cut) {
                        text[index].truncate(cut);
                    }
                }
            }
            if text.is_empty() {
                text.push(word);
            }
        }
        text.join("\r\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered_or_refused(text in "\\PC{0,400}") {
        drop(accept(&text));
    }

    #[test]
    fn any_change_of_a_real_offer_is_answered_or_refused(text in broken_offer()) {
        drop(accept(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Garbage from the client's own address, before and in the middle of a measurement.
    #[test]
    fn any_datagram_is_survived(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..60),
        first in prop::collection::vec(prop::sample::select(vec![0u8, 1, 20, 22, 23, 63, 128, 144, 191]), 60),
        seed in 1u64..1000,
    ) {
        let mut world = World::new(ECHO_LABEL, &path(5, 0.0), seed);
        for (mut datagram, first) in datagrams.into_iter().zip(first) {
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            world.run(ms(20));
            world.inject(&datagram);
        }
        world.run(ms(2000));
        prop_assert!(world.is_open, "the measurement goes on");
        world.send(b"still there");
        world.run(ms(100));
        prop_assert_eq!(world.back.len(), 1);
        prop_assert!(world.now - world.start < LIFETIME);
    }
}
