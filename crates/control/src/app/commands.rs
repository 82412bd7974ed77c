//! Commands to instances: who may ask, and what they became.

use std::time::{Duration, Instant};

use api::access::Right;
use api::command::{
    Command, CommandList, CommandRequest, CommandRole, CommandState, CommandSubject, CommandsPage, DEFAULT_COMMANDS,
    MAX_COMMANDS, OutputKind,
};
use api::id::{CommandId, SessionId};
use api::node::MAX_NODE_COMMANDS;
use api::problem::{Problem, ProblemKind};
use serde_json::json;
use tracing::info;
use uuid::Uuid;

use super::access::Caller;
use super::admission::Refused;
use super::rate::Rate;
use super::releases::OPERATOR_TENANT;
use super::sessions::too_often;
use super::{Plane, broken, now};
use crate::reconcile::session::has_instance;
use crate::store::{CommandRecord, CommandsOf, MostCommands, SessionRecord};

/// How often one operator or tenant may ask for commands: a person with a script of his own, not a program that watches by them.
pub(crate) const RATE: Rate = Rate { burst: 60, per_minute: 120 };

/// Commands that wait or run at once: of one session, so that nobody waits for long behind another one's; of one node, what it takes.
const MOST: MostCommands = MostCommands { of_session: 4, of_node: MAX_NODE_COMMANDS as u64 };

/// How long a command may take beside its script's own time: on its way, and its output on the way back.
const WAY: Duration = Duration::from_secs(60);

/// How long a session may take to end: the longest grace of a manifest, its save, and the node's own patience.
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// How long a restart may take: an end, and a start whose release may have to be fetched.
const RESTART_LIMIT: Duration = Duration::from_secs(300);

/// Who may have commands done, and see them.
pub(crate) fn commander(caller: &Caller, right: Right) -> Result<CommandSubject, Problem> {
    match caller {
        Caller::Operator(_) => Ok(CommandSubject { role: CommandRole::Operator, name: None }),
        Caller::Tenant(tenant) => {
            tenant.has(right)?;
            Ok(CommandSubject { role: CommandRole::Tenant, name: Some(tenant.tenant.clone()) })
        }
        Caller::Nobody => Err(ProblemKind::TokenMissing.because("Commands are for the operator and the app's tenant.")),
        Caller::Session(_) | Caller::Player(_) => {
            Err(ProblemKind::Forbidden
                .because("Commands are for the operator and the app's tenant, never for players."))
        }
    }
}

/// True when it is the subject's: the operator's is all, a tenant's what is played of its apps.
fn is_of(subject: &CommandSubject, tenant: &str) -> bool {
    subject.name.as_deref().is_none_or(|name| name == tenant)
}

fn unknown_session() -> Problem {
    ProblemKind::SessionUnknown.because("No session has this id, or it was forgotten.")
}

fn unknown_command() -> Problem {
    ProblemKind::CommandUnknown.because("No command has this id, or it was forgotten.")
}

/// How long a command may take in all.
fn limit(request: &CommandRequest) -> Duration {
    match request {
        CommandRequest::Stop {} => STOP_LIMIT,
        CommandRequest::Restart {} => RESTART_LIMIT,
        CommandRequest::Exec { timeout_s, .. } => Duration::from_secs(u64::from(*timeout_s)) + WAY,
        CommandRequest::Logs { .. } | CommandRequest::Screenshot {} => WAY,
    }
}

/// As the record of changes calls it.
const fn action_of(request: &CommandRequest) -> &'static str {
    match request {
        CommandRequest::Stop {} => "command.stop",
        CommandRequest::Restart {} => "command.restart",
        CommandRequest::Exec { .. } => "command.exec",
        CommandRequest::Logs { .. } => "command.logs",
        CommandRequest::Screenshot {} => "command.screenshot",
    }
}

/// Can it be done, as the session stands?
fn check_state(request: &CommandRequest, session: &SessionRecord) -> Result<(), Problem> {
    let ended = || {
        let mut problem = ProblemKind::SessionEnded.because("The session has ended.");
        "Ask for `logs`, which are kept for a while.".clone_into(&mut problem.remedy);
        problem
    };
    match request {
        CommandRequest::Stop {} => Ok(()),
        CommandRequest::Logs { .. } if session.node.is_some() => Ok(()),
        CommandRequest::Restart {} | CommandRequest::Exec { .. } | CommandRequest::Screenshot {}
            if session.state.is_ended() =>
        {
            Err(ended())
        }
        CommandRequest::Restart {} | CommandRequest::Exec { .. } | CommandRequest::Screenshot {}
            if has_instance(session) && session.node.is_some() =>
        {
            Ok(())
        }
        CommandRequest::Restart {}
        | CommandRequest::Exec { .. }
        | CommandRequest::Logs { .. }
        | CommandRequest::Screenshot {} => {
            let state = session.state.name();
            Err(ProblemKind::NotRunning.because(format!("The session is `{state}`: no machine has it.")))
        }
    }
}

impl Plane {
    /// The session of this id, when the subject may command it. What is another tenant's is as if it were not there.
    async fn commanded(&self, subject: &CommandSubject, id: &str) -> Result<SessionRecord, Problem> {
        let id: SessionId = id.parse().map_err(|_no_id| unknown_session())?;
        let session = self.store.session(id).await.map_err(broken)?;
        session.filter(|session| is_of(subject, &session.tenant)).ok_or_else(unknown_session)
    }

