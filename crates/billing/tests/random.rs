//! Whatever sessions do, whatever crashes, and however facts come: billed intervals are disjoint, inside their life and those that happened; lines,
//! invoices and the ledger add up; and what was posted over many rounds is what a single rating of all facts says.

#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use api::manifest::AppName;
use api::session::EndReason;
use billing::contract::{Contract, Phase};
use billing::id::OrderId;
use billing::invoice::{Billable, Draft, Invoice, Party, Played, TaxRate, prove};
use billing::ledger::{Account, Ledger, Posted, Posting};
use billing::money::{Currency, Money};
use billing::period::{Cadence, Period, Zone};
use billing::plan::{
    Allowance, Beyond, Concurrency, Limits, Metered, PriceVersion, Queue, Rate, Term, Terms, Tier, Usage,
};
use billing::prepaid::{Use, allocate, lots};
use billing::rating::{Booked, Charge, Item, Line, Meter};
use billing::usage::{Book, Closing, Fact, FactKind, Life, verify_intervals};
use proptest::prelude::*;
use uuid::Uuid;

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;
/// New Year in UTC; the first month of three.
const START: i64 = 1_767_225_600_000;

fn at(ms: i64) -> UtcTime {
    UtcTime::from_unix_ms(ms)
}

/// One connection of a player to an instance.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Milliseconds since the one before.
    gap_ms: i64,
    ms: i64,
    /// True when it is to another instance than the one before.
    has_moved: bool,
    /// 0 = nobody closed it; 1 = broken by the platform; others = closed.
    closing: u8,
    /// Milliseconds that its node went on to say that it lived, after somebody else had the session.
    zombie_ms: i64,
}

#[derive(Clone, Debug)]
struct Plan {
    begun_ms: i64,
    connections: Vec<Connection>,
    is_over: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let connection = (1..4_000_000_i64, 1..9_000_000_i64, any::<bool>(), 0..4_u8, 0..200_000_i64).prop_map(
        |(gap_ms, ms, has_moved, closing, zombie_ms)| Connection { gap_ms, ms, has_moved, closing, zombie_ms },
    );
    (0..90 * DAY, prop::collection::vec(connection, 1..5), prop::bool::weighted(0.9))
        .prop_map(|(begun_ms, connections, is_over)| Plan { begun_ms, connections, is_over })
}

/// How often nodes say that a player could play.
const BEAT_MS: i64 = 600 * SECOND;

/// What really happened, and what was told of it.
#[derive(Debug)]
struct Session {
    id: SessionId,
    life: Life,
    facts: Vec<Fact>,
    /// (from, to, broken by the platform): what is to be billed of it.
    truth: Vec<(i64, i64, bool)>,
}

fn session(number: u128, plan: &Plan) -> Session {
    let id = SessionId::from_uuid(Uuid::from_u128(number));
    let (mut facts, mut truth) = (Vec::new(), Vec::new());
    let (mut now, mut epoch, mut span) = (START + plan.begun_ms, 0, 0);
    let mut zombies: Vec<(u32, u32, i64)> = Vec::new();
    for (index, one) in plan.connections.iter().enumerate() {
        if index > 0 {
            (epoch, span) = if one.has_moved { (epoch + 1, 0) } else { (epoch, span + 1) };
        }
        let mut tell = |ms, kind| facts.push(Fact { session: id, epoch, span, at: at(ms), kind });
        let (from, to) = (now + one.gap_ms, now + one.gap_ms + one.ms);
        tell(from, FactKind::Opened);
        let beats = (1..).map(|beat| from + i64::from(beat) * BEAT_MS).take_while(|ms| *ms < to);
        let mut proven = from;
        for (beat, ms) in (0..).zip(beats) {
            tell(ms, FactKind::Extended { beat });
            proven = ms;
        }
        let end = if one.closing == 0 { proven } else { to };
        if one.closing > 0 {
            let closing = match one.closing {
                1 => Closing::Ended(EndReason::NodeLost),
                2 => Closing::Disconnected,
                _ => Closing::Ended(EndReason::PlayerLeft),
            };
            tell(to, FactKind::Closed { closing });
            zombies.push((epoch, span, to + one.zombie_ms));
        }
        if end > from {
            truth.push((from, end, one.closing == 1));
        }
        now = to;
    }
    // A node that was cut off does not know that it is over.
    for (epoch, span, ms) in zombies {
        facts.push(Fact { session: id, epoch, span, at: at(ms), kind: FactKind::Extended { beat: 9999 } });
    }
    let life = Life { begun: at(START + plan.begun_ms), ended: plan.is_over.then_some(at(now)) };
    Session { id, life, facts, truth }
}

