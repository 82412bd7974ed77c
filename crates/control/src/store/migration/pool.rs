//! Pools of warm instances. And which of the sessions are such instances.

use sea_orm_migration::prelude::*;

pub(super) struct CreatePool;

impl MigrationName for CreatePool {
    fn name(&self) -> &'static str {
        "m0009_create_pool"
    }
}

#[derive(DeriveIden)]
enum Pool {
    Table,
    Id,
    App,
    Channel,
    Site,
    Width,
    Height,
    FramesPerSecond,
    Size,
    LifetimeS,
    CreatedAt,
}

/// The column that this step adds to the table `session`.
#[derive(DeriveIden)]
enum Session {
    Table,
    Pool,
}

#[async_trait::async_trait]
impl MigrationTrait for CreatePool {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let pool = Table::create()
            .table(Pool::Table)
            .col(ColumnDef::new(Pool::Id).string().not_null().primary_key())
            .col(ColumnDef::new(Pool::App).string().not_null())
            .col(ColumnDef::new(Pool::Channel).string().not_null())
            .col(ColumnDef::new(Pool::Site).string().not_null())
            .col(ColumnDef::new(Pool::Width).integer().not_null())
            .col(ColumnDef::new(Pool::Height).integer().not_null())
            .col(ColumnDef::new(Pool::FramesPerSecond).integer().not_null())
            .col(ColumnDef::new(Pool::Size).integer().not_null())
            .col(ColumnDef::new(Pool::LifetimeS).integer().not_null())
            .col(ColumnDef::new(Pool::CreatedAt).big_integer().not_null())
            .to_owned();
        manager.create_table(pool).await?;
        let of = ColumnDef::new(Session::Pool).string().null().to_owned();
        manager.alter_table(Table::alter().table(Session::Table).add_column(of).to_owned()).await
    }
}
