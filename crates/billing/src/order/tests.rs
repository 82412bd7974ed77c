//! Lives of orders as data: what is done, in which state it leaves them, and what becomes due.

use proptest::prelude::*;

use super::*;
use crate::period::Cadence;
use crate::plan::Concurrency;
use crate::plan::tests::{by_the_hour, geforce_now};
use crate::rating::Meter;

fn at(text: &str) -> UtcTime {
    UtcTime::try_from(format!("{text}T00:00:00Z")).unwrap()
}

fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn selection(plan: &str, units: u32, terms: Terms) -> Selection {
    let version = PriceVersion { number: 1, published: at("2020-01-01"), terms };
    Selection { plan: plan.parse().unwrap(), product: "1080p60".parse().unwrap(), version, units }
}

fn monthly(fee_minor: i64) -> Selection {
    let terms = Terms { term: Term::Periodic { every: Cadence::Month }, fee_minor, ..by_the_hour(0) };
    selection("monthly", 1, terms)
}

fn with_term(term: Term, fee_minor: i64) -> Selection {
    selection("other", 1, Terms { term, fee_minor, ..by_the_hour(90) })
}

fn order(selection: Selection) -> Order {
    let id = OrderId::from_uuid(uuid::Uuid::from_u128(1));
    Order::new(id, "acme".parse().unwrap(), None, Zone::utc(), selection).unwrap()
}

/// A day and an act; and the state after it with what becomes due, or a part of the reason why not.
type Step = (&'static str, Act, Result<(&'static str, i64), &'static str>);

fn check(selection: Selection, steps: &[Step]) -> Order {
    let mut order = order(selection);
    for (day, act, expected) in steps {
        let before = order.clone();
        match (order.act(at(day), act), expected) {
            (Ok(due), Ok((state, minor))) => {
                assert_eq!((order.state.word(), due.minor), (*state, *minor), "{day} {act:?}")
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                assert_eq!(order, before);
            }
            (found, expected) => panic!("{day} {act:?}: {found:?}, not {expected:?}"),
        }
        order.verify_invariants().unwrap();
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }
    order
}

fn submit() -> Act {
    Act::Submit { pay_until: at("2026-01-10") }
}

fn pay(minor: i64) -> Act {
    Act::Pay { amount: eur(minor) }
}

fn begun(minor: i64) -> [Step; 3] {
    [
        ("2026-01-01", submit(), Ok(("pending_payment", minor))),
        ("2026-01-01", pay(minor), Ok(("paid", 0))),
        ("2026-01-01", Act::Activate, Ok(("active", 0))),
    ]
}

#[test]
fn an_order_lives_and_is_renewed() {
    let mut steps = vec![
        ("2025-12-30", Act::Activate, Err("an order that is draft cannot activate: submit it first")),
        ("2025-12-30", Act::Revise { selection: monthly(1000) }, Ok(("draft", 0))),
        ("2025-12-31", Act::Tick, Ok(("draft", 0))),
        ("2026-01-01", submit(), Ok(("pending_payment", 1000))),
        ("2026-01-01", pay(999), Err("10.00 EUR is due, not 9.99 EUR")),
        ("2026-01-01", Act::Revise { selection: monthly(1) }, Err("it waits for its payment")),
        ("2026-01-01", pay(1000), Ok(("paid", 0))),
        ("2026-01-01", Act::Activate, Ok(("active", 0))),
        ("2026-01-20", Act::Renew, Ok(("active", 1000))),
        ("2026-02-20", Act::Tick, Ok(("active", 0))),
    ];
    let order = check(monthly(500), &steps);
    assert_eq!(order.ends, Some(at("2026-03-01")));
    steps.push(("2026-03-01", Act::Tick, Ok(("expired", 0))));
    steps.push(("2026-03-02", Act::Renew, Err("it is over for good")));
    steps.push(("2026-03-02", Act::Tick, Ok(("expired", 0))));
    check(monthly(500), &steps);
}

#[test]
fn who_does_not_pay_has_nothing() {
    check(
        monthly(1000),
        &[
            ("2026-01-01", submit(), Ok(("pending_payment", 1000))),
            ("2026-01-09", Act::Tick, Ok(("pending_payment", 0))),
            ("2026-01-11", Act::Tick, Ok(("cancelled", 0))),
            ("2026-01-11", pay(1000), Err("it is over for good")),
        ],
    );
    check(monthly(1000), &[("2026-01-01", Act::Cancel, Ok(("cancelled", 0)))]);
    let steps: [_; 2] = [
        ("2026-01-01", Act::Submit { pay_until: at("2026-02-01") }, Ok(("paid", 0))),
        ("2026-01-02", Act::Refund { of: RefundOf::All }, Ok(("refunded", 0))),
    ];
    check(with_term(Term::Open, 500), &steps);
}

