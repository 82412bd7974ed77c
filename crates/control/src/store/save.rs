//! Versions of players' saves: a directed graph without cycles, in which nothing is ever written over.

use std::collections::{BTreeMap, BTreeSet};

use api::clock::UtcTime;
use api::id::{ContentId, PlayerId, SaveId, SessionId};
use api::manifest::AppName;
use api::node::{ObservedSave, SaveKind};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};
use uuid::Uuid;

use super::entity::{condemned, save, save_parent, session, session_save};
use super::{Store, StoreError};

/// Versions that a list has at most; older ones are kept and not listed.
const LIST_LENGTH: u64 = 1000;

/// Captures of one epoch are counted from so many times the epochs before it: more than any play captures.
const CAPTURES_OF_EPOCH: i64 = 1 << 32;

/// The number that comes before the first capture of an epoch.
fn before_epoch(epoch: u32) -> i64 {
    i64::from(epoch.saturating_sub(1)) * CAPTURES_OF_EPOCH
}

/// A version with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SaveRecord {
    pub(crate) id: SaveId,
    pub(crate) app: String,
    pub(crate) content: ContentId,
    pub(crate) parents: Vec<SaveId>,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    pub(crate) session: Option<SessionId>,
    pub(crate) kind: SaveKind,
    pub(crate) settled: bool,
    pub(crate) created_at: UtcTime,
}

/// What a session that keeps a save may begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaveRule {
    /// Two sessions of one player and app may live at once.
    pub(crate) may_branch: bool,
    /// The version that the player chose.
    pub(crate) chosen: Option<SaveId>,
}

/// Why a session cannot begin with a save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SaveRefusal {
    /// Another session of the same player and app lives.
    InUse(String),
    /// Several versions are the newest: the player has to choose.
    Conflict(Vec<SaveId>),
    /// The chosen version is none of the player's of this app.
    Unknown,
}

/// What became of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is a version.
    Yes,
    /// The session keeps no save, or it was erased.
    NotKept,
    /// The collector is about to remove its root: try again.
    Condemned,
}

/// What a live session's save is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionSave {
    pub(crate) player: PlayerId,
    /// The version that its instance begins with: of one that was started again the last that the one before it made.
    pub(crate) start: Option<ContentId>,
    /// Captures of this instance that are versions.
    pub(crate) committed: u32,
}

