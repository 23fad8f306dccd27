//! Files that are broken, full, replaced, of others, or kept busy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hapax::coord::{Averager, CoordError, Lease, Lock, RateLimiter, SqliteStore};
use rusqlite::Connection;

use crate::agent::{Agent, until};
use crate::processes::place;

crate::trials! {
    what_is_no_store_is_refused,
    a_store_of_another_version_is_refused,
    a_store_of_the_first_version_is_opened,
    a_clock_that_was_set_back_blocks_nobody,
    values_outlive_everybody,
    values_that_are_over_do_not_pile_up,
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
    a_removed_index_loses_everything,
    a_file_that_was_overwritten_by_a_backup_repeats_no_token,
    a_store_that_is_closed_while_it_is_busy_holds_nothing,
    a_copy_holds_nothing,
    a_second_name_is_refused,
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
        .pragma_update(None, "user_version", 3)
        .unwrap();
    let text = error(&path).to_string();
    assert!(
        text.contains("version 3") && text.contains("version 2"),
        "{text}"
    );
}

/// It gets what has come since, and who has it open goes on.
fn a_store_of_the_first_version_is_opened() {
    let (_directory, path) = place();
    let before = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&before, "k").lock().unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE value; PRAGMA user_version = 1")
        .unwrap();
    let stores = [(); 2].map(|()| SqliteStore::open(&path).unwrap());
    assert!(Lock::new(&stores[0], "k").try_lock().is_err());
    for (store, mean) in stores.iter().zip([1.0, 1.5]) {
        let added = Averager::new(store, "a").add(2.0 * mean - 1.0);
        assert_eq!(added.unwrap(), mean);
    }
    guard.release().unwrap();
    assert!(Lock::new(&stores[1], "k").try_lock().is_ok());
    let version = |path: &Path| {
        let connection = Connection::open(path).unwrap();
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        version
    };
    assert_eq!(version(&path), 2);
}

/// The columns of a value in which times are.
fn set(path: &Path, times: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute(&format!("UPDATE value SET {times}"), [])
        .unwrap();
}

/// By an hour, while nobody had the store open: nobody waits for that hour, and what was taken stays taken.
fn a_clock_that_was_set_back_blocks_nobody() {
    const HOUR: &str = "3600000000000";
    let (_directory, path) = place();
    let minute = Duration::from_secs(60);
    let limited = |per| {
        let store = SqliteStore::open(&path).unwrap();
        let limiter = RateLimiter::new(&store, "r", 2, per);
        match limiter.try_acquire() {
            Ok(()) => None,
            Err(CoordError::RateLimited { retry_after, .. }) => Some(retry_after),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((limited(minute), limited(minute)), (None, None));
    set(
        &path,
        &format!("since = since + {HOUR}, ends = ends + {HOUR}"),
    );
    for _ in 0..2 {
        let wait = limited(minute).unwrap();
        assert!(wait > minute / 4 && wait <= minute / 2, "{wait:?}");
    }
    // An hour in which the machine was off.
    set(
        &path,
        &format!("since = since - {HOUR}, ends = ends - {HOUR}"),
    );
    assert_eq!((limited(minute), limited(minute)), (None, None));
    assert!(limited(minute).is_some());

    let store = SqliteStore::open(&path).unwrap();
    let average = Averager::new(&store, "a").expire(Duration::from_millis(50));
    average.add(1.0).unwrap();
    set(
        &path,
        &format!("since = since + {HOUR}, ends = ends + {HOUR}"),
    );
    let began = Instant::now();
    assert_eq!(average.get().unwrap(), Some(1.0));
    until("it is forgotten", || average.get().unwrap().is_none());
    assert!(began.elapsed() >= Duration::from_millis(50));
}

/// They are there again, whatever has ended.
fn values_outlive_everybody() {
    let (_directory, path) = place();
    for mean in 1..=5 {
        let store = SqliteStore::open(&path).unwrap();
        let number = f64::from(2 * mean - 1);
        let added = Averager::new(&store, "a").add(number);
        assert_eq!(added.unwrap(), f64::from(mean));
        let limiter = RateLimiter::new(&store, "r", 3, Duration::from_secs(600));
        assert_eq!(limiter.try_acquire().is_ok(), mean <= 3);
        // Another boot.
        Connection::open(&path)
            .unwrap()
            .execute_batch("DELETE FROM boot")
            .unwrap();
    }
}

/// Whoever makes new ones takes the old ones out.
fn values_that_are_over_do_not_pile_up() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for at in 0..200 {
        let key = format!("{at}");
        let short = Averager::new(&store, &key).expire(Duration::from_micros(1));
        short.add(1.0).unwrap();
        Averager::new(&store, &format!("lasting {at}"))
            .add(1.0)
            .unwrap();
        let limiter = RateLimiter::new(&store, &format!("rate {at}"), 1, Duration::from_micros(1));
        limiter.try_acquire().unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    let count = |what: &str| -> u32 {
        let sql = format!("SELECT count(*) FROM value WHERE {what}");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("ends IS NULL"), 200);
    assert!(
        count("ends IS NOT NULL") < 60,
        "{}",
        count("ends IS NOT NULL")
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

fn a_removed_index_loses_everything() {
    for end in ["-shm", "-wal"] {
        let (_directory, path) = place();
        let store = SqliteStore::open(&path).unwrap();
        let guard = Lock::new(&store, "k").lock().unwrap();
        fs::remove_file(format!("{}{end}", path.display())).unwrap();
        // It is looked at once a millisecond.
        std::thread::sleep(Duration::from_millis(2));
        let error = Lock::new(&store, "other").lock().unwrap_err();
        assert!(
            matches!(error, CoordError::StoreReplaced { .. }),
            "{end}: {error}"
        );
        until("the guard is lost", || guard.lost().is_set());
    }
}

fn a_file_that_was_overwritten_by_a_backup_repeats_no_token() {
    let (directory, path) = place();
    let backup = directory.path().join("backup.db");
    token(&path);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    drop(connection);
    token(&path);
    let last = token(&path);
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", path.display()));
    }
    // The same file, of the same boot, but its content of before.
    let content = fs::read(&backup).unwrap();
    fs::write(&path, content).unwrap();
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    assert!(token(&path) > last);
}

fn a_store_that_is_closed_while_it_is_busy_holds_nothing() {
    let (_directory, path) = place();
    let store = SqliteStore::options()
        .busy_for(Duration::from_millis(50))
        .open(&path)
        .unwrap();
    let other = SqliteStore::open(&path).unwrap();
    let guard = Lock::new(&store, "k").lock().unwrap();
    let busy = keep_busy(&path);
    assert!(matches!(
        hapax::coord::Store::close(&store),
        Err(CoordError::Busy { .. })
    ));
    drop(guard);
    drop(store);
    drop(busy);
    assert!(
        Lock::new(&other, "k")
            .try_lock_for(Duration::from_secs(20))
            .is_ok()
    );
}

/// Its rows are those of sessions that have no files there.
fn a_copy_holds_nothing() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let _guard = Lock::new(&store, "k").lock().unwrap();
    let copy = directory.path().join("copy.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
        .unwrap();
    Connection::open(&copy)
        .unwrap()
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    let copied = SqliteStore::open(&copy).unwrap();
    assert!(Lock::new(&copied, "k").try_lock().is_ok());
}

fn a_second_name_is_refused() {
    let (directory, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    let second = directory.path().join("second.db");
    fs::hard_link(&path, &second).unwrap();
    assert!(
        error(&second).to_string().contains("more than one name"),
        "{}",
        error(&second)
    );
}
