//! Uploads that go on, in the database.

use api::clock::UtcTime;
use api::id::{ContentId, UploadId};
use api::manifest::AppName;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use super::entity::{app, condemned, release, upload, upload_object, upload_root};
use super::{Store, StoreError};

/// An upload that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadRecord {
    pub(crate) id: UploadId,
    pub(crate) app: AppName,
    pub(crate) tenant: String,
    /// What it may refer to besides its own packs, newest first.
    pub(crate) roots: Vec<ContentId>,
    /// What it wrote or was about to, as `packs/ID`.
    pub(crate) objects: Vec<String>,
}

/// What became of the note of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is noted: it can be written.
    Yes,
    /// The upload has ended.
    Ended,
    /// The collector is about to remove it: try again in a moment.
    Condemned,
}

impl Store {
    /// Begins an upload: notes what it may refer to, so that the collector leaves it, and takes over what arrived of the tenant's
    /// unfinished uploads of this app.
    pub(crate) async fn begin_upload(
        &self,
        id: UploadId,
        app: &AppName,
        tenant: &str,
        at: UtcTime,
    ) -> Result<UploadRecord, StoreError> {
        let transaction = self.begin().await?;
        let mut roots: Vec<String> = Vec::new();
        let apps: Vec<String> = app::Entity::find()
            .filter(app::Column::Tenant.eq(tenant))
            .all(&transaction)
            .await?
            .into_iter()
            .map(|row| row.name)
            .collect();
        // Its own releases first, the newest of them before all; then those of the tenant's other apps.
        let own = release::Entity::find().filter(release::Column::App.eq(app.to_string()));
        let own = own.order_by_desc(release::Column::Number).limit(8).all(&transaction).await?;
        roots.extend(own.into_iter().map(|row| row.root));
        for other in apps.iter().filter(|other| *other != app.as_str()).take(64) {
            let newest = release::Entity::find().filter(release::Column::App.eq(other.as_str()));
            let newest = newest.order_by_desc(release::Column::Number).one(&transaction).await?;
            roots.extend(newest.map(|row| row.root));
        }
        let open = upload::Entity::find()
            .filter(upload::Column::App.eq(app.to_string()))
            .filter(upload::Column::Tenant.eq(tenant));
        let open: Vec<String> = open.all(&transaction).await?.into_iter().map(|row| row.id).collect();
        let packs = upload_object::Entity::find().filter(upload_object::Column::Upload.is_in(open));
        let mut packs: Vec<String> = packs.all(&transaction).await?.into_iter().map(|row| row.object).collect();
        packs.sort_unstable();
        packs.dedup();
        let mut seen = std::collections::HashSet::new();
        roots.retain(|root| seen.insert(root.clone()));
        let row = upload::Model {
            id: id.to_string(),
            app: app.to_string(),
            tenant: tenant.to_owned(),
            created_at: at.unix_ms(),
            active_at: at.unix_ms(),
        };
        row.into_active_model().insert(&transaction).await?;
        for root in &roots {
            let row = upload_root::Model { upload: id.to_string(), root: root.clone() };
            row.into_active_model().insert(&transaction).await?;
        }
        for pack in &packs {
            let row = upload_object::Model { upload: id.to_string(), object: pack.clone() };
            row.into_active_model().insert(&transaction).await?;
        }
        transaction.commit().await?;
        let roots = roots.into_iter().filter_map(|root| ContentId::try_from(root).ok()).collect();
        Ok(UploadRecord { id, app: app.clone(), tenant: tenant.to_owned(), roots, objects: packs })
    }

    /// An upload that is going on.
    pub(crate) async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>, StoreError> {
        let Some(row) = upload::Entity::find_by_id(id.to_string()).one(&self.read).await? else { return Ok(None) };
        let roots = upload_root::Entity::find().filter(upload_root::Column::Upload.eq(id.to_string()));
        let roots =
            roots.all(&self.read).await?.into_iter().filter_map(|row| ContentId::try_from(row.root).ok()).collect();
        let packs = upload_object::Entity::find().filter(upload_object::Column::Upload.eq(id.to_string()));
        let packs = packs.all(&self.read).await?.into_iter().map(|row| row.object).collect();
        let app = row.app.parse().map_err(|_no_name| StoreError::Unreadable { id: row.id, column: "app" })?;
        Ok(Some(UploadRecord { id, app, tenant: row.tenant, roots, objects: packs }))
    }

    /// Notes objects that an upload is about to write, as `packs/ID`, and that the upload goes on.
    pub(crate) async fn note_objects(&self, id: UploadId, names: &[String], at: UtcTime) -> Result<Noted, StoreError> {
        let transaction = self.begin().await?;
        let active = upload::Entity::update_many().col_expr(upload::Column::ActiveAt, Expr::val(at.unix_ms()));
        let found = active.filter(upload::Column::Id.eq(id.to_string())).exec(&transaction).await?.rows_affected > 0;
        if !found {
            transaction.rollback().await?;
            return Ok(Noted::Ended);
        }
        for name in names {
            if condemned::Entity::find_by_id(name.clone()).one(&transaction).await?.is_some() {
                transaction.rollback().await?;
                return Ok(Noted::Condemned);
            }
            if upload_object::Entity::find_by_id((id.to_string(), name.clone())).one(&transaction).await?.is_none() {
                let row = upload_object::Model { upload: id.to_string(), object: name.clone() };
                row.into_active_model().insert(&transaction).await?;
            }
        }
        transaction.commit().await?;
        Ok(Noted::Yes)
    }

    /// Ends an upload without a release.
    pub(crate) async fn abandon_upload(&self, id: UploadId) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        remove_upload(&transaction, &id.to_string()).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends uploads that nobody went on with since; how many.
    pub(crate) async fn forget_uploads_before(&self, time: UtcTime) -> Result<usize, StoreError> {
        let transaction = self.begin().await?;
        let old = upload::Entity::find().filter(upload::Column::ActiveAt.lt(time.unix_ms())).all(&transaction).await?;
        for row in &old {
            remove_upload(&transaction, &row.id).await?;
        }
        transaction.commit().await?;
        Ok(old.len())
    }
}

/// Forgets what an upload noted, and the upload.
pub(super) async fn remove_upload(connection: &impl ConnectionTrait, id: &str) -> Result<(), StoreError> {
    upload_object::Entity::delete_many().filter(upload_object::Column::Upload.eq(id)).exec(connection).await?;
    upload_root::Entity::delete_many().filter(upload_root::Column::Upload.eq(id)).exec(connection).await?;
    upload::Entity::delete_by_id(id.to_owned()).exec(connection).await?;
    Ok(())
}
