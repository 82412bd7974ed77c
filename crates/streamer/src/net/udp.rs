//! The UDP socket: batches out, datagrams in.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::sys;

/// Kernel buffers. Smaller loses packets when the thread waits for a processor for some milliseconds, larger hides that.
const BUFFER: usize = 1 << 20;

/// Expedited forwarding (RFC 8837 for interactive video on a low-latency path): routers and radio links that look at it send
/// it first, others do not mind.
const TRAFFIC_CLASS: u8 = 0xb8;

/// Largest datagram that is looked at; WebRTC's are under 1500 bytes.
pub(super) const MAX_DATAGRAM: usize = 2048;

/// See the module.
#[derive(Debug)]
pub(super) struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
    /// Datagrams for one address that wait for the end of a batch.
    batch: Vec<Vec<u8>>,
    to: Option<SocketAddr>,
    /// Datagrams that the system did not take.
    refused: u64,
}

impl UdpPort {
    pub(super) fn bind(address: SocketAddr) -> io::Result<UdpPort> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        // Better buffers and marks are wishes: the stream works without.
        let wishes = [
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER),
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER),
        ];
        let mark = if address.is_ipv4() {
            rustix::net::sockopt::set_ip_tos(&socket, TRAFFIC_CLASS)
        } else {
            rustix::net::sockopt::set_ipv6_tclass(&socket, TRAFFIC_CLASS.into())
        };
        for error in wishes.into_iter().chain([mark]).filter_map(Result::err) {
            tracing::debug!(%error, "a socket option was refused");
        }
        Ok(UdpPort { socket, local, batch: Vec::with_capacity(sys::BATCH), to: None, refused: 0 })
    }

    pub(super) fn port(&self) -> u16 {
        self.local.port()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next datagram, `None` when there is none now.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => return Some((length, canonical(from))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An earlier datagram was answered by an ICMP error; the socket is fine.
                Err(error) => tracing::trace!(%error, "receiving failed"),
            }
        }
    }

    /// Sends now or with the batch; call [`Self::flush`] at the end.
    pub(super) fn send(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        if self.to.is_some_and(|other| other != to) || self.batch.len() == sys::BATCH {
            self.flush();
        }
        self.to = Some(to);
        self.batch.push(bytes);
    }

    pub(super) fn flush(&mut self) {
        let Some(to) = self.to.take() else { return };
        let to = self.mapped(to);
        let mut rest = &self.batch[..];
        while !rest.is_empty() {
            match sys::send_batch(self.socket.as_fd(), &to, rest) {
                Ok(sent) => rest = &rest[sent.clamp(1, rest.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // A full buffer is a loss like any other on the way, repaired by retransmission; another error
                    // (no route) is reported per datagram and may pass.
                    self.refused += 1;
                    tracing::trace!(%error, refused = self.refused, "a datagram was refused");
                    rest = &rest[1..];
                }
            }
        }
        self.batch.clear();
    }

    /// An IPv4 address as the IPv6 socket wants it.
    fn mapped(&self, to: SocketAddr) -> SocketAddr {
        match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// An IPv4 address that came through an IPv6 socket, as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
