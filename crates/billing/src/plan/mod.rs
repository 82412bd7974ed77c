//! What is sold and under what terms: plans with versions of their price that never change.
//!
//! An order keeps the version that it was bought with. A version is made of parts that do not know each other: a fee for a term, a rule for what play
//! costs, places at once, limits, and a place in the queue. From these all of what the field sells is made: by the second, by the hour, by day, week,
//! month, quarter, year, for ever, hours in advance, packs of hours, reserved places, trials.
//! Deliberately absent: who buys, and when.

mod check;

use api::clock::UtcTime;
use serde::{Deserialize, Serialize};

pub use self::check::TermsError;
use crate::id::{PlanName, ProductName};
use crate::money::{Currency, Exact, Money, MoneyError};
use crate::period::Cadence;

/// How long an order lasts, and how often its fee is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Term {
    /// Until somebody ends it; billed by calendar months. The fee is due each month.
    Open,
    /// A period of the calendar, renewed or not. The fee is due for each.
    Periodic {
        /// Which.
        every: Cadence,
    },
    /// So many days from the beginning, by the clock: packs, trials. The fee is due once.
    Days {
        /// At least 1.
        days: u32,
    },
    /// For ever: a title that is bought. The fee is due once.
    Permanent,
}

/// A price of time: so many minor units for so many seconds. Small prices are written with more seconds, never with fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Minor units of the version's currency.
    pub minor: i64,
    /// For so many seconds: 1, 60 or 3600 as a rule. At least 1.
    pub seconds: u32,
}

impl Rate {
    /// What so many milliseconds cost, exactly.
    ///
    /// # Errors
    /// Too large.
    pub fn of_ms(&self, ms: i64) -> Result<Exact, MoneyError> {
        Exact::whole(i128::from(self.minor)).times(i128::from(ms), i128::from(self.seconds) * 1000)
    }
}

/// What time costs beyond what is included, up to a border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Until so many seconds of the period, counted from the first that is not included; `None` in the last tier: without end.
    pub up_to_s: Option<u64>,
    /// Price.
    pub rate: Rate,
}

/// Play is billed by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metered {
    /// Seconds of each period that cost nothing more. Of a part of a period the same part, rounded up to a second.
    #[serde(default)]
    pub included_s: u64,
    /// In rising order; each price holds for the time within its tier alone.
    pub tiers: Vec<Tier>,
    /// A play counts at least so many seconds; 0 = as long as it was.
    #[serde(default)]
    pub minimum_s: u32,
    /// A play is counted in steps of so many seconds, begun ones in full; 0 = to the millisecond.
    #[serde(default)]
    pub step_s: u32,
}

impl Metered {
    /// One price from the first millisecond on.
    #[must_use]
    pub fn flat(rate: Rate) -> Metered {
        Metered { included_s: 0, tiers: vec![Tier { up_to_s: None, rate }], minimum_s: 0, step_s: 0 }
    }

    /// What is counted beyond the time that a play lasted.
    #[must_use]
    pub fn extra_ms(&self, ms: i64) -> i64 {
        if ms <= 0 {
            return 0;
        }
        let step = i64::from(self.step_s) * 1000;
        let stepped = if step > 0 { ms.saturating_add(step - 1) / step * step } else { ms };
        stepped.max(i64::from(self.minimum_s) * 1000) - ms
    }
}

/// Hours that were bought in advance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Seconds that each period of the term brings; in terms that are not periodic, once.
    pub seconds: u64,
    /// Of what is left at the end of a period, at most so much goes into the next one, and no further. Seconds.
    #[serde(default)]
    pub roll_over_s: u64,
    /// What happens when all is used.
    pub beyond: Beyond,
}

/// What happens when prepaid hours are used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Beyond {
    /// The player is warned, then ended, unless other prepaid hours are his.
    End,
    /// Play goes on and is billed by time.
    Metered {
        /// How.
        metered: Metered,
    },
}

/// What play costs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Usage {
    /// Nothing beyond the fee.
    Included,
    /// Its time.
    Metered {
        /// How.
        metered: Metered,
    },
    /// Prepaid hours.
    Prepaid {
        /// How many.
        allowance: Allowance,
    },
}

/// Places at once for each unit that is ordered: the scheduler's quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Sessions that go before borrowers.
    pub guarantee: u32,
    /// Sessions beyond, while nobody under his guarantee waits for the place.
    pub borrow: u32,
    /// Never more.
    pub maximum: u32,
}

/// What a player or a tenant may not exceed. `None` = without this limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Longest session in seconds.
    #[serde(default)]
    pub session_s: Option<u32>,
    /// Most seconds of play in a period.
    #[serde(default)]
    pub period_s: Option<u64>,
    /// Most plays in a period.
    #[serde(default)]
    pub plays: Option<u32>,
}

