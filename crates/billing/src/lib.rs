//! What was used, what it costs, and who owes it: a pure function of facts and terms.
//!
//! Principles: facts before metrics; whatever is told twice, late or in another order makes the same money; exact until one rounding; what is booked
//! is never changed, only added to; every amount names what it is made of; doubt is decided in the customer's favour.
//! Deliberately absent: databases, networks, clocks, random numbers, floating point, payment providers, tax law.

mod csv;

pub mod contract;
pub mod cost;
pub mod id;
pub mod invoice;
pub mod ledger;
pub mod money;
pub mod order;
pub mod period;
pub mod plan;
pub mod prepaid;
pub mod rating;
pub mod usage;
