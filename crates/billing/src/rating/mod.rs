//! What usage costs: a pure function of cumulative usage, terms and prepaid time; and what is posted of it, which is that less what is booked.
//!
//! ```text
//! intervals --Meter--> tallies of segments --finish--> charges (cumulative) --Booked::book--> lines (what is new)
//! ```
//! A fact that comes late changes the cumulative charge of its own segment, and so becomes a line of its own, which may be negative and which names
//! the intervals that it is for. Lines never change.
//! Deliberately absent: when anybody is billed, and in what document.

mod booked;
mod meter;

use api::clock::UtcTime;
use api::id::SessionId;
use serde::{Deserialize, Serialize};

pub use self::booked::Booked;
pub use self::meter::{Meter, Tally};
use crate::contract::Segment;
use crate::id::{OrderId, PlanName};
use crate::money::{Exact, Money, MoneyError};
use crate::period::{Period, PeriodError};
use crate::plan::{Beyond, Metered, Rate, Usage};
use crate::usage::FactId;

/// Why nothing can be rated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatingError {
    /// An amount cannot be counted.
    #[error("the amount cannot be computed")]
    Money(#[from] MoneyError),
    /// A border cannot be found.
    #[error("the period cannot be computed")]
    Period(#[from] PeriodError),
    /// What is booked is of another order or currency.
    #[error("{0} is charged, but what is booked is another order's or in another currency")]
    Foreign(OrderId),
}

/// What a charge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The fee of a term.
    Fee,
    /// Time in which players could play.
    Time,
    /// Time that the platform broke: on record, at zero.
    Fault,
}

impl Item {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Item::Fee => "fee",
            Item::Time => "time",
            Item::Fault => "fault",
        }
    }
}

/// Names what is accumulated: one item of one segment of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChargeKey {
    /// Whose.
    pub order: OrderId,
    /// The first moment of the segment.
    pub segment: UtcTime,
    /// What for.
    pub item: Item,
}

/// What a part of the time is rated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepKind {
    /// Prepaid hours cover it.
    Prepaid,
    /// The fee includes it.
    Included,
    /// A tier's price.
    Tier {
        /// Counted from 0.
        index: u16,
    },
    /// Prepaid hours were used, and the play was not ended at once: nobody pays for it.
    Grace,
}

/// How much of the time is rated by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// By what.
    pub kind: StepKind,
    /// Milliseconds; below zero in a line that takes back.
    pub ms: i64,
    /// The price; `None` = nothing.
    #[serde(default)]
    pub rate: Option<Rate>,
}

/// A part of an interval, and what it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The interval.
    pub interval: FactId,
    /// Whose.
    pub session: SessionId,
    /// Its first moment in the segment.
    pub from: UtcTime,
    /// Its end there.
    pub to: UtcTime,
    /// Milliseconds that were played. In a charge always `to - from`; in a line, what is new of it.
    pub ms: i64,
    /// Milliseconds that it counts beyond, for steps and minimums of a play.
    #[serde(default)]
    pub extra_ms: i64,
}

/// What one item of one segment costs, all together as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Of what.
    pub key: ChargeKey,
    /// The segment.
    pub period: Period,
    /// The plan.
    pub plan: PlanName,
    /// The version of its price.
    pub version: u32,
    /// Counted milliseconds: the sum of the evidence; 0 of a fee.
    pub quantity_ms: i64,
    /// The price of it.
    pub amount: Money,
    /// How the time is rated; its sum is the quantity.
    pub steps: Vec<Step>,
    /// What the quantity is made of.
    pub evidence: Vec<Evidence>,
}

impl Charge {
    /// What has to hold of a charge, and of what is new of it.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn verify_invariants(&self) -> Result<(), String> {
        let ChargeKey { order, segment, item } = self.key;
        let name = format!("{order}, {} from {segment}", item.word());
        let counted: i128 = self.evidence.iter().map(|one| i128::from(one.ms) + i128::from(one.extra_ms)).sum();
        if counted != i128::from(self.quantity_ms) {
            return Err(format!("{name}: intervals add up to {counted} ms, not to {}", self.quantity_ms));
        }
        match item {
            Item::Fee if !self.steps.is_empty() || self.quantity_ms != 0 => {
                return Err(format!("{name}: a fee has no time"));
            }
            Item::Fault if !self.amount.is_zero() => return Err(format!("{name}: a fault of the platform costs")),
            Item::Time => {
                let stepped: i128 = self.steps.iter().map(|step| i128::from(step.ms)).sum();
                if stepped != i128::from(self.quantity_ms) {
                    return Err(format!("{name}: steps add up to {stepped} ms, not to {}", self.quantity_ms));
                }
            }
            Item::Fee | Item::Fault => {}
        }
        Ok(())
    }
}

/// What is new of a charge. Posted once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Of those with this key, counted from 0. Whatever is not 0 says more of time that was billed before.
    pub posting: u32,
    /// The difference to what was booked: amounts and times may be below zero.
    pub change: Charge,
}

/// Rates the time of a segment, of which prepaid hours cover `covered_ms`.
///
/// The order of what covers: prepaid, included, tiers. Exact until the sum of all tiers is rounded, once.
///
/// # Errors
/// Too large.
pub fn rate_time(segment: &Segment<'_>, quantity_ms: i64, covered_ms: i64) -> Result<(Money, Vec<Step>), MoneyError> {
    let mut steps = Vec::with_capacity(2);
    let mut step = |kind, ms: i64, rate| {
        if ms != 0 {
            steps.push(Step { kind, ms, rate });
        }
    };
    let covered = covered_ms.clamp(0, quantity_ms);
    step(StepKind::Prepaid, covered, None);
    let rest = quantity_ms - covered;
    let metered: Option<&Metered> = match &segment.terms().usage {
        Usage::Included => {
            step(StepKind::Included, rest, None);
            None
        }
        Usage::Metered { metered } => Some(metered),
        Usage::Prepaid { allowance } => match &allowance.beyond {
            Beyond::End => {
                step(StepKind::Grace, rest, None);
                None
            }
            Beyond::Metered { metered } => Some(metered),
        },
    };
    let mut price = Exact::ZERO;
    if let Some(metered) = metered {
        let included = segment.included_ms(metered)?.min(rest);
        step(StepKind::Included, included, None);
        let billed = rest - included;
        let mut reached = 0_i64;
        for (index, tier) in metered.tiers.iter().enumerate() {
            let end_ms = tier.up_to_s.map_or(i64::MAX, |s| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000));
            let within = end_ms.min(billed) - reached;
            if within <= 0 {
                break;
            }
            step(StepKind::Tier { index: u16::try_from(index).unwrap_or(u16::MAX) }, within, Some(tier.rate));
            price = price.plus(tier.rate.of_ms(within)?)?;
            reached += within;
        }
    }
    Ok((Money::new(price.round()?, segment.terms().currency), steps))
}

#[cfg(test)]
pub(crate) mod tests;
