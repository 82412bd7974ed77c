//! The system of record: SQLite through SeaORM. The only place with SQL.
//!
//! Every change of a session is one transaction that reads the row, asks a pure function what it shall become, and writes
//! it; nobody writes a row that he has not just read. Writers queue in front of one connection, readers have their own.

mod channel;
mod claim;
mod entity;
mod keeping;
mod migration;
mod node;
mod placement;
mod player;
mod release;
mod save;
mod session;
mod tenant;
mod upload;

use std::path::Path;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

pub(crate) use self::channel::ChannelRecord;
pub(crate) use self::claim::{Claimed, Placed, Usage};
pub(crate) use self::keeping::LiveContent;
pub(crate) use self::node::{JoinPlace, NodeRecord};
pub(crate) use self::player::{Erased, PlayerRecord};
pub(crate) use self::release::{NewRelease, ReleaseRecord, ReleaseRemoval};
pub(crate) use self::save::{ChosenSave, Committed, SaveRecord, SaveRefusal, SaveRule, SessionSave};
pub(crate) use self::session::{Changed, SessionRecord};
pub(crate) use self::tenant::Owner;
pub(crate) use self::upload::{Noted, UploadRecord};

/// The database's file in the data directory.
pub(crate) const DATABASE_FILE: &str = "control.db";

/// Readers at once. A read takes well under a millisecond; more connections only cost memory.
const READERS: u32 = 4;

/// How long to wait for a connection or for another process's lock. Longer hides a broken disk from the player.
const BUSY: Duration = Duration::from_secs(5);

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database failed: look at the disk and at the file's permissions.
    #[error("the database failed")]
    Database(#[from] DbErr),
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
    /// True when the disk has no room, which SQLite says by its code 13.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, StoreError::Database(error) if error.to_string().contains("(code: 13)"))
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    write: DatabaseConnection,
    read: DatabaseConnection,
}

impl Store {
    /// Opens the database in this directory and brings its schema up to date.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let file = data_dir.join(DATABASE_FILE);
        let write = Database::connect(options(&file, 1)).await?;
        migration::Migrator::up(&write, None).await?;
        let read = Database::connect(options(&file, READERS)).await?;
        Ok(Self { write, read })
    }

    /// Closes the connections; the write-ahead log is folded into the database by the last one.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.read.clone().close().await?;
        self.write.clone().close().await?;
        Ok(())
    }

    /// A transaction that has the right to write from its first statement on.
    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.write.begin_with_options(options).await
    }
}

fn options(file: &Path, connections: u32) -> ConnectOptions {
    let file = file.to_owned();
    // The address only chooses the driver: a path inside of an address would need escaping.
    let mut options = ConnectOptions::new("sqlite://control.db");
    options
        .min_connections(1)
        .max_connections(connections)
        .acquire_timeout(BUSY)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        // NORMAL loses the last commits when the power fails, never the database's consistency; FULL is ten times slower.
        .map_sqlx_sqlite_opts(move |options| {
            options
                .filename(&file)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal)
                .busy_timeout(BUSY)
                // What is erased is overwritten: a file that somebody copies holds no player who asked to be forgotten.
                .pragma("secure_delete", "on")
        });
    options
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectionTrait as _;

    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_faults() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        // As many pages as it has: the next one fails as on a full disk.
        store.write.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
        let fault = async |sql: &str| StoreError::from(store.write.execute_unprepared(sql).await.unwrap_err());
        let full = fault("CREATE TABLE much AS SELECT zeroblob(1048576)").await;
        assert!(full.is_full(), "{full}");
        let other = fault("SELECT nothing").await;
        assert!(!other.is_full(), "{other}");
    }
}
