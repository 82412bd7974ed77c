//! What a session becomes, given what is seen of it. Pure: the same row and the same evidence give the same answer, and the
//! answer to that answer is "nothing to do".
//!
//! The node decides while it answers; the deadlines here are a second line for a node that does not, and for what only
//! the control plane knows: the session's length, the player's link.

use std::mem::discriminant;
use std::time::Duration;

use api::clock::UtcTime;
use api::id::{InstanceId, NodeId};
use api::node::{InstanceState, ObservedInstance, PlayerPresence};
use api::saves::SaveFailure;
use api::session::{EndReason, PrepareStage, SessionState, WaitCause};

use crate::store::SessionRecord;

/// How much longer than a node's own deadline is waited before the control plane acts for it. Shorter would race with the
/// node's better reason; longer holds a place that nobody has.
const SLACK: Duration = Duration::from_secs(10);

/// How long a node may take to report an instance that was asked of it. It answers at once when it is well.
const REPORT_LIMIT: Duration = Duration::from_secs(15);

/// What is seen of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// The node is gone for good, and everything on it.
    pub(crate) node_gone: bool,
    /// The node reports.
    pub(crate) node_seen: bool,
    /// The node is to be emptied.
    pub(crate) node_drained: bool,
    /// There is another node that could take it, or the same one again.
    pub(crate) may_recover: bool,
    /// What it reported of this session's instance and epoch.
    pub(crate) instance: Option<&'a ObservedInstance>,
    /// How long the player's last link is gone; `None` while there is one, and when there never was.
    pub(crate) link_absent: Option<Duration>,
    /// Now.
    pub(crate) now: UtcTime,
}

/// So often a session is started again when its node is lost. A game that takes machines down with it must not go through all of them.
const MOST_RECOVERIES: u32 = 3;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_grace: Duration,
    pub(crate) link_grace: Duration,
    /// Zero: never.
    pub(crate) idle_timeout: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) stop_grace: Duration,
    /// How long the player's save may take after the game's end; zero where none is kept.
    pub(crate) archive: Duration,
}

/// What the session becomes; `None` when it stays as it is.
pub(crate) fn next(record: &SessionRecord, evidence: &Evidence<'_>, rules: &Rules) -> Option<SessionRecord> {
    if record.state.is_ended() {
        return None;
    }
    let mut new = record.clone();
    match evidence.instance {
        _ if record.node.is_none() => {}
        // What it reported last is not so any more.
        _ if evidence.node_gone => lose(&mut new, evidence),
        Some(instance) => {
            new.observed = true;
            observe(&mut new, instance, evidence.now, rules);
            let goes_on = matches!(new.state, SessionState::Ended { reason, .. } if reason.goes_on())
                || new.state.is_ended() && stop_reason(record).is_some_and(EndReason::goes_on);
            if goes_on {
                // Its save is kept by now.
                new = record.clone();
                go_on(&mut new, evidence);
            } else if evidence.node_drained && evidence.may_recover && !ends(&new) && stop_reason(&new).is_none() {
                stop(&mut new, EndReason::Moved, evidence.now);
            }
        }
        None if evidence.node_seen && record.observed => lose(&mut new, evidence),
        None => {}
    }
    match overdue(&new, evidence, rules) {
        Some(SessionState::Ended { reason, .. }) if reason.goes_on() => lose(&mut new, evidence),
        Some(state) => enter(&mut new, state, evidence.now),
        None => {}
    }
    (new != *record).then_some(new)
}

/// The session after somebody asked for its end; `None` when it is ending already. One that has no instance ends at once.
pub(crate) fn stopped(record: &SessionRecord, reason: EndReason, now: UtcTime) -> Option<SessionRecord> {
    if ends(record) {
        return None;
    }
    let mut new = record.clone();
    stop(&mut new, reason, now);
    Some(new)
}

fn stop(record: &mut SessionRecord, reason: EndReason, now: UtcTime) {
    let state = if has_instance(record) { SessionState::Stopping { reason } } else { end(reason, now) };
    enter(record, state, now);
}

