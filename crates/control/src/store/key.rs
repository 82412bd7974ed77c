//! Keys, in the database. None is ever removed: who changed something stays known.

use std::collections::BTreeSet;

use api::access::{Right, Role};
use api::clock::UtcTime;
use api::id::KeyId;
use api::tenant::TenantState;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::audit::{AuditRecord, note};
use super::entity::api_key::{Column, Entity, Model};
use super::entity::tenant;
use super::{Store, StoreError};

/// Most keys of a tenant, or of the operator, that are good. More belong to a service that has tokens of its own.
const MOST_KEYS: u64 = 200;

/// Good keys of one answer: all of fifty tenants that have as many as may be.
const MOST_GOOD_SHOWN: u64 = 50 * MOST_KEYS;

/// Others of one answer: more are found by nobody.
const MOST_OTHERS_SHOWN: u64 = 500;

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    /// `None`: the operator's.
    pub(crate) tenant: Option<String>,
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Of the role's only these.
    pub(crate) rights: Option<BTreeSet<Right>>,
    pub(crate) hash: [u8; 32],
    pub(crate) ends_with: String,
    pub(crate) created_at: UtcTime,
    pub(crate) expires_at: Option<UtcTime>,
    pub(crate) last_used_at: Option<UtcTime>,
    pub(crate) revoked_at: Option<UtcTime>,
}

/// What became of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAdded {
    Yes,
    /// As many are good as may be.
    TooMany {
        most: u64,
    },
    /// Whoever makes it may not any more.
    NoMaker,
    /// There is no such tenant, or it is closed.
    NoTenant,
}

impl Store {
    /// The key whose secret has this hash, with the state of its tenant.
    pub(crate) async fn key_by_hash(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<(KeyRecord, Option<TenantState>)>, StoreError> {
        let row = Entity::find().filter(Column::Hash.eq(hash.to_vec())).one(&self.read).await?;
        let Some(record) = row.map(from_row).transpose()? else { return Ok(None) };
        let Some(name) = &record.tenant else { return Ok(Some((record, None))) };
        let row = tenant::Entity::find_by_id(name.clone()).one(&self.read).await?;
        let state = row.and_then(|row| TenantState::from_word(&row.state));
        // Of no tenant that can be read it is nobody's.
        Ok(state.map(|state| (record, Some(state))))
    }

    /// Notes that a key was used. One statement, which depends on nothing else.
    pub(crate) async fn key_used(&self, id: KeyId, at: UtcTime) -> Result<(), StoreError> {
        let update = Entity::update_many().col_expr(Column::LastUsedAt, Expr::val(Some(at.unix_ms())));
        update.filter(Column::Id.eq(id.to_string())).exec(&self.write).await?;
        Ok(())
    }

    /// Adds a key, which this one makes: it may have been revoked since its bearer was let in.
    pub(crate) async fn add_key(
        &self,
        record: &KeyRecord,
        maker: Option<KeyId>,
        audit: &AuditRecord,
    ) -> Result<KeyAdded, StoreError> {
        let transaction = self.begin().await?;
        if let Some(maker) = maker
            && !may_make(&transaction, maker, record.created_at).await?
        {
            transaction.rollback().await?;
            return Ok(KeyAdded::NoMaker);
        }
        if let Some(name) = &record.tenant {
            let row = tenant::Entity::find_by_id(name.clone()).one(&transaction).await?;
            if row.is_none_or(|row| row.state == TenantState::Closed.word()) {
                transaction.rollback().await?;
                return Ok(KeyAdded::NoTenant);
            }
        }
        let of = match &record.tenant {
            Some(tenant) => Column::Tenant.eq(tenant.as_str()),
            None => Column::Tenant.is_null(),
        };
        if Entity::find().filter(of).filter(good(record.created_at)).count(&transaction).await? >= MOST_KEYS {
            transaction.rollback().await?;
            return Ok(KeyAdded::TooMany { most: MOST_KEYS });
        }
        to_row(record).into_active_model().insert(&transaction).await?;
        note(&transaction, audit).await?;
        transaction.commit().await?;
        Ok(KeyAdded::Yes)
    }

    /// Keys of a tenant, or of everybody: those that are good, then the others, the newest first. However many were made and revoked since, one that
    /// is good is seen.
    pub(crate) async fn keys(&self, tenant: Option<&str>, now: UtcTime) -> Result<Vec<KeyRecord>, StoreError> {
        let mut rows = Vec::new();
        for (filter, most) in [(good(now), MOST_GOOD_SHOWN), (good(now).not(), MOST_OTHERS_SHOWN)] {
            let mut find = Entity::find().filter(filter).order_by_desc(Column::Id).limit(most);
            if let Some(tenant) = tenant {
                find = find.filter(Column::Tenant.eq(tenant));
            }
            rows.extend(find.all(&self.read).await?);
        }
        rows.into_iter().map(from_row).collect()
    }

    /// One key.
    pub(crate) async fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Entity::find_by_id(id.to_string()).one(&self.read).await?.map(from_row).transpose()
    }