fn terms(usage: Usage, term: Term, fee_minor: i64) -> Terms {
    Terms {
        currency: Currency::EUR,
        term,
        fee_minor,
        usage,
        concurrency: Concurrency { guarantee: 1, borrow: 1, maximum: 2 },
        limits: Limits::default(),
        queue: Queue { priority: 0, weight: 1 },
        is_trial: false,
    }
}

fn hourly(minor: i64) -> Metered {
    Metered::flat(Rate { minor, seconds: 3600 })
}

/// Orders of all kinds; some change within the time.
fn contract(kind: u8) -> Contract {
    let monthly = Term::Periodic { every: Cadence::Month };
    let flat = terms(Usage::Metered { metered: hourly(97) }, Term::Open, 0);
    let tiers = |first| {
        let tier = |up_to_s, minor| Tier { up_to_s, rate: Rate { minor, seconds: 3600 } };
        let tiers = vec![tier(Some(3600), first), tier(Some(20_000), 61), tier(None, 13)];
        let metered = Metered { included_s: 1800, tiers, minimum_s: 300, step_s: 60 };
        terms(Usage::Metered { metered }, Term::Open, 499)
    };
    let hours = |seconds, fee| {
        let beyond = Beyond::Metered { metered: hourly(83) };
        let allowance = Allowance { seconds, roll_over_s: seconds / 3, beyond };
        terms(Usage::Prepaid { allowance }, monthly, fee)
    };
    let (zone, versions) = match kind % 4 {
        0 => ("UTC", vec![(0, flat)]),
        1 => ("Europe/Berlin", vec![(0, tiers(113)), (37 * DAY + 123_456, tiers(200))]),
        2 => ("America/New_York", vec![(0, hours(9000, 1099)), (50 * DAY + 1, hours(20_000, 2199))]),
        _ => ("Asia/Tokyo", vec![(0, terms(Usage::Included, monthly, 1999))]),
    };
    let phase = |(number, (offset, terms)): (u32, (i64, Terms))| Phase {
        from: at(START + offset),
        anchor: at(START),
        plan: "plan".parse().unwrap(),
        version: PriceVersion { number, published: at(0), terms },
        units: 1,
    };
    let contract = Contract {
        order: OrderId::from_uuid(Uuid::from_u128(1)),
        tenant: "acme".parse().unwrap(),
        player: None,
        zone: Zone::named(zone).unwrap(),
        phases: (1..).zip(versions).map(phase).collect(),
        ended: None,
    };
    contract.verify_invariants().unwrap();
    contract
}

type Covered = BTreeMap<UtcTime, i64>;

/// Facts to charges: the whole way, each time from the beginning.
fn rate(contract: &Contract, sessions: &[Session], facts: &[Fact], now: UtcTime) -> (Vec<Charge>, Covered) {
    let mut book = Book::new();
    for fact in facts {
        book.add(fact).unwrap();
    }
    let mut meter = Meter::new(contract);
    for session in sessions {
        let intervals = book.intervals(session.id, session.life);
        verify_intervals(&intervals, session.life).unwrap();
        meter.add(session.life, &intervals).unwrap();
    }
    let allocation = allocate(&lots(contract, now).unwrap(), &Use::of(contract.order, &meter), now).unwrap();
    allocation.verify_invariants().unwrap();
    let covered = allocation.covered_ms(contract.order);
    let charges = meter.finish(&covered, now).unwrap();
    for charge in &charges {
        charge.verify_invariants().unwrap();
    }
    (charges, covered)
}

