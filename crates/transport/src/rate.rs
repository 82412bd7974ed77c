//! From what is known of the path to what the encoder shall produce. Pure: reports and times in, orders out.
//!
//! The engine estimates the path from transport-wide feedback (Google congestion control with probing). That estimate finds the
//! path's width and shuns loss, but it reacts to the *growth* of delay: measured behind a 2 Mbit/s bottleneck it lets frames wait
//! 100 to 300 ms for seconds. A game needs the *standing* delay to be small, so a ceiling of our own lies over the estimate:
//!
//! ```text
//!                standing delay above HIGH, or sudden loss
//!   no ceiling  ------------------------------------>  ceiling = a share of what is delivered, less the longer the queue
//!       ^                                                  |                    ^
//!       |                                                  | below LOW          | above HIGH again
//!       |       the ceiling has passed the highest rate    v                    |
//!       +---------------------------------------------  rises: at once to 95 % of the width, then slowly, then faster
//! ```
//!
//! Next to the rate there is a window on bytes under way ([`RateControl::takes_frame`]): when the path becomes narrower, what the encoder
//! made for the wide path is skipped before it is encoded, instead of standing in the path's queue.
//!
//! Sources: draft-ietf-rmcat-gcc-02 (the engine), RFC 8298 (the window on bytes under way).

use std::time::{Duration, Instant};

use media::Bitrate;

pub use crate::feedback::PathReport;
use crate::settings::BitrateLimits;

/// Standing delay that counts as a queue of ours. Lower takes the jitter of radio links for queues and starves the stream, higher is
/// felt by the player.
const HIGH: Duration = Duration::from_millis(25);

/// Standing delay below which the path counts as empty.
const LOW: Duration = Duration::from_millis(12);

/// How long a delay above [`HIGH`] has to last. Shorter reacts to one stall of a radio link or of a busy machine, longer lets a queue
/// grow.
const PERSIST: Duration = Duration::from_millis(120);

/// The same while much less is sent than the path is believed to take: such a stream rarely makes a queue, and what is delivered of it
/// says little of the path.
const PERSIST_IDLE: Duration = Duration::from_millis(450);

/// A delay that needs to last for [`PERSIST_SURE`] only.
const SURE: Duration = Duration::from_millis(100);
/// One more report.
const PERSIST_SURE: Duration = Duration::from_millis(40);

/// Time without a queue after which the path counts as calm.
const CALM: Duration = Duration::from_secs(1);

/// Shortest time between two restarts of the engine: each begins with probes.
const RESTART_INTERVAL: Duration = Duration::from_millis(1500);

/// Share of the path's believed rate below which a stream is limited by its picture, not by the path.
const IDLE: f64 = 0.6;

/// Share of loss, over what is usual on this path, that means a queue too short to be seen as delay. Lower would take radio loss for
/// it, higher lets a policed path throw away half of everything.
const SUDDEN_LOSS: f64 = 0.12;

/// Share of loss above which a path is not settled after a queue. Radio paths lose a few percent all the time.
const SOME_LOSS: f64 = 0.06;

/// Time without queue and loss after which the engine is told the known width again. Until then what it repairs is paced by its own, much
/// too low estimate: longer is a freeze, shorter tells it before the last reports of the loss came.
const SETTLED: Duration = Duration::from_millis(300);

/// Packets that a share of loss is taken from. Fewer is chance, more is late.
const LOSS_PACKETS: u32 = 40;

/// Shortest time between two lowerings beside the round trip: the effect of one has to be seen before the next.
const LOWER_INTERVAL: Duration = Duration::from_millis(150);

/// Time for which a width that was seen is remembered at the next queue.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Rises of the ceiling per second: near the known width, above it, far above it. Faster overshoots by more than the queue
/// that [`HIGH`] allows before a report can tell.
const RISE_NEAR: f64 = 0.03;
const RISE_ABOVE: f64 = 0.10;
const RISE_FAR: f64 = 0.30;

/// Rise of the target per second without a ceiling. A probe can be wrong by the burstiness of a radio link.
const RISE_FREE: f64 = 0.35;

/// Share of the estimate that is used: the rest is for what the encoder makes too much.
const USE_OF_ESTIMATE: f64 = 0.92;

