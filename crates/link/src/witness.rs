//! The witness of a node's agent: a port beside the link, which tells others that the agent lives.
//!
//! Whoever connects gets one fixed line and is sent away. So other nodes and the control plane can confirm, on another way
//! than the link, what its silence means: a dead agent, a dead host, or a broken way. It tells nothing but that it is
//! there, needs no secret, reads nothing, and serves one caller after the other.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use api::node::ProbeOutcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// What the witness says.
const GREETING: &[u8] = b"kite-witness 1\n";

/// How long one caller may take. The line always fits a new socket's buffer, so it takes no time.
const CALLER_LIMIT: Duration = Duration::from_millis(100);

/// Why a witness cannot listen: another program has the port, or the address is not of this machine.
#[derive(Debug, thiserror::Error)]
#[error("the witness cannot listen at {address}")]
pub struct WitnessError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A witness; it speaks until it is dropped.
#[derive(Debug)]
pub struct Witness {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Witness {
    /// Listens; port 0 takes any.
    ///
    /// # Errors
    /// See [`WitnessError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, WitnessError> {
        let failed = |source| WitnessError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, _task: AbortOnDropHandle::new(tokio::spawn(greet(listener))) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn greet(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((mut caller, _address)) => {
                // A caller that is gone is none that waits.
                let _gone = timeout(CALLER_LIMIT, caller.write_all(GREETING)).await;
            }
            Err(error) => {
                debug!(%error, "the witness cannot accept");
                sleep(CALLER_LIMIT).await;
            }
        }
    }
}

/// Asks a witness; answers within `limit`.
pub async fn probe(address: SocketAddr, limit: Duration) -> ProbeOutcome {
    // A kernel accepts connections for a program that hangs: only the line shows that it lives.
    match timeout(limit, greeting(address)).await {
        Ok(Ok(true)) => ProbeOutcome::Alive,
        Ok(Ok(false)) => ProbeOutcome::Refused,
        Ok(Err(error)) => meaning(&error),
        Err(_elapsed) => ProbeOutcome::Silent,
    }
}

async fn greeting(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let mut line = [0; GREETING.len()];
    stream.read_exact(&mut line).await?;
    Ok(line == GREETING)
}

fn meaning(error: &io::Error) -> ProbeOutcome {
    match error.kind() {
        // Its host speaks: it refuses, or it ends a connection without the line.
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => ProbeOutcome::Refused,
        // A neighbour says that it does not answer, or the kernel gave up.
        ErrorKind::HostUnreachable | ErrorKind::TimedOut => ProbeOutcome::Silent,
        // No network, no sockets, no right to connect: that is about this machine.
        _ => ProbeOutcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn a_living_a_dead_and_a_hanging_agent_are_told_apart() {
        let witness = Witness::bind(loopback()).await.unwrap();
        let address = witness.address();
        for _ in 0..3 {
            assert_eq!(probe(address, LIMIT).await, ProbeOutcome::Alive);
        }
        drop(witness);
        tokio::task::yield_now().await;
        assert_eq!(probe(address, LIMIT).await, ProbeOutcome::Refused);
        // The kernel accepts, nobody speaks: as with a stopped process.
        let hanging = std::net::TcpListener::bind(loopback()).unwrap();
        assert_eq!(probe(hanging.local_addr().unwrap(), LIMIT).await, ProbeOutcome::Silent);
    }

    #[tokio::test]
    async fn another_program_on_the_port_is_no_agent() {
        let other = TcpListener::bind(loopback()).await.unwrap();
        let address = other.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut caller, _address) = other.accept().await.unwrap();
            caller.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
            let (caller, _address) = other.accept().await.unwrap();
            drop(caller);
        });
        assert_eq!(probe(address, LIMIT).await, ProbeOutcome::Refused);
        assert_eq!(probe(address, LIMIT).await, ProbeOutcome::Refused);
    }

    #[tokio::test]
    async fn callers_that_say_nothing_and_stay_hold_nobody_up() {
        let witness = Witness::bind(loopback()).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(TcpStream::connect(witness.address()).await.unwrap());
        }
        assert_eq!(probe(witness.address(), LIMIT).await, ProbeOutcome::Alive);
    }

    #[test]
    fn a_broken_network_of_one_s_own_is_no_evidence() {
        for kind in [ErrorKind::NetworkUnreachable, ErrorKind::PermissionDenied, ErrorKind::AddrNotAvailable] {
            assert_eq!(meaning(&kind.into()), ProbeOutcome::Unknown);
        }
        assert_eq!(meaning(&ErrorKind::HostUnreachable.into()), ProbeOutcome::Silent);
    }
}
