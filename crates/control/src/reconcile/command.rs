//! What a command becomes, given what is seen of it. Pure: the same row and the same evidence give the same answer.

use api::clock::UtcTime;
use api::command::{CommandOutput, CommandRequest, CommandState};
use api::node::{CommandOutcome, CommandProgress, CommandTask, DesiredCommand};
use api::session::SessionState;

use crate::store::{CommandRecord, SessionRecord};

/// What is seen of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// Its session; `None` when it is forgotten.
    pub(crate) session: Option<&'a SessionRecord>,
    /// The node that has to do it is gone for good, and everything on it.
    pub(crate) node_gone: bool,
    /// What that node said of it last.
    pub(crate) progress: Option<&'a CommandProgress>,
    /// Now.
    pub(crate) now: UtcTime,
}

/// What is to be done about a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Its session is to be stopped.
    Stop,
    /// Its session is to be started again.
    Restart,
    /// It becomes this.
    Become(CommandRecord),
    /// It becomes this as soon as what it brought is here.
    Fetch(CommandRecord),
}

/// What is to be done about a command.
pub(crate) fn next(record: &CommandRecord, evidence: &Evidence<'_>) -> Step {
    if record.state.is_ended() {
        return Step::Wait;
    }
    let step = match record.request {
        CommandRequest::Stop {} => stop(record, evidence),
        CommandRequest::Restart {} => restart(record, evidence),
        CommandRequest::Exec { .. } | CommandRequest::Logs { .. } | CommandRequest::Screenshot {} => {
            by_node(record, evidence)
        }
    };
    let is_over = evidence.now >= record.deadline_at;
    match step {
        // What is known of its end is worth more than that it took long; what it brought is lost.
        Step::Fetch(ended) if is_over => Step::Become(CommandRecord { output: None, ..ended }),
        Step::Become(new) if new.state.is_ended() => Step::Become(new),
        _ if is_over => Step::Become(ended(record, CommandState::TimedOut, evidence.now)),
        step => step,
    }
}

fn stop(record: &CommandRecord, evidence: &Evidence<'_>) -> Step {
    match evidence.session {
        Some(session) if !session.state.is_ended() => begin(record, Step::Stop),
        Some(_) | None => Step::Become(ended(record, CommandState::Done { exit: None }, evidence.now)),
    }
}

fn restart(record: &CommandRecord, evidence: &Evidence<'_>) -> Step {
    let failed = |why: String| Step::Become(ended(record, CommandState::Failed { why }, evidence.now));
    let Some(session) = evidence.session else { return failed("The session is forgotten.".to_owned()) };
    match session.state {
        SessionState::Ended { reason, .. } => {
            failed(format!("The session ended ({}) before the game had been started again.", reason.word()))
        }
        SessionState::Ready { .. } | SessionState::Connected { .. } | SessionState::Reconnecting { .. }
            if session.epoch > record.epoch =>
        {
            Step::Become(ended(record, CommandState::Done { exit: None }, evidence.now))
        }
        _ if session.epoch > record.epoch => Step::Wait,
        SessionState::Stopping { reason } if !reason.goes_on() => {
            failed(format!("The session is being ended ({}).", reason.word()))
        }
        _ => begin(record, Step::Restart),
    }
}

/// Queued commands are begun; what was begun is under way.
fn begin(record: &CommandRecord, step: Step) -> Step {
    if record.state == CommandState::Queued { step } else { Step::Wait }
}

fn by_node(record: &CommandRecord, evidence: &Evidence<'_>) -> Step {
    match evidence.progress {
        Some(CommandProgress::Ended { outcome, output, duration_ms }) => {
            let state = match outcome {
                CommandOutcome::Done { exit } => CommandState::Done { exit: *exit },
                CommandOutcome::Failed { why } => CommandState::Failed { why: why.clone() },
                CommandOutcome::TimedOut {} => CommandState::TimedOut,
            };
            let ended = ended(record, state, evidence.now);
            let ended = CommandRecord { duration_ms: Some(*duration_ms), output: *output, ..ended };
            match output {
                Some(output) if is_bounded(output) => Step::Fetch(ended),
                Some(_) | None => Step::Become(CommandRecord { output: None, ..ended }),
            }
        }
        _ if evidence.node_gone => {
            let why = "The node was lost before it said what became of it.".to_owned();
            Step::Become(ended(record, CommandState::Failed { why }, evidence.now))
        }
        Some(CommandProgress::Running {}) if record.state == CommandState::Queued => {
            Step::Become(running(record, evidence.now))
        }
        Some(CommandProgress::Running {}) | None => Step::Wait,
    }
}

fn is_bounded(output: &CommandOutput) -> bool {
    usize::try_from(output.bytes).is_ok_and(|bytes| (1..=output.kind.max_bytes()).contains(&bytes))
}

/// The command while it is being done.
pub(crate) fn running(record: &CommandRecord, now: UtcTime) -> CommandRecord {
    CommandRecord { state: CommandState::Running, started_at: Some(now), ..record.clone() }
}

/// The command after its end.
pub(crate) fn ended(record: &CommandRecord, state: CommandState, now: UtcTime) -> CommandRecord {
    let began = record.started_at.unwrap_or(record.created_at);
    let duration_ms = u64::try_from(now.since(began).as_millis()).ok();
    CommandRecord { state, ended_at: Some(now), duration_ms, ..record.clone() }
}

/// What a node is told of a command; `None` when it has nothing to do for it.
pub(crate) fn desired(record: &CommandRecord, now: UtcTime) -> Option<DesiredCommand> {
    let task = match &record.request {
        CommandRequest::Stop {} | CommandRequest::Restart {} => return None,
        CommandRequest::Exec { script, timeout_s } => {
            CommandTask::Exec { script: script.clone(), timeout_s: *timeout_s }
        }
        CommandRequest::Logs { kib } => CommandTask::Logs { kib: *kib },
        CommandRequest::Screenshot {} => CommandTask::Screenshot {},
    };
    let is_live = !record.state.is_ended() && now < record.deadline_at;
    is_live.then_some(DesiredCommand { command: record.id, instance: record.instance, epoch: record.epoch, task })
}

#[cfg(test)]
mod tests;