/// RTP headers' share of video packets.
const HEADERS: f64 = 0.05;

/// Sound on the wire: 128 kbit/s Opus and 100 headers a second.
const AUDIO: Bitrate = Bitrate::from_kbps(160);

/// Queue that the window on bytes under way tolerates, beside the round trip and the wait of reports. Less skips frames whenever one is
/// large, more lets a narrowed path delay what is shown.
const WINDOW_QUEUE: Duration = Duration::from_millis(60);

/// Bytes that may always be under way: a large frame on a slow path must not lock itself out.
const WINDOW_MIN: f64 = 15_000.0;

/// Bytes that may be under way before the first report. A first key frame fits, so that the picture comes at once; what follows it
/// waits a round trip, because it could fill the queue of a path that nothing is known of.
const WINDOW_FIRST: f64 = 40_000.0;

/// Usual longest wait of feedback at the player: browsers report every 50 ms, later when they are busy.
const REPORT_WAIT: Duration = Duration::from_millis(100);

/// Changes below this share are not told to the encoder when they go up: each costs it a reconfiguration.
const TELL_RISE: f64 = 0.03;
/// The same downwards.
const TELL_FALL: f64 = 0.01;
/// Shortest time between two rises that are told.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

/// Time that media has to flow before the engine may probe for more than the start rate, and before a quiet stream counts as limited by
/// its picture. Probes at the beginning would fill a narrow path before the first picture.
const PROVE_START: Duration = Duration::from_millis(700);

/// How many times the highest rate the engine looks for. It paces bursts by what it found: at twice and a half a frame of five times the usual
/// size still leaves at once on a path that is wide enough. More makes the probes themselves felt on narrower paths.
const BURST_ROOM: f64 = 2.5;

/// Time after a queue in which probes stay small.
const PROBE_RESPITE: Duration = Duration::from_secs(4);

/// An order to the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EngineOrder {
    /// The rate that is wanted; probes go up to twice of it.
    Desired(Bitrate),
    /// The estimate has nothing to do with the path: start again from here.
    Restart(Bitrate),
}

/// A ceiling over the estimate.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    rate: f64,
    /// Width of the path as it was delivered while a queue stood.
    width: f64,
    lowered: Instant,
    /// When a queue was last seen.
    queue_seen: Instant,
    /// True until the engine has been told the width: while a queue drains, its estimate wanders.
    engine_astray: bool,
}

/// See the module.
#[derive(Debug)]
pub struct RateControl {
    limits: BitrateLimits,
    audio: bool,
    /// Bits per second, as all `f64` here.
    estimate: f64,
    ceiling: Option<Ceiling>,
    above_high_since: Option<Instant>,
    /// Most that was delivered lately; halves in a second.
    delivered: f64,
    /// Share of loss, usual over some seconds.
    loss: f64,
    /// When loss was last more than [`SOME_LOSS`].
    lossy: Option<Instant>,
    /// Packets and lost ones since loss was last judged.
    recent: (u32, u32),
    target: f64,
    told: Option<(f64, Instant)>,
    last_step: Instant,
    /// When media began to flow.
    flowing_since: Option<Instant>,
    report: Option<(Instant, PathReport)>,
    /// Smallest round trip as reports show it.
    round_trip: Duration,
    ordered: Option<f64>,
    restart: Option<f64>,
    restarted: Option<Instant>,
}

impl RateControl {
    /// Starts at `limits.start`.
    #[must_use]
    pub fn new(limits: BitrateLimits, audio: bool, now: Instant) -> RateControl {
        let start = limits.start.bps() as f64;
        let mut control = RateControl {
            limits,
            audio,
            estimate: 0.0,
            ceiling: None,
            above_high_since: None,
            delivered: 0.0,
            loss: 0.0,
            lossy: None,
            recent: (0, 0),
            target: start,
            told: None,
            last_step: now,
            flowing_since: None,
            report: None,
            round_trip: Duration::from_millis(100),
            ordered: None,
            restart: None,
            restarted: None,
        };
        control.estimate = control.path_rate_for(start);
        control
    }

