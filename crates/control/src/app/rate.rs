//! How often something may be done: token buckets, one a key, and a bounded number of keys.
//!
//! Deliberately absent: reading a clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Keys that are remembered. Fewer would forget players on a busy evening; each takes under 200 bytes.
const MAX_KEYS: usize = 50_000;

/// What may be done at once, and how fast that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// At once after a pause; at least 1.
    pub(crate) burst: u32,
    /// In the long run; 0 = never again.
    pub(crate) per_minute: u32,
}

impl Rate {
    /// How long one permission takes to come back.
    fn interval(self) -> Duration {
        Duration::from_secs(60).checked_div(self.per_minute).unwrap_or(Duration::from_secs(365 * 24 * 3600))
    }
}

/// One key's bucket: the time at which it will be full again. An empty one never stood in the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one permission, or says how long to wait for it.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let interval = rate.interval();
        let base = self.full_at.filter(|at| *at > now).unwrap_or(now);
        let full_at = base + interval;
        let most = now + interval * rate.burst.max(1);
        if full_at > most {
            return Err(full_at - most);
        }
        self.full_at = Some(full_at);
        Ok(())
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// One rate for many keys.
#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: Rate,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

impl RateLimit {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::new(BTreeMap::new()) }
    }

    /// Takes one permission of this key, or says how long to wait for it.
    pub(crate) fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(key) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= MAX_KEYS {
                // An attack from very many addresses: new ones wait, known ones are served.
                return Err(self.rate.interval());
            }
        }
        buckets.entry(key.to_owned()).or_default().take(self.rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_an_interval() {
        let limit = RateLimit::new(Rate { burst: 3, per_minute: 6 });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            assert_eq!(limit.take("a", at(0)), Ok(()));
        }
        assert_eq!(limit.take("a", at(0)), Err(Duration::from_secs(10)));
        assert_eq!(limit.take("a", at(4)), Err(Duration::from_secs(6)));
        assert_eq!(limit.take("b", at(4)), Ok(()), "another key has a bucket of its own");
        assert_eq!(limit.take("a", at(10)), Ok(()));
        assert!(limit.take("a", at(10)).is_err());
        for _ in 0..3 {
            assert_eq!(limit.take("a", at(100)), Ok(()), "a pause fills it, but not over the burst");
        }
        assert!(limit.take("a", at(100)).is_err());
    }

    #[test]
    fn over_any_window_no_more_than_the_rate_allows() {
        let rate = Rate { burst: 5, per_minute: 30 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let taken: Vec<u64> = (0..600_u64)
            .map(|tenth| tenth * 100)
            .filter(|ms| bucket.take(rate, start + Duration::from_millis(*ms)).is_ok())
            .collect();
        for (index, first) in taken.iter().enumerate() {
            let within_minute = taken[index..].iter().filter(|ms| **ms < first + 60_000).count();
            assert!(within_minute <= 35, "{within_minute} from {first} ms on");
        }
        assert!(taken.len() >= 34, "and it lets through what it promises: {}", taken.len());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let limit = RateLimit::new(Rate { burst: 1, per_minute: 1 });
        let now = Instant::now();
        for key in 0..MAX_KEYS {
            assert_eq!(limit.take(&key.to_string(), now), Ok(()));
        }
        assert!(limit.take("one more", now).is_err());
        assert_eq!(limit.take("one more", now + Duration::from_secs(61)), Ok(()), "full buckets are forgotten");
    }
}
