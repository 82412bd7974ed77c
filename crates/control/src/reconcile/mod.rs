//! Makes what is equal to what shall be: desired instances go to the node, observed ones become states of sessions.
//!
//! Level-triggered: each pass looks at everything that lives and takes no input, so that a lost signal costs one period and
//! nothing else. [`session`] and [`desired`] are pure; this file is the loop around them.

pub(crate) mod desired;
pub(crate) mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::fleet::{Duty, Health};
use api::id::{NodeId, SessionId};
use api::node::{InstanceState, ObservedInstance};
use api::rest::{SessionStatistics, SiteVerdict};
use api::session::{EndReason, Party, SessionState};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use self::session::{Evidence, Rules};
use crate::app::catalogue::Source;
use crate::app::releases::LOCAL_SITE;
use crate::app::{Plane, now};
use crate::coordinator::fleet::{NodeView, Nodes};
use crate::dispatch::{Act, Dispatcher, Played, Shown};
use crate::keeper;
use crate::stop::Stop;
use crate::store::{Changed, NodeRecord, Placed, SessionRecord, StoreError};

/// How often everything is looked at without a signal. Deadlines are found this late at most; a pass over a hundred
/// sessions takes a millisecond.
const PERIOD: Duration = Duration::from_secs(1);

/// How often ended sessions, and players who do not come back, are forgotten.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);

/// How long a save may take after the game's end: longer than the node tries, so that the node's word counts.
const ARCHIVE_LIMIT: Duration = Duration::from_secs(90);

/// How long an upload may rest before it is given up: a push that broke on a Friday goes on at the Monday after.
const UPLOAD_REST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest detail of a node that is logged, in characters.
const MAX_DETAIL: usize = 500;

/// Runs until `stop` is raised.
pub(crate) async fn run(plane: Arc<Plane>, mut stop: Stop) {
    let mut nodes = plane.coordinator.fleet.watch();
    let mut dispatcher = Dispatcher::new(now(), plane.settings.limits.offer);
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forgotten_at: Option<Instant> = None;
    let mut kept_at = Instant::now();
    // Ends with this task.
    let mut keeping = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.raised() => return,
            seen = nodes.changed() => if seen.is_err() { return },
            () = plane.coordinator.stirred() => {}
            _ = period.tick() => {}
        }
        nodes.mark_unchanged();
        if let Err(error) = pass(&plane, &mut dispatcher).await {
            error!(error = &error as &dyn std::error::Error, "sessions could not be brought up to date");
        }
        if forgotten_at.is_none_or(|at| at.elapsed() >= FORGET_PERIOD) {
            forgotten_at = Some(Instant::now());
            forget(&plane).await;
        }
        while keeping.try_join_next().is_some() {}
        if keeping.is_empty() && kept_at.elapsed() >= plane.settings.keeper_period {
            kept_at = Instant::now();
            // Hours, for a large store: beside everything else.
            keeping.spawn(keep(Arc::clone(&plane)));
        }
    }
}

/// Looks at every node and every session that lives.
async fn pass(plane: &Plane, dispatcher: &mut Dispatcher) -> Result<(), StoreError> {
    let nodes = plane.coordinator.fleet.nodes();
    note_capacities(plane, &nodes).await?;
    let may_recover = nodes.values().any(NodeView::is_of_use);
    let mut live = plane.store.live_sessions().await?;
    for record in &mut live {
        look_at(plane, &nodes, may_recover, record).await?;
    }
    live.retain(|record| !record.state.is_ended());
    dispatch(plane, dispatcher, &nodes, &live).await
}