    /// The estimate that the engine has to start with, so that the first target is the start rate.
    #[must_use]
    pub fn initial_estimate(&self) -> Bitrate {
        bitrate(self.path_rate_for(self.limits.start.bps() as f64))
    }

    /// New limits.
    pub fn set_limits(&mut self, limits: BitrateLimits) {
        self.limits = limits;
        self.ordered = None;
    }

    /// The engine has an estimate. Its falls are believed when the stream was near it, or something else speaks for them: to a stream that
    /// its picture limits, the engine's detector takes any hiccup for a narrow path, and has no way up again.
    pub fn estimate(&mut self, estimate: Bitrate, now: Instant) {
        self.step(now);
        let estimate = estimate.bps() as f64;
        let proven = 0.85 * self.delivered / USE_OF_ESTIMATE;
        if estimate < 0.6 * proven && self.may_restart(now) {
            // A burst of loss throws the engine's estimate far below what arrived all the same.
            self.restart = Some(proven);
            self.estimate = proven;
        } else if estimate >= self.estimate || !self.is_idle(now) || !self.is_calm(now) {
            self.estimate = estimate;
        } else if estimate < 0.8 * self.estimate && self.may_restart(now) {
            self.restart = Some(self.estimate);
        }
        self.target = self.target.min(self.allowed());
    }

    fn is_idle(&self, now: Instant) -> bool {
        let usable = self.path_rate().min(self.highest());
        let little = |report: PathReport| (report.sent.bps() as f64) < IDLE * usable;
        self.is_proven(now) && self.report.is_some_and(|(_, report)| little(report))
    }

    /// Path rate that the highest target needs.
    fn highest(&self) -> f64 {
        self.path_rate_for(self.limits.max.bps() as f64)
    }

    fn is_proven(&self, now: Instant) -> bool {
        self.flowing_since.is_some_and(|since| now.saturating_duration_since(since) >= PROVE_START)
    }

    fn is_calm(&self, now: Instant) -> bool {
        let queue = self.ceiling.is_some_and(|ceiling| now.saturating_duration_since(ceiling.queue_seen) < CALM);
        let standing = self.report.is_some_and(|(_, report)| report.standing > HIGH);
        !queue && !standing && self.loss < 0.02
    }

    fn may_restart(&mut self, now: Instant) -> bool {
        let may = self.restarted.is_none_or(|at| now.saturating_duration_since(at) >= RESTART_INTERVAL);
        if may {
            self.restarted = Some(now);
        }
        may
    }

    /// The first frame was sent.
    pub fn video_began(&mut self, now: Instant) {
        self.flowing_since.get_or_insert(now);
    }

    /// The player reported.
    pub fn report(&mut self, report: &PathReport, now: Instant) {
        self.step(now);
        if let Some(round_trip) = report.round_trip {
            let known = self.report.is_some();
            self.round_trip = if known { self.round_trip.min(round_trip) } else { round_trip };
        }
        self.delivered = self.delivered.max(report.delivered.bps() as f64);
        self.report = Some((now, *report));
        self.judge_queue(report, now);
        self.target = self.target.min(self.allowed());
    }

    fn judge_queue(&mut self, report: &PathReport, now: Instant) {
        let sudden_loss = self.judge_loss(report, now);
        if report.standing <= HIGH {
            self.above_high_since = None;
        } else {
            let since = *self.above_high_since.get_or_insert(now);
            if let Some(ceiling) = &mut self.ceiling {
                ceiling.queue_seen = now;
            }
            let persist = match (self.is_idle(now), report.standing >= SURE) {
                (true, _) => PERSIST_IDLE,
                (false, true) => PERSIST_SURE,
                (false, false) => PERSIST,
            };
            if now.saturating_duration_since(since) >= persist {
                // Of what is delivered while a queue stands 90 %, and less so that the queue is gone within about a second.
                self.lower(report, 0.9 - report.standing.as_secs_f64().min(0.4), now);
                return;
            }
        }
        if sudden_loss {
            self.lower(report, 0.85, now);
        }
    }

