//! How long a wait will be: how many have to end before, how fast they end, and how wrong that was for others.

use std::time::Duration;

/// A wait as it is told to the player: it ends within the band four times of five, when things go on as they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// One wait of ten is shorter.
    pub low: Duration,
    /// Half of them are.
    pub expected: Duration,
    /// One wait of ten is longer.
    pub high: Duration,
}

/// Standard deviations on each side of the middle four fifths. Of a normal distribution it would be 1.28; the evening comes before its waits are learnt, and in
/// simulated days (`cargo test -p sim`) that many held two waits of three.
const BAND: f64 = 1.75;

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

    /// Endings a second of so many sessions.
    pub(crate) fn rate(&self, running: u32) -> f64 {
        f64::from(running) / self.mean_s.max(1.0)
    }
}

/// Positions are told apart by powers of two up to this one.
const KINDS: usize = 12;

/// How waits came out against what sessions' lengths alone let expect: the logarithm of one over the other, its mean and variance. People give up,
/// are not there, wait at several sites; nobody has to model that.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    mean: f64,
    variance: f64,
    seen: f64,
}

/// Outcomes by position: who is next waits for one ending, which comes soon or late; the hundredth waits for many, which come evenly.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes([Outcome; KINDS]);

fn kind(position: u32) -> usize {
    (position.max(1).ilog2() as usize).min(KINDS - 1)
}

impl Outcomes {
    /// Until something is learnt: endings that do not know of one another.
    pub(crate) fn new() -> Outcomes {
        Outcomes(std::array::from_fn(|kind| Outcome { mean: 0.0, variance: 1.0 / f64::from(1_u32 << kind), seen: 1.0 }))
    }

    /// Somebody who stood at this position and was to wait so many seconds has waited.
    pub(crate) fn learn(&mut self, position: u32, expected_s: f64, waited: Duration) {
        let outcome = &mut self.0[kind(position)];
        // Shorter than a second is at once.
        let ratio = (waited.as_secs_f64().max(1.0) / expected_s.max(1.0)).ln();
        outcome.seen = (outcome.seen + 1.0).min(LEARN);
        let from_mean = ratio - outcome.mean;
        outcome.mean += from_mean / outcome.seen;
        outcome.variance += (from_mean * from_mean - outcome.variance) / outcome.seen;
    }

    pub(crate) fn estimate(&self, position: u32, expected_s: f64) -> Estimate {
        let outcome = &self.0[kind(position)];
        let (usual, spread) = (expected_s.max(1.0) * outcome.mean.exp(), (BAND * outcome.variance.sqrt()).exp());
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Estimate { low: time(usual / spread), expected: time(usual), high: time(usual * spread) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_learnt() {
        let mut lengths = Lengths::new(Duration::from_secs(1800));
        assert_eq!(lengths.rate(60), 60.0 / 1800.0);
        for _ in 0..500 {
            lengths.learn(Duration::from_secs(600));
        }
        assert!((lengths.rate(60) - 0.1).abs() < 0.001);
        assert_eq!(lengths.rate(0), 0.0);
    }

    #[test]
    fn bands_are_wide_for_the_next_and_narrow_behind_and_follow_what_came() {
        let mut outcomes = Outcomes::new();
        let (next, far) = (outcomes.estimate(1, 100.0), outcomes.estimate(100, 100.0));
        assert!(next.low < far.low && far.high < next.high && next.low < next.expected && next.expected < next.high);
        assert_eq!(next.expected, Duration::from_secs(100));
        for round in 0..500 {
            // Twice as soon as expected, more or less.
            outcomes.learn(100, 100.0, Duration::from_secs(if round % 2 == 0 { 40 } else { 60 }));
        }
        let learnt = outcomes.estimate(100, 100.0);
        assert!((45..55).contains(&learnt.expected.as_secs()), "{learnt:?}");
        assert!((30..40).contains(&learnt.low.as_secs()) && (60..78).contains(&learnt.high.as_secs()), "{learnt:?}");
        assert_eq!(outcomes.estimate(1, 100.0), next, "others learn nothing of it");
        assert_eq!(outcomes.estimate(1, f64::INFINITY).high, Duration::MAX);
    }
}
