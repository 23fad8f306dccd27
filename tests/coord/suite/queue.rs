//! Who is next.

use std::sync::Mutex;

use super::*;

/// Lets several tasks queue up for a key, one after the other, and answers with them and the list of who has been served.
fn queue_up<S: Store + Clone + Send + Sync + 'static>(
    sessions: &[S],
    key: &str,
    f: impl Fn(&S) + Copy + Send + 'static,
) -> (Vec<Task<()>>, Arc<Mutex<Vec<usize>>>) {
    let served = Arc::new(Mutex::new(Vec::new()));
    let tasks = sessions.iter().enumerate().map(|(number, session)| {
        let task = task({
            let (session, served) = (session.clone(), served.clone());
            move || {
                f(&session);
                served.lock().unwrap().push(number);
            }
        });
        until_queued(session, key, number + 1);
        task
    });
    (tasks.collect(), served)
}

pub(super) fn first_come_first_served<W: World>() {
    let world = W::new();
    let store = world.session();
    let served = Arc::new(Mutex::new(Vec::new()));
    let guard = Lock::new(&store, "a").lock().unwrap();
    let sessions = [(); 3].map(|()| world.session());
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let (session, served) = (sessions[number % 3].clone(), served.clone());
            let task = task(move || {
                let _guard = Lock::new(&session, "a").strict().lock().unwrap();
                served.lock().unwrap().push(number);
            });
            until_queued(&store, "a", number + 1);
            task
        })
        .collect();
    let tickets: Vec<_> = waiters(&store, "a")
        .iter()
        .map(|waiter| waiter.ticket)
        .collect();
    assert!(tickets.is_sorted());
    drop(guard);
    tasks.into_iter().for_each(Task::answer);
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

pub(super) fn who_gives_up_is_skipped<W: World>() {
    let world = W::new();
    let store = world.session();
    let guard = Lock::new(&store, "a").lock().unwrap();
    let limit = Duration::from_millis(200);
    let tasks: Vec<_> = [Some(limit), None, Some(limit), None]
        .into_iter()
        .enumerate()
        .map(|(number, limit)| {
            let lock = Lock::new(&world.session(), "a");
            task(move || {
                // Each comes a little later than the one before; what is late comes last, which does no harm.
                thread::sleep(Duration::from_millis(10) * number as u32);
                match limit {
                    Some(limit) => assert!(is_timed_out(&lock.try_lock_for(limit))),
                    None => drop(lock.lock().unwrap()),
                }
            })
        })
        .collect();
    until(|| waiters(&store, "a").len() > 1);
    until(|| tasks.iter().filter(|task| task.is_running()).count() == 2);
    until_queued(&store, "a", 2);
    drop(guard);
    tasks.into_iter().for_each(Task::answer);
    assert!(store.list().unwrap().is_empty());
}

/// Its store is closed, and so its waits end, and those behind it move up.
pub(super) fn who_closes_is_skipped<W: World>() {
    let (world, one, other) = two::<W>();
    let guard = Lock::new(&one, "a").lock().unwrap();
    let first = task({
        let lock = Lock::new(&other, "a");
        move || lock.lock().map(drop)
    });
    until_queued(&one, "a", 1);
    let third = world.session();
    let second = task(move || Lock::new(&third, "a").lock().map(drop));
    until_queued(&one, "a", 2);
    other.close().unwrap();
    assert!(is_closed(&first.answer()));
    until_queued(&one, "a", 1);
    drop(guard);
    second.answer().unwrap();
}

pub(super) fn nobody_passes_who_is_due<W: World>() {
    let (_world, one, other) = two::<W>();
    let lock = Lock::new(&one, "a");
    for _ in 0..5 {
        let guard = lock.lock().unwrap();
        let waiter = task({
            let lock = Lock::new(&other, "a");
            move || lock.lock().unwrap()
        });
        until_queued(&one, "a", 1);
        // By then it has been the first for long enough.
        thread::sleep(Duration::from_millis(5));
        drop(guard);
        assert!(is_timed_out(&lock.try_lock()));
        drop(waiter.answer());
    }
}

pub(super) fn permits_in_order<W: World>() {
    let world = W::new();
    let store = world.session();
    let semaphore = Semaphore::new(&store, "a", 2);
    let permits = [(); 2].map(|()| semaphore.acquire().unwrap());
    let sessions = [(); 4].map(|()| world.session());
    let (tasks, served) = queue_up(&sessions, "a", |session| {
        // It is kept, so that one release serves one waiter.
        std::mem::forget(Semaphore::new(session, "a", 2).strict().acquire().unwrap());
    });
    let served = || served.lock().unwrap().clone();
    let [first, second] = permits;
    drop(first);
    until(|| served() == [0]);
    drop(second);
    until(|| served() == [0, 1]);
    sessions[1].close().unwrap();
    until(|| served() == [0, 1, 2]);
    sessions[0].close().unwrap();
    until(|| served() == [0, 1, 2, 3]);
    tasks.into_iter().for_each(Task::answer);
}
