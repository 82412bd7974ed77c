//! Who came and is not known yet: counted, in all and from each network.
//!
//! Whoever reaches the port can open connections and say nothing. They are closed after a while, and until then take at
//! most so many places; those of one network at most a part of them, so that others still get in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Places in all. Each costs a socket and TLS buffers, 50 kB at most while it says nothing; fewer would make a fleet that
/// comes back at once wait in turns.
pub(crate) const PLACES: u32 = 512;

/// Places of one network: a site's nodes may all come from one address.
pub(crate) const PLACES_OF_ONE: u32 = 128;

#[derive(Clone, Debug, Default)]
pub(crate) struct Lobby {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_network: HashMap<IpAddr, u32>,
}

/// A place in the lobby; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place {
    lobby: Lobby,
    network: IpAddr,
}

impl Lobby {
    /// Takes a place; `None` when there is none.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let network = network(peer);
        self.change(|taken| {
            let of_one = taken.by_network.get(&network).copied().unwrap_or(0);
            if taken.all >= PLACES || of_one >= PLACES_OF_ONE {
                return None;
            }
            taken.all += 1;
            taken.by_network.insert(network, of_one + 1);
            Some(Place { lobby: self.clone(), network })
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Taken) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.change(|taken| {
            taken.all -= 1;
            if let Some(of_one) = taken.by_network.get_mut(&self.network) {
                *of_one -= 1;
                if *of_one == 0 {
                    taken.by_network.remove(&self.network);
                }
            }
        });
    }
}

/// An IPv4 address, or the first 64 bits of an IPv6 address: one machine has all of the others.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_takes_a_part_and_all_take_the_whole() {
        let lobby = Lobby::default();
        let mut places = Vec::new();
        let one: Vec<IpAddr> = vec!["2001:db8::1".parse().unwrap(), "2001:db8::2:1".parse().unwrap()];
        for turn in 0..PLACES_OF_ONE as usize {
            places.push(lobby.enter(one[turn % 2]).unwrap());
        }
        assert!(lobby.enter(one[0]).is_none());
        for other in 0..PLACES - PLACES_OF_ONE {
            places.push(lobby.enter(IpAddr::from([10, 0, (other >> 8) as u8, other as u8])).unwrap());
        }
        assert!(lobby.enter("192.0.2.1".parse().unwrap()).is_none());
        places.truncate(1);
        assert!(lobby.enter(one[0]).is_some());
        places.clear();
        let left = lobby.change(|taken| (taken.all, taken.by_network.len()));
        assert_eq!(left, (0, 0));
    }
}
