//! The node's side: one connection to the control plane, made again as often as it breaks.
//!
//! ```text
//!            +--------------------- ended, broken, silent ----------------------+
//!            v                                                                  |
//!  [ Connecting: each address in turn, then a pause ] --welcome--> [ Connected ]+
//!            |                                                           |
//!            +--refused for good--> [ Refused ]      agent stopped --> [ Closed ]
//! ```
//!
//! The agent sees a [`NodeEnd`] that never closes: what it reports waits here, the newest report in one place; after each
//! reconnect the newest one goes first, whether it was sent before or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::node::{FromNode, NodeEnd, ToNode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::dial::{DialError, dial, in_words, reply};
use crate::frame::{FROM_NODE_LIMIT, Opening, Refusal, Reply, TO_NODE_LIMIT, VERSION};
use crate::heard::{BEAT, Heard};
use crate::identity::{Identity, NodeKey};
use crate::join::off_the_runtime;
use crate::mailbox::{Mailbox, Unsent};
use crate::wire::{self, Limits, Wire, WireEnd};

/// After how long a silence another control plane is looked for. Longer leaves the node alone for longer when a control
/// plane's machine dies; shorter makes the whole fleet shake hands anew when one pauses.
const CLOSE_AFTER: Duration = Duration::from_secs(3);

/// First pause after all addresses failed. It doubles with each round.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause. Longer keeps nodes away from a control plane that is back; shorter lets thousands of them knock at one
/// that is not.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that held for so long was a good one: the pauses begin anew. Longer keeps nodes away for seconds from a control plane that had
/// to be started twice; shorter lets them knock in vain at one that breaks as soon as they come.
const GOOD_AFTER: Duration = Duration::from_secs(2);

/// How often it is looked whether the certificate is past half of its life. It lives for a year.
const RENEWAL_PERIOD: Duration = Duration::from_secs(60);

/// Messages that wait in one direction between agent and link, as in `api::node::in_process`.
const DEPTH: usize = 64;

/// Where the link is.
#[derive(Clone, Debug)]
pub enum ConnectionState {
    /// No control plane is connected; it is tried again and again.
    Connecting {
        /// Why there is none: what went wrong last, in words. `None` at the first try.
        failure: Option<String>,
    },
    /// A control plane is connected.
    Connected {
        /// By which of the addresses.
        address: String,
        /// What is heard of it.
        heard: Heard,
    },
    /// The control plane refused for good. Nothing is tried any more.
    Refused(Refusal),
    /// The agent ended the link.
    Closed,
}

/// A node's link, seen from outside. Dropping it changes nothing: the link lasts as long as the [`NodeEnd`].
#[derive(Debug)]
pub struct Connection {
    state: watch::Receiver<ConnectionState>,
    closing: CancellationToken,
    task: JoinHandle<Option<Refusal>>,
}

impl Connection {
    /// Where it is, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Waits until the link has ended: the refusal, or `None` when the agent or [`Self::close`] ended it. Safe to cancel.
    pub async fn ended(&mut self) -> Option<Refusal> {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| match state {
            ConnectionState::Connecting { .. } | ConnectionState::Connected { .. } => false,
            ConnectionState::Refused(_) | ConnectionState::Closed => true,
        });
        match ended.await.as_deref() {
            Ok(ConnectionState::Refused(refusal)) => Some(refusal.clone()),
            Ok(_) | Err(_) => None,
        }
    }

    /// Sends what the agent left, and ends the link, within `limit`.
    pub async fn close(mut self, limit: Duration) {
        self.closing.cancel();
        match timeout(limit, &mut self.task).await {
            Ok(Ok(_refusal)) => {}
            Ok(Err(error)) => error!(%error, "the node link ended badly"),
            Err(_elapsed) => self.task.abort(),
        }
    }
}

