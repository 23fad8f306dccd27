//! The suite on a SQLite file. Two stores that have it open are two sessions, whether or not they are in one process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use hapax::coord::SqliteStore;

use super::{World, suite};

struct Sqlite {
    folder: PathBuf,
}

impl World for Sqlite {
    type Session = SqliteStore;

    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hapax-coord-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    fn session(&self) -> SqliteStore {
        SqliteStore::open(self.folder.join("locks")).unwrap()
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // What is still open is removed all the same, or left to whoever cleans up there.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

suite!(crate::suite::on_sqlite::Sqlite);
