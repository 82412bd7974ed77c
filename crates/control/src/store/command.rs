//! Commands in the database: who asked for what, and what became of it.

use api::clock::UtcTime;
use api::command::{Command, CommandOutput, CommandRequest, CommandRole, CommandState, CommandSubject, OutputKind};
use api::id::{CommandId, InstanceId, NodeId, SessionId};
use api::manifest::AppName;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::entity::command::{Column, Entity, Model};
use super::entity::command_output;
use super::{Store, StoreError};

/// A command with everything that is known of it, but its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandRecord {
    pub(crate) id: CommandId,
    pub(crate) session: SessionId,
    /// The session's instance when it was asked for, and its epoch: no other one is touched.
    pub(crate) instance: InstanceId,
    pub(crate) epoch: u32,
    /// Which node has to do it; `None` for what the control plane does.
    pub(crate) node: Option<NodeId>,
    pub(crate) app: AppName,
    /// Whose session it is.
    pub(crate) tenant: String,
    pub(crate) by: CommandSubject,
    pub(crate) request: CommandRequest,
    pub(crate) state: CommandState,
    pub(crate) created_at: UtcTime,
    pub(crate) started_at: Option<UtcTime>,
    pub(crate) ended_at: Option<UtcTime>,
    pub(crate) duration_ms: Option<u64>,
    /// When it is closed at the latest.
    pub(crate) deadline_at: UtcTime,
    pub(crate) output: Option<CommandOutput>,
}

impl CommandRecord {
    /// As who asked sees it.
    pub(crate) fn view(&self) -> Command {
        Command {
            id: self.id,
            session: self.session,
            app: self.app.clone(),
            node: self.node,
            request: self.request.clone(),
            by: self.by.clone(),
            state: self.state.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            duration_ms: self.duration_ms,
            output: self.output,
        }
    }
}

/// How many commands may wait or run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MostCommands {
    pub(crate) of_session: u64,
    pub(crate) of_node: u64,
}

/// Which commands are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandsOf<'a> {
    /// Of this session alone.
    pub(crate) session: Option<SessionId>,
    /// Of sessions of this tenant alone.
    pub(crate) tenant: Option<&'a str>,
    /// Older than this one.
    pub(crate) before: Option<CommandId>,
}

impl Store {
    /// Adds a command; false when as many wait or run as may. A script's time begins after that of the session's scripts before it: they run one after
    /// the other.
    pub(crate) async fn add_command(&self, mut record: CommandRecord, most: MostCommands) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let of_session = Entity::find().filter(live()).filter(Column::Session.eq(record.session.to_string()));
        let of_session = of_session.all(&transaction).await?;
        let of_node = match record.node {
            Some(node) => {
                let of_node = Entity::find().filter(live()).filter(Column::Node.eq(node.to_string()));
                of_node.count(&transaction).await?
            }
            None => 0,
        };
        if of_session.len() as u64 >= most.of_session || of_node >= most.of_node {
            transaction.rollback().await?;
            return Ok(false);
        }
        if matches!(record.request, CommandRequest::Exec { .. }) {
            let scripts = of_session.iter().filter(|row| row.action == record.request.action());
            let last = scripts.map(|row| UtcTime::from_unix_ms(row.deadline_at)).max();
            let wait = last.map_or(std::time::Duration::ZERO, |last| last.since(record.created_at));
            record.deadline_at = record.deadline_at.plus(wait);
        }
        to_row(&record).into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// One command.
    pub(crate) async fn command(&self, id: CommandId) -> Result<Option<CommandRecord>, StoreError> {
        Entity::find_by_id(id.to_string()).one(&self.read).await?.map(from_row).transpose()
    }

    /// What a command brought; `None` when nothing is kept.
    pub(crate) async fn command_output(&self, id: CommandId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(command_output::Entity::find_by_id(id.to_string()).one(&self.read).await?.map(|row| row.bytes))
    }