/// A new version that no session made.
#[derive(Clone, Debug)]
pub(crate) struct ChosenSave {
    pub(crate) content: ContentId,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Versions that no other one was made from: where the history goes on.
fn heads(rows: &[save::Model], parents: &[save_parent::Model]) -> Vec<String> {
    let made_from: BTreeSet<&str> = parents.iter().map(|row| row.parent.as_str()).collect();
    rows.iter().filter(|row| !made_from.contains(row.id.as_str())).map(|row| row.id.clone()).collect()
}

async fn history(
    connection: &impl ConnectionTrait,
    player: &str,
    app: Option<&str>,
) -> Result<(Vec<save::Model>, Vec<save_parent::Model>), StoreError> {
    let mut rows = save::Entity::find().filter(save::Column::PlayerId.eq(player));
    if let Some(app) = app {
        rows = rows.filter(save::Column::App.eq(app));
    }
    let rows = rows.order_by_desc(save::Column::Id).limit(LIST_LENGTH).all(connection).await?;
    let mut parents = Vec::new();
    // The database takes no more than so many values at once.
    for part in rows.chunks(200) {
        let ids: Vec<&str> = part.iter().map(|row| row.id.as_str()).collect();
        parents
            .extend(save_parent::Entity::find().filter(save_parent::Column::Version.is_in(ids)).all(connection).await?);
    }
    Ok((rows, parents))
}

/// Decides what a new session begins with, and notes it. Part of the claim's transaction.
pub(super) async fn begin(
    connection: &impl ConnectionTrait,
    session: SessionId,
    player: PlayerId,
    app: &AppName,
    rule: SaveRule,
) -> Result<Result<(), SaveRefusal>, StoreError> {
    let (player, app) = (player.to_string(), app.to_string());
    if !rule.may_branch {
        let mine = session_save::Entity::find()
            .filter(session_save::Column::PlayerId.eq(player.as_str()))
            .filter(session_save::Column::App.eq(app.as_str()));
        let mine: Vec<String> = mine.all(connection).await?.into_iter().map(|row| row.session).collect();
        let live = session::Entity::find().filter(session::Column::Id.is_in(mine)).filter(super::session::live());
        if let Some(live) = live.one(connection).await? {
            return Ok(Err(SaveRefusal::InUse(live.id)));
        }
    }
    let (rows, parents) = history(connection, &player, Some(&app)).await?;
    let heads = heads(&rows, &parents);
    let start = match (rule.chosen.map(|id| id.to_string()), &heads[..]) {
        (Some(chosen), _) if rows.iter().any(|row| row.id == chosen) => Some(chosen),
        (Some(_), _) => return Ok(Err(SaveRefusal::Unknown)),
        (None, []) => None,
        (None, [one]) => Some(one.clone()),
        (None, several) => {
            return Ok(Err(SaveRefusal::Conflict(several.iter().filter_map(|id| id.parse().ok()).collect())));
        }
    };
    // Who goes back to an older version, or chooses one of several, lets the new one follow all of the newest.
    let merges = heads.into_iter().filter(|head| rule.chosen.is_some() && Some(head) != start.as_ref());
    let merges = merges.collect::<Vec<_>>().join(" ");
    let row = session_save::Model { session: session.to_string(), player_id: player, app, start, merges };
    row.into_active_model().insert(connection).await?;
    Ok(Ok(()))
}

impl Store {
    /// The saves of sessions that live, in these epochs.
    pub(crate) async fn session_saves(
        &self,
        live: &BTreeMap<SessionId, u32>,
    ) -> Result<BTreeMap<SessionId, SessionSave>, StoreError> {
        let ids: Vec<String> = live.keys().map(ToString::to_string).collect();
        let mut saves = BTreeMap::new();
        for part in ids.chunks(200) {
            let rows =
                session_save::Entity::find().filter(session_save::Column::Session.is_in(part)).all(&self.read).await?;
            let captured = save::Entity::find().filter(save::Column::Session.is_in(part)).all(&self.read).await?;
            for row in rows {
                let unreadable = |column| StoreError::Unreadable { id: row.session.clone(), column };
                let session: SessionId = row.session.parse().map_err(|_no_id| unreadable("session"))?;
                let before = before_epoch(live.get(&session).copied().unwrap_or(1));
                let own = captured.iter().filter(|version| version.session.as_ref() == Some(&row.session));
                let committed = own.clone().map(|version| version.sequence).max().unwrap_or(0);
                let earlier = own.filter(|version| version.sequence <= before).max_by_key(|version| version.sequence);
                let root = match (earlier, &row.start) {
                    (Some(version), _) => Some(Some(version.root.clone())),
                    (None, Some(id)) => {
                        let version = save::Entity::find_by_id(id.clone()).one(&self.read).await?;
                        Some(version.map(|version| version.root))
                    }
                    (None, None) => None,
                };
                let content = |root: Option<String>| root.and_then(|root| ContentId::try_from(root).ok());
                let save = SessionSave {
                    player: row.player_id.parse().map_err(|_no_id| unreadable("player_id"))?,
                    start: root.map(|root| content(root).ok_or_else(|| unreadable("start"))).transpose()?,
                    committed: u32::try_from(committed - before).unwrap_or(0),
                };
                saves.insert(session, save);
            }
        }
        Ok(saves)
    }

