//! Keys with roles, tenants with settings, and the record of changes. The token of each tenant becomes its first key.

use sea_orm::Statement;
use sea_orm_migration::prelude::*;
use uuid::Uuid;

pub(super) struct CreateAccess;

impl MigrationName for CreateAccess {
    fn name(&self) -> &'static str {
        "m0011_create_access"
    }
}

#[derive(DeriveIden)]
enum ApiKey {
    Table,
    Id,
    Tenant,
    Name,
    Role,
    Rights,
    Hash,
    EndsWith,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
    RevokedAt,
}

#[derive(DeriveIden)]
enum Audit {
    Table,
    Id,
    At,
    ActorKind,
    ActorId,
    ActorName,
    Tenant,
    Action,
    Target,
    Before,
    After,
}

/// The table of before, without its tokens and with what is set.
#[derive(Clone, Copy, DeriveIden)]
enum Tenant {
    Table,
    Name,
    CreatedAt,
    State,
    Title,
    TimeZone,
    Currency,
    Colour,
    SessionsPerPlayer,
    ReleasesMb,
    Guarantee,
    Borrow,
    Maximum,
    Weight,
}

#[derive(DeriveIden)]
enum TenantBefore {
    Table,
}

#[async_trait::async_trait]
impl MigrationTrait for CreateAccess {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        create_keys(manager).await?;
        create_audit(manager).await?;
        // A column with a unique index cannot be taken away on SQLite: the table is made anew.
        let rename = Table::rename().table(Tenant::Table, TenantBefore::Table).to_owned();
        manager.rename_table(rename).await?;
        create_tenants(manager).await?;
        move_tenants(manager.get_connection()).await?;
        manager.drop_table(Table::drop().table(TenantBefore::Table).to_owned()).await
    }
}

async fn create_keys(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let key = Table::create()
        .table(ApiKey::Table)
        .col(ColumnDef::new(ApiKey::Id).string().not_null().primary_key())
        .col(ColumnDef::new(ApiKey::Tenant).string().null())
        .col(ColumnDef::new(ApiKey::Name).string().not_null())
        .col(ColumnDef::new(ApiKey::Role).string().not_null())
        .col(ColumnDef::new(ApiKey::Rights).text().null())
        .col(ColumnDef::new(ApiKey::Hash).binary().not_null().unique_key())
        .col(ColumnDef::new(ApiKey::EndsWith).string().not_null())
        .col(ColumnDef::new(ApiKey::CreatedAt).big_integer().not_null())
        .col(ColumnDef::new(ApiKey::ExpiresAt).big_integer().null())
        .col(ColumnDef::new(ApiKey::LastUsedAt).big_integer().null())
        .col(ColumnDef::new(ApiKey::RevokedAt).big_integer().null())
        .to_owned();
    manager.create_table(key).await?;
    let of_tenant =
        Index::create().name("api_key_by_tenant").table(ApiKey::Table).col(ApiKey::Tenant).col(ApiKey::Id).to_owned();
    manager.create_index(of_tenant).await
}

async fn create_audit(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let audit = Table::create()
        .table(Audit::Table)
        .col(ColumnDef::new(Audit::Id).string().not_null().primary_key())
        .col(ColumnDef::new(Audit::At).big_integer().not_null())
        .col(ColumnDef::new(Audit::ActorKind).string().not_null())
        .col(ColumnDef::new(Audit::ActorId).string().null())
        .col(ColumnDef::new(Audit::ActorName).string().null())
        .col(ColumnDef::new(Audit::Tenant).string().null())
        .col(ColumnDef::new(Audit::Action).string().not_null())
        .col(ColumnDef::new(Audit::Target).string().not_null())
        .col(ColumnDef::new(Audit::Before).text().null())
        .col(ColumnDef::new(Audit::After).text().null())
        .to_owned();
    manager.create_table(audit).await?;
    let of_tenant =
        Index::create().name("audit_by_tenant").table(Audit::Table).col(Audit::Tenant).col(Audit::Id).to_owned();
    manager.create_index(of_tenant).await
}

async fn create_tenants(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut tenant = Table::create();
    tenant
        .table(Tenant::Table)
        .col(ColumnDef::new(Tenant::Name).string().not_null().primary_key())
        .col(ColumnDef::new(Tenant::CreatedAt).big_integer().not_null());
    for text in [Tenant::State, Tenant::Title, Tenant::TimeZone, Tenant::Currency] {
        tenant.col(ColumnDef::new(text).string().not_null());
    }
    tenant.col(ColumnDef::new(Tenant::Colour).string().null());
    let numbers = [
        Tenant::SessionsPerPlayer,
        Tenant::ReleasesMb,
        Tenant::Guarantee,
        Tenant::Borrow,
        Tenant::Maximum,
        Tenant::Weight,
    ];
    for number in numbers {
        tenant.col(ColumnDef::new(number).big_integer().null());
    }
    manager.create_table(tenant).await
}

async fn move_tenants(connection: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let move_rows = "INSERT INTO tenant (name, created_at, state, title, time_zone, currency, guarantee, borrow, maximum, weight) \
                     SELECT name, created_at, 'active', name, 'UTC', 'EUR', guarantee, borrow, maximum, weight FROM tenant_before";
    connection.execute_unprepared(move_rows).await?;
    let tenants = Statement::from_string(backend, "SELECT name, token_hash, created_at FROM tenant_before");
    for row in connection.query_all_raw(tenants).await? {
        let (name, hash): (String, Vec<u8>) = (row.try_get("", "name")?, row.try_get("", "token_hash")?);
        let created_at: i64 = row.try_get("", "created_at")?;
        let id = format!("key_{}", Uuid::now_v7().simple());
        let insert = Query::insert()
            .into_table(ApiKey::Table)
            .columns([
                ApiKey::Id,
                ApiKey::Tenant,
                ApiKey::Name,
                ApiKey::Role,
                ApiKey::Hash,
                ApiKey::EndsWith,
                ApiKey::CreatedAt,
            ])
            .values_panic([
                id.into(),
                name.into(),
                "first".into(),
                "owner".into(),
                hash.into(),
                // What it ended with was never kept.
                "????".into(),
                created_at.into(),
            ])
            .to_owned();
        connection.execute(&insert).await?;
    }
    Ok(())
}
