//! Keeps pools of warm instances full: starts what is missing, and gives up what is too much, of another release, or on a node that is emptied.
//!
//! Level-triggered like everything here: what is there is compared with what shall be. A pool whose instances come to nothing is tried again after a
//! while that doubles, and says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::fleet::Duty;
use api::id::{InstanceId, PoolId, SessionId};
use api::session::{EndReason, SessionState};
use tracing::{info, warn};
use uuid::Uuid;

use super::{session, write};
use crate::app::catalogue::Package;
use crate::app::token::new_session_token;
use crate::app::{Plane, now};
use crate::coordinator::fleet::Nodes;
use crate::demand::Demand;
use crate::store::{Claimed, PoolRecord, SessionRecord, Step, StoreError};

/// How often pools are looked at. What was claimed is missing for so long.
const PERIOD: Duration = Duration::from_millis(200);

/// After how long a pool is tried again that could not be filled; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longer leaves a pool empty when there is room again, shorter starts what cannot run for nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Most instances of a pool that are started at once. More make players wait who start nearby.
const MOST_AT_ONCE: usize = 8;

/// How the filling of a pool goes.
#[derive(Debug)]
struct Filling {
    /// Instances that are being started.
    starting: BTreeSet<SessionId>,
    pause: Duration,
    not_before: Option<Instant>,
}

/// What is known from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pools: Vec<PoolRecord>,
    /// Tenants whose apps are not started.
    inactive: BTreeSet<String>,
    fillings: BTreeMap<PoolId, Filling>,
    looked_at: Option<Instant>,
}

impl Keeper {
    /// Takes the pools as they are now, and the tenants whose apps are not started.
    pub(super) fn set(&mut self, pools: Vec<PoolRecord>, inactive: BTreeSet<String>) {
        self.inactive = inactive;
        self.fillings.retain(|id, _| pools.iter().any(|pool| pool.id == *id));
        self.pools = pools;
    }

    /// Where a pool is.
    pub(super) fn site(&self, id: PoolId) -> Option<&str> {
        self.pools.iter().find(|pool| pool.id == id).map(|pool| pool.site.as_str())
    }