    fn judge_loss(&mut self, report: &PathReport, now: Instant) -> bool {
        self.recent.0 += report.packets;
        self.recent.1 = (self.recent.1 + report.lost).saturating_sub(report.late);
        if self.recent.0 < LOSS_PACKETS {
            return false;
        }
        let share = f64::from(self.recent.1) / f64::from(self.recent.0);
        self.recent = (0, 0);
        if share > SOME_LOSS {
            self.lossy = Some(now);
        }
        let sudden = share > SUDDEN_LOSS + 2.0 * self.loss;
        self.loss += (share - self.loss) * 0.1;
        sudden
    }

    fn lower(&mut self, report: &PathReport, share: f64, now: Instant) {
        let again = self.round_trip + LOWER_INTERVAL;
        if self.ceiling.is_some_and(|ceiling| now.saturating_duration_since(ceiling.lowered) < again) {
            return;
        }
        let mut width = report.delivered.bps() as f64;
        if let Some(ceiling) = self.ceiling.filter(|last| now.saturating_duration_since(last.lowered) < REMEMBERED) {
            // Little may be delivered because little was sent, or because of one stall: that says nothing of the width.
            // If it is the width, the next lowerings find it.
            width = width.max(0.85 * ceiling.width);
        }
        let lowered = self.ceiling.map_or(f64::INFINITY, |ceiling| ceiling.rate).min(width * share);
        let rate = lowered.max(self.floor());
        let engine_astray = true;
        self.ceiling = Some(Ceiling { rate, width: width.max(rate), lowered: now, queue_seen: now, engine_astray });
    }

    /// The path rate that the lowest target needs.
    fn floor(&self) -> f64 {
        self.path_rate_for(self.limits.min.bps() as f64) * USE_OF_ESTIMATE
    }

    /// Estimate that a target needs.
    fn path_rate_for(&self, target: f64) -> f64 {
        ((target + self.audio_rate()) / (1.0 - HEADERS - self.loss.min(0.2))) / USE_OF_ESTIMATE
    }

    fn audio_rate(&self) -> f64 {
        if self.audio { AUDIO.bps() as f64 } else { 0.0 }
    }

    /// What the path takes, everything together.
    fn path_rate(&self) -> f64 {
        let ceiling = self.ceiling.map_or(f64::INFINITY, |ceiling| ceiling.rate);
        (self.estimate * USE_OF_ESTIMATE).min(ceiling)
    }

    /// What is left of it for the encoder, within the limits.
    fn allowed(&self) -> f64 {
        let rate = self.path_rate() * (1.0 - HEADERS - self.loss.min(0.2)) - self.audio_rate();
        rate.clamp(self.limits.min.bps() as f64, self.limits.max.bps() as f64)
    }

