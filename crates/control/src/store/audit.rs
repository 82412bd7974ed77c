//! The record of changes, in the database. A row is written in the transaction of its change, and never changed or removed.

use api::access::{Actor, ActorKind, AuditEntry};
use api::clock::UtcTime;
use api::id::AuditId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value;

use super::entity::audit::{Column, Entity, Model};
use super::{Store, StoreError};

/// A change that is about to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditRecord {
    pub(crate) id: AuditId,
    pub(crate) at: UtcTime,
    pub(crate) actor: Actor,
    pub(crate) tenant: Option<String>,
    /// A noun and a verb.
    pub(crate) action: &'static str,
    pub(crate) target: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Which changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AuditOf<'a> {
    pub(crate) tenant: Option<&'a str>,
    pub(crate) before: Option<AuditId>,
}

/// Notes a change in its transaction.
pub(super) async fn note(connection: &impl ConnectionTrait, record: &AuditRecord) -> Result<(), DbErr> {
    let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    let row = Model {
        id: record.id.to_string(),
        at: record.at.unix_ms(),
        actor_kind: record.actor.kind.word().to_owned(),
        actor_id: record.actor.id.clone(),
        actor_name: record.actor.name.clone(),
        tenant: record.tenant.clone(),
        action: record.action.to_owned(),
        target: record.target.clone(),
        before: json(&record.before),
        after: json(&record.after),
    };
    Entity::insert(row.into_active_model()).exec_without_returning(connection).await?;
    Ok(())
}

impl Store {
    /// Notes a change that is made already, where that is no matter of one transaction.
    pub(crate) async fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        Ok(note(&self.write, record).await?)
    }

    /// Changes, the newest first.
    pub(crate) async fn audited(&self, of: AuditOf<'_>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut find = Entity::find().order_by_desc(Column::Id).limit(u64::from(limit));
        if let Some(tenant) = of.tenant {
            find = find.filter(Column::Tenant.eq(tenant));
        }
        if let Some(before) = of.before {
            find = find.filter(Column::Id.lt(before.to_string()));
        }
        find.all(&self.read).await?.into_iter().map(from_row).collect()
    }
}

fn from_row(row: Model) -> Result<AuditEntry, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    let json = |text: &Option<String>, column| {
        text.as_deref().map(serde_json::from_str).transpose().map_err(|_no_json| unreadable(column))
    };
    let kind = ActorKind::from_word(&row.actor_kind).ok_or_else(|| unreadable("actor_kind"))?;
    Ok(AuditEntry {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        at: UtcTime::from_unix_ms(row.at),
        actor: Actor { kind, id: row.actor_id.clone(), name: row.actor_name.clone() },
        tenant: row.tenant.clone(),
        action: row.action.clone(),
        target: row.target.clone(),
        before: json(&row.before, "before")?,
        after: json(&row.after, "after")?,
    })
}
