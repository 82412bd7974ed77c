//! Days of whole worlds: what has to hold holds at every moment, and what players are told is true.

use std::time::Duration;

use sim::{Plan, Report, TenantPlan, run};

fn day(plan: &Plan) -> Report {
    let report = run(plan).unwrap_or_else(|fault| panic!("seed {}: {fault}", plan.seed));
    assert_eq!(report.ended(), report.asked, "every request comes to one end");
    report
}

#[test]
fn a_usual_day_is_served_and_the_same_again() {
    let plan = Plan::usual(1);
    let report = day(&plan);
    assert!(report.asked > 10_000 && report.lost_nodes > 0 && report.displaced > 0, "{report:?}");
    assert!(report.waited_for_quota > 0 && report.waited_for_capacity > 0, "the evening is full: {report:?}");
    assert_eq!(report, run(&plan).unwrap());
}

#[test]
fn what_players_are_told_of_their_wait_is_true() {
    for seed in 1..=5 {
        let waits = day(&Plan::usual(seed)).waits;
        let (within, mean) = (waits.within as f64 / waits.served as f64, waits.waited_s / waits.expected_s);
        assert!(waits.served > 500, "{waits:?}");
        // Of five waits four shall be within.
        assert!((0.7..=0.9).contains(&within), "seed {seed}: {within:.2} within the band, {waits:?}");
        assert!((0.7..=1.3).contains(&mean), "seed {seed}: {mean:.2} of what was expected, {waits:?}");
    }
}

#[test]
fn sessions_of_lost_nodes_go_on() {
    let plan = Plan { between_failures: Duration::from_secs(24 * 3600), ..Plan::usual(3) };
    let report = day(&plan);
    assert!(report.lost_nodes > 30, "{report:?}");
    let gone = report.unrecovered as f64 / report.displaced as f64;
    assert!(gone < 0.01, "{report:?}");
}

#[test]
fn whoever_is_short_gets_by_weight() {
    let tenant = |weight| TenantPlan {
        grant: scheduler::Grant { guarantee: 0, borrow: 10_000, maximum: 10_000, weight },
        per_hour: 3000.0,
        trials_permille: 0,
    };
    let tenants = vec![tenant(1), tenant(2), tenant(4)];
    let plan = Plan { tenants, hours: 8, wave: 0.0, between_failures: Duration::ZERO, ..Plan::usual(4) };
    let report = day(&plan);
    let share = |index: usize| report.placed[index] as f64 / report.placed[0] as f64;
    assert!((1.7..2.3).contains(&share(1)) && (3.2..4.8).contains(&share(2)), "{:?}", report.placed);
}
