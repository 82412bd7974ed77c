//! What the probe says about itself, on standard error: one line an input, one line every five seconds.

use std::fs;

use crate::clock::now_us;

/// Frames between two summaries: five seconds at 60 Hz.
const SUMMARY_FRAMES: usize = 300;

/// Counts toggles and frames and tells when the probe itself was starved.
#[derive(Debug, Default)]
pub struct Report {
    frames: u64,
    toggles: u64,
    pending_us: Vec<u64>,
    application_us: u64,
    toggled_us: u64,
    late_us: Vec<u64>,
    draw_us: Vec<u64>,
    run_delay_us: u64,
}

impl Report {
    /// An input arrived.
    pub fn input(&mut self, received_us: u64) {
        // More inputs than this between two frames cannot come from a measurement; the count stays right, the time of
        // the oldest matters.
        if self.pending_us.len() < 64 {
            self.pending_us.push(received_us);
        }
    }

    /// Number of the frame that is drawn now, from 0.
    #[must_use]
    pub fn frame(&self) -> u64 {
        self.frames
    }

    /// Shows what arrived until now: the strip of a frame that is committed at `committed_us`, its tick `late_us` late.
    pub fn strip(&mut self, committed_us: u64, late_us: u64) -> crate::strip::Strip {
        for received_us in std::mem::take(&mut self.pending_us) {
            self.toggles += 1;
            self.application_us = committed_us.saturating_sub(received_us);
            self.toggled_us = committed_us;
            eprintln!("probe: toggle={} received_us={received_us} committed_us={committed_us}", self.toggles);
        }
        crate::strip::Strip {
            frame: low_bits(self.frames, 16),
            toggles: low_bits(self.toggles, 8),
            application_100us: u16::try_from(self.application_us / 100).unwrap_or(1023).min(1023),
            late_ms: u8::try_from(late_us / 1000).unwrap_or(15).min(15),
            committed_100us: low_bits(committed_us / 100, 20),
            since_500us: u8::try_from(committed_us.saturating_sub(self.toggled_us) / 500).unwrap_or(u8::MAX),
        }
    }

    /// A frame went out.
    pub fn frame_done(&mut self, late_us: u64, draw_us: u64) {
        self.frames += 1;
        self.late_us.push(late_us);
        self.draw_us.push(draw_us);
        if self.late_us.len() == SUMMARY_FRAMES {
            self.summarise();
        }
    }

    fn summarise(&mut self) {
        let run_delay_us = run_delay_us();
        let waited_us = run_delay_us.saturating_sub(self.run_delay_us);
        self.run_delay_us = run_delay_us;
        eprintln!(
            "probe: now_us={} frames={} late_us_p50={} late_us_p99={} draw_us_p50={} draw_us_p99={} run_delay_us={}",
            now_us(),
            self.frames,
            percentile(&mut self.late_us, 50),
            percentile(&mut self.late_us, 99),
            percentile(&mut self.draw_us, 50),
            percentile(&mut self.draw_us, 99),
            waited_us
        );
        self.late_us.clear();
        self.draw_us.clear();
    }
}

/// The low bits of a counter that wraps in the strip.
fn low_bits<T: TryFrom<u64> + Default>(value: u64, bits: u32) -> T {
    T::try_from(value & ((1 << bits) - 1)).unwrap_or_default()
}

fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0)
}

/// Time that this process was ready to run and did not, in microseconds; 0 where the kernel does not tell.
#[must_use]
pub fn run_delay_us() -> u64 {
    fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |nanoseconds| nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_shown_by_the_next_frame_and_counters_wrap() {
        let mut report = Report::default();
        report.input(5_000_000);
        let strip = report.strip(5_008_250, 1200);
        assert_eq!((strip.toggles, strip.application_100us, strip.late_ms), (1, 82, 1));
        report.frame_done(0, 0);
        let next = report.strip(5_025_000, 99_000);
        assert_eq!((next.frame, next.toggles, next.application_100us, next.late_ms), (1, 1, 82, 15));
        assert_eq!((strip.since_500us, next.since_500us), (0, 33));
        report.toggles = 255;
        report.frames = 65_536;
        report.input(1);
        let wrapped = report.strip(200_000_000, 0);
        assert_eq!((wrapped.frame, wrapped.toggles, wrapped.application_100us), (0, 0, 1023));
        assert_eq!(wrapped.committed_100us, 2_000_000 % (1 << 20));
    }
}
