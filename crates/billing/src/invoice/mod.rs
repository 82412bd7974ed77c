//! Invoices: posted lines of one tenant, added up, taxed, printed and exported; and credit notes that refer to them.
//!
//! An invoice equals its lines, and its lines equal the intervals that they name: [`Invoice::verify_invariants`] checks the first of itself,
//! [`prove()`] the second from raw facts.
//! Deliberately absent: numbering (a sequence without gaps is the database's), tax law (the rate is brought), sending.

mod credit;
mod csv;
mod html;
mod prove;

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use api::manifest::AppName;
use serde::{Deserialize, Serialize};

pub use self::credit::{Credit, CreditError, CreditLine, CreditNote};
pub use self::prove::{Played, prove};
use crate::id::{DocumentNumber, OrderId, TenantName};
use crate::ledger::Issued;
use crate::money::{Currency, Exact, Money, MoneyError};
use crate::period::{Period, Zone};
use crate::rating::{Item, Line};

/// Basis points of a whole: 1900 of them are 19 %.
const BASIS_POINTS: i128 = 10_000;

/// Whoever stands in the head of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Name.
    pub name: String,
    /// Lines of the address.
    #[serde(default)]
    pub address: Vec<String>,
    /// Number for tax purposes.
    #[serde(default)]
    pub tax_id: Option<String>,
}

/// A tax on all of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxRate {
    /// What it is called: `VAT`, or the reason why there is none.
    pub name: String,
    /// Hundredths of a percent: 1900 is 19 %.
    pub basis_points: u32,
}

impl TaxRate {
    /// The tax on an amount, rounded once.
    ///
    /// # Errors
    /// Too large.
    pub fn on(&self, net: Money) -> Result<Money, MoneyError> {
        let minor = Exact::whole(i128::from(net.minor)).times(i128::from(self.basis_points), BASIS_POINTS)?.round()?;
        Ok(Money::new(minor, net.currency))
    }
}

/// A posted line with the words for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Billable {
    /// Title of the plan.
    pub title: String,
    /// True of hours that are to be played later: they are earned then.
    pub is_prepaid: bool,
    /// What was posted.
    pub posted: Line,
}

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceLine {
    /// Counted from 1.
    pub position: u32,
    /// True of time before the invoice's period: facts came late, or terms changed.
    pub is_correction: bool,
    /// What for.
    pub billable: Billable,
}

impl InvoiceLine {
    /// What it adds.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.billable.posted.change.amount
    }
}

/// What one order adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderSubtotal {
    /// Which.
    pub order: OrderId,
    /// The sum of its lines.
    pub net: Money,
}

/// What one app adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSubtotal {
    /// Which; `None` = fees, and sessions whose app nobody knows.
    pub app: Option<AppName>,
    /// Counted milliseconds, without faults.
    pub ms: i64,
    /// Its share of the lines, split by time and by the largest remainder.
    pub net: Money,
}

/// What an invoice is made from.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The next of a sequence without gaps.
    pub number: DocumentNumber,
    /// Who pays.
    pub tenant: TenantName,
    /// From whom.
    pub seller: Party,
    /// To whom.
    pub buyer: Party,
    /// In which dates are printed.
    pub zone: Zone,
    /// Of all lines.
    pub currency: Currency,
    /// When it is made.
    pub issued: UtcTime,
    /// Until when it is to be paid.
    pub due: UtcTime,
    /// For what time. What is billed of time before it is a correction.
    pub period: Period,
    /// The tax on all of it.
    pub tax: TaxRate,
    /// What was posted and not yet invoiced.
    pub lines: Vec<Billable>,
}

/// An invoice. Never changed: what was wrong is credited, or corrected in the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// Number.
    pub number: DocumentNumber,
    /// Who pays.
    pub tenant: TenantName,
    /// From whom.
    pub seller: Party,
    /// To whom.
    pub buyer: Party,
    /// In which dates are printed.
    pub zone: Zone,
    /// Of all amounts.
    pub currency: Currency,
    /// When it was made.
    pub issued: UtcTime,
    /// Until when it is to be paid.
    pub due: UtcTime,
    /// For what time.
    pub period: Period,
    /// Lines.
    pub lines: Vec<InvoiceLine>,
    /// The same by order.
    pub orders: Vec<OrderSubtotal>,
    /// The same by app.
    pub apps: Vec<AppSubtotal>,
    /// Sum of the lines.
    pub net: Money,
    /// Which tax.
    pub tax_rate: TaxRate,
    /// How much of it.
    pub tax: Money,
    /// What is to be paid. Below zero: what is given back.
    pub gross: Money,
}

