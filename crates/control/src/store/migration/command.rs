//! Commands to instances, and what they brought. And how many of a session's starts were asked for.

use sea_orm_migration::prelude::*;

pub(super) struct CreateCommand;

impl MigrationName for CreateCommand {
    fn name(&self) -> &'static str {
        "m0006_create_command"
    }
}

#[derive(DeriveIden)]
enum Command {
    Table,
    Id,
    Session,
    Instance,
    Epoch,
    Node,
    App,
    Tenant,
    Role,
    Subject,
    Action,
    Script,
    Argument,
    State,
    Exit,
    Why,
    CreatedAt,
    StartedAt,
    EndedAt,
    DurationMs,
    DeadlineAt,
    OutputKind,
    OutputBytes,
    CutBytes,
}

#[derive(DeriveIden)]
enum CommandOutput {
    Table,
    Command,
    Bytes,
}

/// The column that this step adds to the table `session`.
#[derive(DeriveIden)]
enum Session {
    Table,
    AskedStarts,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateCommand {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let command = Table::create()
            .table(Command::Table)
            .col(ColumnDef::new(Command::Id).string().not_null().primary_key())
            .col(ColumnDef::new(Command::Session).string().not_null())
            .col(ColumnDef::new(Command::Instance).string().not_null())
            .col(ColumnDef::new(Command::Epoch).integer().not_null())
            .col(ColumnDef::new(Command::Node).string().null())
            .col(ColumnDef::new(Command::App).string().not_null())
            .col(ColumnDef::new(Command::Tenant).text().not_null())
            .col(ColumnDef::new(Command::Role).string().not_null())
            .col(ColumnDef::new(Command::Subject).string().null())
            .col(ColumnDef::new(Command::Action).string().not_null())
            .col(ColumnDef::new(Command::Script).text().null())
            .col(ColumnDef::new(Command::Argument).integer().null())
            .col(ColumnDef::new(Command::State).string().not_null())
            .col(ColumnDef::new(Command::Exit).integer().null())
            .col(ColumnDef::new(Command::Why).text().null())
            .col(ColumnDef::new(Command::CreatedAt).big_integer().not_null())
            .col(ColumnDef::new(Command::StartedAt).big_integer().null())
            .col(ColumnDef::new(Command::EndedAt).big_integer().null())
            .col(ColumnDef::new(Command::DurationMs).big_integer().null())
            .col(ColumnDef::new(Command::DeadlineAt).big_integer().not_null())
            .col(ColumnDef::new(Command::OutputKind).string().null())
            .col(ColumnDef::new(Command::OutputBytes).big_integer().null())
            .col(ColumnDef::new(Command::CutBytes).big_integer().null())
            .to_owned();
        manager.create_table(command).await?;
        // Apart, so that a list of commands does not read pictures.
        let output = Table::create()
            .table(CommandOutput::Table)
            .col(ColumnDef::new(CommandOutput::Command).string().not_null().primary_key())
            .col(ColumnDef::new(CommandOutput::Bytes).binary().not_null())
            .to_owned();
        manager.create_table(output).await?;
        for (name, columns) in [
            ("command_by_session", [Command::Session, Command::Id]),
            ("command_by_state", [Command::State, Command::Id]),
        ] {
            let mut index = Index::create().name(name).table(Command::Table).to_owned();
            for column in columns {
                index.col(column);
            }
            manager.create_index(index).await?;
        }
        let asked = ColumnDef::new(Session::AskedStarts).integer().not_null().default(0).to_owned();
        manager.alter_table(Table::alter().table(Session::Table).add_column(asked).to_owned()).await
    }
}
