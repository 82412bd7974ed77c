//! An invoice is its lines, its lines are intervals, and hostile names are only names.

use super::*;
use crate::contract::Contract;
use crate::ledger::{Ledger, Posting};
use crate::plan::tests::by_the_hour;
use crate::plan::{Metered, Rate, Term, Terms, Usage};
use crate::rating::Booked;
use crate::rating::tests::{HOUR, at, charges, contract, play};

const MONTH: i64 = 31 * 24 * HOUR;
const HOSTILE: &str = "</td><script>alert(\"1\")</script>'=HYPERLINK(\"http://x\")";

fn terms() -> Terms {
    let metered = Metered { minimum_s: 60, ..Metered::flat(Rate { minor: 90, seconds: 3600 }) };
    Terms { term: Term::Open, fee_minor: 500, usage: Usage::Metered { metered }, ..by_the_hour(0) }
}

fn session(number: u128) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(number))
}

fn apps() -> BTreeMap<SessionId, AppName> {
    [(session(1), "chocolate-doom".parse().unwrap()), (session(2), "supertux".parse().unwrap())].into()
}

fn plays(has_late: bool) -> Vec<(crate::usage::Life, Vec<crate::usage::Interval>)> {
    let mut plays = vec![
        play(1, &[(0, HOUR, false), (2 * HOUR, 3 * HOUR, true)]),
        play(2, &[(MONTH + 5 * HOUR, MONTH + 7 * HOUR, false)]),
    ];
    if has_late {
        plays.push(play(3, &[(9 * HOUR, 9 * HOUR + 1234, false)]));
    }
    plays
}

fn draft(number: &str, title: &str, month: i64, lines: Vec<Line>) -> Draft {
    let billable = |posted: Line| {
        let is_prepaid = posted.change.key.item == crate::rating::Item::Fee;
        Billable { title: title.to_owned(), is_prepaid, posted }
    };
    let address = vec!["1 Wind Street".to_owned(), "10115 Berlin".to_owned()];
    let seller = Party { name: "Kite Operations".to_owned(), address, tax_id: Some("DE123456789".to_owned()) };
    Draft {
        number: number.parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        seller,
        buyer: Party { name: title.to_owned(), address: vec![title.to_owned()], tax_id: None },
        zone: Zone::named("Europe/Berlin").unwrap(),
        currency: Currency::EUR,
        issued: at(month * MONTH),
        due: at(month * MONTH + 14 * 24 * HOUR),
        period: Period { from: at((month - 1) * MONTH), to: at(month * MONTH) },
        tax: TaxRate { name: "VAT".to_owned(), basis_points: 1900 },
        lines: lines.into_iter().map(billable).collect(),
    }
}

/// A first month, and a second one with what came late of the first.
fn two_months(title: &str) -> (Contract, Booked, [Invoice; 2]) {
    let contract = contract(terms());
    let mut booked = Booked::new();
    let first = booked.book(charges(&contract, &plays(false)[..1], &[], MONTH), at(0)).unwrap();
    let second = booked.book(charges(&contract, &plays(true), &[], MONTH + 8 * HOUR), at(0)).unwrap();
    let issue = |number, month, lines| Invoice::issue(draft(number, title, month, lines), &apps()).unwrap();
    let invoices = [issue("2026-0001", 1, first), issue("2026-0002", 2, second)];
    (contract, booked, invoices)
}

#[test]
fn an_invoice_is_its_lines() {
    let (_, _, [first, second]) = two_months("By the hour");
    let told = |invoice: &Invoice| -> Vec<(bool, i64)> {
        invoice.verify_invariants().unwrap();
        invoice.lines.iter().map(|line| (line.is_correction, line.amount().minor)).collect()
    };
    // Fee, an hour, and an hour that the platform broke.
    assert_eq!(told(&first), [(false, 500), (false, 90), (false, 0)]);
    // A second and a bit that came late counts for its minimum of a minute.
    assert_eq!(told(&second), [(true, 2), (false, 180)]);
    assert_eq!((first.net.minor, first.tax.minor, first.gross.minor), (590, 112, 702));
    let apps: Vec<_> = first.apps.iter().map(|one| (one.app.as_ref().map(AppName::as_str), one.net.minor)).collect();
    assert_eq!(apps, [(None, 500), (Some("chocolate-doom"), 90)]);
    let mut ledger = Ledger::new();
    let key = "invoice/2026-0001".parse().unwrap();
    let posting = Posting::invoice(key, first.issued, &first.for_ledger().unwrap()).unwrap();
    ledger.post(posting).unwrap();
    assert_eq!(ledger.balances().map(|(_, balance)| balance.minor).collect::<Vec<_>>(), [702, -90, -500, -112]);
    let text = serde_json::to_string(&second).unwrap();
    assert_eq!(serde_json::from_str::<Invoice>(&text).unwrap(), second);
}

#[test]
fn an_invoice_that_does_not_add_up_is_found() {
    let good = two_months("By the hour").2[0].clone();
    let check = |change: fn(&mut Invoice), expected: &str| {
        let mut invoice = good.clone();
        change(&mut invoice);
        let fault = invoice.verify_invariants().unwrap_err();
        assert!(fault.contains(expected), "{fault}");
    };
    check(|invoice| invoice.net.minor += 1, "its lines add up to");
    check(|invoice| invoice.orders[0].net.minor += 1, "its orders add up to");
    check(|invoice| invoice.apps[0].net.minor += 1, "its apps add up to");
    check(|invoice| invoice.tax.minor += 1, "is not its tax");
    check(|invoice| invoice.gross.minor += 1, "is to be paid");
    check(|invoice| invoice.lines[1].position = 3, "stands at place");
    check(|invoice| invoice.lines[1].billable.posted.change.quantity_ms += 1, "intervals add up to");
    check(|invoice| invoice.lines[1].billable.posted.change.steps[0].ms += 1, "steps add up to");
    check(|invoice| invoice.lines[2].billable.posted.change.amount.minor = 1, "a fault of the platform costs");
}

