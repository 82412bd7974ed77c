//! Prepaid hours: which are used first, what becomes of the rest, and how long somebody can still play.
//!
//! Two things are apart. [`allocate()`] is the money: a pure function of all lots and all usage, so that facts in another order cover the same hours.
//! [`Wallet`] is the moment: it holds hours for sessions that play now, so that two of them do not play the same hour, and says when to warn.
//!
//! The hour that expires first is used first. Of two that expire together, the one that cannot roll over any more.
//! Deliberately absent: ending sessions; who is told by [`Standing`] does that.

mod allocate;
mod wallet;

use api::clock::UtcTime;
use serde::{Deserialize, Serialize};

pub use self::allocate::{Allocation, LotUse, Piece, Use, allocate};
pub use self::wallet::{Hold, HoldError, Standing, Wallet};
use crate::contract::{Contract, FOREVER};
use crate::id::{LotId, OrderId};
use crate::money::Money;
use crate::rating::RatingError;

/// Hours as they were bought or granted: one lot for each period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lot {
    /// Which.
    pub id: LotId,
    /// By which order.
    pub order: OrderId,
    /// From then on.
    pub from: UtcTime,
    /// Gone from then on.
    pub expires: UtcTime,
    /// How much, in milliseconds.
    pub ms: i64,
    /// Of what is left at the end, at most so much goes into the order's next lot. Milliseconds.
    pub roll_over_ms: i64,
    /// What was paid for it, without tax: it is earned as the lot is used.
    pub price: Money,
}

impl Lot {
    /// Which lot is used first: the smallest.
    fn order_of_use(&self) -> (UtcTime, bool, UtcTime, LotId) {
        (self.expires, self.roll_over_ms > 0, self.from, self.id)
    }

    fn is_valid(&self, at: UtcTime) -> bool {
        self.from <= at && at < self.expires
    }
}

/// The id of the lot of a segment: the same whenever it is computed.
fn lot_id(order: OrderId, segment: UtcTime) -> LotId {
    hashed(order.uuid(), segment.unix_ms())
}

/// The id of what rolled over from a lot.
fn rolled_id(lot: LotId) -> LotId {
    hashed(lot.uuid(), i64::MIN)
}

fn hashed(uuid: uuid::Uuid, number: i64) -> LotId {
    let mut bytes = [0_u8; 24];
    bytes[..16].copy_from_slice(uuid.as_bytes());
    bytes[16..].copy_from_slice(&number.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    LotId::from_uuid(uuid::Builder::from_custom_bytes(id).into_uuid())
}

/// The lots that an order brings, of all its segments that begin before `until`.
///
/// Hours of one billing period are one pool, whatever terms they came by: each lot is valid in the whole of its period. So who upgrades keeps what is
/// left of the part that he paid for, and who had played more than that part has played it of the new one; nothing is billed for it afterwards.
///
/// # Errors
/// A number that is too large, or a moment outside of the calendar.
pub fn lots(contract: &Contract, until: UtcTime) -> Result<Vec<Lot>, RatingError> {
    let mut lots = Vec::new();
    let begun = contract.phases.first().map_or(FOREVER, |phase| phase.from);
    for segment in contract.segments(until)? {
        let Some(allowance) = segment.terms().allowance() else { continue };
        lots.push(Lot {
            id: lot_id(contract.order, segment.part.from),
            order: contract.order,
            from: segment.whole.from.max(begun),
            expires: segment.whole.to.min(contract.ended.unwrap_or(FOREVER)),
            ms: segment.share_of(allowance.seconds)?,
            roll_over_ms: segment.share_of(allowance.roll_over_s)?,
            price: segment.fee()?,
        });
    }
    Ok(lots)
}

#[cfg(test)]
mod tests;
