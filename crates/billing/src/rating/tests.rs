//! Prices as data: terms, plays, and what is charged for them.

use std::collections::BTreeMap;

use api::session::EndReason;
use uuid::Uuid;

use super::*;
use crate::contract::{Contract, FOREVER, Phase};
use crate::id::OrderId;
use crate::money::Currency;
use crate::period::{Cadence, Zone};
use crate::plan::tests::by_the_hour;
use crate::plan::{Allowance, PriceVersion, Term, Terms, Tier};
use crate::usage::{Closing, Ending, Fact, FactKind, Interval, Life};

pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn at(ms: i64) -> UtcTime {
    UtcTime::from_unix_ms(ms)
}

/// An order in UTC that begins on 1 January 1970.
pub(crate) fn contract(terms: Terms) -> Contract {
    let version = PriceVersion { number: 1, published: at(0), terms };
    Contract {
        order: OrderId::from_uuid(Uuid::from_u128(1)),
        tenant: "acme".parse().unwrap(),
        player: None,
        zone: Zone::utc(),
        phases: vec![Phase { from: at(0), anchor: at(0), plan: "plan".parse().unwrap(), version, units: 1 }],
        ended: None,
    }
}

/// A session that begins before all of its intervals and ends with the last one.
pub(crate) fn play(number: u128, parts: &[(i64, i64, bool)]) -> (Life, Vec<Interval>) {
    let session = SessionId::from_uuid(Uuid::from_u128(number));
    let interval = |(span, (from, to, is_fault)): (u32, &(i64, i64, bool))| {
        let reason = if *is_fault { EndReason::NodeLost } else { EndReason::PlayerLeft };
        Interval {
            id: Fact { session, epoch: 0, span, at: at(*from), kind: FactKind::Opened }.id(),
            session,
            epoch: 0,
            span,
            from: at(*from),
            to: at(*to),
            ending: Ending::Closed { closing: Closing::Ended(reason) },
        }
    };
    let intervals: Vec<Interval> = (0..).zip(parts).map(interval).collect();
    let life = Life { begun: intervals[0].from, ended: intervals.last().map(|one| one.to) };
    (life, intervals)
}

pub(crate) fn charges(
    contract: &Contract,
    plays: &[(Life, Vec<Interval>)],
    covered: &[(i64, i64)],
    now: i64,
) -> Vec<Charge> {
    let mut meter = Meter::new(contract);
    for (life, intervals) in plays {
        meter.add(*life, intervals).unwrap();
    }
    let covered: BTreeMap<UtcTime, i64> = covered.iter().map(|(from, ms)| (at(*from), *ms)).collect();
    let charges = meter.finish(&covered, at(now)).unwrap();
    for charge in &charges {
        charge.verify_invariants().unwrap();
    }
    charges
}

fn metered(metered: Metered) -> Terms {
    Terms { usage: Usage::Metered { metered }, ..by_the_hour(0) }
}

fn tiers(included_s: u64, ends: &[(Option<u64>, i64)]) -> Terms {
    let tier =
        |(up_to_s, minor): &(Option<u64>, i64)| Tier { up_to_s: *up_to_s, rate: Rate { minor: *minor, seconds: 3600 } };
    metered(Metered { included_s, tiers: ends.iter().map(tier).collect(), minimum_s: 0, step_s: 0 })
}

