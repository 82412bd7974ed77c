//! An order from its draft to its end, as a machine without a clock: what may be done in which state, what becomes due by it, and what it grants.
//!
//! ```text
//! draft -> pending_payment -> paid -> active -> expired
//!   |            |             |        |-> cancelled   (an open order, at once)
//!   '----->------'---> cancelled        '-> refunded    (and from paid)
//! ```
//! What becomes due is never computed twice: it is the fee of the segments after a change less the fee before, by the same function that rates them.
//! So proration is exact, and what is taken and given back adds up.
//! Deliberately absent: payment providers, invoices, who may do what.

mod grant;

use api::clock::UtcTime;
use api::id::PlayerId;
use serde::{Deserialize, Serialize};

pub use self::grant::{Admission, Denied, EntitlementGrant, PlayRule, PlayerUse, Quota, quota};
use crate::contract::{Contract, FOREVER, Phase, days_after};
use crate::id::{OrderId, PlanName, ProductName, TenantName};
use crate::money::{Currency, Money, MoneyError};
use crate::period::{PeriodError, Schedule, Zone};
use crate::plan::{PriceVersion, Term, Terms};

/// What is bought: a version of a plan's price, so many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Which plan.
    pub plan: PlanName,
    /// What of.
    pub product: ProductName,
    /// At which terms.
    pub version: PriceVersion,
    /// How often; at least 1.
    pub units: u32,
}

impl Selection {
    const fn terms(&self) -> &Terms {
        &self.version.terms
    }
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Somebody wished so.
    Wish,
    /// It was not paid in time.
    Unpaid,
}

/// What an order is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderState {
    /// It may be changed still; nobody is asked to pay.
    Draft,
    /// It waits for its first payment.
    PendingPayment {
        /// Cancelled when it was not paid until then.
        until: UtcTime,
        /// How much.
        due: Money,
    },
    /// It is paid, and has not begun.
    Paid {
        /// Since when.
        at: UtcTime,
    },
    /// It grants what was bought.
    Active {
        /// Since when.
        since: UtcTime,
    },
    /// Its time was over.
    Expired {
        /// When.
        at: UtcTime,
    },
    /// It was ended before it began, or an open one was ended.
    Cancelled {
        /// When.
        at: UtcTime,
        /// Why.
        reason: CancelReason,
    },
    /// It was ended, and money was given back.
    Refunded {
        /// When.
        at: UtcTime,
    },
}

impl OrderState {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            OrderState::Draft => "draft",
            OrderState::PendingPayment { .. } => "pending_payment",
            OrderState::Paid { .. } => "paid",
            OrderState::Active { .. } => "active",
            OrderState::Expired { .. } => "expired",
            OrderState::Cancelled { .. } => "cancelled",
            OrderState::Refunded { .. } => "refunded",
        }
    }

    /// True of states that are never left.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        match self {
            OrderState::Expired { .. } | OrderState::Cancelled { .. } | OrderState::Refunded { .. } => true,
            OrderState::Draft
            | OrderState::PendingPayment { .. }
            | OrderState::Paid { .. }
            | OrderState::Active { .. } => false,
        }
    }
}

/// How much is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundOf {
    /// The fee of the time that is left. Prepaid hours are cut by the same part; what was played beyond is rated as the terms say.
    Unused,
    /// All that the order ever cost, as if it had never begun.
    All,
}

/// What is done with an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Something else is bought.
    Revise {
        /// What.
        selection: Selection,
    },
    /// It is bought. What costs nothing in advance is paid with that.
    Submit {
        /// To be paid until then.
        pay_until: UtcTime,
    },
    /// It was paid.
    Pay {
        /// How much: all of it.
        amount: Money,
    },
    /// It begins.
    Activate,
    /// The next term of a periodic order was paid, or is put on the next invoice: it goes on for it.
    Renew,
    /// Other terms from now on, for what is left of the period. Of an open order also cheaper ones: nothing was paid for ahead.
    Upgrade {
        /// To what.
        selection: Selection,
    },
    /// Other terms from the next renewal on.
    Downgrade {
        /// To what.
        selection: Selection,
    },
    /// Nobody wants it any more. A periodic one runs out; an open one ends now.
    Cancel,
    /// It ends now, and money is given back.
    Refund {
        /// How much.
        of: RefundOf,
    },
    /// Time passed: what waited too long is cancelled, what has run out expires.
    Tick,
}

