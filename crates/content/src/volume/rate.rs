//! How fast the store may be read.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub NonZeroU64);

/// Makes readers wait so that together they stay under the rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<Rate>,
    /// Until when what was read is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Pace {
        Pace { rate, paid_until: Mutex::new(None) }
    }

    /// Waits until so many more bytes may be read.
    pub(super) async fn wait(&self, bytes: u64) {
        if let Some(start) = self.begin(bytes, Instant::now()) {
            tokio::time::sleep_until(start).await;
        }
    }

    /// When the reading of so many bytes may begin.
    fn begin(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let Rate(rate) = self.rate?;
        let cost = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = paid_until.filter(|until| *until > now).unwrap_or(now);
        *paid_until = Some(start + cost);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_readers_together_stay_under_the_rate() {
        let pace = Pace::new(NonZeroU64::new(1000).map(Rate));
        let now = Instant::now();
        let starts: Vec<Duration> = (0..20).filter_map(|_| pace.begin(500, now)).map(|start| start - now).collect();
        // The last one begins when the nineteen before it are paid for.
        assert_eq!((starts[0], starts[19]), (Duration::ZERO, Duration::from_millis(9500)));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.begin(500, later), Some(later), "a pause is not saved up");
        assert_eq!(Pace::new(None).begin(500, now), None);
    }
}