    /// Makes a key no key any more; false when it is none already.
    pub(crate) async fn revoke_key(&self, id: KeyId, at: UtcTime, audit: &AuditRecord) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let update = Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::val(Some(at.unix_ms())))
            .filter(Column::Id.eq(id.to_string()))
            .filter(Column::RevokedAt.is_null());
        if update.exec(&transaction).await?.rows_affected == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        note(&transaction, audit).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// True for keys that are neither revoked nor expired.
fn good(now: UtcTime) -> Expr {
    let is_current = Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(now.unix_ms()));
    Column::RevokedAt.is_null().and(is_current)
}

/// Is this key good, and its tenant active?
async fn may_make(connection: &impl ConnectionTrait, id: KeyId, now: UtcTime) -> Result<bool, StoreError> {
    let row = Entity::find_by_id(id.to_string()).filter(good(now)).one(connection).await?;
    let Some(tenant) = row.as_ref().map(|row| row.tenant.clone()) else { return Ok(false) };
    let Some(name) = tenant else { return Ok(true) };
    let tenant = tenant::Entity::find_by_id(name).one(connection).await?;
    Ok(tenant.is_some_and(|tenant| tenant.state == TenantState::Active.word()))
}

pub(super) fn to_row(record: &KeyRecord) -> Model {
    let words = |rights: &BTreeSet<Right>| rights.iter().map(|right| right.word()).collect::<Vec<_>>().join(" ");
    Model {
        id: record.id.to_string(),
        tenant: record.tenant.clone(),
        name: record.name.clone(),
        role: record.role.word().to_owned(),
        rights: record.rights.as_ref().map(words),
        hash: record.hash.to_vec(),
        ends_with: record.ends_with.clone(),
        created_at: record.created_at.unix_ms(),
        expires_at: record.expires_at.map(UtcTime::unix_ms),
        last_used_at: record.last_used_at.map(UtcTime::unix_ms),
        revoked_at: record.revoked_at.map(UtcTime::unix_ms),
    }
}

fn from_row(row: Model) -> Result<KeyRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    // A right that this version does not know is none that it gives.
    let rights = |words: &String| words.split(' ').filter_map(Right::from_word).collect();
    Ok(KeyRecord {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        tenant: row.tenant.clone(),
        name: row.name.clone(),
        role: Role::from_word(&row.role).ok_or_else(|| unreadable("role"))?,
        rights: row.rights.as_ref().map(rights),
        hash: row.hash.as_slice().try_into().map_err(|_length| unreadable("hash"))?,
        ends_with: row.ends_with.clone(),
        created_at: UtcTime::from_unix_ms(row.created_at),
        expires_at: row.expires_at.map(UtcTime::from_unix_ms),
        last_used_at: row.last_used_at.map(UtcTime::from_unix_ms),
        revoked_at: row.revoked_at.map(UtcTime::from_unix_ms),
    })
}
