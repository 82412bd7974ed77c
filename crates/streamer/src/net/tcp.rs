//! Passive ICE-TCP (RFC 6544): connections of players whose network has no UDP. Each datagram is framed by its length in two bytes
//! (RFC 4571).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::udp::{MAX_DATAGRAM, canonical};

/// Connections at a time: two of a browser, two of the one that takes its place, and room for strangers.
const MAX_CONNECTIONS: usize = 8;

/// Bytes that wait to be written to one connection. Whole datagrams beyond it are dropped: they would be late.
const MAX_WAITING: usize = 256 * 1024;

/// A connection that brings nothing a peer accepts for this long is closed. Browsers check every 2.5 s.
const MAX_SILENCE: Duration = Duration::from_secs(20);

/// The same for one that never brought anything: a browser's first bytes are its first check. A stranger holds a place no longer, and
/// not even so long when another connection wants it.
const PROVE_WITHIN: Duration = Duration::from_secs(5);

/// Bytes that are read of one connection in one turn: more would let a stranger hold up what is sent.
const READ_AT_ONCE: usize = 64 * 1024;

/// Takes a stream of bytes apart into frames.
#[derive(Debug, Default)]
struct Deframer {
    bytes: Vec<u8>,
    start: usize,
}

/// A frame that is no datagram of WebRTC: empty or too long.
#[derive(Debug, PartialEq, Eq)]
struct NotOurs;

impl Deframer {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    fn next(&mut self) -> Result<Option<&[u8]>, NotOurs> {
        let rest = &self.bytes[self.start..];
        let [high, low, rest @ ..] = rest else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > MAX_DATAGRAM {
            return Err(NotOurs);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + 2;
        self.start = from + length;
        Ok(Some(&self.bytes[from..from + length]))
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    /// When it was opened, then when it last brought what a peer accepted.
    heard: Instant,
    is_proven: bool,
    deframer: Deframer,
    waiting: VecDeque<u8>,
    broken: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TcpPort {
    listener: TcpListener,
    connections: Vec<Connection>,
}

impl TcpPort {
    pub(super) fn bind(address: SocketAddr) -> io::Result<TcpPort> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(TcpPort { listener, connections: Vec::new() })
    }

    /// Descriptors to wait for; those with `true` also for room to write.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let connections = self.connections.iter();
        let connections = connections.map(|connection| (connection.stream.as_fd(), !connection.waiting.is_empty()));
        std::iter::once((self.listener.as_fd(), false)).chain(connections)
    }

    /// When silent connections have to be looked at.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.connections.iter().map(Connection::expires).min()
    }

    /// Accepts, reads, writes what can be done now; gives each datagram to `take`.
    pub(super) fn service(&mut self, now: Instant, mut take: impl FnMut(SocketAddr, &[u8])) {
        self.accept(now);
        for connection in &mut self.connections {
            connection.read(&mut take);
            connection.write();
        }
        self.connections.retain(|connection| !connection.broken && now < connection.expires());
    }

    /// A peer accepted what came from there.
    pub(super) fn accepted(&mut self, from: SocketAddr, now: Instant) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.remote == from) {
            (connection.heard, connection.is_proven) = (now, true);
        }
    }

    fn accept(&mut self, now: Instant) {
        while let Ok((stream, remote)) = self.listener.accept() {
            if self.connections.len() >= MAX_CONNECTIONS {
                // The oldest are first.
                let Some(stranger) = self.connections.iter().position(|connection| !connection.is_proven) else {
                    tracing::debug!("a connection was refused: too many");
                    continue;
                };
                self.connections.remove(stranger);
            }
            if let Err(error) = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)) {
                tracing::debug!(%error, "a connection was refused");
                continue;
            }
            self.connections.push(Connection {
                stream,
                remote: canonical(remote),
                heard: now,
                is_proven: false,
                deframer: Deframer::default(),
                waiting: VecDeque::new(),
                broken: false,
            });
        }
    }

    /// Sends a datagram to a connected player; to nobody when the connection is gone.
    pub(super) fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.remote == to) else { return };
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        if connection.waiting.len() + bytes.len() + 2 > MAX_WAITING {
            tracing::trace!("a datagram was dropped: the connection does not keep up");
            return;
        }
        connection.waiting.extend(length.to_be_bytes());
        connection.waiting.extend(bytes);
    }

    /// Ends all connections so that what was written still arrives: closing with unread bytes would reset them.
    pub(super) fn finish(&mut self, now: Instant) {
        self.flush();
        self.service(now, |_, _| {});
        for connection in self.connections.drain(..) {
            if let Err(error) = connection.stream.shutdown(Shutdown::Write) {
                tracing::trace!(%error, "a connection was gone already");
            }
        }
    }

    /// Writes what [`Self::send`] gathered.
    pub(super) fn flush(&mut self) {
        for connection in &mut self.connections {
            connection.write();
        }
    }
}

