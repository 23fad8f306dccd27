//! Files that are broken, full, replaced, of others, or kept busy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hapax::coord::{CoordError, Lease, Lock, SqliteStore};
use rusqlite::Connection;

use crate::agent::{Agent, until};
use crate::processes::place;

crate::trials! {
    what_is_no_store_is_refused,
    a_store_of_another_version_is_refused,
    a_missing_file_is_not_made_unless_wanted,
    a_link_is_refused,
    a_damaged_file_is_an_error,
    a_removed_file_loses_everything,
    a_replaced_file_loses_everything,
    a_removed_session_file_loses_its_guards,
    a_busy_store_is_an_error_and_nothing_is_lost,
    a_guard_dropped_while_the_store_is_busy_is_given_back_later,
    a_full_store_is_an_error,
    only_the_owner_can_read_it,
    a_group_can_share_it,
    tokens_grow_across_files_and_boots,
    a_long_path,
    an_old_restored_file_repeats_no_token,
}

fn error(path: &Path) -> CoordError {
    SqliteStore::open(path).unwrap_err()
}

fn what_is_no_store_is_refused() {
    let (directory, path) = place();
    fs::write(
        &path,
        "this is a text, and not a short one, but no database ".repeat(20),
    )
    .unwrap();
    assert!(
        matches!(error(&path), CoordError::Store { .. }),
        "{}",
        error(&path)
    );
    let other = directory.path().join("other.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE t(x)")
        .unwrap();
    assert!(
        error(&other).to_string().contains("another program"),
        "{}",
        error(&other)
    );
    assert!(matches!(error(directory.path()), CoordError::Store { .. }));
    let nowhere = directory.path().join("no/where.db");
    assert!(
        error(&nowhere).to_string().contains("no"),
        "{}",
        error(&nowhere)
    );
}

fn a_store_of_another_version_is_refused() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 2)
        .unwrap();
    let text = error(&path).to_string();
    assert!(
        text.contains("version 2") && text.contains("version 1"),
        "{text}"
    );
}