    /// Makes a capture of an instance of this epoch a version. Told twice it is one. What an older instance still captures is none: its player
    /// goes on from where the newer one began.
    pub(crate) async fn commit_save(
        &self,
        session: SessionId,
        epoch: u32,
        saved: &ObservedSave,
        at: UtcTime,
    ) -> Result<Committed, StoreError> {
        let transaction = self.begin().await?;
        let Some(row) = session_save::Entity::find_by_id(session.to_string()).one(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(Committed::NotKept);
        };
        // Locked: it is not started again elsewhere before this is written.
        let now = session::Entity::find_by_id(row.session.as_str()).lock_exclusive().one(&transaction).await?;
        if now.is_none_or(|now| i64::from(now.epoch) != i64::from(epoch)) {
            transaction.rollback().await?;
            return Ok(Committed::NotKept);
        }
        let sequence = before_epoch(epoch) + i64::from(saved.sequence);
        let own = save::Entity::find().filter(save::Column::Session.eq(row.session.as_str()));
        let newest = own.order_by_desc(save::Column::Sequence).one(&transaction).await?;
        if newest.as_ref().is_some_and(|newest| newest.sequence >= sequence) {
            transaction.rollback().await?;
            return Ok(Committed::Yes);
        }
        let root = format!("roots/{}", saved.content);
        if condemned::Entity::find_by_id(root).one(&transaction).await?.is_some() {
            // It is about to be removed: tried again with the node's next report, and the node keeps the files when nothing helps.
            transaction.rollback().await?;
            return Ok(Committed::Condemned);
        }
        let parents: Vec<String> = match newest {
            Some(newest) => vec![newest.id],
            None => row.start.iter().cloned().chain(row.merges.split_whitespace().map(str::to_owned)).collect(),
        };
        let version = save::Model {
            id: SaveId::from_uuid(Uuid::now_v7()).to_string(),
            player_id: row.player_id,
            app: row.app,
            root: saved.content.to_string(),
            bytes: i64::try_from(saved.bytes).unwrap_or(i64::MAX),
            files: i64::try_from(saved.files).unwrap_or(i64::MAX),
            session: Some(row.session),
            sequence,
            kind: word(saved.kind).to_owned(),
            settled: saved.settled,
            created_at: at.unix_ms(),
        };
        add(&transaction, version, parents).await?;
        transaction.commit().await?;
        Ok(Committed::Yes)
    }

