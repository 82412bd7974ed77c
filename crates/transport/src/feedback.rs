//! What became of every packet: sizes and times of sending, and what the player's transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01) says of their arrival.
//!
//! Times of arrival are on the player's clock, so only differences mean something: the delay of a packet over the smallest delay
//! seen lately is the time that it spent in queues.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::Bitrate;

/// Packets remembered. Too few forgets packets before their feedback comes (2 s at 20 Mbit/s are 4,500); too many costs memory.
const MAX_PACKETS: usize = 8192;

/// Window of the delivered rate. Shorter is noisy (a frame is one burst), longer hides a drop of the path.
const RATE_WINDOW: Duration = Duration::from_millis(300);

/// Window of the standing delay: the smallest delay in it is what even the first packet of a burst waited. Shorter than some
/// frames' distance would count a burst's own serialisation; longer reports a queue late.
const STANDING_WINDOW: Duration = Duration::from_millis(150);

/// Time that each of the [`BASE_BUCKETS`] remembers a smallest delay for. Together 30 s: shorter would take a queue that stands for long for
/// the path itself, longer would not notice a path that became longer.
const BASE_BUCKET: Duration = Duration::from_secs(5);
const BASE_BUCKETS: usize = 6;

/// Age at which a packet without report counts as lost with its report. Shorter than a long path's round trip would lift the
/// window too early, longer stops the stream after a burst of loss.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// What a report of the player says of the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathReport {
    /// Time that packets spend in queues of the path, without the burst that they came in.
    pub standing: Duration,
    /// Bits per second that arrived over the last 300 ms.
    pub delivered: Bitrate,
    /// Bits per second that were sent over the last 300 ms before the report came.
    pub sent: Bitrate,
    /// Packets of this report, arrived or not.
    pub packets: u32,
    /// Those that did not arrive (yet).
    pub lost: u32,
    /// Packets that an earlier report counted as lost and that came after all.
    pub late: u32,
    /// Age of the newest arrived packet when the report came: round trip and queue.
    pub round_trip: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    bytes: u32,
    at: Instant,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No report has named it.
    Unknown,
    /// A report said that it did not arrive; reordering can prove it wrong.
    Lost,
    /// It arrived.
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    /// Microseconds on the player's clock.
    at_us: i64,
    /// Arrival minus sending, microseconds; the zero means nothing.
    delay_us: i64,
    bytes: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Feedback {
    /// Zero of both clocks.
    zero: Instant,
    packets: VecDeque<Sent>,
    /// Sequence number of `packets[0]`.
    first: u64,
    arrivals: VecDeque<Arrival>,
    /// Smallest delay of each period of time, newest last.
    base: VecDeque<(Instant, i64)>,
    /// First sequence number that no report has reached.
    unreported: u64,
    /// First arrival and first sending: rates are not taken over time before them.
    first_arrival_us: Option<i64>,
    first_sent: Option<Instant>,
}

impl Feedback {
    pub(crate) fn new(now: Instant) -> Feedback {
        Feedback {
            zero: now,
            packets: VecDeque::new(),
            first: 0,
            arrivals: VecDeque::new(),
            base: VecDeque::new(),
            unreported: 0,
            first_arrival_us: None,
            first_sent: None,
        }
    }

    /// Bytes sent that no report has reached yet. What is older than [`LOST_AFTER`] will not be reported any more.
    pub(crate) fn under_way(&self, now: Instant) -> usize {
        let reported = self.unreported.saturating_sub(self.first) as usize;
        let young = |sent: &&Sent| now.saturating_duration_since(sent.at) < LOST_AFTER;
        self.packets.iter().skip(reported).rev().take_while(young).map(|sent| sent.bytes as usize).sum()
    }

    /// Zero of the player's clock, as [`Self::report`] wants it.
    pub(crate) fn zero(&self) -> Instant {
        self.zero
    }

