//! One look at nodes and sessions: what was seen of sessions becomes their rows, and those who want places get them.
//!
//! All that a look finds is written in as few transactions as can be: the commits are what costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::fleet::{Duty, Health, STANDARD_CLASS, TenantGrant};
use api::id::{InstanceId, NodeId, SessionId};
use api::node::{InstanceState, ObservedInstance};
use api::rest::{SessionStatistics, SiteVerdict};
use api::session::{EndReason, Party, SessionState};
use api::tenant::TenantState;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::pool::Keeper;
use super::proofs::{self, Proofs};
use super::session::{self, Evidence, Rules};
use super::{announce, learned, write};
use crate::app::catalogue::Source;
use crate::app::releases::LOCAL_SITE;
use crate::app::{Plane, now};
use crate::coordinator::fleet::{NodeView, Nodes};
use crate::demand::Demand;
use crate::dispatch::{Act, Dispatcher, Played, Shown, Touched};
use crate::metrics::{Decision, SaveStep};
use crate::store::{SessionRecord, Step, Stepped, StoreError, Takes};

/// How long a save may take after the game's end: longer than the node tries, so that the node's word counts.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(90);

/// Longest detail of a node that is logged, in characters.
const MAX_DETAIL: usize = 500;

/// How often what there is is counted, for whoever watches. He looks every few seconds.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// Into so many parts everything is cut that is looked at without a reason.
const SLICES: usize = 10;

/// How often those who wait are told how their wait stands, besides at its beginning. Shorter costs a look at all of them.
const WAITS_PERIOD: Duration = Duration::from_millis(500);

/// What is known from one look to the next.
pub(super) struct Reconciler {
    dispatcher: Dispatcher,
    nodes: Nodes,
    grants: BTreeMap<String, TenantGrant>,
    /// Tenants that are suspended or closed.
    inactive: BTreeMap<String, TenantState>,
    pools: Keeper,
    proofs: Proofs,
    /// Everything is looked at next.
    is_whole: bool,
    /// Nodes whose sessions are to be looked at, because they changed during the last look.
    unseen: BTreeSet<NodeId>,
    /// The database did not take everything: everything is looked at once more.
    is_behind: bool,
    /// A slice of everything is.
    is_slice: bool,
    /// The last session of the slice before.
    cursor: Option<SessionId>,
    told_waits_at: Instant,
    /// When what there is was counted last.
    counted_at: Instant,
    /// Places that were decided on and are not there, so that each is logged once.
    refused: BTreeSet<SessionId>,
}

/// Who is to be looked at.
struct Due {
    /// Rows that were written since the last look.
    written: BTreeSet<SessionId>,
    nodes: BTreeSet<NodeId>,
}

impl Reconciler {
    pub(super) fn new(plane: &Plane) -> Self {
        Self {
            dispatcher: Dispatcher::new(now(), plane.settings.limits.offer),
            nodes: Nodes::new(),
            grants: BTreeMap::new(),
            inactive: BTreeMap::new(),
            pools: Keeper::default(),
            proofs: Proofs::default(),
            is_whole: true,
            unseen: BTreeSet::new(),
            is_behind: false,
            is_slice: false,
            cursor: None,
            told_waits_at: Instant::now(),
            counted_at: Instant::now(),
            refused: BTreeSet::new(),
        }
    }

    /// Lets the next pass leave nothing out.
    pub(super) fn look_at_all(&mut self) {
        self.is_whole = true;
    }

    /// Lets the next pass look at the next slice, too.
    pub(super) fn look_at_slice(&mut self) {
        self.is_slice = true;
    }

    /// What was seen to be played, and is to be written down.
    pub(super) fn take_proofs(&mut self) -> Option<proofs::Due> {
        self.proofs.take()
    }

