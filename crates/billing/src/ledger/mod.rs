//! The ledger: double entry, append-only, and its balances are nothing but its postings added up.
//!
//! Principles: each posting sums to zero in each currency; a key is posted once, and posting it again is a duplicate, not an error; nothing is
//! changed, corrections are postings. A positive amount is a debit, a negative one a credit.
//! Deliberately absent: closing of years, statutory charts of accounts: an accounting program takes the postings for these.

mod postings;

use std::collections::BTreeMap;

use api::clock::UtcTime;
use serde::{Deserialize, Serialize};

pub use self::postings::{Issued, recognised};
use crate::csv::{Cell, row};
use crate::id::{Key, TenantName};
use crate::money::{Currency, Money, MoneyError};

/// Where money is, or whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Account {
    /// What a tenant owes. An asset: debits make it larger. Below zero: the tenant has paid more than was invoiced.
    Receivable {
        /// Which tenant.
        tenant: TenantName,
    },
    /// Money that a payment provider or a bank has. An asset.
    Clearing,
    /// What was earned from a tenant. Income: credits make it larger.
    Revenue {
        /// Which tenant.
        tenant: TenantName,
    },
    /// What a tenant paid for hours that are still to be played. A liability: credits make it larger.
    Prepaid {
        /// Which tenant.
        tenant: TenantName,
    },
    /// Taxes that are owed. A liability.
    Tax,
    /// Differences too small to be collected. An expense.
    Rounding,
}

impl Account {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Account::Receivable { .. } => "receivable",
            Account::Clearing => "clearing",
            Account::Revenue { .. } => "revenue",
            Account::Prepaid { .. } => "prepaid",
            Account::Tax => "tax",
            Account::Rounding => "rounding",
        }
    }

    /// Whose it is; `None` = the operator's.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantName> {
        match self {
            Account::Receivable { tenant } | Account::Revenue { tenant } | Account::Prepaid { tenant } => Some(tenant),
            Account::Clearing | Account::Tax | Account::Rounding => None,
        }
    }
}

/// One side of a posting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which account.
    pub account: Account,
    /// Debit above zero, credit below.
    pub amount: Money,
}

/// Why something is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An invoice was issued.
    Invoice,
    /// A credit note was issued.
    CreditNote,
    /// A tenant paid.
    Payment,
    /// A tenant was paid back.
    Refund,
    /// Prepaid hours were played, or expired.
    Recognition,
    /// What is left of a debt is not collected.
    WriteOff,
}

impl Reason {
    /// The word in JSON and SQL.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Invoice => "invoice",
            Reason::CreditNote => "credit_note",
            Reason::Payment => "payment",
            Reason::Refund => "refund",
            Reason::Recognition => "recognition",
            Reason::WriteOff => "write_off",
        }
    }
}

/// An entry in the journal. Never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// Unique: for example `invoice/2026-0001`.
    pub key: Key,
    /// When it counts.
    pub at: UtcTime,
    /// Why.
    pub reason: Reason,
    /// Sums to zero in each currency.
    pub entries: Vec<Entry>,
}

/// Why something is not posted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Debits are not credits. A bug of who made the posting.
    #[error("posting {key}: debits and credits differ by {difference}")]
    Unbalanced {
        /// Which.
        key: Key,
        /// Debits less credits.
        difference: Money,
    },
    /// It says nothing. A bug of who made the posting.
    #[error("posting {0} has no entries")]
    Empty(Key),
    /// The key stands for something else. Take another key, or find out why two acts have one.
    #[error("posting {0} was posted before with other entries: nothing is posted over")]
    Reused(Key),
    /// An amount is too large.
    #[error("the balance cannot be computed")]
    Money(#[from] MoneyError),
}

/// What became of a posting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is in the ledger now.
    New,
    /// It was there before: nothing changed.
    Known,
}

impl Posting {
    /// Does it balance?
    ///
    /// # Errors
    /// Nothing in it, or a currency whose debits are not its credits.
    pub fn check(&self) -> Result<(), LedgerError> {
        if self.entries.is_empty() {
            return Err(LedgerError::Empty(self.key.clone()));
        }
        let mut sums: BTreeMap<Currency, Money> = BTreeMap::new();
        for entry in &self.entries {
            let sum = sums.entry(entry.amount.currency).or_insert(Money::zero(entry.amount.currency));
            *sum = sum.plus(entry.amount)?;
        }
        match sums.into_values().find(|sum| !sum.is_zero()) {
            Some(difference) => Err(LedgerError::Unbalanced { key: self.key.clone(), difference }),
            None => Ok(()),
        }
    }
}

