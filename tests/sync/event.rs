//! `Event`: CPython's EventTests.

use super::*;

#[test]
fn test_is_set() {
    let event = Event::new();
    assert!(!event.is_set());
    let clear = format!("{event:?}");
    for _ in 0..2 {
        event.set();
        assert!(event.is_set());
    }
    assert_ne!(format!("{event:?}"), clear);
    for _ in 0..2 {
        event.clear();
        assert!(!event.is_set());
    }
}

/// Five threads wait twice, and one `set` ends both waits of all.
#[test]
fn test_notify() {
    in_time(|| {
        let event = Event::new();
        for _ in 0..2 {
            let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(|| {
                        event.wait().unwrap();
                        first.fetch_add(1, SeqCst);
                        event.wait().unwrap();
                        second.fetch_add(1, SeqCst);
                    });
                }
                thread::sleep(SHORT);
                assert_eq!(first.load(SeqCst), 0);
                event.set();
            });
            assert_eq!((first.into_inner(), second.into_inner()), (5, 5));
            event.set();
            event.clear();
        }
    });
}

#[test]
fn test_timeout() {
    let event = Event::new();
    assert_eq!(event.wait_for(Duration::ZERO), Ok(false));
    let began = Instant::now();
    assert_eq!(event.wait_for(SHORT), Ok(false));
    assert!(began.elapsed() >= SHORT);
    event.set();
    assert_eq!(event.wait_for(Duration::ZERO), Ok(true));
    assert_eq!(event.wait_for(Duration::MAX), Ok(true));
    assert_eq!(event.wait_until(Instant::now()), Ok(true));
}

/// It is cleared at once, and all who waited learn that it was set.
#[test]
fn test_set_and_clear() {
    in_time(|| {
        let event = Event::new();
        let waiting = AtomicUsize::new(0);
        thread::scope(|scope| {
            let threads = [(); 5].map(|()| {
                scope.spawn(|| {
                    waiting.fetch_add(1, SeqCst);
                    event.wait_for(Duration::from_secs(50))
                })
            });
            while waiting.load(SeqCst) < 5 {
                thread::yield_now();
            }
            thread::sleep(SHORT);
            event.set();
            event.clear();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), Ok(true));
            }
        });
    });
}
