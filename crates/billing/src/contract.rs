//! The terms of one order over time, cut into segments: parts of billing periods under one version of a price.
//!
//! ```text
//! phases     |---- version 1 ----------|-------- version 3 ------------|
//! periods  |  whole  |  whole  |  whole  |  whole  |
//! segments   |-------|---------|-------|-|---------|-------------------
//! ```
//! Deliberately absent: how an order comes to its phases; that is [`crate::order`].

use api::clock::UtcTime;
use api::id::PlayerId;
use serde::{Deserialize, Serialize};

use crate::id::{OrderId, PlanName, TenantName};
use crate::money::{Exact, Money, MoneyError};
use crate::period::{Period, PeriodError, Schedule, Zone};
use crate::plan::{Metered, PriceVersion, Term, Terms};

/// The end of what has no end: the last moment that RFC 3339 can write.
pub const FOREVER: UtcTime = UtcTime::from_unix_ms(253_402_300_799_999);

/// Terms from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// First moment.
    pub from: UtcTime,
    /// Where periods are counted from; not after `from`. Terms that change within a period keep it, so that the day of billing stays.
    pub anchor: UtcTime,
    /// Of which plan.
    pub plan: PlanName,
    /// The version that was bought.
    pub version: PriceVersion,
    /// How many of it.
    pub units: u32,
}

impl Phase {
    /// The terms.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        &self.version.terms
    }

    /// Its billing periods: one that contains `at`, uncut.
    fn whole(&self, zone: &Zone, at: UtcTime) -> Result<Period, PeriodError> {
        match self.terms().term {
            Term::Open => Ok(Schedule::calendar_months(zone, self.anchor)?.containing(at)?.1),
            Term::Periodic { every } => Ok(Schedule::anchored(zone, every, self.anchor)?.containing(at)?.1),
            Term::Days { days } => Ok(Period { from: self.anchor, to: days_after(self.anchor, days) }),
            Term::Permanent => Ok(Period { from: self.anchor, to: FOREVER }),
        }
    }
}

/// So many times 24 hours later.
#[must_use]
pub(crate) fn days_after(at: UtcTime, days: u32) -> UtcTime {
    UtcTime::from_unix_ms(at.unix_ms().saturating_add(i64::from(days) * 86_400_000))
}

/// The terms of one order over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Which.
    pub order: OrderId,
    /// Who pays.
    pub tenant: TenantName,
    /// Whose it is, where it is one player's.
    #[serde(default)]
    pub player: Option<PlayerId>,
    /// Where periods begin and end.
    pub zone: Zone,
    /// Earliest first, of one currency.
    pub phases: Vec<Phase>,
    /// When the last phase ended, or will; `None` = not known yet.
    #[serde(default)]
    pub ended: Option<UtcTime>,
}

/// A part of a billing period under one version of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Its terms.
    pub phase: &'a Phase,
    /// From when until when. `from` names the segment within its order: later changes may shorten it, and never move that.
    pub part: Period,
    /// The whole billing period.
    pub whole: Period,
}

impl Contract {
    /// The segment of a moment; `None` before the first phase and after the end.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn segment(&self, at: UtcTime) -> Result<Option<Segment<'_>>, PeriodError> {
        let after = self.phases.partition_point(|phase| phase.from <= at);
        let Some(phase) = after.checked_sub(1).and_then(|index| self.phases.get(index)) else { return Ok(None) };
        let until = self.phases.get(after).map_or(FOREVER, |next| next.from);
        let reign = Period { from: phase.from, to: until.min(self.ended.unwrap_or(FOREVER)) };
        if !reign.contains(at) {
            return Ok(None);
        }
        let whole = phase.whole(&self.zone, at)?;
        let part = whole.overlap(reign).filter(|part| part.contains(at));
        Ok(part.map(|part| Segment { phase, part, whole }))
    }

    /// All segments that begin before `until`, earliest first.
    ///
    /// # Errors
    /// Outside of the calendar.
    pub fn segments(&self, until: UtcTime) -> Result<Vec<Segment<'_>>, PeriodError> {
        let mut segments = Vec::new();
        let Some(mut at) = self.phases.first().map(|phase| phase.from) else { return Ok(segments) };
        while at < until {
            let Some(segment) = self.segment(at)? else {
                // Packs end before the next phase begins.
                match self.phases.iter().map(|phase| phase.from).find(|from| *from > at) {
                    Some(next) => {
                        at = next;
                        continue;
                    }
                    None => break,
                }
            };
            at = segment.part.to;
            segments.push(segment);
        }
        Ok(segments)
    }

    /// What has to hold, whoever made it.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn verify_invariants(&self) -> Result<(), String> {
        let order = self.order;
        for phase in &self.phases {
            if phase.anchor > phase.from {
                return Err(format!("{order}: a phase begins before its anchor"));
            }
            if phase.terms().currency != self.phases[0].terms().currency {
                return Err(format!("{order}: phases have two currencies"));
            }
            phase.terms().check().map_err(|error| format!("{order}: {error}"))?;
        }
        if self.phases.windows(2).any(|pair| pair[0].from >= pair[1].from) {
            return Err(format!("{order}: phases are out of order"));
        }
        Ok(())
    }
}