/// Brings a session up to what is seen of it.
async fn look_at(
    plane: &Plane,
    nodes: &Nodes,
    may_recover: bool,
    record: &mut SessionRecord,
) -> Result<(), StoreError> {
    let node = record.node.and_then(|id| nodes.get(&id));
    let instance = node.and_then(|node| node.instance(record.instance, record.epoch));
    if let Some(stream) = instance.and_then(|instance| instance.statistics) {
        let figures = SessionStatistics { measured_at: Some(now()), stream };
        plane.coordinator.publish_statistics(record.id, figures);
    }
    if let Some(saved) = instance.and_then(|instance| instance.saved.as_ref())
        && plane.coordinator.is_new_save(record.id, record.epoch, saved.sequence)
        && let Err(error) = plane.commit_save(record, saved).await
    {
        // The others' sessions go on; this is tried again with the next pass.
        error!(session = %record.id, error = &error as &dyn std::error::Error, "a save could not be committed");
    }
    let health = node.map_or(Health::Lost, |node| node.health);
    let evidence = Evidence {
        node_gone: health == Health::Lost,
        node_seen: health == Health::Alive,
        node_drained: node.is_some_and(|node| node.record.duty == Duty::Draining),
        may_recover,
        instance,
        link_absent: plane.coordinator.link_absent(record.id),
        now: now(),
    };
    let rules = rules(plane, record);
    if session::next(record, &evidence, &rules).is_none() {
        return Ok(());
    }
    // What was decided on a reading is decided again on the row itself: it may have changed meanwhile.
    match plane.store.change(record.id, |row| session::next(row, &evidence, &rules)).await? {
        Changed::Yes(new) => {
            log_detail(&new, instance);
            announce(plane, &new);
            if new.node != record.node
                && let Some(node) = record.node
            {
                plane.coordinator.fleet.want(node);
            }
            *record = new;
        }
        Changed::No(new) => *record = new,
        Changed::Missing => {}
    }
    Ok(())
}

/// What nodes can hold is the database's too: it decides whether a claim is good.
async fn note_capacities(plane: &Plane, nodes: &Nodes) -> Result<(), StoreError> {
    for node in nodes.values() {
        let capacity = node.capacity();
        if capacity != node.record.capacity {
            plane.store.set_node_capacity(node.record.id, capacity).await?;
            plane.coordinator.fleet.set(NodeRecord { capacity, ..node.record.clone() });
        }
    }
    Ok(())
}

/// Gives places to those who want them.
async fn dispatch(
    plane: &Plane,
    dispatcher: &mut Dispatcher,
    nodes: &Nodes,
    live: &[SessionRecord],
) -> Result<(), StoreError> {
    let grants = plane.store.grants().await?;
    let only = plane.settings.embedded.map(|_| LOCAL_SITE.to_owned());
    let said = dispatcher.look(&Shown {
        now: now(),
        live,
        nodes,
        grants: &grants,
        played: &|record| match plane
            .catalogue
            .played(&record.app, record.release)
            .map(|package| package.source.clone())
        {
            Some(Source::Release { content, .. }) => Played { content: Some(content), site: None },
            Some(Source::Directory(_)) | None => Played { content: None, site: only.clone() },
        },
        patience: plane.settings.limits.patience,
    });
    for (session, place) in said.waits {
        plane.coordinator.publish_queue(session, place);
    }
    for act in said.acts {
        carry_out(plane, act).await?;
    }
    Ok(())
}

async fn carry_out(plane: &Plane, act: Act) -> Result<(), StoreError> {
    let length = plane.settings.limits.session_length;
    let changed = match act {
        Act::Queue { session, cause } => plane.store.change(session, |row| session::queued(row, cause, now())).await?,
        Act::End { session, reason, why } => {
            let ended = |row: &SessionRecord| session::ended(row, reason, now()).map(|new| explained(new, why));
            plane.store.change(session, ended).await?
        }
        Act::Offer { session, node, until, why } => {
            let offered = |row: &SessionRecord| session::offered(row, node, until, now());
            return place(plane, session, node, |row| offered(row).map(|new| explained(new, why))).await;
        }
        Act::Reserve { session, node, why } => {
            let reserved = |row: &SessionRecord| session::reserved(row, node, length, now());
            return place(plane, session, node, |row| reserved(row).map(|new| explained(new, why))).await;
        }
    };
    if let Changed::Yes(record) = changed {
        announce(plane, &record);
    }
    Ok(())
}

fn explained(record: SessionRecord, why: Vec<SiteVerdict>) -> SessionRecord {
    SessionRecord { explanation: Some(why), ..record }
}

async fn place(
    plane: &Plane,
    session: SessionId,
    node: NodeId,
    next: impl FnOnce(&SessionRecord) -> Option<SessionRecord>,
) -> Result<(), StoreError> {
    match plane.store.place(session, node, next).await? {
        Placed::Yes(record) => announce(plane, &record),
        Placed::No => {}
        // It is decided again with the next pass, when the node's word is known.
        Placed::Full => warn!(%session, %node, "a place that was decided on is not there"),
    }
    Ok(())
}

