//! How is learnt what a kind of session takes.
//!
//! - **Up at once.** What a session took of processor and network for two measurements in a row, ten seconds, counts from that moment on, as does
//!   each measurement of its memory: the next session of the kind is placed with it. One busy moment alone does not count; memory does not shrink
//!   when it is wanted elsewhere, so there each moment is one.
//! - **Down slowly.** A session that took less lowers the estimate by an eighth of the difference, when it ends. So what one session needed and no
//!   other is forgotten by half after five, and what one in ten needs stays. Faster would sell nodes by their quiet evenings, slower would keep
//!   the price of a fault that was mended.
//! - **Never down for want.** A session that was starved most of the time, because the machine or the player's way had nothing left, would have
//!   taken more: it lowers nothing. Otherwise a node that is sold too often would make its sessions look cheap, and be sold more often.
//!
//! Deliberately absent: clocks, the database, averages (what is average is exceeded half of the time).

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use api::manifest::AppName;
use api::node::InstanceUsage;

use super::{Asked, Demand, Key};

/// A minute of measurements. Before that the estimate is only ever above the guess, and after it a session lowers the estimate: what is
/// measured first is a title's menu.
pub(super) const SETTLED: u32 = 12;

/// A session that took less lowers the estimate by such a part of the difference.
const DECAY: u32 = 8;

/// Kinds of sessions that are remembered. Apps have few specs that are played, but players may ask for any: the one that was not measured for
/// longest goes. A kind takes 200 bytes.
pub(super) const MOST_KINDS: usize = 4096;

/// Sessions after which a kind is written although its estimate stays.
const SESSIONS_A_WRITE: u32 = 16;

/// Kinds that are written in one transaction.
const MOST_AT_ONCE: usize = 100;

/// What is known of a kind of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// The estimate.
    pub(crate) demand: Demand,
    /// Measurements of which it is made.
    pub(crate) samples: u32,
    /// Sessions that were measured from their first minute to their end.
    pub(crate) sessions: u32,
    pub(crate) measured_at: UtcTime,
}

impl Learned {
    pub(crate) fn is_settled(&self) -> bool {
        self.samples >= SETTLED
    }
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    learned: Learned,
    /// As the database has it.
    written: Option<Learned>,
}

impl Kind {
    fn is_due(&self) -> bool {
        let (new, Some(old)) = (&self.learned, &self.written) else { return true };
        new.demand.clearly_exceeds(old.demand)
            || new.sessions != old.sessions && new.demand.rounded() != old.demand.rounded()
            || new.sessions.abs_diff(old.sessions) >= SESSIONS_A_WRITE
            || new.is_settled() != old.is_settled()
    }
}

/// What was measured of one session.
#[derive(Clone, Debug)]
struct Seen {
    key: Key,
    epoch: u32,
    sample: u32,
    before: Option<Demand>,
    high: Demand,
    /// Measurements while it was not starved, and while it was.
    free: u32,
    starved: u32,
}

impl Seen {
    /// Takes a measurement; `None` when it is known, else whether it is the first of the instance.
    fn take(&mut self, epoch: u32, usage: &InstanceUsage) -> Option<bool> {
        if epoch != self.epoch {
            (self.epoch, self.sample, self.before) = (epoch, 0, None);
        }
        if usage.sample <= self.sample {
            return None;
        }
        self.sample = usage.sample;
        let now = Demand::from(usage);
        let before = self.before.replace(now);
        let lasting = before.map_or(Demand::default(), |before| before.zip(now, u32::min));
        self.high = self.high.most(Demand { memory_mib: now.memory_mib, ..lasting });
        let count = if usage.is_starved { &mut self.starved } else { &mut self.free };
        *count = count.saturating_add(1);
        Some(before.is_none())
    }
}

/// What the database does not have yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Due {
    pub(crate) write: Vec<(Key, Learned)>,
    pub(crate) remove: Vec<Key>,
}

impl Due {
    pub(crate) fn is_empty(&self) -> bool {
        self.write.is_empty() && self.remove.is_empty()
    }
}

/// All that is learnt, and what of the sessions that live is on its way there.
#[derive(Debug, Default)]
pub(super) struct Book {
    kinds: BTreeMap<Key, Kind>,
    /// One a session that lives.
    seen: BTreeMap<SessionId, Seen>,
    /// The database has them and they are no kinds any more.
    gone: Vec<Key>,
    version: u64,
}

impl Book {
    pub(super) fn load(&mut self, learned: Vec<(Key, Learned)>) {
        self.kinds = learned.into_iter().map(|(key, one)| (key, Kind { learned: one, written: Some(one) })).collect();
        while self.kinds.len() > MOST_KINDS {
            self.forget_oldest();
        }
        self.version += 1;
    }

    pub(super) fn measured(&mut self, session: SessionId, epoch: u32, key: &Key, usage: &InstanceUsage, now: UtcTime) {
        let seen = self.seen.entry(session).or_insert_with(|| Seen {
            key: key.clone(),
            epoch,
            sample: 0,
            before: None,
            high: Demand::default(),
            free: 0,
            starved: 0,
        });
        // A first measurement alone says nothing that lasts.
        if seen.take(epoch, usage) != Some(false) {
            return;
        }
        let high = seen.high;
        if !self.kinds.contains_key(key) && self.kinds.len() >= MOST_KINDS {
            self.forget_oldest();
        }
        let nothing = Learned { demand: Demand::default(), samples: 1, sessions: 0, measured_at: now };
        let kind = self.kinds.entry(key.clone()).or_insert(Kind { learned: nothing, written: None });
        let before = kind.learned;
        let learned = &mut kind.learned;
        learned.demand = learned.demand.most(high);
        learned.samples = learned.samples.saturating_add(1);
        learned.measured_at = now;
        if is_otherwise(&before, learned) {
            self.version += 1;
        }
    }

