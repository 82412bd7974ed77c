//! Which hour covers which piece of which interval.

use std::collections::{BTreeMap, BTreeSet};

use api::clock::UtcTime;
use api::id::SessionId;
use serde::{Deserialize, Serialize};

use super::{Lot, rolled_id};
use crate::id::{LotId, OrderId};
use crate::ledger::recognised;
use crate::money::{Money, MoneyError};
use crate::rating::Meter;
use crate::usage::FactId;

/// Time that was played and that prepaid hours may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The order that it is rated by.
    pub order: OrderId,
    /// The first moment of its segment.
    pub segment: UtcTime,
    /// The interval.
    pub interval: FactId,
    /// Whose.
    pub session: SessionId,
    /// First moment.
    pub from: UtcTime,
    /// First moment after.
    pub to: UtcTime,
}

impl Use {
    /// All that a meter has counted.
    #[must_use]
    pub fn of(order: OrderId, meter: &Meter<'_>) -> Vec<Use> {
        let uses = meter.tallies().flat_map(|(segment, tally)| {
            tally.counted.iter().map(move |one| Use {
                order,
                segment: segment.part.from,
                interval: one.interval,
                session: one.session,
                from: one.from,
                to: one.to,
            })
        });
        uses.collect()
    }
}

/// A piece of an interval that one lot covers, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The order that it is rated by.
    pub order: OrderId,
    /// The first moment of its segment.
    pub segment: UtcTime,
    /// The interval.
    pub interval: FactId,
    /// Whose.
    pub session: SessionId,
    /// First moment.
    pub from: UtcTime,
    /// First moment after.
    pub to: UtcTime,
    /// What covers it; `None` = nothing.
    pub lot: Option<LotId>,
}

impl Piece {
    fn ms(&self) -> i64 {
        self.to.unix_ms() - self.from.unix_ms()
    }
}

/// What became of a lot. Used, rolled, expired and left add up to the lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LotUse {
    /// Which.
    pub lot: Lot,
    /// Milliseconds that were played.
    pub used_ms: i64,
    /// Milliseconds that went into the next lot.
    pub rolled_ms: i64,
    /// Milliseconds that are gone.
    pub expired_ms: i64,
    /// Milliseconds that can still be played.
    pub left_ms: i64,
}

/// What covers what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// In the order of time.
    pub pieces: Vec<Piece>,
    /// Lots that were brought, and those of what rolled over.
    pub lots: Vec<LotUse>,
}

impl Allocation {
    /// How much of each segment of an order is covered: what [`Meter::finish`] asks for.
    #[must_use]
    pub fn covered_ms(&self, order: OrderId) -> BTreeMap<UtcTime, i64> {
        let mut covered = BTreeMap::new();
        for piece in self.pieces.iter().filter(|piece| piece.order == order && piece.lot.is_some()) {
            *covered.entry(piece.segment).or_default() += piece.ms();
        }
        covered
    }

    /// No hour is used twice, or outside of its time; and none is lost.
    ///
    /// # Errors
    /// A sentence that names the lot.
    pub fn verify_invariants(&self) -> Result<(), String> {
        for one in &self.lots {
            let (id, sum) = (one.lot.id, one.used_ms + one.rolled_ms + one.expired_ms + one.left_ms);
            let parts = [one.used_ms, one.rolled_ms, one.expired_ms, one.left_ms];
            if sum != one.lot.ms || parts.iter().any(|part| *part < 0) {
                return Err(format!("{id}: {parts:?} ms are not its {} ms", one.lot.ms));
            }
            let own: Vec<&Piece> = self.pieces.iter().filter(|piece| piece.lot == Some(id)).collect();
            if own.iter().map(|piece| piece.ms()).sum::<i64>() != one.used_ms {
                return Err(format!("{id}: its pieces are not what was used of it"));
            }
            if own.iter().any(|piece| piece.from < one.lot.from || piece.to > one.lot.expires) {
                return Err(format!("{id}: a piece is outside of its time"));
            }
        }
        Ok(())
    }
}

impl LotUse {
    /// How much of its price is earned: what was played of it, and what expired. What rolled over is earned by the lot that it went into.
    ///
    /// # Errors
    /// Too large.
    pub fn earned(&self) -> Result<Money, MoneyError> {
        if self.lot.ms == 0 {
            return Ok(self.lot.price);
        }
        recognised(self.lot.price, self.used_ms + self.expired_ms, self.lot.ms)
    }
}