    /// The next sequence number that will be sent; feedback's 16-bit numbers are near it.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// A packet left. Numbers are consecutive; only the low 16 bits are looked at.
    pub(crate) fn sent(&mut self, sequence: u16, bytes: usize, now: Instant) {
        if self.packets.is_empty() && self.first == 0 {
            self.first = u64::from(sequence);
        }
        let next = self.next_sequence();
        if next as u16 != sequence {
            // Never seen; numbering anew loses at most the feedback that is under way.
            self.packets.clear();
            self.first = extend(next, sequence);
        }
        self.first_sent.get_or_insert(now);
        self.packets.push_back(Sent { bytes: bytes as u32, at: now, fate: Fate::Unknown });
        if self.packets.len() > MAX_PACKETS {
            self.packets.pop_front();
            self.first += 1;
        }
    }

    /// A report came: sequence numbers and, for those that arrived, when, on the player's clock.
    pub(crate) fn report(
        &mut self,
        items: impl Iterator<Item = (u64, Option<Instant>)>,
        now: Instant,
    ) -> Option<PathReport> {
        let (mut packets, mut lost, mut late, mut newest) = (0u32, 0u32, 0u32, None::<Instant>);
        for (sequence, arrived) in items {
            let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            let Some(sent) = index.and_then(|index| self.packets.get_mut(index)) else { continue };
            let Some(arrived) = arrived else {
                if sent.fate == Fate::Unknown {
                    sent.fate = Fate::Lost;
                    packets += 1;
                    lost += 1;
                }
                continue;
            };
            match std::mem::replace(&mut sent.fate, Fate::Arrived) {
                Fate::Arrived => continue,
                Fate::Lost => late += 1,
                Fate::Unknown => packets += 1,
            }
            self.unreported = self.unreported.max(sequence + 1);
            newest = newest.max(Some(sent.at));
            let at_us = micros(arrived, self.zero);
            let delay_us = at_us - micros(sent.at, self.zero);
            let arrival = Arrival { at_us, delay_us, bytes: sent.bytes };
            self.first_arrival_us.get_or_insert(at_us);
            self.note_base(now, delay_us);
            // By the player's clock, which may stand still.
            if self.arrivals.len() == MAX_PACKETS {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back(arrival);
        }
        if packets + late == 0 {
            return None;
        }
        self.forget_arrivals();
        Some(PathReport {
            standing: self.standing(),
            delivered: self.delivered(),
            sent: self.sent_lately(now),
            packets,
            lost,
            late,
            round_trip: newest.map(|at| now.saturating_duration_since(at)),
        })
    }

    fn note_base(&mut self, now: Instant, delay_us: i64) {
        match self.base.back_mut() {
            Some((since, smallest)) if now.saturating_duration_since(*since) < BASE_BUCKET => {
                *smallest = delay_us.min(*smallest);
            }
            _ => {
                self.base.push_back((now, delay_us));
                if self.base.len() > BASE_BUCKETS {
                    self.base.pop_front();
                }
            }
        }
    }

    fn forget_arrivals(&mut self) {
        let Some(newest) = self.arrivals.iter().map(|arrival| arrival.at_us).max() else { return };
        let keep = RATE_WINDOW.max(STANDING_WINDOW).as_micros() as i64;
        // The player's clock can not jump; if its numbers do, start anew.
        self.arrivals.retain(|arrival| newest - arrival.at_us <= keep);
    }

    fn newest(&self) -> i64 {
        self.arrivals.iter().map(|arrival| arrival.at_us).max().unwrap_or_default()
    }

    fn standing(&self) -> Duration {
        let since = self.newest() - STANDING_WINDOW.as_micros() as i64;
        let lately =
            self.arrivals.iter().filter(|arrival| arrival.at_us >= since).map(|arrival| arrival.delay_us).min();
        let base = self.base.iter().map(|(_, smallest)| *smallest).min();
        match (lately, base) {
            (Some(lately), Some(base)) => Duration::from_micros((lately - base).max(0).unsigned_abs()),
            _ => Duration::ZERO,
        }
    }

    fn delivered(&self) -> Bitrate {
        let since = self.newest() - RATE_WINDOW.as_micros() as i64;
        let bytes: u64 =
            self.arrivals.iter().filter(|arrival| arrival.at_us > since).map(|arrival| u64::from(arrival.bytes)).sum();
        let lasted = self.newest() - self.first_arrival_us.unwrap_or_default();
        rate(bytes, Duration::from_micros(lasted.max(0).unsigned_abs()))
    }

    fn sent_lately(&self, now: Instant) -> Bitrate {
        let lately = |sent: &&Sent| now.saturating_duration_since(sent.at) < RATE_WINDOW;
        let bytes = self.packets.iter().rev().take_while(lately).map(|sent| u64::from(sent.bytes)).sum();
        rate(bytes, self.first_sent.map(|first| now.saturating_duration_since(first)).unwrap_or_default())
    }
}

/// Bits per second of `bytes` over the window, or over the time since the beginning when that is shorter.
fn rate(bytes: u64, since_beginning: Duration) -> Bitrate {
    let span = since_beginning.clamp(STANDING_WINDOW / 3, RATE_WINDOW);
    Bitrate::from_bps(bytes * 8_000_000 / span.as_micros() as u64)
}

/// The 64-bit number nearest to `near` whose low 16 bits are `low`.
fn extend(near: u64, low: u16) -> u64 {
    let ahead = low.wrapping_sub(near as u16) as i16;
    near.saturating_add_signed(i64::from(ahead))
}

fn micros(at: Instant, zero: Instant) -> i64 {
    match at.checked_duration_since(zero) {
        Some(after) => after.as_micros() as i64,
        None => -(zero.saturating_duration_since(at).as_micros() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 1000 bytes a millisecond over a path of `delay(ms)` milliseconds and reports every 50 packets.
    fn check(delay: impl Fn(u64) -> u64, standing_ms: u64, delivered_kbps: u64) {
        let start = Instant::now();
        let mut feedback = Feedback::new(start);
        // The player's clock is an hour ahead.
        let skew = Duration::from_secs(3600);
        let mut last = None;
        for ms in 0..2000u64 {
            let now = start + Duration::from_millis(ms);
            feedback.sent((65_000 + ms) as u16, 1000, now);
            if ms % 50 == 49 {
                let items = (ms - 49..=ms).map(|sent| {
                    let arrived = (sent % 10 != 3).then(|| start + skew + Duration::from_millis(sent + delay(sent)));
                    (65_000 + sent, arrived)
                });
                last = feedback.report(items, now + Duration::from_millis(60));
            }
        }
        let report = last.unwrap();
        assert_eq!((report.packets, report.lost), (50, 5));
        assert_eq!(report.standing, Duration::from_millis(standing_ms));
        assert!(report.delivered.kbps().abs_diff(delivered_kbps) <= delivered_kbps / 20, "{}", report.delivered);
        assert_eq!(report.round_trip, Some(Duration::from_millis(60)));
    }

    #[test]
    fn a_steady_path_has_no_standing_delay() {
        check(|_| 25, 0, 7200);
    }

    #[test]
    fn a_queue_is_the_delay_over_the_smallest() {
        // Over the last 150 ms the smallest delay is the oldest packet's.
        check(|ms| 25 + ms / 10, 186, 6545);
    }

    #[test]
    fn jitter_is_not_a_queue() {
        check(|ms| 25 + ms * 7919 % 17, 0, 7200);
    }

    #[test]
    fn sequence_numbers_are_extended_to_the_nearest() {
        assert_eq!(extend(65_540, 2), 65_538);
        assert_eq!(extend(65_530, 2), 65_538);
        assert_eq!(extend(3, 65_535), 0);
    }
}
