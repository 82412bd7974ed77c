//! How long a wait will be, learnt from how long sessions last.

use std::time::Duration;

/// A wait as it is told to the player: it ends within the band four times of five, when sessions go on ending as they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// One wait of ten is shorter.
    pub low: Duration,
    /// The mean.
    pub expected: Duration,
    /// One wait of ten is longer.
    pub high: Duration,
}

/// How many standard deviations lie on each side of the middle four fifths of a normal distribution.
const BAND: f64 = 1.28;

/// A session's weight in the mean is one of so many. More learns slowly, fewer follows every odd evening.
const LEARN: f64 = 64.0;

/// How long sessions last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    mean_s: f64,
    seen: f64,
}

impl Lengths {
    pub(crate) fn new(usual: Duration) -> Lengths {
        Lengths { mean_s: usual.as_secs_f64(), seen: 1.0 }
    }

    pub(crate) fn learn(&mut self, length: Duration) {
        self.seen = (self.seen + 1.0).min(LEARN);
        self.mean_s += (length.as_secs_f64() - self.mean_s) / self.seen;
    }

    /// The wait for the `position`th of so many sessions to end. Sessions end independently of one another, so the `position`th ending comes after a
    /// sum of as many exponential times: its deviation is the mean over the root of the position. `None` when nothing runs that could end.
    pub(crate) fn wait(&self, position: u32, running: u32) -> Option<Estimate> {
        let rate = f64::from(running) / self.mean_s.max(1.0);
        if running == 0 || position == 0 {
            return None;
        }
        let expected = f64::from(position) / rate;
        let deviation = BAND * expected / f64::from(position).sqrt();
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        // The first ending of many comes soon or late: below its mean is not less than nothing, but a tenth of it.
        let low = (expected - deviation).max(expected / 10.0);
        Some(Estimate { low: time(low), expected: time(expected), high: time(expected + deviation) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_follow_position_and_length() {
        let mut lengths = Lengths::new(Duration::from_secs(1800));
        let wait = |lengths: &Lengths, position| lengths.wait(position, 60).unwrap();
        assert_eq!(wait(&lengths, 1).expected, Duration::from_secs(30));
        assert_eq!(wait(&lengths, 4).expected, Duration::from_secs(120));
        let (first, tenth) = (wait(&lengths, 1), wait(&lengths, 10));
        assert!(first.low < first.expected && first.expected < first.high);
        // Many endings are surer than one.
        assert!(tenth.high.as_secs_f64() / tenth.expected.as_secs_f64() < first.high.as_secs_f64() / 30.0);
        for _ in 0..500 {
            lengths.learn(Duration::from_secs(600));
        }
        assert!((590..=610).contains(&(wait(&lengths, 60).expected.as_secs())));
        assert_eq!(lengths.wait(1, 0), None);
    }
}
