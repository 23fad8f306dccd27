//! `Monitor`: python-safethread's `test_sharedmodule`, under its own names where there are some; then what conditions promise,
//! and threads that end inside.

use std::cell::Cell;
use std::mem;
use std::panic::resume_unwind;
use std::thread::ThreadId;

use hapax::sync::{Cancelled, JoinError, Monitor, MonitorGuard, check_cancelled, spawn};

use super::scope::{Begin, scope};
use super::*;

/// What a panic was raised with by `resume_unwind`, so that nothing is printed.
fn payload<R>(f: impl FnOnce() -> R) -> Option<u32> {
    let panic = catch_unwind(AssertUnwindSafe(f)).err()?;
    panic.downcast_ref().copied()
}

fn has_died<T>(answer: &Result<T, AcquireError>) -> bool {
    matches!(answer, Err(AcquireError::OwnerDied { .. }))
}

fn tick(counter: &Monitor<u32>) {
    *counter.enter().unwrap() += 1;
}

#[test]
fn a_counter_misses_no_tick() {
    let counter = Monitor::named("counter", 0);
    (0..10).for_each(|_| tick(&counter));
    assert_eq!(*counter.enter().unwrap(), 10);
    thread::scope(|scope| {
        (0..15).for_each(|_| drop(scope.spawn(|| tick(&counter))));
    });
    assert_eq!(*counter.enter().unwrap(), 25);
    thread::scope(|scope| {
        (0..10).for_each(|_| drop(scope.spawn(|| (0..20).for_each(|_| tick(&counter)))));
    });
    assert_eq!(counter.into_inner(), 225);
}

// MonitorTests.

#[test]
fn test_condition_wait() {
    in_time(|| {
        let counter = Monitor::new(0);
        thread::scope(|scope| {
            (0..10).for_each(|_| drop(scope.spawn(|| tick(&counter))));
            let inside = counter.enter().unwrap();
            let inside = inside.wait_while(|count| *count < 10).unwrap();
            assert_eq!(*inside, 10);
        });
    });
}

/// A thread waits outside, while another one goes in and out.
#[test]
fn test_monitor_wait() {
    in_time(|| {
        let monitor = Monitor::new("pink");
        let (outside, go_on) = (Event::new(), Event::new());
        thread::scope(|scope| {
            let child = scope.spawn(|| {
                let inside = monitor.enter().unwrap();
                let ((), inside) = inside.unlocked(|| {
                    outside.set();
                    go_on.wait().unwrap();
                });
                *inside.unwrap()
            });
            outside.wait().unwrap();
            *monitor.enter().unwrap() = "purple";
            go_on.set();
            assert_eq!(child.join().unwrap(), "purple");
        });
    });
}

#[test]
fn test_condition_cancellation() {
    in_time(|| {
        let (checkpoint, asked) = (Monitor::new(false), Event::new());
        let answer = scope(|scope| {
            scope.begin(|| {
                let inside = checkpoint.enter()?;
                let inside = inside.wait_while(|is_set| {
                    asked.set();
                    !is_set
                });
                inside.map(drop)
            });
            asked.wait().unwrap();
            Err::<(), _>("ZeroDivisionError")
        });
        assert_eq!(answer.unwrap_err().to_string(), "ZeroDivisionError");
        assert!(!checkpoint.is_locked());
        let inside = checkpoint.try_enter().unwrap();
        assert!(!*inside.wait_while(|is_set| *is_set).unwrap());
    });
}

// DeadlockTests.

/// A method that is given the guard, not the monitor.
#[test]
fn test_direct_self_nondeadlock() {
    fn chain(inside: &mut MonitorGuard<'_, u32>, deep: u32) {
        **inside += 1;
        if deep > 0 {
            chain(inside, deep - 1);
        }
    }
    let monitor = Monitor::new(0);
    chain(&mut monitor.enter().unwrap(), 2);
    assert_eq!(monitor.into_inner(), 3);
}

