//! Hours as data, and random ones: none is used twice or lost, and the order of facts does not matter.

use api::id::SessionId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::money::Currency;
use crate::plan::tests::geforce_now;
use crate::plan::{Allowance, Beyond, Usage};
use crate::rating::tests::{HOUR, at, contract};
use crate::usage::{Fact, FactKind};

fn session(number: u128) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(number))
}

fn lot(number: u128, from: i64, expires: i64, ms: i64, roll_over_ms: i64) -> Lot {
    Lot {
        id: LotId::from_uuid(Uuid::from_u128(number)),
        order: OrderId::from_uuid(Uuid::from_u128(if roll_over_ms > 0 { 1 } else { number })),
        from: at(from),
        expires: at(expires),
        ms,
        roll_over_ms,
        price: Money::new(i64::try_from(number).unwrap() * 997, Currency::EUR),
    }
}

fn played(number: u128, from: i64, to: i64) -> Use {
    let session = session(number);
    let fact = Fact { session, epoch: 0, span: 0, at: at(from), kind: FactKind::Opened };
    let order = OrderId::from_uuid(Uuid::from_u128(1));
    Use { order, segment: at(0), interval: fact.id(), session, from: at(from), to: at(to) }
}

/// Lots; what was played; expected (from, to, number of the lot, 0 = none) and, of the given lots, (used, rolled, expired, left).
fn check(lots: &[Lot], uses: &[Use], now: i64, pieces: &[(i64, i64, u128)], of_lots: &[(i64, i64, i64, i64)]) {
    let allocation = allocate(lots, uses, at(now)).unwrap();
    allocation.verify_invariants().unwrap();
    let number = |piece: &Piece| piece.lot.map_or(0, |lot| lot.uuid().as_u128());
    let found: Vec<_> = allocation
        .pieces
        .iter()
        .map(|piece| (piece.from.unix_ms(), piece.to.unix_ms(), if number(piece) > 99 { 99 } else { number(piece) }))
        .collect();
    assert_eq!(found, pieces);
    let found: Vec<_> =
        allocation.lots.iter().map(|one| (one.used_ms, one.rolled_ms, one.expired_ms, one.left_ms)).collect();
    assert_eq!(found, of_lots);
}

#[test]
fn the_hour_that_expires_first_is_used_first() {
    let lots = [lot(1, 0, 100, 50, 0), lot(2, 0, 40, 30, 0)];
    check(&lots, &[played(1, 0, 20)], 20, &[(0, 20, 2)], &[(0, 0, 0, 50), (20, 0, 0, 10)]);
    check(&lots, &[played(1, 0, 60)], 60, &[(0, 30, 2), (30, 40, 1), (40, 60, 1)], &[(30, 0, 0, 20), (30, 0, 0, 0)]);
    // What expired covers nothing, and what is over is not covered.
    check(&lots, &[played(1, 50, 120)], 120, &[(50, 100, 1), (100, 120, 0)], &[(50, 0, 0, 0), (0, 0, 30, 0)]);
    check(&[], &[played(1, 0, 5)], 5, &[(0, 5, 0)], &[]);
}

#[test]
fn what_is_left_rolls_over_once_and_not_beyond_its_cap() {
    let lots = [lot(1, 0, 100, 60, 20), lot(2, 100, 200, 60, 20), lot(3, 200, 300, 60, 20)];
    // 50 left, of which 20 go on; they are used before the next period's, and are gone with it.
    let uses = [played(1, 0, 10), played(2, 100, 115)];
    check(&lots[..2], &uses, 120, &[(0, 10, 1), (100, 115, 99)], &[(10, 20, 30, 0), (0, 0, 0, 60), (15, 0, 0, 5)]);
    let expected = [(10, 20, 30, 0), (0, 20, 40, 0), (0, 0, 0, 60), (15, 0, 5, 0), (0, 0, 0, 20)];
    check(&lots, &uses, 250, &[(0, 10, 1), (100, 115, 99)], &expected);
    // Not renewed: all is gone.
    check(&lots[..1], &[], 100, &[], &[(0, 0, 60, 0)]);
}

