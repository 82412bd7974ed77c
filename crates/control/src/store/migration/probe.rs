//! What sessions' clients measured of the way to sites.

use sea_orm_migration::prelude::*;

pub(super) struct AddProbes;

impl MigrationName for AddProbes {
    fn name(&self) -> &'static str {
        "m0010_add_probes"
    }
}

#[derive(DeriveIden)]
enum Session {
    Table,
    Probes,
}

#[async_trait::async_trait]
impl MigrationTrait for AddProbes {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let probes = ColumnDef::new(Session::Probes).text().null().to_owned();
        manager.alter_table(Table::alter().table(Session::Table).add_column(probes).to_owned()).await
    }
}
