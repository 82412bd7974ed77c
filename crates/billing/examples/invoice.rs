//! Prints the page of an invoice with a bit of everything, to look at: `cargo run -p billing --example invoice > invoice.html`.

#![expect(clippy::print_stdout, reason = "it prints a page")]

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::EndReason;
use billing::contract::{Contract, Phase};
use billing::id::OrderId;
use billing::invoice::{Billable, Draft, Invoice, Party, TaxRate};
use billing::money::Currency;
use billing::period::{Period, Zone};
use billing::plan::{Concurrency, Limits, Metered, PriceVersion, Queue, Rate, Term, Terms, Tier, Usage};
use billing::rating::{Booked, Line, Meter};
use billing::usage::{Closing, Fact, FactKind, Life, Timeline};
use uuid::Uuid;

const HOUR_MS: i64 = 3_600_000;

fn at(text: &str) -> anyhow::Result<UtcTime> {
    Ok(UtcTime::try_from(text.to_owned())?)
}

fn contract() -> anyhow::Result<Contract> {
    let tier = |up_to_s, minor| Tier { up_to_s, rate: Rate { minor, seconds: 3600 } };
    let metered =
        Metered { included_s: 7200, tiers: vec![tier(Some(36_000), 90), tier(None, 75)], minimum_s: 60, step_s: 0 };
    let terms = Terms {
        currency: Currency::EUR,
        term: Term::Open,
        fee_minor: 4900,
        usage: Usage::Metered { metered },
        concurrency: Concurrency { guarantee: 5, borrow: 5, maximum: 10 },
        limits: Limits::default(),
        queue: Queue { priority: 1, weight: 2 },
        is_trial: false,
    };
    let version = PriceVersion { number: 3, published: at("2025-06-01T00:00:00Z")?, terms };
    let from = at("2025-12-31T23:00:00Z")?;
    Ok(Contract {
        order: OrderId::from_uuid(Uuid::from_u128(0x0199_c0de_0000_7000_8000_0000_0000_0001)),
        tenant: "northwind".parse()?,
        player: None,
        zone: Zone::named("Europe/Berlin")?,
        phases: vec![Phase { from, anchor: from, plan: "studio".parse()?, version, units: 1 }],
        ended: None,
    })
}

/// Plays of January, of which the last one was told late, and of February.
fn lines(contract: &Contract, now: UtcTime, count: i64, booked: &mut Booked) -> anyhow::Result<Vec<Line>> {
    let mut meter = Meter::new(contract);
    for index in 0..count {
        let session = SessionId::from_uuid(Uuid::from_u128(u128::try_from(index)? + 1));
        let begun = contract.phases[0].from.unix_ms() + index * 29 * HOUR_MS + index * 1234;
        let ended = begun + (index % 4 + 1) * 47 * 60_000 + index * 17;
        let reason = if index % 9 == 5 { EndReason::NodeLost } else { EndReason::PlayerLeft };
        let mut timeline = Timeline::default();
        let kinds = [(begun, FactKind::Opened), (ended, FactKind::Closed { closing: Closing::Ended(reason) })];
        for (ms, kind) in kinds {
            timeline.add(&Fact { session, epoch: 0, span: 0, at: UtcTime::from_unix_ms(ms), kind })?;
        }
        let life = Life { begun: UtcTime::from_unix_ms(begun), ended: Some(UtcTime::from_unix_ms(ended)) };
        if index != 7 || now > at("2026-02-20T00:00:00Z")? {
            meter.add(life, &timeline.intervals(session, life))?;
        }
    }
    Ok(booked.book(meter.finish(&BTreeMap::new(), now)?, contract.phases[0].from)?)
}

fn main() -> anyhow::Result<()> {
    let contract = contract()?;
    let (february, march) = (at("2026-01-31T23:00:00Z")?, at("2026-02-28T23:00:00Z")?);
    let mut booked = Booked::new();
    let _first = lines(&contract, february, 26, &mut booked)?;
    let billable = |posted: Line| Billable { title: "Studio, 1080p60".to_owned(), is_prepaid: false, posted };
    let apps = (0..60_u128).map(|index| {
        let app = ["chocolate-doom", "supertux", "veloren"][usize::try_from(index % 3).unwrap_or(0)];
        Ok((SessionId::from_uuid(Uuid::from_u128(index + 1)), app.parse()?))
    });
    let apps: BTreeMap<_, _> = apps.collect::<anyhow::Result<_>>()?;
    let draft = Draft {
        number: "2026-0042".parse()?,
        tenant: contract.tenant.clone(),
        seller: Party {
            name: "Kite Operations GmbH".to_owned(),
            address: vec!["Windgasse 1".to_owned(), "10115 Berlin".to_owned()],
            tax_id: Some("VAT DE123456789".to_owned()),
        },
        buyer: Party {
            name: "Northwind <Games> & Sons".to_owned(),
            address: vec!["12 Harbour Road".to_owned(), "Bristol BS1 4XX".to_owned(), "United Kingdom".to_owned()],
            tax_id: None,
        },
        zone: contract.zone.clone(),
        currency: Currency::EUR,
        issued: march,
        due: at("2026-03-14T23:00:00Z")?,
        period: Period { from: february, to: march },
        tax: TaxRate { name: "VAT".to_owned(), basis_points: 1900 },
        lines: lines(&contract, march, 48, &mut booked)?.into_iter().map(billable).collect(),
    };
    let invoice = Invoice::issue(draft, &apps)?;
    invoice.verify_invariants().map_err(anyhow::Error::msg)?;
    print!("{}", invoice.html());
    Ok(())
}