/// Who goes first when places are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Within the tenant: higher first.
    pub priority: u8,
    /// Among tenants: twice the weight is served twice as often. At least 1.
    pub weight: u32,
}

/// The terms of a plan as they were published once. Never changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Of all amounts.
    pub currency: Currency,
    /// How long, how often.
    pub term: Term,
    /// Minor units for each term and unit; may be 0.
    #[serde(default)]
    pub fee_minor: i64,
    /// What play costs.
    pub usage: Usage,
    /// Places at once.
    pub concurrency: Concurrency,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Who goes first.
    pub queue: Queue,
    /// True of what may be ended, with a warning, when others have nowhere to play. A trial has a limit of its sessions.
    #[serde(default)]
    pub is_trial: bool,
}

impl Terms {
    /// The fee of so many units for one term.
    ///
    /// # Errors
    /// Too large.
    pub fn fee(&self, units: u32) -> Result<Money, MoneyError> {
        let minor = self.fee_minor.checked_mul(i64::from(units)).ok_or(MoneyError::Overflow)?;
        Ok(Money::new(minor, self.currency))
    }

    /// How play is billed by time; `None` where it never is.
    #[must_use]
    pub fn metered(&self) -> Option<&Metered> {
        match &self.usage {
            Usage::Metered { metered }
            | Usage::Prepaid { allowance: Allowance { beyond: Beyond::Metered { metered }, .. } } => Some(metered),
            Usage::Included | Usage::Prepaid { allowance: Allowance { beyond: Beyond::End, .. } } => None,
        }
    }

    /// The prepaid hours of it; `None` where there are none.
    #[must_use]
    pub fn allowance(&self) -> Option<&Allowance> {
        match &self.usage {
            Usage::Prepaid { allowance } => Some(allowance),
            Usage::Included | Usage::Metered { .. } => None,
        }
    }
}

/// Terms with their number and the moment from which they are sold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceVersion {
    /// Counted from 1, without gaps.
    pub number: u32,
    /// Sold from then on, until the next version is.
    pub published: UtcTime,
    /// What was promised.
    pub terms: Terms,
}

/// A product under terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Name.
    pub name: PlanName,
    /// What people read.
    pub title: String,
    /// What is sold.
    pub product: ProductName,
    versions: Vec<PriceVersion>,
}

/// Why a version cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The terms contradict themselves.
    #[error("the terms cannot be published")]
    Terms(#[from] TermsError),
    /// An earlier version is sold later. Publish from a later moment.
    #[error("version {number} is sold from {published} on: publish from then on, or later")]
    Order {
        /// Of the newest version.
        number: u32,
        /// Since when.
        published: UtcTime,
    },
}

impl Plan {
    /// A plan of which nothing is published yet: it cannot be bought.
    #[must_use]
    pub fn new(name: PlanName, title: String, product: ProductName) -> Plan {
        Plan { name, title, product, versions: Vec::new() }
    }

    /// Adds a version. Orders of earlier ones keep theirs. Says its number.
    ///
    /// # Errors
    /// Terms that contradict themselves, or a moment before the newest version's.
    pub fn publish(&mut self, published: UtcTime, terms: Terms) -> Result<u32, PublishError> {
        terms.check()?;
        if let Some(newest) = self.versions.last()
            && newest.published > published
        {
            return Err(PublishError::Order { number: newest.number, published: newest.published });
        }
        let number = u32::try_from(self.versions.len()).unwrap_or(u32::MAX - 1) + 1;
        self.versions.push(PriceVersion { number, published, terms });
        Ok(number)
    }

    /// A version by its number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&PriceVersion> {
        self.versions.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// What is sold at a moment; `None` before the first version.
    #[must_use]
    pub fn current(&self, at: UtcTime) -> Option<&PriceVersion> {
        self.versions.iter().rev().find(|version| version.published <= at)
    }

    /// What has to hold of a plan that came from elsewhere, as a row does.
    ///
    /// # Errors
    /// A sentence that says which version is wrong.
    pub fn verify_invariants(&self) -> Result<(), String> {
        for (index, version) in self.versions.iter().enumerate() {
            if usize::try_from(version.number) != Ok(index + 1) {
                return Err(format!("plan {}: version {} stands at place {}", self.name, version.number, index + 1));
            }
            version
                .terms
                .check()
                .map_err(|error| format!("plan {}, version {}: {error}", self.name, version.number))?;
        }
        if self.versions.windows(2).any(|pair| pair[0].published > pair[1].published) {
            return Err(format!("plan {}: a version is sold before an earlier one", self.name));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
