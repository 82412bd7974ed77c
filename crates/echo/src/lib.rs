//! The per-node program that sends back what players' clients measure the way with.
//!
//! ```text
//! agent --offers (lines on standard input)--> one thread: lines, UDP socket, peers' own times <--UDP--> clients
//!       <--answers---------------------------
//! ```
//!
//! A program of its own, because strangers' bytes reach it before anybody has asked for a session: it has no privileges, nothing to read and little
//! memory, and when it dies, measurements do, and nothing else. The protocol is `transport::echo`'s; how many there may be is [`Peers`]'.
//! Deliberately absent: media, sessions, TCP, who may measure.

mod lines;
mod peers;
mod port;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use api::echo::{EchoSettings, FromEcho, ToEcho};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::lines::{Lines, LinesError};
pub use self::peers::{MOST_PEERS, Peers, Refusal};
use self::port::{BindError, Port};

/// Datagrams that are read before answers are sent. More would let a flood hold back those who measure.
const RECEIVE_BATCH: usize = 64;

/// Largest datagram that is looked at; WebRTC's are under 1500 bytes.
const MAX_DATAGRAM: usize = 2048;

/// Longest sleep, while nobody measures.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Standard input is no socket of an agent: the program is not for people to start.
    #[error("standard input is no node agent's socket")]
    NoAgent(#[source] io::Error),
    /// The agent's socket broke, or it wrote what is not of the contract: agent and echo are of different versions.
    #[error("the agent's socket cannot be used")]
    Agent(#[from] LinesError),
    /// No port: widen the range, or end what uses it.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refused to wait.
    #[error("waiting failed")]
    Wait(#[source] io::Error),
}

/// Runs until the agent is gone.
///
/// # Errors
/// See [`RunError`].
pub fn run() -> Result<(), RunError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(RunError::NoAgent)?;
    let mut agent = Lines::new(socket.into()).map_err(RunError::NoAgent)?;
    let Some(settings) = agent.wait::<EchoSettings>()? else { return Ok(()) };
    let port = Port::bind(&settings.network)?;
    agent.send(&FromEcho::Ready { port: port.number() })?;
    tracing::info!(port = port.number(), "players' clients can measure the way");
    let candidates = settings.network.advertise.iter();
    let candidates = candidates.map(|address| SocketAddr::new(*address, port.number())).collect();
    serve(agent, &port, &mut Peers::new(candidates))
}

fn serve(mut agent: Lines, port: &Port, peers: &mut Peers) -> Result<(), RunError> {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        loop {
            match agent.read::<ToEcho>() {
                Ok(Some(ToEcho::Offer { request, sdp })) => {
                    let answer = answer(peers, request, &sdp);
                    agent.send(&answer)?;
                }
                Ok(None) => break,
                Err(LinesError::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..RECEIVE_BATCH {
            let Some((length, source)) = port.receive(&mut buffer) else { break };
            peers.receive(source, &buffer[..length], Instant::now());
        }
        peers.pass_time(Instant::now());
        peers.transmit(|to, bytes| port.send(to, bytes));
        wait(&agent, port, peers.due())?;
    }
}

fn answer(peers: &mut Peers, request: u64, sdp: &str) -> FromEcho {
    match peers.offer(sdp, Instant::now()) {
        Ok(sdp) => FromEcho::Answer { request, sdp },
        Err(Refusal::Busy) => FromEcho::Busy { request },
        Err(Refusal::Offer(error)) => FromEcho::Refused { request, detail: error.to_string() },
    }
}

/// Sleeps until something comes or is due.
fn wait(agent: &Lines, port: &Port, due: Option<Instant>) -> Result<(), RunError> {
    let left = due.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(Instant::now())).min(LONGEST_SLEEP);
    // Both fit: it is five seconds at most.
    let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(0), tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::new(agent, PollFlags::IN), PollFd::new(port, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(RunError::Wait(error.into())),
    }
}
