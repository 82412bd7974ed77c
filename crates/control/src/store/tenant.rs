//! Tenants, and whose an app is, in the database.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::fleet::TenantGrant;
use api::manifest::AppName;
use api::tenant::{Tenant, TenantLimits, TenantSettings, TenantState};
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect};

use super::audit::{AuditRecord, note};
use super::entity::{api_key, app, release, tenant};
use super::key::{KeyRecord, to_row as key_row};
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
    /// Adds a tenant with its first key; false when there is one of this name.
    pub(crate) async fn add_tenant(
        &self,
        record: &Tenant,
        first: &KeyRecord,
        audit: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        if tenant::Entity::find_by_id(record.name.to_string()).one(&transaction).await?.is_some() {
            transaction.rollback().await?;
            return Ok(false);
        }
        to_row(record).into_active_model().insert(&transaction).await?;
        key_row(first).into_active_model().insert(&transaction).await?;
        note(&transaction, audit).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// All tenants, by name.
    pub(crate) async fn tenants(&self) -> Result<Vec<Tenant>, StoreError> {
        let rows = tenant::Entity::find().order_by_asc(tenant::Column::Name).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Those that are suspended or closed.
    pub(crate) async fn inactive_tenants(&self) -> Result<BTreeMap<String, TenantState>, StoreError> {
        let inactive = tenant::Entity::find().filter(tenant::Column::State.ne(TenantState::Active.word()));
        let rows = inactive.all(&self.read).await?.into_iter();
        let unreadable = |id: String| StoreError::Unreadable { id, column: "state" };
        let read = |row: tenant::Model| {
            TenantState::from_word(&row.state)
                .map(|state| (row.name.clone(), state))
                .ok_or_else(|| unreadable(row.name))
        };
        rows.map(read).collect()
    }

    /// One tenant.
    pub(crate) async fn tenant(&self, name: &str) -> Result<Option<Tenant>, StoreError> {
        tenant::Entity::find_by_id(name.to_owned()).one(&self.read).await?.map(from_row).transpose()
    }

    /// Changes a tenant's settings or state to what `next` makes of it; `None` when there is none, or `next` leaves it.
    pub(crate) async fn change_tenant<E>(
        &self,
        name: &str,
        next: impl FnOnce(&Tenant) -> Result<Option<(Tenant, AuditRecord)>, E>,
    ) -> Result<Option<Result<Tenant, E>>, StoreError> {
        let transaction = self.begin().await?;
        let Some(row) = tenant::Entity::find_by_id(name.to_owned()).one(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let grant = (row.guarantee, row.borrow, row.maximum, row.weight);
        let old = from_row(row)?;
        let (new, audit) = match next(&old) {
            Ok(Some(changed)) => changed,
            unchanged => {
                transaction.rollback().await?;
                return Ok(Some(unchanged.map(|_none| old)));
            }
        };
        let (guarantee, borrow, maximum, weight) = grant;
        let row = tenant::Model { guarantee, borrow, maximum, weight, ..to_row(&new) };
        row.into_active_model().reset_all().update(&transaction).await?;
        if new.state == TenantState::Closed {
            let close = api_key::Entity::update_many()
                .col_expr(api_key::Column::RevokedAt, Expr::val(Some(audit.at.unix_ms())))
                .filter(api_key::Column::Tenant.eq(name))
                .filter(api_key::Column::RevokedAt.is_null());
            close.exec(&transaction).await?;
        }
        note(&transaction, &audit).await?;
        transaction.commit().await?;
        Ok(Some(Ok(new)))
    }

    /// Sets what a tenant may use at once; false when there is no such tenant.
    pub(crate) async fn set_grant(
        &self,
        name: &str,
        grant: TenantGrant,
        audit: impl FnOnce(Option<TenantGrant>) -> AuditRecord,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let Some(row) = tenant::Entity::find_by_id(name.to_owned()).one(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(false);
        };
        let audit = audit(read_grant(&row));
        let value = |number: u32| Some(i64::from(number));
        let row = tenant::Model {
            guarantee: value(grant.guarantee),
            borrow: value(grant.borrow),
            maximum: grant.maximum.map(i64::from),
            weight: value(grant.weight),
            ..row
        };
        row.into_active_model().reset_all().update(&transaction).await?;
        note(&transaction, &audit).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// What tenants may use at once, by name; a tenant without a bound is not among them.
    pub(crate) async fn grants(&self) -> Result<BTreeMap<String, TenantGrant>, StoreError> {
        let bound = tenant::Entity::find().filter(tenant::Column::Guarantee.is_not_null());
        let unreadable = |id: String| StoreError::Unreadable { id, column: "guarantee" };
        let rows = bound.all(&self.read).await?.into_iter();
        rows.map(|row| read_grant(&row).map(|grant| (row.name.clone(), grant)).ok_or_else(|| unreadable(row.name)))
            .collect()
    }

    /// Whose is this app?
    pub(crate) async fn owner(&self, app: &AppName) -> Result<Owner, StoreError> {
        let row = app::Entity::find_by_id(app.to_string()).one(&self.read).await?;
        Ok(row.map_or(Owner::Nobody, |row| Owner::Tenant(row.tenant)))
    }

    /// Bytes of all releases of a tenant together.
    pub(crate) async fn release_bytes(&self, name: &str) -> Result<u64, StoreError> {
        let mut of_tenant = Query::select();
        of_tenant.column(app::Column::Name).from(app::Entity).and_where(app::Column::Tenant.eq(name));
        let sum =
            Expr::from(Func::coalesce([Expr::col(release::Column::Bytes).sum().cast_as("bigint"), Expr::val(0_i64)]));
        let bytes: Option<i64> = release::Entity::find()
            .select_only()
            .column_as(sum, "bytes")
            .filter(release::Column::App.in_subquery(of_tenant))
            .into_tuple()
            .one(&self.read)
            .await?;
        Ok(u64::try_from(bytes.unwrap_or(0)).unwrap_or(0))
    }
}

fn read_grant(row: &tenant::Model) -> Option<TenantGrant> {
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    Some(TenantGrant {
        guarantee: number(row.guarantee)?,
        borrow: number(row.borrow)?,
        maximum: number(row.maximum),
        weight: number(row.weight)?,
    })
}

fn to_row(record: &Tenant) -> tenant::Model {
    let Tenant { name, state, settings, created_at } = record;
    let limits = settings.limits;
    tenant::Model {
        name: name.to_string(),
        created_at: created_at.unix_ms(),
        state: state.word().to_owned(),
        title: settings.title.clone(),
        time_zone: settings.time_zone.clone(),
        currency: settings.currency.clone(),
        colour: settings.colour.clone(),
        sessions_per_player: limits.sessions_per_player.map(i64::from),
        releases_mb: limits.releases_mb.map(|mb| i64::try_from(mb).unwrap_or(i64::MAX)),
        guarantee: None,
        borrow: None,
        maximum: None,
        weight: None,
    }
}

fn from_row(row: tenant::Model) -> Result<Tenant, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.name.clone(), column };
    let small = |value: Option<i64>, column| value.map(u32::try_from).transpose().map_err(|_range| unreadable(column));
    let releases_mb = row.releases_mb.map(u64::try_from).transpose().map_err(|_range| unreadable("releases_mb"))?;
    let limits =
        TenantLimits { sessions_per_player: small(row.sessions_per_player, "sessions_per_player")?, releases_mb };
    Ok(Tenant {
        name: row.name.parse().map_err(|_no_name| unreadable("name"))?,
        state: TenantState::from_word(&row.state).ok_or_else(|| unreadable("state"))?,
        settings: TenantSettings {
            title: row.title.clone(),
            time_zone: row.time_zone.clone(),
            currency: row.currency.clone(),
            colour: row.colour.clone(),
            limits,
        },
        created_at: UtcTime::from_unix_ms(row.created_at),
    })
}
