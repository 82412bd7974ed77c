//! What was counted and measured, as one line of JSON.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::Ledger;

/// Counters since the start, and times since the last line.
#[derive(Debug, Default)]
pub(crate) struct Report {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: i64,
    began: u64,
    live: i64,
    linked: i64,
    connected: i64,
    ended: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    placed_ms: Vec<f64>,
    ready_ms: Vec<f64>,
}

impl Report {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node_connected(&self, is: bool) {
        self.lock().nodes += step(is);
    }

    pub(crate) fn began(&self) {
        let mut inner = self.lock();
        inner.began += 1;
        inner.live += 1;
    }

    pub(crate) fn ended(&self, reason: &str) {
        let mut inner = self.lock();
        inner.live -= 1;
        *inner.ended.entry(reason.to_owned()).or_default() += 1;
    }

    pub(crate) fn refused(&self, problem: &Value) {
        let kind = problem.get("type").and_then(Value::as_str).unwrap_or("?");
        *self.lock().refused.entry(kind.to_owned()).or_default() += 1;
    }

    pub(crate) fn linked(&self, is: bool) {
        self.lock().linked += step(is);
    }

    /// Counts a session as connected, or no more.
    pub(crate) fn set_connected(&self, was: &mut bool, is: bool) {
        if *was != is {
            *was = is;
            self.lock().connected += step(is);
        }
    }

    pub(crate) fn connected(&self) -> usize {
        usize::try_from(self.lock().connected).unwrap_or(0)
    }

    /// From the request to the place.
    pub(crate) fn placed(&self, after: Duration) {
        self.lock().placed_ms.push(after.as_secs_f64() * 1000.0);
    }

    /// From the request until the streamer takes offers.
    pub(crate) fn ready(&self, after: Duration) {
        self.lock().ready_ms.push(after.as_secs_f64() * 1000.0);
    }

    /// The line. Times begin anew.
    pub(crate) fn take(&self, what: &str, ledger: &Ledger) -> Value {
        let mut inner = self.lock();
        let (placed, ready) = (std::mem::take(&mut inner.placed_ms), std::mem::take(&mut inner.ready_ms));
        let balance = ledger.balance();
        json!({
            "what": what,
            "nodes": inner.nodes,
            "began": inner.began,
            "live": inner.live,
            "linked": inner.linked,
            "connected": inner.connected,
            "ended": inner.ended,
            "refused": inner.refused,
            "claim_ms": percentiles(placed),
            "ready_ms": percentiles(ready),
            "instances": balance.running,
            "instances_started": balance.started,
            "violations": balance.violations,
            "told": balance.told,
        })
    }
}

fn step(is: bool) -> i64 {
    if is { 1 } else { -1 }
}

fn percentiles(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values.get((values.len() * share / 100).min(values.len().saturating_sub(1))).copied();
    json!({ "count": values.len(), "p50": at(50), "p99": at(99), "max": values.last() })
}
