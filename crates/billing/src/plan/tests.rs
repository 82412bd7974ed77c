//! Terms that make sense, terms that do not, and a price list that players know.

use super::*;

fn at(ms: i64) -> UtcTime {
    UtcTime::from_unix_ms(ms)
}

pub(crate) fn by_the_hour(minor: i64) -> Terms {
    Terms {
        currency: Currency::EUR,
        term: Term::Open,
        fee_minor: 0,
        usage: Usage::Metered { metered: Metered::flat(Rate { minor, seconds: 3600 }) },
        concurrency: Concurrency { guarantee: 0, borrow: 10, maximum: 10 },
        limits: Limits::default(),
        queue: Queue { priority: 0, weight: 1 },
        is_trial: false,
    }
}

#[test]
fn versions_never_change() {
    let mut plan = Plan::new("hourly".parse().unwrap(), "By the hour".into(), "1080p60".parse().unwrap());
    assert_eq!(plan.current(at(5)), None);
    assert_eq!(plan.publish(at(10), by_the_hour(90)), Ok(1));
    assert_eq!(plan.publish(at(20), by_the_hour(99)), Ok(2));
    assert_eq!(plan.publish(at(15), by_the_hour(50)), Err(PublishError::Order { number: 2, published: at(20) }));
    let current = |ms| plan.current(at(ms)).map(|version| version.number);
    assert_eq!([current(9), current(10), current(19), current(20)], [None, Some(1), Some(1), Some(2)]);
    assert_eq!(plan.version(1).unwrap().terms, by_the_hour(90));
    assert_eq!((plan.version(0), plan.version(3)), (None, None));
    plan.verify_invariants().unwrap();
    let mut json = serde_json::to_value(&plan).unwrap();
    assert_eq!(serde_json::from_value::<Plan>(json.clone()).unwrap(), plan);
    json["versions"][1]["number"] = 3.into();
    assert!(serde_json::from_value::<Plan>(json).unwrap().verify_invariants().is_err());
}

/// Changes good terms and says what is wrong with them then.
fn check(change: impl FnOnce(&mut Terms), expected: &str) {
    let mut terms = by_the_hour(90);
    change(&mut terms);
    let found = terms.check().map_or_else(|error| error.to_string(), |()| String::new());
    assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{found}");
}

fn with_tiers(terms: &mut Terms, ends: &[Option<u64>]) {
    let rate = Rate { minor: 1, seconds: 60 };
    let tiers = ends.iter().map(|up_to_s| Tier { up_to_s: *up_to_s, rate }).collect();
    terms.usage = Usage::Metered { metered: Metered { tiers, ..Metered::flat(rate) } };
}

fn with_allowance(terms: &mut Terms, seconds: u64, roll_over_s: u64) {
    terms.usage = Usage::Prepaid { allowance: Allowance { seconds, roll_over_s, beyond: Beyond::End } };
}

#[test]
fn terms_that_make_no_sense_say_what_to_do() {
    check(|_terms| {}, "");
    check(|terms| terms.fee_minor = -1, "fee_minor: is negative; discounts are credit notes");
    check(|terms| terms.term = Term::Days { days: 0 }, "term.days: is zero");
    check(|terms| terms.concurrency.guarantee = 11, "concurrency.maximum: is below the guarantee");
    check(|terms| terms.queue.weight = 0, "queue.weight: is zero");
    check(|terms| terms.limits.session_s = Some(0), "limits.session_s: is zero");
    check(|terms| terms.is_trial = true, "limits.session_s: is missing in a trial");
    check(|terms| with_tiers(terms, &[]), "usage.metered.tiers: is empty");
    check(|terms| with_tiers(terms, &[Some(5), Some(9), None]), "");
    check(|terms| with_tiers(terms, &[Some(5), Some(5), None]), "tiers[1].up_to_s: does not rise");
    check(|terms| with_tiers(terms, &[None, None]), "tiers[0].up_to_s");
    check(|terms| with_tiers(terms, &[Some(5)]), "tiers[0].up_to_s");
    check(|terms| with_tiers(terms, &[None; 33]), "usage.metered.tiers: has more than 32");
    check(|terms| with_allowance(terms, 0, 0), "usage.allowance.seconds: is zero");
    check(|terms| with_allowance(terms, 10, 5), "usage.allowance.roll_over_s: has no next period");
    let monthly = |terms: &mut Terms| terms.term = Term::Periodic { every: Cadence::Month };
    check(|terms| (monthly(terms), with_allowance(terms, 10, 11)).1, "usage.allowance.roll_over_s: is more than");
    check(|terms| (monthly(terms), with_allowance(terms, 10, 10)).1, "");
    let beyond = |terms: &mut Terms, metered: Metered| {
        let allowance = Allowance { seconds: 10, roll_over_s: 0, beyond: Beyond::Metered { metered } };
        terms.usage = Usage::Prepaid { allowance };
    };
    let flat = Metered::flat(Rate { minor: 1, seconds: 60 });
    check(|terms| beyond(terms, flat.clone()), "");
    check(
        |terms| beyond(terms, Metered { included_s: 1, ..flat.clone() }),
        "usage.allowance.beyond.metered.included_s",
    );
    check(|terms| beyond(terms, Metered { step_s: 1, ..flat.clone() }), "usage.allowance.beyond.metered.minimum_s or");
}