/// From a closure within, from a condition, also where the condition is called by who leaves, or with a limit.
#[test]
fn to_enter_from_inside_is_refused_at_once() {
    fn refused<T>(monitor: &Monitor<T>) -> bool {
        let long = Duration::from_secs(3600);
        is_deadlock(&monitor.enter())
            && is_deadlock(&monitor.try_enter_for(long))
            && is_deadlock(&monitor.try_enter_for(Duration::ZERO))
            && is_deadlock(&monitor.try_enter_until(Instant::now() + long))
            && matches!(monitor.try_enter(), Err(AcquireError::WouldBlock))
            && monitor.is_locked()
    }
    in_time(|| {
        let (monitor, asked) = (Monitor::new(0), Event::new());
        let with = |f: &dyn Fn() -> bool| monitor.enter().map(|_inside| f()).unwrap();
        assert!(with(&|| refused(&monitor)));
        let ((), inside) = monitor.enter().unwrap().unlocked(|| {
            assert!(with(&|| refused(&monitor)));
        });
        drop(inside);
        thread::scope(|scope| {
            scope.spawn(|| {
                asked.wait().unwrap();
                *monitor.enter().unwrap() += 1;
            });
            let mut calls = 0;
            let inside = monitor.enter().unwrap();
            let inside = inside.wait_while(|number| {
                assert!(refused(&monitor));
                asked.set();
                calls += 1;
                *number == 0
            });
            let inside = inside.unwrap();
            assert_eq!((*inside, calls), (1, 2));
            // Who was let in by another one is inside as well.
            assert!(refused(&monitor));
            drop(inside);
        });
        assert!(!monitor.is_locked());
    });
}

#[test]
fn test_indirect_self_deadlock() {
    let (a, b) = (Monitor::named("a", ()), Monitor::named("b", ()));
    let _a = a.enter().unwrap();
    let _b = b.enter().unwrap();
    let Err(AcquireError::Deadlock(report)) = a.enter() else {
        panic!("it was let in");
    };
    assert_eq!(report.steps().len(), 1);
    assert!(
        report.to_string().contains(" waits for a, held by "),
        "{report}"
    );
}

/// Two threads, each inside of a monitor of its own, call into each other's.
#[test]
fn test_paired_deadlock() {
    for _ in 0..scaled(20, 2) {
        assert_eq!(victims(2), 1);
    }
}

/// In a monitor, a thread waits for another one that wants to enter.
#[test]
fn test_branched_deadlock() {
    in_time(|| {
        let monitor = Arc::new(Monitor::new(0));
        let inside = monitor.enter().unwrap();
        let child = {
            let monitor = monitor.clone();
            spawn(move || monitor.enter().map(|mut inside| *inside += 1)).unwrap()
        };
        match child.join() {
            Err(JoinError::Deadlock { handle, .. }) => {
                drop(inside);
                assert_eq!(handle.join().unwrap(), Ok(()));
                assert_eq!(*monitor.enter().unwrap(), 1);
            }
            answer => {
                assert!(is_deadlock(&answer.unwrap()));
                assert_eq!(*inside, 0);
            }
        }
    });
}

#[test]
fn a_ring_of_monitors_has_one_victim() {
    for size in [2, 3, 8, 32].map(|size| scaled(size, 2)) {
        for _ in 0..scaled(5, 1) {
            assert_eq!(victims(size), 1, "of {size}");
        }
    }
}

/// So many threads are each inside of a monitor, and enter the next one. How many are refused; all others get in.
fn victims(size: usize) -> usize {
    in_time(move || {
        let monitors: Vec<_> = (0..size).map(|_| Monitor::new(0)).collect();
        let all_inside = Barrier::new(size);
        let ring = |first: usize| {
            let own = monitors[first].enter().unwrap();
            all_inside.wait();
            let next = monitors[(first + 1) % size].enter();
            if let Err(AcquireError::Deadlock(report)) = &next {
                assert_eq!(report.steps().len(), size);
            }
            let answer = next.map(|mut next| *next += 1);
            drop(own);
            answer
        };
        let answers = thread::scope(|scope| {
            let ring = &ring;
            let threads: Vec<_> = (0..size).map(|n| scope.spawn(move || ring(n))).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.collect::<Vec<_>>()
        });
        let refused = answers.iter().filter(|answer| is_deadlock(answer)).count();
        let entered: usize = monitors.into_iter().map(Monitor::into_inner).sum();
        assert_eq!(refused + entered, size);
        refused
    })
}

// Conditions.

