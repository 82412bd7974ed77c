//! Players in the database.
//!
//! A player's row holds no name and no address; his plays are the rows of `session` that name him.

use api::clock::UtcTime;
use api::id::PlayerId;
use api::rest::Player;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};

use super::entity::player::{Column, Entity, Model};
use super::entity::{save as saved, session};
use super::save;
use super::session::live_of;
use super::{Store, StoreError, usage};

/// A player with everything that is known of him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlayerRecord {
    pub(crate) id: PlayerId,
    pub(crate) token_hash: [u8; 32],
    /// True when he made himself, as a guest: he may play where guests may.
    pub(crate) guest: bool,
    pub(crate) created_at: UtcTime,
    pub(crate) last_seen_at: UtcTime,
}

impl PlayerRecord {
    /// As he sees himself.
    pub(crate) fn view(&self) -> Player {
        Player { id: self.id, created_at: self.created_at, last_seen_at: self.last_seen_at }
    }
}

/// Most players that are forgotten in one transaction; the others an hour later.
const FORGOTTEN_AT_ONCE: u64 = 10_000;

/// What became of the wish to erase a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Erased {
    /// He is gone.
    Yes,
    /// He has sessions that live.
    Busy,
    /// There is no such player.
    Missing,
}

impl Store {
    /// Adds a player.
    pub(crate) async fn add_player(&self, record: &PlayerRecord) -> Result<(), StoreError> {
        // One statement: nobody knows of him before it.
        to_row(record).into_active_model().insert(&self.write).await?;
        Ok(())
    }

    /// One player.
    pub(crate) async fn player(&self, id: PlayerId) -> Result<Option<PlayerRecord>, StoreError> {
        Entity::find_by_id(id.to_string()).one(&self.read).await?.map(from_row).transpose()
    }

    /// The player whose token has this hash.
    pub(crate) async fn player_by_token(&self, hash: [u8; 32]) -> Result<Option<PlayerRecord>, StoreError> {
        let row = Entity::find().filter(Column::TokenHash.eq(hash.to_vec())).one(&self.read).await?;
        row.map(from_row).transpose()
    }

    /// Notes that a player was here. Changes nothing when he was erased meanwhile.
    pub(crate) async fn player_seen(&self, id: PlayerId, at: UtcTime) -> Result<(), StoreError> {
        // One statement, of one row: whoever forgets him at the same moment looks at the row again.
        let seen = Entity::update_many().col_expr(Column::LastSeenAt, Expr::val(at.unix_ms()));
        seen.filter(Column::Id.eq(id.to_string())).exec(&self.write).await?;
        Ok(())
    }

    /// Erases a player, his saves and his plays' link to him, unless one of them lives: one transaction, so that none begins meanwhile.
    /// The plays stay as nobody's, without the hash of an address that two of them may share.
    pub(crate) async fn erase_player(&self, id: PlayerId) -> Result<Erased, StoreError> {
        let transaction = self.begin().await?;
        let erased = if !exists(&transaction, id).await? {
            Erased::Missing
        } else if live_of(&transaction, id).await? > 0 {
            Erased::Busy
        } else {
            let plays = session::Entity::update_many()
                .col_expr(session::Column::PlayerId, Expr::val(None::<String>))
                .col_expr(session::Column::Address, Expr::val(""));
            plays.filter(session::Column::PlayerId.eq(id.to_string())).exec(&transaction).await?;
            save::erase(&transaction, id, None).await?;
            usage::forget_player(&transaction, id).await?;
            Entity::delete_by_id(id.to_string()).exec(&transaction).await?;
            Erased::Yes
        };
        transaction.commit().await?;
        Ok(erased)
    }

    /// Forgets players without plays and saves: who was last seen before one time, and who never came back and was made before
    /// another. Says how many.
    pub(crate) async fn forget_players(&self, seen: UtcTime, made: UtcTime) -> Result<u64, StoreError> {
        let mut with_plays = Query::select();
        with_plays
            .column(session::Column::PlayerId)
            .from(session::Entity)
            .and_where(session::Column::PlayerId.is_not_null());
        let never_back = Expr::col(Column::LastSeenAt).eq(Expr::col(Column::CreatedAt));
        let old = Column::LastSeenAt.lt(seen.unix_ms()).or(never_back.and(Column::CreatedAt.lt(made.unix_ms())));
        let mut with_saves = Query::select();
        with_saves.column(saved::Column::PlayerId).from(saved::Entity);
        let transaction = self.begin().await?;
        // Locked first, so that a play that is asked for beside this is among those that the next statement looks at.
        let candidates = Entity::find().filter(old).select_only().column(Column::Id).limit(FORGOTTEN_AT_ONCE);
        let candidates = candidates.filter(Column::Id.not_in_subquery(with_plays.clone()));
        let candidates = candidates.filter(Column::Id.not_in_subquery(with_saves.clone()));
        let candidates: Vec<String> = candidates.lock_exclusive().into_tuple().all(&transaction).await?;
        let forgotten = Entity::delete_many().filter(Column::Id.is_in(candidates));
        let forgotten = forgotten.filter(Column::Id.not_in_subquery(with_plays));
        let forgotten = forgotten.filter(Column::Id.not_in_subquery(with_saves));
        let forgotten = forgotten.exec(&transaction).await?.rows_affected;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// Locks the player's row: who is being erased begins no session meanwhile, and the other way round.
pub(super) async fn exists(connection: &impl ConnectionTrait, id: PlayerId) -> Result<bool, DbErr> {
    Ok(Entity::find_by_id(id.to_string()).lock_exclusive().one(connection).await?.is_some())
}

fn to_row(record: &PlayerRecord) -> Model {
    Model {
        id: record.id.to_string(),
        token_hash: record.token_hash.to_vec(),
        guest: record.guest,
        created_at: record.created_at.unix_ms(),
        last_seen_at: record.last_seen_at.unix_ms(),
    }
}

fn from_row(row: Model) -> Result<PlayerRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    Ok(PlayerRecord {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        token_hash: row.token_hash.as_slice().try_into().map_err(|_length| unreadable("token_hash"))?,
        guest: row.guest,
        created_at: UtcTime::from_unix_ms(row.created_at),
        last_seen_at: UtcTime::from_unix_ms(row.last_seen_at),
    })
}
