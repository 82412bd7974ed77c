//! Intervals counted into the segments of an order.

use std::collections::BTreeMap;

use api::clock::UtcTime;

use super::{Charge, ChargeKey, Evidence, Item, RatingError, rate_time};
use crate::contract::{Contract, Segment};
use crate::money::MoneyError;
use crate::period::Period;
use crate::usage::{Interval, Life};

/// What was played in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What counts, as it was added.
    pub counted: Vec<Evidence>,
    /// What the platform broke.
    pub faults: Vec<Evidence>,
}

/// Counts the plays of one order. Plays are added once each, in any order.
///
/// Memory: 64 bytes an interval, until [`finish`](Meter::finish) hands them on.
#[derive(Clone, Debug)]
pub struct Meter<'a> {
    contract: &'a Contract,
    segments: BTreeMap<UtcTime, (Segment<'a>, Tally)>,
    /// The key of the segment that was used last, and its part: plays that follow are mostly in it.
    last: Option<Period>,
    outside_ms: i64,
}

/// What one play has counted so far.
struct Play {
    ms: i64,
    /// The segment of its last part that counts.
    last: Option<UtcTime>,
    was_broken: bool,
}

impl<'a> Meter<'a> {
    /// Of an order without plays.
    #[must_use]
    pub const fn new(contract: &'a Contract) -> Meter<'a> {
        Meter { contract, segments: BTreeMap::new(), last: None, outside_ms: 0 }
    }

    /// Adds a play: the intervals of one session, as [`Timeline::intervals`](crate::usage::Timeline::intervals) gives them.
    ///
    /// A play that has ended, and that the platform did not break, counts what its steps and minimum say; that is added where its last interval is.
    /// Until it ends, and if its end is never told, it counts as long as it was.
    ///
    /// # Errors
    /// A moment outside of the calendar.
    pub fn add(&mut self, life: Life, intervals: &[Interval]) -> Result<(), RatingError> {
        let mut play = Play { ms: 0, last: None, was_broken: false };
        for interval in intervals {
            play.was_broken |= interval.is_fault();
            self.count(interval, &mut play)?;
        }
        let Some(key) = play.last else { return Ok(()) };
        let Some((segment, tally)) = self.segments.get_mut(&key) else { return Ok(()) };
        if life.ended.is_some()
            && !play.was_broken
            && let Some(metered) = segment.terms().metered()
            && let Some(evidence) = tally.counted.last_mut()
        {
            evidence.extra_ms = metered.extra_ms(play.ms);
        }
        Ok(())
    }

    /// One interval, cut where segments end.
    fn count(&mut self, interval: &Interval, play: &mut Play) -> Result<(), RatingError> {
        let mut from = interval.from;
        while from < interval.to {
            let Some(part) = self.enter(from)? else {
                let next = self.contract.phases.iter().map(|phase| phase.from).find(|next| *next > from);
                let until = next.unwrap_or(interval.to).min(interval.to);
                self.outside_ms = self.outside_ms.saturating_add(until.unix_ms() - from.unix_ms());
                from = until;
                continue;
            };
            let to = interval.to.min(part.to);
            let ms = to.unix_ms() - from.unix_ms();
            let evidence = Evidence { interval: interval.id, session: interval.session, from, to, ms, extra_ms: 0 };
            if let Some((_, tally)) = self.segments.get_mut(&part.from) {
                if interval.is_fault() {
                    tally.faults.push(evidence);
                } else {
                    tally.counted.push(evidence);
                    play.ms += ms;
                    play.last = Some(part.from);
                }
            }
            from = to;
        }
        Ok(())
    }

    /// Makes sure that there is a tally for a moment; `None` where the order has no terms then.
    fn enter(&mut self, at: UtcTime) -> Result<Option<Period>, RatingError> {
        if let Some(part) = self.last.filter(|part| part.contains(at)) {
            return Ok(Some(part));
        }
        let Some(segment) = self.contract.segment(at)? else { return Ok(None) };
        let part = segment.part;
        self.segments.entry(part.from).or_insert_with(|| (segment, Tally::default()));
        self.last = Some(part);
        Ok(Some(part))
    }

    /// Milliseconds that were played before the order began or after it ended. Nobody pays for them: who let them be played has to look why.
    #[must_use]
    pub const fn outside_ms(&self) -> i64 {
        self.outside_ms
    }

    /// What was counted, by the first moment of the segment.
    pub fn tallies(&self) -> impl Iterator<Item = (&Segment<'a>, &Tally)> {
        self.segments.values().map(|(segment, tally)| (segment, tally))
    }

    /// The charges of all segments with plays, and of all fees that are due at `now`, in the order of their keys.
    ///
    /// `covered_ms` says how much of each segment prepaid hours cover, by its first moment; see [`allocate()`](crate::prepaid::allocate()).
    ///
    /// # Errors
    /// An amount that is too large, or a moment outside of the calendar.
    pub fn finish(self, covered_ms: &BTreeMap<UtcTime, i64>, now: UtcTime) -> Result<Vec<Charge>, RatingError> {
        let mut charges = fees(self.contract, now)?;
        for (from, (segment, tally)) in self.segments {
            let covered = covered_ms.get(&from).copied().unwrap_or(0);
            if !tally.counted.is_empty() {
                let quantity = sum(&tally.counted)?;
                let (amount, steps) = rate_time(&segment, quantity, covered)?;
                let charge = empty(self.contract, &segment, Item::Time);
                charges.push(Charge { quantity_ms: quantity, amount, steps, evidence: tally.counted, ..charge });
            }
            if !tally.faults.is_empty() {
                let charge = empty(self.contract, &segment, Item::Fault);
                charges.push(Charge { quantity_ms: sum(&tally.faults)?, evidence: tally.faults, ..charge });
            }
        }
        charges.sort_by_key(|charge| charge.key);
        Ok(charges)
    }
}

fn sum(evidence: &[Evidence]) -> Result<i64, MoneyError> {
    let add = |sum: i64, one: &Evidence| sum.checked_add(one.ms)?.checked_add(one.extra_ms);
    evidence.iter().try_fold(0, add).ok_or(MoneyError::Overflow)
}

fn empty(contract: &Contract, segment: &Segment<'_>, item: Item) -> Charge {
    Charge {
        key: ChargeKey { order: contract.order, segment: segment.part.from, item },
        period: segment.part,
        plan: segment.phase.plan.clone(),
        version: segment.phase.version.number,
        quantity_ms: 0,
        amount: crate::money::Money::zero(segment.terms().currency),
        steps: Vec::new(),
        evidence: Vec::new(),
    }
}

/// The fees that are due.
fn fees(contract: &Contract, now: UtcTime) -> Result<Vec<Charge>, RatingError> {
    let mut charges = Vec::new();
    // What is due at this very moment is in the segment that begins with it.
    for segment in contract.segments(UtcTime::from_unix_ms(now.unix_ms().saturating_add(1)))? {
        let amount = segment.fee()?;
        if segment.fee_due() <= now && !amount.is_zero() {
            charges.push(Charge { amount, ..empty(contract, &segment, Item::Fee) });
        }
    }
    Ok(charges)
}