/// Keeps a connection to one of the `addresses` (host and port each, in order of preference). `dir` is where `identity`
/// was loaded from: its renewed certificates go there.
///
/// The link ends when the node is refused for good, when the agent drops its end, or by [`Connection::close`].
#[must_use]
pub fn connect(addresses: Vec<String>, identity: Identity, dir: PathBuf) -> (NodeEnd, Connection) {
    let (to_control, from_agent) = mpsc::channel(DEPTH);
    let (to_agent, from_control) = mpsc::channel(DEPTH);
    let outbox = Arc::new(Mailbox::remembering());
    let closing = CancellationToken::new();
    let (state, watched) = watch::channel(ConnectionState::Connecting { failure: None });
    let pump = tokio::spawn(pump(from_agent, Arc::clone(&outbox), closing.clone()));
    let link = Link { addresses, identity, dir, to_agent, outbox, state };
    let task = tokio::spawn(link.run(pump));
    (NodeEnd { to_control, from_control }, Connection { state: watched, closing, task })
}

/// Takes what the agent says, connected or not, so that it never waits.
async fn pump(mut from_agent: mpsc::Receiver<FromNode>, outbox: Arc<Mailbox<FromNode>>, closing: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            message = from_agent.recv() => match message.map(|message| outbox.push(message, 0)) {
                Some(Ok(())) => {}
                Some(Err(Unsent::Full(_message))) => debug!("a message was dropped: the control plane takes none"),
                Some(Err(Unsent::Closed)) | None => break,
            },
            () = closing.cancelled(), if !from_agent.is_closed() => from_agent.close(),
        }
    }
    outbox.close();
}

struct Link {
    addresses: Vec<String>,
    identity: Identity,
    dir: PathBuf,
    to_agent: mpsc::Sender<ToNode>,
    outbox: Arc<Mailbox<FromNode>>,
    state: watch::Sender<ConnectionState>,
}

impl Link {
    /// Runs until the end; gives the refusal.
    async fn run(mut self, mut pump: JoinHandle<()>) -> Option<Refusal> {
        let mut pauses = Pauses::default();
        let refusal = loop {
            // What the agent said last gets one round more.
            let is_last = self.outbox.is_closed();
            let failure = match self.dial_each().await {
                Ok((address, wire)) => {
                    let since = Instant::now();
                    let failure = self.serve(address, wire).await;
                    if since.elapsed() >= GOOD_AFTER {
                        pauses = Pauses::default();
                    }
                    failure
                }
                Err(Failure::Final(refusal)) => break Some(refusal),
                Err(Failure::Now(failure)) => Some(failure),
            };
            // The agent ended the link.
            let Some(failure) = failure else { break None };
            self.disconnected(failure);
            if is_last {
                break None;
            }
            tokio::select! {
                () = sleep(pauses.next(random())) => {}
                _ended = &mut pump => {}
            }
        };
        self.outbox.close();
        self.state.send_replace(match &refusal {
            Some(refusal) => ConnectionState::Refused(refusal.clone()),
            None => ConnectionState::Closed,
        });
        if let Some(refusal) = &refusal {
            error!(%refusal, "the control plane refused this node for good");
        }
        refusal
    }

    /// Tells a failure once, however often it comes again.
    fn disconnected(&self, failure: String) {
        let known =
            matches!(&*self.state.borrow(), ConnectionState::Connecting { failure: Some(known) } if *known == failure);
        if !known {
            warn!(failure, "no control plane is connected");
            self.state.send_replace(ConnectionState::Connecting { failure: Some(failure) });
        }
    }

    /// The first address that welcomes the node.
    async fn dial_each(&self) -> Result<(String, Wire<ToNode>), Failure> {
        let mut failure = "there is no address of a control plane".to_owned();
        for address in &self.addresses {
            match self.dial(address).await {
                Ok(wire) => return Ok((address.clone(), wire)),
                Err(DialError::Refused(refusal)) if refusal.is_final() => return Err(Failure::Final(refusal)),
                Err(error) => {
                    debug!(address, error = &error as &dyn std::error::Error, "a control plane was not reached");
                    failure = in_words(&error);
                }
            }
        }
        Err(Failure::Now(failure))
    }

    async fn dial(&self, address: &str) -> Result<Wire<ToNode>, DialError> {
        let hello = Opening::Hello { version: VERSION, node: self.identity.node() };
        match dial(address, self.identity.config(), &hello).await? {
            (opened, Reply::Welcome {}) => {
                self.outbox.repeat();
                let limits =
                    Limits { incoming: TO_NODE_LIMIT, outgoing: FROM_NODE_LIMIT, silence: CLOSE_AFTER, beat: BEAT };
                Ok(wire::start(opened, Arc::clone(&self.outbox), limits))
            }
            (_opened, Reply::Joined { .. } | Reply::Refused(_)) => Err(reply(address, None)),
        }
    }