#[test]
fn a_member_plays_a_hundred_hours_and_a_pack() {
    let [_, (_, performance), _, (_, pack)] = geforce_now();
    let month = 31 * 24 * HOUR;
    let member = contract(performance);
    let mut lots_of = lots(&member, at(month + 1)).unwrap();
    assert_eq!(lots_of.iter().map(|lot| lot.ms / HOUR).collect::<Vec<_>>(), [100, 100]);
    assert_eq!(lots_of, lots(&member, at(month + 1)).unwrap(), "ids are the same whenever they are computed");
    let mut other = contract(pack);
    other.order = OrderId::from_uuid(Uuid::from_u128(2));
    lots_of.extend(lots(&other, at(1)).unwrap());
    let hours = |from: i64, to: i64| (from * HOUR, to * HOUR);
    let uses: Vec<Use> = (0..15)
        .map(|day| {
            let (from, to) = hours(day * 24, day * 24 + 6);
            played(u128::try_from(day).unwrap(), from, to)
        })
        .collect();
    // Ninety hours in the first month: ten roll over, fewer than the cap of fifteen. In the second there are 110, then the pack.
    let mut all = uses.clone();
    for day in 0..20 {
        all.push(played(
            100 + u128::try_from(day).unwrap(),
            month + day * 24 * HOUR,
            month + day * 24 * HOUR + 6 * HOUR,
        ));
    }
    let allocation = allocate(&lots_of, &all, at(month + 20 * 24 * HOUR)).unwrap();
    allocation.verify_invariants().unwrap();
    let told: Vec<_> =
        allocation.lots.iter().map(|one| [one.used_ms, one.rolled_ms, one.left_ms].map(|ms| ms / HOUR)).collect();
    assert_eq!(told, [[90, 10, 0], [100, 0, 0], [10, 0, 5], [10, 0, 0]]);
    assert_eq!(allocation.covered_ms(member.order), [(at(0), 210 * HOUR)].into());
}

#[test]
fn hours_of_a_period_are_one_pool() {
    // 31 days; after 15.5 of them from 100 to 200 hours: 50 and 100 of them, whenever they are played.
    let [_, (_, performance), ..] = geforce_now();
    let (month, half) = (31 * 24 * HOUR, 31 * 12 * HOUR);
    let mut member = contract(performance.clone());
    let mut dearer = member.phases[0].clone();
    dearer.from = at(half);
    dearer.version.number = 2;
    dearer.version.terms.fee_minor = 2198;
    let allowance = Allowance { seconds: 200 * 3600, roll_over_s: 30 * 3600, beyond: Beyond::End };
    dearer.version.terms.usage = Usage::Prepaid { allowance };
    member.phases.push(dearer);
    let lots = lots(&member, at(month + 1)).unwrap();
    assert_eq!(
        lots.iter().map(|lot| (lot.from, lot.ms / HOUR)).collect::<Vec<_>>(),
        [(at(0), 50), (at(0), 100), (at(month), 200)]
    );
    let told = |uses: &[Use]| -> Vec<[i64; 4]> {
        let allocation = allocate(&lots, uses, at(month)).unwrap();
        allocation.verify_invariants().unwrap();
        let parts = |one: &LotUse| [one.used_ms, one.rolled_ms, one.expired_ms, one.left_ms].map(|ms| ms / HOUR);
        allocation.lots.iter().map(parts).collect()
    };
    // Eighty hours before the change: thirty are of the new hours, nothing is uncovered.
    let mut used: Vec<Use> = (0..8).map(|n| played(n, 0, 10 * HOUR)).collect();
    assert_eq!(told(&used).iter().map(|parts| parts[0]).sum::<i64>(), 80);
    // Ten before it, ten after it: the caps of both parts roll over, together what a half of each is.
    used.truncate(1);
    used.push(played(9, half, half + 10 * HOUR));
    let parts = told(&used);
    let sums = [0, 1, 2, 3].map(|part| parts.iter().map(|lot| lot[part]).sum::<i64>());
    assert_eq!(sums, [20, 22, 107, 222]);
}

#[test]
fn holds_keep_hours_for_one_session() {
    let lots = [lot(1, 0, 1000, 100, 0)];
    let mut wallet = Wallet::new(&allocate(&lots, &[], at(0)).unwrap(), []);
    let (one, two) = (session(1), session(2));
    assert_eq!(wallet.reserve(at(0), one, 60).map(|hold| hold.ms), Ok(60));
    assert_eq!(wallet.reserve(at(0), one, 99).map(|hold| hold.ms), Ok(60), "once a session");
    assert_eq!(wallet.reserve(at(0), two, 60).map(|hold| hold.ms), Ok(40));
    assert_eq!(wallet.reserve(at(0), session(3), 1), Err(HoldError::NothingLeft));
    assert_eq!(wallet.extend(at(50), one, 50, 30).map(|hold| hold.ms), Ok(60), "nothing is left to extend by");
    wallet.release(two);
    assert_eq!(wallet.extend(at(50), one, 50, 30).map(|hold| hold.ms), Ok(80));
    assert_eq!(wallet.extend(at(50), one, 40, 0).map(|hold| hold.used_ms), Ok(50), "an old report");
    let standing = wallet.standing(at(50), one, 20).unwrap();
    assert_eq!((standing.warn_at, standing.end_at), (at(80), at(100)));
    assert!(!standing.must_warn(at(79)) && standing.must_warn(at(80)));
    assert!(!standing.must_end(at(99)) && standing.must_end(at(100)));
    assert_eq!(wallet.settle(at(70), one, 70), Ok(0));
    assert_eq!(wallet.settle(at(70), one, 70), Err(HoldError::NoHold(one)));
    assert_eq!(wallet.free_ms(at(70)), 30);
    assert_eq!(wallet.reserve(at(70), two, 99).map(|hold| hold.ms), Ok(30));
    assert_eq!(wallet.settle(at(105), two, 35), Ok(5));
    wallet.verify_invariants().unwrap();
}

