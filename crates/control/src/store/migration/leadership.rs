//! Who leads, of several replicas on one database.

use sea_orm_migration::prelude::*;

/// Version 0.1: leadership.
pub(super) struct CreateLeadership;

impl MigrationName for CreateLeadership {
    fn name(&self) -> &'static str {
        "m0007_create_leadership"
    }
}

#[derive(DeriveIden)]
enum Leadership {
    Table,
    Id,
    Term,
    Address,
    Pass,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateLeadership {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table(Leadership::Table)
            .col(ColumnDef::new(Leadership::Id).integer().not_null().primary_key())
            .col(ColumnDef::new(Leadership::Term).big_integer().not_null())
            .col(ColumnDef::new(Leadership::Address).string().null())
            .col(ColumnDef::new(Leadership::Pass).binary().not_null())
            .to_owned();
        manager.create_table(table).await
    }
}
