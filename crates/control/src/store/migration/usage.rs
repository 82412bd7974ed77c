//! What was played: sessions that outlive their rows, and the facts of their spans.

use sea_orm_migration::prelude::*;

pub(super) struct CreateUsage;

impl MigrationName for CreateUsage {
    fn name(&self) -> &'static str {
        "m0012_create_usage"
    }
}

#[derive(DeriveIden)]
enum UsageSession {
    Table,
    Session,
    Tenant,
    App,
    Release,
    Player,
    Width,
    Height,
    FramesPerSecond,
    Begun,
    Ended,
    Proven,
    Tracker,
}

#[derive(DeriveIden)]
enum UsageFact {
    Table,
    Session,
    Epoch,
    Span,
    Kind,
    At,
    Closing,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateUsage {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let session = Table::create()
            .table(UsageSession::Table)
            .col(ColumnDef::new(UsageSession::Session).string().not_null().primary_key())
            .col(ColumnDef::new(UsageSession::Tenant).string().not_null())
            .col(ColumnDef::new(UsageSession::App).string().not_null())
            .col(ColumnDef::new(UsageSession::Release).big_integer().null())
            .col(ColumnDef::new(UsageSession::Player).string().null())
            .col(ColumnDef::new(UsageSession::Width).integer().not_null())
            .col(ColumnDef::new(UsageSession::Height).integer().not_null())
            .col(ColumnDef::new(UsageSession::FramesPerSecond).integer().not_null())
            .col(ColumnDef::new(UsageSession::Begun).big_integer().not_null())
            .col(ColumnDef::new(UsageSession::Ended).big_integer().null())
            .col(ColumnDef::new(UsageSession::Proven).big_integer().not_null())
            .col(ColumnDef::new(UsageSession::Tracker).text().not_null())
            .to_owned();
        manager.create_table(session).await?;
        let fact = Table::create()
            .table(UsageFact::Table)
            .col(ColumnDef::new(UsageFact::Session).string().not_null())
            .col(ColumnDef::new(UsageFact::Epoch).integer().not_null())
            .col(ColumnDef::new(UsageFact::Span).integer().not_null())
            .col(ColumnDef::new(UsageFact::Kind).string().not_null())
            .col(ColumnDef::new(UsageFact::At).big_integer().not_null())
            .col(ColumnDef::new(UsageFact::Closing).string().null())
            .primary_key(
                Index::create().col(UsageFact::Session).col(UsageFact::Epoch).col(UsageFact::Span).col(UsageFact::Kind),
            )
            .to_owned();
        manager.create_table(fact).await?;
        for (name, column) in [("usage_by_tenant", UsageSession::Tenant), ("usage_by_player", UsageSession::Player)] {
            let index =
                Index::create().name(name).table(UsageSession::Table).col(column).col(UsageSession::Session).to_owned();
            manager.create_index(index).await?;
        }
        Ok(())
    }
}
