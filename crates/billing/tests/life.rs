//! One player's month, all the way: he buys hours and a pack, plays until he is warned and ended, loses a machine, and all of it is on one invoice.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::{PlayerId, SessionId};
use api::session::{EndReason, SessionState};
use billing::contract::Contract;
use billing::id::{OrderId, TenantName};
use billing::invoice::{Billable, Draft, Invoice, Party, Played, TaxRate, prove};
use billing::ledger::{Account, Ledger, Posting};
use billing::money::{Currency, Money};
use billing::order::{Act, Order, PlayRule, PlayerUse, Selection};
use billing::period::{Cadence, Period, Zone};
use billing::plan::{Allowance, Beyond, Concurrency, Limits, Plan, Queue, Term, Terms, Usage};
use billing::prepaid::{Allocation, Use, Wallet, allocate, lots};
use billing::rating::{Booked, Item, Line, Meter, StepKind};
use billing::usage::{Fact, Life, Timeline, Tracker};
use uuid::Uuid;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 1 March 2026, midnight in Berlin.
const START: i64 = 1_772_319_600_000;

fn at(ms: i64) -> UtcTime {
    UtcTime::from_unix_ms(START + ms)
}

fn terms(term: Term, fee_minor: i64, hours: u64, places: u32) -> Terms {
    Terms {
        currency: Currency::EUR,
        term,
        fee_minor,
        usage: Usage::Prepaid { allowance: Allowance { seconds: hours * 3600, roll_over_s: 0, beyond: Beyond::End } },
        concurrency: Concurrency { guarantee: 0, borrow: places, maximum: places },
        limits: Limits { session_s: (places > 0).then_some(6 * 3600), period_s: None, plays: None },
        queue: Queue { priority: 1, weight: 1 },
        is_trial: false,
    }
}

/// Bought, paid and begun at `START`.
fn order(number: u128, name: &str, terms: Terms) -> Order {
    let mut plan = Plan::new(name.parse().unwrap(), name.to_owned(), "1080p60".parse().unwrap());
    plan.publish(at(-HOUR), terms).unwrap();
    let version = plan.current(at(0)).unwrap().clone();
    let selection = Selection { plan: plan.name.clone(), product: plan.product.clone(), version, units: 1 };
    let player = Some(PlayerId::from_uuid(Uuid::from_u128(1)));
    let zone = Zone::named("Europe/Berlin").unwrap();
    let id = OrderId::from_uuid(Uuid::from_u128(number));
    let mut order = Order::new(id, "acme".parse().unwrap(), player, zone, selection).unwrap();
    let due = order.act(at(0), &Act::Submit { pay_until: at(HOUR) }).unwrap();
    order.act(at(0), &Act::Pay { amount: due }).unwrap();
    order.act(at(0), &Act::Activate).unwrap();
    order
}

/// States as a control plane goes through them, with a proof each minute while the player can play.
fn play(session: SessionId, states: &[(i64, u32, SessionState)]) -> Vec<Fact> {
    let (mut tracker, mut facts) = (Tracker::new(session), Vec::new());
    for (index, (ms, epoch, state)) in states.iter().enumerate() {
        facts.extend(tracker.see(at(*ms), *epoch, state));
        let until = states.get(index + 1).map_or(*ms, |next| next.0);
        facts.extend((*ms..until).step_by(60_000).filter_map(|beat| tracker.beat(at(beat), *epoch)));
    }
    facts
}

