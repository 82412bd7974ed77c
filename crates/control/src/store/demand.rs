//! What kinds of sessions take, in the database.

use api::clock::UtcTime;
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, IntoActiveModel, QueryOrder};

use super::entity::demand::{Column, Entity, Model};
use super::{Store, StoreError};
use crate::demand::{Demand, Due, Key, Learned};

impl Store {
    /// All that was learnt.
    pub(crate) async fn demands(&self) -> Result<Vec<(Key, Learned)>, StoreError> {
        let rows = Entity::find().order_by_asc(Column::App).all(&self.read).await?;
        rows.into_iter().map(from_row).collect()
    }

    /// Writes what was learnt, and forgets what is not remembered any more.
    pub(crate) async fn write_demands(&self, due: &Due) -> Result<(), StoreError> {
        // Only who leads learns: no row is decided by another one.
        let transaction = self.write.begin_row().await?;
        self.check_term(&transaction).await?;
        for key in &due.remove {
            let (app, release, width, height, rate) = columns(key);
            Entity::delete_by_id((app, release, width, height, rate)).exec(&transaction).await?;
        }
        if !due.write.is_empty() {
            let rows = due.write.iter().map(|(key, learned)| to_row(key, learned).into_active_model());
            let key = [Column::App, Column::Release, Column::Width, Column::Height, Column::FramesPerSecond];
            let rest = [
                Column::CpuMilli,
                Column::MemoryMib,
                Column::EgressKbps,
                Column::Samples,
                Column::Sessions,
                Column::MeasuredAt,
            ];
            let replace = OnConflict::columns(key).update_columns(rest).to_owned();
            Entity::insert_many(rows).on_conflict(replace).exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn columns(key: &Key) -> (String, i64, i32, i32, i32) {
    let small = |edge: u32| i32::try_from(edge).unwrap_or(i32::MAX);
    let release = key.release.map_or(0, i64::from);
    (key.app.to_string(), release, small(key.width), small(key.height), i32::from(key.frames_per_second))
}

fn to_row(key: &Key, learned: &Learned) -> Model {
    let (app, release, width, height, frames_per_second) = columns(key);
    let Learned { demand, samples, sessions, measured_at } = *learned;
    Model {
        app,
        release,
        width,
        height,
        frames_per_second,
        cpu_milli: i64::from(demand.cpu_milli),
        memory_mib: i64::from(demand.memory_mib),
        egress_kbps: i64::from(demand.egress_kbps),
        samples: i64::from(samples),
        sessions: i64::from(sessions),
        measured_at: measured_at.unix_ms(),
    }
}

fn from_row(row: Model) -> Result<(Key, Learned), StoreError> {
    read_row(&row).map_err(|column| StoreError::Unreadable { id: row.app, column })
}

/// What was learnt, or the column that cannot be read.
fn read_row(row: &Model) -> Result<(Key, Learned), &'static str> {
    let number = |value: i64, column| u32::try_from(value).map_err(|_range| column);
    let edge = |value: i32, column| u32::try_from(value).map_err(|_range| column);
    let release = number(row.release, "release")?;
    let key = Key {
        app: row.app.parse().map_err(|_no_name| "app")?,
        release: (release > 0).then_some(release),
        width: edge(row.width, "width")?,
        height: edge(row.height, "height")?,
        frames_per_second: row.frames_per_second.try_into().map_err(|_range| "frames_per_second")?,
    };
    let demand = Demand {
        cpu_milli: number(row.cpu_milli, "cpu_milli")?,
        memory_mib: number(row.memory_mib, "memory_mib")?,
        egress_kbps: number(row.egress_kbps, "egress_kbps")?,
    };
    let learned = Learned {
        demand,
        samples: number(row.samples, "samples")?,
        sessions: number(row.sessions, "sessions")?,
        measured_at: UtcTime::from_unix_ms(row.measured_at),
    };
    Ok((key, learned))
}