/// The session when its wait goes on, or begins; `None` when it does not wait.
pub(crate) fn queued(record: &SessionRecord, cause: WaitCause, now: UtcTime) -> Option<SessionRecord> {
    let waits = matches!(record.state, SessionState::Requested | SessionState::Queued { .. });
    let mut new = record.clone();
    enter(&mut new, SessionState::Queued { cause }, now);
    (waits && new != *record).then_some(new)
}

/// The session with a place that is kept for it until then; `None` when it does not wait.
pub(crate) fn offered(record: &SessionRecord, node: NodeId, until: UtcTime, now: UtcTime) -> Option<SessionRecord> {
    if !matches!(record.state, SessionState::Requested | SessionState::Queued { .. }) {
        return None;
    }
    let mut new = record.clone();
    new.node = Some(node);
    enter(&mut new, SessionState::Offered { until }, now);
    Some(new)
}

/// The session after its player took the place that was offered; `None` when none is, or it is too late.
pub(crate) fn accepted(record: &SessionRecord, length: Duration, now: UtcTime) -> Option<SessionRecord> {
    let mut new = record.clone();
    match record.state {
        SessionState::Offered { until } if now < until => {
            enter(&mut new, SessionState::Reserved, now);
            // It has not played yet: the wait is not counted.
            new.ends_at = now.plus(length);
            Some(new)
        }
        _ => None,
    }
}

/// The session with its place; `None` when it wants none.
pub(crate) fn reserved(record: &SessionRecord, node: NodeId, length: Duration, now: UtcTime) -> Option<SessionRecord> {
    let mut new = record.clone();
    match record.state {
        // A warm instance has the life that its pool gives it.
        SessionState::Requested | SessionState::Queued { .. } if record.pool.is_some() => {}
        SessionState::Requested | SessionState::Queued { .. } => new.ends_at = now.plus(length),
        SessionState::Recovering { .. } => {}
        _ => return None,
    }
    new.node = Some(node);
    enter(&mut new, SessionState::Reserved, now);
    Some(new)
}

/// A session with its place, and the warm instance that it takes over; what both are then. `None` when that is not to be had any more, or is
/// not what the session needs.
pub(crate) fn claimed(
    reserved: &SessionRecord,
    warm: &SessionRecord,
    connect_timeout: Duration,
    spare: InstanceId,
    now: UtcTime,
) -> Option<(SessionRecord, SessionRecord)> {
    let fits = |record: &SessionRecord| (record.node, record.epoch, record.app.clone(), record.release, record.spec);
    let is_ready = matches!(warm.state, SessionState::Ready { .. }) && warm.pool.is_some();
    if !is_ready || reserved.state != SessionState::Reserved || fits(reserved) != fits(warm) {
        return None;
    }
    let (mut taker, mut gone) = (reserved.clone(), warm.clone());
    taker.instance = warm.instance;
    taker.observed = true;
    taker.first_frame = warm.first_frame;
    let state = if warm.first_frame {
        SessionState::Ready { connect_until: now.plus(connect_timeout) }
    } else {
        SessionState::Preparing { stage: PrepareStage::Game }
    };
    enter(&mut taker, state, now);
    // An instance is of one session.
    gone.instance = spare;
    enter(&mut gone, end(EndReason::Claimed, now), now);
    Some((taker, gone))
}

/// The session while its game is stopped to be started again; `None` when it has no instance of this epoch, or is ending.
pub(crate) fn restarted(record: &SessionRecord, epoch: u32, now: UtcTime) -> Option<SessionRecord> {
    if record.epoch != epoch || !has_instance(record) || stop_reason(record).is_some() {
        return None;
    }
    let mut new = record.clone();
    stop(&mut new, EndReason::Restarted, now);
    Some(new)
}

/// True when it has an instance on a node, or will have one in a moment.
pub(crate) fn has_instance(record: &SessionRecord) -> bool {
    match record.state {
        SessionState::Requested
        | SessionState::Queued { .. }
        | SessionState::Offered { .. }
        | SessionState::Recovering { .. }
        | SessionState::Ended { .. } => false,
        SessionState::Reserved
        | SessionState::Preparing { .. }
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. }
        | SessionState::Stopping { .. } => true,
    }
}

