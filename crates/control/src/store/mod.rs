//! The system of record: SQLite or PostgreSQL through SeaORM. The only place with SQL.
//!
//! Every change of a session is part of a transaction that reads the row, asks a pure function what it shall become, and writes
//! it; nobody writes a row that he has not just read. What a transaction may rely on stands in `connection.rs`; a write
//! outside of one says why a single statement is enough. Several processes may work on one PostgreSQL database.

mod audit;
mod calls;
mod channel;
mod claim;
mod command;
mod connection;
mod demand;
mod entity;
mod keeping;
mod key;
mod leadership;
mod live;
mod migration;
mod node;
mod placement;
mod player;
mod pool;
mod postgres;
mod release;
mod save;
mod session;
mod sqlite;
mod step;
mod tenant;
mod upload;
mod usage;

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};

pub(crate) use self::audit::{AuditOf, AuditRecord};
pub(crate) use self::calls::Calls;
pub(crate) use self::channel::ChannelRecord;
pub(crate) use self::claim::{Claimed, Usage};
pub(crate) use self::command::{CommandRecord, CommandsOf, MostCommands};
use self::connection::{Connection, Transaction};
pub(crate) use self::keeping::LiveContent;
pub(crate) use self::key::{KeyAdded, KeyRecord};
pub(crate) use self::leadership::Leader;
use self::live::Live;
pub(crate) use self::node::{JoinPlace, NodeRecord};
pub(crate) use self::placement::PlacementRecord;
pub(crate) use self::player::{Erased, PlayerRecord};
pub(crate) use self::pool::{PoolAdded, PoolRecord};
pub(crate) use self::postgres::Role;
pub(crate) use self::release::{NewRelease, ReleaseRecord, ReleaseRemoval};
pub(crate) use self::save::{ChosenSave, Committed, SaveRecord, SaveRefusal, SaveRule, SessionSave};
pub(crate) use self::session::{Changed, SessionRecord};
pub(crate) use self::step::{Step, Stepped, Takes};
pub(crate) use self::tenant::Owner;
pub(crate) use self::upload::{Noted, UploadRecord};
pub(crate) use self::usage::{Played, UsageOf};
use crate::DatabaseSettings;

/// The database's file in the data directory.
pub(crate) const DATABASE_FILE: &str = "control.db";

/// How long to wait for a connection or for another process's lock. Longer hides a broken disk from the player.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database failed: look at the disk and at the file's permissions.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// PostgreSQL cannot be opened: each of its kinds says what to do.
    #[error(transparent)]
    Open(#[from] postgres::OpenError),
    /// Another replica leads meanwhile: this one has to end.
    #[error("another replica leads")]
    Deposed,
    /// A row holds what this version cannot read: it was written by a newer version or by hand.
    #[error("column {column} of {id} holds a value that is not known")]
    Unreadable {
        /// Which row.
        id: String,
        /// Which column.
        column: &'static str,
    },
}

impl StoreError {
    /// True when the disk has no room: SQLite's code 13, PostgreSQL's `disk_full`.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, StoreError::Database(error) if matches!(postgres::code(error).as_deref(), Some("13" | "53100")))
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    write: Connection,
    read: Connection,
    /// The sessions that live, in memory.
    pub(crate) live: Live,
    /// In which this process leads; 0 where nobody asked.
    term: AtomicI64,
}

/// A role that this process has, until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Held(Option<postgres::Held>);

impl Held {
    pub(crate) async fn release(self) {
        if let Some(held) = self.0 {
            held.release().await;
        }
    }

    /// Ready when the role may be lost: its connection does not answer.
    pub(crate) async fn lost(&mut self) {
        match &mut self.0 {
            Some(held) => held.lost().await,
            None => std::future::pending().await,
        }
    }
}

impl Store {
    /// Opens the database, which may be in this directory, and brings its schema up to date.
    pub(crate) async fn open(data_dir: &Path, settings: &DatabaseSettings) -> Result<Self, StoreError> {
        let [write, read] = match settings {
            DatabaseSettings::Embedded => sqlite::open(data_dir).await?,
            DatabaseSettings::Postgres(url) => postgres::open(url).await?,
        };
        let calls = Calls::new();
        Ok(Self {
            write: Connection::new(write, calls.clone()),
            read: Connection::new(read, calls),
            live: Live::default(),
            term: AtomicI64::new(0),
        })
    }

    /// How long the database takes.
    pub(crate) fn calls(&self) -> &Calls {
        self.read.calls()
    }

    /// Closes the connections; the write-ahead log of SQLite is folded into the database by the last one.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.read.close().await?;
        self.write.close().await?;
        Ok(())
    }

    /// Takes a role that one process of all on this database has at a time; `None` when another one has it for longer than `wait`. Of an
    /// embedded database the files that lock the data directory say the same, so that here everybody gets it. Safe to cancel.
    pub(crate) async fn take(&self, role: Role, wait: Duration) -> Result<Option<Held>, StoreError> {
        if self.write.get_database_backend() != DbBackend::Postgres {
            return Ok(Some(Held(None)));
        }
        Ok(postgres::Held::take(self.write.pool(), role, wait).await?.map(|held| Held(Some(held))))
    }

    /// A transaction that is the only one of its kind: see [`connection`].
    async fn begin(&self) -> Result<Transaction, DbErr> {
        self.write.begin().await
    }
}

#[cfg(test)]
#[path = "../../tests/control/support/database.rs"]
mod test_database;

/// A fresh store of the kind under test.
#[cfg(test)]
mod test_store {
    use sea_orm::{Database, DatabaseConnection};
    use tempfile::TempDir;

    use super::test_database::TestDatabase;
    use super::{DATABASE_FILE, Store, sqlite};

    pub(super) struct TestStore {
        dir: TempDir,
        pub(super) database: TestDatabase,
    }

    impl TestStore {
        pub(super) fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), database: TestDatabase::new() }
        }

        pub(super) async fn open(&self) -> Store {
            Store::open(self.dir.path(), &self.database.settings()).await.unwrap()
        }

        /// Without a schema.
        pub(super) async fn connect(&self) -> DatabaseConnection {
            match self.database.url() {
                Some(url) => Database::connect(url).await.unwrap(),
                None => Database::connect(sqlite::options(&self.dir.path().join(DATABASE_FILE), 1)).await.unwrap(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
