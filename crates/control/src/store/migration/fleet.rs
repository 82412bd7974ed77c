//! Nodes, the tokens by which they join, what tenants may use at once, and where sessions are placed and why.

use sea_orm_migration::prelude::*;

pub(super) struct CreateFleet;

impl MigrationName for CreateFleet {
    fn name(&self) -> &'static str {
        "m0005_create_fleet"
    }
}

#[derive(DeriveIden)]
enum Node {
    Table,
    Id,
    Name,
    Site,
    Class,
    Duty,
    Sessions,
    PixelsPerSecond,
    JoinedAt,
}

#[derive(DeriveIden)]
enum JoinToken {
    Table,
    SecretHash,
    Site,
    Class,
    CreatedAt,
    ExpiresAt,
    Node,
    Key,
}

/// Columns that this step adds to the table `session`.
#[derive(DeriveIden)]
enum Session {
    Table,
    Node,
    State,
    Tenant,
    Explanation,
}

/// Columns that this step adds to the table `tenant`.
#[derive(DeriveIden)]
enum Tenant {
    Table,
    Guarantee,
    Borrow,
    Maximum,
    Weight,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateFleet {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let node = Table::create()
            .table(Node::Table)
            .col(ColumnDef::new(Node::Id).string().not_null().primary_key())
            .col(ColumnDef::new(Node::Name).string().not_null())
            .col(ColumnDef::new(Node::Site).string().not_null())
            .col(ColumnDef::new(Node::Class).string().not_null())
            .col(ColumnDef::new(Node::Duty).string().not_null())
            .col(ColumnDef::new(Node::Sessions).big_integer().not_null())
            .col(ColumnDef::new(Node::PixelsPerSecond).big_integer().not_null())
            .col(ColumnDef::new(Node::JoinedAt).big_integer().not_null())
            .to_owned();
        manager.create_table(node).await?;
        let token = Table::create()
            .table(JoinToken::Table)
            .col(ColumnDef::new(JoinToken::SecretHash).binary().not_null().primary_key())
            .col(ColumnDef::new(JoinToken::Site).string().not_null())
            .col(ColumnDef::new(JoinToken::Class).string().not_null())
            .col(ColumnDef::new(JoinToken::CreatedAt).big_integer().not_null())
            .col(ColumnDef::new(JoinToken::ExpiresAt).big_integer().not_null())
            .col(ColumnDef::new(JoinToken::Node).string().null())
            .col(ColumnDef::new(JoinToken::Key).binary().null())
            .to_owned();
        manager.create_table(token).await?;
        // SQLite adds one column a statement.
        for column in [Session::Tenant, Session::Explanation] {
            let column = ColumnDef::new(column).text().null().to_owned();
            manager.alter_table(Table::alter().table(Session::Table).add_column(column).to_owned()).await?;
        }
        for column in [Tenant::Guarantee, Tenant::Borrow, Tenant::Maximum, Tenant::Weight] {
            let column = ColumnDef::new(column).big_integer().null().to_owned();
            manager.alter_table(Table::alter().table(Tenant::Table).add_column(column).to_owned()).await?;
        }
        let by_node = Index::create()
            .name("session_by_node")
            .table(Session::Table)
            .col(Session::Node)
            .col(Session::State)
            .to_owned();
        manager.create_index(by_node).await
    }
}