/// True when it is on its way to its end; one that moves, or starts again, is not.
fn ends(record: &SessionRecord) -> bool {
    record.state.is_ended() || stop_reason(record).is_some_and(|reason| !reason.goes_on())
}

/// Its instance was stopped so that it goes on: on the same node when that is well and keeps what it has, else on another one.
fn go_on(record: &mut SessionRecord, evidence: &Evidence<'_>) {
    if stop_reason(record) != Some(EndReason::Restarted) || !evidence.node_seen || evidence.node_drained {
        return lose(record, evidence);
    }
    begin_anew(record);
    record.asked_starts += 1;
    enter(record, SessionState::Reserved, evidence.now);
}

/// Another instance of it is the next one that counts.
fn begin_anew(record: &mut SessionRecord) {
    record.epoch += 1;
    record.observed = false;
    record.first_frame = false;
}

/// Its node is lost to it: it waits for another one, or ends.
fn lose(record: &mut SessionRecord, evidence: &Evidence<'_>) {
    let now = evidence.now;
    if let Some(reason) = stop_reason(record).filter(|reason| !reason.goes_on()) {
        return enter(record, end(reason, now), now);
    }
    if matches!(record.state, SessionState::Offered { .. }) {
        // Nothing ran yet: it waits as before.
        record.node = None;
        return enter(record, SessionState::Queued { cause: WaitCause::Capacity }, now);
    }
    if stop_reason(record).is_some() {
        record.asked_starts += 1;
    }
    if !evidence.may_recover || record.epoch > MOST_RECOVERIES + record.asked_starts {
        return enter(record, end(EndReason::NodeLost, now), now);
    }
    record.node = None;
    begin_anew(record);
    enter(record, SessionState::Recovering { since: now }, now);
}

/// The session when nothing of it can be left; `None` when it has ended before.
pub(crate) fn ended(record: &SessionRecord, reason: EndReason, now: UtcTime) -> Option<SessionRecord> {
    if record.state.is_ended() {
        return None;
    }
    let mut new = record.clone();
    enter(&mut new, end(stop_reason(record).unwrap_or(reason), now), now);
    Some(new)
}

fn end(reason: EndReason, at: UtcTime) -> SessionState {
    SessionState::Ended { reason, party: reason.party(), at }
}

fn stop_reason(record: &SessionRecord) -> Option<EndReason> {
    match record.state {
        SessionState::Stopping { reason } => Some(reason),
        SessionState::Requested
        | SessionState::Queued { .. }
        | SessionState::Offered { .. }
        | SessionState::Recovering { .. }
        | SessionState::Reserved
        | SessionState::Preparing { .. }
        | SessionState::Ready { .. }
        | SessionState::Connected { .. }
        | SessionState::Reconnecting { .. }
        | SessionState::Ended { .. } => None,
    }
}

fn enter(record: &mut SessionRecord, state: SessionState, now: UtcTime) {
    let content = SessionState::Preparing { stage: PrepareStage::Content };
    let was_fetched = record.state == content && state != content;
    if was_fetched || discriminant(&record.state) != discriminant(&state) {
        record.changed_at = now;
    }
    record.state = state;
}

fn observe(record: &mut SessionRecord, instance: &ObservedInstance, now: UtcTime, rules: &Rules) {
    record.unsaved = instance.save_failure.map(SaveFailure::sentence);
    let stopping = stop_reason(record).is_some();
    let state = match &instance.state {
        InstanceState::Ended { reason, detail: _ } => end(*reason, now),
        // What was asked for stays asked for, until the node has done it.
        InstanceState::ContentFetching
        | InstanceState::StreamerStarting
        | InstanceState::Prepared
        | InstanceState::GameStarting
        | InstanceState::Running { .. }
        | InstanceState::Stopping { .. }
            if stopping =>
        {
            return;
        }
        InstanceState::ContentFetching => SessionState::Preparing { stage: PrepareStage::Content },
        InstanceState::StreamerStarting => SessionState::Preparing { stage: PrepareStage::Streamer },
        InstanceState::Prepared if record.pool.is_some() => warm(record),
        // It does not know yet that it was claimed.
        InstanceState::Prepared | InstanceState::GameStarting => SessionState::Preparing { stage: PrepareStage::Game },
        InstanceState::Running { first_frame } if record.pool.is_some() => {
            record.first_frame |= first_frame;
            if record.first_frame { warm(record) } else { SessionState::Preparing { stage: PrepareStage::Game } }
        }
        InstanceState::Running { first_frame } => {
            record.first_frame |= first_frame;
            playing(record.state, instance.player, now, rules)
        }
        InstanceState::Stopping { reason } => SessionState::Stopping { reason: *reason },
    };
    enter(record, state, now);
}

