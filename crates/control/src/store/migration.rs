//! The schema, one step a migration. A step that was released is never changed.

mod access;
mod command;
mod content;
mod demand;
mod fleet;
mod keeping;
mod leadership;
mod pool;
mod probe;
mod usage;

use sea_orm_migration::prelude::*;

pub(super) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(CreateSession),
            Box::new(CreatePlayer),
            Box::new(content::CreateContent),
            Box::new(keeping::AddKeeping),
            Box::new(fleet::CreateFleet),
            Box::new(command::CreateCommand),
            Box::new(leadership::CreateLeadership),
            Box::new(demand::CreateDemand),
            Box::new(pool::CreatePool),
            Box::new(probe::AddProbes),
            Box::new(access::CreateAccess),
            Box::new(usage::CreateUsage),
        ]
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

/// Players, and what a play leaves behind.
struct CreatePlayer;

impl MigrationName for CreatePlayer {
    fn name(&self) -> &'static str {
        "m0002_create_player"
    }
}

#[derive(DeriveIden)]
enum Player {
    Table,
    Id,
    TokenHash,
    Guest,
    CreatedAt,
    LastSeenAt,
}

/// Columns that this step adds to the table `session`.
#[derive(DeriveIden)]
enum Play {
    PlayerId,
    Node,
    Release,
}

#[async_trait::async_trait]
impl MigrationTrait for CreatePlayer {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Player::Table)
            .col(ColumnDef::new(Player::Id).string().not_null().primary_key())
            .col(ColumnDef::new(Player::TokenHash).binary().not_null().unique_key())
            .col(ColumnDef::new(Player::Guest).boolean().not_null())
            .col(ColumnDef::new(Player::CreatedAt).big_integer().not_null())
            .col(ColumnDef::new(Player::LastSeenAt).big_integer().not_null())
            .to_owned();
        manager.create_table(table).await?;
        // SQLite adds one column a statement.
        for column in [Play::PlayerId, Play::Node, Play::Release] {
            let add =
                Table::alter().table(Session::Table).add_column(ColumnDef::new(column).string().null()).to_owned();
            manager.alter_table(add).await?;
        }
        let by_player = Index::create()
            .name("session_by_player")
            .table(Session::Table)
            .col(Play::PlayerId)
            .col(Session::Id)
            .to_owned();
        manager.create_index(by_player).await
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, DbBackend};

    use super::super::test_store::TestStore;
    use super::*;

    /// With SQLite's or PostgreSQL's way to write 32 bytes.
    fn old_row(hash: &str) -> String {
        format!(
            "INSERT INTO session VALUES ('ses_00000000000000000000000000000001', 'ins_00000000000000000000000000000002', \
             1, 'pong', 640, 360, 30, 6912000, true, 'hash', 'ended', NULL, 5, 'player_left', true, true, 3, 1, 5, 100, \
             {hash}, 200)"
        )
    }

    #[tokio::test]
    async fn a_session_of_the_first_version_is_nobodys_afterwards() {
        let place = TestStore::new();
        let old = place.connect().await;
        Migrator::up(&old, Some(1)).await.unwrap();
        let zeros = "00".repeat(32);
        let is_postgres = old.get_database_backend() == DbBackend::Postgres;
        let hash = if is_postgres { format!("'\\x{zeros}'") } else { format!("x'{zeros}'") };
        old.execute_unprepared(&old_row(&hash)).await.unwrap();
        old.close().await.unwrap();
        let store = place.open().await;
        let sessions = store.newest_sessions(None).await.unwrap();
        assert_eq!(sessions.len(), 1);
        let session = &sessions[0];
        assert_eq!((session.address.as_str(), session.revision), ("hash", 3));
        assert_eq!((session.player_id, session.node, session.release), (None, None, None));
    }
}
