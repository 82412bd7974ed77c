//! Tenants, apps, releases, channels, uploads, copies on sites, saves.

use sea_orm_migration::prelude::*;

pub(super) struct CreateContent;

impl MigrationName for CreateContent {
    fn name(&self) -> &'static str {
        "m0003_create_content"
    }
}

#[derive(DeriveIden)]
enum Column {
    Id,
    Name,
    Tenant,
    TokenHash,
    App,
    Number,
    Root,
    Bytes,
    Files,
    Manifest,
    Picture,
    Channel,
    Release,
    Upload,
    Object,
    Site,
    Policy,
    PlayerId,
    Session,
    Sequence,
    Kind,
    Settled,
    Version,
    Start,
    Merges,
    Parent,
    CreatedAt,
    ChangedAt,
    ActiveAt,
}

fn text(column: Column) -> ColumnDef {
    ColumnDef::new(column).string().not_null().to_owned()
}

fn number(column: Column) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().to_owned()
}

fn table(name: &'static str, columns: impl IntoIterator<Item = ColumnDef>, key: &[Column]) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(Alias::new(name));
    for mut column in columns {
        table.col(&mut column);
    }
    let mut primary = Index::create();
    for column in key {
        primary.col(Alias::new(column.to_string()));
    }
    table.primary_key(&mut primary);
    table
}

#[async_trait::async_trait]
impl MigrationTrait for CreateContent {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use Column as C;
        let token = ColumnDef::new(C::TokenHash).binary().not_null().unique_key().to_owned();
        let picture = ColumnDef::new(C::Picture).binary().null().to_owned();
        let change = ColumnDef::new(C::Id).big_integer().not_null().auto_increment().primary_key().to_owned();
        let session = ColumnDef::new(C::Session).string().null().to_owned();
        let settled = ColumnDef::new(C::Settled).boolean().not_null().to_owned();
        let mut channel_change = Table::create();
        channel_change.table(Alias::new("channel_change"));
        for mut column in [change, text(C::App), text(C::Channel), number(C::Release), number(C::ChangedAt)] {
            channel_change.col(&mut column);
        }
        let tables = [
            table("tenant", [text(C::Name), token, number(C::CreatedAt)], &[C::Name]),
            table("app", [text(C::Name), text(C::Tenant), number(C::CreatedAt)], &[C::Name]),
            table(
                "release",
                [
                    text(C::App),
                    number(C::Number),
                    text(C::Root),
                    number(C::Bytes),
                    number(C::Files),
                    text(C::Manifest),
                    picture,
                    number(C::CreatedAt),
                ],
                &[C::App, C::Number],
            ),
            channel_change,
            table(
                "upload",
                [text(C::Id), text(C::App), text(C::Tenant), number(C::CreatedAt), number(C::ActiveAt)],
                &[C::Id],
            ),
            table("upload_object", [text(C::Upload), text(C::Object)], &[C::Upload, C::Object]),
            table("condemned", [text(C::Object)], &[C::Object]),
            table("upload_root", [text(C::Upload), text(C::Root)], &[C::Upload, C::Root]),
            table(
                "placement",
                [text(C::App), number(C::Release), text(C::Site), text(C::Policy)],
                &[C::App, C::Release, C::Site],
            ),
            table(
                "save",
                [
                    text(C::Id),
                    text(C::PlayerId),
                    text(C::App),
                    text(C::Root),
                    number(C::Bytes),
                    number(C::Files),
                    session,
                    number(C::Sequence),
                    text(C::Kind),
                    settled,
                    number(C::CreatedAt),
                ],
                &[C::Id],
            ),
            table(
                "session_save",
                [
                    text(C::Session),
                    text(C::PlayerId),
                    text(C::App),
                    ColumnDef::new(C::Start).string().null().to_owned(),
                    text(C::Merges),
                ],
                &[C::Session],
            ),
            table("save_parent", [text(C::Version), text(C::Parent)], &[C::Version, C::Parent]),
        ];
        for table in tables {
            manager.create_table(table).await?;
        }
        let index = |name: &str, table: &'static str, columns: &[Column], unique: bool| {
            let mut index = Index::create();
            index.name(name).table(Alias::new(table));
            for column in columns {
                index.col(Alias::new(column.to_string()));
            }
            if unique {
                index.unique();
            }
            index
        };
        manager.create_index(index("channel_by_app", "channel_change", &[C::App, C::Channel, C::Id], false)).await?;
        manager.create_index(index("save_by_player", "save", &[C::PlayerId, C::App, C::Id], false)).await?;
        // The same capture is told many times and is one version.
        manager.create_index(index("save_by_session", "save", &[C::Session, C::Sequence], true)).await
    }
}
