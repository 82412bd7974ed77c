//! What the content store has to keep, in the database.

use api::clock::UtcTime;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect};

use super::entity::{condemned, release, retired_root, save, upload_object, upload_root};
use super::{Store, StoreError};

/// What has to be kept in the content store.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveContent {
    pub(crate) roots: Vec<String>,
    /// Objects of uploads that go on, as `packs/ID`.
    pub(crate) pending: Vec<String>,
}

impl Store {
    /// What has to be kept, as one moment sees it.
    pub(crate) async fn live_content(&self) -> Result<LiveContent, StoreError> {
        let transaction = self.begin().await?;
        let mut roots: Vec<String> = Vec::new();
        roots.extend(roots_of_releases(&transaction).await?);
        roots.extend(retired_root::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        roots.extend(upload_root::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        roots.extend(save::Entity::find().all(&transaction).await?.into_iter().map(|row| row.root));
        let pending =
            upload_object::Entity::find().all(&transaction).await?.into_iter().map(|row| row.object).collect();
        transaction.rollback().await?;
        roots.sort_unstable();
        roots.dedup();
        Ok(LiveContent { roots, pending })
    }

    /// Notes what the collector is about to remove, and forgets what it was before.
    pub(crate) async fn condemn(&self, names: &[String]) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        condemned::Entity::delete_many().exec(&transaction).await?;
        for part in names.chunks(200) {
            let rows = part.iter().map(|object| condemned::Model { object: object.clone() }.into_active_model());
            condemned::Entity::insert_many(rows).exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Everything that names a root names another one instead, which has the same files; the old one is live for a while yet. False when nothing
    /// named it.
    pub(crate) async fn replace_root(&self, old: &str, new: &str, at: UtcTime) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let swing = release::Entity::update_many().col_expr(release::Column::Root, Expr::val(new));
        let swung = swing.filter(release::Column::Root.eq(old)).exec(&transaction).await?.rows_affected;
        if swung == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        retired_root::Entity::delete_by_id(old.to_owned()).exec(&transaction).await?;
        let row = retired_root::Model { root: old.to_owned(), retired_at: at.unix_ms() };
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Forgets roots that were replaced before: the collector may have what only they named.
    pub(crate) async fn forget_retired_before(&self, time: UtcTime) -> Result<(), StoreError> {
        // One statement: it decides by each row alone, and a root that is retired again is a row that it does not see as old.
        let old = retired_root::Column::RetiredAt.lt(time.unix_ms());
        retired_root::Entity::delete_many().filter(old).exec(&self.write).await?;
        Ok(())
    }

    /// The roots of all releases.
    pub(crate) async fn release_roots(&self) -> Result<Vec<String>, StoreError> {
        roots_of_releases(&self.read).await
    }
}

async fn roots_of_releases(connection: &impl ConnectionTrait) -> Result<Vec<String>, StoreError> {
    // Without the pictures, which are the larger part of a row.
    Ok(release::Entity::find().select_only().column(release::Column::Root).into_tuple().all(connection).await?)
}
