//! When a committed picture is emitted and when a game may draw the next one.
//!
//! Pure: instants come in, decisions come out. Two things are paced, each at most at the frame rate on average:
//!
//! - **Emission.** A commit goes out at once while the rate has room, and otherwise at the earliest instant that has
//!   (the latest commit wins; the last one always gets out). A commit that answers an input may borrow one interval. One commit can
//!   be left out on request, when pictures queue at the player's display.
//! - **Frame callbacks** of clients that wait for them. They come on a beat, one interval apart. One that follows an input comes at
//!   once, *in place of* the next one on the beat, not besides it: two pictures in one interval of the player's display would have
//!   the second wait for the next, and all that follow. The beat can be shifted, so that pictures arrive just before the player's
//!   display takes one.
//!
//! ```text
//! beat       |       |       |       |       |
//! callbacks  x       x   x           x       x
//!                        ^ an input came
//! ```
//!
//! Deliberately absent: clocks, clients, pixels.

use std::time::{Duration, Instant};

/// How far ahead of the average an ordinary commit may be, as a divisor of the interval. Too small makes a game with
/// jitter wait; too large lets two frames follow each other so closely that the encoder queues the second.
const ORDINARY_BURST: u32 = 2;

/// Largest change of the callbacks' beat in one interval, as a divisor of it. Too small makes corrections last; too large
/// shows as a missed frame.
const CORRECTION: u32 = 8;

/// Largest part of a shift in one callback interval, as a divisor of the interval. Too small takes seconds, too large is seen
/// as a change of speed.
const SHIFT: u32 = 16;

/// Emissions in a row that had to wait although the game was not faster than the rate, after which its phase is taken
/// over by skipping one. Too few costs frames on games slightly over the rate, too many leaves them late for longer.
const WAITS_BEFORE_SKIP: u32 = 8;

/// Intervals within which a picture can be left out. A game that draws more seldom queues nowhere.
const LEAVE_OUT_WITHIN: u32 = 3;

/// What is to be done with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Emit it now.
    Emit,
    /// Keep it; [`Pacer::deadline`] says until when.
    Hold,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    /// Where emissions would be if each had taken exactly one interval: the next one counts from here.
    balance: Instant,
    held: Option<Held>,
    /// True from an input's delivery to the next commit.
    unanswered: bool,
    waits: u32,
    shortest_wait: Duration,
    /// The next commit until then that answers no input is left out, unless none follows it.
    leaves_out_until: Option<Instant>,
    /// Where frame callbacks would be if each had taken exactly one interval.
    callback_balance: Instant,
    last_callback: Option<Instant>,
    /// True while a client waits for a frame callback.
    callback_wanted: bool,
    /// True from an input's delivery to the next callback.
    callback_hurried: bool,
    /// What is left of a shift of the callbacks' beat, in microseconds, later when positive.
    shift: i64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    until: Instant,
    /// Replaced an older commit: the game is faster than the rate.
    superseding: bool,
}

impl Pacer {
    /// A pacer that emits one picture per `interval` on average.
    pub(crate) fn new(interval: Duration, now: Instant) -> Pacer {
        Pacer {
            interval,
            balance: now,
            held: None,
            unanswered: false,
            waits: 0,
            shortest_wait: Duration::MAX,
            leaves_out_until: None,
            callback_balance: now,
            last_callback: None,
            callback_wanted: false,
            callback_hurried: false,
            shift: 0,
        }
    }

    /// An input was handed to the game.
    pub(crate) fn input(&mut self) {
        self.unanswered = true;
        self.callback_hurried = true;
    }

    /// The game committed a picture.
    pub(crate) fn commit(&mut self, now: Instant) -> Decision {
        let answer = std::mem::take(&mut self.unanswered);
        let burst = self.interval / ORDINARY_BURST;
        let allowed = if answer { burst + self.interval } else { burst };
        if !answer && self.leaves_out_until.take().is_some_and(|until| now <= until) {
            let until = now + self.interval + self.interval / CORRECTION;
            self.held = Some(Held { since: now, until, superseding: true });
            return Decision::Hold;
        }
        if now + allowed >= self.balance {
            self.emitted(now);
            return Decision::Emit;
        }
        let until = self.balance - allowed;
        self.held = Some(match self.held {
            // A skip that is under way stays; an answer may shorten any wait.
            Some(held) => Held { since: now, until: held.until.min(until.max(now)), superseding: true },
            None => Held { since: now, until: self.with_skip(until, until - now), superseding: false },
        });
        Decision::Hold
    }

