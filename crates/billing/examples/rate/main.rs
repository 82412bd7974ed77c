//! How fast it rates: `rate INTERVALS [SEED]` generates plays of many orders, one order after the other, rates them, and compares each amount with
//! a computation that shares nothing with the crate (`naive.rs`); prints JSON.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

mod naive;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::clock::UtcTime;
use billing::contract::Contract;
use billing::prepaid::{Use, allocate, lots};
use billing::rating::{Booked, Item, Line, Meter};
use billing::usage::{Interval, Life, Timeline};
use impair::Random;

use crate::naive::Expected;
use crate::world::{Play, World};

/// Intervals of one order: about what a tenant of a hundred players has in a year.
const PER_ORDER: u64 = 5000;

#[derive(Default)]
struct Figures {
    orders: u64,
    facts: u64,
    intervals: u64,
    lines: u64,
    merging: Duration,
    rating: Duration,
    mismatch_minor: u128,
    mismatch_ms: u128,
}

/// Facts to intervals.
fn merge(plays: &[Play]) -> anyhow::Result<Vec<(Life, Vec<Interval>)>> {
    let mut sessions = Vec::with_capacity(plays.len());
    for play in plays {
        let mut timeline = Timeline::default();
        for fact in &play.facts {
            timeline.add(fact)?;
        }
        sessions.push((play.life, timeline.intervals(play.session, play.life)));
    }
    Ok(sessions)
}

/// Intervals to posted lines.
fn rate(contract: &Contract, sessions: &[(Life, Vec<Interval>)], now: UtcTime) -> anyhow::Result<Vec<Line>> {
    let mut meter = Meter::new(contract);
    for (life, intervals) in sessions {
        meter.add(*life, intervals)?;
    }
    let lots = lots(contract, now)?;
    let covered = if lots.is_empty() {
        BTreeMap::new()
    } else {
        allocate(&lots, &Use::of(contract.order, &meter), now)?.covered_ms(contract.order)
    };
    Ok(Booked::new().book(meter.finish(&covered, now)?, UtcTime::from_unix_ms(0))?)
}

/// How far both computations are apart, in minor units and in milliseconds.
fn compare(lines: &[Line], mut expected: Expected) -> (u128, u128) {
    let (mut minor, mut ms) = (0, 0);
    for line in lines {
        let change = &line.change;
        let key = (change.key.segment.unix_ms(), change.key.item);
        let (other_minor, other_ms) = expected.remove(&key).unwrap_or((0, 0));
        minor += (i128::from(change.amount.minor) - other_minor).unsigned_abs();
        ms += (i128::from(change.quantity_ms) - other_ms).unsigned_abs();
    }
    for ((_, _), (other_minor, other_ms)) in expected {
        minor += other_minor.unsigned_abs();
        ms += other_ms.unsigned_abs();
    }
    (minor, ms)
}

fn peak_rss_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: rate INTERVALS [SEED]";
    let wanted: u64 = arguments.next().context(usage)?.parse().context(usage)?;
    let seed: u64 = arguments.next().map_or(Ok(1), |seed| seed.parse()).context(usage)?;
    let mut random = Random::new(seed);
    let mut figures = Figures::default();
    while figures.intervals < wanted {
        let world = World::new(figures.orders, PER_ORDER.min(wanted - figures.intervals), &mut random)?;
        let begin = Instant::now();
        let sessions = merge(&world.plays)?;
        figures.merging += begin.elapsed();
        let begin = Instant::now();
        let lines = rate(&world.contract, &sessions, world.now)?;
        figures.rating += begin.elapsed();
        let (minor, ms) = compare(&lines, naive::rate(&world));
        figures.mismatch_minor += minor;
        figures.mismatch_ms += ms;
        figures.orders += 1;
        figures.facts += world.plays.iter().map(|play| play.facts.len() as u64).sum::<u64>();
        figures.intervals += sessions.iter().map(|(_, intervals)| intervals.len() as u64).sum::<u64>();
        figures.lines += lines.iter().filter(|line| line.change.key.item != Item::Fee).count() as u64;
    }
    println!(
        r#"{{"intervals": {}, "intervals_per_s": {:.0}, "facts_per_s": {:.0}, "orders": {}, "lines": {}, "rss_mb": {}, "mismatch_minor_units": {}, "mismatch_ms": {}}}"#,
        figures.intervals,
        figures.intervals as f64 / figures.rating.as_secs_f64(),
        figures.facts as f64 / figures.merging.as_secs_f64(),
        figures.orders,
        figures.lines,
        peak_rss_mib()?,
        figures.mismatch_minor,
        figures.mismatch_ms
    );
    Ok(())
}
