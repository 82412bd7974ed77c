//! Pools of warm instances, for the operator.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::content::STABLE;
use api::fleet::is_place_name;
use api::id::PoolId;
use api::node::Warmth;
use api::pool::{CreatePool, MAX_LIFETIME_S, MAX_POOL_SIZE, MIN_LIFETIME_S, Pool, PoolList, ResizePool};
use api::problem::{Problem, ProblemKind};
use api::session::SessionState;
use serde_json::json;
use tracing::info;
use uuid::Uuid;

use super::access::{Caller, operator};
use super::catalogue::Package;
use super::releases::OPERATOR_TENANT;
use super::{Plane, broken, now};
use crate::reconcile::desired::warmth;
use crate::store::{Owner, PoolAdded, PoolRecord, StoreError};

/// Why pools are not full.
#[derive(Debug, Default)]
pub(crate) struct Hindrances(Mutex<BTreeMap<PoolId, String>>);

impl Hindrances {
    pub(crate) fn set(&self, id: PoolId, why: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => all.insert(id, why),
            None => all.remove(&id),
        };
    }

    fn get(&self, id: PoolId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Plane {
    /// Whose sessions of a package are.
    pub(crate) async fn owner_of(&self, package: &Package) -> Result<String, StoreError> {
        Ok(match self.store.owner(&package.manifest.name).await? {
            Owner::Tenant(tenant) if package.release().is_some() => tenant,
            Owner::Tenant(_) | Owner::Nobody => OPERATOR_TENANT.to_owned(),
        })
    }

    /// All pools.
    pub(crate) async fn list_pools(&self, caller: &Caller) -> Result<PoolList, Problem> {
        operator(caller)?;
        let pools = self.store.pools().await.map_err(broken)?;
        let there = self.store.live.of_pools();
        let view = |pool: PoolRecord| {
            let rows = there.get(&pool.id).map_or(&[][..], Vec::as_slice);
            let ready = rows.iter().filter(|row| matches!(row.state, SessionState::Ready { .. })).count();
            let gone = rows.iter().filter(|row| matches!(row.state, SessionState::Stopping { .. })).count();
            self.pool_view(pool, ready, rows.len() - ready - gone)
        };
        Ok(PoolList { pools: pools.into_iter().map(view).collect() })
    }

    fn pool_view(&self, pool: PoolRecord, ready: usize, starting: usize) -> Pool {
        let package = self.catalogue.on_channel(pool.app.as_str(), &pool.channel);
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let is_full = ready >= pool.size as usize;
        Pool {
            id: pool.id,
            app: pool.app,
            channel: pool.channel,
            site: pool.site,
            spec: pool.spec,
            size: pool.size,
            lifetime_s: pool.lifetime_s,
            warmth: package.map_or(Warmth::Prepared, |package| warmth(&package.manifest)),
            ready: small(ready),
            starting: small(starting),
            hindered: self.hindrances.get(pool.id).filter(|_| !is_full),
            created_at: pool.created_at,
        }
    }

    /// Adds a pool, which is filled from now on.
    pub(crate) async fn create_pool(&self, caller: &Caller, request: CreatePool) -> Result<Pool, Problem> {
        operator(caller)?;
        check_size(request.size)?;
        if !(MIN_LIFETIME_S..=MAX_LIFETIME_S).contains(&request.lifetime_s) {
            let detail = format!("`lifetime_s` is {MIN_LIFETIME_S} to {MAX_LIFETIME_S} seconds.");
            return Err(ProblemKind::InvalidRequest.because(detail));
        }
        if !is_place_name(&request.site) {
            return Err(ProblemKind::InvalidRequest.because("`site` is not 1 to 40 of `a-z`, `0-9` and `-`."));
        }
        let channel = request.channel.unwrap_or_else(|| STABLE.to_owned());
        let package = self.catalogue.on_channel(request.app.as_str(), &channel)?;
        let range = package.manifest.spec;
        let spec = request.spec.unwrap_or(range.default);
        range.check(spec).map_err(|error| ProblemKind::SpecOutOfRange.because(format!("The spec's {error}.")))?;
        let record = PoolRecord {
            id: PoolId::from_uuid(Uuid::now_v7()),
            app: request.app,
            channel,
            site: request.site,
            spec,
            size: request.size,
            lifetime_s: request.lifetime_s,
            created_at: now(),
        };
        match self.store.add_pool(&record).await.map_err(broken)? {
            PoolAdded::Yes => {}
            PoolAdded::Twice(id) => {
                let detail = format!("The pool {id} is of the same app, channel, site and picture: change its size.");
                return Err(ProblemKind::NameTaken.because(detail));
            }
            PoolAdded::TooMany { most } => {
                return Err(ProblemKind::InvalidRequest.because(format!("There are {most} pools, which is the limit.")));
            }
        }
        let made = self.pool_view(record.clone(), 0, 0);
        self.record(caller, None, "pool.create", record.id, None, Some(json!(made))).await;
        info!(pool = %record.id, app = %record.app, site = record.site, size = record.size, "pool made");
        self.coordinator.stir_all();
        Ok(made)
    }

    /// Changes how many instances a pool keeps ready.
    pub(crate) async fn resize_pool(&self, caller: &Caller, id: &str, request: ResizePool) -> Result<Pool, Problem> {
        operator(caller)?;
        check_size(request.size)?;
        let id: PoolId = id.parse().map_err(|_no_id| unknown())?;
        if !self.store.resize_pool(id, request.size).await.map_err(broken)? {
            return Err(unknown());
        }
        self.record(caller, None, "pool.resize", id, None, Some(json!({"size": request.size}))).await;
        info!(pool = %id, size = request.size, "pool resized");
        self.coordinator.stir_all();
        let pools = self.list_pools(caller).await?.pools;
        pools.into_iter().find(|pool| pool.id == id).ok_or_else(unknown)
    }

    /// Removes a pool, and ends the instances that nobody has.
    pub(crate) async fn remove_pool(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        operator(caller)?;
        let id: PoolId = id.parse().map_err(|_no_id| unknown())?;
        if !self.store.remove_pool(id).await.map_err(broken)? {
            return Err(unknown());
        }
        self.record(caller, None, "pool.remove", id, None, None).await;
        info!(pool = %id, "pool removed");
        self.hindrances.set(id, None);
        self.coordinator.stir_all();
        Ok(())
    }
}

fn unknown() -> Problem {
    ProblemKind::PoolUnknown.because("No pool has this id.")
}

fn check_size(size: u32) -> Result<(), Problem> {
    if (1..=MAX_POOL_SIZE).contains(&size) {
        return Ok(());
    }
    Err(ProblemKind::InvalidRequest.because(format!("`size` is 1 to {MAX_POOL_SIZE}.")))
}