    /// Leaves one picture out, so that what follows it waits no longer behind it at the player's display.
    pub(crate) fn leave_one_out(&mut self, now: Instant) {
        self.leaves_out_until = Some(now + self.interval * LEAVE_OUT_WITHIN);
    }

    /// Something must be emitted although nothing was committed (a new player, a new size).
    pub(crate) fn refresh(&mut self, now: Instant) -> Decision {
        self.unanswered = true;
        self.commit(now)
    }

    /// When [`Pacer::poll`] should be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held.map(|held| held.until)
    }

    /// True when the held picture is to be emitted now.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let Some(held) = self.held.filter(|held| now >= held.until) else { return false };
        let wait = held.until.saturating_duration_since(held.since);
        // The client drew too early for the rate: let its next callback come later, so that its frames stop waiting.
        self.callback_balance += wait.min(self.interval / CORRECTION);
        let waits = if held.superseding { 0 } else { self.waits + 1 };
        let shortest = if held.superseding { Duration::MAX } else { self.shortest_wait.min(wait) };
        self.emitted(now);
        (self.waits, self.shortest_wait) = (waits, shortest);
        true
    }

    fn emitted(&mut self, now: Instant) {
        self.held = None;
        self.balance = self.balance.max(now) + self.interval;
        (self.waits, self.shortest_wait) = (0, Duration::MAX);
    }

    /// A game at just the frame rate whose frames all wait would wait for ever. Holding one back until its successor
    /// comes costs one frame and gives the time back to all that follow.
    fn with_skip(&mut self, until: Instant, wait: Duration) -> Instant {
        let shortest = self.shortest_wait.min(wait);
        if self.waits < WAITS_BEFORE_SKIP || shortest < self.interval / CORRECTION {
            return until;
        }
        (self.waits, self.shortest_wait) = (0, Duration::MAX);
        let skipped = self.interval.saturating_sub(wait);
        self.balance += skipped;
        until + skipped
    }

    /// A client waits for a frame callback.
    pub(crate) fn want_callback(&mut self) {
        self.callback_wanted = true;
    }

    /// When [`Pacer::poll_callback`] should be called.
    pub(crate) fn callback_deadline(&self) -> Option<Instant> {
        self.callback_wanted.then(|| self.callback_due())
    }

    /// True when frame callbacks are to be sent now.
    pub(crate) fn poll_callback(&mut self, now: Instant) -> bool {
        if !self.callback_wanted || now < self.callback_due() {
            return false;
        }
        self.callback_wanted = false;
        self.callback_hurried = false;
        self.last_callback = Some(now);
        self.callback_balance = self.callback_balance.max(now - self.interval / ORDINARY_BURST) + self.interval;
        self.shift_a_little();
        true
    }

    /// Moves the callbacks' beat, later when positive. Takes the place of what was left of an earlier shift.
    pub(crate) fn shift_callbacks(&mut self, microseconds: i64) {
        let interval = self.interval.as_micros() as i64;
        self.shift = microseconds.clamp(-interval, interval);
    }

    fn shift_a_little(&mut self) {
        let most = (self.interval / SHIFT).as_micros() as i64;
        let step = self.shift.clamp(-most, most);
        self.shift -= step;
        let by = Duration::from_micros(step.unsigned_abs());
        if step > 0 {
            self.callback_balance += by;
        } else {
            self.callback_balance -= by;
            // What comes earlier from now on must not have to wait for the rate.
            self.balance -= by;
        }
    }

    fn callback_due(&self) -> Instant {
        let Some(last) = self.last_callback else { return self.callback_balance };
        let due = if self.callback_hurried { self.callback_balance - self.interval } else { self.callback_balance };
        // However far corrections have moved the beat, no game waits for longer than an answer makes it.
        due.min(last + self.interval * 2).max(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_micros(16_666);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Plays commits (offsets in microseconds, and whether an input came just before) and returns, per emission, its
    /// offset and the commit that it showed.
    fn play(commits: &[(u64, bool)]) -> Vec<(Duration, Duration)> {
        let start = Instant::now();
        let mut pacer = Pacer::new(INTERVAL, start);
        let mut emissions = Vec::new();
        let mut held = None;
        for &(offset, input) in commits {
            let now = start + Duration::from_micros(offset);
            while let Some(deadline) = pacer.deadline().filter(|deadline| *deadline <= now) {
                assert!(pacer.poll(deadline));
                emissions.push((deadline - start, held.take().unwrap()));
            }
            if input {
                pacer.input();
            }
            match pacer.commit(now) {
                Decision::Emit => {
                    held = None;
                    emissions.push((now - start, now - start));
                }
                Decision::Hold => held = Some(now - start),
            }
        }
        if let Some(deadline) = pacer.deadline() {
            assert!(pacer.poll(deadline));
            emissions.push((deadline - start, held.take().unwrap()));
        }
        assert_eq!(held, None, "the last commit must get out");
        emissions
    }

    fn waits(emissions: &[(Duration, Duration)]) -> Vec<Duration> {
        emissions.iter().map(|(emitted, committed)| *emitted - *committed).collect()
    }

    #[test]
    fn a_game_under_the_rate_never_waits() {
        let commits: Vec<_> = (0..200).map(|i| (i * 28_571, false)).collect();
        let emissions = play(&commits);
        assert_eq!(emissions.len(), 200);
        assert!(waits(&emissions).iter().all(Duration::is_zero));
    }

    #[test]
    fn jitter_at_the_rate_costs_no_wait() {
        let commits: Vec<_> = (0..200).map(|i| (i * 16_666 + (i * 7919) % 6000, false)).collect();
        let emissions = play(&commits);
        assert_eq!(emissions.len(), 200);
        assert!(waits(&emissions).iter().all(Duration::is_zero));
    }

    #[test]
    fn a_fast_game_is_capped_and_shows_its_latest() {
        let commits: Vec<_> = (0..1000).map(|i| (i * 3_000, false)).collect();
        let emissions = play(&commits);
        assert!((178..=183).contains(&emissions.len()), "{}", emissions.len());
        // All but the last, which has no successor.
        let waits = waits(&emissions);
        assert!(waits[..waits.len() - 1].iter().all(|wait| *wait <= ms(3)), "{waits:?}");
    }

    #[test]
    fn an_answer_goes_out_early() {
        // A game of 333 Hz; each 50th commit answers an input.
        let commits: Vec<_> = (0..1000).map(|i| (i * 3_000, i % 50 == 49)).collect();
        let emissions = play(&commits);
        assert!((178..=183).contains(&emissions.len()), "{}", emissions.len());
        let at: Vec<_> = emissions.iter().map(|(emitted, _)| *emitted).collect();
        for (i, _) in commits.iter().enumerate().filter(|(_, (_, input))| *input) {
            let commit = Duration::from_micros(commits[i].0);
            assert!(at.contains(&commit), "the answer at {commit:?} waited");
        }
    }

    #[test]
    fn a_burst_does_not_leave_later_frames_late() {
        // Three frames at once, then exactly the rate: the wait must not stay.
        let mut commits = vec![(0, false), (4_000, false), (8_000, false)];
        commits.extend((1..60).map(|i| (8_000 + i * 16_666, false)));
        let emissions = play(&commits);
        assert!(waits(&emissions)[30..].iter().all(|wait| *wait <= ms(2)), "{:?}", waits(&emissions));
    }

    #[test]
    fn one_picture_is_left_out_but_no_answer_and_not_the_last() {
        let start = Instant::now();
        let mut pacer = Pacer::new(INTERVAL, start);
        assert_eq!(pacer.commit(start), Decision::Emit);
        pacer.leave_one_out(start);
        pacer.input();
        assert_eq!(pacer.commit(start + INTERVAL), Decision::Emit, "an answer");
        pacer.leave_one_out(start + INTERVAL);
        assert_eq!(pacer.commit(start + INTERVAL * 2), Decision::Hold);
        let next = start + INTERVAL * 3 + ms(1);
        assert!(!pacer.poll(next), "its successor is not that late");
        assert_eq!(pacer.commit(next), Decision::Emit);
        assert_eq!(pacer.commit(next + INTERVAL), Decision::Emit, "only one");
        pacer.leave_one_out(next + INTERVAL);
        assert_eq!(pacer.commit(next + INTERVAL * 2), Decision::Hold);
        let due = pacer.deadline().unwrap();
        assert!(due <= next + INTERVAL * 4 && pacer.poll(due), "the last picture gets out");
        pacer.leave_one_out(due);
        assert_eq!(pacer.commit(due + INTERVAL * 9), Decision::Emit, "a game that hardly draws");
    }

    #[test]
    fn a_shift_moves_the_callbacks_little_by_little() {
        for shift in [10_000_i64, -10_000, 60_000] {
            let start = Instant::now();
            let mut pacer = Pacer::new(INTERVAL, start);
            let mut beats = Vec::new();
            for beat in 0..80 {
                if beat == 20 {
                    pacer.shift_callbacks(shift);
                }
                pacer.want_callback();
                let due = pacer.callback_deadline().unwrap();
                assert!(pacer.poll_callback(due));
                // The game answers each at once; none of its pictures waits.
                assert_eq!(pacer.commit(due), Decision::Emit, "{shift} {beat}");
                beats.push((due - start).as_micros() as i64);
            }
            let interval = INTERVAL.as_micros() as i64;
            let most = interval / i64::from(SHIFT) + 1;
            assert!(beats.windows(2).all(|pair| (pair[1] - pair[0] - interval).abs() <= most), "{shift}");
            let moved = beats[79] - beats[19] - 60 * interval;
            assert!((moved - shift.clamp(-interval, interval)).abs() <= 1, "{shift}: {moved}");
        }
    }

    #[test]
    fn callbacks_keep_the_beat_and_an_answer_takes_the_place_of_one() {
        let start = Instant::now();
        let mut pacer = Pacer::new(INTERVAL, start);
        let mut last = None;
        let mut now = start;
        for i in 0..100 {
            pacer.want_callback();
            now = pacer.callback_deadline().unwrap().max(now);
            assert!(pacer.poll_callback(now));
            if let Some(last) = last {
                assert_eq!(now - last, INTERVAL, "callback {i}");
            }
            last = Some(now);
            now += ms(2);
            assert_eq!(pacer.callback_deadline(), None);
        }
        pacer.want_callback();
        pacer.input();
        assert!(pacer.callback_deadline().unwrap() <= now, "an input must not wait for the tick");
        assert!(pacer.poll_callback(now));
        for beat in 2..20 {
            pacer.want_callback();
            now = pacer.callback_deadline().unwrap();
            assert!(pacer.poll_callback(now));
            assert_eq!(
                now,
                last.unwrap() + INTERVAL * beat,
                "the answer took the place of the next beat, and no other moved"
            );
        }
    }

    #[test]
    fn continuous_input_does_not_raise_the_callback_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(INTERVAL, start);
        let mut sent = 0;
        for millisecond in 0..2000 {
            let now = start + ms(millisecond);
            pacer.input();
            pacer.want_callback();
            sent += u32::from(pacer.poll_callback(now));
        }
        assert!((118..=123).contains(&sent), "{sent}");
    }

    #[test]
    fn a_waiting_client_is_moved_until_it_does_not_wait() {
        // The client draws 2 ms after each callback, starting out of phase with emission.
        let start = Instant::now();
        let mut pacer = Pacer::new(INTERVAL, start);
        for burst in 0..3 {
            let _ = pacer.commit(start + ms(burst));
        }
        let mut now = start + ms(3);
        let mut wait = Duration::ZERO;
        for _ in 0..60 {
            pacer.want_callback();
            now = pacer.callback_deadline().unwrap().max(now);
            assert!(pacer.poll_callback(now));
            let committed = now + ms(2);
            if let Some(deadline) = pacer.deadline().filter(|deadline| *deadline <= committed) {
                assert!(pacer.poll(deadline));
            }
            wait = Duration::ZERO;
            if pacer.commit(committed) == Decision::Hold {
                let deadline = pacer.deadline().unwrap();
                wait = deadline - committed;
                assert!(pacer.poll(deadline));
                now = deadline;
            } else {
                now = committed;
            }
        }
        assert!(wait < ms(1), "{wait:?}");
    }

    proptest! {
        #[test]
        fn the_average_is_capped_and_nothing_is_lost(
            gaps in prop::collection::vec((1u64..40_000, any::<bool>()), 1..400),
        ) {
            let mut offset = 0;
            let commits: Vec<_> = gaps.iter().map(|(gap, input)| { offset += gap; (offset, *input) }).collect();
            let emissions = play(&commits);
            let last = Duration::from_micros(commits.last().unwrap().0);
            prop_assert_eq!(emissions.last().unwrap().1, last, "the last commit is shown");
            for pair in emissions.windows(2) {
                prop_assert!(pair[0].1 < pair[1].1, "commits are shown in order, once");
            }
            for first in 0..emissions.len() {
                for end in first..emissions.len() {
                    let span = emissions[end].0 - emissions[first].0;
                    let count = (end - first) as u32;
                    prop_assert!(INTERVAL * count <= span + INTERVAL * 3 / 2 + INTERVAL, "{} in {:?}", count + 1, span);
                }
            }
            for (emitted, committed) in emissions {
                prop_assert!(emitted - committed <= INTERVAL * 3, "waited {:?}", emitted - committed);
            }
        }
    }
}
