//! Nodes, and the tokens by which they join, in the database.

use api::clock::UtcTime;
use api::fleet::Duty;
use api::id::NodeId;
use api::node::Capacity;
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use super::entity::join_token;
use super::entity::node::{Column, Entity, Model};
use super::{Store, StoreError};

/// A node with everything that has to survive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) class: String,
    pub(crate) duty: Duty,
    /// What it said last that it can hold.
    pub(crate) capacity: Capacity,
    pub(crate) joined_at: UtcTime,
}

/// Where a token lets a node join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinPlace {
    pub(crate) site: String,
    pub(crate) class: String,
}

impl Store {
    /// All nodes, the oldest first.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows = Entity::find().order_by_asc(Column::JoinedAt).order_by_asc(Column::Id).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Adds a node. Of one that is known its class may be another one now.
    pub(crate) async fn add_node(&self, record: &NodeRecord) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        let id = record.id.to_string();
        if Entity::find_by_id(id.clone()).one(&transaction).await?.is_none() {
            to_row(record).into_active_model().insert(&transaction).await?;
        } else {
            let update = Entity::update_many().col_expr(Column::Class, Expr::val(record.class.clone()));
            update.filter(Column::Id.eq(id)).exec(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Notes what a node can hold.
    pub(crate) async fn set_node_capacity(&self, id: NodeId, capacity: Capacity) -> Result<(), StoreError> {
        Entity::update_many()
            .col_expr(Column::Sessions, Expr::val(i64::from(capacity.sessions)))
            .col_expr(Column::PixelsPerSecond, Expr::val(large(capacity.pixels_per_second)))
            .col_expr(Column::CpuMilli, Expr::val(capacity.cpu_milli.map(i64::from)))
            .col_expr(Column::MemoryMib, Expr::val(capacity.memory_mib.map(i64::from)))
            .col_expr(Column::EgressKbps, Expr::val(capacity.egress_kbps.map(i64::from)))
            .filter(Column::Id.eq(id.to_string()))
            .exec(&self.write)
            .await?;
        Ok(())
    }

    /// Changes what a node is used for; false when there is none.
    pub(crate) async fn set_node_duty(&self, id: NodeId, duty: Duty) -> Result<bool, StoreError> {
        let update = Entity::update_many().col_expr(Column::Duty, Expr::val(duty.word()));
        Ok(update.filter(Column::Id.eq(id.to_string())).exec(&self.write).await?.rows_affected > 0)
    }

    /// Adds a token.
    pub(crate) async fn add_join_token(
        &self,
        hash: [u8; 32],
        place: &JoinPlace,
        at: UtcTime,
        expires_at: UtcTime,
    ) -> Result<(), StoreError> {
        let row = join_token::Model {
            secret_hash: hash.to_vec(),
            site: place.site.clone(),
            class: place.class.clone(),
            created_at: at.unix_ms(),
            expires_at: expires_at.unix_ms(),
            node: None,
            key: None,
        };
        row.into_active_model().insert(&self.write).await?;
        Ok(())
    }

    /// Uses a token up: a machine with this key joins by it, and no other one. `None` when there is no such token, its time is over, or another
    /// machine joined by it.
    pub(crate) async fn join(
        &self,
        secret_hash: [u8; 32],
        key: [u8; 32],
        at: UtcTime,
        node: impl FnOnce(JoinPlace) -> NodeRecord,
    ) -> Result<Option<NodeRecord>, StoreError> {
        let transaction = self.begin().await?;
        let row = join_token::Entity::find_by_id(secret_hash.to_vec()).one(&transaction).await?;
        let Some(row) = row.filter(|row| row.expires_at > at.unix_ms()) else {
            transaction.rollback().await?;
            return Ok(None);
        };
        if let Some(joined) = &row.node {
            let again = row.key.as_deref() == Some(&key);
            let known = Entity::find_by_id(joined.clone()).one(&transaction).await?.filter(|_| again);
            transaction.rollback().await?;
            return known.map(from_row).transpose();
        }
        let record = node(JoinPlace { site: row.site.clone(), class: row.class.clone() });
        let used = join_token::Model { node: Some(record.id.to_string()), key: Some(key.to_vec()), ..row };
        used.into_active_model().reset_all().update(&transaction).await?;
        to_row(&record).into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(Some(record))
    }

    /// Forgets tokens whose time is over.
    pub(crate) async fn forget_join_tokens(&self, at: UtcTime) -> Result<(), StoreError> {
        let over = join_token::Column::ExpiresAt.lte(at.unix_ms());
        join_token::Entity::delete_many().filter(over).exec(&self.write).await?;
        Ok(())
    }
}

fn large(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn to_row(record: &NodeRecord) -> Model {
    Model {
        id: record.id.to_string(),
        name: record.name.clone(),
        site: record.site.clone(),
        class: record.class.clone(),
        duty: record.duty.word().to_owned(),
        sessions: i64::from(record.capacity.sessions),
        pixels_per_second: large(record.capacity.pixels_per_second),
        cpu_milli: record.capacity.cpu_milli.map(i64::from),
        memory_mib: record.capacity.memory_mib.map(i64::from),
        egress_kbps: record.capacity.egress_kbps.map(i64::from),
        joined_at: record.joined_at.unix_ms(),
    }
}

fn from_row(row: Model) -> Result<NodeRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    let amount = |value: Option<i64>, column| value.map(u32::try_from).transpose().map_err(|_range| unreadable(column));
    Ok(NodeRecord {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        name: row.name.clone(),
        site: row.site.clone(),
        class: row.class.clone(),
        duty: Duty::from_word(&row.duty).ok_or_else(|| unreadable("duty"))?,
        capacity: Capacity {
            sessions: u32::try_from(row.sessions).map_err(|_range| unreadable("sessions"))?,
            pixels_per_second: u64::try_from(row.pixels_per_second)
                .map_err(|_range| unreadable("pixels_per_second"))?,
            cpu_milli: amount(row.cpu_milli, "cpu_milli")?,
            memory_mib: amount(row.memory_mib, "memory_mib")?,
            egress_kbps: amount(row.egress_kbps, "egress_kbps")?,
        },
        joined_at: UtcTime::from_unix_ms(row.joined_at),
    })
}
