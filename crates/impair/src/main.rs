//! `impair`: a UDP proxy that makes a path bad.
//!
//! ```text
//! impair --listen 127.0.0.1:5000 --to 127.0.0.1:6000 --seed 1 both delay=25 loss=0.03 down rate=2000 queue=64
//! ```
//!
//! Whoever sends to `--listen` reaches `--to` through the *up* path, answers come back through the *down* path. Prints `ready PORT` once
//! it listens (`--listen 127.0.0.1:0` chooses a port). Lines on standard input change conditions while it runs (`down rate=500`,
//! `both cut=1`) and `stats` prints counters as JSON; it ends with standard input, with the counters as last line.
#![expect(clippy::print_stdout, reason = "standard output is this program's interface")]

use std::collections::HashMap;
use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use impair::{Conditions, Link};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Senders served at a time. A test has a few; a flood of sources must not exhaust descriptors.
const MAX_FLOWS: usize = 256;

/// Datagrams read at once from one socket, so that one sender does not keep others waiting.
const BATCH: usize = 64;

struct Flow {
    client: SocketAddr,
    /// Connected to the target.
    upstream: UdpSocket,
}

struct Proxy {
    listen: UdpSocket,
    to: SocketAddr,
    flows: Vec<Flow>,
    by_client: HashMap<SocketAddr, usize>,
    up: Link<usize>,
    down: Link<usize>,
}

fn main() -> anyhow::Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let listen = option(&mut words, "--listen")?.unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let to = option(&mut words, "--to")?.context("--to ADDRESS:PORT is missing")?;
    let seed = option(&mut words, "--seed")?.map_or(Ok(1), |seed| seed.parse()).context("--seed is no number")?;
    let listen = UdpSocket::bind(&listen).with_context(|| format!("cannot listen on {listen}"))?;
    listen.set_nonblocking(true)?;
    let mut proxy = Proxy {
        to: to.parse().with_context(|| format!("`{to}` is no address"))?,
        flows: Vec::new(),
        by_client: HashMap::new(),
        up: Link::new(Conditions::default(), seed),
        down: Link::new(Conditions::default(), seed.wrapping_add(1)),
        listen,
    };
    proxy.command(&words.join(" "))?;
    println!("ready {}", proxy.listen.local_addr()?.port());
    proxy.run()
}

fn option(words: &mut Vec<String>, name: &str) -> anyhow::Result<Option<String>> {
    let Some(at) = words.iter().position(|word| word == name) else { return Ok(None) };
    if at + 1 >= words.len() {
        bail!("{name} needs a value");
    }
    words.remove(at);
    Ok(Some(words.remove(at)))
}

impl Proxy {
    /// `up`, `down` and `both` say whom the following conditions are for.
    fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let (mut up, mut down) = (true, true);
        for word in line.split_whitespace() {
            match word {
                "up" => (up, down) = (true, false),
                "down" => (up, down) = (false, true),
                "both" => (up, down) = (true, true),
                "stats" => println!("{}", self.counters()),
                condition => {
                    for link in [(up, &mut self.up), (down, &mut self.down)] {
                        if let (true, link) = link {
                            let changed = link.conditions().changed(std::iter::once(condition))?;
                            link.set(changed);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn counters(&self) -> String {
        let one = |link: &Link<usize>| {
            let counters = link.counters();
            format!(r#"{{"sent":{},"lost":{},"overflowed":{}}}"#, counters.sent, counters.lost, counters.overflowed)
        };
        format!(r#"{{"up":{},"down":{},"flows":{}}}"#, one(&self.up), one(&self.down), self.flows.len())
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let mut input = Vec::new();
        loop {
            if self.wait(&mut input)? {
                println!("{}", self.counters());
                return Ok(());
            }
            while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = input.drain(..=end).collect();
                if let Err(error) = self.command(&String::from_utf8_lossy(&line)) {
                    println!("error: {error}");
                }
            }
            self.receive()?;
            self.deliver();
        }
    }

    /// Sleeps until something can be done; true when standard input ended.
    fn wait(&self, input: &mut Vec<u8>) -> anyhow::Result<bool> {
        let stdin = std::io::stdin();
        let next = [self.up.next_arrival(), self.down.next_arrival()].into_iter().flatten().min();
        let left = next.map_or(Duration::from_secs(60), |next| next.saturating_duration_since(Instant::now()));
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let sockets = std::iter::once(&self.listen).chain(self.flows.iter().map(|flow| &flow.upstream));
        let mut fds = vec![PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        fds.extend(sockets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().is_empty() {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        // Not through a buffered reader: poll would not see what it keeps.
        let length = std::fs::File::from(stdin.as_fd().try_clone_to_owned()?).read(&mut buffer)?;
        input.extend_from_slice(&buffer[..length]);
        Ok(length == 0)
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 65_536];
        for _ in 0..BATCH {
            // An error is WouldBlock, or an ICMP answer to an earlier datagram, which a network loses too.
            let Ok((length, client)) = self.listen.recv_from(&mut buffer) else { break };
            if let Some(flow) = self.flow_of(client)? {
                self.up.send(flow, buffer[..length].to_vec(), Instant::now());
            }
        }
        for (number, flow) in self.flows.iter().enumerate() {
            for _ in 0..BATCH {
                let Ok(length) = flow.upstream.recv(&mut buffer) else { break };
                self.down.send(number, buffer[..length].to_vec(), Instant::now());
            }
        }
        Ok(())
    }

    fn flow_of(&mut self, client: SocketAddr) -> anyhow::Result<Option<usize>> {
        if let Some(flow) = self.by_client.get(&client) {
            return Ok(Some(*flow));
        }
        if self.flows.len() >= MAX_FLOWS {
            return Ok(None);
        }
        let upstream = UdpSocket::bind(if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        upstream.connect(self.to)?;
        upstream.set_nonblocking(true)?;
        self.flows.push(Flow { client, upstream });
        self.by_client.insert(client, self.flows.len() - 1);
        Ok(Some(self.flows.len() - 1))
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        // A datagram that the system refuses is one more that the network lost.
        while let Some((flow, bytes)) = self.up.receive(now) {
            drop(self.flows[flow].upstream.send(&bytes));
        }
        while let Some((flow, bytes)) = self.down.receive(now) {
            drop(self.listen.send_to(&bytes, self.flows[flow].client));
        }
    }
}
