//! What was played, in the database: facts, written in the transaction of the change of state that they tell of.
//!
//! Which facts those are, `billing::usage::Tracker` says; what is kept here of a session is what that has seen. Of the proofs of a span the last one
//! is kept: the earlier ones say nothing more. Nothing of this is ever removed, also when the session's own row is.

use std::collections::BTreeMap;
use std::time::Duration;

use api::clock::UtcTime;
use api::id::{PlayerId, SessionId};
use api::manifest::AppName;
use api::session::SessionState;
use api::spec::StreamSpec;
use billing::usage::{Closing, Fact, FactKind, Interval, Life, MAX_EPOCH, MAX_SPAN, Timeline, Tracker};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, Iterable, QueryFilter, QueryOrder, QuerySelect,
};
use tracing::error;

use super::entity::{usage_fact, usage_session};
use super::session::SessionRecord;
use super::{Store, StoreError};

/// Of so long without a proof nobody knows what was in it: it is not billed, whether the session was found ended or found going on, and whether the
/// control plane was away or the clock stepped. Shorter would take from operators what a slow database kept back, longer bills what nobody saw.
const UNSEEN: Duration = Duration::from_secs(120);

/// Sessions that are proven in one transaction.
const MOST_AT_ONCE: usize = 200;

/// What was played of a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Played {
    pub(crate) session: SessionId,
    pub(crate) tenant: String,
    pub(crate) app: AppName,
    pub(crate) release: Option<u32>,
    pub(crate) player: Option<PlayerId>,
    pub(crate) spec: StreamSpec,
    pub(crate) life: Life,
    pub(crate) intervals: Vec<Interval>,
}

/// Which sessions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UsageOf<'a> {
    pub(crate) tenant: Option<&'a str>,
    pub(crate) session: Option<SessionId>,
    pub(crate) before: Option<SessionId>,
}

/// True when a change of a session may be a fact.
fn is_of_interest(old: &SessionRecord, new: &SessionRecord) -> bool {
    let plays = |record: &SessionRecord| matches!(record.state, SessionState::Connected { .. });
    plays(old) != plays(new) || old.epoch != new.epoch || new.state.is_ended()
}

/// Notes what changes of sessions say of what was played.
pub(super) async fn follow(
    connection: &impl ConnectionTrait,
    changes: &[(SessionRecord, SessionRecord)],
) -> Result<(), StoreError> {
    let changes: Vec<_> = changes.iter().filter(|(old, new)| is_of_interest(old, new)).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let ids = changes.iter().map(|(_, new)| new.id.to_string());
    let mut rows = read_rows(connection, ids).await?;
    let (mut sessions, mut facts) = (Vec::new(), Vec::new());
    for (_, new) in changes {
        let known = rows.remove(&new.id.to_string());
        let plays = matches!(new.state, SessionState::Connected { .. });
        let Some(mut row) = known.or_else(|| plays.then(|| new_row(new))) else { continue };
        // Nobody's play waits for what cannot be read: it is not billed.
        let Some(mut tracker) = read_tracker(&row) else { continue };
        let told = tracker.see(seen_at(&row, new), new.epoch, &new.state);
        if let SessionState::Ended { at, .. } = new.state {
            row.ended = Some(at.unix_ms());
        }
        row.proven = told.iter().map(|fact| fact.at.unix_ms()).fold(row.proven, i64::max);
        facts.extend(told.iter().filter(|fact| is_kept(fact)).map(fact_row));
        sessions.push(with_tracker(row, &tracker)?);
    }
    write(connection, sessions, facts).await
}

/// Facts of so many connections are kept, and no more: nobody plays so, and what is not kept is not billed.
fn is_kept(fact: &Fact) -> bool {
    fact.epoch <= MAX_EPOCH && fact.span <= MAX_SPAN
}

/// A session can still be played. After a time that nobody saw another span begins: what lies between is nobody's.
fn proof(tracker: &mut Tracker, proven: UtcTime, at: UtcTime, epoch: u32) -> Vec<Fact> {
    if at.since(proven) <= UNSEEN {
        return tracker.beat(at, epoch).into_iter().collect();
    }
    let mut told = tracker.see(proven, epoch, &SessionState::Reconnecting { until: at });
    if !told.is_empty() {
        told.extend(tracker.see(at, epoch, &SessionState::Connected { since: at }));
    }
    told
}

