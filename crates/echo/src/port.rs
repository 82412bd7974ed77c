//! The UDP socket.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use api::streamer::NetworkSettings;

/// Kernel buffers. Smaller loses datagrams of many who measure at once, larger would hide that this program does not keep up.
const BUFFER: usize = 256 * 1024;

/// No port of the range is free. Widen the range, or end what uses it.
#[derive(Debug, thiserror::Error)]
#[error("no port of {first} to {last} on {bind} is free for UDP")]
pub struct BindError {
    bind: IpAddr,
    first: u16,
    last: u16,
    #[source]
    source: io::Error,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Port {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Port {
    /// Takes the last free port of the range: streamers begin with the first.
    pub(crate) fn bind(network: &NetworkSettings) -> Result<Port, BindError> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for number in (network.port_min..=network.port_max).rev() {
            match Self::open(SocketAddr::new(network.bind, number)) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(BindError { bind: network.bind, first: network.port_min, last: network.port_max, source: last })
    }

    fn open(address: SocketAddr) -> io::Result<Port> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        // Larger buffers are a wish: it works without.
        let wishes = [
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER),
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER),
        ];
        for error in wishes.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a socket option was refused");
        }
        Ok(Port { socket, local })
    }

    pub(crate) fn number(&self) -> u16 {
        self.local.port()
    }

    /// The next datagram, `None` when there is none now.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => return Some((length, SocketAddr::new(from.ip().to_canonical(), from.port()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An earlier datagram was answered by an ICMP error; the socket is fine.
                Err(error) => tracing::trace!(%error, "receiving failed"),
            }
        }
    }

    /// Sends; what the system does not take is lost, as on the way.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let to = match (self.local.ip(), to.ip()) {
            (IpAddr::V6(_), IpAddr::V4(address)) => SocketAddr::new(address.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        if let Err(error) = self.socket.send_to(bytes, to) {
            tracing::trace!(%error, "a datagram was refused");
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_free_port_is_taken_and_both_families_are_served() {
        let check = |bind: &str, client: &str| {
            let taken = UdpSocket::bind((bind.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let last = taken.local_addr().unwrap().port();
            let network = NetworkSettings {
                bind: bind.parse().unwrap(),
                advertise: vec![],
                advertise_port: None,
                port_min: last - 5,
                port_max: last,
            };
            let port = Port::bind(&network).unwrap();
            assert!((last - 5..last).contains(&port.number()), "{} is taken", port.number());
            let client = UdpSocket::bind(client).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let to = SocketAddr::new(client.local_addr().unwrap().ip(), port.number());
            client.send_to(b"there", to).unwrap();
            let mut buffer = [0; 16];
            let from = loop {
                if let Some((length, from)) = port.receive(&mut buffer) {
                    assert_eq!(&buffer[..length], b"there");
                    break from;
                }
                std::thread::yield_now();
            };
            assert_eq!(from, client.local_addr().unwrap());
            port.send(from, b"back");
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        };
        check("127.0.0.1", "127.0.0.1:0");
        check("::", "127.0.0.1:0");
        check("::", "[::1]:0");
    }
}