    /// Serves one connection to its end; says why it ended, or `None` when the agent ended the link.
    async fn serve(&mut self, address: String, mut wire: Wire<ToNode>) -> Option<String> {
        info!(address, "connected to the control plane");
        self.state.send_replace(ConnectionState::Connected { address, heard: wire.heard.clone() });
        let ending = wire.ending.clone();
        let inbox = Arc::clone(&wire.inbox);
        let to_agent = self.to_agent.clone();
        let mut delivering = std::pin::pin!(deliver(&inbox, &to_agent));
        let mut renewals = interval(RENEWAL_PERIOD);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending = None;
        let end = loop {
            tokio::select! {
                reason = ending.ended() => break reason,
                () = &mut delivering => {}
                _ = renewals.tick() => pending = self.ask_renewal(&wire).or(pending),
                Some(certificate) = wire.renewals_in.recv() => {
                    if let Some(key) = pending.take() {
                        self.renew(&key, &certificate).await;
                    }
                }
            }
        };
        let finished = matches!(end, WireEnd::Finished);
        let words = in_words(end);
        // The next connection takes from the same outbox: this one's writer has to be gone.
        wire.finish().await;
        if finished { None } else { Some(words) }
    }

    /// Asks for a new certificate when it is time.
    fn ask_renewal(&self, wire: &Wire<ToNode>) -> Option<NodeKey> {
        if !self.identity.validity().is_past_half(SystemTime::now()) {
            return None;
        }
        let made = NodeKey::generate().and_then(|key| Ok((key.request()?, key)));
        match made {
            // One that waits already is enough.
            Ok((request, key)) => wire.renewals_out.try_send(request).is_ok().then_some(key),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "no new certificate can be asked for");
                None
            }
        }
    }

    async fn renew(&mut self, key: &NodeKey, certificate: &str) {
        let identity = match self.identity.renewed(key, certificate) {
            Ok(identity) => identity,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the new certificate cannot be used");
                return;
            }
        };
        let saved = identity.clone();
        match off_the_runtime(&self.dir, move |dir| saved.save(dir)).await {
            Ok(()) => info!("this node's certificate was renewed"),
            // It is used as long as this process runs, and renewed again by the next.
            Err(error) => error!(error = &error as &dyn std::error::Error, "the new certificate cannot be kept"),
        }
        self.identity = identity;
    }
}

/// Why no address welcomed the node.
enum Failure {
    /// No address will.
    Final(Refusal),
    /// Not now.
    Now(String),
}

/// Hands to the agent what comes; ends never. A message is taken when the agent has room for it, so that those that wait
/// are replaced by newer ones here.
async fn deliver(inbox: &Mailbox<ToNode>, to_agent: &mpsc::Sender<ToNode>) {
    // An agent that takes nothing more may still have reports to send.
    while let Ok(room) = to_agent.reserve().await {
        match inbox.receive().await {
            Some(message) => room.send(message),
            None => break,
        }
    }
    std::future::pending().await
}

/// Pauses between rounds: they double, and each is between a half and the whole of it, so that nodes which lost the same
/// control plane do not come back in step.
#[derive(Debug)]
struct Pauses {
    step: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { step: FIRST_PAUSE }
    }
}

impl Pauses {
    fn next(&mut self, random: u16) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(LONGEST_PAUSE);
        step / 2 + step / 2 * u32::from(random) / u32::from(u16::MAX)
    }
}

/// For the jitter. Without randomness nodes come in step, which is no reason to stop.
fn random() -> u16 {
    let mut bytes = [0x80; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => {}
        Err(_unspecified) => debug!("the system gave no random bytes"),
    }
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(0), FIRST_PAUSE / 2);
        assert_eq!(pauses.next(u16::MAX), FIRST_PAUSE * 2);
        for _ in 0..20 {
            pauses.next(1);
        }
        assert_eq!(pauses.next(0), LONGEST_PAUSE / 2);
        assert_eq!(pauses.next(u16::MAX), LONGEST_PAUSE);
    }
}
