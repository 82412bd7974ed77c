//! A player without eyes: receives a Kite stream over WebRTC, counts whole frames, decodes nothing.
//!
//! `bench/capacity` needs many players on one machine, and a browser that decodes would be what is measured. It writes
//! its offer as the first line of standard output (`{"offer": SDP}`), takes the answer as the first line of standard
//! input (`{"answer": SDP}`), then writes one line of figures a second until its standard input ends.

use std::io::BufRead as _;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use wire::ClientMessage;

/// Largest datagram: the loopback's MTU never cuts what a streamer sends.
const DATAGRAM_BYTES: usize = 2048;

#[derive(Default)]
struct Count {
    frames: u64,
    incomplete: u64,
    bytes: u64,
}

struct Receiver {
    rtc: Rtc,
    socket: UdpSocket,
    video: Mid,
    control: ChannelId,
    count: Count,
}

fn main() -> anyhow::Result<()> {
    let mut receiver = Receiver::negotiate()?;
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    let mut next_report = Instant::now() + Duration::from_secs(1);
    while receiver.rtc.is_alive() {
        let wake = receiver.drain()?.min(next_report);
        if let Some(readable) = receiver.wait(wake)? {
            if readable.standard_input {
                line.clear();
                if input.read_line(&mut line)? == 0 {
                    receiver.rtc.disconnect();
                    receiver.drain()?;
                    return Ok(());
                }
            }
            if readable.socket {
                receiver.receive()?;
            }
        }
        receiver.rtc.handle_input(Input::Timeout(Instant::now()))?;
        if Instant::now() >= next_report {
            next_report += Duration::from_secs(1);
            let count = std::mem::take(&mut receiver.count);
            say(&json!({ "frames": count.frames, "incomplete": count.incomplete, "bytes": count.bytes }));
        }
    }
    anyhow::bail!("the connection ended")
}

#[expect(clippy::print_stdout, reason = "the harness reads these lines")]
fn say(value: &Value) {
    println!("{value}");
}

#[derive(Clone, Copy)]
struct Readable {
    socket: bool,
    standard_input: bool,
}

impl Receiver {
    fn negotiate() -> anyhow::Result<Receiver> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("bind")?;
        socket.set_nonblocking(true)?;
        let mut rtc = Rtc::builder().build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
        let mut api = rtc.sdp_api();
        let video = api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let control = api.add_channel(wire::CONTROL_LABEL.into());
        api.add_channel_with_config(ChannelConfig {
            label: wire::MOTION_LABEL.into(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            ..ChannelConfig::default()
        });
        let (offer, pending) = api.apply().context("an offer with media has changes")?;
        say(&json!({ "offer": offer.to_sdp_string() }));
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the first line is no JSON")?;
        let answer = answer.get("answer").and_then(Value::as_str).context("the first line holds no answer")?;
        rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(answer)?)?;
        Ok(Receiver { rtc, socket, video, control, count: Count::default() })
    }

    /// Sends what has to be sent, counts what arrived, and returns when to come back.
    fn drain(&mut self) -> anyhow::Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => match self.socket.send_to(&transmit.contents, transmit.destination) {
                    Ok(_) => {}
                    // A full or refusing socket loses the datagram, as a network would.
                    Err(error) => eprintln!("probe: send: {error}"),
                },
                Output::Event(event) => self.event(&event)?,
            }
        }
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::MediaData(data) if data.mid == self.video => {
                self.count.frames += 1;
                self.count.incomplete += u64::from(!data.contiguous);
                self.count.bytes += data.data.len() as u64;
            }
            Event::ChannelOpen(id, _) if *id == self.control => {
                let mut hello = Vec::new();
                ClientMessage::Hello { version: wire::PROTOCOL_VERSION }.encode(&mut hello);
                if let Some(mut channel) = self.rtc.channel(*id) {
                    channel.write(true, &hello)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn wait(&self, until: Instant) -> anyhow::Result<Option<Readable>> {
        let wait = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: i64::try_from(wait.as_secs())?, tv_nsec: i64::from(wait.subsec_nanos()) };
        let standard_input = std::io::stdin();
        let mut sources = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(standard_input.as_fd(), PollFlags::IN),
        ];
        match poll(&mut sources, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => {
                let ready = |index: usize| !sources[index].revents().is_empty();
                Ok(Some(Readable { socket: ready(0), standard_input: ready(1) }))
            }
            Err(error) => Err(error).context("poll"),
        }
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0_u8; DATAGRAM_BYTES];
        let destination = self.socket.local_addr()?;
        loop {
            let (length, source) = match self.socket.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("receive"),
            };
            // What is not WebRTC is ignored, as str0m itself would.
            let Ok(receive) = Receive::new(Protocol::Udp, source, destination, &bytes[..length]) else {
                continue;
            };
            self.rtc.handle_input(Input::Receive(Instant::now(), receive))?;
            self.drain()?;
        }
    }
}
