//! The postings that billing makes, each from the figures of its document.

use api::clock::UtcTime;

use super::{Account, Entry, Posting, Reason};
use crate::id::{Key, TenantName};
use crate::money::{Exact, Money, MoneyError};

/// What a document says, as the ledger needs it. Below zero in all three for what is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Of whom.
    pub tenant: TenantName,
    /// Earned with the document.
    pub revenue: Money,
    /// Paid in advance: earned when it is played.
    pub prepaid: Money,
    /// Tax on both.
    pub tax: Money,
}

fn posting(key: Key, at: UtcTime, reason: Reason, entries: Vec<(Account, Money)>) -> Posting {
    let entry = |(account, amount)| Entry { account, amount };
    let is_something = |entry: &Entry| !entry.amount.is_zero();
    Posting { key, at, reason, entries: entries.into_iter().map(entry).filter(is_something).collect() }
}

impl Posting {
    /// An invoice: the tenant owes, and the operator has earned, or still has to deliver, and owes the tax.
    ///
    /// # Errors
    /// Amounts of two currencies, or too large.
    pub fn invoice(key: Key, at: UtcTime, issued: &Issued) -> Result<Posting, MoneyError> {
        issue(key, at, Reason::Invoice, issued)
    }

    /// A credit note: `issued` says what is given back, below zero.
    ///
    /// # Errors
    /// As [`Posting::invoice`].
    pub fn credit_note(key: Key, at: UtcTime, issued: &Issued) -> Result<Posting, MoneyError> {
        issue(key, at, Reason::CreditNote, issued)
    }

    /// The tenant paid `amount`.
    ///
    /// # Errors
    /// Too large.
    pub fn payment(key: Key, at: UtcTime, tenant: TenantName, amount: Money) -> Result<Posting, MoneyError> {
        let entries = vec![(Account::Clearing, amount), (Account::Receivable { tenant }, amount.negated()?)];
        Ok(posting(key, at, Reason::Payment, entries))
    }

    /// The tenant got `amount` back.
    ///
    /// # Errors
    /// Too large.
    pub fn refund(key: Key, at: UtcTime, tenant: TenantName, amount: Money) -> Result<Posting, MoneyError> {
        let entries = vec![(Account::Receivable { tenant }, amount), (Account::Clearing, amount.negated()?)];
        Ok(posting(key, at, Reason::Refund, entries))
    }

    /// Prepaid hours worth `amount` were played, or expired: they are earned now. See [`recognised`].
    ///
    /// # Errors
    /// Too large.
    pub fn recognition(key: Key, at: UtcTime, tenant: TenantName, amount: Money) -> Result<Posting, MoneyError> {
        let revenue = Account::Revenue { tenant: tenant.clone() };
        let entries = vec![(Account::Prepaid { tenant }, amount), (revenue, amount.negated()?)];
        Ok(posting(key, at, Reason::Recognition, entries))
    }

    /// `amount` of what the tenant owes is not collected; below zero: not given back.
    ///
    /// # Errors
    /// Too large.
    pub fn write_off(key: Key, at: UtcTime, tenant: TenantName, amount: Money) -> Result<Posting, MoneyError> {
        let entries = vec![(Account::Rounding, amount), (Account::Receivable { tenant }, amount.negated()?)];
        Ok(posting(key, at, Reason::WriteOff, entries))
    }
}

fn issue(key: Key, at: UtcTime, reason: Reason, issued: &Issued) -> Result<Posting, MoneyError> {
    let tenant = &issued.tenant;
    let gross = issued.revenue.plus(issued.prepaid)?.plus(issued.tax)?;
    let entries = vec![
        (Account::Receivable { tenant: tenant.clone() }, gross),
        (Account::Revenue { tenant: tenant.clone() }, issued.revenue.negated()?),
        (Account::Prepaid { tenant: tenant.clone() }, issued.prepaid.negated()?),
        (Account::Tax, issued.tax.negated()?),
    ];
    Ok(posting(key, at, reason, entries))
}

/// How much of a price is earned when so many of its milliseconds are played or expired: cumulative, so that what is posted is this less what was
/// posted, and the last millisecond earns what is left to the unit.
///
/// # Errors
/// Nothing was bought, or too large.
pub fn recognised(price: Money, used_ms: i64, bought_ms: i64) -> Result<Money, MoneyError> {
    let used = i128::from(used_ms.clamp(0, bought_ms.max(0)));
    let minor = Exact::whole(i128::from(price.minor)).times(used, i128::from(bought_ms))?.round()?;
    Ok(Money::new(minor, price.currency))
}