/// When a change was: its own time, or, for an end that was seen long after the last proof, that.
fn seen_at(row: &usage_session::Model, new: &SessionRecord) -> UtcTime {
    let proven = UtcTime::from_unix_ms(row.proven);
    let plays = matches!(new.state, SessionState::Connected { .. });
    if !plays && new.changed_at.since(proven) > UNSEEN { proven } else { new.changed_at }
}

impl Store {
    /// These sessions can still be played at this moment, each with its epoch. Says how many were noted.
    pub(crate) async fn prove(&self, at: UtcTime, sessions: &[(SessionId, u32)]) -> Result<usize, StoreError> {
        let mut noted = 0;
        for part in sessions.chunks(MOST_AT_ONCE) {
            let transaction = self.write.begin_row().await?;
            self.check_term(&transaction).await?;
            let mut rows = read_rows(&transaction, part.iter().map(|(id, _)| id.to_string())).await?;
            let (mut changed, mut facts) = (Vec::new(), Vec::new());
            for (id, epoch) in part {
                let Some(mut row) = rows.remove(&id.to_string()) else { continue };
                let Some(mut tracker) = read_tracker(&row) else { continue };
                let told = proof(&mut tracker, UtcTime::from_unix_ms(row.proven), at, *epoch);
                if told.is_empty() {
                    continue;
                }
                row.proven = row.proven.max(at.unix_ms());
                facts.extend(told.iter().filter(|fact| is_kept(fact)).map(fact_row));
                changed.push(with_tracker(row, &tracker)?);
            }
            noted += changed.len();
            write(&transaction, changed, facts).await?;
            transaction.commit().await?;
        }
        Ok(noted)
    }

    /// What was played, the newest sessions first.
    pub(crate) async fn played(&self, of: UsageOf<'_>, limit: u32) -> Result<Vec<Played>, StoreError> {
        use usage_session::Column;
        let mut find = usage_session::Entity::find().order_by_desc(Column::Session).limit(u64::from(limit));
        if let Some(tenant) = of.tenant {
            find = find.filter(Column::Tenant.eq(tenant));
        }
        if let Some(session) = of.session {
            find = find.filter(Column::Session.eq(session.to_string()));
        }
        if let Some(before) = of.before {
            find = find.filter(Column::Session.lt(before.to_string()));
        }
        let rows = find.all(&self.read).await?;
        let ids = rows.iter().map(|row| row.session.clone());
        let facts = usage_fact::Entity::find().filter(usage_fact::Column::Session.is_in(ids)).all(&self.read).await?;
        let mut timelines: BTreeMap<String, Timeline> = BTreeMap::new();
        for row in facts {
            let fact = read_fact(&row)?;
            let timeline = timelines.entry(row.session.clone()).or_default();
            if let Err(refused) = timeline.add(&fact) {
                // In the customer's favour; all others' usage can be read.
                error!(session = row.session, error = &refused as &dyn std::error::Error, "a fact is not counted");
            }
        }
        rows.into_iter().map(|row| read_played(&row, timelines.remove(&row.session).unwrap_or_default())).collect()
    }
}

/// Nobody knows any more whose these plays were; that something was played, and for how long, stays.
pub(super) async fn forget_player(connection: &impl ConnectionTrait, player: PlayerId) -> Result<(), StoreError> {
    let update = usage_session::Entity::update_many()
        .col_expr(usage_session::Column::Player, Expr::val(None::<String>))
        .filter(usage_session::Column::Player.eq(player.to_string()));
    update.exec(connection).await?;
    Ok(())
}

async fn read_rows(
    connection: &impl ConnectionTrait,
    ids: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, usage_session::Model>, StoreError> {
    let find = usage_session::Entity::find().filter(usage_session::Column::Session.is_in(ids));
    // In the order of their ids, so that two transactions never wait for one another.
    let rows = find.order_by_asc(usage_session::Column::Session).lock_exclusive().all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.session.clone(), row)).collect())
}

async fn write(
    connection: &impl ConnectionTrait,
    sessions: Vec<usage_session::Model>,
    facts: Vec<usage_fact::Model>,
) -> Result<(), StoreError> {
    use {usage_fact::Column as F, usage_session::Column as S};
    if !sessions.is_empty() {
        let all_else = S::iter().filter(|column| !matches!(column, S::Session));
        let replace = OnConflict::column(S::Session).update_columns(all_else).to_owned();
        let rows = sessions.into_iter().map(IntoActiveModel::into_active_model);
        usage_session::Entity::insert_many(rows).on_conflict(replace).exec_without_returning(connection).await?;
    }
    if !facts.is_empty() {
        // The same fact told again is the same; of proofs the later one counts.
        let key = [F::Session, F::Epoch, F::Span, F::Kind];
        let replace = OnConflict::columns(key).update_columns([F::At, F::Closing]).to_owned();
        let rows = facts.into_iter().map(IntoActiveModel::into_active_model);
        usage_fact::Entity::insert_many(rows).on_conflict(replace).exec_without_returning(connection).await?;
    }
    Ok(())
}