    /// Looks at what may have changed.
    pub(super) async fn pass(&mut self, plane: &Plane) -> Result<(), StoreError> {
        self.is_whole |= plane.coordinator.take_stirred_all();
        let changed = plane.coordinator.fleet.take_changed();
        for record in plane.store.live.take_found() {
            // One whose request was written while its client went has no room for watchers yet.
            if !record.state.is_ended() {
                plane.coordinator.open_again(record.id);
            }
            announce(plane, &record);
        }
        let mut due = Due { written: plane.store.live.take_changed(), nodes: changed.keys().copied().collect() };
        due.nodes.append(&mut self.unseen);
        self.nodes.extend(changed);
        if self.is_whole {
            self.nodes = plane.coordinator.fleet.nodes();
            self.grants = plane.store.grants().await?;
            self.inactive = plane.store.inactive_tenants().await?;
            self.pools.set(plane.store.pools().await?, self.inactive.keys().cloned().collect());
            note_capacities(plane, self.nodes.values()).await?;
        } else {
            note_capacities(plane, due.nodes.iter().filter_map(|id| self.nodes.get(id))).await?;
        }
        self.look(plane, &due).await?;
        if let Err(error) = self.pools.look(plane, &self.nodes).await {
            // Who plays is placed all the same.
            error!(error = &error as &dyn std::error::Error, "pools could not be looked after");
        }
        due.written.append(&mut plane.store.live.take_changed());
        if self.is_whole {
            due.written.extend(plane.store.live.all().iter().map(|record| record.id));
        }
        self.wind_up(plane, &due).await?;
        // Who asked meanwhile is to be placed by what nodes say now; their sessions are looked at next. In this order, and who asks from here on
        // with the next pass: he may have seen what a node says that is not read here.
        let newer = plane.coordinator.fleet.take_changed();
        note_capacities(plane, newer.values()).await?;
        due.nodes.extend(newer.keys());
        self.unseen = newer.keys().copied().collect();
        if !self.unseen.is_empty() {
            plane.coordinator.stir();
        }
        self.nodes.extend(newer);
        self.dispatch(plane, &due).await?;
        self.is_whole = std::mem::take(&mut self.is_behind);
        if self.counted_at.elapsed() >= COUNT_PERIOD {
            self.counted_at = Instant::now();
            let live = plane.store.live.all();
            plane.observer.looked(&self.nodes, live.iter().map(Arc::as_ref));
            learned::keep(plane).await;
            self.proofs.look(plane, &self.nodes);
        }
        Ok(())
    }

    fn records(&mut self, plane: &Plane, due: &Due) -> Vec<Arc<SessionRecord>> {
        let live = &plane.store.live;
        let is_slice = std::mem::take(&mut self.is_slice);
        if self.is_whole {
            return live.all();
        }
        let slice = if is_slice { live.slice(self.cursor, SLICES) } else { Vec::new() };
        if is_slice {
            self.cursor = slice.last().map(|record| record.id);
        }
        let mut records: BTreeMap<SessionId, Arc<SessionRecord>> = BTreeMap::new();
        let of_nodes = due.nodes.iter().flat_map(|node| live.of_node(*node));
        let written = due.written.iter().filter_map(|id| live.get(*id));
        records.extend(of_nodes.chain(written).chain(slice).map(|record| (record.id, record)));
        records.into_values().collect()
    }

