//! PostgreSQL: connections that mend themselves, a schema that one process at a time brings up to date, and rights that one process has of all.
//!
//! Advisory locks stand for what SQLite's one writer and locked files are on one machine. They are held by connections to the server itself: a
//! pooler in between that hands transactions to changing connections would break them.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions as _, Connection as _, Error as SqlxError, PgConnection, query, query_scalar};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqlxPostgresConnector, Statement,
    TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::time::{sleep, timeout};

use super::{BUSY, StoreError, migration};
use crate::database::{DatabasePlace, DatabaseUrl};

/// Writers at once. Serial transactions need one; the others change one row each, and each costs the server a process. A server allows 100
/// connections of all its clients by default.
const WRITERS_AT_ONCE: u32 = 16;

/// Readers at once.
const READERS_AT_ONCE: u32 = 8;

/// Longest statement. Ours take milliseconds; a longer one is lost, and what it holds has to come free.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// Longest wait of a start for another process that migrates.
const MIGRATION_WAIT: Duration = Duration::from_secs(60);

/// Numbers of the advisory locks. They hold within one database, which is Kite's alone, so that any numbers do; never change one, as processes of
/// two versions may run at once.
pub(super) const WRITERS: i64 = 1;
const MIGRATION: i64 = 2;
const CONTROL_PLANE: i64 = 3;
const KEEPER: i64 = 4;

/// A server looks so often whether a client is still there for which it works or waits for a lock. Without that the statements of a process that was
/// killed hold what they have locked until they are through, and who starts in its place waits for them. Servers before version 14 cannot, and
/// those on systems that do not say it refuse.
const LOOK_AFTER_CLIENT: &str = "SELECT set_config('client_connection_check_interval', '250', false) \
     WHERE current_setting('server_version_num')::int >= 140000";

/// Texts sort by their bytes, whatever the database's language, as they do in SQLite. Also, an order that the system's C library defines
/// changes with its updates, and breaks the indexes of texts.
const BYTEWISE_TEXT: &str = r#"
DO $$
DECLARE wrong record;
BEGIN
    FOR wrong IN
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND data_type IN ('text', 'character varying')
            AND collation_name IS DISTINCT FROM 'C'
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE varchar COLLATE "C"', wrong.table_name, wrong.column_name);
    END LOOP;
END $$"#;

/// Why a PostgreSQL database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// No connection: nothing listens there, a name or a route is wrong, or TLS failed.
    #[error("{place} cannot be reached: check that PostgreSQL runs there and that host, port and sslmode are right")]
    Unreachable {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: SqlxError,
    },
    /// It is reached and says nothing: often a firewall that drops.
    #[error("{place} does not answer within {} s: check the host and the firewalls on the way", BUSY.as_secs())]
    Silent {
        /// Which.
        place: DatabasePlace,
    },
    /// The server knows no such user, or another password.
    #[error("{place} refuses the user `{}`: check the name, the password, and the server's pg_hba.conf", place.user)]
    Login {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: SqlxError,
    },
    /// The server has no such database.
    #[error("{place} does not exist: create it on the server with `createdb --owner={} {}`", place.user, place.database)]
    Missing {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: SqlxError,
    },
    /// The user may connect, and not make tables.
    #[error("{place} cannot be set up by the user `{}`: make him the owner of the database", place.user)]
    Rights {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: DbErr,
    },
    /// Another process brings the schema up to date for longer than [`MIGRATION_WAIT`], or something else holds the tables.
    #[error("{place} is being set up by another process, for longer than {} s: try again", MIGRATION_WAIT.as_secs())]
    Busy {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: DbErr,
    },
    /// Something else: the source says what.
    #[error("{place} cannot be opened")]
    Other {
        /// Which.
        place: DatabasePlace,
        /// Why.
        #[source]
        source: DbErr,
    },
}

/// Connects and brings the schema up to date: writers' and readers' connections.
pub(super) async fn open(url: &DatabaseUrl) -> Result<[DatabaseConnection; 2], StoreError> {
    let options = options(url)?;
    // A pool tries until its time is over and does not say why in vain.
    let probe = timeout(BUSY, PgConnection::connect_with(&options)).await;
    let probe = probe.map_err(|_elapsed| OpenError::Silent { place: url.place().clone() })?;
    let closed = probe.map_err(|error| connect_error(url.place(), error))?.close().await;
    closed.map_err(|error| connect_error(url.place(), error))?;
    let write =
        SqlxPostgresConnector::from_sqlx_postgres_pool(pool(WRITERS_AT_ONCE).connect_lazy_with(options.clone()));
    let read = SqlxPostgresConnector::from_sqlx_postgres_pool(pool(READERS_AT_ONCE).connect_lazy_with(options));
    migrate(&write).await.map_err(|error| migrate_error(url.place(), error))?;
    Ok([write, read])
}

fn options(url: &DatabaseUrl) -> Result<PgConnectOptions, StoreError> {
    let options = url.options().map_err(|error| DbErr::Custom(error.to_string()))?;
    let ms = |limit: Duration| limit.as_millis().to_string();
    Ok(options.application_name("kite").disable_statement_logging().options([
        ("statement_timeout", ms(STATEMENT_LIMIT)),
        // As long as SQLite waits for its writer.
        ("lock_timeout", ms(BUSY)),
        // A process that was stopped in the middle of a transaction gives its locks back: another one waits for them to lead.
        // Longer than anybody waits for a lock, so that who waits hears of that first.
        ("idle_in_transaction_session_timeout", ms(BUSY * 2)),
        // The server notices within seconds that a machine is gone, and frees its locks.
        ("tcp_keepalives_idle", "2".to_owned()),
        ("tcp_keepalives_interval", "1".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "5000".to_owned()),
        // What the transactions are made for, whatever the database's default.
        ("default_transaction_isolation", "read committed".to_owned()),
    ]))
}

