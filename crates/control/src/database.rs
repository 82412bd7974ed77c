//! Which database the control plane keeps its records in, and the address of one that is elsewhere.
//!
//! An address may hold a password: its text never leaves this file but to open connections, and what is shown of it is host and name. Deliberately
//! absent: SQL and connections, which are the store's.

use std::fmt;
use std::str::FromStr;

use sea_orm::sqlx::postgres::PgConnectOptions;

/// Where the records are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DatabaseSettings {
    /// A file in the data directory, for one process on one machine.
    #[default]
    Embedded,
    /// A database of a PostgreSQL server, which belongs to Kite alone.
    Postgres(DatabaseUrl),
}

/// The address of a PostgreSQL database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. What it leaves out is taken from libpq's variables
/// (`PGHOST`, ...) and `~/.pgpass`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    place: DatabasePlace,
}

/// What may be told of an address: no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabasePlace {
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) database: String,
}

/// Why a text is no address of a database. None of them quotes the text, nor has a source that does: any part of a misspelt address may be
/// a part of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It is another kind of address.
    #[error("the database's address does not begin with postgres://: write postgres://USER@HOST/DATABASE")]
    Scheme,
    /// Its parts cannot be told from each other: often a password with `/`, `?`, `#` or `@` in it.
    #[error(
        "the database's address cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE, and other signs than letters and digits in names \
         and the password as %XX"
    )]
    Unreadable,
    /// It ends after the host.
    #[error("the database's address names no database: write postgres://USER@HOST/DATABASE")]
    NoDatabase,
    /// What follows the `?` is not known, and so would be without effect.
    #[error(
        "the database's address has a parameter that is not known: host, sslmode, sslrootcert, sslcert and sslkey can follow the `?`; a `?` of the \
         password is written as %3F"
    )]
    Parameter,
}

/// What may follow the `?`: where a socket is, and how TLS is spoken.
const PARAMETERS: [&str; 5] = ["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(DatabaseUrlError::Scheme);
        }
        // Before it is parsed, which logs parameters that are not known.
        let parameters = text.split_once('?').map_or("", |(_, parameters)| parameters);
        let mut names = parameters.split('&').filter(|one| !one.is_empty()).map(|one| one.split('=').next());
        if !names.all(|name| name.is_some_and(|name| PARAMETERS.contains(&name))) {
            return Err(DatabaseUrlError::Parameter);
        }
        let options: PgConnectOptions = text.parse().map_err(|_may_quote_it| DatabaseUrlError::Unreadable)?;
        let host = match options.get_socket() {
            Some(directory) => directory.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().ok_or(DatabaseUrlError::NoDatabase)?.to_owned();
        let place = DatabasePlace { host, user: options.get_username().to_owned(), database };
        Ok(Self { text: text.to_owned(), place })
    }
}

impl DatabaseUrl {
    pub(crate) fn place(&self) -> &DatabasePlace {
        &self.place
    }

    /// How to connect. The result shows the password in its `Debug`: hand it to the driver, and keep it nowhere.
    pub(crate) fn options(&self) -> Result<PgConnectOptions, DatabaseUrlError> {
        self.text.parse().map_err(|_may_quote_it| DatabaseUrlError::Unreadable)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.place)
    }
}

impl fmt::Display for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database `{}` at {}", self.database, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, DatabaseUrlError>) {
        let url = text.parse::<DatabaseUrl>();
        let shown = format!("{url:?} {}", url.as_ref().map_or_else(ToString::to_string, |url| url.place.to_string()));
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(url.map(|url| url.place.to_string()).as_deref(), expected.as_ref().map(|place| *place));
    }

    #[test]
    fn an_address_is_read_and_no_password_is_shown() {
        use DatabaseUrlError as E;
        check("postgres://kite:secret@db.example:5433/kite", Ok("the database `kite` at db.example:5433"));
        check("postgresql://kite:secret@[::1]:5433/kite?sslmode=require", Ok("the database `kite` at [::1]:5433"));
        check("postgres://kite@%2Frun%2Fpostgresql/kite", Ok("the database `kite` at /run/postgresql"));
        check("postgres://kite@localhost/kite?host=/run/postgresql", Ok("the database `kite` at /run/postgresql"));
        check("mysql://kite:secret@db.example/kite", Err(E::Scheme));
        check("secret", Err(E::Scheme));
        check("postgres://kite:se/cret-secret@db.example/kite", Err(E::Unreadable));
        check("postgres://kite:my?secret@db.example/kite", Err(E::Parameter));
        check("postgres://kite@db.example/kite?passwort=secret", Err(E::Parameter));
        check("postgres://kite@db.example/kite?sslmode=secret", Err(E::Unreadable));
        check("postgres://kite:secret@db.example", Err(E::NoDatabase));
    }
}
