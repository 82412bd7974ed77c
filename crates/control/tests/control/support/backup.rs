//! Backup and restore of the database by the commands of docs/operator.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Home;

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let ran = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Home {
    /// Writes the database into one file, while it is in use.
    pub(crate) fn back_up(&self, to: &Path) {
        match self.database.url() {
            Some(url) => run("pg_dump", &["--format=custom", &format!("--file={}", text(to)), &url]),
            None => run("sqlite3", &[text(&self.path().join("data/control.db")), &format!(".backup '{}'", text(to))]),
        };
    }

    /// Puts a backup into a home whose database is new, or whose control plane has stopped.
    pub(crate) fn restore(&self, from: &Path) {
        if let Some(url) = self.database.url() {
            run("pg_restore", &["--no-owner", "--exit-on-error", &format!("--dbname={url}"), text(from)]);
            return;
        }
        let data = self.path().join("data");
        for leftover in ["control.db-wal", "control.db-shm"] {
            // There is none after an orderly stop.
            fs::remove_file(data.join(leftover)).unwrap_or_default();
        }
        fs::copy(from, data.join("control.db")).unwrap();
    }

    /// All that the database holds: of SQLite the file, also where rows were; of PostgreSQL the rows.
    pub(crate) fn database_bytes(&self) -> Vec<u8> {
        match self.database.url() {
            Some(url) => run("pg_dump", &[&url]),
            None => fs::read(self.path().join("data/control.db")).unwrap(),
        }
    }
}
