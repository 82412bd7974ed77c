//! Connections and transactions: every wait for the database ends, and every transaction says which of two kinds it is.
//!
//! - A **serial** transaction ([`Connection::begin`]) is the only one of its kind at a time, of all processes on the database: it may decide by many
//!   rows, whoever else writes them in transactions of this kind. On PostgreSQL it takes an advisory lock before anything else.
//! - A transaction of **one row** ([`Connection::begin_row`]) changes one row that it has read with `lock_exclusive`, and decides by this row alone.
//!   On PostgreSQL those of different rows run at once, also beside a serial one.
//!
//! On SQLite there is one connection for writers, and so both kinds are serial. READ COMMITTED is enough on PostgreSQL: each statement sees what was
//! committed before it, so what comes after the lock sees all that the lock's last holder did.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::async_trait;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::calls::{Call, Calls};
use super::{BUSY, postgres};

/// Longest wait for an answer. Above the server's own limit (`postgres::STATEMENT_LIMIT`), which answers with what went wrong: this one is for a
/// server that vanished without a word, of which TCP alone would tell after a quarter of an hour, or never.
const SILENCE: Duration = Duration::from_secs(40);

/// The connections of writers, or of readers.
#[derive(Debug)]
pub(super) struct Connection {
    pool: DatabaseConnection,
    /// This process's serial transactions queue here, so that those that wait do not take all connections from the other kind. `None` on
    /// SQLite, where they queue for the one connection.
    serial: Option<Arc<Mutex<()>>>,
    calls: Calls,
}

/// A transaction; rolled back when it is dropped.
#[derive(Debug)]
pub(super) struct Transaction {
    inner: DatabaseTransaction,
    calls: Calls,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Connection {
    pub(super) fn new(pool: DatabaseConnection, calls: Calls) -> Self {
        let is_shared = pool.get_database_backend() == DbBackend::Postgres;
        Self { pool, serial: is_shared.then(Arc::default), calls }
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn pool(&self) -> &DatabaseConnection {
        &self.pool
    }

    /// A serial transaction, which has the right to write from its first statement on.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        let Some(serial) = &self.serial else {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            };
            let begun = self.calls.time(Call::Begin, answer(self.pool.begin_with_options(options)));
            return Ok(self.transaction(begun.await?, None));
        };
        let turn = timeout(BUSY, Arc::clone(serial).lock_owned()).await;
        let turn = turn.map_err(|_elapsed| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        let begun = self.calls.time(Call::Begin, answer(self.pool.begin())).await?;
        let transaction = self.transaction(begun, Some(turn));
        transaction.execute_raw(postgres::lock(postgres::WRITERS)).await?;
        Ok(transaction)
    }

    /// A transaction of one row.
    pub(super) async fn begin_row(&self) -> Result<Transaction, DbErr> {
        if self.serial.is_none() {
            return self.begin().await;
        }
        let begun = self.calls.time(Call::Begin, answer(self.pool.begin())).await?;
        Ok(self.transaction(begun, None))
    }

    fn transaction(&self, inner: DatabaseTransaction, turn: Option<OwnedMutexGuard<()>>) -> Transaction {
        Transaction { inner, calls: self.calls.clone(), _turn: turn }
    }

    pub(super) async fn close(&self) -> Result<(), DbErr> {
        answer(self.pool.clone().close()).await
    }
}

impl Transaction {
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        self.calls.time(Call::Commit, answer(self.inner.commit())).await
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        self.calls.time(Call::Rollback, answer(self.inner.rollback())).await
    }
}

/// Waits for an answer, so long.
async fn answer<T>(question: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    timeout(SILENCE, question).await.unwrap_or_else(|_elapsed| {
        Err(DbErr::Conn(RuntimeErr::Internal(format!("no answer within {} s", SILENCE.as_secs()))))
    })
}

macro_rules! bounded {
    ($of:ident, $inner:ident) => {
        #[async_trait::async_trait]
        impl ConnectionTrait for $of {
            fn get_database_backend(&self) -> DbBackend {
                self.$inner.get_database_backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.calls.time(Call::Execute, answer(self.$inner.execute_raw(statement))).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                self.calls.time(Call::Execute, answer(self.$inner.execute_unprepared(sql))).await
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                self.calls.time(Call::Query, answer(self.$inner.query_one_raw(statement))).await
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                self.calls.time(Call::Query, answer(self.$inner.query_all_raw(statement))).await
            }
        }
    };
}

bounded!(Connection, pool);
bounded!(Transaction, inner);