    /// Brings sessions up to what is seen of them.
    async fn look(&mut self, plane: &Plane, due: &Due) -> Result<(), StoreError> {
        let records = self.records(plane, due);
        let may_recover = self.nodes.values().any(NodeView::is_of_use);
        let (mut steps, mut instances) = (Vec::new(), Vec::new());
        for record in records {
            let node = record.node.and_then(|id| self.nodes.get(&id));
            let instance = node.and_then(|node| node.instance(record.instance, record.epoch));
            take_news(plane, &record, instance).await;
            let evidence = evidence(plane, &record, node, instance, may_recover);
            let rules = rules(plane, &record);
            let takes = node.and_then(|node| learned::measured(plane, &record, instance, node.capacity()));
            let becomes = session::next(&record, &evidence, &rules);
            if becomes.is_some() || takes.is_some() {
                // What was decided on a copy is decided again on the row itself: it may have changed meanwhile.
                let next = move |row: &SessionRecord| learned::with(row, session::next(row, &evidence, &rules), takes);
                steps.push(Step::new(record.id, next));
                instances.push((record, instance));
            }
        }
        let mut has_failed = false;
        for (stepped, (old, instance)) in plane.store.apply(steps).await?.into_iter().zip(instances) {
            has_failed |= stepped == Stepped::Failed;
            if let Stepped::Yes(new) = stepped {
                if learned::is_all(&old, &new) {
                    continue;
                }
                log_detail(&new, instance);
                announce(plane, &new);
                if new.node != old.node
                    && let Some(node) = old.node
                {
                    plane.coordinator.fleet.want(node);
                }
            }
        }
        self.is_behind |= has_failed;
        Ok(())
    }

    /// Ends what a tenant that is closed has, and what of a suspended one has not begun; the player's save is kept as ever.
    async fn wind_up(&self, plane: &Plane, due: &Due) -> Result<(), StoreError> {
        if self.inactive.is_empty() {
            return Ok(());
        }
        let ends = |row: &SessionRecord| match self.inactive.get(&row.tenant) {
            Some(TenantState::Closed) => true,
            // A session that was thrown out of its game is played still.
            Some(TenantState::Suspended) => {
                matches!(
                    row.state,
                    SessionState::Requested | SessionState::Queued { .. } | SessionState::Offered { .. }
                )
            }
            Some(TenantState::Active) | None => false,
        };
        let live = due.written.iter().filter_map(|id| plane.store.live.get(*id)).filter(|row| ends(row));
        let stop = |row: &SessionRecord| session::stopped(row, EndReason::EndedByOperator, now()).filter(|_| ends(row));
        write(plane, live.map(|row| Step::new(row.id, stop)).collect()).await
    }

    /// Gives places to those who want them.
    async fn dispatch(&mut self, plane: &Plane, due: &Due) -> Result<(), StoreError> {
        let live = &plane.store.live;
        let touched: Touched = due.written.iter().map(|id| (*id, live.get(*id))).collect();
        learned::forget_ended(plane, &touched, self.is_whole);
        let tells_waits = self.told_waits_at.elapsed() >= WAITS_PERIOD;
        if tells_waits {
            self.told_waits_at = Instant::now();
        }
        let only = plane.settings.embedded.map(|_| LOCAL_SITE.to_owned());
        let pools = &self.pools;
        let said = self.dispatcher.look(&Shown {
            now: now(),
            touched: &touched,
            is_whole: self.is_whole,
            record: &|id| live.get(id),
            nodes: &self.nodes,
            changed_nodes: &due.nodes,
            grants: &self.grants,
            played: &|record| at_pool(played(plane, record, only.as_ref()), record, pools),
            asked: &|record| learned::asked(plane, record),
            asked_version: plane.coordinator.demands.version(),
            patience: plane.settings.limits.patience,
            tells_waits,
        });
        for (session, place) in said.waits {
            plane.coordinator.publish_queue(session, place);
        }
        let mut claims = BTreeSet::new();
        for act in &said.acts {
            plane.observer.metrics.decided(decision(act));
            if let Act::Claim { session, .. } = act {
                claims.insert(*session);
            }
        }
        let steps: Vec<Step<'_>> = said.acts.into_iter().map(|act| step(plane, act)).collect();
        let asked: Vec<(SessionId, Option<NodeId>)> = steps.iter().map(|step| (step.id, step.on)).collect();
        for (stepped, (session, node)) in plane.store.apply(steps).await?.into_iter().zip(asked) {
            match stepped {
                Stepped::Yes(record) => {
                    self.refused.remove(&session);
                    announce(plane, &record);
                    if claims.contains(&session)
                        && let Some(node) = record.node
                    {
                        // The instance has to hear whose it is, whatever state that is in.
                        plane.coordinator.fleet.want(node);
                        info!(%session, instance = %record.instance, "place decided where an instance was kept warm");
                    }
                }
                Stepped::No(_) | Stepped::Missing => {}
                Stepped::Failed => self.is_behind = true,
                // It is decided again with the next pass, when the node's word is known.
                Stepped::Full if claims.contains(&session) => {
                    plane.observer.metrics.decided(Decision::Full);
                    self.dispatcher.claim_failed(now(), session);
                    self.is_behind = true;
                }
                Stepped::Full => {
                    plane.observer.metrics.decided(Decision::Full);
                    if self.refused.insert(session) {
                        warn!(%session, ?node, "a place that was decided on is not there");
                    }
                }
            }
        }
        if self.is_whole {
            self.refused.retain(|id| live.get(*id).is_some());
        }
        Ok(())
    }
}