/// Others go in and out all the time, and change the data back each time. Whoever waits finds it as it was asked for, without
/// another look.
#[test]
fn a_condition_holds_when_the_wait_returns() {
    in_time(|| {
        let (number, is_over) = (Monitor::new(0_u32), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(SeqCst) {
                        tick(&number);
                        tick(&number);
                    }
                });
            }
            let waiters = [2, 3, 5].map(|divisor| {
                let number = &number;
                scope.spawn(move || {
                    for _ in 0..scaled(500, 5) {
                        let inside = number.enter().unwrap();
                        let inside = inside.wait_while(|number| number % divisor != 0).unwrap();
                        assert_eq!(*inside % divisor, 0);
                        let (inside, result) = inside
                            .wait_timeout_while(SHORT, |number| number % divisor != 1)
                            .unwrap();
                        assert_eq!(result.timed_out(), *inside % divisor != 1);
                    }
                })
            });
            let results = waiters.map(|waiter| waiter.join());
            is_over.store(true, SeqCst);
            results.into_iter().for_each(|result| result.unwrap());
        });
    });
}

/// Those whose conditions have come about are served in the order in which they came, each by the one before; who stands in
/// front of them and waits for something else is passed.
#[test]
fn those_whose_conditions_have_come_about_are_served_in_order() {
    in_time(|| {
        let monitor = Monitor::new((false, Vec::new()));
        thread::scope(|scope| {
            for waiter in 0..8 {
                let (monitor, asked) = (&monitor, Arc::new(Event::new()));
                let theirs = asked.clone();
                scope.spawn(move || {
                    let inside = monitor.enter().unwrap();
                    let mut inside = inside
                        .wait_while(|(is_open, served)| {
                            theirs.set();
                            !is_open || (waiter == 0 && served.len() < 5)
                        })
                        .unwrap();
                    inside.1.push(waiter);
                });
                asked.wait().unwrap();
                // It is inside until it is in the queue.
                drop(monitor.enter().unwrap());
            }
            monitor.enter().unwrap().0 = true;
        });
        assert_eq!(monitor.into_inner().1, [1, 2, 3, 4, 5, 0, 6, 7]);
    });
}

/// Each wants what there is one of.
#[test]
fn who_leaves_lets_one_in() {
    in_time(|| {
        let (things, all_asked) = (Monitor::new(0_u32), Semaphore::new(0));
        let got = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut has_asked = false;
                    let inside = things.enter().unwrap();
                    let mut inside = inside
                        .wait_while(|things| {
                            if !mem::replace(&mut has_asked, true) {
                                all_asked.add_permits(1).unwrap();
                            }
                            *things == 0
                        })
                        .unwrap();
                    *inside -= 1;
                    got.fetch_add(1, SeqCst);
                });
            }
            all_asked.acquire_many(3).unwrap().forget();
            for number in 1..=3 {
                // Not before all of them wait, and not before the last one has taken its thing.
                *things.enter().unwrap() = 1;
                let inside = things.enter().unwrap();
                let inside = inside.wait_while(|things| *things != 0).unwrap();
                assert_eq!((*inside, got.load(SeqCst)), (0, number));
            }
        });
    });
}

/// A condition is a closure over locals of the thread that waits; the first call is on that thread, the last one on that of
/// whom has made it come about.
#[test]
fn a_condition_borrows_locals_and_is_called_by_others() {
    in_time(|| {
        let (number, asked) = (Monitor::new(0), Event::new());
        let (high, mut callers) = (String::from("three"), Vec::<ThreadId>::new());
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                asked.wait().unwrap();
                (0..3).for_each(|_| tick(&number));
                thread::current().id()
            });
            let inside = number.enter().unwrap();
            let inside = inside.wait_while(|number| {
                callers.push(thread::current().id());
                asked.set();
                *number < high.len() as u32 - 2
            });
            assert_eq!(*inside.unwrap(), 3);
            let (me, other) = (thread::current().id(), other.join().unwrap());
            assert_eq!(callers, [me, other, other, other]);
        });
    });
}