impl Segment<'_> {
    /// The terms.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        self.phase.terms()
    }

    /// True when neither a change of terms nor an end cut the period.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.part == self.whole
    }

    /// The fee of this part: what is due until its end, less what is due until its beginning, each rounded. So the fees of the parts of a period
    /// add up to the fee of the whole, wherever it is cut. What is due once is due at once: its fee is not cut.
    ///
    /// # Errors
    /// Too large.
    pub fn fee(&self) -> Result<Money, MoneyError> {
        let fee = self.terms().fee(self.phase.units)?;
        match self.terms().term {
            Term::Permanent | Term::Days { .. } => {
                let is_first = self.part.from == self.phase.from;
                Ok(if is_first { fee } else { Money::zero(fee.currency) })
            }
            Term::Open | Term::Periodic { .. } => {
                let due = |at: UtcTime| -> Result<i64, MoneyError> {
                    let (run, whole) = (at.since(self.whole.from), i128::from(self.whole.ms()));
                    let run = i128::try_from(run.as_millis()).map_err(|_too_long| MoneyError::Overflow)?;
                    Exact::whole(i128::from(fee.minor)).times(run, whole)?.round()
                };
                Ok(Money::new(due(self.part.to)? - due(self.part.from)?, fee.currency))
            }
        }
    }

    /// Milliseconds that are included in this part, for all units: its share, rounded up to a second.
    ///
    /// # Errors
    /// Too large.
    pub fn included_ms(&self, metered: &Metered) -> Result<i64, MoneyError> {
        self.share_of(metered.included_s)
    }

    /// Milliseconds of so many seconds a period and unit that fall to this part, rounded up to a second.
    ///
    /// # Errors
    /// Too large.
    pub(crate) fn share_of(&self, seconds: u64) -> Result<i64, MoneyError> {
        let all = i128::from(seconds) * i128::from(self.phase.units);
        let share = match self.terms().term {
            Term::Permanent | Term::Days { .. } => Exact::whole(all),
            Term::Open | Term::Periodic { .. } => {
                Exact::whole(all).times(i128::from(self.part.ms()), i128::from(self.whole.ms()))?
            }
        };
        let ms = share.ceiling().checked_mul(1000).ok_or(MoneyError::Overflow)?;
        i64::try_from(ms).map_err(|_too_large| MoneyError::Overflow)
    }

    /// When its fee is due: in advance where a term is bought, in arrears where the order is open.
    #[must_use]
    pub fn fee_due(&self) -> UtcTime {
        match self.terms().term {
            Term::Open => self.part.to,
            Term::Periodic { .. } | Term::Days { .. } | Term::Permanent => self.part.from,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::period::Cadence;
    use crate::plan::tests::by_the_hour;

    fn at(text: &str) -> UtcTime {
        UtcTime::try_from(text.to_owned()).unwrap()
    }

    fn phase(from: UtcTime, anchor: UtcTime, term: Term, fee_minor: i64) -> Phase {
        let terms = Terms { term, fee_minor, ..by_the_hour(90) };
        let version = PriceVersion { number: 1, published: at("2020-01-01T00:00:00Z"), terms };
        Phase { from, anchor, plan: "plan".parse().unwrap(), version, units: 1 }
    }

    fn contract(phases: Vec<Phase>, ended: Option<UtcTime>) -> Contract {
        let contract = Contract {
            order: OrderId::from_uuid(uuid::Uuid::from_u128(1)),
            tenant: "acme".parse().unwrap(),
            player: None,
            zone: Zone::named("Europe/Berlin").unwrap(),
            phases,
            ended,
        };
        contract.verify_invariants().unwrap();
        contract
    }

    #[test]
    fn segments_are_parts_of_periods() {
        let check = |contract: &Contract, until: &str, expected: &[(&str, i64)]| {
            let segments = contract.segments(at(until)).unwrap();
            let found: Vec<_> = segments
                .iter()
                .map(|one| (contract.zone.date_time(one.part.from).unwrap(), one.fee().unwrap().minor))
                .collect();
            let found: Vec<(&str, i64)> = found.iter().map(|(from, fee)| (from.as_str(), *fee)).collect();
            assert_eq!(found, expected);
        };
        let monthly = Term::Periodic { every: Cadence::Month };
        let start = at("2026-01-31T11:00:00Z");
        let once = contract(vec![phase(start, start, monthly, 1000)], None);
        let whole = [("2026-01-31 12:00:00", 1000), ("2026-02-28 12:00:00", 1000), ("2026-03-31 12:00:00", 1000)];
        check(&once, "2026-04-01T00:00:00Z", &whole);
        // Half of February's 28 days, then a dearer plan on the same days.
        let middle = at("2026-02-14T11:00:00Z");
        let changed = contract(vec![phase(start, start, monthly, 1000), phase(middle, start, monthly, 2000)], None);
        let parts = [("2026-01-31 12:00:00", 500), ("2026-02-14 12:00:00", 1000), ("2026-02-28 12:00:00", 2000)];
        check(&changed, "2026-03-01T00:00:00Z", &parts);
        // Open: months of the calendar, in parts at both ends.
        let open = contract(vec![phase(start, start, Term::Open, 31)], Some(at("2026-02-14T23:00:00Z")));
        check(&open, "2027-01-01T00:00:00Z", &[("2026-01-31 12:00:00", 1), ("2026-02-01 00:00:00", 16)]);
        // Bought once, never again.
        let pack = contract(vec![phase(start, start, Term::Days { days: 30 }, 299)], None);
        check(&pack, "2027-01-01T00:00:00Z", &[("2026-01-31 12:00:00", 299)]);
        let title = contract(vec![phase(start, start, Term::Permanent, 5999)], None);
        check(&title, "2027-01-01T00:00:00Z", &[("2026-01-31 12:00:00", 5999)]);
        assert_eq!(once.segment(at("2026-01-31T10:59:59Z")).unwrap(), None);
        assert_eq!(pack.segment(at("2026-03-02T11:00:00Z")).unwrap(), None);
    }

    #[test]
    fn included_time_is_cut_with_the_period() {
        let start = at("2025-12-31T23:00:00Z");
        let mut open = phase(start, start, Term::Open, 0);
        open.units = 2;
        let metered = Metered { included_s: 31, ..open.terms().metered().unwrap().clone() };
        let whole = contract(vec![open.clone()], None);
        assert_eq!(whole.segments(at("2026-01-01T00:00:00Z")).unwrap()[0].included_ms(&metered), Ok(62_000));
        let cut = contract(vec![open], Some(at("2026-01-01T23:00:01Z")));
        // A day and a second of 31 days: 2.00002 seconds, rounded up.
        assert_eq!(cut.segments(at("2026-01-01T00:00:00Z")).unwrap()[0].included_ms(&metered), Ok(3000));
    }

    proptest! {
        #[test]
        fn wherever_a_period_is_cut_its_fees_add_up(fee in 0..1_000_000_i64, cuts in prop::collection::btree_set(1..2_678_399_999_i64, 0..6)) {
            let start = at("2026-01-01T00:00:00Z");
            let monthly = Term::Periodic { every: Cadence::Month };
            let mut phases = vec![phase(start, start, monthly, fee)];
            for cut in cuts {
                phases.push(phase(UtcTime::from_unix_ms(start.unix_ms() + cut), start, monthly, fee));
            }
            let contract = contract(phases, None);
            let segments = contract.segments(at("2026-01-31T23:59:59.999Z")).unwrap();
            let sum: i64 = segments.iter().map(|one| one.fee().unwrap().minor).sum();
            prop_assert_eq!(sum, fee);
        }
    }
}
