//! Changes of many sessions in one transaction: each is read, asked what it shall become, and written, or left as it is.
//!
//! One transaction, because its commit costs more than all of its rows.

use std::collections::BTreeMap;
use std::fmt;

use api::id::{NodeId, SessionId};
use sea_orm::sea_query::{Expr, ExprTrait, Func, OnConflict};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, Iterable, QueryFilter, QueryOrder, QuerySelect,
};
use tracing::error;

use super::entity::node;
use super::entity::session::{ActiveModel, Column, Entity};
use super::session::{SessionRecord, from_row, live, to_row};
use super::{Store, StoreError, usage};
use crate::demand::Demand;

/// Most sessions of one transaction. More hold their rows for longer, and a database takes only so many values in a statement.
const MOST_AT_ONCE: usize = 100;

/// What a session becomes, given its row; `None` when it stays as it is.
pub(crate) type Next<'a> = Box<dyn FnOnce(&SessionRecord) -> Option<SessionRecord> + Send + 'a>;

/// A change of one session.
pub(crate) struct Step<'a> {
    pub(crate) id: SessionId,
    /// It takes a place on this node, if the node has one: whoever decided may have been wrong, or may not be the one who decides any more.
    pub(crate) on: Option<NodeId>,
    pub(crate) next: Next<'a>,
    /// It takes over a warm instance, if that is still to be had; else it takes the step alone.
    pub(crate) takes: Option<Takes<'a>>,
}

/// What the session that takes and the one that gives become, given what the first would become alone, and the row of the second; `None` when
/// there is nothing to be had.
pub(crate) type Join<'a> =
    Box<dyn FnOnce(&SessionRecord, &SessionRecord) -> Option<(SessionRecord, SessionRecord)> + Send + 'a>;

/// A warm instance that is taken over.
pub(crate) struct Takes<'a> {
    pub(crate) from: SessionId,
    pub(crate) join: Join<'a>,
}