fn sorted(mut charges: Vec<Charge>) -> Vec<Charge> {
    for charge in &mut charges {
        charge.evidence.sort_by_key(|one| one.interval);
        charge.steps.sort_by_key(|step| step.kind);
    }
    charges
}

fn invoice(number: usize, contract: &Contract, lines: &[Line], apps: &BTreeMap<SessionId, AppName>) -> Invoice {
    let billable = |line: &Line| Billable {
        title: "Plan".to_owned(),
        is_prepaid: line.change.key.item == Item::Fee,
        posted: line.clone(),
    };
    let draft = Draft {
        number: format!("2026-{number:04}").parse().unwrap(),
        tenant: contract.tenant.clone(),
        seller: Party::default(),
        buyer: Party::default(),
        zone: contract.zone.clone(),
        currency: Currency::EUR,
        issued: at(START),
        due: at(START),
        period: Period { from: at(START), to: at(START + DAY) },
        tax: TaxRate { name: "VAT".to_owned(), basis_points: 1900 },
        lines: lines.iter().map(billable).collect(),
    };
    Invoice::issue(draft, apps).unwrap()
}

/// Facts by the keys that chance gave them; some of them twice.
fn shuffled(facts: &[Fact], keys: &[u32]) -> Vec<Fact> {
    let key = |index: usize| keys[index % keys.len()].wrapping_mul(2_654_435_761).rotate_left((index % 31) as u32);
    let mut keyed: Vec<(u32, Fact)> = Vec::new();
    for (index, fact) in facts.iter().enumerate() {
        keyed.push((key(index), *fact));
        if key(index) % 3 == 0 {
            keyed.push((key(index + 1), *fact));
        }
    }
    keyed.sort_by_key(|(key, fact)| (*key, fact.id()));
    keyed.into_iter().map(|(_, fact)| fact).collect()
}

fn sessions(plans: &[Plan]) -> Vec<Session> {
    (1..).zip(plans).map(|(number, plan)| session(number, plan)).collect()
}

