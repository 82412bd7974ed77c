//! Those who measure: how many there may be, whose a datagram is, who is over. Pure: time and bytes come in, bytes go out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use transport::OfferError;
use transport::echo::{Echo, EchoTransmit};

/// Most at once. A measurement takes a second and a half, so these are about forty new ones a second; each may hold a megabyte at worst, which the
/// program's memory limit has room for.
pub const MOST_PEERS: usize = 64;

/// How long a client may take to come after its offer was answered before somebody else may have its place: a connection over the longest playable
/// way is there after a second. Longer lets those who never come keep others out.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why an offer gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many measure as may, and all of them came. Try again in a moment.
    #[error("as many measure as may at once")]
    Busy,
    /// The offer cannot be used.
    #[error(transparent)]
    Offer(#[from] OfferError),
}

/// See the module.
#[derive(Debug)]
pub struct Peers {
    candidates: Vec<SocketAddr>,
    /// In the order of their offers.
    peers: Vec<Echo>,
}

impl Peers {
    /// Nobody yet. Answers offer these addresses.
    #[must_use]
    pub fn new(candidates: Vec<SocketAddr>) -> Peers {
        Peers { candidates, peers: Vec::new() }
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is left behind.
    pub fn offer(&mut self, sdp: &str, now: Instant) -> Result<String, Refusal> {
        let never_came = |peer: &Echo| !peer.is_connected() && now.saturating_duration_since(peer.began()) >= PATIENCE;
        let is_full = self.peers.len() >= MOST_PEERS;
        let gives_way = is_full.then(|| self.peers.iter().position(never_came).ok_or(Refusal::Busy)).transpose()?;
        let (peer, answer) = Echo::accept(sdp, &self.candidates, now)?;
        if let Some(index) = gives_way {
            drop(self.peers.remove(index));
        }
        self.peers.push(peer);
        Ok(answer)
    }

    /// A datagram came. What is nobody's is dropped.
    pub fn receive(&mut self, source: SocketAddr, bytes: &[u8], now: Instant) {
        // The system does not say which of our addresses it came to; which one the client used shows only in its family.
        let same = |candidate: &&SocketAddr| candidate.is_ipv4() == source.is_ipv4();
        let Some(destination) = self.candidates.iter().find(same).copied() else { return };
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.accepts(source, destination, bytes)) {
            peer.receive(source, destination, bytes, now);
        }
    }

    /// The time of [`Self::due`] has come.
    pub fn pass_time(&mut self, now: Instant) {
        for peer in self.peers.iter_mut().filter(|peer| peer.due() <= now) {
            peer.pass_time(now);
        }
    }

    /// Hands out what is to be sent, and forgets those who are over.
    pub fn transmit(&mut self, mut send: impl FnMut(SocketAddr, &[u8])) {
        for peer in &mut self.peers {
            while let Some(EchoTransmit { destination, bytes }) = peer.transmit() {
                send(destination, &bytes);
            }
        }
        self.peers.retain(|peer| {
            let end = peer.end();
            if let Some(end) = end {
                tracing::debug!(?end, echoed = peer.echoed(), "a measurement is over");
            }
            end.is_none()
        });
    }

    /// When [`Self::pass_time`] is to be called; `None` while nobody measures.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.peers.iter().map(Echo::due).min()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// True while nobody measures.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use transport::echo::LIFETIME;

    const OFFER: &str = include_str!("../../transport/tests/data/chromium-echo.sdp");

    fn peers() -> Peers {
        Peers::new(vec!["10.0.0.1:5000".parse().unwrap()])
    }

    #[test]
    fn a_full_house_refuses_and_gives_away_the_places_of_those_who_never_came() {
        let (mut peers, start) = (peers(), Instant::now());
        for _ in 0..MOST_PEERS {
            peers.offer(OFFER, start).unwrap();
        }
        assert_eq!(peers.offer(OFFER, start), Err(Refusal::Busy));
        assert!(peers.offer(OFFER, start + PATIENCE).is_ok());
        assert_eq!(peers.len(), MOST_PEERS);
        assert!(matches!(peers.offer("nonsense", start + PATIENCE), Err(Refusal::Offer(_))));
        peers.pass_time(start + LIFETIME);
        peers.transmit(|to, _| panic!("to nobody: {to}"));
        assert_eq!(peers.len(), 1, "the one that came late");
        peers.pass_time(start + PATIENCE + LIFETIME);
        peers.transmit(|to, _| panic!("to nobody: {to}"));
        assert_eq!((peers.is_empty(), peers.due()), (true, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Datagrams of strangers, of both families, get no answer.
        #[test]
        fn strangers_are_not_answered(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..40),
            first in prop::sample::select(vec![0u8, 1, 20, 22, 23, 63, 128, 144, 191]),
            is_v4 in any::<bool>(),
        ) {
            let (mut peers, mut now) = (peers(), Instant::now());
            for _ in 0..3 {
                peers.offer(OFFER, now).unwrap();
            }
            let source = if is_v4 { "10.0.0.9:9" } else { "[2001:db8::9]:9" }.parse().unwrap();
            for mut datagram in datagrams {
                if let Some(byte) = datagram.first_mut() {
                    *byte = first;
                }
                now += Duration::from_millis(10);
                peers.receive(source, &datagram, now);
                peers.pass_time(now);
                peers.transmit(|_, _| panic!("a stranger was answered"));
            }
            prop_assert_eq!(peers.len(), 3);
        }
    }
}
