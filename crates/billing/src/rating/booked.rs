//! What was posted of one order, and the lines that make up the difference to what is charged.

use std::collections::BTreeMap;

use api::clock::UtcTime;

use super::{Charge, ChargeKey, Evidence, Line, RatingError, Step, StepKind};
use crate::money::{Money, MoneyError};
use crate::plan::Rate;
use crate::usage::FactId;

/// Milliseconds by what rates them. The price is part of it: terms that change at the very moment at which a segment begins change the price of a tier.
type Steps = BTreeMap<(StepKind, Option<Rate>), i64>;

/// All lines of one key, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum {
    postings: u32,
    newest: Charge,
    quantity_ms: i64,
    amount: Money,
    steps: Steps,
    evidence: BTreeMap<FactId, Evidence>,
}

/// What was posted of one order: its lines, added up. Made anew from the lines whenever it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    sums: BTreeMap<ChargeKey, Sum>,
}

impl Booked {
    /// Nothing was posted.
    #[must_use]
    pub fn new() -> Booked {
        Booked::default()
    }

    /// From the lines of one order, in the order of their posting.
    ///
    /// # Errors
    /// Lines of two orders or currencies, or sums that are too large.
    pub fn replay<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Result<Booked, RatingError> {
        let mut booked = Booked::new();
        for line in lines {
            booked.take(line)?;
        }
        Ok(booked)
    }

    /// Posts what is charged and not yet booked: one line for each key of which something is new, in the order of the keys.
    ///
    /// `charges` are all of the order's segments that begin at `since` or later: what was posted of these and is charged no more is taken back.
    /// Segments before are left alone.
    ///
    /// # Errors
    /// Charges of another order or currency, or sums that are too large.
    pub fn book(&mut self, charges: Vec<Charge>, since: UtcTime) -> Result<Vec<Line>, RatingError> {
        let mut gone: BTreeMap<ChargeKey, Charge> = self
            .sums
            .iter()
            .filter(|(key, _)| key.segment >= since)
            .map(|(key, sum)| (*key, nothing_of(&sum.newest)))
            .collect();
        let mut lines = Vec::new();
        for charge in charges {
            gone.remove(&charge.key);
            lines.extend(self.difference(charge)?);
        }
        for charge in gone.into_values() {
            lines.extend(self.difference(charge)?);
        }
        lines.sort_by_key(|line| line.change.key);
        for line in &lines {
            self.take(line)?;
        }
        Ok(lines)
    }

    /// All that was posted of a key; `None` when nothing was.
    #[must_use]
    pub fn amount(&self, key: ChargeKey) -> Option<Money> {
        self.sums.get(&key).map(|sum| sum.amount)
    }

    /// The charges that the lines add up to, without those that were taken back wholly.
    #[must_use]
    pub fn charges(&self) -> Vec<Charge> {
        let charge = |sum: &Sum| {
            let step =
                |((kind, rate), ms): (&(StepKind, Option<Rate>), &i64)| Step { kind: *kind, ms: *ms, rate: *rate };
            Charge {
                quantity_ms: sum.quantity_ms,
                amount: sum.amount,
                steps: sum.steps.iter().map(step).collect(),
                evidence: sum.evidence.values().copied().collect(),
                ..nothing_of(&sum.newest)
            }
        };
        let is_something = |charge: &Charge| !charge.amount.is_zero() || !charge.evidence.is_empty();
        self.sums.values().map(charge).filter(is_something).collect()
    }