impl Invoice {
    /// Adds up. `apps` says which app a session played.
    ///
    /// # Errors
    /// A line in another currency, or sums that are too large.
    pub fn issue(draft: Draft, apps: &BTreeMap<SessionId, AppName>) -> Result<Invoice, MoneyError> {
        let Draft { number, tenant, seller, buyer, zone, currency, issued, due, period, tax: tax_rate, lines } = draft;
        let line = |(position, billable): (u32, Billable)| {
            let (posting, change) = (billable.posted.posting, &billable.posted.change);
            // A first fee that is billed afterwards is on time.
            let is_late = posting > 0 || change.key.item != Item::Fee;
            InvoiceLine { position, is_correction: is_late && change.period.to <= period.from, billable }
        };
        let lines: Vec<InvoiceLine> = (1..).zip(lines).map(line).collect();
        let net = Money::sum(currency, lines.iter().map(InvoiceLine::amount))?;
        let tax = tax_rate.on(net)?;
        Ok(Invoice {
            orders: by_order(&lines, currency)?,
            apps: by_app(&lines, currency, apps)?,
            gross: net.plus(tax)?,
            number,
            tenant,
            seller,
            buyer,
            zone,
            currency,
            issued,
            due,
            period,
            lines,
            net,
            tax_rate,
            tax,
        })
    }

    /// What the ledger is told: see [`Posting::invoice`](crate::ledger::Posting::invoice).
    ///
    /// # Errors
    /// Too large.
    pub fn for_ledger(&self) -> Result<Issued, MoneyError> {
        let prepaid = self.lines.iter().filter(|line| line.billable.is_prepaid).map(InvoiceLine::amount);
        let prepaid = Money::sum(self.currency, prepaid)?;
        Ok(Issued { tenant: self.tenant.clone(), revenue: self.net.minus(prepaid)?, prepaid, tax: self.tax })
    }

    /// The invoice is its lines: all sums are those of the lines, and each line is the sum of its intervals.
    ///
    /// # Errors
    /// A sentence that says what does not add up.
    pub fn verify_invariants(&self) -> Result<(), String> {
        let number = &self.number;
        let say = |error: MoneyError| format!("{number}: {error}");
        for (index, line) in self.lines.iter().enumerate() {
            if usize::try_from(line.position) != Ok(index + 1) {
                return Err(format!("{number}: line {} stands at place {}", line.position, index + 1));
            }
            line.billable.posted.change.verify_invariants().map_err(|fault| format!("{number}: {fault}"))?;
        }
        let sums = [
            ("lines", Money::sum(self.currency, self.lines.iter().map(InvoiceLine::amount))),
            ("orders", Money::sum(self.currency, self.orders.iter().map(|one| one.net))),
            ("apps", Money::sum(self.currency, self.apps.iter().map(|one| one.net))),
        ];
        for (what, sum) in sums {
            let sum = sum.map_err(say)?;
            if sum != self.net {
                return Err(format!("{number}: its {what} add up to {sum}, not to {}", self.net));
            }
        }
        if self.tax_rate.on(self.net).map_err(say)? != self.tax {
            return Err(format!("{number}: {} is not its tax", self.tax));
        }
        let gross = self.net.plus(self.tax).map_err(say)?;
        if gross == self.gross { Ok(()) } else { Err(format!("{number}: {} is to be paid, not {gross}", self.gross)) }
    }
}

fn by_order(lines: &[InvoiceLine], currency: Currency) -> Result<Vec<OrderSubtotal>, MoneyError> {
    let mut sums: BTreeMap<OrderId, Money> = BTreeMap::new();
    for line in lines {
        let sum = sums.entry(line.billable.posted.change.key.order).or_insert(Money::zero(currency));
        *sum = sum.plus(line.amount())?;
    }
    Ok(sums.into_iter().map(|(order, net)| OrderSubtotal { order, net }).collect())
}

fn by_app(
    lines: &[InvoiceLine],
    currency: Currency,
    apps: &BTreeMap<SessionId, AppName>,
) -> Result<Vec<AppSubtotal>, MoneyError> {
    let mut sums: BTreeMap<Option<AppName>, (i64, Money)> = BTreeMap::new();
    for line in lines {
        let change = &line.billable.posted.change;
        let mut shares: BTreeMap<Option<AppName>, i64> = BTreeMap::new();
        if change.key.item == Item::Time {
            for evidence in &change.evidence {
                *shares.entry(apps.get(&evidence.session).cloned()).or_default() += evidence.ms + evidence.extra_ms;
            }
        }
        let weights: Vec<u64> = shares.values().map(|ms| ms.unsigned_abs()).collect();
        if weights.iter().all(|weight| *weight == 0) {
            let sum = sums.entry(None).or_insert((0, Money::zero(currency)));
            sum.1 = sum.1.plus(line.amount())?;
            continue;
        }
        for ((app, ms), part) in shares.into_iter().zip(line.amount().split(&weights)?) {
            let sum = sums.entry(app).or_insert((0, Money::zero(currency)));
            *sum = (sum.0 + ms, sum.1.plus(part)?);
        }
    }
    Ok(sums.into_iter().map(|(app, (ms, net))| AppSubtotal { app, ms, net }).collect())
}

#[cfg(test)]
mod tests;
