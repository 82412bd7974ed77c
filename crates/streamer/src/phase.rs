//! Keeps the game's beat in step with the player's display: pure, reports in, corrections out.
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
//!
//! And a display shows one picture an interval: when two came in one, the second waits, takes the place of the third, and so every
//! picture waits from then on, though none is late. Leaving one out empties that queue; the display does so for Wayland games.

use wire::FrameReport;

/// Units of the report in a microsecond's thousands.
const UNIT_US: i64 = 100;

/// What the client reports when its browser does not tell.
const UNKNOWN: u16 = u16::MAX;

/// Slack that is aimed at, in microseconds: what decoding and network jitter by. Less misses the display's beat, more is latency.
const MARGIN_US: i64 = 4_000;

/// Slack above which the beat is shifted. Nearer to the margin, noise would keep the beat moving.
const FAR_US: i64 = 6_000;

/// Slack below which frames are about to miss.
const NEAR_US: i64 = 2_500;

/// So many frames in a row that waited behind their predecessors make a queue. Fewer may be a burst that ends by itself; more wait for longer.
/// The client reports at once when there are as many.
const QUEUE_FRAMES: u16 = 8;

/// Reports after a picture was left out, during which none is again: a path that jitters would lose too many.
const SETTLE_QUEUE: u8 = 1;

/// Slack beyond an interval of the slowest display is no wait for a beat, but a page that does not draw.
const NONSENSE_US: i64 = 45_000;

/// Reports that are skipped after a shift: they are about frames from before it.
const SETTLE_REPORTS: u8 = 2;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Correction {
    /// The beat has to move by so many microseconds, later when positive.
    pub(crate) shift_us: Option<i64>,
    /// One picture has to be left out.
    pub(crate) leave_one_out: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DisplayPhase {
    shift: Settling,
    queue: Settling,
}

impl DisplayPhase {
    /// A report came. The two are looked at apart: a game with a beat of its own follows no shift, however often it is asked to.
    pub(crate) fn report(&mut self, report: &FrameReport) -> Correction {
        let shift_us = self.shift.unless_settling(SETTLE_REPORTS, || shift_us(report));
        let queues = report.waiting >= QUEUE_FRAMES;
        let leave_one_out = self.queue.unless_settling(SETTLE_QUEUE, || queues.then_some(())).is_some();
        if shift_us.is_some() || leave_one_out {
            tracing::debug!(?shift_us, leave_one_out, "the game follows the player's display");
        }
        Correction { shift_us, leave_one_out }
    }
}

fn shift_us(report: &FrameReport) -> Option<i64> {
    let slack = i64::from(report.display_slack_100us) * UNIT_US;
    let is_known = report.display_slack_100us != UNKNOWN && slack < NONSENSE_US;
    let is_well = (NEAR_US..=FAR_US).contains(&slack);
    (is_known && !is_well).then_some(slack - MARGIN_US)
}

/// Counts the reports about frames from before a correction.
#[derive(Debug, Default)]
struct Settling(u8);

impl Settling {
    fn unless_settling<T>(&mut self, reports: u8, decide: impl FnOnce() -> Option<T>) -> Option<T> {
        if self.0 > 0 {
            self.0 -= 1;
            return None;
        }
        let decided = decide();
        if decided.is_some() {
            self.0 = reports;
        }
        decided
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
            if let Some(shift) = phase.report(&report(slack(ready))).shift_us {
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
        assert_eq!(phase.report(&unknown), Correction::default());
        assert_eq!(phase.report(&report(300_000)), Correction::default());
        assert_eq!(phase.report(&report(12_000)).shift_us, Some(12_000 - MARGIN_US));
        assert_eq!(phase.report(&report(12_000)).shift_us, None, "frames from before the shift");
    }

    #[test]
    fn a_queue_at_the_display_is_emptied_and_looked_at_again() {
        let mut phase = DisplayPhase::default();
        // A game with a beat of its own, whose phase no shift changes.
        let mut leaves_out = |waiting| {
            let report = FrameReport { waiting, ..report(9_000) };
            phase.report(&report).leave_one_out
        };
        assert!(!leaves_out(7), "a burst");
        assert!(leaves_out(8));
        assert!(!leaves_out(9), "frames from before");
        assert!(leaves_out(69));
        assert!(!DisplayPhase::default().report(&FrameReport::default()).leave_one_out, "nothing was shown");
    }
}
