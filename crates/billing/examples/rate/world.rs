//! A year of one order: its terms, and plays with connections that break, faults, and facts that are told twice and in another order.

use api::clock::UtcTime;
use api::id::SessionId;
use api::session::EndReason;
use billing::contract::{Contract, Phase};
use billing::id::OrderId;
use billing::money::Currency;
use billing::period::{Cadence, Zone};
use billing::plan::{
    Allowance, Beyond, Concurrency, Limits, Metered, PriceVersion, Queue, Rate, Term, Terms, Tier, Usage,
};
use billing::usage::{Closing, Fact, FactKind, Life};
use impair::Random;
use uuid::Uuid;

use crate::naive::{self, Clocks};

/// One session.
pub(crate) struct Play {
    pub(crate) session: SessionId,
    pub(crate) life: Life,
    pub(crate) facts: Vec<Fact>,
    /// (from, to, broken by the platform), as it was.
    pub(crate) truth: Vec<(i64, i64, bool)>,
}

/// One order and what was played by it.
pub(crate) struct World {
    pub(crate) contract: Contract,
    pub(crate) clocks: Clocks,
    pub(crate) plays: Vec<Play>,
    /// The last millisecond of the year.
    pub(crate) now: UtcTime,
}

const YEAR: i32 = 2026;

/// A number below the limit.
fn below(random: &mut Random, limit: i64) -> i64 {
    (random.unit() * limit as f64) as i64
}

fn terms(number: u64) -> Terms {
    let currency = [Currency::EUR, Currency::JPY, Currency::KWD, Currency::USD][(number / 4 % 4) as usize];
    let price = 3 + i64::try_from(number % 997).unwrap_or(0);
    let monthly = Term::Periodic { every: Cadence::Month };
    let (term, fee_minor, usage) = match number % 4 {
        0 => (Term::Open, 0, Usage::Metered { metered: Metered::flat(Rate { minor: price, seconds: 3600 }) }),
        1 => {
            let tier = |up_to_s, minor, seconds| Tier { up_to_s, rate: Rate { minor, seconds } };
            let tiers = vec![tier(Some(100_000), price, 3600), tier(Some(400_000), 1, 60), tier(None, 7, 1000)];
            let metered = Metered { included_s: 36_000, tiers, minimum_s: 300, step_s: 60 };
            (Term::Open, 0, Usage::Metered { metered })
        }
        2 => {
            let metered = Metered::flat(Rate { minor: price, seconds: 3600 });
            let beyond = Beyond::Metered { metered };
            (monthly, 1099, Usage::Prepaid { allowance: Allowance { seconds: 360_000, roll_over_s: 54_000, beyond } })
        }
        _ => (monthly, 100 * price, Usage::Included),
    };
    Terms {
        currency,
        term,
        fee_minor,
        usage,
        concurrency: Concurrency { guarantee: 10, borrow: 10, maximum: 20 },
        limits: Limits::default(),
        queue: Queue { priority: 0, weight: 1 },
        is_trial: false,
    }
}

impl World {
    /// Order number `number`, with about so many intervals.
    pub(crate) fn new(number: u64, intervals: u64, random: &mut Random) -> anyhow::Result<World> {
        let clocks = Clocks::ALL[(number % Clocks::ALL.len() as u64) as usize];
        let start = naive::month_begins(clocks, YEAR, 1);
        let end = naive::month_begins(clocks, YEAR + 1, 1);
        let version = PriceVersion { number: 1, published: UtcTime::from_unix_ms(0), terms: terms(number) };
        let from = UtcTime::from_unix_ms(start);
        let contract = Contract {
            order: OrderId::from_uuid(Uuid::from_u128(u128::from(number))),
            tenant: format!("tenant-{}", number % 200).parse()?,
            player: None,
            zone: Zone::named(clocks.name())?,
            phases: vec![Phase { from, anchor: from, plan: "plan".parse()?, version, units: 1 }],
            ended: None,
        };
        // Whole minutes for those that pay by the hour: so sums of exactly half a unit happen, which are what roundings differ in.
        let grain = if number.is_multiple_of(4) { 60_000 } else { 1 };
        let mut plays = Vec::new();
        let mut left = intervals;
        while left > 0 {
            let count = (1 + below(random, 3)).min(i64::try_from(left)?);
            let id = u128::from(number) << 64 | u128::from(left);
            plays.push(play(SessionId::from_uuid(Uuid::from_u128(id)), count, grain, (start, end), random));
            left -= u64::try_from(count)?;
        }
        Ok(World { contract, clocks, plays, now: UtcTime::from_unix_ms(end - 1) })
    }
}

fn play(session: SessionId, count: i64, grain: i64, (start, end): (i64, i64), random: &mut Random) -> Play {
    let (mut facts, mut truth) = (Vec::new(), Vec::new());
    // Twelve hours from the end no play begins: none leaves the year.
    let begun = start + below(random, end - start - 43_200_000) / grain * grain;
    let mut now = begun;
    for span in 0..count {
        let span = u32::try_from(span).unwrap_or(0);
        let (from, ms) = (now + below(random, 60_000) / grain * grain, (1 + below(random, 5_400_000) / grain) * grain);
        let is_fault = below(random, 20) == 0;
        let mut tell = |ms, kind| {
            facts.push(Fact { session, epoch: 0, span, at: UtcTime::from_unix_ms(ms), kind });
        };
        let reason = if is_fault { EndReason::NodeLost } else { EndReason::PlayerLeft };
        tell(from + ms, FactKind::Closed { closing: Closing::Ended(reason) });
        tell(from, FactKind::Opened);
        tell(from + ms / 2, FactKind::Extended { beat: 0 });
        tell(from, FactKind::Opened);
        truth.push((from, from + ms, is_fault));
        now = from + ms;
    }
    let at = UtcTime::from_unix_ms;
    Play { session, life: Life { begun: at(begun), ended: Some(at(now)) }, facts, truth }
}