/// What a node said of a session beside its state.
async fn take_news(plane: &Plane, record: &SessionRecord, instance: Option<&ObservedInstance>) {
    if let Some(stream) = instance.and_then(|instance| instance.statistics) {
        let figures = SessionStatistics { measured_at: Some(now()), stream };
        plane.coordinator.publish_statistics(record.id, figures);
    }
    if let Some(saved) = instance.and_then(|instance| instance.saved.as_ref())
        && plane.coordinator.is_new_save(record.id, record.epoch, saved.sequence)
        && let Err(error) = plane.commit_save(record, saved).await
    {
        plane.observer.metrics.save_failed(SaveStep::Commit);
        // The others' sessions go on; this is tried again with the next pass.
        error!(session = %record.id, error = &error as &dyn std::error::Error, "a save could not be committed");
    }
}

fn evidence<'a>(
    plane: &Plane,
    record: &SessionRecord,
    node: Option<&NodeView>,
    instance: Option<&'a ObservedInstance>,
    may_recover: bool,
) -> Evidence<'a> {
    let health = node.map_or(Health::Lost, |node| node.health);
    let is_warm = record.pool.is_some();
    Evidence {
        node_gone: health == Health::Lost,
        node_seen: health == Health::Alive,
        node_drained: node.is_some_and(|node| node.record.duty == Duty::Draining),
        // A warm instance is not moved: another one is started.
        may_recover: may_recover && !is_warm,
        instance,
        link_absent: plane.coordinator.link_absent(record.id).filter(|_| !is_warm),
        now: now(),
    }
}

/// What nodes can hold is the database's too: it decides whether a claim is good.
async fn note_capacities(plane: &Plane, nodes: impl Iterator<Item = &NodeView>) -> Result<(), StoreError> {
    for node in nodes {
        let (id, capacity) = (node.record.id, node.capacity());
        if capacity != node.record.capacity {
            plane.store.set_node_capacity(id, capacity).await?;
            plane.coordinator.fleet.update(id, |record| record.capacity = capacity);
        }
    }
    Ok(())
}

fn played(plane: &Plane, record: &SessionRecord, only: Option<&String>) -> Played {
    let package = plane.catalogue.played(&record.app, record.release);
    let class = package.as_ref().map_or(STANDARD_CLASS, |package| &package.manifest.class).to_owned();
    match package.as_ref().map(|package| &package.source) {
        Some(Source::Release { content, .. }) => Played { content: Some(content.clone()), site: None, class },
        Some(Source::Directory(_)) | None => Played { content: None, site: only.cloned(), class },
    }
}

/// What is played there: a warm instance at its pool's site alone.
fn at_pool(played: Played, record: &SessionRecord, pools: &Keeper) -> Played {
    let Some(pool) = record.pool else { return played };
    let is_there = |site: &str| played.site.as_ref().is_none_or(|only| only == site);
    // Of a pool that is gone, or where the package is not: nowhere.
    let site = pools.site(pool).filter(|site| is_there(site)).unwrap_or_default();
    Played { site: Some(site.to_owned()), ..played }
}