impl<'a> Step<'a> {
    /// One that needs no place.
    pub(crate) fn new(id: SessionId, next: impl FnOnce(&SessionRecord) -> Option<SessionRecord> + Send + 'a) -> Self {
        Self { id, on: None, next: Box::new(next), takes: None }
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("id", &self.id).field("on", &self.on).finish_non_exhaustive()
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// It was written.
    Yes(SessionRecord),
    /// There was nothing to change.
    No(SessionRecord),
    /// There is no such session.
    Missing,
    /// The node has no such room, as the database sees it.
    Full,
    /// The database failed: it was not written, or nobody knows.
    Failed,
}

impl Store {
    /// Takes all these steps; says of each what became of it, in their order. One session is in it once. It fails as long as nothing is
    /// written; after that, what the database did not take has [`Stepped::Failed`].
    pub(crate) async fn apply(&self, steps: Vec<Step<'_>>) -> Result<Vec<Stepped>, StoreError> {
        let mut done = Vec::with_capacity(steps.len());
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let part: Vec<Step<'_>> = steps.by_ref().take(MOST_AT_ONCE).collect();
            let count = part.len();
            match self.apply_part(part).await {
                Ok(stepped) => done.extend(stepped),
                Err(error) if done.is_empty() => return Err(error),
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "some sessions could not be changed");
                    done.extend(std::iter::repeat_n(Stepped::Failed, count + steps.len()));
                    return Ok(done);
                }
            }
        }
        Ok(done)
    }

    async fn apply_part(&self, steps: Vec<Step<'_>>) -> Result<Vec<Stepped>, StoreError> {
        let nodes: Vec<String> = steps.iter().filter_map(|step| step.on).map(|node| node.to_string()).collect();
        // Of rows, because many sessions change at once. Nothing that serial transactions decide by is undone by it: a session that has
        // ended stays so, and a row's player, app and release are those that were read under the lock.
        let transaction = if nodes.is_empty() { self.write.begin_row().await? } else { self.begin().await? };
        self.check_term(&transaction).await?;
        let mut rooms = if nodes.is_empty() { Rooms::default() } else { Rooms::read(&transaction, nodes).await? };
        let givers = steps.iter().filter_map(|step| step.takes.as_ref()).map(|takes| takes.from);
        let ids = steps.iter().map(|step| step.id).chain(givers).map(|id| id.to_string());
        // In the order of their ids, so that two transactions never wait for one another.
        let locked = Entity::find().filter(Column::Id.is_in(ids)).order_by_asc(Column::Id).lock_exclusive();
        let mut rows = BTreeMap::new();
        for row in locked.all(&transaction).await? {
            let record = from_row(row)?;
            rows.insert(record.id, record);
        }
        let (mut done, mut models) = (Vec::with_capacity(steps.len()), Vec::new());
        let (mut given, mut changes) = (Vec::new(), Vec::new());
        for Step { id, on, next, takes } in steps {
            let Some(old) = rows.remove(&id) else {
                done.push(Stepped::Missing);
                continue;
            };
            let Some(mut new) = next(&old) else {
                done.push(Stepped::No(old));
                continue;
            };
            let giver = takes.and_then(|takes| rows.get(&takes.from).map(|giver| (takes.join)(&new, giver)));
            let has_room = |(taker, gone): &(SessionRecord, SessionRecord)| {
                on.is_none_or(|node| rooms.exchange(node, gone, taker))
            };
            if let Some((taker, mut gone)) = giver.flatten().filter(has_room) {
                // Its place is taken with it.
                gone.revision += 1;
                rows.remove(&gone.id);
                given.push(gone);
                new = taker;
            } else if let Some(node) = on
                && !rooms.take(node, &old, &new)
            {
                done.push(Stepped::Full);
                continue;
            }
            new.revision = old.revision + 1;
            models.push(to_row(&new).into_active_model());
            done.push(Stepped::Yes(new.clone()));
            changes.push((old, new));
        }
        if models.is_empty() {
            transaction.rollback().await?;
        } else {
            // First, so that no two rows ever have one instance.
            if !given.is_empty() {
                replace(&transaction, given.iter().map(|record| to_row(record).into_active_model()).collect()).await?;
            }
            replace(&transaction, models).await?;
            usage::follow(&transaction, &changes).await?;
            let uncertain = self.live.uncertain();
            transaction.commit().await?;
            uncertain.settle();
        }
        let written = done.iter().filter_map(|stepped| match stepped {
            Stepped::Yes(record) => Some(record),
            Stepped::No(_) | Stepped::Missing | Stepped::Full | Stepped::Failed => None,
        });
        self.live.note_all(&given, written);
        for stepped in &done {
            match stepped {
                Stepped::Yes(_) => {}
                Stepped::No(record) => self.live.find(record),
                Stepped::Missing => self.live.doubt(),
                Stepped::Full | Stepped::Failed => {}
            }
        }
        Ok(done)
    }
}

/// Writes rows that are there.
async fn replace(connection: &impl ConnectionTrait, models: Vec<ActiveModel>) -> Result<(), StoreError> {
    let all_else = Column::iter().filter(|column| !matches!(column, Column::Id));
    let replace = OnConflict::column(Column::Id).update_columns(all_else).to_owned();
    Entity::insert_many(models).on_conflict(replace).exec_without_returning(connection).await?;
    Ok(())
}

/// What nodes hold, and what of it is taken, as the database sees it.
#[derive(Debug, Default)]
struct Rooms(BTreeMap<String, Room>);

#[derive(Debug)]
struct Room {
    sessions: i64,
    pixels_per_second: i64,
    /// Processor, memory, network; `None` where the node does not limit it.
    amounts: [Option<i64>; 3],
}

impl Room {
    fn of(node: &node::Model) -> Self {
        let amounts = [node.cpu_milli, node.memory_mib, node.egress_kbps];
        Self { sessions: node.sessions, pixels_per_second: node.pixels_per_second, amounts }
    }

