//! Tenants, and whose an app is, in the database.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::fleet::TenantGrant;
use api::manifest::AppName;
use sea_orm::sea_query::Expr;
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
        let row = tenant::Model {
            name: name.to_string(),
            token_hash: hash.to_vec(),
            created_at: at.unix_ms(),
            guarantee: None,
            borrow: None,
            maximum: None,
            weight: None,
        };
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The tenant whose token has this hash.
    pub(crate) async fn tenant_by_token(&self, hash: [u8; 32]) -> Result<Option<String>, StoreError> {
        let row = tenant::Entity::find().filter(tenant::Column::TokenHash.eq(hash.to_vec())).one(&self.read).await?;
        Ok(row.map(|row| row.name))
    }

    /// Sets what a tenant may use at once; false when there is no such tenant.
    pub(crate) async fn set_grant(&self, name: &str, grant: TenantGrant) -> Result<bool, StoreError> {
        let value = |number: u32| Expr::val(Some(i64::from(number)));
        let update = tenant::Entity::update_many()
            .col_expr(tenant::Column::Guarantee, value(grant.guarantee))
            .col_expr(tenant::Column::Borrow, value(grant.borrow))
            .col_expr(tenant::Column::Maximum, Expr::val(grant.maximum.map(i64::from)))
            .col_expr(tenant::Column::Weight, value(grant.weight));
        let updated = update.filter(tenant::Column::Name.eq(name)).exec(&self.write).await?;
        Ok(updated.rows_affected > 0)
    }

    /// What tenants may use at once, by name; a tenant without a bound is not among them.
    pub(crate) async fn grants(&self) -> Result<BTreeMap<String, TenantGrant>, StoreError> {
        let bound = tenant::Entity::find().filter(tenant::Column::Guarantee.is_not_null());
        let read = |row: tenant::Model| {
            let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
            let grant = TenantGrant {
                guarantee: number(row.guarantee)?,
                borrow: number(row.borrow)?,
                maximum: number(row.maximum),
                weight: number(row.weight)?,
            };
            Some((row.name, grant))
        };
        let unreadable = |id: String| StoreError::Unreadable { id, column: "guarantee" };
        let rows = bound.all(&self.read).await?.into_iter();
        rows.map(|row| (row.name.clone(), read(row))).map(|(id, row)| row.ok_or_else(|| unreadable(id))).collect()
    }

    /// Whose is this app?
    pub(crate) async fn owner(&self, app: &AppName) -> Result<Owner, StoreError> {
        let row = app::Entity::find_by_id(app.to_string()).one(&self.read).await?;
        Ok(row.map_or(Owner::Nobody, |row| Owner::Tenant(row.tenant)))
    }
}