proptest! {
    /// Invariant 6: what is billed is what happened, however it was told.
    #[test]
    fn intervals_are_what_happened(plans in prop::collection::vec(plan(), 1..8), keys in prop::collection::vec(any::<u32>(), 1..50)) {
        let sessions = sessions(&plans);
        let facts: Vec<Fact> = sessions.iter().flat_map(|session| session.facts.iter().copied()).collect();
        let mut book = Book::new();
        for fact in shuffled(&facts, &keys) {
            book.add(&fact).unwrap();
        }
        for session in &sessions {
            let intervals = book.intervals(session.id, session.life);
            prop_assert_eq!(verify_intervals(&intervals, session.life), Ok(()));
            let found: Vec<_> =
                intervals.iter().map(|one| (one.from.unix_ms(), one.to.unix_ms(), one.is_fault())).collect();
            prop_assert_eq!(&found, &session.truth);
        }
    }

    /// Invariant 6: duplicates, delays and another order change no invoice.
    #[test]
    fn the_order_of_facts_changes_no_invoice(
        kind in any::<u8>(),
        plans in prop::collection::vec(plan(), 1..8),
        keys in prop::collection::vec(any::<u32>(), 1..50),
    ) {
        let (contract, sessions, now) = (contract(kind), sessions(&plans), at(START + 100 * DAY));
        let facts: Vec<Fact> = sessions.iter().flat_map(|session| session.facts.iter().copied()).collect();
        let invoice_of = |facts: &[Fact]| {
            let (charges, _) = rate(&contract, &sessions, facts, now);
            let lines = Booked::new().book(sorted(charges), at(0)).unwrap();
            serde_json::to_string(&invoice(1, &contract, &lines, &BTreeMap::new())).unwrap()
        };
        prop_assert_eq!(invoice_of(&facts), invoice_of(&shuffled(&facts, &keys)));
    }

    /// Invariant 7: rated in many rounds, with facts that come late, or at once: the same; and all documents and postings add up.
    #[test]
    fn many_rounds_are_one(
        kind in any::<u8>(),
        plans in prop::collection::vec(plan(), 1..8),
        keys in prop::collection::vec(any::<u32>(), 1..50),
        rounds in 1..6_usize,
    ) {
        let (contract, sessions) = (contract(kind), sessions(&plans));
        let facts: Vec<Fact> = sessions.iter().flat_map(|session| session.facts.iter().copied()).collect();
        let late = shuffled(&facts, &keys);
        let apps = sessions.iter().map(|one| (one.id, "doom".parse().unwrap())).collect();
        let end = at(START + 100 * DAY);
        let (mut booked, mut all, mut ledger) = (Booked::new(), Vec::new(), Ledger::new());
        let mut gross = Money::zero(Currency::EUR);
        for round in 1..=rounds {
            let known = &late[..late.len() * round / rounds];
            let now = if round == rounds { end } else { at(START + 100 * DAY * round as i64 / rounds as i64) };
            let (charges, _) = rate(&contract, &sessions, known, now);
            let lines = booked.book(charges, at(0)).unwrap();
            prop_assert_eq!(booked.verify_invariants(), Ok(()));
            let invoice = invoice(round, &contract, &lines, &apps);
            prop_assert_eq!(invoice.verify_invariants(), Ok(()));
            gross = gross.plus(invoice.gross).unwrap();
            let key = format!("invoice/{}", invoice.number).parse().unwrap();
            let posting = Posting::invoice(key, now, &invoice.for_ledger().unwrap()).unwrap();
            if !posting.entries.is_empty() {
                prop_assert_eq!(ledger.post(posting.clone()), Ok(Posted::New));
                prop_assert_eq!(ledger.post(posting), Ok(Posted::Known));
            }
            all.extend(lines);
        }
        let (charges, covered) = rate(&contract, &sessions, &facts, end);
        let is_something = |charge: &Charge| !charge.amount.is_zero() || !charge.evidence.is_empty();
        let at_once: Vec<Charge> = sorted(charges).into_iter().filter(is_something).collect();
        prop_assert_eq!(sorted(booked.charges()), at_once);
        prop_assert_eq!(&Booked::replay(&all).unwrap(), &booked);
        let played: Vec<Played<'_>> =
            sessions.iter().map(|session| Played { life: session.life, facts: &session.facts }).collect();
        prop_assert_eq!(prove(&contract, &played, &covered, end, &all), Ok(()));
        prop_assert_eq!(ledger.verify_invariants(), Ok(()));
        let account = Account::Receivable { tenant: contract.tenant.clone() };
        prop_assert_eq!(ledger.balance(&account, Currency::EUR), gross);
        // What is counted is what happened, to the millisecond.
        let truth: i64 = sessions.iter().flat_map(|one| &one.truth).map(|(from, to, _)| to - from).sum();
        let counted: i64 = booked.charges().iter().flat_map(|charge| charge.evidence.clone()).map(|one| one.ms).sum();
        prop_assert_eq!(counted, truth);
    }

    /// A proof that finds nothing wrong proves nothing: one changed line, or one fact that is not there, is found.
    #[test]
    fn a_false_line_is_found(kind in any::<u8>(), plans in prop::collection::vec(plan(), 1..6), which in any::<prop::sample::Index>()) {
        let (contract, sessions, end) = (contract(kind), sessions(&plans), at(START + 100 * DAY));
        let facts: Vec<Fact> = sessions.iter().flat_map(|session| session.facts.iter().copied()).collect();
        let (charges, covered) = rate(&contract, &sessions, &facts, end);
        let lines = Booked::new().book(charges, at(0)).unwrap();
        prop_assume!(!lines.is_empty());
        let played: Vec<Played<'_>> =
            sessions.iter().map(|session| Played { life: session.life, facts: &session.facts }).collect();
        prop_assert_eq!(prove(&contract, &played, &covered, end, &lines), Ok(()));
        let mut wrong = lines.clone();
        wrong[which.index(lines.len())].change.amount.minor += 1;
        prop_assert!(prove(&contract, &played, &covered, end, &wrong).is_err());
        let mut missing = lines.clone();
        missing.remove(which.index(lines.len()));
        prop_assert!(prove(&contract, &played, &covered, end, &missing).is_err());
    }
}