/// Tells everybody who has to know that a session changed: its links, the node, the log.
pub(crate) fn announce(plane: &Plane, record: &SessionRecord) {
    plane.coordinator.publish(record.view());
    // Only these change what the node shall do.
    let is_news =
        matches!(record.state, SessionState::Reserved | SessionState::Stopping { .. } | SessionState::Ended { .. });
    if let Some(node) = record.node.filter(|_| is_news) {
        plane.coordinator.fleet.want(node);
    }
    if record.state.is_ended() {
        // Somebody may have its place.
        plane.coordinator.stir();
    }
    let (session, state) = (record.id, record.state.name());
    match record.state {
        SessionState::Stopping { reason } => info!(%session, state, reason = reason.word(), "session changed"),
        SessionState::Ended { reason, party, .. } => {
            info!(%session, state, reason = reason.word(), ?party, "session changed");
        }
        SessionState::Preparing { stage } => info!(%session, state, ?stage, "session changed"),
        SessionState::Queued { cause } => info!(%session, state, ?cause, "session changed"),
        SessionState::Reserved | SessionState::Offered { .. } => {
            let node = record.node.map(|node| node.to_string());
            info!(%session, state, node, epoch = record.epoch, "session changed");
        }
        SessionState::Recovering { .. } => warn!(%session, state, epoch = record.epoch, "session changed"),
        SessionState::Requested
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. } => {
            info!(%session, state, first_frame = record.first_frame, "session changed");
        }
    }
}

/// Ends a session by will: of the player, of the operator, of the service. `None` when there is no such session.
pub(crate) async fn request_stop(
    plane: &Plane,
    id: SessionId,
    reason: EndReason,
) -> Result<Option<SessionRecord>, StoreError> {
    match plane.store.change(id, |row| session::stopped(row, reason, now())).await? {
        Changed::Yes(record) => {
            announce(plane, &record);
            Ok(Some(record))
        }
        Changed::No(record) => Ok(Some(record)),
        Changed::Missing => Ok(None),
    }
}

/// After a start: what ran on a node in the same process runs no more; all others wait, or play on elsewhere.
pub(crate) async fn take_over(plane: &Plane) -> Result<(), StoreError> {
    for record in plane.store.live_sessions().await? {
        let was_here = record.node.is_some() && record.node == plane.settings.embedded;
        let ended = |row: &SessionRecord| session::ended(row, EndReason::ServiceRestarted, now());
        if !was_here {
            plane.coordinator.open_again(record.id);
        } else if let Changed::Yes(record) = plane.store.change(record.id, ended).await? {
            announce(plane, &record);
        }
    }
    Ok(())
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

/// Gives up uploads that nobody went on with, removes what nothing needs, and writes anew what is little needed.
async fn keep(plane: Arc<Plane>) {
    match plane.store.forget_uploads_before(now().minus(UPLOAD_REST)).await {
        Ok(0) => {}
        Ok(uploads) => info!(uploads, "uploads given up"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "uploads could not be given up"),
    }
    let (dir, store) = (&plane.settings.data_dir, &plane.uploads.store);
    match keeper::collect_with(dir, &plane.store, store, false, &|_| {}).await {
        Ok(_) => {}
        Err(keeper::KeeperError::Collect(content::CollectError::NothingLive)) => {}
        Err(error) => warn!(error = &error as &dyn std::error::Error, "the content store could not be collected"),
    }
    if let Err(error) = keeper::compact_with(dir, &plane.store, store, content::CompactOptions::default()).await {
        warn!(error = &error as &dyn std::error::Error, "the content store could not be compacted");
    }
    // Sessions that start now have to be told the new roots; also those of a compaction that ended early.
    match plane.refresh_catalogue().await {
        Ok(()) => plane.coordinator.fleet.want_all(),
        Err(problem) => error!(detail = problem.detail, "the catalogue does not know of a compaction"),
    }
}

async fn forget(plane: &Plane) {
    // Whoever pushes just now takes other memory.
    content::buffers::release();
    let (now, limits) = (now(), &plane.settings.limits);
    let (history, plays) = (now.minus(limits.history), now.minus(limits.plays));
    match plane.store.forget_ended_before(history, plays).await {
        Ok(0) => {}
        Ok(sessions) => info!(sessions, "ended sessions forgotten"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "ended sessions could not be forgotten"),
    }
    // After the sessions: a player who has plays is not forgotten.
    match plane.store.forget_players(plays, history).await {
        Ok(0) => {}
        Ok(players) => info!(players, "players forgotten"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "players could not be forgotten"),
    }
}
