//! Releases in the database.

use api::clock::UtcTime;
use api::id::{ContentId, UploadId};
use api::manifest::AppName;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::channel::{add_change, channels};
use super::entity::{app, placement, release, session, upload};
use super::upload::remove_upload;
use super::{Store, StoreError};

/// Releases of an app that a list has.
const LIST_LENGTH: u64 = 1000;

/// A release with everything that is known of it but its picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseRecord {
    pub(crate) app: AppName,
    pub(crate) number: u32,
    pub(crate) content: ContentId,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) manifest: String,
    pub(crate) created_at: UtcTime,
}

/// What a new release is made of.
#[derive(Clone, Debug)]
pub(crate) struct NewRelease {
    pub(crate) content: ContentId,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) manifest: String,
    pub(crate) picture: Option<Vec<u8>>,
    /// Channels that point to it from its first moment on.
    pub(crate) channels: Vec<String>,
}

/// What became of the removal of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReleaseRemoval {
    /// It is not there any more.
    Done,
    /// These channels point to it.
    Pointed(Vec<String>),
    /// So many sessions play it.
    Played(u64),
}

impl Store {
    /// Makes a release of an upload: one transaction, after which the release is what holds the content. `None` when the upload has
    /// ended, or the app became another tenant's meanwhile.
    pub(crate) async fn release(
        &self,
        id: UploadId,
        new: NewRelease,
        at: UtcTime,
    ) -> Result<Option<ReleaseRecord>, StoreError> {
        let transaction = self.begin().await?;
        let Some(upload) = upload::Entity::find_by_id(id.to_string()).one(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let known = app::Entity::find_by_id(upload.app.clone()).one(&transaction).await?;
        if known.as_ref().is_some_and(|app| app.tenant != upload.tenant) {
            transaction.rollback().await?;
            return Ok(None);
        }
        let newest = release::Entity::find().filter(release::Column::App.eq(upload.app.as_str()));
        let newest = newest.order_by_desc(release::Column::Number).one(&transaction).await?.map(|row| row.number);
        // The number of a release that was removed is not given again: plays name it.
        let released = 1 + newest.max(known.as_ref().map(|app| app.released)).unwrap_or(0);
        let created_at = known.as_ref().map_or(at.unix_ms(), |app| app.created_at);
        let app = app::Model { name: upload.app.clone(), tenant: upload.tenant.clone(), released, created_at };
        let app = app.into_active_model().reset_all();
        if known.is_some() {
            app.update(&transaction).await?
        } else {
            app.insert(&transaction).await?
        };
        let row = release::Model {
            app: upload.app.clone(),
            number: released,
            root: new.content.to_string(),
            bytes: i64::try_from(new.bytes).unwrap_or(i64::MAX),
            files: i64::try_from(new.files).unwrap_or(i64::MAX),
            manifest: new.manifest,
            picture: new.picture,
            created_at: at.unix_ms(),
        };
        row.clone().into_active_model().insert(&transaction).await?;
        for channel in new.channels {
            add_change(&transaction, &upload.app, &channel, row.number, at).await?;
        }
        remove_upload(&transaction, &upload.id).await?;
        transaction.commit().await?;
        release_of(row).map(Some)
    }

    /// All releases, oldest first.
    pub(crate) async fn releases(&self) -> Result<Vec<ReleaseRecord>, StoreError> {
        let rows = without_picture().order_by_asc(release::Column::App).order_by_asc(release::Column::Number);
        rows.all(&self.read).await?.into_iter().map(release_of).collect()
    }

    /// The newest releases of an app, newest first.
    pub(crate) async fn releases_of(&self, app: &AppName) -> Result<Vec<ReleaseRecord>, StoreError> {
        let rows = without_picture().filter(release::Column::App.eq(app.to_string()));
        let rows = rows.order_by_desc(release::Column::Number).limit(LIST_LENGTH).all(&self.read).await?;
        rows.into_iter().map(release_of).collect()
    }

    /// One release.
    pub(crate) async fn release_of(&self, app: &AppName, number: u32) -> Result<Option<ReleaseRecord>, StoreError> {
        let own = without_picture().filter(release::Column::App.eq(app.to_string()));
        let row = own.filter(release::Column::Number.eq(i64::from(number))).one(&self.read).await?;
        row.map(release_of).transpose()
    }

    /// A release's picture.
    pub(crate) async fn picture(&self, app: &AppName, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let row = release::Entity::find_by_id((app.to_string(), i64::from(number))).one(&self.read).await?;
        Ok(row.and_then(|row| row.picture))
    }

    /// Removes a release that no channel points to and nobody plays.
    pub(crate) async fn remove_release(&self, app: &AppName, number: u32) -> Result<ReleaseRemoval, StoreError> {
        let transaction = self.begin().await?;
        let points = channels(&transaction, Some(app)).await?.into_iter().filter(|one| one.release == number);
        let points: Vec<String> = points.map(|one| format!("`{}`", one.name)).collect();
        if !points.is_empty() {
            transaction.rollback().await?;
            return Ok(ReleaseRemoval::Pointed(points));
        }
        let plays = session::Entity::find().filter(super::session::live());
        let plays = plays.filter(session::Column::App.eq(app.to_string()));
        let plays = plays.filter(session::Column::Release.eq(number.to_string())).count(&transaction).await?;
        if plays > 0 {
            transaction.rollback().await?;
            return Ok(ReleaseRemoval::Played(plays));
        }
        release::Entity::delete_by_id((app.to_string(), i64::from(number))).exec(&transaction).await?;
        let placed = placement::Entity::delete_many().filter(placement::Column::App.eq(app.to_string()));
        placed.filter(placement::Column::Release.eq(i64::from(number))).exec(&transaction).await?;
        transaction.commit().await?;
        Ok(ReleaseRemoval::Done)
    }
}

/// Pictures are the larger part of a row, and wanted by one question alone.
fn without_picture() -> Select<release::Entity> {
    use release::Column as C;
    let columns = [C::App, C::Number, C::Root, C::Bytes, C::Files, C::Manifest, C::CreatedAt];
    let columns = release::Entity::find().select_only().columns(columns);
    columns.column_as(Expr::val(None::<Vec<u8>>), C::Picture)
}

fn release_of(row: release::Model) -> Result<ReleaseRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: format!("{} {}", row.app, row.number), column };
    Ok(ReleaseRecord {
        app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
        number: u32::try_from(row.number).map_err(|_range| unreadable("number"))?,
        content: ContentId::try_from(row.root.clone()).map_err(|_no_id| unreadable("root"))?,
        bytes: u64::try_from(row.bytes).map_err(|_range| unreadable("bytes"))?,
        files: u64::try_from(row.files).map_err(|_range| unreadable("files"))?,
        manifest: row.manifest.clone(),
        created_at: UtcTime::from_unix_ms(row.created_at),
    })
}