    /// Moves on to `now` what rises with time.
    fn step(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.last_step).as_secs_f64().min(0.25);
        self.last_step = now;
        self.delivered *= 0.5f64.powf(elapsed);
        self.raise_ceiling(elapsed, now);
        let allowed = self.allowed();
        // A ceiling rises by its own rules.
        let rise = if self.ceiling.is_some() { f64::INFINITY } else { self.target * (1.0 + RISE_FREE * elapsed) };
        self.target = allowed.min(rise);
    }

    fn raise_ceiling(&mut self, elapsed: f64, now: Instant) {
        let highest = self.highest();
        let Some((reported, report)) = self.report else { return };
        let Some(ceiling) = &mut self.ceiling else { return };
        // Nothing is known of the queue without reports, nothing of the ceiling without traffic near it.
        let fresh = now.saturating_duration_since(reported) < Duration::from_millis(500);
        let used = report.delivered.bps() as f64 > IDLE * ceiling.rate;
        let calm = now.saturating_duration_since(ceiling.queue_seen);
        if !fresh || report.standing > LOW || calm < Duration::from_millis(200) {
            return;
        }
        let drained = 0.95 * ceiling.width;
        // While a queue drained, or by a hiccup after, the engine's estimate may have gone astray of what is known.
        let known = ceiling.width / USE_OF_ESTIMATE;
        let lossless = self.lossy.is_none_or(|at| now.saturating_duration_since(at) >= SETTLED);
        let low = calm >= SETTLED && lossless && self.estimate < 0.8 * known;
        let astray = std::mem::take(&mut ceiling.engine_astray) && !(0.8 * known..1.3 * known).contains(&self.estimate);
        let rested = self.restarted.is_none_or(|at| now.saturating_duration_since(at) >= RESTART_INTERVAL);
        if astray || (low && rested) {
            self.restarted = Some(now);
            self.restart = Some(known);
            self.estimate = known;
        }
        if ceiling.rate < drained {
            ceiling.rate = drained.min(ceiling.rate + ceiling.width * elapsed);
        } else if used {
            let rise = if ceiling.rate < 1.1 * ceiling.width {
                RISE_NEAR
            } else if ceiling.rate < 1.5 * ceiling.width {
                RISE_ABOVE
            } else {
                RISE_FAR
            };
            ceiling.rate *= 1.0 + rise * elapsed;
        } else if calm > PROBE_RESPITE {
            // A quiet screen shows nothing of the path; the engine's probes do.
            let probed = self.estimate * USE_OF_ESTIMATE;
            if probed > ceiling.rate {
                ceiling.rate = probed.min(ceiling.rate * (1.0 + RISE_FREE * elapsed));
            }
        }
        if ceiling.rate > highest {
            self.ceiling = None;
        }
    }

    /// What the encoder shall produce.
    #[must_use]
    pub fn target(&self) -> Bitrate {
        bitrate(self.target)
    }

    /// A change of the target that is worth telling the encoder.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        self.step(now);
        let worth = match self.told {
            None => true,
            Some((told, at)) => {
                let change = self.target / told - 1.0;
                let top = self.target >= self.limits.max.bps() as f64 && change > 0.0;
                let rested = now.saturating_duration_since(at) >= TELL_INTERVAL;
                change < -TELL_FALL || (rested && (change > TELL_RISE || top))
            }
        };
        if !worth {
            return None;
        }
        self.told = Some((self.target, now));
        Some(self.target())
    }

    /// What the engine has to be told now.
    pub fn engine(&mut self, now: Instant) -> Option<EngineOrder> {
        if let Some(rate) = self.restart.take() {
            return Some(EngineOrder::Restart(bitrate(rate)));
        }
        let desired = self.desired(now);
        let changed = self.ordered.is_none_or(|ordered| (desired / ordered - 1.0).abs() > 0.1);
        if desired <= 0.0 || !changed {
            return None;
        }
        self.ordered = Some(desired);
        Some(EngineOrder::Desired(bitrate(desired)))
    }

    /// The engine probes up to twice of this.
    fn desired(&self, now: Instant) -> f64 {
        let highest = self.highest() * BURST_ROOM / 2.0;
        match &self.ceiling {
            None if self.is_proven(now) => highest,
            // The engine takes no zero for an answer before its first probes, and makes none then.
            None => 0.0,
            Some(ceiling) if now.saturating_duration_since(ceiling.queue_seen) < PROBE_RESPITE => {
                (ceiling.rate * 0.6).min(highest)
            }
            Some(ceiling) => ceiling.rate.min(highest),
        }
    }

    /// False when the next frame should be skipped before it is encoded: `under_way` bytes without feedback are more than the path
    /// delivers in a round trip and a tolerable queue.
    #[must_use]
    pub fn takes_frame(&self, under_way: usize, now: Instant) -> bool {
        let Some((reported, report)) = &self.report else { return (under_way as f64) < WINDOW_FIRST };
        let queue = report.standing > HIGH;
        let silent = now.saturating_duration_since(*reported) > Duration::from_millis(400);
        // In the beginning only what was delivered is known to be possible.
        let width = if (queue || !self.is_proven(now)) && !silent {
            report.delivered.bps() as f64
        } else {
            self.path_rate().max(report.delivered.bps() as f64)
        };
        let span = self.round_trip + REPORT_WAIT + WINDOW_QUEUE;
        let least = if self.is_proven(now) { WINDOW_MIN } else { WINDOW_FIRST };
        (under_way as f64) < (width / 8.0 * span.as_secs_f64()).max(least)
    }

    /// When [`Self::poll`] and [`Self::engine`] should be called next, at the latest.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        Some(now + TELL_INTERVAL)
    }
}

fn bitrate(bits_per_second: f64) -> Bitrate {
    Bitrate::from_bps(bits_per_second as u64)
}
