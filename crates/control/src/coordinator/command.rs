//! Sees to it that every command ends: begins what the control plane does itself, takes what nodes did, closes what took too long.
//!
//! Level-triggered, as sessions are: each pass looks at all commands that have not ended. What a node brought is fetched in parts, beside the
//! passes, and written with the command's end in one transaction; only then the node forgets it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::command::CommandState;
use api::fleet::Health;
use api::id::{CommandId, NodeId};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use super::fleet::Nodes;
use crate::app::{Plane, now};
use crate::reconcile;
use crate::reconcile::command::{Evidence, Step, ended, next, running};
use crate::stop::Stop;
use crate::store::{CommandRecord, StoreError};

/// How often commands are looked at without a signal: deadlines, and ends of sessions, are found this late.
const PERIOD: Duration = Duration::from_millis(500);

/// Outputs that are fetched at once: of each up to 8 MiB are in memory.
const FETCHES: usize = 8;

/// Runs until `stop` is raised.
pub(crate) async fn run(plane: Arc<Plane>, mut stop: Stop) {
    let mut nodes = plane.coordinator.fleet.watch();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // All end with this task.
    let mut fetches = JoinSet::new();
    let mut fetched = BTreeSet::new();
    let mut is_idle = false;
    loop {
        tokio::select! {
            () = stop.raised() => return,
            () = plane.coordinator.commands_stirred() => {}
            // Of no interest to nobody's commands: nodes report all the time.
            seen = nodes.changed(), if !is_idle => if seen.is_err() { return },
            Some(done) = fetches.join_next() => if let Ok(id) = done { fetched.remove(&id); },
            _ = period.tick() => {}
        }
        nodes.mark_unchanged();
        match pass(&plane).await {
            Ok((live, due)) => {
                is_idle = live == 0;
                for record in due {
                    if fetched.len() < FETCHES && fetched.insert(record.id) {
                        fetches.spawn(fetch(Arc::clone(&plane), record));
                    }
                }
            }
            Err(error) => error!(error = &error as &dyn std::error::Error, "commands could not be brought up to date"),
        }
    }
}

/// Looks at every command that has not ended: how many there are, and whose outputs are to be fetched, with what they become then.
async fn pass(plane: &Plane) -> Result<(usize, Vec<CommandRecord>), StoreError> {
    let asked = plane.coordinator.commands_asked();
    let live = plane.store.live_commands(None).await?;
    if live.is_empty() {
        plane.coordinator.set_commands_idle(asked);
        return Ok((0, Vec::new()));
    }
    plane.coordinator.set_commands_busy();
    for node in live.iter().filter(|record| record.state == CommandState::Queued).filter_map(|record| record.node) {
        plane.coordinator.fleet.want(node);
    }
    let nodes = plane.coordinator.fleet.nodes();
    let mut due = Vec::new();
    for record in &live {
        due.extend(look_at(plane, &nodes, record).await?);
    }
    Ok((live.len(), due))
}

async fn look_at(plane: &Plane, nodes: &Nodes, record: &CommandRecord) -> Result<Option<CommandRecord>, StoreError> {
    let session = plane.store.session(record.session).await?;
    let node = record.node.and_then(|id| nodes.get(&id));
    let progress = node.and_then(|node| node.command(record.id));
    let evidence = Evidence {
        session: session.as_ref(),
        node_gone: record.node.is_some() && node.is_none_or(|node| node.health == Health::Lost),
        progress,
        now: now(),
    };
    match next(record, &evidence) {
        Step::Wait => {}
        Step::Fetch(record) => return Ok(Some(record)),
        Step::Become(new) => close(plane, new, None).await?,
        Step::Stop => {
            reconcile::request_stop(plane, record.session, api::session::EndReason::EndedByOperator).await?;
            close(plane, running(record, now()), None).await?;
        }
        Step::Restart => {
            reconcile::request_restart(plane, record.session, record.epoch).await?;
            close(plane, running(record, now()), None).await?;
        }
    }
    Ok(None)
}

/// Writes what a command became, unless it has ended meanwhile. Its node is told.
async fn close(plane: &Plane, new: CommandRecord, output: Option<Vec<u8>>) -> Result<(), StoreError> {
    let is_news = |old: &CommandRecord| (*old != new).then(|| new.clone());
    if plane.store.change_command(new.id, output, is_news).await?.is_none() {
        return Ok(());
    }
    let (command, session, state) = (new.id, new.session, new.state.name());
    match &new.state {
        CommandState::Failed { why } => info!(%command, %session, state, why, "command changed"),
        CommandState::Done { exit } => info!(%command, %session, state, exit, "command changed"),
        CommandState::Queued | CommandState::Running | CommandState::TimedOut => {
            info!(%command, %session, state, "command changed");
        }
    }
    if let Some(node) = new.node.filter(|_| new.state.is_ended()) {
        plane.coordinator.fleet.want(node);
    }
    Ok(())
}

/// Fetches what a command brought and closes it. What does not work is tried again with the next pass.
async fn fetch(plane: Arc<Plane>, record: CommandRecord) -> CommandId {
    let id = record.id;
    let (Some(node), Some(output)) = (record.node, record.output) else { return id };
    // Checked to be within its bound before.
    let Ok(length) = usize::try_from(output.bytes) else { return id };
    let Some(bytes) = whole(&plane, node, id, length).await else { return id };
    if let Err(error) = close(&plane, record, Some(bytes)).await {
        error!(command = %id, error = &error as &dyn std::error::Error, "a command's end could not be written");
    }
    id
}

async fn whole(plane: &Plane, node: NodeId, id: CommandId, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let part = plane.coordinator.fleet.fetch(node, id, bytes.len() as u64).await?;
        if part.0.is_empty() || bytes.len() + part.0.len() > length {
            return None;
        }
        bytes.extend_from_slice(&part.0);
    }
    Some(bytes)
}

/// After a start: what a node in the same process was asked is lost with it, and is not begun again.
pub(crate) async fn take_over(plane: &Plane) -> Result<(), StoreError> {
    let Some(embedded) = plane.settings.embedded else { return Ok(()) };
    for record in plane.store.live_commands(Some(embedded)).await? {
        let why = "The service was restarted before it was done.".to_owned();
        close(plane, ended(&record, CommandState::Failed { why }, now()), None).await?;
    }
    Ok(())
}