/// The postings so far, and the balances that follow from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    postings: Vec<Posting>,
    by_key: BTreeMap<Key, usize>,
    balances: BTreeMap<(Account, Currency), Money>,
}

impl Ledger {
    /// Without postings.
    #[must_use]
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// From postings, as a database has them.
    ///
    /// # Errors
    /// The first one that cannot be posted.
    pub fn replay(postings: impl IntoIterator<Item = Posting>) -> Result<Ledger, LedgerError> {
        let mut ledger = Ledger::new();
        for posting in postings {
            ledger.post(posting)?;
        }
        Ok(ledger)
    }

    /// Appends a posting, or finds that it is there. Nothing changes where it cannot be posted.
    ///
    /// # Errors
    /// One that does not balance, one whose key stands for another, or a balance that is too large.
    pub fn post(&mut self, posting: Posting) -> Result<Posted, LedgerError> {
        if let Some(known) = self.by_key.get(&posting.key).and_then(|index| self.postings.get(*index)) {
            return if *known == posting { Ok(Posted::Known) } else { Err(LedgerError::Reused(posting.key)) };
        }
        posting.check()?;
        let mut changed: BTreeMap<(Account, Currency), Money> = BTreeMap::new();
        for entry in &posting.entries {
            let currency = entry.amount.currency;
            let place = (entry.account.clone(), currency);
            let before = changed.get(&place).or_else(|| self.balances.get(&place)).copied();
            let after = before.unwrap_or(Money::zero(currency)).plus(entry.amount)?;
            changed.insert(place, after);
        }
        self.balances.extend(changed);
        self.by_key.insert(posting.key.clone(), self.postings.len());
        self.postings.push(posting);
        Ok(Posted::New)
    }

    /// Debits less credits of an account.
    #[must_use]
    pub fn balance(&self, account: &Account, currency: Currency) -> Money {
        self.balances.get(&(account.clone(), currency)).copied().unwrap_or(Money::zero(currency))
    }

    /// All accounts on which something was ever posted, with their balances.
    pub fn balances(&self) -> impl Iterator<Item = (&Account, Money)> {
        self.balances.iter().map(|((account, _), balance)| (account, *balance))
    }

    /// The journal, oldest first.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// The journal for an accounting program: one row an entry, debits and credits in columns of their own.
    #[must_use]
    pub fn journal_csv(&self) -> String {
        let mut out = String::from("key,at,reason,account,tenant,debit,credit,currency\r\n");
        for posting in &self.postings {
            for entry in &posting.entries {
                let is_debit = entry.amount.minor >= 0;
                let amount = Money { minor: entry.amount.minor.saturating_abs(), ..entry.amount }.decimal();
                let (debit, credit) = if is_debit { (amount, String::new()) } else { (String::new(), amount) };
                let cells = [
                    Cell::Text(posting.key.as_str()),
                    Cell::Figure(posting.at.to_string()),
                    Cell::Figure(posting.reason.word().to_owned()),
                    Cell::Figure(entry.account.word().to_owned()),
                    Cell::Text(entry.account.tenant().map_or("", TenantName::as_str)),
                    Cell::Figure(debit),
                    Cell::Figure(credit),
                    Cell::Figure(entry.amount.currency.to_string()),
                ];
                row(&mut out, &cells);
            }
        }
        out
    }

    /// Debits are credits, in each posting and all together, and a replay gives these balances.
    ///
    /// # Errors
    /// A sentence that says what does not hold.
    pub fn verify_invariants(&self) -> Result<(), String> {
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for posting in &self.postings {
            posting.check().map_err(|error| error.to_string())?;
        }
        for ((_, currency), balance) in &self.balances {
            *sums.entry(*currency).or_default() += i128::from(balance.minor);
        }
        if let Some((currency, sum)) = sums.iter().find(|(_, sum)| **sum != 0) {
            return Err(format!("all balances in {currency} add up to {sum}, not to nothing"));
        }
        let again = Ledger::replay(self.postings.iter().cloned()).map_err(|error| error.to_string())?;
        if again == *self { Ok(()) } else { Err("a replay gives other balances".to_owned()) }
    }
}

#[cfg(test)]
mod tests;