    /// What has to hold of all lines together.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn verify_invariants(&self) -> Result<(), String> {
        for charge in self.charges() {
            charge.verify_invariants()?;
            if let Some(wrong) = charge.evidence.iter().find(|one| one.ms != one.to.unix_ms() - one.from.unix_ms()) {
                return Err(format!("interval {} counts {} ms, which it did not last", wrong.interval, wrong.ms));
            }
        }
        Ok(())
    }

    /// What is new of a charge; `None` when nothing is.
    fn difference(&self, charge: Charge) -> Result<Option<Line>, RatingError> {
        self.check_own(&charge)?;
        let Some(sum) = self.sums.get(&charge.key) else {
            let is_nothing = charge.amount.is_zero() && charge.evidence.is_empty();
            return Ok((!is_nothing).then_some(Line { posting: 0, change: charge }));
        };
        let mut evidence = Vec::new();
        let mut known = sum.evidence.clone();
        for one in &charge.evidence {
            let before = known.remove(&one.interval);
            let (ms, extra_ms) = before.map_or((0, 0), |before| (before.ms, before.extra_ms));
            // An interval that moved without growing changes nothing of the sum, and is told all the same.
            let has_moved = before.is_none_or(|before| (before.from, before.to) != (one.from, one.to));
            if has_moved || (ms, extra_ms) != (one.ms, one.extra_ms) {
                evidence.push(Evidence { ms: one.ms - ms, extra_ms: one.extra_ms - extra_ms, ..*one });
            }
        }
        let taken_back = |one: Evidence| Evidence { to: one.from, ms: -one.ms, extra_ms: -one.extra_ms, ..one };
        evidence.extend(known.into_values().map(taken_back));
        let amount = charge.amount.minus(sum.amount)?;
        let steps = step_changes(&charge.steps, &sum.steps);
        if amount.is_zero() && evidence.is_empty() && steps.is_empty() {
            return Ok(None);
        }
        let change = Charge {
            quantity_ms: charge.quantity_ms.checked_sub(sum.quantity_ms).ok_or(MoneyError::Overflow)?,
            amount,
            steps,
            evidence,
            ..charge
        };
        Ok(Some(Line { posting: sum.postings, change }))
    }

    fn take(&mut self, line: &Line) -> Result<(), RatingError> {
        let change = &line.change;
        self.check_own(change)?;
        let sum = self.sums.entry(change.key).or_insert_with(|| Sum {
            postings: 0,
            newest: nothing_of(change),
            quantity_ms: 0,
            amount: Money::zero(change.amount.currency),
            steps: BTreeMap::new(),
            evidence: BTreeMap::new(),
        });
        sum.postings += 1;
        sum.newest = nothing_of(change);
        sum.quantity_ms = sum.quantity_ms.checked_add(change.quantity_ms).ok_or(MoneyError::Overflow)?;
        sum.amount = sum.amount.plus(change.amount)?;
        for step in &change.steps {
            let known = sum.steps.entry((step.kind, step.rate)).or_insert(0);
            *known += step.ms;
            if *known == 0 {
                sum.steps.remove(&(step.kind, step.rate));
            }
        }
        if sum.evidence.is_empty() {
            // The usual case, a first line: sorted and built at once, which is several times faster than one after the other.
            sum.evidence = change.evidence.iter().map(|one| (one.interval, *one)).collect();
            return Ok(());
        }
        for one in &change.evidence {
            let known = sum.evidence.entry(one.interval).or_insert(Evidence { ms: 0, extra_ms: 0, ..*one });
            let (ms, extra_ms) = (known.ms + one.ms, known.extra_ms + one.extra_ms);
            *known = Evidence { ms, extra_ms, ..*one };
            if ms == 0 && extra_ms == 0 {
                sum.evidence.remove(&one.interval);
            }
        }
        Ok(())
    }

    fn check_own(&self, charge: &Charge) -> Result<(), RatingError> {
        let is_own = self
            .sums
            .first_key_value()
            .is_none_or(|(key, sum)| key.order == charge.key.order && sum.amount.currency == charge.amount.currency);
        if is_own { Ok(()) } else { Err(RatingError::Foreign(charge.key.order)) }
    }
}

fn nothing_of(charge: &Charge) -> Charge {
    Charge {
        key: charge.key,
        period: charge.period,
        plan: charge.plan.clone(),
        version: charge.version,
        quantity_ms: 0,
        amount: Money::zero(charge.amount.currency),
        steps: Vec::new(),
        evidence: Vec::new(),
    }
}

fn step_changes(steps: &[Step], known: &Steps) -> Vec<Step> {
    let mut changes: Steps = known.iter().map(|(by, ms)| (*by, -ms)).collect();
    for step in steps {
        *changes.entry((step.kind, step.rate)).or_insert(0) += step.ms;
    }
    let change = |((kind, rate), ms)| Step { kind, ms, rate };
    changes.into_iter().filter(|(_, ms)| *ms != 0).map(change).collect()
}