/// Who waits gets the panic on its own thread. Who leaves, and those who wait behind, notice nothing; be it that who leaves
/// is panicking itself.
#[test]
fn a_condition_that_panics_harms_nobody_else() {
    for leaves_panicking in [false, true] {
        in_time(move || {
            let number = Monitor::new(0);
            thread::scope(|scope| {
                let wait = |panics: bool| {
                    let (number, asked) = (&number, Arc::new(Event::new()));
                    let theirs = asked.clone();
                    let thread = scope.spawn(move || {
                        payload(|| {
                            let inside = number.enter().unwrap();
                            let mut inside = inside
                                .wait_while(|number| {
                                    theirs.set();
                                    if *number != 0 && panics {
                                        resume_unwind(Box::new(7_u32));
                                    }
                                    *number == 0
                                })
                                .unwrap();
                            *inside += 1;
                        })
                    });
                    asked.wait().unwrap();
                    drop(number.enter().unwrap());
                    thread
                };
                let waiters = [wait(true), wait(false), wait(true), wait(false)];
                let left = payload(|| {
                    let mut inside = number.enter().unwrap();
                    *inside = 10;
                    if leaves_panicking {
                        resume_unwind(Box::new(8_u32));
                    }
                });
                assert_eq!(left, leaves_panicking.then_some(8));
                let answers = waiters.map(|waiter| waiter.join().unwrap());
                assert_eq!(answers, [Some(7), None, Some(7), None]);
            });
            // On one's own thread.
            let own = payload(|| {
                number
                    .enter()
                    .unwrap()
                    .wait_while(|_| resume_unwind(Box::new(9_u32)))
            });
            assert_eq!(own, Some(9));
            assert_eq!(*number.try_enter().unwrap(), 12);
        });
    }
}

#[test]
fn a_wait_says_whether_its_time_was_over() {
    in_time(|| {
        let number = Monitor::new(5);
        for time in [Duration::ZERO, Duration::from_micros(10), SHORT] {
            let began = Instant::now();
            let inside = number.enter().unwrap();
            let (inside, result) = inside
                .wait_timeout_while(time, |number| *number == 5)
                .unwrap();
            assert!(result.timed_out() && began.elapsed() >= time);
            let (_, result) = inside
                .wait_timeout_while(time, |number| *number != 5)
                .unwrap();
            assert!(!result.timed_out());
        }
        let inside = number.enter().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| *number.enter().unwrap() = 6);
            let (inside, result) = inside
                .wait_timeout_while(Duration::MAX, |number| *number == 5)
                .unwrap();
            assert_eq!((*inside, result.timed_out()), (6, false));
        });
    });
}

/// Whose time is over while somebody is inside looks at the condition once more, when that one has left.
#[test]
fn who_times_out_looks_once_more() {
    in_time(|| {
        let (monitor, asked) = (Monitor::new((false, 0)), Event::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let inside = monitor.enter().unwrap();
                // The one below leaves to this one.
                let mut inside = inside
                    .wait_while(|(is_waiting, _)| {
                        asked.set();
                        !is_waiting
                    })
                    .unwrap();
                thread::sleep(2 * SHORT);
                inside.1 = 1;
            });
            asked.wait().unwrap();
            let mut inside = monitor.enter().unwrap();
            inside.0 = true;
            let (inside, result) = inside
                .wait_timeout_while(SHORT, |(_, number)| *number == 0)
                .unwrap();
            assert_eq!((inside.1, result.timed_out()), (1, false));
        });
    });
}

/// The time is over while another thread calls the condition. The wait doesn't return before that call does, since the condition
/// is in its frame; and what the call says counts.
#[test]
fn who_times_out_waits_for_the_end_of_a_call() {
    for comes_about in [false, true] {
        let mut time = SHORT;
        // Again with more time, if it was over before the call began.
        while !time_out_within_a_call(time, comes_about) {
            time *= 2;
        }
    }
}

fn time_out_within_a_call(time: Duration, comes_about: bool) -> bool {
    in_time(move || {
        let (monitor, asked) = (Monitor::new(0), Event::new());
        let has_returned = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let inside = monitor.enter().unwrap();
                // The one below leaves to this one, which leaves then.
                let inside = inside.wait_while(|number| {
                    asked.set();
                    *number == 0
                });
                drop(inside.unwrap());
            });
            asked.wait().unwrap();
            let mut inside = monitor.enter().unwrap();
            *inside = 1;
            let (me, end) = (thread::current().id(), Instant::now() + time);
            let (mut was_called, mut calls) = (false, 0);
            let answer = inside.wait_timeout_while(time, |_| {
                calls += 1;
                if thread::current().id() != me {
                    was_called = Instant::now() < end;
                    thread::sleep(end.saturating_duration_since(Instant::now()) + SHORT);
                    assert!(
                        !has_returned.load(SeqCst),
                        "nobody is in the frame any more"
                    );
                    return !comes_about;
                }
                calls == 1 || !comes_about
            });
            has_returned.store(true, SeqCst);
            let (inside, result) = answer.unwrap();
            assert_eq!(*inside, 1);
            assert_eq!(result.timed_out(), !comes_about);
            was_called
        })
    })
}

