//! What kinds of sessions were measured to take, what nodes have of it, and what sessions were placed with.

use sea_orm_migration::prelude::*;

pub(super) struct CreateDemand;

impl MigrationName for CreateDemand {
    fn name(&self) -> &'static str {
        "m0008_create_demand"
    }
}

#[derive(DeriveIden)]
enum Demand {
    Table,
    App,
    Release,
    Width,
    Height,
    FramesPerSecond,
    CpuMilli,
    MemoryMib,
    EgressKbps,
    Samples,
    Sessions,
    MeasuredAt,
}

#[derive(DeriveIden)]
enum Node {
    Table,
}

#[derive(DeriveIden)]
enum Session {
    Table,
}

/// Columns that this step adds to the tables `node` and `session`.
#[derive(Clone, Copy, DeriveIden)]
enum Amount {
    CpuMilli,
    MemoryMib,
    EgressKbps,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateDemand {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let demand = Table::create()
            .table(Demand::Table)
            .col(ColumnDef::new(Demand::App).string().not_null())
            .col(ColumnDef::new(Demand::Release).big_integer().not_null())
            .col(ColumnDef::new(Demand::Width).integer().not_null())
            .col(ColumnDef::new(Demand::Height).integer().not_null())
            .col(ColumnDef::new(Demand::FramesPerSecond).integer().not_null())
            .col(ColumnDef::new(Demand::CpuMilli).big_integer().not_null())
            .col(ColumnDef::new(Demand::MemoryMib).big_integer().not_null())
            .col(ColumnDef::new(Demand::EgressKbps).big_integer().not_null())
            .col(ColumnDef::new(Demand::Samples).big_integer().not_null())
            .col(ColumnDef::new(Demand::Sessions).big_integer().not_null())
            .col(ColumnDef::new(Demand::MeasuredAt).big_integer().not_null())
            .primary_key(
                Index::create()
                    .col(Demand::App)
                    .col(Demand::Release)
                    .col(Demand::Width)
                    .col(Demand::Height)
                    .col(Demand::FramesPerSecond),
            )
            .to_owned();
        manager.create_table(demand).await?;
        // SQLite adds one column a statement.
        for amount in [Amount::CpuMilli, Amount::MemoryMib, Amount::EgressKbps] {
            let of_node = ColumnDef::new(amount).big_integer().null().to_owned();
            manager.alter_table(Table::alter().table(Node::Table).add_column(of_node).to_owned()).await?;
            let of_session = ColumnDef::new(amount).big_integer().not_null().default(0).to_owned();
            manager.alter_table(Table::alter().table(Session::Table).add_column(of_session).to_owned()).await?;
        }
        Ok(())
    }
}
