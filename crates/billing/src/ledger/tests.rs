//! Random acts leave a ledger that balances, and nothing is posted over.

use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> UtcTime {
    UtcTime::from_unix_ms(ms)
}

fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn receivable() -> Account {
    Account::Receivable { tenant: tenant("acme") }
}

#[test]
fn a_year_of_a_tenant() {
    let mut ledger = Ledger::new();
    let issued = Issued { tenant: tenant("acme"), revenue: eur(500), prepaid: eur(299), tax: eur(152) };
    let invoice = Posting::invoice(key("invoice/1"), at(1), &issued).unwrap();
    assert_eq!(ledger.post(invoice.clone()), Ok(Posted::New));
    assert_eq!(ledger.post(invoice.clone()), Ok(Posted::Known));
    let other = Posting { at: at(2), ..invoice };
    assert_eq!(ledger.post(other), Err(LedgerError::Reused(key("invoice/1"))));
    let mut post = |posting: Result<Posting, MoneyError>| ledger.post(posting.unwrap()).unwrap();
    post(Posting::payment(key("payment/1"), at(3), tenant("acme"), eur(950)));
    post(Posting::write_off(key("write_off/1"), at(4), tenant("acme"), eur(1)));
    post(Posting::recognition(key("lot/1/1"), at(5), tenant("acme"), eur(100)));
    let back = Issued { revenue: eur(-50), prepaid: eur(0), tax: eur(-10), ..issued };
    post(Posting::credit_note(key("credit/1"), at(6), &back));
    post(Posting::refund(key("refund/1"), at(7), tenant("acme"), eur(60)));
    ledger.verify_invariants().unwrap();
    let balance = |account: &Account| ledger.balance(account, Currency::EUR).minor;
    assert_eq!(balance(&receivable()), 0);
    assert_eq!(balance(&Account::Clearing), 890);
    assert_eq!(balance(&Account::Revenue { tenant: tenant("acme") }), -550);
    assert_eq!(balance(&Account::Prepaid { tenant: tenant("acme") }), -199);
    assert_eq!((balance(&Account::Tax), balance(&Account::Rounding)), (-142, 1));
    assert_eq!(ledger.balance(&receivable(), Currency::JPY), Money::zero(Currency::JPY));
    let journal = ledger.journal_csv();
    assert!(
        journal.contains("\"payment/1\",1970-01-01T00:00:00.003Z,payment,receivable,\"acme\",,9.50,EUR\r\n"),
        "{journal}"
    );
    let entries = ledger.postings().iter().map(|posting| posting.entries.len()).sum::<usize>();
    assert_eq!(journal.lines().count(), 1 + entries);
    let text = serde_json::to_string(ledger.postings()).unwrap();
    let again = Ledger::replay(serde_json::from_str::<Vec<Posting>>(&text).unwrap()).unwrap();
    assert_eq!(again, ledger);
}

#[test]
fn words_are_those_of_json() {
    let acme = tenant("acme");
    let (receivable, revenue) = (receivable(), Account::Revenue { tenant: acme.clone() });
    let prepaid = Account::Prepaid { tenant: acme };
    for account in [receivable, Account::Clearing, revenue, prepaid, Account::Tax, Account::Rounding] {
        assert_eq!(serde_json::to_value(&account).unwrap()["kind"], account.word());
    }
    use Reason::*;
    for reason in [Invoice, CreditNote, Payment, Refund, Recognition, WriteOff] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
    }
}

#[test]
fn what_does_not_balance_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new();
    let check = |ledger: &mut Ledger, entries: &[(Account, Money)], expected: &str| {
        let entry = |(account, amount): &(Account, Money)| Entry { account: account.clone(), amount: *amount };
        let entries = entries.iter().map(entry).collect();
        let posting = Posting { key: key("a"), at: at(0), reason: Reason::Payment, entries };
        let before = ledger.clone();
        let error = ledger.post(posting).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(*ledger, before);
    };
    check(&mut ledger, &[], "no entries");
    check(&mut ledger, &[(receivable(), eur(1))], "differ by 0.01 EUR");
    let yen = Money::new(-1, Currency::JPY);
    check(&mut ledger, &[(receivable(), eur(1)), (Account::Clearing, yen)], "differ");
    let much = eur(i64::MAX);
    let posting = Posting::payment(key("much"), at(0), tenant("acme"), much).unwrap();
    ledger.post(posting).unwrap();
    let (plus, minus) = (eur(1), eur(-1));
    check(&mut ledger, &[(Account::Clearing, plus), (receivable(), minus)], "cannot be computed");
}

#[test]
fn a_lot_is_earned_to_the_last_unit() {
    for (price, bought) in [(299, 54_000_000), (1, 3), (1_000_003, 7)] {
        let mut earned = Money::zero(Currency::EUR);
        let mut used = 0;
        while used < bought {
            used += bought / 3;
            let now = recognised(eur(price), used, bought).unwrap();
            assert!(now.minor >= earned.minor);
            earned = now;
        }
        assert_eq!(earned, eur(price));
    }
    assert_eq!(recognised(eur(5), 1, 0), Err(MoneyError::ByZero));
}

proptest! {
    #[test]
    fn whatever_is_posted_balances(acts in prop::collection::vec((0..6_u8, 0..3_usize, 0..1000_i64, 0..40_u32), 0..100)) {
        let tenants = ["acme", "globex", "initech"].map(tenant);
        let mut ledger = Ledger::new();
        for (act, who, minor, number) in acts {
            let (who, amount, key) = (tenants[who].clone(), eur(minor), key(&format!("act/{number}")));
            let half = eur(minor / 2);
            let issued = Issued { tenant: who.clone(), revenue: amount, prepaid: half, tax: half };
            let posting = match act {
                0 => Posting::invoice(key, at(0), &issued),
                1 => Posting::payment(key, at(0), who, amount),
                2 => Posting::refund(key, at(0), who, amount),
                3 => Posting::recognition(key, at(0), who, amount),
                4 => Posting::write_off(key, at(0), who, amount),
                _ => Posting::credit_note(key, at(0), &issued),
            }.unwrap();
            let (before, is_taken) = (ledger.clone(), ledger.postings().iter().any(|one| one.key == posting.key));
            let result = ledger.post(posting);
            prop_assert!(matches!(result, Ok(Posted::New)) != is_taken || result.is_err());
            if result != Ok(Posted::New) {
                prop_assert_eq!(&ledger, &before);
            }
        }
        prop_assert_eq!(ledger.verify_invariants(), Ok(()));
    }
}
