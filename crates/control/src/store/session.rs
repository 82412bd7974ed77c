//! Sessions in the database.

use std::str::FromStr;

use api::clock::UtcTime;
use api::id::{InstanceId, NodeId, PlayerId, PoolId, SessionId};
use api::manifest::AppName;
use api::rest::{Session, SiteProbe, SiteVerdict};
use api::session::{EndReason, PrepareStage, SessionState, WaitCause};
use api::spec::StreamSpec;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entity::session::{Column, Entity, Model};
use super::save;
use super::step::{Step, Stepped};
use super::{Store, StoreError};
use crate::demand::Demand;

/// Most sessions that an operator's list has.
const LIST_LENGTH: u64 = 200;

/// A session with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) id: SessionId,
    pub(crate) instance: InstanceId,
    pub(crate) epoch: u32,
    pub(crate) app: AppName,
    pub(crate) spec: StreamSpec,
    pub(crate) resizable: bool,
    /// Where it was asked for: a keyed hash of an address.
    pub(crate) address: String,
    /// Whose play it is; `None` for nobody's.
    pub(crate) player_id: Option<PlayerId>,
    /// Which machine runs it, or is to; `None` while it waits.
    pub(crate) node: Option<NodeId>,
    /// Which release of the app is played; `None` where apps have none.
    pub(crate) release: Option<u32>,
    pub(crate) state: SessionState,
    /// True as soon as the node reported the instance.
    pub(crate) observed: bool,
    pub(crate) first_frame: bool,
    /// What the player is told when his save was not kept.
    pub(crate) unsaved: Option<String>,
    pub(crate) revision: u64,
    pub(crate) created_at: UtcTime,
    /// When `state` was entered.
    pub(crate) changed_at: UtcTime,
    pub(crate) ends_at: UtcTime,
    pub(crate) token_hash: [u8; 32],
    pub(crate) token_expires_at: UtcTime,
    /// Whose quota it uses.
    pub(crate) tenant: String,
    /// What each site said when it was placed or refused.
    pub(crate) explanation: Option<Vec<SiteVerdict>>,
    /// Starts beyond the first one that somebody asked for; the others were losses.
    pub(crate) asked_starts: u32,
    /// What it was placed with, or was measured to take since; nothing while it waits for its first place.
    pub(crate) demand: Demand,
    /// Of a warm instance, which nobody plays: whose it is.
    pub(crate) pool: Option<PoolId>,
    /// What its client measured of the way to sites. It decides where it is placed, also after a loss.
    pub(crate) probes: Vec<SiteProbe>,
}

impl SessionRecord {
    /// What happened, and what can be done.
    pub(crate) fn sentence(&self) -> String {
        let sentence = self.state.sentence();
        match &self.unsaved {
            Some(unsaved) => format!("{sentence} {unsaved}"),
            None => sentence.to_owned(),
        }
    }

    /// With what it takes.
    pub(crate) fn placed_with(self, demand: Demand) -> Self {
        Self { demand, ..self }
    }

