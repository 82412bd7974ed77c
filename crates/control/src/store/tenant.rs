//! Tenants, and whose an app is, in the database.

use api::clock::UtcTime;
use api::manifest::AppName;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::entity::{app, tenant};
use super::{Store, StoreError};

/// Whose an app is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This tenant's.
    Tenant(String),
    /// Nobody's: there is none.
    Nobody,
}

impl Store {
    /// Adds a tenant; false when there is one of this name.
    pub(crate) async fn add_tenant(&self, name: &AppName, hash: [u8; 32], at: UtcTime) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        if tenant::Entity::find_by_id(name.to_string()).one(&transaction).await?.is_some() {
            transaction.rollback().await?;
            return Ok(false);
        }
        let row = tenant::Model { name: name.to_string(), token_hash: hash.to_vec(), created_at: at.unix_ms() };
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The tenant whose token has this hash.
    pub(crate) async fn tenant_by_token(&self, hash: [u8; 32]) -> Result<Option<String>, StoreError> {
        let row = tenant::Entity::find().filter(tenant::Column::TokenHash.eq(hash.to_vec())).one(&self.read).await?;
        Ok(row.map(|row| row.name))
    }

    /// Whose is this app?
    pub(crate) async fn owner(&self, app: &AppName) -> Result<Owner, StoreError> {
        let row = app::Entity::find_by_id(app.to_string()).one(&self.read).await?;
        Ok(row.map_or(Owner::Nobody, |row| Owner::Tenant(row.tenant)))
    }
}
