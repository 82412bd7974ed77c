//! Lines are their intervals, and nothing else: proven from raw facts, as if nothing had ever been posted.

use std::collections::BTreeMap;

use api::clock::UtcTime;

use crate::contract::Contract;
use crate::rating::{Booked, Charge, Line, Meter};
use crate::usage::{Fact, Life, Timeline};

/// One session as the database has it: its life, and its facts in whatever order.
#[derive(Clone, Copy, Debug)]
pub struct Played<'a> {
    /// Its life.
    pub life: Life,
    /// What was told of it.
    pub facts: &'a [Fact],
}

/// Rates an order anew from raw facts, and compares with all lines that were ever posted for it: amounts, times, steps, and each interval.
///
/// `covered_ms` as in [`Meter::finish`].
///
/// # Errors
/// A sentence that names the first difference.
pub fn prove(
    contract: &Contract,
    sessions: &[Played<'_>],
    covered_ms: &BTreeMap<UtcTime, i64>,
    now: UtcTime,
    lines: &[Line],
) -> Result<(), String> {
    let mut meter = Meter::new(contract);
    for played in sessions {
        let mut timeline = Timeline::default();
        for fact in played.facts {
            timeline.add(fact).map_err(|error| error.to_string())?;
        }
        let Some(session) = played.facts.first().map(|fact| fact.session) else { continue };
        let intervals = timeline.intervals(session, played.life);
        crate::usage::verify_intervals(&intervals, played.life)?;
        meter.add(played.life, &intervals).map_err(|error| error.to_string())?;
    }
    let booked = Booked::replay(lines).map_err(|error| error.to_string())?;
    booked.verify_invariants()?;
    let charged = meter.finish(covered_ms, now).map_err(|error| error.to_string())?;
    compare(booked.charges(), charged)
}

fn compare(booked: Vec<Charge>, charged: Vec<Charge>) -> Result<(), String> {
    let by_key = |charges: Vec<Charge>| -> BTreeMap<_, Charge> {
        charges.into_iter().map(|charge| (charge.key, sorted(charge))).collect()
    };
    let (booked, mut charged) = (by_key(booked), by_key(charged));
    for (key, lines) in booked {
        let name = format!("{}, {} from {}", key.order, key.item.word(), key.segment);
        let Some(facts) = charged.remove(&key) else {
            return Err(format!("{name}: lines say {}, facts say nothing", lines.amount));
        };
        if (lines.amount, lines.quantity_ms) != (facts.amount, facts.quantity_ms) {
            let (ours, theirs) = (lines.quantity_ms, facts.quantity_ms);
            return Err(format!(
                "{name}: lines say {} for {ours} ms, facts {} for {theirs} ms",
                lines.amount, facts.amount
            ));
        }
        if lines != facts {
            return Err(format!("{name}: lines and facts differ in their intervals or steps"));
        }
    }
    match charged.into_values().next() {
        Some(facts) => Err(format!("{}: facts say {}, and no line does", facts.key.order, facts.amount)),
        None => Ok(()),
    }
}

fn sorted(mut charge: Charge) -> Charge {
    charge.evidence.sort_by_key(|one| one.interval);
    charge.steps.sort_by_key(|step| step.kind);
    charge
}
