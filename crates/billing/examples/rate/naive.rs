//! The same amounts by other means: a calendar of its own with the rules of five zones written out, sums over one common denominator, and a closed
//! formula instead of lots. Slow and simple on purpose. Of the crate it uses only the words for terms.

use std::collections::BTreeMap;

use billing::plan::{Beyond, Metered, Usage};
use billing::rating::Item;

use crate::world::World;

/// Minor units and milliseconds, by the beginning of the month and the item.
pub(crate) type Expected = BTreeMap<(i64, Item), (i128, i128)>;

/// Clocks of a zone, as they are set in the years after 2007.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clocks {
    Utc,
    Berlin,
    NewYork,
    Tokyo,
    Kolkata,
}

impl Clocks {
    pub(crate) const ALL: [Clocks; 5] = [Clocks::Utc, Clocks::Berlin, Clocks::NewYork, Clocks::Tokyo, Clocks::Kolkata];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Clocks::Utc => "UTC",
            Clocks::Berlin => "Europe/Berlin",
            Clocks::NewYork => "America/New_York",
            Clocks::Tokyo => "Asia/Tokyo",
            Clocks::Kolkata => "Asia/Kolkata",
        }
    }

    /// Minutes ahead of UTC at midnight of the first of a month. Europe's summer begins in the last days of March and ends in those of October;
    /// that of the United States begins in the second week of March and ends at two o'clock on a day of the first week of November.
    const fn ahead_min(self, month: u32) -> i64 {
        match self {
            Clocks::Utc => 0,
            Clocks::Berlin if month >= 4 && month <= 10 => 120,
            Clocks::Berlin => 60,
            Clocks::NewYork if month >= 4 && month <= 11 => -240,
            Clocks::NewYork => -300,
            Clocks::Tokyo => 540,
            Clocks::Kolkata => 330,
        }
    }
}

/// Milliseconds since 1970 at which a month begins there, counted month by month.
pub(crate) fn month_begins(clocks: Clocks, year: i32, month: u32) -> i64 {
    let mut days = 0;
    for y in 1970..=year {
        let is_leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
        let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let months = if y == year { month as usize - 1 } else { 12 };
        days += lengths.iter().take(months).sum::<i64>();
    }
    days * 86_400_000 - clocks.ahead_min(month) * 60_000
}

/// What each month of the year costs.
pub(crate) fn rate(world: &World) -> Expected {
    let months: Vec<i64> = (1..=12).map(|month| month_begins(world.clocks, 2026, month)).collect();
    let ends: Vec<i64> = months.iter().skip(1).copied().chain([month_begins(world.clocks, 2027, 1)]).collect();
    let terms = world.contract.phases[0].terms();
    let metered = match &terms.usage {
        Usage::Metered { metered } => Some(metered),
        Usage::Prepaid { allowance } => match &allowance.beyond {
            Beyond::Metered { metered } => Some(metered),
            Beyond::End => None,
        },
        Usage::Included => None,
    };
    let (mut paid, mut broken) = (vec![0_i128; 12], vec![0_i128; 12]);
    for play in &world.plays {
        let (mut played, mut last, mut any_fault) = (0, None, false);
        for (from, to, is_fault) in &play.truth {
            any_fault |= is_fault;
            for month in 0..12 {
                let within = ends[month].min(*to) - months[month].max(*from);
                if within > 0 {
                    let sums = if *is_fault { &mut broken } else { &mut paid };
                    sums[month] += i128::from(within);
                    if !is_fault {
                        played += within;
                        last = Some(month);
                    }
                }
            }
        }
        if let (Some(month), Some(metered), false) = (last, metered, any_fault) {
            paid[month] += extra(metered, played);
        }
    }
    let mut rolled = 0;
    let mut expected = Expected::new();
    for month in 0..12 {
        let mut billed = paid[month];
        if let Usage::Prepaid { allowance } = &terms.usage {
            let (bought, cap) = (i128::from(allowance.seconds) * 1000, i128::from(allowance.roll_over_s) * 1000);
            let of_bought = (billed - rolled).max(0).min(bought);
            billed = (billed - rolled - bought).max(0);
            rolled = (bought - of_bought).min(cap);
        }
        let minor = metered.map_or(0, |metered| price(metered, billed));
        let mut tell = |item, minor, ms: i128| {
            if minor != 0 || ms != 0 {
                expected.insert((months[month], item), (minor, ms));
            }
        };
        tell(Item::Time, minor, paid[month]);
        tell(Item::Fault, 0, broken[month]);
        tell(Item::Fee, i128::from(terms.fee_minor), 0);
    }
    expected
}

/// Up to the next step, at least the minimum: by counting steps.
fn extra(metered: &Metered, played: i64) -> i128 {
    let step = i64::from(metered.step_s) * 1000;
    let mut counted = played;
    if step > 0 {
        counted = 0;
        while counted < played {
            counted += step;
        }
    }
    i128::from(counted.max(i64::from(metered.minimum_s) * 1000) - played)
}

/// All tiers over the product of their denominators, then the nearest, of two the even one.
fn price(metered: &Metered, ms: i128) -> i128 {
    let billed = (ms - i128::from(metered.included_s) * 1000).max(0);
    let whole: i128 = metered.tiers.iter().map(|tier| i128::from(tier.rate.seconds)).product::<i128>() * 1000;
    let (mut sum, mut begin) = (0, 0);
    for tier in &metered.tiers {
        let end = tier.up_to_s.map_or(i128::MAX, |seconds| i128::from(seconds) * 1000);
        let within = (billed.min(end) - begin).max(0);
        sum += within * i128::from(tier.rate.minor) * (whole / (i128::from(tier.rate.seconds) * 1000));
        begin = end;
    }
    let (units, rest) = (sum / whole, sum % whole);
    let is_up = rest * 2 > whole || (rest * 2 == whole && units % 2 == 1);
    units + i128::from(is_up)
}
