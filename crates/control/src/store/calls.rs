//! How long the database takes for what it is asked, and how often it fails.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use sea_orm::DbErr;

/// From a look-up in memory to a statement's limit of 30 s.
const SECONDS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

type Word = [(&'static str, &'static str); 1];

/// What the database is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The right to a connection, or to a transaction.
    Begin,
    /// Rows.
    Query,
    /// A change.
    Execute,
    /// That changes stay.
    Commit,
    /// That they do not.
    Rollback,
}

impl Call {
    const ALL: [Self; 5] = [Self::Begin, Self::Query, Self::Execute, Self::Commit, Self::Rollback];

    const fn word(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Query => "query",
            Self::Execute => "execute",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
        }
    }
}

/// All calls of a store.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    seconds: Family<Word, Histogram>,
    errors: Family<Word, Counter>,
}

impl Calls {
    pub(super) fn new() -> Self {
        let calls =
            Self { seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)), errors: Family::default() };
        for call in Call::ALL {
            drop(calls.seconds.get_or_create(&[("call", call.word())]));
            drop(calls.errors.get_or_create(&[("call", call.word())]));
        }
        calls
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("database_call_seconds", "How long the database took for a call", self.seconds.clone());
        registry.register("database_errors", "Calls that the database failed or refused", self.errors.clone());
    }

    /// Waits for an answer and notes how long it took.
    pub(super) async fn time<T>(&self, call: Call, answer: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let began = Instant::now();
        let answered = answer.await;
        let labels = [("call", call.word())];
        self.seconds.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
        if answered.is_err() {
            self.errors.get_or_create(&labels).inc();
        }
        answered
    }
}
