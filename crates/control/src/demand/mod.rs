//! What sessions take of nodes: learnt of each release and spec from what nodes measure, so that no node is sold more than it has.
//!
//! [`Book`] is pure and knows how is learnt; this file is its lock, and the first guess of what nobody has measured. It is kept in the
//! database (`store/demand.rs`), so that a control plane that starts again need not learn anew.
//! Deliberately absent: the encoder. What a session takes of it is what was ordered, size times rate: it is known before the first start, and what an
//! encoder that is asked for too much really does is less, so that measuring it would sell it further.

mod book;

use std::sync::{Mutex, MutexGuard, PoisonError};

use api::clock::UtcTime;
use api::id::SessionId;
use api::manifest::{AppName, Limits};
use api::node::InstanceUsage;
use api::spec::StreamSpec;

use self::book::Book;
pub(crate) use self::book::{Due, Learned};

/// What is asked for is rounded up to steps of so much: so that sessions that are alike ask alike, and no estimate is written for nothing. Coarser
/// wastes more of a node, finer makes more kinds of sessions wait beside one another.
const STEP: Demand = Demand { cpu_milli: 50, memory_mib: 32, egress_kbps: 250 };

/// What a session takes of a node, besides a place and the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Thousandths of a processor.
    pub(crate) cpu_milli: u32,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// Kilobits a second to the player.
    pub(crate) egress_kbps: u32,
}

impl Demand {
    fn zip(self, other: Self, join: impl Fn(u32, u32) -> u32) -> Self {
        Self {
            cpu_milli: join(self.cpu_milli, other.cpu_milli),
            memory_mib: join(self.memory_mib, other.memory_mib),
            egress_kbps: join(self.egress_kbps, other.egress_kbps),
        }
    }

    /// The larger one of each.
    pub(crate) fn most(self, other: Self) -> Self {
        self.zip(other, u32::max)
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        self.zip(other, u32::saturating_add)
    }

    /// In whole steps, never less.
    pub(crate) fn rounded(self) -> Self {
        self.zip(STEP, |amount, step| amount.checked_next_multiple_of(step).unwrap_or(amount))
    }

    /// True when any of it is more than an eighth above the other one's: less is not worth a write.
    fn clearly_exceeds(self, other: Self) -> bool {
        let clearly = |amount: u32, other: u32| amount > other.saturating_add(other / 8);
        clearly(self.cpu_milli, other.cpu_milli)
            || clearly(self.memory_mib, other.memory_mib)
            || clearly(self.egress_kbps, other.egress_kbps)
    }

    /// What goes with pixels, of another number of them; memory hardly does.
    fn scaled(self, from: u64, to: u64) -> Self {
        let scale = |amount: u32| {
            let scaled = u128::from(amount) * u128::from(to) / u128::from(from.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        Self { cpu_milli: scale(self.cpu_milli), memory_mib: self.memory_mib, egress_kbps: scale(self.egress_kbps) }
    }
}

impl From<&InstanceUsage> for Demand {
    fn from(usage: &InstanceUsage) -> Self {
        let InstanceUsage { sample: _, cpu_milli, memory_mib, egress_kbps, is_starved: _ } = *usage;
        Self { cpu_milli, memory_mib, egress_kbps }
    }
}

/// The first guess, before anything of the app was measured. A manifest's limits are what a game never exceeds, and many times what most take:
/// a quarter of the processors is what the demo titles stay below, and too little of them only slows; of memory half, because who has too little of it
/// is killed. Beside the game there is its streamer, which encodes in software where nobody says otherwise.
pub(crate) fn guess(limits: &Limits, spec: StreamSpec) -> Demand {
    /// Of a processor for a million pixels a second: two thirds of one encode 720p60, as was measured.
    const ENCODING_MILLI: u64 = 12;
    /// A streamer at 1080p with its display and sound.
    const STREAMER_MIB: u32 = 160;
    /// A good picture takes 0.15 bits a pixel: 8 Mbit/s at 720p60, 19 at 1080p60.
    const BITS_OF_PIXELS: (u64, u64) = (3, 20);

    let pixels = spec.pixels_per_second();
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a manifest's processors are 0.1 to 256"
    )]
    let cpus_milli = (limits.cpus * 1000.0) as u32;
    let guess = Demand {
        cpu_milli: (cpus_milli / 4).saturating_add(small(pixels * ENCODING_MILLI / 1_000_000)),
        memory_mib: (limits.memory_mb / 2).saturating_add(STREAMER_MIB),
        egress_kbps: small(pixels * BITS_OF_PIXELS.0 / BITS_OF_PIXELS.1 / 1000),
    };
    guess.rounded()
}

/// Of what something is learnt: a release, or the directory of an app, at a size and rate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) app: AppName,
    /// `None` for a directory.
    pub(crate) release: Option<u32>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames_per_second: u16,
}

impl Key {
    pub(crate) fn new(app: &AppName, release: Option<u32>, spec: StreamSpec) -> Self {
        let StreamSpec { width, height, frames_per_second } = spec;
        Self { app: app.clone(), release, width, height, frames_per_second }
    }

    pub(crate) fn spec(&self) -> StreamSpec {
        StreamSpec { width: self.width, height: self.height, frames_per_second: self.frames_per_second }
    }
}

/// What is asked for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) demand: Demand,
    /// It was measured for long enough. What is not known is no reason to refuse a session for good.
    pub(crate) is_known: bool,
}

/// The book, for whoever measures and whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Demands(Mutex<Book>);

impl Demands {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // No code between lock and unlock can panic halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what was learnt before this process.
    pub(crate) fn load(&self, learned: Vec<(Key, Learned)>) {
        self.lock().load(learned);
    }

    /// A session's instance of this epoch was measured; what is known by now counts once.
    pub(crate) fn measured(&self, session: SessionId, epoch: u32, key: &Key, usage: &InstanceUsage, now: UtcTime) {
        self.lock().measured(session, epoch, key, usage, now);
    }

    /// What a session takes, when that is clearly more than it was placed with.
    pub(crate) fn grown(&self, session: SessionId, placed: Demand) -> Option<Demand> {
        self.lock().grown(session, placed)
    }

    /// A session has ended.
    pub(crate) fn ended(&self, session: SessionId) {
        self.lock().ended(session);
    }

    /// All that live no more have ended.
    pub(crate) fn retain(&self, lives: impl Fn(SessionId) -> bool) {
        self.lock().retain(lives);
    }

    /// What to ask for a session of this kind.
    pub(crate) fn asked(&self, key: &Key, guess: impl FnOnce() -> Demand) -> Asked {
        self.lock().asked(key, guess)
    }

    /// Another number as soon as anything would be answered otherwise than before.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version()
    }

    /// All that is learnt.
    pub(crate) fn all(&self) -> Vec<(Key, Learned)> {
        self.lock().all()
    }

    /// Forgets what was learnt of an app, and says of how many kinds of sessions.
    pub(crate) fn forget(&self, app: &AppName) -> usize {
        self.lock().forget(app)
    }

    /// What the database does not have yet, the most that one transaction writes.
    pub(crate) fn due(&self) -> Due {
        self.lock().due()
    }

    /// The database has it.
    pub(crate) fn written(&self, due: &Due) {
        self.lock().written(due);
    }
}

#[cfg(test)]
mod tests;