fn a_missing_file_is_not_made_unless_wanted() {
    let (directory, path) = place();
    let error = SqliteStore::options()
        .create(false)
        .open(&path)
        .unwrap_err();
    assert!(error.to_string().contains("locks.db"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

fn a_link_is_refused() {
    let (directory, path) = place();
    let target = directory.path().join("target.db");
    drop(SqliteStore::open(&target).unwrap());
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(
        error(&path).to_string().contains("regular file"),
        "{}",
        error(&path)
    );
}

fn a_damaged_file_is_an_error() {
    let (_directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "wal_checkpoint", "TRUNCATE")
        .ok();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let _ = fs::remove_file(format!("{}-wal", path.display()));
    assert!(
        matches!(error(&path), CoordError::Store { .. }),
        "{}",
        error(&path)
    );
}

fn a_removed_file_loses_everything() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    fs::remove_file(&path).unwrap();
    until("the guard is lost", || guard.lost().is_set());
    assert!(!guard.is_valid());
    let error = Lock::new(&store, "other").lock().unwrap_err();
    assert!(matches!(error, CoordError::StoreReplaced { .. }), "{error}");
    assert!(guard.release().is_err());
}

fn a_replaced_file_loses_everything() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let lease = Lease::Renewed(Duration::from_millis(300));
    let guard = Lock::new(&store, "k").lease(lease).lock().unwrap();
    let other = directory.path().join("other.db");
    drop(SqliteStore::open(&other).unwrap());
    fs::rename(&other, &path).unwrap();
    until("the guard is lost", || guard.lost().is_set());
    let error = guard.release().unwrap_err();
    assert!(
        matches!(
            error,
            CoordError::StoreReplaced { .. } | CoordError::Lost { .. }
        ),
        "{error}"
    );
}

fn a_removed_session_file_loses_its_guards() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    for entry in fs::read_dir(directory.path().join("locks.db-sessions")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // Others don't take it for dead: its lock is still there, though nobody can see that.
    let other = SqliteStore::open(&path).unwrap();
    assert!(Lock::new(&other, "k").try_lock().is_err());
    until("the guard is lost", || guard.lost().is_set());
}

/// Keeps it busy as a process does that was stopped in the middle of a transaction.
fn keep_busy(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

fn a_busy_store_is_an_error_and_nothing_is_lost() {
    let (_directory, path) = place();
    let store = SqliteStore::options()
        .busy_for(Duration::from_millis(100))
        .open(&path)
        .unwrap();
    let lock = Lock::new(&store, "k");
    let guard = lock.lock().unwrap();
    let busy = keep_busy(&path);
    let began = Instant::now();
    let error = Lock::new(&store, "other").lock().unwrap_err();
    assert!(matches!(error, CoordError::Busy { .. }), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(guard.is_valid());
    drop(busy);
    guard.release().unwrap();
    lock.lock().unwrap().release().unwrap();
}

fn a_guard_dropped_while_the_store_is_busy_is_given_back_later() {
    let (_directory, path) = place();
    let store = SqliteStore::options()
        .busy_for(Duration::from_millis(50))
        .open(&path)
        .unwrap();
    let other = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let busy = keep_busy(&path);
    drop(guard);
    drop(busy);
    let lock = Lock::new(&other, "k");
    assert!(lock.try_lock_for(Duration::from_secs(20)).is_ok());
}

fn a_full_store_is_an_error() {
    let (_directory, path) = place();
    let mut agent = Agent::open(&path);
    agent.get("lock k");
    assert_eq!(agent.ask("full long"), "error Store");
    // What was held still is, and all goes on when there is room again.
    assert_eq!(agent.ask("valid"), "true");
    assert_eq!(agent.ask("release"), "released");
    agent.get("lock k");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn only_the_owner_can_read_it() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let _guard = Lock::new(&store, "k").lock().unwrap();
    let files = ["locks.db", "locks.db-wal", "locks.db-shm", "locks.db-init"];
    for file in files {
        assert_eq!(mode(&directory.path().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&directory.path().join("locks.db-sessions")), 0o700);
}

fn a_group_can_share_it() {
    let (directory, path) = place();
    let store = SqliteStore::options()
        .shared_group(true)
        .open(&path)
        .unwrap();
    let _guard = Lock::new(&store, "k").lock().unwrap();
    for file in ["locks.db", "locks.db-wal", "locks.db-init"] {
        assert_eq!(mode(&directory.path().join(file)), 0o660, "{file}");
    }
    let sessions = directory.path().join("locks.db-sessions");
    assert_eq!(mode(&sessions), 0o770);
    for entry in fs::read_dir(sessions).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o070, 0o060, "{}", path.display());
    }
}

fn token(path: &Path) -> u64 {
    let store = SqliteStore::open(path).unwrap();
    Lock::new(&store, "k").lock().unwrap().fencing_token()
}

fn tokens_grow_across_files_and_boots() {
    let (_directory, path) = place();
    let first = token(&path);
    // A file that was removed.
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{end}", path.display())).unwrap();
    }
    let second = token(&path);
    assert!(second > first);
    // A boot in which the last tokens weren't written: they are passed by, however the clock is set.
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM boot")
        .unwrap();
    let third = token(&path);
    assert!(third >= second + (1 << 32));
    assert!(third < 1 << 53);
    // A clock that was set back, as far as that can be told: the last number is ahead of it now.
    assert!(token(&path) > third);
}

fn an_old_restored_file_repeats_no_token() {
    let (directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    let backup = directory.path().join("backup.db");
    Connection::open(&path)
        .unwrap()
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    let tokens: Vec<_> = (0..3).map(|_| token(&path)).collect();
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
    fs::rename(&backup, &path).unwrap();
    let restored = Connection::open(&path).unwrap();
    restored.pragma_update(None, "journal_mode", "wal").unwrap();
    drop(restored);
    assert!(token(&path) > tokens[2]);
}

fn a_long_path() {
    let (directory, _) = place();
    let deep = directory.path().join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let path = deep.join("locks.db");
    let (store, other) = (
        SqliteStore::open(&path).unwrap(),
        SqliteStore::open(&path).unwrap(),
    );
    let guard = Lock::new(&store, "k").lock().unwrap();
    let lock = Lock::new(&other, "k");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.lock().unwrap().release());
        crate::processes::until_wait(&store, "k", 1);
        guard.release().unwrap();
        waiter.join().unwrap().unwrap();
    });
}
