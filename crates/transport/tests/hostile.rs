//! What strangers send: offers and datagrams.

mod support;

use std::time::{Duration, Instant};

use media::VideoCodec;
use proptest::prelude::*;
use support::{World, delay, limits, settings};
use transport::{Input, MAX_OFFER_BYTES, OfferError, Output, Peer, PeerSettings, Protocol};

const CHROMIUM: &str = include_str!("data/chromium.sdp");
const FIREFOX: &str = include_str!("data/firefox.sdp");

fn accept(offer: &str) -> Result<(Peer, String), OfferError> {
    Peer::accept(offer, &settings(limits(300, 4000, 8000)), Instant::now())
}

#[expect(clippy::unwrap_used, reason = "a test's check fails by panicking")]
fn check_browser(offer: &str, codec: VideoCodec, format: &str) {
    let (peer, answer) = accept(offer).unwrap();
    assert_eq!(peer.video_codec(), codec);
    assert!(peer.has_audio());
    let count = |needle: &str| answer.lines().filter(|line| line.contains(needle)).count();
    assert!(count(format) >= 1, "{format} in {answer}");
    assert_eq!(count("a=ice-lite"), 1);
    assert_eq!(count("playout-delay"), 1, "{answer}");
    assert!(count("transport-wide-cc") >= 1);
    assert_eq!(count("a=sendonly"), 2, "{answer}");
    assert_eq!(count("10.0.0.1 5000 typ host"), 2, "UDP and passive TCP: {answer}");
    assert_eq!(count("tcptype passive"), 1);
    assert!(count("rtx/90000") >= 1 && count("nack pli") >= 1);
    let mut streams: Vec<&str> =
        answer.lines().filter_map(|line| line.strip_prefix("a=msid:")?.split(' ').next()).collect();
    streams.dedup();
    assert_eq!(streams.len(), 2, "sound does not wait for the picture: {answer}");
    assert!(!answer.contains("packetization-mode=0"));
}

#[test]
fn the_browsers_own_offers_are_answered() {
    check_browser(CHROMIUM, VideoCodec::H264, "packetization-mode=1;profile-level-id=42e01f");
    check_browser(FIREFOX, VideoCodec::Vp8, "VP8/90000");
}

#[test]
fn the_preference_decides_between_what_both_know() {
    let prefer = vec![VideoCodec::Vp8, VideoCodec::H264];
    let settings = PeerSettings { prefer, ..settings(limits(300, 4000, 8000)) };
    assert_eq!(Peer::accept(CHROMIUM, &settings, Instant::now()).unwrap().0.video_codec(), VideoCodec::Vp8);
}

fn without(section: &str) -> String {
    let mut keep = true;
    let lines = CHROMIUM.lines().filter(|line| {
        if line.starts_with("m=") {
            keep = !line.starts_with(section);
        }
        keep
    });
    lines.map(|line| format!("{line}\r\n")).collect()
}

fn check_refused(offer: &str, sentence: &str) {
    match accept(offer) {
        Ok(_) => panic!("accepted, expected `{sentence}`"),
        Err(error) => assert!(error.to_string().contains(sentence), "`{error}` is not `{sentence}`"),
    }
}

#[test]
fn offers_that_can_not_work_are_refused_with_the_reason() {
    check_refused("", "is not SDP: it is empty");
    check_refused("hello", "is not SDP: it does not begin with v=0");
    check_refused("v=0\r\nhello", "line 2 is not of the form x=...");
    check_refused(&"v=0\r\n".repeat(20_000), "at most 65536 are accepted");
    check_refused(&without("m=video"), "no video section");
    check_refused(&without("m=application"), "no data channel");
    check_refused(&CHROMIUM.replacen("a=recvonly", "a=sendonly", 1), "does not receive");
    check_refused(&CHROMIUM.replace("a=group:BUNDLE 0 1 2\r\n", ""), "does not bundle");
    check_refused(&CHROMIUM.replace("a=fingerprint", "a=finger"), "no certificate fingerprint");
    check_refused(&CHROMIUM.replace("a=ice-pwd", "a=ice"), "no ICE credentials");
    check_refused(&CHROMIUM.replacen("a=mid:0\r\n", "", 1), "no identification tag");
    check_refused(&CHROMIUM.replace("m=audio", "m=video"), "2 video sections");
    check_refused(&CHROMIUM.replace("m=audio", "m=smell"), "unknown kind of media");
    let exotic = CHROMIUM.replace("VP8/90000", "VP7/90000").replace("packetization-mode=1", "packetization-mode=0");
    check_refused(&exotic, "no common video codec: the player decodes VP7, VP9 profile-id=0");
    check_refused(&exotic, "the streamer sends H264 with packetization-mode=1, VP8");
}