/// A thread is cancelled while another one calls its condition. It wouldn't enter again, but waits for the end of the call; and
/// what the call says counts.
#[test]
fn who_is_cancelled_waits_for_the_end_of_a_call() {
    for comes_about in [false, true] {
        in_time(move || {
            let monitor = Monitor::new(0);
            let (asked, is_called, go_on) = (Event::new(), Event::new(), Event::new());
            let has_returned = AtomicBool::new(false);
            thread::scope(|threads| {
                let answer = scope(|scope| {
                    scope.begin(|| {
                        let mut calls = 0;
                        let inside = monitor.enter().unwrap();
                        let answer = inside.wait_while(|_| {
                            calls += 1;
                            asked.set();
                            if calls == 1 {
                                return true;
                            }
                            is_called.set();
                            go_on.wait().unwrap();
                            !comes_about
                        });
                        has_returned.store(true, SeqCst);
                        assert_eq!(calls, 2);
                        assert_eq!(answer.is_ok(), comes_about);
                        answer.map(drop)
                    });
                    asked.wait().unwrap();
                    threads.spawn(|| drop(monitor.enter().unwrap()));
                    is_called.wait().unwrap();
                    // Here and not in the scope, which waits for its children.
                    threads.spawn(|| {
                        thread::sleep(SHORT);
                        assert!(
                            !has_returned.load(SeqCst),
                            "nobody is in the frame any more"
                        );
                        go_on.set();
                    });
                    Err::<(), _>("this cancels it")
                });
                assert_eq!(answer.unwrap_err().to_string(), "this cancels it");
            });
            assert!(!monitor.is_locked());
        });
    }
}

/// Conditions that enter another monitor, and leave it to those who wait there, whose conditions come back to the first one.
#[test]
fn conditions_may_use_other_monitors() {
    in_time(|| {
        let (a, b) = (Monitor::new(0), Monitor::new(0));
        let asked = [Event::new(), Event::new()];
        thread::scope(|scope| {
            let in_b = scope.spawn(|| {
                let mut refused = 0;
                let inside = b.enter().unwrap().wait_while(|number| {
                    // Whoever calls this is inside of `a`, or `a` is free.
                    refused += u32::from(is_deadlock(&a.enter()));
                    asked[1].set();
                    *number < 3
                });
                assert!(*inside.unwrap() >= 3);
                refused
            });
            asked[1].wait().unwrap();
            let in_a = scope.spawn(|| {
                let inside = a.enter().unwrap().wait_while(|number| {
                    tick(&b);
                    asked[0].set();
                    *number < 5
                });
                *inside.unwrap()
            });
            asked[0].wait().unwrap();
            (0..5).for_each(|_| tick(&a));
            assert_eq!(in_a.join().unwrap(), 5);
            assert_eq!(in_b.join().unwrap(), 3);
        });
        assert_eq!(b.into_inner(), 6);
    });
}

#[test]
fn a_hundred_who_wait_for_different_things_are_served() {
    in_time(|| {
        let number = scaled(100, 3) as u32;
        let (monitor, asked) = (Monitor::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for own in (1..=number).rev() {
                let (monitor, asked) = (&monitor, &asked);
                scope.spawn(move || {
                    let mut is_first = true;
                    let inside = monitor.enter().unwrap();
                    let inside = inside.wait_while(|number| {
                        asked.fetch_add(usize::from(mem::take(&mut is_first)), SeqCst);
                        *number < own
                    });
                    assert_eq!(*inside.unwrap(), own, "nobody came between");
                });
            }
            until(|| asked.load(SeqCst) == number as usize);
            (0..number).for_each(|_| tick(&monitor));
        });
    });
}

