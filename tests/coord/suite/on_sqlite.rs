//! The suite on a SQLite file. Two stores that have it open are two sessions, whether or not they are in one process.

use hapax::coord::SqliteStore;
use tempfile::TempDir;

use super::{World, suite};

struct Sqlite(TempDir);

impl World for Sqlite {
    type Session = SqliteStore;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn session(&self) -> SqliteStore {
        SqliteStore::open(self.0.path().join("locks")).unwrap()
    }
}

suite!(crate::suite::on_sqlite::Sqlite);