#[test]
fn changes_cost_their_part() {
    // 31 days: 15 of them at 10, 16 at 20 EUR.
    let change = |more: &[Step]| {
        let steps: Vec<_> = begun(1000).into_iter().chain(more.iter().cloned()).collect();
        check(monthly(1000), &steps)
    };
    let dearer = || Act::Upgrade { selection: monthly(2000) };
    let cheaper = || Act::Downgrade { selection: monthly(500) };
    let order =
        change(&[("2026-01-16", dearer(), Ok(("active", 516))), ("2026-01-20", Act::Renew, Ok(("active", 2000)))]);
    assert_eq!(order.ends, Some(at("2026-03-01")));
    change(&[("2026-01-16", Act::Upgrade { selection: monthly(999) }, Err("it costs less: downgrade"))]);
    let order = change(&[
        ("2026-01-16", cheaper(), Ok(("active", 0))),
        ("2026-01-20", Act::Renew, Ok(("active", 500))),
        ("2026-02-20", Act::Renew, Ok(("active", 500))),
    ]);
    assert_eq!((order.ends, order.phases.len()), (Some(at("2026-04-01")), 2));
    // To another rhythm: the old period is given back from now on, the new one begins.
    let yearly = || with_term(Term::Periodic { every: Cadence::Year }, 10_000);
    let order = change(&[("2026-01-16", Act::Upgrade { selection: yearly() }, Ok(("active", 10_000 - 516)))]);
    assert_eq!(order.ends, Some(at("2027-01-16")));
    let order = change(&[
        ("2026-01-16", Act::Downgrade { selection: yearly() }, Ok(("active", 0))),
        ("2026-01-20", Act::Renew, Ok(("active", 10_000))),
    ]);
    assert_eq!(order.ends, Some(at("2027-02-01")));
    let open = [
        ("2026-01-01", submit(), Ok(("paid", 0))),
        ("2026-01-01", Act::Activate, Ok(("active", 0))),
        ("2026-01-16", Act::Upgrade { selection: with_term(Term::Open, 100) }, Ok(("active", 0))),
        ("2026-01-17", Act::Downgrade { selection: with_term(Term::Open, 50) }, Err("upgrade an open one")),
    ];
    assert_eq!(check(with_term(Term::Open, 500), &open).phases.len(), 2);
    let bad = |selection| Act::Upgrade { selection };
    change(&[
        ("2026-01-16", bad(with_term(Term::Permanent, 9999)), Err("bought once is not changed")),
        ("2026-01-16", bad(with_term(Term::Open, 9999)), Err("does not become a periodic one")),
        ("2026-01-01", dearer(), Err("it changes within its time")),
        ("2026-02-01", dearer(), Err("it changes within its time")),
    ]);
}

#[test]
fn what_is_given_back_is_what_was_left() {
    let steps = |more: Step| begun(1000).into_iter().chain([more]).collect::<Vec<_>>();
    let unused = || Act::Refund { of: RefundOf::Unused };
    let all = || Act::Refund { of: RefundOf::All };
    check(monthly(1000), &steps(("2026-01-16", unused(), Ok(("refunded", -516)))));
    check(monthly(1000), &steps(("2026-01-16", all(), Ok(("refunded", -1000)))));
    check(with_term(Term::Permanent, 1000), &steps(("2026-05-16", all(), Ok(("refunded", -1000)))));
    check(with_term(Term::Days { days: 9 }, 1000), &steps(("2026-01-02", unused(), Err("no unused part"))));
    // What was renewed ahead, at other terms, is given back with it.
    let mut ahead = begun(1000).to_vec();
    ahead.push(("2026-01-10", Act::Downgrade { selection: monthly(500) }, Ok(("active", 0))));
    ahead.push(("2026-01-11", Act::Renew, Ok(("active", 500))));
    ahead.push(("2026-01-16", unused(), Ok(("refunded", -1016))));
    check(monthly(1000), &ahead);
    // Cancelled: it runs out, and is not renewed.
    let mut cancelled = steps(("2026-01-16", Act::Cancel, Ok(("active", 0))));
    cancelled.push(("2026-01-20", Act::Renew, Err("it was cancelled")));
    cancelled.push(("2026-02-01", Act::Tick, Ok(("expired", 0))));
    check(monthly(1000), &cancelled);
    let open = [
        ("2026-01-01", submit(), Ok(("paid", 0))),
        ("2026-01-01", Act::Activate, Ok(("active", 0))),
        ("2026-01-20", Act::Renew, Err("only a periodic order")),
        ("2026-01-20", Act::Cancel, Ok(("cancelled", 0))),
    ];
    assert_eq!(check(with_term(Term::Open, 500), &open).ends, Some(at("2026-01-20")));
}