#[test]
fn the_end_is_where_hours_end_or_expire() {
    let standing = |lots: &[Lot], holds: &[Hold], now| {
        let wallet = Wallet::new(&allocate(lots, &[], at(0)).unwrap(), holds.iter().copied());
        wallet.verify_invariants().unwrap();
        wallet.standing(at(now), session(1), 10).map(|standing| standing.end_at.unix_ms())
    };
    let own = Hold { session: session(1), ms: 10, used_ms: 0 };
    assert_eq!(standing(&[lot(1, 0, 30, 100, 0)], &[own], 0), Ok(30));
    // The next lot follows on.
    assert_eq!(standing(&[lot(1, 0, 30, 100, 0), lot(2, 30, 99, 20, 0)], &[own], 0), Ok(50));
    // After a gap it does not.
    assert_eq!(standing(&[lot(1, 0, 30, 100, 0), lot(2, 31, 99, 20, 0)], &[own], 0), Ok(30));
    // What it played, and what others hold, is not there.
    let used = Hold { used_ms: 10, ..own };
    let other = Hold { session: session(2), ms: 25, used_ms: 0 };
    assert_eq!(standing(&[lot(1, 0, 500, 100, 0)], &[used, other], 10), Ok(75));
    assert_eq!(standing(&[lot(1, 0, 500, 100, 0)], &[other], 10), Err(HoldError::NoHold(session(1))));
}

proptest! {
    #[test]
    fn no_hour_is_used_twice_or_lost(
        lots in prop::collection::vec((0..50_i64, 1..60_i64, 0..80_i64, prop::bool::ANY), 0..6),
        uses in prop::collection::vec((0..120_i64, 1..40_i64), 0..12),
        turn in any::<prop::sample::Index>(),
        now in 0..200_i64,
    ) {
        let mut next = 0;
        let lots: Vec<Lot> = (1..).zip(lots).map(|(number, (from, length, ms, rolls))| {
            // Those that roll over follow each other, as the periods of one order do.
            let from = if rolls { next } else { from };
            if rolls { next += length; }
            lot(number, from, from + length, ms, if rolls { 1 + ms / 2 } else { 0 })
        }).collect();
        let mut uses: Vec<Use> = (1..).zip(uses).map(|(number, (from, length))| played(number, from, from + length)).collect();
        let allocation = allocate(&lots, &uses, at(now)).unwrap();
        prop_assert_eq!(allocation.verify_invariants(), Ok(()));
        let all: i64 = uses.iter().map(|one| one.to.unix_ms() - one.from.unix_ms()).sum();
        let pieces: i64 = allocation.pieces.iter().map(|one| one.to.unix_ms() - one.from.unix_ms()).sum();
        prop_assert_eq!(all, pieces);
        // In the end every unit of every price is earned, by the lot itself or by what rolled over from it.
        let end = allocate(&lots, &uses, at(10_000)).unwrap();
        let earned: i64 = end.lots.iter().map(|one| one.earned().unwrap().minor).sum();
        prop_assert_eq!(earned, lots.iter().map(|lot| lot.price.minor).sum::<i64>());
        let middle = if uses.is_empty() { 0 } else { turn.index(uses.len()) };
        uses.rotate_left(middle);
        prop_assert_eq!(allocate(&lots, &uses, at(now)).unwrap(), allocation);
    }

    #[test]
    fn holds_never_promise_an_hour_twice(steps in prop::collection::vec((0..4_u8, 0..4_u128, 0..60_i64), 0..60)) {
        let lots = [lot(1, 0, 10_000, 100, 0), lot(2, 0, 500, 100, 0)];
        let mut wallet = Wallet::new(&allocate(&lots, &[], at(0)).unwrap(), []);
        let mut settled = 0;
        for (index, (act, who, ms)) in steps.into_iter().enumerate() {
            let (now, who) = (at(i64::try_from(index).unwrap()), session(who));
            match act {
                0 => drop(wallet.reserve(now, who, ms)),
                1 => drop(wallet.extend(now, who, ms, ms)),
                2 => {
                    let held = wallet.holds().find(|hold| hold.session == who).map_or(0, |hold| hold.ms);
                    if let Ok(uncovered) = wallet.settle(now, who, ms.min(held)) {
                        prop_assert_eq!(uncovered, 0, "what is held is covered");
                        settled += ms.min(held);
                    }
                }
                _ => wallet.release(who),
            }
            prop_assert_eq!(wallet.verify_invariants(), Ok(()));
            let held: i64 = wallet.holds().map(|hold| hold.ms).sum();
            prop_assert_eq!(wallet.free_ms(now) + held + settled, 200);
        }
    }
}