/// Two threads hand a monitor to each other all the time. A third one gets in all the same.
#[test]
fn handing_to_and_fro_starves_nobody() {
    in_time(|| {
        let (monitor, turns) = (Monitor::new((0, false)), AtomicUsize::new(0));
        thread::scope(|scope| {
            for own in 0..2 {
                let (monitor, turns) = (&monitor, &turns);
                scope.spawn(move || {
                    let mut inside = monitor.enter().unwrap();
                    while !inside.1 {
                        inside.0 = 1 - own;
                        turns.fetch_add(1, SeqCst);
                        inside = inside
                            .wait_while(|(next, is_over)| *next != own && !is_over)
                            .unwrap();
                    }
                });
            }
            for _ in 0..scaled(20, 2) {
                let before = turns.load(SeqCst);
                until(|| turns.load(SeqCst) > before + 2);
                drop(monitor.enter().unwrap());
            }
            monitor.enter().unwrap().1 = true;
        });
    });
}

/// So many are handed the monitor one after the other that the next one is to enter by itself. Whoever is inside then wants
/// what it holds, so one of both is refused. Those behind it are served all the same.
#[test]
fn who_is_to_enter_and_cant_leaves_nobody_behind() {
    in_time(|| {
        for _ in 0..scaled(20, 2) {
            let (monitor, held) = (Monitor::new(0), Mutex::new(()));
            thread::scope(|scope| {
                let waiters: Vec<_> = (0..40)
                    .map(|waiter| {
                        let (monitor, held) = (&monitor, &held);
                        let asked = Arc::new(Event::new());
                        let is_asked = asked.clone();
                        let thread = scope.spawn(move || {
                            let _held = (waiter == 32).then(|| held.lock().unwrap());
                            let inside = monitor.enter().unwrap();
                            let inside = inside.wait_while(|number| {
                                is_asked.set();
                                *number == 0
                            });
                            inside.map(drop)
                        });
                        asked.wait().unwrap();
                        drop(monitor.enter().unwrap());
                        thread
                    })
                    .collect();
                let mut inside = monitor.enter().unwrap();
                *inside = 1;
                // It waits to enter by then.
                let enters = scope.spawn(|| {
                    let _inside = monitor.enter().unwrap();
                    held.lock().map(drop)
                });
                thread::sleep(Duration::from_millis(5));
                drop(inside);
                let entered = enters.join().unwrap();
                assert!(entered.is_ok() || is_deadlock(&entered));
                for (number, waiter) in waiters.into_iter().enumerate() {
                    let answer = waiter.join().unwrap();
                    let may_fail = number == 32 && entered.is_ok() && is_deadlock(&answer);
                    assert!(answer.is_ok() || may_fail, "{number}: {answer:?}");
                }
            });
            assert!(!monitor.is_locked());
        }
    });
}

// Outside for a while.

#[test]
fn a_panic_outside_leaves_the_monitor_free() {
    let number = Monitor::new(5);
    let panic = payload(|| {
        number.enter().unwrap().unlocked(|| {
            *number.enter().unwrap() += 1;
            resume_unwind(Box::new(7_u32))
        })
    });
    assert_eq!(panic, Some(7));
    assert!(!number.is_locked());
    assert_eq!(*number.try_enter().unwrap(), 6);
}

/// What was done outside comes back also if there is no way in any more.
#[test]
fn the_value_comes_back_without_the_guard() {
    let number = Monitor::new(5);
    let inside = number.enter().unwrap();
    let (value, inside) = inside.unlocked(|| {
        mem::forget(number.enter());
        7
    });
    assert_eq!(value, 7);
    assert!(is_deadlock(&inside));

    let number = Monitor::new(5);
    let inside = number.enter().unwrap();
    let (owner, inside) = inside.unlocked(|| {
        on_thread(|| {
            mem::forget(number.enter());
            ThreadKey::current()
        })
    });
    assert_eq!(inside.unwrap_err(), AcquireError::OwnerDied { owner });
}

// Threads that end inside.

