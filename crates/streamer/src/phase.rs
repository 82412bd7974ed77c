//! Keeps the game's beat in step with the player's display: pure, reports in, shifts out.
//!
//! A display takes a picture at its own beat. A game that draws just after that beat has its pictures lie ready for a whole interval;
//! one that draws just before it does not, but a little jitter makes it miss. The client reports how long frames lay ready ("slack",
//! such that nine of ten lay at least so long); the beat is shifted until that is a small margin.
//!
//! ```text
//! slack:   0 ........ NEAR ........ MARGIN ........ FAR ................. one interval of the display
//!          shift earlier |        well        | shift later, to MARGIN
//! ```
//! Only games that wait for the display's frame callbacks follow; for others a shift changes nothing.

use wire::FrameReport;

/// Units of the report in a microsecond's thousands.
const UNIT_US: i64 = 100;

/// What the client reports when its browser does not tell.
const UNKNOWN: u16 = u16::MAX;

/// Slack that is aimed at, in microseconds: what decoding and network jitter by. Less misses the display's beat, more is latency.
const MARGIN_US: i64 = 1_500;

/// Slack above which the beat is shifted. Nearer to the margin, noise would keep the beat moving.
const FAR_US: i64 = 3_500;

/// Slack below which frames are about to miss.
const NEAR_US: i64 = 400;

/// Slack beyond an interval of the slowest display is no wait for a beat, but a page that does not draw.
const NONSENSE_US: i64 = 45_000;

/// Reports that are skipped after a shift: they are about frames from before it.
const SETTLE_REPORTS: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DisplayPhase {
    settling: u8,
}

impl DisplayPhase {
    /// A report came; gives the shift in microseconds, later when positive.
    pub(crate) fn report(&mut self, report: &FrameReport) -> Option<i64> {
        if self.settling > 0 {
            self.settling -= 1;
            return None;
        }
        let slack = i64::from(report.display_slack_100us) * UNIT_US;
        let is_known = report.display_slack_100us != UNKNOWN && slack < NONSENSE_US;
        if !is_known || (NEAR_US..=FAR_US).contains(&slack) {
            return None;
        }
        self.settling = SETTLE_REPORTS;
        Some(slack - MARGIN_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(slack_us: i64) -> FrameReport {
        FrameReport { display_slack_100us: u16::try_from(slack_us / UNIT_US).unwrap(), ..FrameReport::default() }
    }

    /// A display of this interval, frames that are ready at `ready` after a beat of it with this jitter; gives the shifts and the slack
    /// in the end.
    fn play(interval: i64, mut ready: i64, jitter: i64) -> (u32, i64) {
        let mut phase = DisplayPhase::default();
        let mut shifts = 0;
        let slack = |ready: i64| {
            let mut all: Vec<_> =
                (0..60).map(|frame| (-(ready + (frame * 7) % (jitter + 1))).rem_euclid(interval)).collect();
            all.sort_unstable();
            all[6]
        };
        for _ in 0..30 {
            if let Some(shift) = phase.report(&report(slack(ready))) {
                ready += shift;
                shifts += 1;
            }
        }
        (shifts, slack(ready))
    }

    #[test]
    fn every_phase_ends_just_before_the_beat_and_stays() {
        for interval in [16_667, 6_944, 33_333] {
            for ready in (0..interval).step_by(250) {
                let (shifts, slack) = play(interval, ready, 1_500);
                assert!((NEAR_US..FAR_US + UNIT_US).contains(&slack), "{interval} {ready}: {slack}");
                assert!(shifts <= 2, "{interval} {ready}: {shifts} shifts");
            }
        }
    }

    #[test]
    fn what_is_unknown_or_no_wait_for_a_beat_shifts_nothing() {
        let mut phase = DisplayPhase::default();
        let unknown = FrameReport { display_slack_100us: UNKNOWN, ..FrameReport::default() };
        assert_eq!(phase.report(&unknown), None);
        assert_eq!(phase.report(&report(300_000)), None);
        assert_eq!(phase.report(&report(12_000)), Some(10_500));
        assert_eq!(phase.report(&report(12_000)), None, "frames from before the shift");
    }
}