    /// Compares what is there with what shall be.
    pub(super) async fn look(&mut self, plane: &Plane, nodes: &Nodes) -> Result<(), StoreError> {
        if self.looked_at.is_some_and(|at| at.elapsed() < PERIOD) {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        let mut there = plane.store.live.of_pools();
        for pool in std::mem::take(&mut self.pools) {
            let rows = there.remove(&pool.id).unwrap_or_default();
            let kept = self.keep(plane, nodes, &pool, &rows).await;
            self.pools.push(pool);
            kept?;
        }
        // Of pools that are gone.
        let rest = there.into_values().flatten().filter(|row| !matches!(row.state, SessionState::Stopping { .. }));
        give_up(plane, rest.map(|row| row.id).collect()).await
    }

    async fn keep(
        &mut self,
        plane: &Plane,
        nodes: &Nodes,
        pool: &PoolRecord,
        rows: &[Arc<SessionRecord>],
    ) -> Result<(), StoreError> {
        let package = plane.catalogue.on_channel(pool.app.as_str(), &pool.channel);
        let mut package = package.map_err(|problem| problem.detail).and_then(|package| {
            let checked = package.manifest.spec.check(pool.spec);
            checked.map(|()| package).map_err(|error| format!("The spec's {error}."))
        });
        if let Ok(good) = &package
            && !self.inactive.is_empty()
            && self.inactive.contains(&plane.owner_of(good).await?)
        {
            package = Err("Its tenant is suspended or closed.".to_owned());
        }
        let is_good = |row: &SessionRecord| {
            let is_active = |node| nodes.get(node).is_none_or(|node| node.record.duty == Duty::Active);
            package.as_ref().is_ok_and(|package| row.release == package.release())
                && row.node.as_ref().is_none_or(is_active)
        };
        let plan = plan(rows, pool.size, is_good);
        give_up(plane, plan.give_up).await?;
        let fresh = || Filling { starting: BTreeSet::new(), pause: FIRST_PAUSE, not_before: None };
        let filling = self.fillings.entry(pool.id).or_insert_with(fresh);
        match package {
            Err(why) => plane.hindrances.set(pool.id, Some(why)),
            Ok(package) => {
                learn(plane, pool, filling, rows).await?;
                let may = filling.not_before.is_none_or(|at| Instant::now() >= at);
                // One is enough to see whether it goes again.
                let most = if filling.pause > FIRST_PAUSE { 1 } else { MOST_AT_ONCE };
                let most = if may { most.saturating_sub(filling.starting.len()) } else { 0 };
                for _ in 0..plan.missing.min(most) {
                    filling.starting.extend(start(plane, pool, &package).await?);
                }
            }
        }
        Ok(())
    }
}

/// Ends instances that nobody has, all at once.
async fn give_up(plane: &Plane, ids: Vec<SessionId>) -> Result<(), StoreError> {
    let unused = |row: &SessionRecord| session::stopped(row, EndReason::Unused, now()).filter(|_| row.pool.is_some());
    write(plane, ids.into_iter().map(|id| Step::new(id, unused)).collect()).await
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    give_up: Vec<SessionId>,
    missing: usize,
}

/// Of the good ones the oldest stay: they are the furthest. Those that are stopping are on their way already.
fn plan(rows: &[Arc<SessionRecord>], size: u32, is_good: impl Fn(&SessionRecord) -> bool) -> Plan {
    let (mut plan, mut kept) = (Plan::default(), 0);
    for row in rows.iter().filter(|row| !matches!(row.state, SessionState::Stopping { .. })) {
        if kept < size as usize && is_good(row) {
            kept += 1;
        } else {
            plan.give_up.push(row.id);
        }
    }
    plan.missing = (size as usize).saturating_sub(kept);
    plan
}

/// What became of those that were being started.
async fn learn(
    plane: &Plane,
    pool: &PoolRecord,
    filling: &mut Filling,
    rows: &[Arc<SessionRecord>],
) -> Result<(), StoreError> {
    for id in filling.starting.clone() {
        match rows.iter().find(|row| row.id == id).map(|row| row.state) {
            Some(SessionState::Ready { .. }) => {
                filling.starting.remove(&id);
                filling.pause = FIRST_PAUSE;
                plane.hindrances.set(pool.id, None);
            }
            Some(_) => {}
            None => {
                filling.starting.remove(&id);
                if let Some(why) = failure(plane, id).await? {
                    // Once for all that were started together.
                    if filling.not_before.is_none_or(|at| Instant::now() >= at) {
                        filling.not_before = Some(Instant::now() + filling.pause);
                        filling.pause = (filling.pause * 2).min(LONGEST_PAUSE);
                        warn!(pool = %pool.id, app = %pool.app, site = pool.site, why, "a warm instance came to nothing");
                    }
                    plane.hindrances.set(pool.id, Some(why));
                }
            }
        }
    }
    Ok(())
}

/// Why an instance ended before anybody could have it; `None` when there was nothing wrong with it.
async fn failure(plane: &Plane, id: SessionId) -> Result<Option<String>, StoreError> {
    let Some(record) = plane.store.session(id).await? else { return Ok(None) };
    Ok(match record.state {
        SessionState::Ended { reason: EndReason::Claimed, .. } => None,
        // Before it was ready: the next one would fare no better.
        SessionState::Ended { reason: EndReason::Unused, .. } => Some("The last one made room for others.".to_owned()),
        SessionState::Ended { reason: EndReason::NoPlace, .. } => {
            let said = record.explanation.unwrap_or_default();
            let said: Vec<String> = said.iter().map(|site| format!("{}: {}", site.site, site.detail)).collect();
            Some(if said.is_empty() { "There is no place for it.".to_owned() } else { format!("{}.", said.join("; ")) })
        }
        SessionState::Ended { reason, .. } => Some(format!("The last one ended with `{}`.", reason.word())),
        _ => None,
    })
}

/// Asks for another instance.
async fn start(plane: &Plane, pool: &PoolRecord, package: &Package) -> Result<Option<SessionId>, StoreError> {
    // Nobody has the token: it is made, because each row has another one.
    let Ok((_, hash)) = new_session_token() else { return Ok(None) };
    let (at, lifetime) = (now(), Duration::from_secs(u64::from(pool.lifetime_s)));
    let record = SessionRecord {
        id: SessionId::from_uuid(Uuid::now_v7()),
        instance: InstanceId::from_uuid(Uuid::now_v7()),
        epoch: 1,
        app: pool.app.clone(),
        spec: pool.spec,
        resizable: true,
        address: String::new(),
        player_id: None,
        node: None,
        release: package.release(),
        state: SessionState::Requested,
        observed: false,
        first_frame: false,
        unsaved: None,
        revision: 1,
        created_at: at,
        changed_at: at,
        ends_at: at.plus(lifetime),
        token_hash: hash.bytes(),
        token_expires_at: at,
        tenant: plane.owner_of(package).await?,
        explanation: None,
        probes: Vec::new(),
        asked_starts: 0,
        demand: Demand::default(),
        pool: Some(pool.id),
    };
    match plane.store.request(&record, None, |_| Ok::<(), ()>(())).await? {
        Claimed::Yes => {
            info!(pool = %pool.id, session = %record.id, instance = %record.instance, "warm instance asked for");
            plane.coordinator.stir();
            Ok(Some(record.id))
        }
        Claimed::Refused(()) | Claimed::Save(_) | Claimed::PlayerGone => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::test_record;
    use super::*;

    #[test]
    fn the_oldest_good_ones_stay() {
        let row = |number: u128, state| {
            let id = SessionId::from_uuid(Uuid::from_u128(number));
            Arc::new(SessionRecord { id, release: Some(2), ..test_record(state) })
        };
        let ready = SessionState::Ready { connect_until: now() };
        let stopping = SessionState::Stopping { reason: EndReason::Unused };
        let rows = [row(1, stopping), row(2, ready), row(3, SessionState::Reserved), row(4, ready)];
        let ids = |numbers: &[u128]| numbers.iter().map(|n| SessionId::from_uuid(Uuid::from_u128(*n))).collect();
        assert_eq!(plan(&rows, 5, |_| true), Plan { give_up: Vec::new(), missing: 2 });
        assert_eq!(plan(&rows, 2, |_| true), Plan { give_up: ids(&[4]), missing: 0 });
        assert_eq!(plan(&rows, 2, |_| false), Plan { give_up: ids(&[2, 3, 4]), missing: 2 });
        assert_eq!(plan(&rows, 2, |row| row.id != rows[1].id), Plan { give_up: ids(&[2]), missing: 0 });
    }
}
