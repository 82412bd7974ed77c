//! Claims: who may ask for a session, and the place that it gets. Each is one transaction, so that two never share a place.

use api::id::{NodeId, PlayerId};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QuerySelect,
};

use super::entity::node;
use super::entity::session::{Column, Entity};
use super::save::{self, SaveRefusal, SaveRule};
use super::session::{SessionRecord, live, live_of, to_row};
use super::{Changed, Store, StoreError, player};

/// How much is asked for and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Sessions that have a place.
    pub(crate) placed: u32,
    /// Sessions that wait for one.
    pub(crate) waiting: u32,
    /// Sessions of the address that asks, placed or not.
    pub(crate) of_address: u32,
    /// Sessions of the player who asks; 0 for nobody.
    pub(crate) of_player: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimed<R> {
    /// It was noted, and waits for its place.
    Yes,
    /// It was not admitted.
    Refused(R),
    /// Not with this save.
    Save(SaveRefusal),
    /// The session's player was erased meanwhile.
    PlayerGone,
}

/// What became of a claim for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is the session's.
    Yes(Box<SessionRecord>),
    /// The session wants none any more.
    No,
    /// The node has no such room, as the database sees it.
    Full,
}

impl Store {
    /// Adds a session that has no place yet, if `admit` agrees to what is used at that moment.
    pub(crate) async fn request<R>(
        &self,
        record: &SessionRecord,
        saves: Option<SaveRule>,
        admit: impl FnOnce(Usage) -> Result<(), R>,
    ) -> Result<Claimed<R>, StoreError> {
        let transaction = self.begin().await?;
        if let Some(player) = record.player_id
            && !player::exists(&transaction, player).await?
        {
            transaction.rollback().await?;
            return Ok(Claimed::PlayerGone);
        }
        // Before the places: who holds the last one by the game that he wants to play here is told that.
        if let (Some(player), Some(rule)) = (record.player_id, saves)
            && let Err(refusal) = save::begin(&transaction, record.id, player, &record.app, rule).await?
        {
            transaction.rollback().await?;
            return Ok(Claimed::Save(refusal));
        }
        let usage = usage(&transaction, &record.address, record.player_id).await?;
        if let Err(refusal) = admit(usage) {
            transaction.rollback().await?;
            return Ok(Claimed::Refused(refusal));
        }
        to_row(record).into_active_model().insert(&transaction).await?;
        transaction.commit().await?;
        Ok(Claimed::Yes)
    }

    /// Gives a session a place on a node, if the node has it: whoever decided may have been wrong, or may not be the one who decides any more.
    pub(crate) async fn place(
        &self,
        id: api::id::SessionId,
        on: NodeId,
        next: impl FnOnce(&SessionRecord) -> Option<SessionRecord>,
    ) -> Result<Placed, StoreError> {
        let transaction = self.begin().await?;
        if !has_room(&transaction, id, on).await? {
            transaction.rollback().await?;
            return Ok(Placed::Full);
        }
        match super::session::change_row(&transaction, id, next).await? {
            Changed::Yes(record) => {
                transaction.commit().await?;
                Ok(Placed::Yes(Box::new(record)))
            }
            Changed::No(_) | Changed::Missing => {
                transaction.rollback().await?;
                Ok(Placed::No)
            }
        }
    }

    /// What is used now, with what is this address's and this player's.
    pub(crate) async fn usage(&self, address: &str, player: Option<PlayerId>) -> Result<Usage, StoreError> {
        usage(&self.read, address, player).await
    }
}

/// Whether a node holds what it has and this session.
async fn has_room(connection: &impl ConnectionTrait, id: api::id::SessionId, on: NodeId) -> Result<bool, StoreError> {
    let Some(node) = node::Entity::find_by_id(on.to_string()).one(connection).await? else { return Ok(false) };
    let pixels = Func::coalesce([Expr::col(Column::PixelsPerSecond).sum().cast_as("bigint"), Expr::val(0_i64)]);
    let used: Option<(i64, i64)> = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "sessions")
        .column_as(Expr::from(pixels), "pixels_per_second")
        .filter(Column::Node.eq(on.to_string()).and(live()).or(Column::Id.eq(id.to_string())))
        .into_tuple()
        .one(connection)
        .await?;
    let (sessions, pixels) = used.unwrap_or_default();
    Ok(sessions <= node.sessions && pixels <= node.pixels_per_second)
}

/// True for rows of sessions that have a place.
fn placed() -> Expr {
    Column::Node.is_not_null()
}

async fn usage(
    connection: &impl ConnectionTrait,
    address: &str,
    player: Option<PlayerId>,
) -> Result<Usage, StoreError> {
    let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
    let with_place = Entity::find().filter(live()).filter(placed()).count(connection).await?;
    let waiting = Entity::find().filter(live()).filter(placed().not()).count(connection).await?;
    let of_address = Entity::find().filter(live()).filter(Column::Address.eq(address)).count(connection).await?;
    let of_player = match player {
        Some(player) => live_of(connection, player).await?,
        None => 0,
    };
    Ok(Usage {
        placed: count(with_place),
        waiting: count(waiting),
        of_address: count(of_address),
        of_player: count(of_player),
    })
}
