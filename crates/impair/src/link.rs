//! One direction of a path.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{Conditions, Random};

/// IPv4 and UDP headers, which the bottleneck carries too.
const HEADERS: usize = 28;

/// How much later a duplicate arrives.
const DUPLICATE_AFTER: Duration = Duration::from_millis(3);

/// Packets that fly at most; more are lost. A bound for memory, far above what any test sends.
const MAX_FLYING: usize = 100_000;

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given to the link.
    pub sent: u64,
    /// Lost at random or because the path was cut.
    pub lost: u64,
    /// Lost because the queue before the bottleneck was full.
    pub overflowed: u64,
}

/// See the module. `T` says what a packet is besides its bytes (to whom it goes).
#[derive(Debug)]
pub struct Link<T> {
    conditions: Conditions,
    random: Random,
    busy_until: Option<Instant>,
    last_arrival: Option<Instant>,
    sequence: u64,
    flying: BTreeMap<(Instant, u64), (T, Vec<u8>)>,
    counters: Counters,
}

impl<T: Clone> Link<T> {
    /// A link with its own sequence of random numbers.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Link<T> {
        Link {
            conditions,
            random: Random::new(seed),
            busy_until: None,
            last_arrival: None,
            sequence: 0,
            flying: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// The conditions now.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Other conditions for packets that are sent from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// What became of packets.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A packet enters.
    pub fn send(&mut self, to: T, bytes: Vec<u8>, now: Instant) {
        self.counters.sent += 1;
        // The same numbers are drawn for every packet: more loss loses what less loss loses, and more.
        let (loss, jitter, duplicate) = (self.random.unit(), self.random.unit(), self.random.unit());
        if self.conditions.cut || loss < self.conditions.loss || self.flying.len() >= MAX_FLYING {
            self.counters.lost += 1;
            return;
        }
        let Some(leaves) = self.through_bottleneck(bytes.len(), now) else {
            self.counters.overflowed += 1;
            return;
        };
        let mut arrives = leaves + self.conditions.delay + self.conditions.jitter.mul_f64(jitter);
        if !self.conditions.reorder {
            arrives = self.last_arrival.map_or(arrives, |last| arrives.max(last));
            self.last_arrival = Some(arrives);
        }
        if duplicate < self.conditions.duplicate {
            self.fly(arrives + DUPLICATE_AFTER, to.clone(), bytes.clone());
        }
        self.fly(arrives, to, bytes);
    }

    fn fly(&mut self, arrives: Instant, to: T, bytes: Vec<u8>) {
        self.sequence += 1;
        self.flying.insert((arrives, self.sequence), (to, bytes));
    }

    /// When a packet has passed the bottleneck; `None` when the queue is full.
    fn through_bottleneck(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = start.saturating_duration_since(now).as_secs_f64() * rate as f64 / 8.0;
        if waiting as usize + length > self.conditions.queue {
            return None;
        }
        let leaves = start + Duration::from_secs_f64((length + HEADERS) as f64 * 8.0 / rate as f64);
        self.busy_until = Some(leaves);
        Some(leaves)
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// The next packet that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        let first = self.flying.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a packet of 972 bytes every millisecond for a second; gives when each arrived, in milliseconds.
    fn check(conditions: Conditions, seed: u64) -> (Vec<(usize, u64)>, Counters) {
        let start = Instant::now();
        let mut link = Link::new(conditions, seed);
        for number in 0..1000 {
            link.send(number, vec![0; 972], start + Duration::from_millis(number as u64));
        }
        let mut arrived = Vec::new();
        while let Some(at) = link.next_arrival() {
            while let Some((number, _)) = link.receive(at) {
                arrived.push((number, (at - start).as_millis() as u64));
            }
        }
        (arrived, link.counters())
    }

    #[test]
    fn a_perfect_path_changes_nothing() {
        let (arrived, counters) = check(Conditions::default(), 1);
        assert!(arrived.iter().all(|(number, at)| *number as u64 == *at));
        assert_eq!(counters, Counters { sent: 1000, lost: 0, overflowed: 0 });
    }

    #[test]
    fn loss_is_random_seeded_and_nested() {
        let lossy = |loss, seed| check(Conditions { loss, ..Conditions::default() }, seed).0;
        let some = lossy(0.1, 7);
        assert!((860..940).contains(&some.len()), "{}", some.len());
        assert_eq!(some, lossy(0.1, 7));
        assert_ne!(some, lossy(0.1, 8));
        let fewer = lossy(0.3, 7);
        assert!(fewer.iter().all(|packet| some.contains(packet)));
    }

    #[test]
    fn jitter_keeps_the_order_unless_it_may_not() {
        let jitter = |reorder| {
            let conditions = Conditions {
                delay: Duration::from_millis(10),
                jitter: Duration::from_millis(20),
                reorder,
                ..Conditions::default()
            };
            check(conditions, 3).0.iter().map(|(number, _)| *number).is_sorted()
        };
        assert!(jitter(false));
        assert!(!jitter(true));
    }

    #[test]
    fn a_bottleneck_delays_and_then_drops() {
        // 8 Mbit/s into 4 Mbit/s with room for 100 ms.
        let conditions = Conditions { rate: Some(4_000_000), queue: 50_000, ..Conditions::default() };
        let (arrived, counters) = check(conditions, 1);
        let (_, last) = *arrived.last().unwrap();
        assert!((1090..1110).contains(&last), "{last}");
        assert!((440..460).contains(&counters.overflowed), "{counters:?}");
    }

    #[test]
    fn a_cut_loses_everything() {
        assert_eq!(check(Conditions { cut: true, ..Conditions::default() }, 1).0, []);
    }

    #[test]
    fn duplicates_come_after() {
        let (arrived, _) = check(Conditions { duplicate: 1.0, ..Conditions::default() }, 1);
        assert_eq!(arrived.len(), 2000);
    }
}