#[test]
fn active_orders_grant_places_and_limits() {
    let [_, (_, performance), _, (_, pack)] = geforce_now();
    let active = |selection: Selection, due: i64| check(selection, &begun(due));
    let order = active(selection("performance", 1, performance), 1099);
    assert_eq!(order.grant(at("2025-12-31")), None);
    assert_eq!(order.grant(at("2026-02-01")), None);
    let now = at("2026-01-05");
    let grant = order.grant(now).unwrap();
    assert_eq!((grant.play, grant.priority, grant.to), (PlayRule::Prepaid, 1, Some(at("2026-02-01"))));
    let used = PlayerUse { prepaid_ms: 1, ..PlayerUse::default() };
    let admission = grant.admit(now, used).unwrap();
    assert_eq!((admission.longest_ms, admission.needs_hold), (Some(6 * 3_600_000), true));
    assert_eq!(grant.admit(now, PlayerUse { sessions: 1, ..used }), Err(Denied::Sessions(1)));
    assert_eq!(grant.admit(now, PlayerUse::default()), Err(Denied::PrepaidTime));
    assert_eq!(grant.admit(at("2026-02-01"), used), Err(Denied::NotNow));
    let pack = active(selection("pack", 1, pack), 299).grant(now).unwrap();
    assert_eq!(pack.admit(now, used), Err(Denied::NoPlace));
    let mut reserved = monthly(1000);
    reserved.units = 3;
    reserved.version.terms.concurrency = Concurrency { guarantee: 10, borrow: 2, maximum: 11 };
    reserved.version.terms.queue.weight = 7;
    reserved.version.terms.limits.period_s = Some(7200);
    reserved.version.terms.limits.plays = Some(2);
    let reserved = active(reserved, 3000).grant(now).unwrap();
    let sum = quota([&grant, &pack, &reserved]);
    assert_eq!(sum, Quota { guarantee: 30, borrow: 7, maximum: 34, weight: 7 });
    let admit = |period_ms, plays| reserved.admit(now, PlayerUse { period_ms, plays, ..used });
    assert_eq!(admit(3_600_000, 1).map(|admission| admission.longest_ms), Ok(Some(3_600_000)));
    assert_eq!(admit(7_200_000, 1), Err(Denied::PeriodTime(2)));
    assert_eq!(admit(0, 2), Err(Denied::Plays(2)));
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1..5_i64).prop_map(|fee| Act::Revise { selection: monthly(fee * 333) }),
        Just(Act::Submit { pay_until: at("2026-03-01") }),
        Just(pay(333)),
        Just(pay(1000)),
        Just(Act::Activate),
        Just(Act::Renew),
        (1..9_i64).prop_map(|fee| Act::Upgrade { selection: monthly(fee * 333) }),
        (1..9_i64)
            .prop_map(|fee| Act::Upgrade { selection: with_term(Term::Periodic { every: Cadence::Week }, fee * 333) }),
        (1..9_i64).prop_map(|fee| Act::Downgrade { selection: monthly(fee * 333) }),
        (1..9_i64).prop_map(|fee| Act::Downgrade { selection: with_term(Term::Periodic { every: Cadence::Day }, fee) }),
        Just(Act::Cancel),
        Just(Act::Refund { of: RefundOf::Unused }),
        Just(Act::Refund { of: RefundOf::All }),
        Just(Act::Tick),
    ]
}

proptest! {
    /// What became due over an order's life is what its fees are rated at in the end.
    #[test]
    fn what_became_due_is_what_is_rated(acts in prop::collection::vec((0..40_i64, act()), 0..40)) {
        let mut order = order(monthly(1000));
        let mut now = at("2026-01-01");
        for due in [submit(), pay(1000), Act::Activate] {
            order.act(now, &due).unwrap();
        }
        let mut paid = eur(1000);
        for (days, act) in acts {
            now = UtcTime::from_unix_ms(now.unix_ms() + days * 43_200_000);
            let was_last = order.state.is_last();
            order.act(now, &Act::Tick).unwrap();
            let before = order.clone();
            match order.act(now, &act) {
                Ok(due) => paid = paid.plus(due).unwrap(),
                Err(_) => prop_assert_eq!(&order, &before),
            }
            prop_assert!(!was_last || order.state == before.state, "{:?} left {}", act, before.state.word());
            prop_assert_eq!(order.verify_invariants(), Ok(()));
            prop_assert_eq!(order.grant(now).is_some(), matches!(order.state, OrderState::Active { .. }));
            let contract = order.contract();
            let until = order.ends.unwrap_or(now);
            let charges = Meter::new(&contract).finish(&Default::default(), until).unwrap();
            let rated = Money::sum(Currency::EUR, charges.iter().map(|charge| charge.amount)).unwrap();
            prop_assert_eq!(rated, paid, "{:?}", order);
        }
    }
}