impl Act {
    const fn word(&self) -> &'static str {
        match self {
            Act::Revise { .. } => "revise",
            Act::Submit { .. } => "submit",
            Act::Pay { .. } => "pay",
            Act::Activate => "activate",
            Act::Renew => "renew",
            Act::Upgrade { .. } => "upgrade",
            Act::Downgrade { .. } => "downgrade",
            Act::Cancel => "cancel",
            Act::Refund { .. } => "refund",
            Act::Tick => "tick",
        }
    }
}

/// Why something cannot be done with an order. The order is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Not in this state.
    #[error("an order that is {state} cannot {act}: {why}")]
    Illegal {
        /// The state's word.
        state: &'static str,
        /// The act's word.
        act: &'static str,
        /// What to do instead.
        why: &'static str,
    },
    /// Another amount than is due. Pay exactly that.
    #[error("{due} is due, not {paid}")]
    Amount {
        /// What is due.
        due: Money,
        /// What was paid.
        paid: Money,
    },
    /// What is bought cannot be bought so.
    #[error("{fault}: {remedy}")]
    Selection {
        /// What is wrong.
        fault: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An amount is too large.
    #[error("the amount cannot be computed")]
    Money(#[from] MoneyError),
    /// A border is outside of the calendar.
    #[error("the period cannot be computed")]
    Period(#[from] PeriodError),
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Which.
    pub id: OrderId,
    /// Who pays.
    pub tenant: TenantName,
    /// Whose it is, where it is one player's.
    #[serde(default)]
    pub player: Option<PlayerId>,
    /// Where its periods begin and end.
    pub zone: Zone,
    /// What is bought; of an active order, what the last phase is.
    pub selection: Selection,
    /// What is bought with the next renewal, where that is something else.
    #[serde(default)]
    pub next: Option<Selection>,
    /// True of a periodic order that is not to be renewed.
    #[serde(default)]
    pub is_ending: bool,
    /// The state.
    pub state: OrderState,
    /// Its terms over time, since it began.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// Until when it is bought; `None` = open, or for ever, or not begun.
    #[serde(default)]
    pub ends: Option<UtcTime>,
}

impl Order {
    /// A draft.
    ///
    /// # Errors
    /// What is bought makes no sense.
    pub fn new(
        id: OrderId,
        tenant: TenantName,
        player: Option<PlayerId>,
        zone: Zone,
        selection: Selection,
    ) -> Result<Order, OrderError> {
        check_selection(&selection)?;
        let state = OrderState::Draft;
        Ok(Order {
            id,
            tenant,
            player,
            zone,
            selection,
            next: None,
            is_ending: false,
            state,
            phases: vec![],
            ends: None,
        })
    }

    /// Its terms over time: what [`Meter`](crate::rating::Meter) rates by.
    #[must_use]
    pub fn contract(&self) -> Contract {
        Contract {
            order: self.id,
            tenant: self.tenant.clone(),
            player: self.player,
            zone: self.zone.clone(),
            phases: self.phases.clone(),
            ended: self.ends,
        }
    }

    /// Does something. Says what becomes due by it: below zero is given back, zero is nothing. What an open order owes is on its invoices.
    ///
    /// # Errors
    /// Not in this state, or an amount or a border that cannot be computed; nothing has changed then.
    pub fn act(&mut self, now: UtcTime, act: &Act) -> Result<Money, OrderError> {
        let mut after = self.clone();
        let due = after.change(now, act)?;
        *self = after;
        Ok(due)
    }

    fn currency(&self) -> Currency {
        self.selection.terms().currency
    }

    fn change(&mut self, now: UtcTime, act: &Act) -> Result<Money, OrderError> {
        let nothing = Money::zero(self.currency());
        match (self.state, act) {
            (OrderState::Draft, Act::Revise { selection }) => {
                check_selection(selection)?;
                self.selection = selection.clone();
                Ok(nothing)
            }
            (OrderState::Draft, Act::Submit { pay_until }) => self.submit(now, *pay_until),
            (OrderState::PendingPayment { due, .. }, Act::Pay { amount }) => {
                if *amount != due {
                    return Err(OrderError::Amount { due, paid: *amount });
                }
                self.state = OrderState::Paid { at: now };
                Ok(nothing)
            }
            (OrderState::Draft | OrderState::PendingPayment { .. }, Act::Cancel) => {
                self.state = OrderState::Cancelled { at: now, reason: CancelReason::Wish };
                Ok(nothing)
            }
            (OrderState::PendingPayment { until, .. }, Act::Tick) => {
                if now >= until {
                    self.state = OrderState::Cancelled { at: until, reason: CancelReason::Unpaid };
                }
                Ok(nothing)
            }
            (OrderState::Paid { .. }, Act::Activate) => self.activate(now),
            (OrderState::Paid { .. }, Act::Refund { .. }) => {
                self.state = OrderState::Refunded { at: now };
                Ok(self.in_advance()?.negated()?)
            }
            (OrderState::Active { .. }, Act::Renew) => self.renew(now),
            (OrderState::Active { .. }, Act::Upgrade { selection }) => self.upgrade(now, selection),
            (OrderState::Active { .. }, Act::Downgrade { selection }) => self.downgrade(selection),
            (OrderState::Active { .. }, Act::Cancel) => {
                self.cancel(now);
                Ok(nothing)
            }
            (OrderState::Active { .. }, Act::Refund { of }) => self.refund(now, *of),
            (OrderState::Active { .. }, Act::Tick) => {
                if let Some(at) = self.ends.filter(|ends| *ends <= now) {
                    self.state = OrderState::Expired { at };
                }
                Ok(nothing)
            }
            (state, Act::Tick) => {
                debug_assert!(state.is_last() || matches!(state, OrderState::Draft | OrderState::Paid { .. }));
                Ok(nothing)
            }
            (state, act) => Err(OrderError::Illegal { state: state.word(), act: act.word(), why: why_not(&state) }),
        }
    }

    /// What is to be paid before it begins.
    fn in_advance(&self) -> Result<Money, OrderError> {
        let terms = self.selection.terms();
        Ok(match terms.term {
            Term::Open => Money::zero(terms.currency),
            Term::Periodic { .. } | Term::Days { .. } | Term::Permanent => terms.fee(self.selection.units)?,
        })
    }

    fn submit(&mut self, now: UtcTime, pay_until: UtcTime) -> Result<Money, OrderError> {
        let due = self.in_advance()?;
        self.state = if due.is_zero() {
            OrderState::Paid { at: now }
        } else {
            OrderState::PendingPayment { until: pay_until, due }
        };
        Ok(due)
    }

    fn activate(&mut self, now: UtcTime) -> Result<Money, OrderError> {
        self.ends = end_of_first(&self.zone, self.selection.terms().term, now)?;
        self.phases = vec![phase(&self.selection, now, now)];
        self.state = OrderState::Active { since: now };
        Ok(Money::zero(self.currency()))
    }

    fn renew(&mut self, now: UtcTime) -> Result<Money, OrderError> {
        let (Term::Periodic { every }, Some(ends)) = (self.selection.terms().term, self.ends) else {
            return Err(self.illegal("renew", "only a periodic order has a next term; buy another one"));
        };
        if now >= ends {
            return Err(self.illegal("renew", "its time is over; buy another one"));
        }
        if self.is_ending {
            return Err(self.illegal("renew", "it was cancelled; buy another one"));
        }
        let before = self.fees()?;
        let anchor = self.phases.last().map_or(ends, |phase| phase.anchor);
        if let Some(next) = self.next.take() {
            // Another rhythm begins its own days of billing.
            let (anchor, ends_next) = match next.terms().term {
                term if term == self.selection.terms().term => (anchor, None),
                term => (ends, Some(end_of_first(&self.zone, term, ends)?)),
            };
            self.phases.push(phase(&next, ends, anchor));
            self.selection = next;
            if let Some(ends_next) = ends_next {
                self.ends = ends_next;
                return Ok(self.fees()?.minus(before)?);
            }
        }
        let (_, period) = Schedule::anchored(&self.zone, every, anchor)?.containing(ends)?;
        self.ends = Some(period.to);
        Ok(self.fees()?.minus(before)?)
    }

    fn upgrade(&mut self, now: UtcTime, selection: &Selection) -> Result<Money, OrderError> {
        check_selection(selection)?;
        self.check_change(selection)?;
        let Some(last) = self.phases.last() else { return Err(self.illegal("upgrade", "it never began")) };
        if now <= last.from || self.ends.is_some_and(|ends| now >= ends) {
            return Err(self.illegal("upgrade", "it changes within its time, and once a moment"));
        }
        let (old, new) = (self.selection.terms(), selection.terms());
        let is_paid_ahead = new.term == old.term && !matches!(new.term, Term::Open);
        if is_paid_ahead && selection.terms().fee(selection.units)?.minor < old.fee(self.selection.units)?.minor {
            let remedy = "downgrade to it: that takes effect with the next renewal";
            return Err(OrderError::Selection { fault: "it costs less", remedy });
        }
        let before = self.fees()?;
        let anchor = if new.term == old.term { last.anchor } else { now };
        if new.term != old.term {
            self.ends = end_of_first(&self.zone, new.term, now)?;
        }
        self.phases.push(phase(selection, now, anchor));
        self.selection = selection.clone();
        self.next = None;
        Ok(self.fees()?.minus(before)?)
    }

    fn downgrade(&mut self, selection: &Selection) -> Result<Money, OrderError> {
        check_selection(selection)?;
        self.check_change(selection)?;
        if !matches!(self.selection.terms().term, Term::Periodic { .. }) {
            return Err(self.illegal("downgrade", "only a periodic order has a next term; upgrade an open one"));
        }
        self.next = Some(selection.clone());
        Ok(Money::zero(self.currency()))
    }

    /// What is bought once is not exchanged: it is refunded, and something else is bought.
    fn check_change(&self, selection: &Selection) -> Result<(), OrderError> {
        let refuse = |is_wrong: bool, fault, remedy| {
            if is_wrong { Err(OrderError::Selection { fault, remedy }) } else { Ok(()) }
        };
        let (old, new) = (self.selection.terms(), selection.terms());
        refuse(old.currency != new.currency, "it is in another currency", "buy another order")?;
        let is_bought_once = |term| matches!(term, Term::Days { .. } | Term::Permanent);
        let remedy = "refund the one and buy the other";
        refuse(is_bought_once(old.term) || is_bought_once(new.term), "what is bought once is not changed", remedy)?;
        let is_open = |term| matches!(term, Term::Open);
        let remedy = "cancel the one and buy the other";
        refuse(is_open(old.term) != is_open(new.term), "an open order does not become a periodic one", remedy)
    }

    fn cancel(&mut self, now: UtcTime) {
        match self.selection.terms().term {
            Term::Open => {
                self.ends = Some(now);
                self.state = OrderState::Cancelled { at: now, reason: CancelReason::Wish };
            }
            Term::Periodic { .. } | Term::Days { .. } | Term::Permanent => {
                self.is_ending = true;
                self.next = None;
            }
        }
    }

    fn refund(&mut self, now: UtcTime, of: RefundOf) -> Result<Money, OrderError> {
        let before = self.fees()?;
        match (of, self.selection.terms().term) {
            (RefundOf::Unused, Term::Days { .. } | Term::Permanent) => {
                let why = "what is bought once has no unused part; give back all, or a credit note";
                return Err(self.illegal("refund", why));
            }
            (RefundOf::Unused, Term::Open | Term::Periodic { .. }) => {
                self.ends = Some(self.ends.map_or(now, |ends| ends.min(now)));
            }
            (RefundOf::All, _) => {
                self.ends = self.phases.first().map(|phase| phase.from);
                self.phases.truncate(1);
            }
        }
        self.state = OrderState::Refunded { at: now };
        Ok(self.fees()?.minus(before)?)
    }

    /// The fees of all that is bought in advance.
    fn fees(&self) -> Result<Money, OrderError> {
        if matches!(self.selection.terms().term, Term::Open) {
            return Ok(Money::zero(self.currency()));
        }
        let contract = self.contract();
        let segments = contract.segments(self.ends.unwrap_or(FOREVER))?;
        let fees = segments.iter().map(crate::contract::Segment::fee);
        Ok(fees.into_iter().try_fold(Money::zero(self.currency()), |sum, fee| sum.plus(fee?))?)
    }

    fn illegal(&self, act: &'static str, why: &'static str) -> OrderError {
        OrderError::Illegal { state: self.state.word(), act, why }
    }

    /// What has to hold in every state.
    ///
    /// # Errors
    /// A sentence that says what does not.
    pub fn verify_invariants(&self) -> Result<(), String> {
        self.contract().verify_invariants()?;
        let (id, word, has_begun) = (self.id, self.state.word(), !self.phases.is_empty());
        let is_wrong = match self.state {
            OrderState::Draft | OrderState::PendingPayment { .. } | OrderState::Paid { .. } => has_begun,
            OrderState::Active { .. } | OrderState::Expired { .. } => !has_begun,
            OrderState::Cancelled { .. } | OrderState::Refunded { .. } => false,
        };
        if is_wrong {
            return Err(format!("{id} is {word}, and {}", if has_begun { "has begun" } else { "never began" }));
        }
        if self.state.is_last() && has_begun && self.ends.is_none() {
            return Err(format!("{id} is {word}, and has no end"));
        }
        Ok(())
    }
}

const fn why_not(state: &OrderState) -> &'static str {
    match state {
        OrderState::Draft => "submit it first",
        OrderState::PendingPayment { .. } => "it waits for its payment; pay it, or cancel it",
        OrderState::Paid { .. } => "it has not begun; activate it, or refund it",
        OrderState::Active { .. } => "it has begun; change, renew, cancel or refund it",
        OrderState::Expired { .. } | OrderState::Cancelled { .. } | OrderState::Refunded { .. } => {
            "it is over for good; buy another one"
        }
    }
}

fn check_selection(selection: &Selection) -> Result<(), OrderError> {
    let refuse = |fault, remedy| Err(OrderError::Selection { fault, remedy });
    if selection.units == 0 {
        return refuse("nothing is bought", "write at least one unit");
    }
    if selection.terms().check().is_err() {
        return refuse("the terms contradict themselves", "buy a version that was published");
    }
    Ok(())
}

fn phase(selection: &Selection, from: UtcTime, anchor: UtcTime) -> Phase {
    let Selection { plan, version, units, .. } = selection.clone();
    Phase { from, anchor, plan, version, units }
}

/// When the first term ends that begins at `from`; `None` = never.
fn end_of_first(zone: &Zone, term: Term, from: UtcTime) -> Result<Option<UtcTime>, PeriodError> {
    Ok(match term {
        Term::Open | Term::Permanent => None,
        Term::Periodic { every } => Some(Schedule::anchored(zone, every, from)?.border(1)?),
        Term::Days { days } => Some(days_after(from, days)),
    })
}

#[cfg(test)]
mod tests;
