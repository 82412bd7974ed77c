//! Pools of warm instances, in the database. The instances are rows of sessions.

use api::clock::UtcTime;
use api::id::PoolId;
use api::manifest::AppName;
use api::spec::StreamSpec;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder};

use super::entity::pool::{Column, Entity, Model};
use super::{Store, StoreError};

/// Most pools. Each is looked at several times a second.
const MOST_POOLS: u64 = 1000;

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolRecord {
    pub(crate) id: PoolId,
    pub(crate) app: AppName,
    pub(crate) channel: String,
    pub(crate) site: String,
    pub(crate) spec: StreamSpec,
    pub(crate) size: u32,
    pub(crate) lifetime_s: u32,
    pub(crate) created_at: UtcTime,
}

/// What became of a new pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolAdded {
    Yes,
    /// There is one of the same app, channel, site and picture.
    Twice(PoolId),
    /// There are as many as may be.
    TooMany {
        most: u64,
    },
}

impl Store {
    /// All pools, the oldest first.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolRecord>, StoreError> {
        let rows = Entity::find().order_by_asc(Column::Id).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Adds a pool.
    pub(crate) async fn add_pool(&self, record: &PoolRecord) -> Result<PoolAdded, StoreError> {
        let transaction = self.begin().await?;
        let row = to_row(record);
        let same = Entity::find()
            .filter(Column::App.eq(&*row.app).and(Column::Channel.eq(&*row.channel)).and(Column::Site.eq(&*row.site)))
            .filter(Column::Width.eq(row.width).and(Column::Height.eq(row.height)))
            .filter(Column::FramesPerSecond.eq(row.frames_per_second));
        if let Some(other) = same.one(&transaction).await? {
            transaction.rollback().await?;
            return Ok(PoolAdded::Twice(from_row(other)?.id));
        }
        if Entity::find().count(&transaction).await? >= MOST_POOLS {
            transaction.rollback().await?;
            return Ok(PoolAdded::TooMany { most: MOST_POOLS });
        }
        row.into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(PoolAdded::Yes)
    }

    /// Sets a pool's size; false when there is none. One statement, which depends on nothing else.
    pub(crate) async fn resize_pool(&self, id: PoolId, size: u32) -> Result<bool, StoreError> {
        let update = Entity::update_many().col_expr(Column::Size, Expr::val(small(size)));
        Ok(update.filter(Column::Id.eq(id.to_string())).exec(&self.write).await?.rows_affected > 0)
    }

    /// Removes a pool; false when there is none. One statement: its instances are found to be nobody's, and ended.
    pub(crate) async fn remove_pool(&self, id: PoolId) -> Result<bool, StoreError> {
        Ok(Entity::delete_by_id(id.to_string()).exec(&self.write).await?.rows_affected > 0)
    }
}

fn small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn to_row(record: &PoolRecord) -> Model {
    Model {
        id: record.id.to_string(),
        app: record.app.to_string(),
        channel: record.channel.clone(),
        site: record.site.clone(),
        width: small(record.spec.width),
        height: small(record.spec.height),
        frames_per_second: i32::from(record.spec.frames_per_second),
        size: small(record.size),
        lifetime_s: small(record.lifetime_s),
        created_at: record.created_at.unix_ms(),
    }
}

fn from_row(row: Model) -> Result<PoolRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    let number = |value: i32, column| u32::try_from(value).map_err(|_range| unreadable(column));
    Ok(PoolRecord {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
        channel: row.channel.clone(),
        site: row.site.clone(),
        spec: StreamSpec {
            width: number(row.width, "width")?,
            height: number(row.height, "height")?,
            frames_per_second: row.frames_per_second.try_into().map_err(|_range| unreadable("frames_per_second"))?,
        },
        size: number(row.size, "size")?,
        lifetime_s: number(row.lifetime_s, "lifetime_s")?,
        created_at: UtcTime::from_unix_ms(row.created_at),
    })
}
