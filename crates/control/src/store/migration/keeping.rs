//! What compaction, removed releases and saves that were not kept need.

use sea_orm_migration::prelude::*;

pub(super) struct AddKeeping;

impl MigrationName for AddKeeping {
    fn name(&self) -> &'static str {
        "m0004_add_keeping"
    }
}

#[derive(DeriveIden)]
enum Session {
    Table,
    Unsaved,
}

#[derive(DeriveIden)]
enum App {
    Table,
    Released,
}

#[derive(DeriveIden)]
enum RetiredRoot {
    Table,
    Root,
    RetiredAt,
}

#[async_trait::async_trait]
impl MigrationTrait for AddKeeping {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let unsaved = ColumnDef::new(Session::Unsaved).string().null().to_owned();
        manager.alter_table(Table::alter().table(Session::Table).add_column(unsaved).to_owned()).await?;
        let released = ColumnDef::new(App::Released).big_integer().not_null().default(0).to_owned();
        manager.alter_table(Table::alter().table(App::Table).add_column(released).to_owned()).await?;
        let retired = Table::create()
            .table(RetiredRoot::Table)
            .col(ColumnDef::new(RetiredRoot::Root).string().not_null().primary_key())
            .col(ColumnDef::new(RetiredRoot::RetiredAt).big_integer().not_null())
            .to_owned();
        manager.create_table(retired).await
    }
}
