//! Holds for sessions that play now: reserved at their start, extended while they play, settled at their end, or released.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use serde::{Deserialize, Serialize};

use super::{Allocation, Lot};

/// What is kept for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Whose.
    pub session: SessionId,
    /// Milliseconds that are kept for it, what it has played included.
    pub ms: i64,
    /// Milliseconds of them that it has played, as far as is proven.
    pub used_ms: i64,
}

/// How long somebody can still play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When he must be ended, gracefully and with his save kept.
    pub end_at: UtcTime,
    /// When he must be warned, if he was not yet.
    pub warn_at: UtcTime,
}

impl Standing {
    /// True from the moment on at which he must be warned.
    #[must_use]
    pub fn must_warn(&self, now: UtcTime) -> bool {
        now >= self.warn_at
    }

    /// True from the moment on at which he must be ended.
    #[must_use]
    pub fn must_end(&self, now: UtcTime) -> bool {
        now >= self.end_at
    }
}

/// Why nothing is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// All that is left is held for other sessions, or nothing is left. Buy more, or end one of them.
    #[error("no prepaid time is left that no other session holds: buy more, or end one")]
    NothingLeft,
    /// It never began, or was settled. A bug of who asks.
    #[error("nothing is held for {0}")]
    NoHold(SessionId),
}

/// The hours of one owner at a moment, and what of them is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wallet {
    /// What is left of each lot, held or not; in the order of use.
    lots: Vec<(Lot, i64)>,
    holds: BTreeMap<SessionId, Hold>,
}

impl Wallet {
    /// From what is left after everything that was settled, and the holds that are open, as a database has them.
    #[must_use]
    pub fn new(allocation: &Allocation, holds: impl IntoIterator<Item = Hold>) -> Wallet {
        let left = allocation.lots.iter().filter(|one| one.left_ms > 0);
        let mut lots: Vec<(Lot, i64)> = left.map(|one| (one.lot.clone(), one.left_ms)).collect();
        lots.sort_by_key(|(lot, _)| lot.order_of_use());
        Wallet { lots, holds: holds.into_iter().map(|hold| (hold.session, hold)).collect() }
    }

    /// Milliseconds that can be played at `now` and that nobody holds.
    #[must_use]
    pub fn free_ms(&self, now: UtcTime) -> i64 {
        let left: i64 = self.lots.iter().filter(|(lot, _)| lot.is_valid(now)).map(|(_, left)| *left).sum();
        let held: i64 = self.holds.values().map(|hold| hold.ms).sum();
        (left - held).max(0)
    }

    /// What is held.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// Keeps up to `ms` for a session that begins. Once for each session: asked again, it says what is held.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn reserve(&mut self, now: UtcTime, session: SessionId, ms: i64) -> Result<Hold, HoldError> {
        if let Some(hold) = self.holds.get(&session) {
            return Ok(*hold);
        }
        let ms = ms.min(self.free_ms(now));
        if ms <= 0 {
            return Err(HoldError::NothingLeft);
        }
        let hold = Hold { session, ms, used_ms: 0 };
        self.holds.insert(session, hold);
        Ok(hold)
    }

    /// A session has played `used_ms` so far: keeps up to `ahead_ms` beyond for it. Where nothing is left, what it has stays as it is.
    ///
    /// # Errors
    /// Nothing is held for it.
    pub fn extend(&mut self, now: UtcTime, session: SessionId, used_ms: i64, ahead_ms: i64) -> Result<Hold, HoldError> {
        let free = self.free_ms(now);
        let hold = self.holds.get_mut(&session).ok_or(HoldError::NoHold(session))?;
        // Reports overtake each other: the largest is the newest.
        hold.used_ms = hold.used_ms.max(used_ms);
        let wanted = hold.used_ms.saturating_add(ahead_ms.max(0));
        hold.ms = hold.ms.max(wanted.min(hold.ms + free));
        Ok(*hold)
    }

    /// A session ended after `used_ms`: that is taken from the lots, the rest of the hold is free again. Says how much no lot covered.
    ///
    /// # Errors
    /// Nothing is held for it: it was settled before.
    pub fn settle(&mut self, now: UtcTime, session: SessionId, used_ms: i64) -> Result<i64, HoldError> {
        self.holds.remove(&session).ok_or(HoldError::NoHold(session))?;
        let mut rest = used_ms.max(0);
        for (lot, left) in self.lots.iter_mut().filter(|(lot, _)| lot.from <= now) {
            // It was played before `now`, perhaps before this lot expired.
            let taken = rest.min(*left);
            debug_assert!(lot.ms >= *left);
            *left -= taken;
            rest -= taken;
        }
        self.lots.retain(|(_, left)| *left > 0);
        Ok(rest)
    }

    /// A session never played: its hold is free again. Nothing happens when there is none.
    pub fn release(&mut self, session: SessionId) {
        self.holds.remove(&session);
    }

    /// How long a session can go on, with its own hold and with all that nobody holds. `warning_ms` before its end it must be warned.
    ///
    /// Hours that begin at the moment at which others expire follow on without a gap, as a renewed period's do.
    ///
    /// # Errors
    /// Nothing is held for it.
    pub fn standing(&self, now: UtcTime, session: SessionId, warning_ms: i64) -> Result<Standing, HoldError> {
        let own = self.holds.get(&session).ok_or(HoldError::NoHold(session))?;
        let others: i64 = self.holds.values().filter(|hold| hold.session != session).map(|hold| hold.ms).sum();
        let mut lots: Vec<(&Lot, i64)> = self.lots.iter().map(|(lot, left)| (lot, *left)).collect();
        // What it has played is used, and what others hold is theirs: both from the lots that are used first.
        for mut taken in [own.used_ms, others] {
            for (_, left) in lots.iter_mut().filter(|(lot, _)| lot.is_valid(now)) {
                let part = taken.min(*left);
                *left -= part;
                taken -= part;
            }
        }
        let mut end = now;
        // Each round uses one lot up, or goes to its end.
        for _ in 0..lots.len() {
            let Some((lot, left)) = lots.iter_mut().find(|(lot, left)| *left > 0 && lot.is_valid(end)) else { break };
            let ms = (*left).min(lot.expires.unix_ms() - end.unix_ms());
            *left -= ms;
            end = UtcTime::from_unix_ms(end.unix_ms() + ms);
        }
        let warn_at = UtcTime::from_unix_ms(end.unix_ms().saturating_sub(warning_ms.max(0)));
        Ok(Standing { end_at: end, warn_at })
    }

    /// No lot is below nothing or above itself, and no session plays more than is held for it without that being known.
    ///
    /// # Errors
    /// A sentence that says what does not hold.
    pub fn verify_invariants(&self) -> Result<(), String> {
        for (lot, left) in &self.lots {
            if *left <= 0 || *left > lot.ms {
                return Err(format!("{}: {left} ms are left of {} ms", lot.id, lot.ms));
            }
        }
        if self.lots.windows(2).any(|pair| pair[0].0.order_of_use() >= pair[1].0.order_of_use()) {
            return Err("lots are not in the order of their use".to_owned());
        }
        match self.holds.values().find(|hold| hold.ms <= 0 || hold.used_ms < 0) {
            Some(hold) => Err(format!("{}: {} ms are held", hold.session, hold.ms)),
            None => Ok(()),
        }
    }
}
