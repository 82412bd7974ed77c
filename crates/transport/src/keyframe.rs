//! How often a player's requests for a key frame reach the encoder.

use std::time::{Duration, Instant};

/// Shortest time between two key frames on request, and between a key frame and the next request that is believed.
///
/// Too short: a key frame is 5 to 20 times the size of another frame, so requests repeated by the browser every 50 to 200 ms
/// under loss would fill a narrow path with key frames and cause the loss that they answer. Too long: a player whose
/// picture is broken waits. 250 ms is above the repeat interval of browsers (200 ms) and below what reads as a freeze.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// Thins out requests. None is lost: one that comes too early is answered when its time has come, unless a key frame was sent
/// meanwhile.
#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequests {
    /// When the encoder was last told, or a key frame was last sent.
    last: Option<Instant>,
    /// A request waits since then.
    waiting: bool,
}

impl KeyFrameRequests {
    /// The player asked.
    pub(crate) fn request(&mut self) {
        self.waiting = true;
    }

    /// A key frame was sent: it answers what was asked before.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.waiting = false;
        self.last = Some(now);
    }

    /// When [`Self::take`] has to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        match (self.waiting, self.last) {
            (false, _) => None,
            (true, None) => None,
            (true, Some(last)) => Some(last + MIN_INTERVAL),
        }
    }

    /// True when the encoder has to make a key frame now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if !self.waiting || self.last.is_some_and(|last| now < last + MIN_INTERVAL) {
            return false;
        }
        self.waiting = false;
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_requests_is_one_now_and_one_later() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        let mut told = Vec::new();
        for ms in 0..400u64 {
            let now = start + Duration::from_millis(ms);
            if ms < 200 && ms % 10 == 0 {
                requests.request();
            }
            if requests.take(now) {
                told.push(ms);
            }
        }
        assert_eq!(told, [0, 250]);
    }

    #[test]
    fn a_key_frame_that_was_sent_answers_waiting_requests() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        requests.sent(start);
        requests.request();
        assert_eq!(requests.due(), Some(start + MIN_INTERVAL));
        requests.sent(start + Duration::from_millis(100));
        assert_eq!(requests.due(), None);
        assert!(!requests.take(start + Duration::from_secs(1)));
    }
}
