//! What a second of the stream looked like: counted here, told to the player and to the agent.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::Bitrate;
use wire::FrameReport;

/// Encoding times kept for the median. Four seconds at 60 Hz; more would make old trouble look present.
const TIMES_KEPT: usize = 256;

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    frames: u32,
    bytes: u64,
    encode: Vec<Duration>,
    next: usize,
    target: Bitrate,
    round_trip: Duration,
    resent_total: u64,
    resent_told: u64,
    loss: f32,
    report: FrameReport,
    last_input: Option<Instant>,
}

/// Counters, shared by the threads of the stream.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    counts: Mutex<Counts>,
}

/// A duration in the wire's unit of 100 microseconds, saturating.
pub(crate) fn hundred_us(duration: Duration) -> u16 {
    u16::try_from(duration.as_micros() / 100).unwrap_or(u16::MAX)
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame of this many bytes left; encoding it took `time`.
    pub(crate) fn sent(&self, bytes: usize, time: Duration) {
        let mut counts = self.lock();
        counts.frames += 1;
        counts.bytes += bytes as u64;
        if counts.encode.len() < TIMES_KEPT {
            counts.encode.push(time);
        } else {
            let at = counts.next;
            counts.encode[at] = time;
        }
        counts.next = (counts.next + 1) % TIMES_KEPT;
    }

    pub(crate) fn target(&self, target: Bitrate) {
        self.lock().target = target;
    }

    pub(crate) fn path(&self, round_trip: Duration, loss: f32, resent_total: u64) {
        let mut counts = self.lock();
        counts.round_trip = round_trip;
        counts.loss = loss;
        counts.resent_total = resent_total;
    }

    /// The player did something.
    pub(crate) fn input(&self, now: Instant) {
        self.lock().last_input = Some(now);
    }

    pub(crate) fn report(&self, report: FrameReport) {
        self.lock().report = report;
    }

    /// Statistics since the last call, for the player and for the agent.
    pub(crate) fn take(&self, now: Instant) -> (wire::StreamStatistics, api::streamer::StreamStatistics) {
        let mut counts = self.lock();
        let seconds = counts.since.map_or(1.0, |since| now.saturating_duration_since(since).as_secs_f32()).max(0.001);
        counts.since = Some(now);
        let fps = std::mem::take(&mut counts.frames) as f32 / seconds;
        let kbps = (std::mem::take(&mut counts.bytes) as f32 * 8.0 / 1000.0 / seconds) as u32;
        let resent = counts.resent_total.saturating_sub(counts.resent_told);
        counts.resent_told = counts.resent_total;
        let mut times = counts.encode.clone();
        times.sort_unstable();
        let encode = times.get(times.len() / 2).copied().unwrap_or_default();
        let idle = counts.last_input.map_or(0, |at| now.saturating_duration_since(at).as_secs());
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        let target_kbps = u32::try_from(counts.target.kbps()).unwrap_or(u32::MAX);
        let player = wire::StreamStatistics {
            frames_per_second: fps.round() as u16,
            video_kbps: kbps,
            target_kbps,
            encode_100us: hundred_us(encode),
            round_trip_100us: hundred_us(counts.round_trip),
            resent_packets: u16::try_from(resent).unwrap_or(u16::MAX),
            loss_fraction: (counts.loss.clamp(0.0, 1.0) * 65_535.0) as u16,
        };
        let agent = api::streamer::StreamStatistics {
            frames_per_second: fps,
            video_kbps: kbps,
            target_kbps,
            encode_ms: encode.as_secs_f32() * 1000.0,
            round_trip_ms: counts.round_trip.as_secs_f32() * 1000.0,
            loss: counts.loss,
            input_to_photon_ms: f32::from(counts.report.input_to_photon_100us) / 10.0,
            frame_age_ms: f32::from(counts.report.frame_age_100us) / 10.0,
            idle_s: idle,
        };
        (player, agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_per_second_and_reset() {
        let ledger = Ledger::default();
        let start = Instant::now();
        ledger.take(start);
        for _ in 0..120 {
            ledger.sent(1000, Duration::from_millis(6));
        }
        let (player, agent) = ledger.take(start + Duration::from_secs(2));
        assert_eq!((player.frames_per_second, player.video_kbps, player.encode_100us), (60, 480, 60));
        assert!((agent.encode_ms - 6.0).abs() < 0.01);
        assert_eq!(ledger.take(start + Duration::from_secs(3)).0.frames_per_second, 0);
    }
}
