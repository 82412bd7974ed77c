//! SQLite, the embedded database: a file in the data directory, one connection for writers, some for readers.

use std::path::Path;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;

use super::{BUSY, DATABASE_FILE, migration};

/// Readers at once. A read takes well under a millisecond; more connections only cost memory.
const READERS: u32 = 4;

/// Opens the file and brings its schema up to date: writers' and readers' connections.
pub(super) async fn open(data_dir: &Path) -> Result<[DatabaseConnection; 2], DbErr> {
    let file = data_dir.join(DATABASE_FILE);
    let write = Database::connect(options(&file, 1)).await?;
    migration::Migrator::up(&write, None).await?;
    let read = Database::connect(options(&file, READERS)).await?;
    Ok([write, read])
}

pub(super) fn options(file: &Path, connections: u32) -> ConnectOptions {
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