    /// Adds a version that no session made, after all of the newest ones.
    pub(crate) async fn add_save(
        &self,
        player: PlayerId,
        app: &str,
        chosen: ChosenSave,
        at: UtcTime,
    ) -> Result<SaveId, StoreError> {
        let transaction = self.begin().await?;
        let (rows, parents) = history(&transaction, &player.to_string(), Some(app)).await?;
        let id = SaveId::from_uuid(Uuid::now_v7());
        let version = save::Model {
            id: id.to_string(),
            player_id: player.to_string(),
            app: app.to_owned(),
            root: chosen.content.to_string(),
            bytes: i64::try_from(chosen.bytes).unwrap_or(i64::MAX),
            files: i64::try_from(chosen.files).unwrap_or(i64::MAX),
            session: None,
            sequence: 0,
            kind: word(SaveKind::Chosen).to_owned(),
            settled: true,
            created_at: at.unix_ms(),
        };
        add(&transaction, version, heads(&rows, &parents)).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// One of a player's versions.
    pub(crate) async fn save_of(&self, player: PlayerId, id: SaveId) -> Result<Option<SaveRecord>, StoreError> {
        let row = save::Entity::find_by_id(id.to_string()).one(&self.read).await?;
        // Its parents are nobody's question here.
        row.filter(|row| row.player_id == player.to_string()).map(|row| record(row, Vec::new())).transpose()
    }

    /// A player's versions, newest first, and which of them are where the history goes on.
    pub(crate) async fn saves(
        &self,
        player: PlayerId,
        app: Option<&str>,
    ) -> Result<(Vec<SaveRecord>, BTreeSet<SaveId>), StoreError> {
        let (rows, parents) = history(&self.read, &player.to_string(), app).await?;
        let heads = heads(&rows, &parents).iter().filter_map(|id| id.parse().ok()).collect();
        let mut by_version: BTreeMap<String, Vec<SaveId>> = BTreeMap::new();
        for row in parents {
            by_version.entry(row.version).or_default().extend(row.parent.parse::<SaveId>());
        }
        let records = rows.into_iter().map(|row| {
            let parents = by_version.remove(&row.id).unwrap_or_default();
            record(row, parents)
        });
        Ok((records.collect::<Result<_, _>>()?, heads))
    }

    /// Erases all versions of a player's save of an app, or of all apps; how many.
    pub(crate) async fn erase_saves(&self, player: PlayerId, app: Option<&str>) -> Result<u64, StoreError> {
        let transaction = self.begin().await?;
        let erased = erase(&transaction, player, app).await?;
        transaction.commit().await?;
        Ok(erased)
    }
}

/// Erases all versions of a player's save of an app, or of all apps; what lives goes on and is not kept any more.
pub(super) async fn erase(
    connection: &impl ConnectionTrait,
    player: PlayerId,
    app: Option<&str>,
) -> Result<u64, StoreError> {
    let mut rows = save::Entity::find().filter(save::Column::PlayerId.eq(player.to_string()));
    let mut notes = session_save::Entity::delete_many().filter(session_save::Column::PlayerId.eq(player.to_string()));
    if let Some(app) = app {
        rows = rows.filter(save::Column::App.eq(app));
        notes = notes.filter(session_save::Column::App.eq(app));
    }
    let ids: Vec<String> = rows.all(connection).await?.into_iter().map(|row| row.id).collect();
    for part in ids.chunks(200) {
        save_parent::Entity::delete_many().filter(save_parent::Column::Version.is_in(part)).exec(connection).await?;
        save::Entity::delete_many().filter(save::Column::Id.is_in(part)).exec(connection).await?;
    }
    notes.exec(connection).await?;
    Ok(ids.len() as u64)
}

/// Forgets what was noted of sessions that are forgotten.
pub(super) async fn forget_notes(connection: &impl ConnectionTrait) -> Result<(), StoreError> {
    let known = session::Entity::find().select_only().column(session::Column::Id).into_query();
    let gone = session_save::Column::Session.not_in_subquery(known);
    session_save::Entity::delete_many().filter(gone).exec(connection).await?;
    Ok(())
}

async fn add(connection: &impl ConnectionTrait, version: save::Model, parents: Vec<String>) -> Result<(), StoreError> {
    let id = version.id.clone();
    version.into_active_model().insert(connection).await?;
    for parent in parents {
        save_parent::Model { version: id.clone(), parent }.into_active_model().insert(connection).await?;
    }
    Ok(())
}

fn record(row: save::Model, parents: Vec<SaveId>) -> Result<SaveRecord, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.id.clone(), column };
    Ok(SaveRecord {
        id: row.id.parse().map_err(|_no_id| unreadable("id"))?,
        app: row.app.clone(),
        content: ContentId::try_from(row.root.clone()).map_err(|_no_id| unreadable("root"))?,
        parents,
        bytes: u64::try_from(row.bytes).map_err(|_range| unreadable("bytes"))?,
        files: u64::try_from(row.files).map_err(|_range| unreadable("files"))?,
        session: row.session.as_ref().map(|id| id.parse().map_err(|_no_id| unreadable("session"))).transpose()?,
        kind: kind(&row.kind).ok_or_else(|| unreadable("kind"))?,
        settled: row.settled,
        created_at: UtcTime::from_unix_ms(row.created_at),
    })
}

fn word(kind: SaveKind) -> &'static str {
    match kind {
        SaveKind::Checkpoint => "checkpoint",
        SaveKind::Final => "final",
        SaveKind::Chosen => "chosen",
    }
}

fn kind(word: &str) -> Option<SaveKind> {
    [SaveKind::Checkpoint, SaveKind::Final, SaveKind::Chosen].into_iter().find(|kind| self::word(*kind) == word)
}