/// Those who wait for conditions, those who want to enter, and those who come later are told, whether they were registered with
/// the graph or have only just begun.
#[test]
fn all_are_told_of_an_end_inside() {
    for time in [Duration::ZERO, 2 * SHORT] {
        in_time(move || {
            let monitor = Arc::new(Monitor::new(5));
            let waiters = [None, Some(Duration::from_secs(3600)), None].map(|time| {
                let (theirs, asked) = (monitor.clone(), Arc::new(Event::new()));
                let is_asked = asked.clone();
                let thread = thread::spawn(move || {
                    let inside = theirs.enter().unwrap();
                    let condition = |number: &i32| {
                        is_asked.set();
                        *number == 5
                    };
                    match time {
                        Some(time) => inside.wait_timeout_while(time, condition).map(drop),
                        None => inside.wait_while(condition).map(drop),
                    }
                });
                asked.wait().unwrap();
                drop(monitor.enter().unwrap());
                thread
            });
            let is_inside = Arc::new(Event::new());
            let owner = {
                let (monitor, is_inside) = (monitor.clone(), is_inside.clone());
                thread::spawn(move || {
                    let mut inside = monitor.enter().unwrap();
                    // It would come about, if it was left.
                    *inside = 6;
                    mem::forget(inside);
                    is_inside.set();
                    thread::sleep(time);
                    ThreadKey::current()
                })
            };
            is_inside.wait().unwrap();
            let enters = monitor.enter().map(drop);
            let owner = owner.join().unwrap();
            let died = Err(AcquireError::OwnerDied { owner });
            assert_eq!(enters, died);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), died);
            }
            assert_eq!(monitor.enter().map(drop), died);
            assert_eq!(monitor.try_enter().map(drop), died);
            assert_eq!(monitor.try_enter_for(SHORT).map(drop), died);
            assert!(monitor.is_locked());
            let mut monitor = Arc::try_unwrap(monitor).unwrap();
            *monitor.get_mut() += 1;
            assert_eq!(monitor.into_inner(), 7);
        });
    }
}

/// A guard lies in a thread-local that is destroyed before or after its thread's end is told.
#[test]
fn guards_in_thread_locals_are_left_to_others_or_given_up() {
    struct Slot(RefCell<Option<MonitorGuard<'static, u32>>>);
    thread_local! {
        static BEFORE: Slot = const { Slot(RefCell::new(None)) };
        static AFTER: Slot = const { Slot(RefCell::new(None)) };
    }
    for after in [false, true] {
        let answer = in_time(move || {
            let monitor: &'static Monitor<u32> = Box::leak(Box::new(Monitor::new(0)));
            let (asked, was_asked) = mpsc::channel();
            let owner = thread::spawn(move || {
                if after {
                    // The crate's thread-locals are made first, and go last.
                    drop(monitor.enter());
                }
                let slot = if after { &AFTER } else { &BEFORE };
                slot.with(|slot| {
                    was_asked.recv().unwrap();
                    let mut inside = monitor.enter().unwrap();
                    *inside = 1;
                    *slot.0.borrow_mut() = Some(inside);
                });
                thread::sleep(SHORT);
            });
            let inside = monitor.enter().unwrap();
            let answer = inside.wait_while(|number| {
                // Nobody listens any more when it is called again.
                let _ = asked.send(());
                *number == 0
            });
            let answer = answer.map(|inside| *inside);
            owner.join().unwrap();
            answer
        });
        assert!(answer == Ok(1) || has_died(&answer), "{answer:?}");
    }
}

/// The end of a thread is told while its guard lies in a thread-local. It is of no use any more, neither to leave nor to wait.
#[test]
fn a_monitor_that_was_given_up_stays_so() {
    static MONITOR: Monitor<u32> = Monitor::new(0);
    static ANSWER: Mutex<Option<Result<(), AcquireError>>> = Mutex::new(None);

    struct Late(Option<MonitorGuard<'static, u32>>, Arc<Event>);

    impl Drop for Late {
        fn drop(&mut self) {
            // The thread's end has been told. Somebody waits meanwhile.
            self.1.set();
            thread::sleep(2 * SHORT);
            let mut inside = self.0.take().unwrap();
            *inside += 1;
            let answer = inside.wait_while(|number| *number == 1).map(drop);
            *ANSWER.lock().unwrap() = Some(answer);
        }
    }

    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    in_time(|| {
        let (asked, is_late) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let owner = {
            let (asked, is_late) = (asked.clone(), is_late.clone());
            thread::spawn(move || {
                // Before the crate's thread-locals are made, so it is destroyed after the end was told.
                LATE.with(|late| *late.borrow_mut() = Some(Late(None, is_late)));
                asked.wait().unwrap();
                let inside = MONITOR.enter().unwrap();
                LATE.with(|late| late.borrow_mut().as_mut().unwrap().0 = Some(inside));
            })
        };
        let waiter = thread::spawn(move || {
            let inside = MONITOR.enter().unwrap();
            let answer = inside.wait_while(|number| {
                asked.set();
                *number == 0
            });
            answer.map(drop)
        });
        is_late.wait().unwrap();
        assert!(has_died(&MONITOR.enter()));
        assert!(has_died(&waiter.join().unwrap()));
        owner.join().unwrap();
        assert!(has_died(&ANSWER.lock().unwrap().take().unwrap()));
        assert!(has_died(&MONITOR.try_enter()));
        assert!(MONITOR.is_locked());
    });
}

// What may be inside.

/// One thread at a time gets at it, so it needn't be `Sync`; that goes for conditions as well.
#[test]
fn data_that_must_not_be_shared() {
    in_time(|| {
        let number = Monitor::new(Cell::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..scaled(100, 5) {
                        let inside = number.enter().unwrap();
                        inside.set(inside.get() + 1);
                    }
                });
            }
            let (all, looks) = (4 * scaled(100, 5), Cell::new(0));
            let inside = number.enter().unwrap();
            let inside = inside.wait_while(move |number| {
                looks.set(looks.get() + 1);
                number.get() < all
            });
            assert_eq!(inside.unwrap().get(), all);
        });
    });
}