#[test]
fn a_month_of_a_player() {
    let member = order(1, "member", terms(Term::Periodic { every: Cadence::Month }, 1099, 2, 1));
    let pack = order(2, "pack", terms(Term::Days { days: 90 }, 299, 1, 0));
    let owned: Vec<_> = [&member, &pack].iter().flat_map(|one| lots(&one.contract(), at(1)).unwrap()).collect();

    // He is let in for six hours at most, and a hold is needed.
    let grant = member.grant(at(0)).unwrap();
    assert_eq!(grant.play, PlayRule::Prepaid);
    let prepaid_ms = Wallet::new(&allocate(&owned, &[], at(0)).unwrap(), []).free_ms(at(0));
    let admission = grant.admit(at(0), PlayerUse { prepaid_ms, ..PlayerUse::default() }).unwrap();
    assert_eq!((prepaid_ms, admission.longest_ms, admission.needs_hold), (3 * HOUR, Some(6 * HOUR), true));

    // First play: the machine is lost after half an hour of an hour, and the game goes on elsewhere.
    let connected = SessionState::Connected { since: at(0) };
    let ended = |reason: EndReason| SessionState::Ended { reason, party: reason.party(), at: at(0) };
    let (one, two) = (SessionId::from_uuid(Uuid::from_u128(1)), SessionId::from_uuid(Uuid::from_u128(2)));
    let first = play(
        one,
        &[
            (0, 0, connected),
            (30 * MINUTE + 1, 0, SessionState::Recovering { since: at(0) }),
            (32 * MINUTE, 1, connected),
            (62 * MINUTE, 1, ended(EndReason::PlayerLeft)),
        ],
    );
    let first_life = Life { begun: at(-5), ended: Some(at(62 * MINUTE)) };

    // Second play: half an hour was used, two and a half are left; he is warned ten minutes before, and ended half a second late.
    let contract = member.contract();
    let intervals = |session, life, facts: &[Fact]| {
        let mut timeline = Timeline::default();
        facts.iter().for_each(|fact| assert!(timeline.add(fact).is_ok()));
        timeline.intervals(session, life)
    };
    let mut meter = Meter::new(&contract);
    meter.add(first_life, &intervals(one, first_life, &first)).unwrap();
    let so_far = allocate(&owned, &Use::of(member.id, &meter), at(3 * HOUR)).unwrap();
    let mut wallet = Wallet::new(&so_far, []);
    let begin = 5 * HOUR;
    assert_eq!(wallet.reserve(at(begin), two, 15 * MINUTE).unwrap().ms, 15 * MINUTE);
    let standing = wallet.standing(at(begin), two, 10 * MINUTE).unwrap();
    assert_eq!((standing.warn_at, standing.end_at), (at(begin + 140 * MINUTE), at(begin + 150 * MINUTE)));
    let end = begin + 150 * MINUTE + 500;
    let second = play(two, &[(begin, 0, connected), (end, 0, ended(EndReason::TimeLimit))]);
    let second_life = Life { begun: at(begin), ended: Some(at(end)) };
    assert_eq!(wallet.settle(at(end), two, 150 * MINUTE + 500), Ok(500));

    // The invoice: two fees, no time, half an hour on record that nobody pays for.
    meter.add(second_life, &intervals(two, second_life, &second)).unwrap();
    let allocation = allocate(&owned, &Use::of(member.id, &meter), at(9 * HOUR)).unwrap();
    allocation.verify_invariants().unwrap();
    let covered = allocation.covered_ms(member.id);
    let charges = meter.finish(&covered, at(9 * HOUR)).unwrap();
    let lines = Booked::new().book(charges, at(0)).unwrap();
    let pack_contract = pack.contract();
    let pack_charges = Meter::new(&pack_contract).finish(&BTreeMap::new(), at(9 * HOUR)).unwrap();
    let pack_lines = Booked::new().book(pack_charges, at(0)).unwrap();
    let told = |line: &Line| (line.change.key.item, line.change.quantity_ms, line.change.amount.minor);
    let expected = [(Item::Fee, 0, 1099), (Item::Time, 180 * MINUTE + 500, 0), (Item::Fault, 30 * MINUTE, 0)];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    let grace = lines[1].change.steps.iter().find(|step| step.kind == StepKind::Grace).unwrap();
    assert_eq!(grace.ms, 500);
    let played = [Played { life: first_life, facts: &first }, Played { life: second_life, facts: &second }];
    prove(&contract, &played, &covered, at(9 * HOUR), &lines).unwrap();
    check_documents(&contract, lines, pack_lines, &allocation);
}

/// All hours are played: what was paid in advance is earned, and nothing is owed.
fn check_documents(contract: &Contract, lines: Vec<Line>, pack_lines: Vec<Line>, allocation: &Allocation) {
    let tenant: TenantName = "acme".parse().unwrap();
    let billable = |posted: Line| {
        let is_prepaid = posted.change.key.item == Item::Fee;
        Billable { title: posted.change.plan.to_string(), is_prepaid, posted }
    };
    let draft = Draft {
        number: "2026-0001".parse().unwrap(),
        tenant: tenant.clone(),
        seller: Party::default(),
        buyer: Party::default(),
        zone: contract.zone.clone(),
        currency: Currency::EUR,
        issued: at(9 * HOUR),
        due: at(9 * HOUR),
        period: Period { from: at(0), to: at(9 * HOUR) },
        tax: TaxRate { name: "VAT".to_owned(), basis_points: 1900 },
        lines: lines.into_iter().chain(pack_lines).map(billable).collect(),
    };
    let invoice = Invoice::issue(draft, &BTreeMap::new()).unwrap();
    invoice.verify_invariants().unwrap();
    assert_eq!((invoice.net.minor, invoice.gross.minor), (1398, 1664));

    let mut ledger = Ledger::new();
    let key = |text: String| text.parse().unwrap();
    let issued = invoice.for_ledger().unwrap();
    ledger.post(Posting::invoice(key("invoice/1".into()), at(0), &issued).unwrap()).unwrap();
    ledger.post(Posting::payment(key("payment/1".into()), at(0), tenant.clone(), invoice.gross).unwrap()).unwrap();
    for lot in &allocation.lots {
        let earned = lot.earned().unwrap();
        let key = key(format!("{}/1", lot.lot.id));
        ledger.post(Posting::recognition(key, at(9 * HOUR), tenant.clone(), earned).unwrap()).unwrap();
    }
    ledger.verify_invariants().unwrap();
    let balance = |account: Account| ledger.balance(&account, Currency::EUR);
    assert!(balance(Account::Prepaid { tenant: tenant.clone() }).is_zero());
    assert!(balance(Account::Receivable { tenant: tenant.clone() }).is_zero());
    assert_eq!(balance(Account::Revenue { tenant }), Money::new(-1398, Currency::EUR));
}
