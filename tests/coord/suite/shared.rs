//! `Lock::shared`: several at once, and writers that aren't forgotten.

use super::*;

pub(super) fn several_readers<W: World>() {
    let (_world, one, other) = two::<W>();
    let (mine, theirs) = (Lock::new(&one, "a"), Lock::new(&other, "a"));
    let first = mine.clone().shared().try_lock().unwrap();
    let second = theirs.clone().shared().try_lock().unwrap();
    assert_ne!(first.fencing_token(), second.fencing_token());
    assert!(is_timed_out(&mine.try_lock()));
    drop(first);
    assert!(is_timed_out(&mine.try_lock()));
    drop(second);
    let _guard = mine.try_lock().unwrap();
    assert!(is_timed_out(&theirs.shared().try_lock()));
}

pub(super) fn a_writer_waits_for_all_readers<W: World>() {
    let (_world, one, other) = two::<W>();
    let reader = Lock::new(&one, "a").shared();
    let readers = [(); 3].map(|()| reader.lock().unwrap());
    let writer = task(move || Lock::new(&other, "a").lock());
    until_queued(&one, "a", 1);
    for guard in readers {
        assert!(writer.is_running());
        drop(guard);
    }
    let guard = writer.answer().unwrap();
    assert!(is_timed_out(&reader.try_lock()));
    drop(guard);
}

/// Otherwise readers who come and go would keep it out forever.
pub(super) fn a_reader_does_not_pass_a_writer<W: World>() {
    let (_world, one, other) = two::<W>();
    let reader = Lock::new(&one, "a").shared();
    let first = reader.lock().unwrap();
    let writer = task({
        let lock = Lock::new(&other, "a").strict();
        move || lock.lock()
    });
    until_queued(&one, "a", 1);
    assert!(is_timed_out(&reader.try_lock()));
    let second = task({
        let reader = reader.clone();
        move || reader.lock().map(drop)
    });
    until_queued(&one, "a", 2);
    drop(first);
    let writer = writer.answer().unwrap();
    assert!(second.is_running());
    drop(writer);
    second.answer().unwrap();
}

pub(super) fn readers_follow_a_writer_together<W: World>() {
    let (_world, one, other) = two::<W>();
    let writer = Lock::new(&one, "a").lock().unwrap();
    let tasks = [1, 2, 3].map(|count| {
        let lock = Lock::new(&other, "a").shared();
        let task = task(move || lock.lock().unwrap());
        until_queued(&one, "a", count);
        task
    });
    let last = task({
        let lock = Lock::new(&one, "a");
        move || lock.lock().map(drop)
    });
    until_queued(&one, "a", 4);
    drop(writer);
    // All of them hold it at the same time.
    let guards = tasks.map(Task::answer);
    assert_eq!(holders(&one, "a").len(), 3);
    assert!(last.is_running());
    drop(guards);
    last.answer().unwrap();
}

pub(super) fn a_writer_that_gives_up_lets_readers_in<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = Lock::new(&one, "a");
    let _first = lock.clone().shared().lock().unwrap();
    let writer = task({
        let lock = Lock::new(&other, "a");
        move || lock.try_lock_for(Duration::from_millis(300)).map(drop)
    });
    until_queued(&one, "a", 1);
    let reader = task(move || lock.shared().strict().lock().map(drop));
    reader.answer().unwrap();
    assert!(is_timed_out(&writer.answer()));
}