    /// Without this. What is overdrawn, because a session takes more than was thought, is below nothing.
    fn take(&mut self, sessions: i64, pixels_per_second: i64, amounts: [i64; 3]) {
        self.sessions -= sessions;
        self.pixels_per_second = self.pixels_per_second.saturating_sub(pixels_per_second);
        for (left, taken) in self.amounts.iter_mut().zip(amounts) {
            *left = left.map(|left| left.saturating_sub(taken));
        }
    }

    fn has(&self, pixels_per_second: i64, amounts: [i64; 3]) -> bool {
        let has_amounts = self.amounts.iter().zip(amounts).all(|(left, needed)| left.is_none_or(|left| left >= needed));
        self.sessions >= 1 && self.pixels_per_second >= pixels_per_second && has_amounts
    }
}

impl Rooms {
    async fn read(connection: &impl ConnectionTrait, nodes: Vec<String>) -> Result<Self, StoreError> {
        let mut rooms = BTreeMap::new();
        for node in node::Entity::find().filter(node::Column::Id.is_in(nodes.clone())).all(connection).await? {
            let room = Room::of(&node);
            rooms.insert(node.id, room);
        }
        let sum = |of: Column| Expr::from(Func::coalesce([Expr::col(of).sum().cast_as("bigint"), Expr::val(0_i64)]));
        let used: Vec<(Option<String>, i64, i64, i64, i64, i64)> = Entity::find()
            .select_only()
            .column(Column::Node)
            .column_as(Column::Id.count(), "sessions")
            .column_as(sum(Column::PixelsPerSecond), "pixels_per_second")
            .column_as(sum(Column::CpuMilli), "cpu_milli")
            .column_as(sum(Column::MemoryMib), "memory_mib")
            .column_as(sum(Column::EgressKbps), "egress_kbps")
            .filter(Column::Node.is_in(nodes).and(live()))
            .group_by(Column::Node)
            .into_tuple()
            .all(connection)
            .await?;
        for (node, sessions, pixels, cpu, memory, egress) in used {
            if let Some(room) = node.and_then(|node| rooms.get_mut(&node)) {
                room.take(sessions, pixels, [cpu, memory, egress]);
            }
        }
        Ok(Self(rooms))
    }

    /// Takes the place of one that goes for one that comes, which may need more by now. False when that is not there.
    fn exchange(&mut self, on: NodeId, gone: &SessionRecord, taker: &SessionRecord) -> bool {
        let Some(room) = self.0.get_mut(&on.to_string()) else { return false };
        let ((pixels, amounts), (old_pixels, old_amounts)) = (taken_by(taker), taken_by(gone));
        room.take(-1, -old_pixels, old_amounts.map(|amount| -amount));
        let has_room = room.has(pixels, amounts);
        let (pixels, amounts) = if has_room { (pixels, amounts) } else { (old_pixels, old_amounts) };
        room.take(1, pixels, amounts);
        has_room
    }

    /// Takes a place for the session, unless it has this one already.
    fn take(&mut self, on: NodeId, old: &SessionRecord, new: &SessionRecord) -> bool {
        let Some(room) = self.0.get_mut(&on.to_string()) else { return false };
        if old.node == Some(on) && !old.state.is_ended() {
            return true;
        }
        let (pixels, amounts) = taken_by(new);
        let has_room = room.has(pixels, amounts);
        if has_room {
            room.take(1, pixels, amounts);
        }
        has_room
    }
}

/// Pixels a second, and amounts in the order of [`Room::amounts`].
fn taken_by(record: &SessionRecord) -> (i64, [i64; 3]) {
    let Demand { cpu_milli, memory_mib, egress_kbps } = record.demand;
    let pixels = i64::try_from(record.spec.pixels_per_second()).unwrap_or(i64::MAX);
    (pixels, [cpu_milli, memory_mib, egress_kbps].map(i64::from))
}