#[test]
fn an_offer_without_sound_is_answered() {
    let offer = without("m=audio").replace("BUNDLE 0 1 2", "BUNDLE 0 2");
    let (peer, _) = accept(&offer).unwrap();
    assert!(!peer.has_audio());
}

#[test]
fn a_peer_that_nobody_connects_to_ends() {
    let start = Instant::now();
    let (mut peer, _) = Peer::accept(CHROMIUM, &settings(limits(300, 4000, 8000)), start).unwrap();
    let (mut now, mut steps) = (start, 0);
    let event = loop {
        steps += 1;
        assert!(steps < 10_000, "it does not spin");
        match peer.poll(now) {
            Output::Timeout(at) => {
                now = at.max(now);
                peer.handle(Input::Timeout, now);
            }
            Output::Event(event) => break event,
            Output::Transmit(transmit) => panic!("to nobody: {transmit:?}"),
        }
    };
    assert_eq!(event, transport::PeerEvent::Closed(transport::CloseReason::ConnectTimeout));
    assert_eq!(now - start, Duration::from_secs(20));
}

#[test]
fn datagrams_of_a_stranger_are_not_accepted() {
    let world = World::new(limits(300, 1000, 1000), &delay(5), 1);
    let (stranger, ours) = ("10.9.9.9:1".parse().unwrap(), support::SERVER.parse().unwrap());
    for bytes in [&b""[..], b"x", &[0; 20], &[22; 100], &[0x80; 100]] {
        assert!(!world.peer.accepts(Protocol::Udp, stranger, ours, bytes), "{bytes:?}");
    }
}

/// Text like an offer: lines of real ones, changed, repeated, left out, in any order.
fn broken_offer() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = CHROMIUM.lines().chain(FIREFOX.lines()).collect();
    let edit = (0..6u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~]{0,12}");
    (any::<bool>(), prop::collection::vec(edit, 1..20)).prop_map(move |(chromium, edits)| {
        let base = if chromium { CHROMIUM } else { FIREFOX };
        let mut text: Vec<String> = base.lines().map(str::to_owned).collect();
        for (kind, at, other, word) in edits {
            let index = at.index(text.len());
            match kind {
                0 => drop(text.remove(index)),
                1 => text.insert(index, (*other.get(&lines)).to_owned()),
                2 => text[index].push_str(&word),
                3 => {
                    let copy = text[other.index(text.len())].clone();
                    text[index] = copy;
                }
                4 => {
                    let cut = other.index(text[index].len() + 1);
                    if text[index].is_char_boundary(cut) {
                        text[index].truncate(cut);
                    }
                }
                _ => {
                    let digits: String =
                        text[index].chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                    text[index] = digits;
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
        prop_assert!(text.len() < MAX_OFFER_BYTES);
        drop(accept(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Garbage from the player's own address, before and in the middle of a session.
    #[test]
    fn any_datagram_is_survived(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..60),
        first in prop::collection::vec(prop::sample::select(vec![0u8, 1, 20, 22, 23, 63, 128, 144, 191]), 60),
        seed in 1u64..1000,
    ) {
        let mut world = World::new(limits(300, 1000, 1000), &delay(5), seed);
        for (number, (mut datagram, first)) in datagrams.into_iter().zip(first).enumerate() {
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            world.run(Duration::from_millis(20 * number as u64));
            world.inject(&datagram);
        }
        world.run(Duration::from_secs(3));
        prop_assert!(world.peer.is_connected(), "the session goes on");
        prop_assert!(world.shown_between(Duration::from_secs(2), Duration::from_secs(3)) > 50);
    }
}