    /// The session of this id, for its player, for the operator and for the tenant whose app is played.
    pub(crate) async fn session_seen_by(&self, caller: Caller, id: &str) -> Result<SessionRecord, Problem> {
        match &caller {
            Caller::Tenant(_) => self.commanded(&commander(&caller, Right::SessionsRead)?, id).await,
            Caller::Nobody | Caller::Operator(_) | Caller::Session(_) | Caller::Player(_) => {
                self.session_for(caller, id).await
            }
        }
    }

    /// Asks for a command: when this returns it stands in the database, and will end.
    pub(crate) async fn create_command(
        &self,
        caller: &Caller,
        session: &str,
        request: CommandRequest,
    ) -> Result<Command, Problem> {
        let by = commander(caller, Right::Commands)?;
        if let Caller::Tenant(tenant) = caller {
            tenant.may(Right::Commands)?;
        }
        let session = self.commanded(&by, session).await?;
        if self.is_stopping() {
            return Err(Refused::Stopping.problem());
        }
        request.check().map_err(|error| ProblemKind::InvalidRequest.because(error.to_string()))?;
        check_state(&request, &session)?;
        let key = format!("{}:{}", by.role.word(), by.name.as_deref().unwrap_or_default());
        self.commands.take(&key, Instant::now()).map_err(|wait| too_often("Commands were asked for", wait))?;
        let created_at = now();
        let is_of_node = !matches!(request, CommandRequest::Stop {} | CommandRequest::Restart {});
        let record = CommandRecord {
            id: CommandId::from_uuid(Uuid::now_v7()),
            session: session.id,
            instance: session.instance,
            epoch: session.epoch,
            node: session.node.filter(|_| is_of_node),
            app: session.app,
            tenant: session.tenant,
            by,
            state: CommandState::Queued,
            created_at,
            started_at: None,
            ended_at: None,
            duration_ms: None,
            deadline_at: created_at.plus(limit(&request)),
            request,
            output: None,
        };
        let (view, view_tenant) = (record.view(), record.tenant.clone());
        let node = record.node;
        if !self.store.add_command(record, MOST).await.map_err(broken)? {
            let detail = "As many commands of this session or of its machine wait or run as may.";
            return Err(ProblemKind::TooManyCommands.because(detail).retry_after(5));
        }
        let tenant = Some(view_tenant).filter(|tenant| tenant != OPERATOR_TENANT);
        let (action, after) = (action_of(&view.request), Some(json!({"command": view.id, "app": view.app})));
        self.record(caller, tenant, action, view.session, None, after).await;
        let (command, role, subject) = (view.id, view.by.role.word(), view.by.name.as_deref());
        info!(%command, session = %view.session, action = view.request.action(), role, subject, "command asked for");
        // First: a node that is told in between is told of this one.
        self.coordinator.stir_commands();
        if let Some(node) = node {
            self.coordinator.fleet.want(node);
        }
        Ok(view)
    }

    /// Commands, newest first: of a session, also of one that is forgotten, or of all.
    pub(crate) async fn list_commands(
        &self,
        caller: &Caller,
        session: Option<&str>,
        page: CommandsPage,
    ) -> Result<CommandList, Problem> {
        let by = commander(caller, Right::Commands)?;
        let limit = page.limit.unwrap_or(DEFAULT_COMMANDS);
        if !(1..=MAX_COMMANDS).contains(&limit) {
            return Err(ProblemKind::InvalidRequest.because(format!("`limit` has to be 1 to {MAX_COMMANDS}.")));
        }
        let id = session.map(str::parse::<SessionId>).transpose().map_err(|_no_id| unknown_session())?;
        let of = CommandsOf { session: id, tenant: by.name.as_deref(), before: page.before };
        let records = self.store.commands(&of, limit).await.map_err(broken)?;
        if let (Some(session), true) = (session, records.is_empty()) {
            self.commanded(&by, session).await?;
        }
        Ok(CommandList { commands: records.iter().map(CommandRecord::view).collect() })
    }

    async fn command_of(&self, caller: &Caller, id: &str) -> Result<CommandRecord, Problem> {
        let by = commander(caller, Right::Commands)?;
        let id: CommandId = id.parse().map_err(|_no_id| unknown_command())?;
        let record = self.store.command(id).await.map_err(broken)?;
        record.filter(|record| is_of(&by, &record.tenant)).ok_or_else(unknown_command)
    }

    /// One command.
    pub(crate) async fn command(&self, caller: &Caller, id: &str) -> Result<Command, Problem> {
        Ok(self.command_of(caller, id).await?.view())
    }

    /// What a command brought.
    pub(crate) async fn command_output(&self, caller: &Caller, id: &str) -> Result<(OutputKind, Vec<u8>), Problem> {
        let record = self.command_of(caller, id).await?;
        let missing = || {
            let state = record.state.name();
            ProblemKind::OutputMissing.because(format!("The command is `{state}` and has no output that is kept."))
        };
        let output = record.output.ok_or_else(missing)?;
        let bytes = self.store.command_output(record.id).await.map_err(broken)?.ok_or_else(missing)?;
        Ok((output.kind, bytes))
    }
}
