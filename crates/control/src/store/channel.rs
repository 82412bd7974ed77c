//! Channels that point to releases, in the database: every change stays, so that there is a way back.

use std::collections::BTreeMap;

use api::clock::UtcTime;
use api::manifest::AppName;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use super::entity::{channel_change, release};
use super::{Store, StoreError};

/// A channel that points to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelRecord {
    pub(crate) app: AppName,
    pub(crate) name: String,
    pub(crate) release: u32,
    pub(crate) changed_at: UtcTime,
}

impl Store {
    /// Points a channel to a release; false when it was removed meanwhile.
    pub(crate) async fn set_channel(
        &self,
        app: &AppName,
        channel: &str,
        release: u32,
        at: UtcTime,
    ) -> Result<bool, StoreError> {
        let transaction = self.begin().await?;
        let known = release::Entity::find_by_id((app.to_string(), i64::from(release))).count(&transaction).await? > 0;
        if known {
            add_change(&transaction, app.as_str(), channel, i64::from(release), at).await?;
        }
        transaction.commit().await?;
        Ok(known)
    }

    /// Points a channel back to where it pointed before its newest change to another release; `None` when there is nothing to go
    /// back to.
    pub(crate) async fn roll_back(&self, app: &AppName, channel: &str, at: UtcTime) -> Result<Option<u32>, StoreError> {
        let transaction = self.begin().await?;
        let changes = channel_change::Entity::find()
            .filter(channel_change::Column::App.eq(app.to_string()))
            .filter(channel_change::Column::Channel.eq(channel))
            .order_by_desc(channel_change::Column::Id)
            .all(&transaction)
            .await?;
        let current = changes.first().map(|change| change.release);
        let there = release::Entity::find().filter(release::Column::App.eq(app.to_string()));
        let there = there.select_only().column(release::Column::Number).into_tuple::<i64>().all(&transaction).await?;
        let before = changes.iter().map(|change| change.release);
        let before = before.filter(|release| there.contains(release)).find(|release| Some(*release) != current);
        if let Some(before) = before {
            add_change(&transaction, app.as_str(), channel, before, at).await?;
        }
        transaction.commit().await?;
        Ok(before.and_then(|before| u32::try_from(before).ok()))
    }

    /// Where all channels point.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelRecord>, StoreError> {
        channels(&self.read, None).await
    }
}

/// Where the channels of one app, or of all, point.
pub(super) async fn channels(
    connection: &impl ConnectionTrait,
    app: Option<&AppName>,
) -> Result<Vec<ChannelRecord>, StoreError> {
    let mut rows = channel_change::Entity::find();
    if let Some(app) = app {
        rows = rows.filter(channel_change::Column::App.eq(app.to_string()));
    }
    let mut newest = BTreeMap::new();
    for row in rows.order_by_asc(channel_change::Column::Id).all(connection).await? {
        let unreadable = |column| StoreError::Unreadable { id: row.app.clone(), column };
        let record = ChannelRecord {
            app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
            name: row.channel.clone(),
            release: u32::try_from(row.release).map_err(|_range| unreadable("release"))?,
            changed_at: UtcTime::from_unix_ms(row.changed_at),
        };
        newest.insert((row.app, row.channel), record);
    }
    Ok(newest.into_values().collect())
}

/// Notes that a channel points to a release from now on.
pub(super) async fn add_change(
    connection: &impl ConnectionTrait,
    app: &str,
    channel: &str,
    release: i64,
    at: UtcTime,
) -> Result<(), StoreError> {
    let row = channel_change::ActiveModel {
        id: ActiveValue::NotSet,
        app: ActiveValue::Set(app.to_owned()),
        channel: ActiveValue::Set(channel.to_owned()),
        release: ActiveValue::Set(release),
        changed_at: ActiveValue::Set(at.unix_ms()),
    };
    row.insert(connection).await?;
    Ok(())
}