/// The state of a warm instance that may be claimed.
fn warm(record: &SessionRecord) -> SessionState {
    SessionState::Ready { connect_until: record.ends_at }
}

/// The state while the game runs; a state that is there already keeps its instant.
fn playing(old: SessionState, player: PlayerPresence, now: UtcTime, rules: &Rules) -> SessionState {
    let new = match player {
        PlayerPresence::Awaited => SessionState::Ready { connect_until: now.plus(rules.connect_timeout) },
        PlayerPresence::Connected => SessionState::Connected { since: now },
        PlayerPresence::Lost => SessionState::Reconnecting { until: now.plus(rules.reconnect_grace) },
    };
    if discriminant(&old) == discriminant(&new) { old } else { new }
}

/// The state that a deadline demands.
fn overdue(record: &SessionRecord, evidence: &Evidence<'_>, rules: &Rules) -> Option<SessionState> {
    let now = evidence.now;
    let in_state = now.since(record.changed_at);
    let stop = |reason| Some(SessionState::Stopping { reason });
    let left_early = evidence.link_absent.is_some_and(|absent| absent >= rules.link_grace);
    let too_long = now >= record.ends_at;
    match record.state {
        SessionState::Ended { .. } => None,
        SessionState::Stopping { reason } => {
            let limit = if record.observed { rules.stop_grace + rules.archive + SLACK * 3 } else { SLACK };
            (in_state >= limit).then(|| end(reason, now))
        }
        SessionState::Requested | SessionState::Queued { .. } | SessionState::Offered { .. } => {
            left_early.then(|| end(EndReason::PlayerLeft, now))
        }
        // The queue has a limit of its own.
        SessionState::Recovering { .. } => too_long.then(|| end(EndReason::TimeLimit, now)),
        _ if too_long && record.pool.is_some() => stop(EndReason::Unused),
        _ if too_long => stop(EndReason::TimeLimit),
        SessionState::Reserved if in_state >= REPORT_LIMIT => stop(EndReason::NodeLost),
        // Fetching takes as long as it takes; the node says when it fails.
        SessionState::Preparing { stage: PrepareStage::Content } if !left_early => None,
        SessionState::Preparing { .. } if in_state >= rules.start_timeout + SLACK * 2 => stop(EndReason::StartTimeout),
        SessionState::Ready { connect_until } if now.since(connect_until) >= SLACK => stop(EndReason::ConnectTimeout),
        SessionState::Reserved | SessionState::Preparing { .. } | SessionState::Ready { .. } => {
            if left_early {
                stop(EndReason::PlayerLeft)
            } else {
                None
            }
        }
        SessionState::Connected { .. } => {
            let idle = evidence.instance.and_then(|instance| instance.statistics).map_or(0, |figures| figures.idle_s);
            let idle = Duration::from_secs(u64::from(idle));
            if !rules.idle_timeout.is_zero() && idle >= rules.idle_timeout { stop(EndReason::Idle) } else { None }
        }
        SessionState::Reconnecting { until } => {
            if now.since(until) >= SLACK {
                stop(EndReason::ReconnectTimeout)
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;

/// A session in this state, for tests of whoever reads rows.
#[cfg(test)]
pub(crate) fn test_record(state: SessionState) -> SessionRecord {
    tests::record(state, false)
}
