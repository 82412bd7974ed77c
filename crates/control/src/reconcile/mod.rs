//! Makes what is equal to what shall be: desired instances go to the node, observed ones become states of sessions.
//!
//! Level-triggered: a pass looks at what may have changed, and each second at everything that lives, a slice at a time, so that a lost signal
//! costs a second and nothing else. [`session`] and [`desired`] are pure; [`pass`] is a look, and this file the loop around it.

pub(crate) mod command;
pub(crate) mod desired;
mod learned;
mod pass;
mod pool;
mod proofs;
pub(crate) mod session;

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::SessionId;
use api::session::{EndReason, SessionState};
use tokio::time::{MissedTickBehavior, sleep};
use tracing::{error, info, warn};

use self::pass::Reconciler;
use crate::app::{Plane, now};
use crate::keeper;
use crate::stop::Stop;
use crate::store::{Changed, SessionRecord, Step, Stepped, StoreError};

/// How often a slice of what lives is looked at without a signal. All slices together take a second: deadlines are found so late at most.
const PERIOD: Duration = Duration::from_millis(100);

/// Shortest time from one look to the next. What comes meanwhile is written in one transaction; longer lets players wait.
const BREATH: Duration = Duration::from_millis(5);

/// How often the copy of what lives is compared with the database, besides when it is in doubt.
const RELOAD_PERIOD: Duration = Duration::from_secs(60);

/// How often ended sessions, and players who do not come back, are forgotten.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);

/// How long an upload may rest before it is given up: a push that broke on a Friday goes on at the Monday after.
const UPLOAD_REST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What so many commands brought is kept, of the newest that brought something: a gigabyte or less, when most of it are pictures.
const KEPT_OUTPUTS: u64 = 1000;

/// Runs until `stop` is raised.
pub(crate) async fn run(plane: Arc<Plane>, mut stop: Stop) {
    let mut nodes = plane.coordinator.fleet.watch();
    let mut reconciler = Reconciler::new(&plane);
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forgotten_at: Option<Instant> = None;
    let (mut kept_at, mut loaded_at) = (Instant::now(), Instant::now());
    // They end with this task.
    let (mut keeping, mut loading) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    let mut proving = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.raised() => return,
            seen = nodes.changed() => if seen.is_err() { return },
            () = plane.coordinator.stirred() => {}
            _ = period.tick() => reconciler.look_at_slice(),
        }
        nodes.mark_unchanged();
        let since = Instant::now();
        while loading.try_join_next().is_some() {
            // Whatever it found is looked at.
            reconciler.look_at_all();
        }
        if loading.is_empty() && (loaded_at.elapsed() >= RELOAD_PERIOD || plane.store.live.take_doubt()) {
            loaded_at = since;
            loading.spawn(load(Arc::clone(&plane)));
        }
        let passed = reconciler.pass(&plane).await;
        plane.observer.passed(since.elapsed(), passed.is_ok(), now());
        if let Err(error) = passed {
            reconciler.look_at_all();
            error!(error = &error as &dyn std::error::Error, "sessions could not be brought up to date");
        }
        while proving.try_join_next().is_some() {}
        if proving.is_empty()
            && let Some(due) = reconciler.take_proofs()
        {
            proving.spawn(proofs::write(Arc::clone(&plane), due));
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
        sleep(BREATH.saturating_sub(since.elapsed())).await;
    }
}

/// Compares what is known to live with the database.
async fn load(plane: Arc<Plane>) {
    if let Err(error) = plane.store.load_live().await {
        plane.store.live.doubt();
        error!(error = &error as &dyn std::error::Error, "what lives could not be read");
    }
}

/// Tells everybody who has to know that a session changed: its links, the node, the log.
pub(crate) fn announce(plane: &Plane, record: &SessionRecord) {
    plane.coordinator.publish(record.view());
    let site = record.node.map_or_else(String::new, |node| plane.coordinator.fleet.site(node));
    plane.observer.changed(record, &site, now());
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

/// Takes these steps, and tells everybody of those that changed something.
async fn write(plane: &Plane, steps: Vec<Step<'_>>) -> Result<(), StoreError> {
    for stepped in plane.store.apply(steps).await? {
        if let Stepped::Yes(record) = stepped {
            announce(plane, &record);
        }
    }
    Ok(())
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

/// Has a session's game stopped and started again, unless its instance is another one by now, or is being stopped.
pub(crate) async fn request_restart(plane: &Plane, id: SessionId, epoch: u32) -> Result<(), StoreError> {
    if let Changed::Yes(record) = plane.store.change(id, |row| session::restarted(row, epoch, now())).await? {
        announce(plane, &record);
    }
    Ok(())
}

/// After a start: what ran on a node in the same process runs no more; all others wait, or play on elsewhere.
pub(crate) async fn take_over(plane: &Plane) -> Result<(), StoreError> {
    plane.store.load_live().await?;
    plane.coordinator.demands.load(plane.store.demands().await?);
    // All of it was found, and each is taken over below: nothing of it is news.
    plane.store.live.take_found();
    for record in plane.store.live.all() {
        plane.observer.adopt(&record, now());
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

/// Gives up uploads that nobody went on with, removes what nothing needs, and writes anew what is little needed.
async fn keep(plane: Arc<Plane>) {
    match plane.store.forget_uploads_before(now().minus(UPLOAD_REST)).await {
        Ok(0) => {}
        Ok(uploads) => info!(uploads, "uploads given up"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "uploads could not be given up"),
    }
    let (dir, store) = (&plane.settings.data_dir, &plane.uploads.store);
    match keeper::collect_with(dir, &plane.store, store, false, &|_| {}).await {
        Ok(collected) => plane.observer.metrics.collected(&collected),
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
    match plane.store.forget_commands(now.minus(limits.commands), KEPT_OUTPUTS).await {
        Ok(0) => {}
        Ok(commands) => info!(commands, "commands forgotten"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "commands could not be forgotten"),
    }
    // After the sessions: a player who has plays is not forgotten.
    match plane.store.forget_players(plays, history).await {
        Ok(0) => {}
        Ok(players) => info!(players, "players forgotten"),
        Err(error) => error!(error = &error as &dyn std::error::Error, "players could not be forgotten"),
    }
}
