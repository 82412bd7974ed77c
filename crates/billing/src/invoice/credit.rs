//! Credit notes: what is given back of lines of an invoice, never more than they were.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use serde::{Deserialize, Serialize};

use super::Invoice;
use crate::id::DocumentNumber;
use crate::ledger::Issued;
use crate::money::{Money, MoneyError};

/// What shall be given back of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Of which line of the invoice.
    pub refers_to: u32,
    /// How much, above zero, without tax.
    pub amount: Money,
    /// Why; the tenant reads it.
    pub why: String,
}

/// What is given back of one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditLine {
    /// Counted from 1.
    pub position: u32,
    /// Of which line of the invoice.
    pub refers_to: u32,
    /// Below zero, without tax.
    pub amount: Money,
    /// Why.
    pub why: String,
}

/// A credit note. Never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditNote {
    /// Number, of a sequence without gaps.
    pub number: DocumentNumber,
    /// The invoice that it is for.
    pub invoice: DocumentNumber,
    /// When it was made.
    pub issued: UtcTime,
    /// Lines.
    pub lines: Vec<CreditLine>,
    /// Sum of the lines, below zero.
    pub net: Money,
    /// Tax that is given back, not above zero.
    pub tax: Money,
    /// Both, below zero.
    pub gross: Money,
    /// How much of `net` is hours that were paid in advance.
    pub prepaid: Money,
}

/// Why nothing is credited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// No such line. Look at the invoice.
    #[error("invoice {invoice} has no line {position}")]
    NoLine {
        /// Which invoice.
        invoice: DocumentNumber,
        /// Which line.
        position: u32,
    },
    /// Nothing to give, or more than the line was. Give back what is left, or less.
    #[error("line {position}: {asked} cannot be given back, at most {left} is left of it")]
    Amount {
        /// Which line.
        position: u32,
        /// What was asked for.
        asked: Money,
        /// What is left.
        left: Money,
    },
    /// Earlier credit notes are of another invoice. A bug of who brought them.
    #[error("credit note {0} is for another invoice")]
    Foreign(DocumentNumber),
    /// It gives nothing back. Name a line.
    #[error("a credit note without lines gives nothing back")]
    Empty,
    /// An amount is in another currency, or too large.
    #[error("the amount cannot be computed")]
    Money(#[from] MoneyError),
}

impl Invoice {
    /// A credit note for some of its lines, after `earlier` ones, which are all that there are.
    ///
    /// The tax that is given back is the tax on what was left before less the tax on what is left after: the credit notes for all of an invoice give
    /// back all of its tax, to the unit.
    ///
    /// # Errors
    /// A line that does not exist, or more than is left of it.
    pub fn credit(
        &self,
        number: DocumentNumber,
        issued: UtcTime,
        credits: &[Credit],
        earlier: &[CreditNote],
    ) -> Result<CreditNote, CreditError> {
        let mut left: BTreeMap<u32, Money> = self.lines.iter().map(|line| (line.position, line.amount())).collect();
        let mut before = self.net;
        for note in earlier {
            if note.invoice != self.number {
                return Err(CreditError::Foreign(note.number.clone()));
            }
            before = before.plus(note.net)?;
            for line in &note.lines {
                if let Some(left) = left.get_mut(&line.refers_to) {
                    *left = left.plus(line.amount)?;
                }
            }
        }
        if credits.is_empty() {
            return Err(CreditError::Empty);
        }
        let (mut lines, mut net, mut prepaid) = (Vec::new(), Money::zero(self.currency), Money::zero(self.currency));
        for (position, credit) in (1..).zip(credits) {
            let Credit { refers_to, amount: asked, ref why } = *credit;
            let no_line = || CreditError::NoLine { invoice: self.number.clone(), position: refers_to };
            let left = left.get_mut(&refers_to).ok_or_else(no_line)?;
            let rest = left.minus(asked)?;
            if asked.minor <= 0 || rest.minor < 0 {
                return Err(CreditError::Amount { position: refers_to, asked, left: *left });
            }
            *left = rest;
            let amount = asked.negated()?;
            net = net.plus(amount)?;
            if self.lines.iter().any(|line| line.position == refers_to && line.billable.is_prepaid) {
                prepaid = prepaid.plus(amount)?;
            }
            lines.push(CreditLine { position, refers_to, amount, why: why.clone() });
        }
        let tax = self.tax_rate.on(before.plus(net)?)?.minus(self.tax_rate.on(before)?)?;
        Ok(CreditNote { number, invoice: self.number.clone(), issued, lines, net, tax, gross: net.plus(tax)?, prepaid })
    }
}

impl CreditNote {
    /// What the ledger is told: see [`Posting::credit_note`](crate::ledger::Posting::credit_note).
    ///
    /// # Errors
    /// Too large.
    pub fn for_ledger(&self, invoice: &Invoice) -> Result<Issued, MoneyError> {
        let revenue = self.net.minus(self.prepaid)?;
        Ok(Issued { tenant: invoice.tenant.clone(), revenue, prepaid: self.prepaid, tax: self.tax })
    }
}