fn new_row(record: &SessionRecord) -> usage_session::Model {
    let edge = |edge: u32| i32::try_from(edge).unwrap_or(i32::MAX);
    usage_session::Model {
        session: record.id.to_string(),
        tenant: record.tenant.clone(),
        app: record.app.to_string(),
        release: record.release.map(i64::from),
        player: record.player_id.map(|id| id.to_string()),
        width: edge(record.spec.width),
        height: edge(record.spec.height),
        frames_per_second: i32::from(record.spec.frames_per_second),
        begun: record.created_at.unix_ms(),
        ended: None,
        proven: record.changed_at.unix_ms(),
        tracker: String::new(),
    }
}

fn read_tracker(row: &usage_session::Model) -> Option<Tracker> {
    let read = if row.tracker.is_empty() {
        row.session.parse().ok().map(Tracker::new)
    } else {
        serde_json::from_str(&row.tracker).ok()
    };
    if read.is_none() {
        error!(session = row.session, "what was seen of a session cannot be read: it is not metered");
    }
    read
}

fn with_tracker(row: usage_session::Model, tracker: &Tracker) -> Result<usage_session::Model, StoreError> {
    let unwritable = |_error| StoreError::Unreadable { id: row.session.clone(), column: "tracker" };
    let tracker = serde_json::to_string(tracker).map_err(unwritable)?;
    Ok(usage_session::Model { tracker, ..row })
}

fn fact_row(fact: &Fact) -> usage_fact::Model {
    let small = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (kind, closing) = match fact.kind {
        FactKind::Opened => ("opened", None),
        FactKind::Extended { .. } => ("extended", None),
        FactKind::Closed { closing } => ("closed", Some(closing.word().to_owned())),
    };
    usage_fact::Model {
        session: fact.session.to_string(),
        epoch: small(fact.epoch),
        span: small(fact.span),
        kind: kind.to_owned(),
        at: fact.at.unix_ms(),
        closing,
    }
}

fn read_fact(row: &usage_fact::Model) -> Result<Fact, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.session.clone(), column };
    let number = |value: i32, column| u32::try_from(value).map_err(|_range| unreadable(column));
    let kind = match (row.kind.as_str(), row.closing.clone()) {
        ("opened", _) => FactKind::Opened,
        ("extended", _) => FactKind::Extended { beat: 0 },
        ("closed", Some(word)) => {
            FactKind::Closed { closing: Closing::try_from(word).map_err(|_no_word| unreadable("closing"))? }
        }
        (_, _) => return Err(unreadable("kind")),
    };
    Ok(Fact {
        session: row.session.parse().map_err(|_no_id| unreadable("session"))?,
        epoch: number(row.epoch, "epoch")?,
        span: number(row.span, "span")?,
        at: UtcTime::from_unix_ms(row.at),
        kind,
    })
}

fn read_played(row: &usage_session::Model, timeline: Timeline) -> Result<Played, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: row.session.clone(), column };
    let edge = |value: i32, column| u32::try_from(value).map_err(|_range| unreadable(column));
    let session = row.session.parse().map_err(|_no_id| unreadable("session"))?;
    let life = Life { begun: UtcTime::from_unix_ms(row.begun), ended: row.ended.map(UtcTime::from_unix_ms) };
    Ok(Played {
        session,
        tenant: row.tenant.clone(),
        app: row.app.parse().map_err(|_no_name| unreadable("app"))?,
        release: row.release.map(u32::try_from).transpose().map_err(|_range| unreadable("release"))?,
        player: row.player.as_deref().map(str::parse).transpose().map_err(|_no_id| unreadable("player"))?,
        spec: StreamSpec {
            width: edge(row.width, "width")?,
            height: edge(row.height, "height")?,
            frames_per_second: row.frames_per_second.try_into().map_err(|_range| unreadable("frames_per_second"))?,
        },
        intervals: timeline.intervals(session, life),
        life,
    })
}

#[cfg(test)]
mod tests;