fn decision(act: &Act) -> Decision {
    match act {
        Act::Queue { .. } => Decision::Queue,
        Act::Offer { .. } => Decision::Offer,
        Act::Reserve { .. } => Decision::Reserve,
        Act::Claim { .. } => Decision::Claim,
        Act::GiveUp { .. } => Decision::GiveUp,
        Act::End { .. } => Decision::End,
    }
}

/// What a decision makes of a row.
fn step(plane: &Plane, act: Act) -> Step<'_> {
    let length = plane.settings.limits.session_length;
    match act {
        Act::Queue { session, cause } => {
            Step::new(session, move |row: &SessionRecord| session::queued(row, cause, now()))
        }
        Act::End { session, reason, why } => {
            let next = move |row: &SessionRecord| session::ended(row, reason, now()).map(|new| explained(new, why));
            Step::new(session, next)
        }
        Act::Offer { session, node, demand, until, why } => {
            let offered = move |row: &SessionRecord| session::offered(row, node, until, now());
            let next = move |row: &SessionRecord| offered(row).map(|new| explained(new, why).placed_with(demand));
            Step { on: Some(node), ..Step::new(session, next) }
        }
        Act::Reserve { session, node, demand, why } => reserve((session, node, demand), why, length),
        Act::Claim { session, node, warm, demand, why } => {
            let timeout = plane.settings.limits.connect_timeout;
            let spare = InstanceId::from_uuid(Uuid::now_v7());
            let join =
                move |new: &SessionRecord, warm: &SessionRecord| session::claimed(new, warm, timeout, spare, now());
            let takes = Takes { from: warm, join: Box::new(join) };
            Step { takes: Some(takes), ..reserve((session, node, demand), why, length) }
        }
        Act::GiveUp { session } => {
            Step::new(session, |row: &SessionRecord| session::stopped(row, EndReason::Unused, now()))
        }
    }
}

fn reserve<'a>(
    (session, node, demand): (SessionId, NodeId, Demand),
    why: Vec<SiteVerdict>,
    length: Duration,
) -> Step<'a> {
    let reserved = move |row: &SessionRecord| session::reserved(row, node, length, now());
    let next = move |row: &SessionRecord| reserved(row).map(|new| explained(new, why).placed_with(demand));
    Step { on: Some(node), ..Step::new(session, next) }
}

fn explained(record: SessionRecord, why: Vec<SiteVerdict>) -> SessionRecord {
    SessionRecord { explanation: Some(why), ..record }
}

fn rules(plane: &Plane, record: &SessionRecord) -> Rules {
    let limits = &plane.settings.limits;
    let package = plane.catalogue.played(&record.app, record.release);
    let game = package.as_ref().map(|package| &package.manifest.session);
    let of_game = |seconds: Option<u32>| Duration::from_secs(u64::from(seconds.unwrap_or(0)));
    Rules {
        connect_timeout: limits.connect_timeout,
        reconnect_grace: limits.reconnect_grace,
        link_grace: limits.link_grace,
        idle_timeout: of_game(game.map(|game| game.idle_timeout_s)),
        start_timeout: of_game(game.map(|game| game.start_timeout_s)),
        stop_grace: of_game(game.map(|game| game.stop_grace_s)),
        archive: if package.as_ref().is_some_and(|package| package.manifest.saves.are_kept()) {
            ARCHIVE_LIMIT
        } else {
            Duration::ZERO
        },
    }
}

fn log_detail(record: &SessionRecord, instance: Option<&ObservedInstance>) {
    let SessionState::Ended { reason, party, .. } = record.state else { return };
    let Some(InstanceState::Ended { detail: Some(detail), .. }) = instance.map(|instance| &instance.state) else {
        return;
    };
    let detail: String = detail.chars().take(MAX_DETAIL).collect();
    if matches!(party, Party::Platform) {
        warn!(session = %record.id, reason = reason.word(), detail, "session ended by a fault");
    } else {
        info!(session = %record.id, reason = reason.word(), detail, "session ended");
    }
}