#[test]
fn data_of_any_kind() {
    static NAMES: Monitor<Vec<&str>> = Monitor::named("names", Vec::new());

    in_time(|| {
        let waiter = thread::spawn(|| {
            let inside = NAMES.enter().unwrap();
            let mut inside = inside.wait_while(|names| names.is_empty()).unwrap();
            inside.pop()
        });
        NAMES.enter().unwrap().push("one");
        assert_eq!(waiter.join().unwrap(), Some("one"));

        let numbers: Arc<Monitor<[u32]>> = Arc::new(Monitor::new([1, 2, 3]));
        let theirs = numbers.clone();
        let waiter = thread::spawn(move || {
            let inside = theirs.enter().unwrap();
            let inside = inside.wait_while(|numbers| numbers[2] < 5).unwrap();
            inside.iter().sum::<u32>()
        });
        numbers.enter().unwrap()[2] = 5;
        assert_eq!(waiter.join().unwrap(), 8);

        let dynamic: Box<Monitor<dyn FnMut() -> u32 + Send>> = Box::new(Monitor::new(|| 7));
        assert_eq!((*dynamic.enter().unwrap())(), 7);
    });
}

#[test]
fn a_monitor_is_made_of_what_it_holds() {
    let number = Monitor::from(5);
    assert_eq!(format!("{number:?}"), "Monitor { data: 5 }");
    let inside = number.enter().unwrap();
    assert_eq!(format!("{inside:?} {inside}"), "5 5");
    assert_eq!(format!("{number:?}"), "Monitor { data: <locked> }");
    assert_eq!(
        on_thread(|| format!("{number:?}")),
        "Monitor { data: <locked> }"
    );
    drop(inside);
    assert_eq!(Monitor::<u32>::default().into_inner(), 0);
    // What a guard leads to may be shared, as long as it is there.
    let inside = number.enter().unwrap();
    assert_eq!(on_thread(|| *inside), 5);
}

/// A condition is called by a thread that was cancelled, in the place of one that wasn't.
#[test]
fn conditions_are_not_cancelled_with_who_calls_them() {
    in_time(|| {
        let monitor = Monitor::new(0);
        let asked = Event::new();
        thread::scope(|threads| {
            let waiter = threads.spawn(|| {
                let inside = monitor.enter().unwrap().wait_while(|number| {
                    asked.set();
                    *number == 0 || check_cancelled().is_err()
                });
                *inside.unwrap()
            });
            asked.wait().unwrap();
            let end = scope(|scope| {
                scope.begin(|| {
                    while check_cancelled().is_ok() {
                        thread::yield_now();
                    }
                    *monitor.enter().unwrap() = 1;
                    assert!(check_cancelled().is_err());
                    Ok::<_, Cancelled>(())
                });
                Err("enough")
            });
            assert!(end.is_err());
            assert_eq!(waiter.join().unwrap(), 1);
        });
    });
}
