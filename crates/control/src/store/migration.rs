//! The schema, one step a migration. A step that was released is never changed.

use sea_orm_migration::prelude::*;

pub(super) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateSession)]
    }
}

/// Version 0.1: sessions.
struct CreateSession;

impl MigrationName for CreateSession {
    fn name(&self) -> &'static str {
        "m0001_create_session"
    }
}

#[derive(DeriveIden)]
enum Session {
    Table,
    Id,
    Instance,
    Epoch,
    App,
    Width,
    Height,
    FramesPerSecond,
    PixelsPerSecond,
    Resizable,
    Player,
    State,
    Stage,
    Instant,
    Reason,
    Observed,
    FirstFrame,
    Revision,
    CreatedAt,
    ChangedAt,
    EndsAt,
    TokenHash,
    TokenExpiresAt,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateSession {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Session::Table)
            .col(ColumnDef::new(Session::Id).string().not_null().primary_key())
            .col(ColumnDef::new(Session::Instance).string().not_null().unique_key())
            .col(ColumnDef::new(Session::Epoch).integer().not_null())
            .col(ColumnDef::new(Session::App).string().not_null())
            .col(ColumnDef::new(Session::Width).integer().not_null())
            .col(ColumnDef::new(Session::Height).integer().not_null())
            .col(ColumnDef::new(Session::FramesPerSecond).integer().not_null())
            .col(ColumnDef::new(Session::PixelsPerSecond).big_integer().not_null())
            .col(ColumnDef::new(Session::Resizable).boolean().not_null())
            .col(ColumnDef::new(Session::Player).string().not_null())
            .col(ColumnDef::new(Session::State).string().not_null())
            .col(ColumnDef::new(Session::Stage).string())
            .col(ColumnDef::new(Session::Instant).big_integer())
            .col(ColumnDef::new(Session::Reason).string())
            .col(ColumnDef::new(Session::Observed).boolean().not_null())
            .col(ColumnDef::new(Session::FirstFrame).boolean().not_null())
            .col(ColumnDef::new(Session::Revision).big_integer().not_null())
            .col(ColumnDef::new(Session::CreatedAt).big_integer().not_null())
            .col(ColumnDef::new(Session::ChangedAt).big_integer().not_null())
            .col(ColumnDef::new(Session::EndsAt).big_integer().not_null())
            .col(ColumnDef::new(Session::TokenHash).binary().not_null().unique_key())
            .col(ColumnDef::new(Session::TokenExpiresAt).big_integer().not_null())
            .to_owned();
        manager.create_table(table).await?;
        let by_state = Index::create().name("session_by_state").table(Session::Table).col(Session::State).to_owned();
        manager.create_index(by_state).await
    }
}