    pub(super) fn grown(&self, session: SessionId, placed: Demand) -> Option<Demand> {
        let high = self.seen.get(&session)?.high.rounded();
        high.clearly_exceeds(placed).then(|| placed.most(high))
    }

    pub(super) fn ended(&mut self, session: SessionId) {
        let Some(seen) = self.seen.remove(&session) else { return };
        if seen.free < SETTLED || seen.free < seen.starved {
            return;
        }
        let Some(kind) = self.kinds.get_mut(&seen.key) else { return };
        let before = kind.learned;
        let lower = |estimate: u32, high: u32| estimate - estimate.saturating_sub(high).div_ceil(DECAY);
        kind.learned.demand = before.demand.zip(seen.high, lower);
        kind.learned.sessions = before.sessions.saturating_add(1);
        if is_otherwise(&before, &kind.learned) {
            self.version += 1;
        }
    }

    /// Those that live no more have ended.
    pub(super) fn retain(&mut self, lives: impl Fn(SessionId) -> bool) {
        let gone: Vec<SessionId> = self.seen.keys().copied().filter(|id| !lives(*id)).collect();
        for id in gone {
            self.ended(id);
        }
    }

    /// The estimate, once it is settled. Before: the nearest that is known of the app, or a guess, and never less than what was measured so far.
    pub(super) fn asked(&self, key: &Key, guess: impl FnOnce() -> Demand) -> Asked {
        let own = self.kinds.get(key).map(|kind| kind.learned);
        if let Some(own) = own.filter(Learned::is_settled) {
            return Asked { demand: own.demand.rounded(), is_known: true };
        }
        let demand = self.related(key).unwrap_or_else(guess);
        let demand = own.map_or(demand, |own| demand.most(own.demand)).rounded();
        Asked { demand, is_known: false }
    }

    /// Of the same release at another spec, the next one above or else the nearest below; or of another release of the app at the same spec, the
    /// newest.
    fn related(&self, key: &Key) -> Option<Demand> {
        let first = Key { release: None, width: 0, height: 0, frames_per_second: 0, app: key.app.clone() };
        let of_app = || {
            let all = self.kinds.range(first.clone()..).take_while(|(other, _)| other.app == key.app);
            all.filter(|(_, kind)| kind.learned.is_settled()).map(|(other, kind)| (other, kind.learned.demand))
        };
        let pixels = key.spec().pixels_per_second();
        let near = |other: &Key| {
            let its = other.spec().pixels_per_second();
            (its < pixels, its.abs_diff(pixels))
        };
        let of_release = of_app().filter(|(other, _)| other.release == key.release);
        if let Some((other, demand)) = of_release.min_by_key(|(other, _)| near(other)) {
            let its = other.spec().pixels_per_second();
            return Some(if its < pixels { demand.scaled(its, pixels) } else { demand });
        }
        let of_spec = of_app().filter(|(other, _)| other.spec() == key.spec());
        of_spec.max_by_key(|(other, _)| other.release).map(|(_, demand)| demand)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn all(&self) -> Vec<(Key, Learned)> {
        self.kinds.iter().map(|(key, kind)| (key.clone(), kind.learned)).collect()
    }

    /// Forgets what was learnt of an app, also of its sessions that live. Says how many kinds that were.
    pub(super) fn forget(&mut self, app: &AppName) -> usize {
        self.seen.retain(|_, seen| seen.key.app != *app);
        let of_app: Vec<Key> = self.kinds.keys().filter(|key| key.app == *app).cloned().collect();
        for key in &of_app {
            if self.kinds.remove(key).is_some_and(|kind| kind.written.is_some()) {
                self.gone.push(key.clone());
            }
        }
        self.version += 1;
        of_app.len()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.kinds.iter().min_by_key(|(_, kind)| kind.learned.measured_at).map(|(key, _)| key.clone());
        if let Some(kind) = oldest.as_ref().and_then(|key| self.kinds.remove(key))
            && kind.written.is_some()
        {
            self.gone.extend(oldest);
        }
    }

    pub(super) fn due(&self) -> Due {
        let due = self.kinds.iter().filter(|(_, kind)| kind.is_due()).take(MOST_AT_ONCE);
        let remove = self.gone.iter().filter(|key| !self.kinds.contains_key(*key)).take(MOST_AT_ONCE).cloned();
        Due { write: due.map(|(key, kind)| (key.clone(), kind.learned)).collect(), remove: remove.collect() }
    }

    pub(super) fn written(&mut self, due: &Due) {
        for (key, learned) in &due.write {
            match self.kinds.get_mut(key) {
                Some(kind) => kind.written = Some(*learned),
                // It went while it was written.
                None => self.gone.push(key.clone()),
            }
        }
        let kinds = &self.kinds;
        self.gone.retain(|key| !due.remove.contains(key) && !kinds.contains_key(key));
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.kinds.len(), self.seen.len())
    }
}

/// True when somebody who asks is answered otherwise.
fn is_otherwise(before: &Learned, after: &Learned) -> bool {
    before.demand.rounded() != after.demand.rounded() || before.is_settled() != after.is_settled()
}