#[test]
fn unknown_keys_are_refused() {
    let mut json = serde_json::to_value(by_the_hour(90)).unwrap();
    assert!(serde_json::from_value::<Terms>(json.clone()).is_ok());
    json["fee"] = 3.into();
    assert!(serde_json::from_value::<Terms>(json).is_err());
    let mut json = serde_json::to_value(by_the_hour(90)).unwrap();
    json["usage"]["metered"]["free_s"] = 3.into();
    assert!(serde_json::from_value::<Terms>(json).is_err());
}

#[test]
fn plays_count_in_steps_and_at_least_the_minimum() {
    let check = |minimum_s, step_s, ms, expected| {
        let metered = Metered { minimum_s, step_s, ..Metered::flat(Rate { minor: 1, seconds: 1 }) };
        assert_eq!(metered.extra_ms(ms), expected, "{minimum_s} {step_s} {ms}");
    };
    check(0, 0, 1234, 0);
    check(60, 0, 1234, 58_766);
    check(60, 0, 60_001, 0);
    check(0, 3600, 1, 3_599_999);
    check(0, 3600, 3_600_000, 0);
    check(0, 3600, 3_600_001, 3_599_999);
    check(90, 60, 61_000, 59_000);
    check(60, 60, 0, 0);
}

const HOUR: u64 = 3600;

/// GeForce NOW as players know it: sessions of 1, 6 and 8 hours; 100 hours a month, of which 15 roll over; packs of 15 hours; the dearer the sooner.
pub(crate) fn geforce_now() -> [(&'static str, Terms); 4] {
    let queue = |priority| Queue { priority, weight: 1 };
    let one = Concurrency { guarantee: 0, borrow: 1, maximum: 1 };
    let free = Terms {
        usage: Usage::Included,
        concurrency: one,
        limits: Limits { session_s: Some(3600), period_s: None, plays: None },
        ..by_the_hour(0)
    };
    let membership = |fee_minor, session_h: u32, priority| Terms {
        term: Term::Periodic { every: Cadence::Month },
        fee_minor,
        usage: Usage::Prepaid {
            allowance: Allowance { seconds: 100 * HOUR, roll_over_s: 15 * HOUR, beyond: Beyond::End },
        },
        limits: Limits { session_s: Some(session_h * 3600), period_s: None, plays: None },
        queue: queue(priority),
        ..free.clone()
    };
    let pack = Terms {
        term: Term::Days { days: 365 },
        fee_minor: 299,
        usage: Usage::Prepaid { allowance: Allowance { seconds: 15 * HOUR, roll_over_s: 0, beyond: Beyond::End } },
        limits: Limits::default(),
        concurrency: Concurrency::default(),
        queue: queue(1),
        ..free.clone()
    };
    [
        ("free", free.clone()),
        ("performance", membership(1099, 6, 1)),
        ("ultimate", membership(2199, 8, 2)),
        ("pack", pack),
    ]
}

#[test]
fn the_rules_of_geforce_now_can_be_written() {
    let plans = geforce_now();
    for (name, terms) in &plans {
        terms.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = serde_json::to_string(terms).unwrap();
        assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), *terms);
    }
    let [free, performance, ultimate, pack] = plans.map(|(_, terms)| terms);
    let session_h = |terms: &Terms| terms.limits.session_s.map(|seconds| seconds / 3600);
    assert_eq!([session_h(&free), session_h(&performance), session_h(&ultimate)], [Some(1), Some(6), Some(8)]);
    assert!(free.queue.priority < performance.queue.priority && performance.queue.priority < ultimate.queue.priority);
    for terms in [&performance, &ultimate] {
        let allowance = terms.allowance().unwrap();
        assert_eq!((allowance.seconds, allowance.roll_over_s), (100 * HOUR, 15 * HOUR));
    }
    assert_eq!(pack.allowance().unwrap().seconds, 15 * HOUR);
}

/// All that the product centre sells.
#[test]
fn every_kind_of_plan_can_be_written() {
    let per = |minor, seconds| Usage::Metered { metered: Metered::flat(Rate { minor, seconds }) };
    let every =
        |every| Terms { term: Term::Periodic { every }, fee_minor: 999, usage: Usage::Included, ..by_the_hour(0) };
    let reserved = Concurrency { guarantee: 100, borrow: 20, maximum: 120 };
    let trial = Limits { session_s: Some(900), period_s: Some(3600), plays: Some(3) };
    let plans = [
        ("second", Terms { usage: per(25, 1000), ..by_the_hour(0) }),
        ("hour", by_the_hour(90)),
        ("day", every(Cadence::Day)),
        ("week", every(Cadence::Week)),
        ("month", every(Cadence::Month)),
        ("quarter", every(Cadence::Quarter)),
        ("year", every(Cadence::Year)),
        ("permanent", Terms { term: Term::Permanent, ..every(Cadence::Day) }),
        ("reserved", Terms { concurrency: reserved, ..every(Cadence::Month) }),
        (
            "trial",
            Terms { term: Term::Days { days: 14 }, fee_minor: 0, limits: trial, is_trial: true, ..every(Cadence::Day) },
        ),
    ];
    for (name, terms) in plans {
        terms.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), terms, "{name}");
    }
}
