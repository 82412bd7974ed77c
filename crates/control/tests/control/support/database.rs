//! The database of a test: the embedded one, or a fresh one of the PostgreSQL server that `KITE_TEST_POSTGRES` names, which goes with the test, also
//! when that fails.

use std::cell::RefCell;

use sea_orm::{ConnectionTrait, Database, DbErr};

use super::DatabaseSettings;

/// Address of a PostgreSQL server, with a user who may create databases: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Set, every test uses
/// it: none is left out in silence.
const SERVER: &str = "KITE_TEST_POSTGRES";

#[derive(Debug)]
pub(crate) struct TestDatabase {
    /// `None` for the embedded one.
    created: Option<Created>,
}

#[derive(Debug)]
struct Created {
    server: String,
    name: String,
}

impl TestDatabase {
    pub(crate) fn new() -> Self {
        let created = std::env::var(SERVER).ok().map(|server| {
            let name = format!("kite_test_{}", uuid::Uuid::now_v7().simple());
            administer(&server, &format!("CREATE DATABASE {name}")).unwrap();
            Created { server, name }
        });
        Self { created }
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        match self.url() {
            Some(url) => DatabaseSettings::Postgres(url.parse().unwrap()),
            None => DatabaseSettings::Embedded,
        }
    }

    /// Of the database at PostgreSQL.
    pub(crate) fn url(&self) -> Option<String> {
        let created = self.created.as_ref()?;
        Some(with_database(&created.server, &created.name))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        DOOMED.with_borrow_mut(|doomed| doomed.extend(self.created.take().map(Doomed)));
    }
}

thread_local! {
    /// Databases go when the test's thread ends, and with it its runtime. Before, a connection that it was about to open would wait for a
    /// thread that waits here, and PostgreSQL for that connection: it lets none go on alone while a database is dropped.
    static DOOMED: RefCell<Vec<Doomed>> = const { RefCell::new(Vec::new()) };
}

struct Doomed(Created);

impl Drop for Doomed {
    fn drop(&mut self) {
        let Created { server, name } = &self.0;
        // FORCE: the server may not have seen yet that the test is gone. A panic here would abort all other tests.
        if let Err(error) = administer(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")) {
            eprintln!("{name} stays: {error}");
        }
    }
}

/// The same server's address with another database.
fn with_database(server: &str, name: &str) -> String {
    let (base, parameters) = server.split_once('?').map_or((server, ""), |(base, _)| (base, &server[base.len()..]));
    let (base, _database) = base.rsplit_once('/').unwrap();
    format!("{base}/{name}{parameters}")
}

/// On a thread of its own, because tests make and drop databases inside and outside of their runtime.
fn administer(server: &str, sql: &str) -> Result<(), DbErr> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connection = Database::connect(server).await?;
            connection.execute_unprepared(sql).await?;
            connection.close().await
        })
    };
    std::thread::scope(|scope| std::thread::Builder::new().spawn_scoped(scope, run).unwrap().join().unwrap())
}