/// Parts of one play each, in hours; and (item, quantity in ms, minor units).
fn check(terms: Terms, plays: &[&[(i64, i64, bool)]], expected: &[(Item, i64, i64)]) {
    let contract = contract(terms);
    let plays: Vec<_> = (1..).zip(plays).map(|(number, parts)| play(number, parts)).collect();
    let found: Vec<_> = charges(&contract, &plays, &[], 1)
        .iter()
        .map(|charge| (charge.key.item, charge.quantity_ms, charge.amount.minor))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn time_is_rated() {
    let hours = |from: i64, to: i64| (from * HOUR, to * HOUR, false);
    check(by_the_hour(90), &[&[hours(1, 3)]], &[(Item::Time, 2 * HOUR, 180)]);
    // A third of an hour at 90 cents, and one millisecond of nothing.
    check(by_the_hour(90), &[&[(0, HOUR / 3, false)], &[(0, 1, false)]], &[(Item::Time, HOUR / 3 + 1, 30)]);
    // Half a cent is even, one and a half is not.
    check(by_the_hour(1), &[&[(0, HOUR / 2, false)]], &[(Item::Time, HOUR / 2, 0)]);
    check(by_the_hour(1), &[&[(0, 3 * HOUR / 2, false)]], &[(Item::Time, 3 * HOUR / 2, 2)]);
    // The sum is rounded, not each play.
    check(by_the_hour(1), &[&[(0, HOUR / 2, false)], &[(0, HOUR, false)]], &[(Item::Time, 3 * HOUR / 2, 2)]);
    // Faults of the platform are on record, at nothing.
    check(
        by_the_hour(90),
        &[&[(0, HOUR, false), (HOUR, 3 * HOUR, true)]],
        &[(Item::Time, HOUR, 90), (Item::Fault, 2 * HOUR, 0)],
    );
    check(Terms { usage: Usage::Included, ..by_the_hour(0) }, &[&[hours(0, 9)]], &[(Item::Time, 9 * HOUR, 0)]);
}

#[test]
fn tiers_and_what_is_included_are_counted_in_turn() {
    let list = [(Some(3600), 100), (Some(3 * 3600), 50), (None, 10)];
    let with = |included_h: u64| tiers(included_h * 3600, &list);
    let played = |hours: i64| vec![(0, hours * HOUR, false)];
    for (included, hours, minor) in
        [(0, 1, 100), (0, 2, 150), (0, 3, 200), (0, 5, 220), (1, 1, 0), (1, 2, 100), (2, 7, 220)]
    {
        check(with(included), &[&played(hours)], &[(Item::Time, hours * HOUR, minor)]);
    }
    let contract = contract(with(2));
    let charge = &charges(&contract, &[play(1, &played(7))], &[(0, HOUR)], 1)[0];
    let steps: Vec<_> = charge.steps.iter().map(|step| (step.kind, step.ms / HOUR)).collect();
    let tier = |index| StepKind::Tier { index };
    let expected = [(StepKind::Prepaid, 1), (StepKind::Included, 2), (tier(0), 1), (tier(1), 2), (tier(2), 1)];
    assert_eq!(steps, expected);
    assert_eq!(charge.amount.minor, 210);
}

#[test]
fn a_play_has_a_minimum_once() {
    let terms = metered(Metered { minimum_s: 60, ..Metered::flat(Rate { minor: 1, seconds: 1 }) });
    let check = |parts: &[(i64, i64, bool)], ms, minor| check(terms.clone(), &[parts], &[(Item::Time, ms, minor)]);
    check(&[(0, 10_000, false)], 60_000, 60);
    check(&[(0, 10_000, false), (20_000, 90_000, false)], 80_000, 80);
    check(&[(0, 10_000, false), (20_000, 30_000, false)], 60_000, 60);
    // What the platform broke has none.
    let contract = contract(terms.clone());
    let broken = play(1, &[(0, 10_000, false), (20_000, 30_000, true)]);
    assert_eq!(charges(&contract, &[broken], &[], 1)[0].quantity_ms, 10_000);
    // What goes on has none yet.
    let (life, intervals) = play(1, &[(0, 10_000, false)]);
    let open = Life { ended: None, ..life };
    assert_eq!(charges(&contract, &[(open, intervals)], &[], 1)[0].quantity_ms, 10_000);
}

#[test]
fn prepaid_hours_end_or_go_on_by_time() {
    let allowance = |beyond| Terms {
        usage: Usage::Prepaid { allowance: Allowance { seconds: 3600, roll_over_s: 0, beyond } },
        ..by_the_hour(0)
    };
    let check = |beyond, covered, minor, last: StepKind| {
        let contract = contract(allowance(beyond));
        let charge = &charges(&contract, &[play(1, &[(0, 2 * HOUR, false)])], &[(0, covered)], 1)[0];
        assert_eq!((charge.amount.minor, charge.steps.last().map(|step| step.kind)), (minor, Some(last)));
    };
    check(Beyond::End, HOUR, 0, StepKind::Grace);
    check(Beyond::End, 9 * HOUR, 0, StepKind::Prepaid);
    let beyond = Beyond::Metered { metered: Metered::flat(Rate { minor: 90, seconds: 3600 }) };
    check(beyond, HOUR, 90, StepKind::Tier { index: 0 });
}

#[test]
fn intervals_are_cut_at_the_borders_of_the_tenants_months() {
    let mut contract = contract(by_the_hour(100));
    contract.zone = Zone::named("Europe/Berlin").unwrap();
    // Midnight in Berlin is 23:00 in UTC.
    let midnight = 31 * 24 * HOUR - HOUR;
    let plays = [play(1, &[(midnight - 2 * HOUR, midnight + HOUR, false)])];
    let found: Vec<_> = charges(&contract, &plays, &[], 1)
        .iter()
        .map(|charge| (charge.key.segment.unix_ms(), charge.amount.minor))
        .collect();
    assert_eq!(found, [(0, 200), (midnight, 100)]);
}

#[test]
fn play_outside_of_an_order_costs_nothing_and_is_told() {
    let mut contract = contract(by_the_hour(100));
    contract.phases[0].from = at(HOUR);
    contract.ended = Some(at(2 * HOUR));
    let mut meter = Meter::new(&contract);
    let (life, intervals) = play(1, &[(0, 5 * HOUR, false)]);
    meter.add(life, &intervals).unwrap();
    assert_eq!(meter.outside_ms(), 4 * HOUR);
    assert_eq!(meter.finish(&BTreeMap::new(), at(0)).unwrap()[0].amount.minor, 100);
}

#[test]
fn fees_are_charged_when_they_are_due() {
    let fee = |term, now: i64| -> Vec<i64> {
        let terms = Terms { term, fee_minor: 1000, usage: Usage::Included, ..by_the_hour(0) };
        charges(&contract(terms), &[], &[], now).iter().map(|charge| charge.amount.minor).collect()
    };
    let month = 31 * 24 * HOUR;
    let monthly = Term::Periodic { every: Cadence::Month };
    assert_eq!(fee(monthly, -1), Vec::<i64>::new());
    assert_eq!(fee(monthly, 0), [1000]);
    assert_eq!(fee(monthly, month), [1000, 1000]);
    assert_eq!(fee(Term::Open, month - 1), Vec::<i64>::new());
    assert_eq!(fee(Term::Open, month), [1000]);
    assert_eq!(fee(Term::Permanent, 9 * month), [1000]);
    assert_eq!(fee(Term::Days { days: 30 }, 9 * month), [1000]);
}

#[test]
fn late_facts_become_lines_of_their_own() {
    let contract = contract(by_the_hour(90));
    let mut booked = Booked::new();
    let mut book = |plays: &[(Life, Vec<Interval>)]| {
        let lines = booked.book(charges(&contract, plays, &[], 1), at(0)).unwrap();
        booked.verify_invariants().unwrap();
        for line in &lines {
            line.change.verify_invariants().unwrap();
        }
        let told =
            |line: &Line| (line.posting, line.change.key.item, line.change.quantity_ms, line.change.amount.minor);
        (lines.iter().map(told).collect::<Vec<_>>(), lines)
    };
    let first = play(1, &[(0, HOUR, false)]);
    assert_eq!(book(&[]).0, []);
    assert_eq!(book(std::slice::from_ref(&first)).0, [(0, Item::Time, HOUR, 90)]);
    assert_eq!(book(std::slice::from_ref(&first)).0, []);
    let late = play(2, &[(0, 2 * HOUR, false)]);
    let (told, lines) = book(&[first.clone(), late.clone()]);
    assert_eq!(told, [(1, Item::Time, 2 * HOUR, 180)]);
    let named: Vec<_> = lines[0].change.evidence.iter().map(|one| (one.interval, one.ms)).collect();
    assert_eq!(named, [(late.1[0].id, 2 * HOUR)]);
    // It turns out that the platform broke the first one.
    let broken = play(1, &[(0, HOUR, true)]);
    assert_eq!(book(&[broken, late.clone()]).0, [(2, Item::Time, -HOUR, -90), (0, Item::Fault, HOUR, 0)]);
    // And that it never was.
    assert_eq!(book(&[late]).0, [(1, Item::Fault, -HOUR, 0)]);
}

#[test]
fn a_change_at_the_moment_of_a_border_changes_the_price_of_what_was_booked() {
    let mut contract = contract(by_the_hour(90));
    let plays = [play(1, &[(0, 2 * HOUR, false)])];
    let mut booked = Booked::new();
    booked.book(charges(&contract, &plays, &[], 1), at(0)).unwrap();
    contract.phases[0].version = PriceVersion { number: 2, published: at(0), terms: by_the_hour(100) };
    let lines = booked.book(charges(&contract, &plays, &[], 1), at(0)).unwrap();
    let change = &lines[0].change;
    assert_eq!((change.amount.minor, change.quantity_ms, change.version), (20, 0, 2));
    let steps: Vec<_> = change.steps.iter().map(|step| (step.ms, step.rate.map(|rate| rate.minor))).collect();
    assert_eq!(steps, [(-2 * HOUR, Some(90)), (2 * HOUR, Some(100))]);
    booked.verify_invariants().unwrap();
    assert_eq!(booked.charges(), charges(&contract, &plays, &[], 1));
}

#[test]
fn what_was_posted_before_a_moment_is_left_alone() {
    let contract = contract(by_the_hour(90));
    let month = 31 * 24 * HOUR;
    let plays = [play(1, &[(0, HOUR, false)]), play(2, &[(month, month + HOUR, false)])];
    let mut booked = Booked::new();
    assert_eq!(booked.book(charges(&contract, &plays, &[], 1), at(0)).unwrap().len(), 2);
    assert_eq!(booked.book(charges(&contract, &plays[1..], &[], 1), at(month)).unwrap(), []);
    assert_eq!(booked.book(charges(&contract, &plays[1..], &[], 1), at(0)).unwrap().len(), 1);
    assert_eq!(booked.charges().len(), 1);
}

#[test]
fn an_order_is_booked_alone() {
    let one = contract(by_the_hour(90));
    let plays = [play(1, &[(0, HOUR, false)])];
    let mut booked = Booked::new();
    booked.book(charges(&one, &plays, &[], 1), at(0)).unwrap();
    let other = Contract { order: OrderId::from_uuid(Uuid::from_u128(2)), ..one.clone() };
    assert_eq!(booked.book(charges(&other, &plays, &[], 1), FOREVER), Err(RatingError::Foreign(other.order)));
    let yen = contract(Terms { currency: Currency::JPY, ..by_the_hour(90) });
    assert_eq!(booked.book(charges(&yen, &plays, &[], 1), FOREVER), Err(RatingError::Foreign(yen.order)));
}
