//! How much releases are wanted on sites, in the database.

use api::content::ReplicaPolicy;
use api::manifest::AppName;
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel};

use super::entity::placement;
use super::{Store, StoreError};

/// How much a release is wanted on a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacementRecord {
    pub(crate) app: String,
    pub(crate) release: u32,
    pub(crate) site: String,
    pub(crate) policy: ReplicaPolicy,
}

impl Store {
    /// Sets how much a release is wanted on a site.
    pub(crate) async fn set_placement(
        &self,
        app: &AppName,
        release: u32,
        site: &str,
        policy: ReplicaPolicy,
    ) -> Result<(), StoreError> {
        let row = placement::Model {
            app: app.to_string(),
            release: i64::from(release),
            site: site.to_owned(),
            policy: word(policy).to_owned(),
        };
        let transaction = self.begin().await?;
        let key = (row.app.clone(), row.release, row.site.clone());
        placement::Entity::delete_by_id(key).exec(&transaction).await?;
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// What is wanted where.
    pub(crate) async fn placements(&self) -> Result<Vec<PlacementRecord>, StoreError> {
        let rows = placement::Entity::find().all(&self.read).await?;
        let read = |row: placement::Model| {
            let policy =
                policy(&row.policy).ok_or_else(|| StoreError::Unreadable { id: row.app.clone(), column: "policy" })?;
            let release = u32::try_from(row.release).unwrap_or(0);
            Ok(PlacementRecord { app: row.app, release, site: row.site, policy })
        };
        rows.into_iter().map(read).collect()
    }
}

fn word(policy: ReplicaPolicy) -> &'static str {
    match policy {
        ReplicaPolicy::Pinned => "pinned",
        ReplicaPolicy::Preferred => "preferred",
        ReplicaPolicy::Anywhere => "anywhere",
    }
}

fn policy(word: &str) -> Option<ReplicaPolicy> {
    [ReplicaPolicy::Pinned, ReplicaPolicy::Preferred, ReplicaPolicy::Anywhere]
        .into_iter()
        .find(|one| self::word(*one) == word)
}