impl Connection {
    fn expires(&self) -> Instant {
        self.heard + if self.is_proven { MAX_SILENCE } else { PROVE_WITHIN }
    }

    fn read(&mut self, take: &mut impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; 16 * 1024];
        let mut left = READ_AT_ONCE;
        // What is left in the socket wakes the thread again.
        while !self.broken && left > 0 {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.broken = true,
                Ok(length) => {
                    left = left.saturating_sub(length);
                    self.deframer.push(&buffer[..length]);
                    loop {
                        match self.deframer.next() {
                            Ok(Some(frame)) => take(self.remote, frame),
                            Ok(None) => break,
                            Err(NotOurs) => {
                                self.broken = true;
                                break;
                            }
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_gone) => self.broken = true,
            }
        }
    }

    fn write(&mut self) {
        while !self.waiting.is_empty() && !self.broken {
            let (front, _) = self.waiting.as_slices();
            match self.stream.write(front) {
                Ok(0) => self.broken = true,
                Ok(written) => {
                    self.waiting.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_gone) => self.broken = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], frames: &[&[u8]], end: Result<(), NotOurs>) {
        let mut deframer = Deframer::default();
        let mut got: Vec<Vec<u8>> = Vec::new();
        let mut result = Ok(());
        for chunk in chunks {
            deframer.push(chunk);
            loop {
                match deframer.next() {
                    Ok(Some(frame)) => got.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
        }
        assert_eq!(got, frames);
        assert_eq!(result, end);
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        check(&[&[0, 2, 7, 8, 0, 1, 9]], &[&[7, 8], &[9]], Ok(()));
        check(&[&[0], &[2], &[7], &[8, 0], &[1, 9, 0]], &[&[7, 8], &[9]], Ok(()));
        check(&[&[0, 1, 5, 0xff, 0xff, 1]], &[&[5]], Err(NotOurs));
        check(&[&[0, 1, 5, 0, 0, 0, 1, 6]], &[&[5]], Err(NotOurs));
        check(&[&[]], &[], Ok(()));
    }

    fn port() -> (TcpPort, SocketAddr) {
        let port = TcpPort::bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = port.listener.local_addr().unwrap();
        (port, address)
    }

    /// Serves until so many connections are there.
    fn serve_until(port: &mut TcpPort, connections: usize, now: Instant) {
        for _ in 0..500 {
            port.service(now, |_, _| {});
            if port.connections.len() == connections {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{} connections instead of {connections}", port.connections.len());
    }

    #[test]
    fn a_stranger_is_sent_away_soon_and_a_player_stays() {
        let (mut port, address) = port();
        let start = Instant::now();
        let player = TcpStream::connect(address).unwrap();
        let strangers: Vec<_> = (1..MAX_CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        serve_until(&mut port, MAX_CONNECTIONS, start);
        port.accepted(player.local_addr().unwrap(), start);
        // One more takes the oldest stranger's place.
        let late = TcpStream::connect(address).unwrap();
        let is_there = |port: &TcpPort, stream: &TcpStream| {
            let address = stream.local_addr().unwrap();
            port.connections.iter().any(|connection| connection.remote == address)
        };
        for _ in 0..500 {
            port.service(start, |_, _| {});
            if is_there(&port, &late) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(is_there(&port, &player) && is_there(&port, &late) && !is_there(&port, &strangers[0]));
        port.service(start + PROVE_WITHIN, |_, _| {});
        assert!(is_there(&port, &player));
        assert_eq!(port.connections.len(), 1);
    }

    #[test]
    fn a_flood_is_read_a_little_at_a_time_and_nonsense_ends_it() {
        let (mut port, address) = port();
        let now = Instant::now();
        let mut flood = TcpStream::connect(address).unwrap();
        flood.write_all(&[0, 1, 7].repeat(100_000)).unwrap();
        serve_until(&mut port, 1, now);
        let mut frames = 0;
        port.service(now, |_, _| frames += 1);
        assert!(frames <= READ_AT_ONCE / 3 + 1, "{frames}");
        let mut zeros = TcpStream::connect(address).unwrap();
        zeros.write_all(&[0; 1000]).unwrap();
        drop(flood);
        serve_until(&mut port, 0, now);
    }
}
