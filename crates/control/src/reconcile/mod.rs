//! Makes what is equal to what shall be: desired instances go to the node, observed ones become states of sessions.
//!
//! Level-triggered: each pass looks at everything that lives and takes no input, so that a lost signal costs one period and
//! nothing else. [`session`] and [`desired`] are pure; this file is the loop around them.

pub(crate) mod desired;
pub(crate) mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::SessionId;
use api::node::{InstanceState, ObservedInstance};
use api::rest::SessionStatistics;
use api::session::{EndReason, Party, SessionState};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use self::session::{Evidence, Rules};
use crate::app::{Plane, now};
use crate::coordinator::NodeView;
use crate::keeper;
use crate::stop::Stop;
use crate::store::{Changed, SessionRecord, StoreError};

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
    let mut node = plane.coordinator.watch_node();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forgotten_at: Option<Instant> = None;
    let mut kept_at = Instant::now();
    // Ends with this task.
    let mut keeping = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.raised() => return,
            seen = node.changed() => if seen.is_err() { return },
            _ = period.tick() => {}
        }
        node.mark_unchanged();
        if let Err(error) = pass(&plane).await {
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

/// Looks at every session that lives.
async fn pass(plane: &Plane) -> Result<(), StoreError> {
    let node = plane.coordinator.node();
    for record in plane.store.live_sessions().await? {
        let instance = instance_of(&node, &record);
        if let Some(stream) = instance.and_then(|instance| instance.statistics) {
            let figures = SessionStatistics { measured_at: Some(now()), stream };
            plane.coordinator.publish_statistics(record.id, figures);
        }
        if let Some(saved) = instance.and_then(|instance| instance.saved.as_ref())
            && plane.coordinator.is_new_save(record.id, saved.sequence)
            && let Err(error) = plane.commit_save(&record, saved).await
        {
            // The others' sessions go on; this is tried again with the next pass.
            error!(session = %record.id, error = &error as &dyn std::error::Error, "a save could not be committed");
        }
        let evidence = Evidence {
            node_gone: matches!(node, NodeView::Gone),
            node_seen: matches!(node, NodeView::Seen(_)),
            instance,
            link_absent: plane.coordinator.link_absent(record.id),
            now: now(),
        };
        let rules = rules(plane, &record);
        if session::next(&record, &evidence, &rules).is_none() {
            continue;
        }
        // What was decided on a reading is decided again on the row itself: it may have changed meanwhile.
        let changed = plane.store.change(record.id, |row| session::next(row, &evidence, &rules)).await?;
        if let Changed::Yes(new) = changed {
            log_detail(&new, instance);
            announce(plane, &new);
        }
    }
    Ok(())
}

/// Tells everybody who has to know that a session changed: its links, the node, the log.
pub(crate) fn announce(plane: &Plane, record: &SessionRecord) {
    plane.coordinator.publish(record.view());
    // Only these two change what the node shall do.
    if matches!(record.state, SessionState::Stopping { .. } | SessionState::Ended { .. }) {
        plane.coordinator.want();
    }
    let (session, state) = (record.id, record.state.name());
    match record.state {
        SessionState::Stopping { reason } => info!(%session, state, reason = reason.word(), "session changed"),
        SessionState::Ended { reason, party, .. } => {
            info!(%session, state, reason = reason.word(), ?party, "session changed");
        }
        SessionState::Preparing { stage } => info!(%session, state, ?stage, "session changed"),
        SessionState::Reserved
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

/// After a start: nothing of the sessions before it runs any more, because the node lived in the same process.
pub(crate) async fn end_all_of_last_run(plane: &Plane) -> Result<(), StoreError> {
    for record in plane.store.live_sessions().await? {
        let ended = |row: &SessionRecord| session::ended(row, EndReason::ServiceRestarted, now());
        if let Changed::Yes(record) = plane.store.change(record.id, ended).await? {
            announce(plane, &record);
        }
    }
    Ok(())
}

fn instance_of<'a>(node: &'a NodeView, record: &SessionRecord) -> Option<&'a ObservedInstance> {
    let NodeView::Seen(node) = node else { return None };
    // A report of another epoch is about something that is not this session's any more.
    node.instances.iter().find(|instance| instance.instance == record.instance && instance.epoch == record.epoch)
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
        Ok(()) => plane.coordinator.want(),
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