    /// As its player sees it.
    pub(crate) fn view(&self) -> Session {
        Session {
            id: self.id,
            app: self.app.clone(),
            spec: self.spec,
            state: self.state,
            sentence: self.sentence(),
            first_frame: self.first_frame,
            revision: self.revision,
            created_at: self.created_at,
            ends_at: self.ends_at,
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It was written.
    Yes(SessionRecord),
    /// There was nothing to change.
    No(SessionRecord),
    /// There is no such session.
    Missing,
}

impl Store {
    /// Changes a session to what `next` makes of it; `None` leaves it. The revision counts up by itself.
    pub(crate) async fn change(
        &self,
        id: SessionId,
        next: impl FnOnce(&SessionRecord) -> Option<SessionRecord> + Send,
    ) -> Result<Changed, StoreError> {
        let stepped = self.apply(vec![Step::new(id, next)]).await?;
        Ok(match stepped.into_iter().next() {
            Some(Stepped::Yes(record)) => Changed::Yes(record),
            Some(Stepped::No(record)) => Changed::No(record),
            // No place is asked for, and one step fails as a whole.
            Some(Stepped::Missing | Stepped::Full | Stepped::Failed) | None => Changed::Missing,
        })
    }

    /// One session.
    pub(crate) async fn session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        match self.live.get(id) {
            Some(record) => Ok(Some(SessionRecord::clone(&record))),
            None => self.read_session(id).await,
        }
    }

    /// One session as it stands in the database.
    pub(super) async fn read_session(&self, id: SessionId) -> Result<Option<SessionRecord>, StoreError> {
        Entity::find_by_id(id.to_string()).one(&self.read).await?.map(from_row).transpose()
    }

    /// The session whose token has this hash.
    pub(crate) async fn session_by_token(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
        if let Some(record) = self.live.by_token(&hash) {
            return Ok(Some(SessionRecord::clone(&record)));
        }
        let row = Entity::find().filter(Column::TokenHash.eq(hash.to_vec())).one(&self.read).await?;
        row.map(from_row).transpose()
    }

    /// All sessions that have not ended, as they stand in the database.
    pub(super) async fn read_live(&self) -> Result<Vec<SessionRecord>, StoreError> {
        let rows = Entity::find().filter(live()).order_by_asc(Column::Id).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// The newest sessions of a tenant's players, or of all, newest first.
    pub(crate) async fn newest_sessions(&self, tenant: Option<&str>) -> Result<Vec<SessionRecord>, StoreError> {
        let mut sessions = Entity::find().filter(Column::Pool.is_null());
        if let Some(tenant) = tenant {
            sessions = sessions.filter(Column::Tenant.eq(tenant));
        }
        let rows = sessions.order_by_desc(Column::Id).limit(LIST_LENGTH).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// A page of a player's sessions, newest first: those before this one.
    pub(crate) async fn sessions_of(
        &self,
        player: PlayerId,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        // Ids sort by creation.
        let mut sessions = Entity::find().filter(Column::PlayerId.eq(player.to_string()));
        if let Some(before) = before {
            sessions = sessions.filter(Column::Id.lt(before.to_string()));
        }
        let rows = sessions.order_by_desc(Column::Id).limit(u64::from(limit)).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Forgets sessions of nobody that ended before one time, and sessions of players that ended before another; says how
    /// many.
    pub(crate) async fn forget_ended_before(&self, of_nobody: UtcTime, of_players: UtcTime) -> Result<u64, StoreError> {
        let before = |time: UtcTime| Column::ChangedAt.lt(time.unix_ms());
        let old = Column::PlayerId.is_null().and(before(of_nobody)).or(before(of_players));
        let transaction = self.begin().await?;
        let ended = Entity::delete_many().filter(live().not()).filter(old);
        let forgotten = ended.exec(&transaction).await?.rows_affected;
        if forgotten > 0 {
            save::forget_notes(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// True for rows of sessions that have not ended.
pub(super) fn live() -> Expr {
    Column::State.ne("ended")
}

/// How many sessions of a player live.
pub(super) async fn live_of(connection: &impl ConnectionTrait, player: PlayerId) -> Result<u64, DbErr> {
    Entity::find().filter(live()).filter(Column::PlayerId.eq(player.to_string())).count(connection).await
}

/// The columns of a state: word, stage, instant, reason.
fn state_columns(state: &SessionState) -> (&'static str, Option<&'static str>, Option<UtcTime>, Option<EndReason>) {
    let word = state.name();
    match *state {
        SessionState::Requested | SessionState::Reserved => (word, None, None, None),
        SessionState::Queued { cause: WaitCause::Quota } => (word, Some("quota"), None, None),
        SessionState::Queued { cause: WaitCause::Capacity } => (word, Some("capacity"), None, None),
        SessionState::Offered { until: at } | SessionState::Recovering { since: at } => (word, None, Some(at), None),
        SessionState::Preparing { stage: PrepareStage::Content } => (word, Some("content"), None, None),
        SessionState::Preparing { stage: PrepareStage::Streamer } => (word, Some("streamer"), None, None),
        SessionState::Preparing { stage: PrepareStage::Game } => (word, Some("game"), None, None),
        SessionState::Ready { connect_until: at }
        | SessionState::Connected { since: at }
        | SessionState::Reconnecting { until: at } => (word, None, Some(at), None),
        SessionState::Stopping { reason } => (word, None, None, Some(reason)),
        SessionState::Ended { reason, party: _, at } => (word, None, Some(at), Some(reason)),
    }
}

pub(super) fn to_row(record: &SessionRecord) -> Model {
    // Sizes and rates are at most `api::spec::MAX_EDGE` and so fit.
    let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let large = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (state, stage, instant, reason) = state_columns(&record.state);
    Model {
        id: record.id.to_string(),
        instance: record.instance.to_string(),
        epoch: small(record.epoch),
        app: record.app.to_string(),
        width: small(record.spec.width),
        height: small(record.spec.height),
        frames_per_second: i32::from(record.spec.frames_per_second),
        pixels_per_second: large(record.spec.pixels_per_second()),
        resizable: record.resizable,
        address: record.address.clone(),
        player_id: record.player_id.map(|id| id.to_string()),
        node: record.node.map(|id| id.to_string()),
        release: record.release.map(|release| release.to_string()),
        state: state.to_owned(),
        stage: stage.map(str::to_owned),
        instant: instant.map(UtcTime::unix_ms),
        reason: reason.map(|reason| reason.word().to_owned()),
        observed: record.observed,
        first_frame: record.first_frame,
        unsaved: record.unsaved.clone(),
        revision: large(record.revision),
        created_at: record.created_at.unix_ms(),
        changed_at: record.changed_at.unix_ms(),
        ends_at: record.ends_at.unix_ms(),
        token_hash: record.token_hash.to_vec(),
        token_expires_at: record.token_expires_at.unix_ms(),
        tenant: Some(record.tenant.clone()),
        explanation: record.explanation.as_ref().and_then(|sites| serde_json::to_string(sites).ok()),
        asked_starts: small(record.asked_starts),
        cpu_milli: i64::from(record.demand.cpu_milli),
        memory_mib: i64::from(record.demand.memory_mib),
        egress_kbps: i64::from(record.demand.egress_kbps),
        pool: record.pool.map(|id| id.to_string()),
        probes: Some(&record.probes)
            .filter(|probes| !probes.is_empty())
            .and_then(|probes| serde_json::to_string(probes).ok()),
    }
}

pub(super) fn from_row(row: Model) -> Result<SessionRecord, StoreError> {
    read_row(&row).map_err(|column| StoreError::Unreadable { id: row.id, column })
}

/// The record, or the column that cannot be read.
fn read_row(row: &Model) -> Result<SessionRecord, &'static str> {
    fn read<T>(value: Option<T>, column: &'static str) -> Result<T, &'static str> {
        value.ok_or(column)
    }
    fn id<T: FromStr>(text: Option<&str>, column: &'static str) -> Result<Option<T>, &'static str> {
        text.map(str::parse).transpose().map_err(|_no_id| column)
    }
    let spec = StreamSpec {
        width: read(row.width.try_into().ok(), "width")?,
        height: read(row.height.try_into().ok(), "height")?,
        frames_per_second: read(row.frames_per_second.try_into().ok(), "frames_per_second")?,
    };
    Ok(SessionRecord {
        id: read(row.id.parse().ok(), "id")?,
        instance: read(row.instance.parse().ok(), "instance")?,
        epoch: read(row.epoch.try_into().ok(), "epoch")?,
        app: read(row.app.parse().ok(), "app")?,
        spec,
        resizable: row.resizable,
        address: row.address.clone(),
        player_id: id(row.player_id.as_deref(), "player_id")?,
        node: id(row.node.as_deref(), "node")?,
        release: row.release.as_ref().map(|text| text.parse().map_err(|_no_number| "release")).transpose()?,
        state: read_state(row)?,
        observed: row.observed,
        first_frame: row.first_frame,
        unsaved: row.unsaved.clone(),
        revision: read(row.revision.try_into().ok(), "revision")?,
        created_at: UtcTime::from_unix_ms(row.created_at),
        changed_at: UtcTime::from_unix_ms(row.changed_at),
        ends_at: UtcTime::from_unix_ms(row.ends_at),
        token_hash: read(row.token_hash.as_slice().try_into().ok(), "token_hash")?,
        token_expires_at: UtcTime::from_unix_ms(row.token_expires_at),
        tenant: row.tenant.clone().unwrap_or_default(),
        explanation: row
            .explanation
            .as_deref()
            .map(|text| serde_json::from_str(text).map_err(|_not_ours| "explanation"))
            .transpose()?,
        asked_starts: read(row.asked_starts.try_into().ok(), "asked_starts")?,
        demand: Demand {
            cpu_milli: read(row.cpu_milli.try_into().ok(), "cpu_milli")?,
            memory_mib: read(row.memory_mib.try_into().ok(), "memory_mib")?,
            egress_kbps: read(row.egress_kbps.try_into().ok(), "egress_kbps")?,
        },
        pool: id(row.pool.as_deref(), "pool")?,
        probes: row
            .probes
            .as_deref()
            .map_or(Ok(Vec::new()), |text| serde_json::from_str(text).map_err(|_not_ours| "probes"))?,
    })
}

fn read_state(row: &Model) -> Result<SessionState, &'static str> {
    let instant = || row.instant.map(UtcTime::from_unix_ms).ok_or("instant");
    let reason = || row.reason.as_deref().and_then(EndReason::from_word).ok_or("reason");
    match row.state.as_str() {
        "requested" => Ok(SessionState::Requested),
        "queued" => match row.stage.as_deref() {
            Some("quota") => Ok(SessionState::Queued { cause: WaitCause::Quota }),
            Some("capacity") => Ok(SessionState::Queued { cause: WaitCause::Capacity }),
            Some(_) | None => Err("stage"),
        },
        "offered" => Ok(SessionState::Offered { until: instant()? }),
        "recovering" => Ok(SessionState::Recovering { since: instant()? }),
        "reserved" => Ok(SessionState::Reserved),
        "preparing" => match row.stage.as_deref() {
            Some("content") => Ok(SessionState::Preparing { stage: PrepareStage::Content }),
            Some("streamer") => Ok(SessionState::Preparing { stage: PrepareStage::Streamer }),
            Some("game") => Ok(SessionState::Preparing { stage: PrepareStage::Game }),
            Some(_) | None => Err("stage"),
        },
        "ready" => Ok(SessionState::Ready { connect_until: instant()? }),
        "connected" => Ok(SessionState::Connected { since: instant()? }),
        "reconnecting" => Ok(SessionState::Reconnecting { until: instant()? }),
        "stopping" => Ok(SessionState::Stopping { reason: reason()? }),
        "ended" => {
            let reason = reason()?;
            Ok(SessionState::Ended { reason, party: reason.party(), at: instant()? })
        }
        _ => Err("state"),
    }
}
