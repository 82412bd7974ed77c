//! Monotonic time and the probe's own tick.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Microseconds of `CLOCK_MONOTONIC`: the clock that the browser's `performance.now()` counts by as well.
#[must_use]
pub fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// The probe's rate, in thousandths of a hertz.
///
/// Not exactly 60 Hz: two clocks of the same rate keep the phase that they happen to have, and then one run measures a
/// lucky phase between application, capture and display, and the next an unlucky one, 16 ms apart. At 59.5 Hz every
/// phase comes by within two seconds, so that a round sees each several times. (At 59.9 Hz it took ten seconds, longer than a
/// round: the same product had medians of 18.8 and 23.7 ms.) Further away would cost frames: at 59 Hz one of sixty.
pub const RATE_MHZ: u64 = 59_500;

/// A steady beat that never drifts: tick `n` is due at `start + n / rate`.
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    start_us: u64,
    ticks: u64,
    rate_mhz: u64,
}

impl Ticker {
    /// A beat of `rate_mhz` thousandths of a hertz, its first tick due now.
    #[must_use]
    pub fn new(rate_mhz: u64, now_us: u64) -> Ticker {
        Ticker { start_us: now_us, ticks: 0, rate_mhz: rate_mhz.max(1) }
    }

    /// When the next tick is due, in microseconds.
    #[must_use]
    pub fn due_us(&self) -> u64 {
        self.start_us + self.ticks * 1_000_000_000 / self.rate_mhz
    }

    /// Takes the tick that is due and returns how late it is, in microseconds; `None` before its time. Ticks that were
    /// missed altogether are skipped, as a game that fell behind does.
    pub fn take(&mut self, now_us: u64) -> Option<u64> {
        let late_us = now_us.checked_sub(self.due_us())?;
        let missed = late_us * self.rate_mhz / 1_000_000_000;
        self.ticks += 1 + missed;
        Some(late_us)
    }

    /// How long to wait for the next tick.
    #[must_use]
    pub fn wait(&self, now_us: u64) -> Timespec {
        let wait_us = self.due_us().saturating_sub(now_us);
        let nanoseconds = i64::try_from(wait_us % 1_000_000).unwrap_or(0) * 1000;
        Timespec { tv_sec: i64::try_from(wait_us / 1_000_000).unwrap_or(0), tv_nsec: nanoseconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_missed_ones_are_skipped() {
        let mut ticker = Ticker::new(60_000, 1000);
        assert_eq!(ticker.take(1000), Some(0));
        assert_eq!(ticker.due_us(), 1000 + 16_666);
        assert_eq!(ticker.take(17_665), None);
        assert_eq!(ticker.take(17_800), Some(134));
        // Three ticks late: two of them are gone, the beat itself stays where it was.
        assert_eq!(ticker.take(1000 + 4 * 16_667), Some(2 * 16_667 + 1));
        assert_eq!(ticker.due_us(), 1000 + 5_000_000 / 60);
    }
}