#[test]
fn what_is_given_back_is_never_more_than_there_was() {
    let [first, _] = two_months("By the hour").2;
    let eur = |minor| Money::new(minor, Currency::EUR);
    let credit = |refers_to, minor| Credit { refers_to, amount: eur(minor), why: "Goodwill".to_owned() };
    let note = |number: &str, credits: &[Credit], earlier: &[CreditNote]| {
        first.credit(number.parse().unwrap(), at(0), credits, earlier)
    };
    let refused = |credits: &[Credit], earlier: &[CreditNote], expected: &str| {
        let error = note("c", credits, earlier).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[], &[], "without lines");
    refused(&[credit(9, 1)], &[], "has no line 9");
    refused(&[credit(2, 91)], &[], "at most 0.90 EUR is left");
    refused(&[credit(2, 60), credit(2, 60)], &[], "at most 0.30 EUR is left");
    refused(&[credit(2, 0)], &[], "cannot be given back");
    let one = note("c1", &[credit(2, 33), credit(1, 100)], &[]).unwrap();
    assert_eq!((one.net.minor, one.prepaid.minor), (-133, -100));
    refused(&[credit(2, 58)], std::slice::from_ref(&one), "at most 0.57 EUR is left");
    let rest = note("c2", &[credit(2, 57), credit(1, 400)], std::slice::from_ref(&one)).unwrap();
    // All is given back, and all of its tax.
    assert_eq!(one.gross.plus(rest.gross).unwrap(), first.gross.negated().unwrap());
    let mut ledger = Ledger::new();
    let key = |text: &str| text.parse().unwrap();
    ledger.post(Posting::invoice(key("i"), at(0), &first.for_ledger().unwrap()).unwrap()).unwrap();
    for (name, note) in [("c1", &one), ("c2", &rest)] {
        ledger.post(Posting::credit_note(key(name), at(0), &note.for_ledger(&first).unwrap()).unwrap()).unwrap();
    }
    ledger.verify_invariants().unwrap();
    assert!(ledger.balances().all(|(_, balance)| balance.is_zero()));
    assert!(one.html(&first).contains("Credit note c1"));
}

#[test]
fn the_tax_of_many_small_credits_is_the_tax_of_one() {
    let [first, _] = two_months("By the hour").2;
    let mut notes: Vec<CreditNote> = Vec::new();
    for index in 0..90 {
        let credit = Credit { refers_to: 2, amount: Money::new(1, Currency::EUR), why: String::new() };
        notes.push(first.credit(format!("c{index}").parse().unwrap(), at(0), &[credit], &notes).unwrap());
    }
    let tax: i64 = notes.iter().map(|note| note.tax.minor).sum();
    // 19 % of 5.90 is 1.12, of 5.00 it is 0.95; of a cent it is nothing.
    assert_eq!(tax, -17);
}

#[test]
fn apps_share_a_line_by_their_time() {
    let contract = contract(terms());
    let plays = [play(1, &[(0, HOUR, false)]), play(2, &[(0, 3 * HOUR, false)]), play(4, &[(0, HOUR / 2, false)])];
    let lines = Booked::new().book(charges(&contract, &plays, &[], 1), at(0)).unwrap();
    let invoice = Invoice::issue(draft("a", "a", 1, lines), &apps()).unwrap();
    invoice.verify_invariants().unwrap();
    let told = |one: &AppSubtotal| (one.app.as_ref().map_or("", AppName::as_str).to_owned(), one.ms, one.net.minor);
    let found: Vec<_> = invoice.apps.iter().map(told).collect();
    let expected = [("", HOUR / 2, 45), ("chocolate-doom", HOUR, 90), ("supertux", 3 * HOUR, 270)];
    assert_eq!(found, expected.map(|(app, ms, minor)| (app.to_owned(), ms, minor)));
}

#[test]
fn hostile_names_are_only_names() {
    let [first, second] = two_months(HOSTILE).2;
    let html = first.html() + &second.html();
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&quot;1&quot;)"));
    let title = "=1+1,\"x\"\r\n@cmd";
    let csv = two_months(title).2[0].lines_csv();
    assert!(csv.contains("\"'=1+1,\"\"x\"\"\r\n@cmd\""), "{csv}");
    assert!(csv.lines().next().unwrap().starts_with("invoice,position,order"));
    for hostile in ["+1", "-1", "@x", "\tx", "|x", "%x"] {
        let csv = two_months(hostile).2[0].lines_csv();
        assert!(csv.contains(&format!("\"'{hostile}\"")), "{csv}");
    }
}

#[test]
fn exports_name_each_interval() {
    let [first, second] = two_months("By the hour").2;
    let lines = second.lines_csv();
    let rows: Vec<&str> = lines.lines().collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[1].contains(",time,1,true,1970-01-01T00:00:00Z,"), "{}", rows[1]);
    assert!(rows[1].ends_with(",60.000,0.02,EUR"), "{}", rows[1]);
    let intervals = second.intervals_csv(&apps());
    assert!(intervals.contains(",1.234,58.766\r\n"), "{intervals}");
    assert_eq!(first.intervals_csv(&apps()).lines().count(), 1 + 2);
    let html = second.html();
    assert!(html.contains("Correction of time before") && html.contains("0:00:01.234"), "{html}");
}
