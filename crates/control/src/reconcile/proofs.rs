//! Proofs that sessions can still be played: when nobody sees the end of one, it counts until its last proof.
//!
//! Each session has its second of a period, so that the database hears of as many in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::clock::UtcTime;
use api::fleet::Health;
use api::id::SessionId;
use api::node::PlayerPresence;
use api::session::SessionState;
use tracing::error;

use crate::app::{Plane, now};
use crate::coordinator::fleet::Nodes;

/// How often each is proven, in seconds: so much of a play is the customer's when its end is not seen. Shorter writes more, longer gives more away.
const PERIOD_S: i64 = 30;

/// Sessions that could be played, each with its epoch, and the moment at which that was seen.
#[derive(Debug, Default)]
pub(super) struct Due {
    at: Option<UtcTime>,
    sessions: BTreeMap<SessionId, u32>,
}

/// Until which second everything was looked at, and what of it is not written yet.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    until_s: Option<i64>,
    due: Due,
}

impl Proofs {
    /// Looks at those whose second has come.
    pub(super) fn look(&mut self, plane: &Plane, nodes: &Nodes) {
        let (at, now_s) = (now(), now().unix_ms() / 1000);
        let since_s = self.until_s.unwrap_or(now_s - 1).max(now_s - PERIOD_S);
        self.until_s = Some(now_s);
        for record in plane.store.live.all() {
            if !matches!(record.state, SessionState::Connected { .. }) || !is_due(record.id, since_s, now_s) {
                continue;
            }
            let node = record.node.and_then(|id| nodes.get(&id)).filter(|node| node.health == Health::Alive);
            let instance = node.and_then(|node| node.instance(record.instance, record.epoch));
            if instance.is_some_and(|instance| matches!(instance.player, PlayerPresence::Connected)) {
                // Of several looks the first one's time: what is written late says no more than it saw.
                self.due.at.get_or_insert(at);
                self.due.sessions.insert(record.id, record.epoch);
            }
        }
    }

    /// What is to be written; nothing is left.
    pub(super) fn take(&mut self) -> Option<Due> {
        (!self.due.sessions.is_empty()).then(|| std::mem::take(&mut self.due))
    }
}

/// Writes it down, beside the reconciler's looks: those who ask for places do not wait for it.
pub(super) async fn write(plane: Arc<Plane>, due: Due) {
    let Some(at) = due.at else { return };
    let sessions: Vec<(SessionId, u32)> = due.sessions.into_iter().collect();
    if let Err(error) = plane.store.prove(at, &sessions).await {
        // The next period proves more; what cannot be written down is not billed.
        error!(error = &error as &dyn std::error::Error, "what is played could not be proven");
    }
}

/// Has one of the seconds after the last look this session's place in the period?
fn is_due(id: SessionId, since_s: i64, now_s: i64) -> bool {
    let slot = i64::try_from(id.uuid().as_u128() % 1_000_003).unwrap_or(0) % PERIOD_S;
    (now_s - slot).div_euclid(PERIOD_S) != (since_s - slot).div_euclid(PERIOD_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_is_proven_once_a_period_however_late_the_looks_are() {
        for number in [1, 29, 30, 31, 1_000_003, u128::MAX / 7] {
            let id = SessionId::from_uuid(uuid::Uuid::from_u128(number));
            for step in [1, 2, 7, PERIOD_S] {
                let looks = (0..PERIOD_S * 20 / step).map(|look| (1_000 + look * step, 1_000 + (look + 1) * step));
                let times: Vec<i64> =
                    looks.filter(|(since, now)| is_due(id, *since, *now)).map(|(_, now)| now).collect();
                assert!((19..=20).contains(&times.len()), "{number} {step}: {}", times.len());
                assert!(times.windows(2).all(|pair| pair[1] - pair[0] < PERIOD_S + 2 * step), "{number} {step}");
            }
        }
    }
}