/// Covers usage with lots, as of `now`: lots that expired until then are closed, and roll over where they may.
///
/// Usage is cut at each beginning and end of a lot; between two such borders the pieces take from the lots that are valid there, by their beginning,
/// then by the id of their interval. So the result does not depend on the order in which anything became known.
///
/// # Errors
/// A price that is too large.
pub fn allocate(lots: &[Lot], uses: &[Use], now: UtcTime) -> Result<Allocation, MoneyError> {
    let borders: BTreeSet<UtcTime> = lots.iter().flat_map(|lot| [lot.from, lot.expires]).collect();
    let mut windows: BTreeMap<Option<UtcTime>, Vec<Piece>> = BTreeMap::new();
    for one in uses {
        for piece in cut(one, &borders) {
            let window = borders.range(..=piece.from).next_back().copied();
            windows.entry(window).or_default().push(piece);
        }
    }
    for border in borders {
        windows.entry(Some(border)).or_default();
    }
    let mut state = Allocation { pieces: Vec::new(), lots: lots.iter().map(fresh).collect() };
    for (border, mut pieces) in windows {
        if let Some(border) = border.filter(|border| *border <= now) {
            close(&mut state.lots, border)?;
        }
        pieces.sort_by_key(|piece| (piece.from, piece.interval));
        for piece in pieces {
            cover(&mut state, piece);
        }
    }
    Ok(state)
}

fn fresh(lot: &Lot) -> LotUse {
    LotUse { lot: lot.clone(), used_ms: 0, rolled_ms: 0, expired_ms: 0, left_ms: lot.ms }
}

/// A use in pieces that no border goes through.
fn cut(one: &Use, borders: &BTreeSet<UtcTime>) -> Vec<Piece> {
    let Use { order, segment, interval, session, from, to } = *one;
    let inner = borders.range(from..to).copied().filter(|border| *border > from);
    let mut starts = vec![from];
    starts.extend(inner);
    let ends = starts.iter().skip(1).copied().chain([to]);
    let piece = |(from, to)| Piece { order, segment, interval, session, from, to, lot: None };
    starts.iter().copied().zip(ends).map(piece).collect()
}

/// Lots that expire at a border: what may roll over goes into a lot that lives as long as the order's next one.
fn close(lots: &mut Vec<LotUse>, border: UtcTime) -> Result<(), MoneyError> {
    let mut rolled = Vec::new();
    for index in 0..lots.len() {
        if lots[index].lot.expires != border || lots[index].left_ms == 0 {
            continue;
        }
        let (order, left) = (lots[index].lot.order, lots[index].left_ms);
        let next = lots.iter().find(|one| one.lot.order == order && one.lot.from == border && one.lot.roll_over_ms > 0);
        let goes_on = next.map_or(0, |_next| left.min(lots[index].lot.roll_over_ms));
        if let Some(next) = next.filter(|_next| goes_on > 0) {
            let own = &lots[index].lot;
            // The part of the price that goes on with it: what the rest does not earn.
            let price = own.price.minus(recognised(own.price, own.ms - goes_on, own.ms)?)?;
            let lot = Lot { id: rolled_id(own.id), ms: goes_on, roll_over_ms: 0, price, ..next.lot.clone() };
            rolled.push(fresh(&lot));
        }
        let closed = &mut lots[index];
        closed.rolled_ms = goes_on;
        closed.expired_ms = left - goes_on;
        closed.left_ms = 0;
    }
    lots.extend(rolled);
    Ok(())
}

/// Takes a piece from the lots that are valid in its window, in the order of their use. What none covers stays uncovered.
fn cover(state: &mut Allocation, piece: Piece) {
    let mut from = piece.from;
    while from < piece.to {
        let lot = state
            .lots
            .iter_mut()
            .filter(|one| one.left_ms > 0 && one.lot.is_valid(from))
            .min_by_key(|one| one.lot.order_of_use());
        let Some(lot) = lot else {
            state.pieces.push(Piece { from, lot: None, ..piece });
            return;
        };
        let ms = lot.left_ms.min(piece.to.unix_ms() - from.unix_ms());
        lot.left_ms -= ms;
        lot.used_ms += ms;
        let to = UtcTime::from_unix_ms(from.unix_ms() + ms);
        state.pieces.push(Piece { from, to, lot: Some(lot.lot.id), ..piece });
        from = to;
    }
}