    /// Commands that have not ended, the oldest first: all, or those that a node has to do.
    pub(crate) async fn live_commands(&self, of: Option<NodeId>) -> Result<Vec<CommandRecord>, StoreError> {
        let mut commands = Entity::find().filter(live());
        if let Some(node) = of {
            commands = commands.filter(Column::Node.eq(node.to_string()));
        }
        let rows = commands.order_by_asc(Column::Id).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// A page of commands, newest first.
    pub(crate) async fn commands(&self, of: &CommandsOf<'_>, limit: u32) -> Result<Vec<CommandRecord>, StoreError> {
        // Ids sort by creation.
        let mut commands = Entity::find();
        if let Some(session) = of.session {
            commands = commands.filter(Column::Session.eq(session.to_string()));
        }
        if let Some(tenant) = of.tenant {
            commands = commands.filter(Column::Tenant.eq(tenant));
        }
        if let Some(before) = of.before {
            commands = commands.filter(Column::Id.lt(before.to_string()));
        }
        let rows = commands.order_by_desc(Column::Id).limit(u64::from(limit)).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Changes a command to what `next` makes of it, with what it brought; `None` leaves it. One that has ended is never changed.
    pub(crate) async fn change_command(
        &self,
        id: CommandId,
        output: Option<Vec<u8>>,
        next: impl FnOnce(&CommandRecord) -> Option<CommandRecord>,
    ) -> Result<Option<CommandRecord>, StoreError> {
        let transaction = self.write.begin_row().await?;
        let row = Entity::find_by_id(id.to_string()).lock_exclusive().one(&transaction).await?;
        let old = row.map(from_row).transpose()?.filter(|old| !old.state.is_ended());
        let Some(new) = old.as_ref().and_then(next) else {
            transaction.rollback().await?;
            return Ok(None);
        };
        to_row(&new).into_active_model().reset_all().update(&transaction).await?;
        if let Some(bytes) = output {
            let row = command_output::Model { command: id.to_string(), bytes };
            row.into_active_model().insert(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(Some(new))
    }

    /// Forgets commands that ended before a time, and what all but the newest ones brought; how many were forgotten.
    pub(crate) async fn forget_commands(&self, before: UtcTime, kept_outputs: u64) -> Result<u64, StoreError> {
        let transaction = self.begin().await?;
        let old = Column::EndedAt.lt(before.unix_ms());
        let forgotten = Entity::delete_many().filter(old).exec(&transaction).await?.rows_affected;
        let with_output = Entity::find().filter(Column::OutputKind.is_not_null()).order_by_desc(Column::Id);
        if let Some(last) = with_output.clone().offset(kept_outputs).one(&transaction).await? {
            let none = Expr::val(Option::<String>::None);
            Entity::update_many()
                .col_expr(Column::OutputKind, none)
                .filter(Column::Id.lte(last.id))
                .exec(&transaction)
                .await?;
        }
        remove_unnamed_outputs(&transaction).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// Removes outputs that no command names.
async fn remove_unnamed_outputs(connection: &impl ConnectionTrait) -> Result<(), StoreError> {
    let named = Entity::find().select_only().column(Column::Id).filter(Column::OutputKind.is_not_null());
    let named = sea_orm::QueryTrait::into_query(named);
    let unnamed = command_output::Column::Command.not_in_subquery(named);
    command_output::Entity::delete_many().filter(unnamed).exec(connection).await?;
    Ok(())
}

/// True for rows of commands that have not ended.
fn live() -> Expr {
    Column::State.eq("queued").or(Column::State.eq("running"))
}

fn to_row(record: &CommandRecord) -> Model {
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let large = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (script, argument) = match &record.request {
        CommandRequest::Stop {} | CommandRequest::Restart {} | CommandRequest::Screenshot {} => (None, None),
        CommandRequest::Exec { script, timeout_s } => (Some(script.clone()), Some(small(*timeout_s))),
        CommandRequest::Logs { kib } => (None, Some(small(*kib))),
    };
    let (exit, why) = match &record.state {
        CommandState::Queued | CommandState::Running | CommandState::TimedOut => (None, None),
        CommandState::Done { exit } => (*exit, None),
        CommandState::Failed { why } => (None, Some(why.clone())),
    };
    Model {
        id: record.id.to_string(),
        session: record.session.to_string(),
        instance: record.instance.to_string(),
        epoch: small(record.epoch),
        node: record.node.map(|node| node.to_string()),
        app: record.app.to_string(),
        tenant: record.tenant.clone(),
        role: record.by.role.word().to_owned(),
        subject: record.by.name.clone(),
        action: record.request.action().to_owned(),
        script,
        argument,
        state: record.state.name().to_owned(),
        exit,
        why,
        created_at: record.created_at.unix_ms(),
        started_at: record.started_at.map(UtcTime::unix_ms),
        ended_at: record.ended_at.map(UtcTime::unix_ms),
        duration_ms: record.duration_ms.map(large),
        deadline_at: record.deadline_at.unix_ms(),
        output_kind: record.output.map(|output| output.kind.word().to_owned()),
        output_bytes: record.output.map(|output| large(output.bytes)),
        cut_bytes: record.output.map(|output| large(output.cut_bytes)),
    }
}

fn from_row(row: Model) -> Result<CommandRecord, StoreError> {
    read_row(&row).map_err(|column| StoreError::Unreadable { id: row.id, column })
}

/// The record, or the column that cannot be read.
fn read_row(row: &Model) -> Result<CommandRecord, &'static str> {
    fn read<T>(value: Option<T>, column: &'static str) -> Result<T, &'static str> {
        value.ok_or(column)
    }
    let argument = || read(row.argument.and_then(|argument| argument.try_into().ok()), "argument");
    let request = match row.action.as_str() {
        "stop" => CommandRequest::Stop {},
        "restart" => CommandRequest::Restart {},
        "exec" => CommandRequest::Exec { script: read(row.script.clone(), "script")?, timeout_s: argument()? },
        "logs" => CommandRequest::Logs { kib: argument()? },
        "screenshot" => CommandRequest::Screenshot {},
        _ => return Err("action"),
    };
    let state = match row.state.as_str() {
        "queued" => CommandState::Queued,
        "running" => CommandState::Running,
        "done" => CommandState::Done { exit: row.exit },
        "failed" => CommandState::Failed { why: read(row.why.clone(), "why")? },
        "timed_out" => CommandState::TimedOut,
        _ => return Err("state"),
    };
    let count = |value: Option<i64>, column| read(value.and_then(|value| u64::try_from(value).ok()), column);
    let output = match &row.output_kind {
        Some(word) => Some(CommandOutput {
            kind: read(OutputKind::from_word(word), "output_kind")?,
            bytes: count(row.output_bytes, "output_bytes")?,
            cut_bytes: count(row.cut_bytes, "cut_bytes")?,
        }),
        None => None,
    };
    Ok(CommandRecord {
        id: read(row.id.parse().ok(), "id")?,
        session: read(row.session.parse().ok(), "session")?,
        instance: read(row.instance.parse().ok(), "instance")?,
        epoch: read(row.epoch.try_into().ok(), "epoch")?,
        node: row.node.as_deref().map(str::parse).transpose().map_err(|_no_id| "node")?,
        app: read(row.app.parse().ok(), "app")?,
        tenant: row.tenant.clone(),
        by: CommandSubject { role: read(CommandRole::from_word(&row.role), "role")?, name: row.subject.clone() },
        request,
        state,
        created_at: UtcTime::from_unix_ms(row.created_at),
        started_at: row.started_at.map(UtcTime::from_unix_ms),
        ended_at: row.ended_at.map(UtcTime::from_unix_ms),
        duration_ms: row.duration_ms.map(|ms| u64::try_from(ms).map_err(|_range| "duration_ms")).transpose()?,
        deadline_at: UtcTime::from_unix_ms(row.deadline_at),
        output,
    })
}