fn pool(most: u32) -> PgPoolOptions {
    let pool = PgPoolOptions::new().max_connections(most).acquire_timeout(BUSY);
    // Connections that a restart of the server broke are found and replaced before anybody gets one.
    let pool = pool.test_before_acquire(true);
    let pool = pool.after_connect(|connection, _metadata| {
        Box::pin(async move {
            if let Err(error) = query(LOOK_AFTER_CLIENT).execute(connection).await {
                tracing::debug!(%error, "the server does not look after its clients");
            }
            Ok(())
        })
    });
    // Who gave up waiting hands back a connection that may never answer: without this it would keep its place in the pool.
    pool.after_release(|connection, _metadata| {
        Box::pin(async move {
            let answered = timeout(BUSY, connection.ping()).await;
            answered.map_err(|_elapsed| SqlxError::PoolTimedOut)?.map(|()| true)
        })
    })
}

/// Waits for an advisory lock, which the end of the transaction gives back.
pub(super) fn lock(number: i64) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_advisory_xact_lock($1)", [number.into()])
}

/// One transaction, of one process at a time: whoever comes second finds everything done, and who is killed in between leaves nothing.
async fn migrate(write: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = write.begin().await?;
    let limits = format!("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {}", MIGRATION_WAIT.as_millis());
    transaction.execute_unprepared(&limits).await?;
    transaction.execute_raw(lock(MIGRATION)).await?;
    migration::Migrator::up(&transaction, None).await?;
    transaction.execute_unprepared(BYTEWISE_TEXT).await?;
    transaction.commit().await
}

fn connect_error(place: &DatabasePlace, source: SqlxError) -> OpenError {
    let place = place.clone();
    match sqlstate(&source).as_deref() {
        // Invalid authorization, invalid password, no right to connect.
        Some("28000" | "28P01" | "42501") => OpenError::Login { place, source },
        Some("3D000") => OpenError::Missing { place, source },
        Some(_) => OpenError::Other { place, source: DbErr::Conn(RuntimeErr::SqlxError(source.into())) },
        None => OpenError::Unreachable { place, source },
    }
}

fn migrate_error(place: &DatabasePlace, source: DbErr) -> OpenError {
    let place = place.clone();
    match code(&source).as_deref() {
        Some("42501") => OpenError::Rights { place, source },
        Some("55P03") => OpenError::Busy { place, source },
        _ => OpenError::Other { place, source },
    }
}

fn sqlstate(error: &SqlxError) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// The database's own code of an error: a SQLSTATE of PostgreSQL, a number of SQLite.
pub(super) fn code(error: &DbErr) -> Option<String> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => sqlstate(error),
        _ => None,
    }
}

/// What only one process of all on the database may be at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It serves players.
    ControlPlane,
    /// It removes from the content store, and writes it anew.
    Keeper,
}

/// How often a role's holder looks whether he has it, and how long the server may take to say so: together less than the server takes to give
/// it to another one.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A role that this process has for as long as the connection lives, which is in no pool. The server takes it back when the process ends, and
/// within seconds when its machine does. Who loses the connection loses it, and hears of it from [`Held::lost`].
#[derive(Debug)]
pub(super) struct Held {
    connection: PgConnection,
    number: i64,
}

impl Held {
    /// Takes a role; `None` when another process has it for longer than `wait`.
    pub(super) async fn take(write: &DatabaseConnection, role: Role, wait: Duration) -> Result<Option<Self>, DbErr> {
        let number = match role {
            Role::ControlPlane => CONTROL_PLANE,
            Role::Keeper => KEEPER,
        };
        let failed = |error: SqlxError| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
        let connection = write.get_postgres_connection_pool().acquire().await.map_err(failed)?;
        let mut connection = connection.detach();
        let since = std::time::Instant::now();
        loop {
            let taken = query_scalar("SELECT pg_try_advisory_lock($1)").bind(number).fetch_one(&mut connection);
            // A server that is gone says nothing: whoever waits here for minutes leads for nobody.
            let taken = timeout(LOOK_LIMIT, taken).await;
            let taken = taken.map_err(|_elapsed| failed(SqlxError::PoolTimedOut))?;
            if taken.map_err(failed)? {
                return Ok(Some(Self { connection, number }));
            }
            if since.elapsed() >= wait {
                return Ok(None);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ready when the connection does not answer any more, and the role may be another one's.
    pub(super) async fn lost(&mut self) {
        loop {
            sleep(LOOK_PERIOD).await;
            if !matches!(timeout(LOOK_LIMIT, self.connection.ping()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Gives it back at once: a connection that is merely dropped does so when the server sees that.
    pub(super) async fn release(mut self) {
        let unlocked = async {
            query("SELECT pg_advisory_unlock($1)").bind(self.number).execute(&mut self.connection).await?;
            self.connection.close().await
        };
        // In vain, the dropped connection does it.
        if !matches!(timeout(BUSY, unlocked).await, Ok(Ok(()))) {
            tracing::debug!("a role was given back by its connection's end");
        }
    }
}
