//! How it is waited, and how a wait ends.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Place, Running, block, code, output};

crate::trials! {
    all:
        a_wait_is_silent_and_ends_when_the_lock_comes_free,
        it_says_what_it_does_if_asked,
        who_waits_is_served_in_order,
        stdin_is_left_to_the_command,
        stdin_is_left_to_others_if_it_is_not_granted,
        who_does_not_wait_fails_at_once_and_says_nothing,
        a_queue_before_it_counts_as_held,
        a_wait_with_a_limit_is_that_long,
        the_status_of_who_was_not_granted_it_can_be_chosen,
        a_signal_ends_the_wait_and_then_hapax,
        a_second_signal_does_not_wait_for_the_store;
}

fn end(place: &Place) {
    fs::write(place.path("end"), "").unwrap();
}

fn a_wait_is_silent_and_ends_when_the_lock_comes_free(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiter = Running::piped(&mut place.lock(&[], "echo mine"));
    place.wait_for_waiters(1);
    end(&place);
    assert_eq!(waiter.said(), ("mine\n".to_owned(), String::new()));
    assert_eq!(waiter.code(), Some(0));
}

fn it_says_what_it_does_if_asked(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiter = Running::piped(&mut place.lock(&["--verbose"], "true"));
    place.wait_for_waiters(1);
    end(&place);
    let (stdout, stderr) = waiter.said();
    assert_eq!(stdout, "");
    assert!(
        stderr.starts_with("hapax: waiting for `k`\nhapax: got `k` by token "),
        "{stderr}"
    );
}

fn who_waits_is_served_in_order(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiters = Vec::new();
    for number in 0..4 {
        waiters.push(Running::start(
            &mut place.lock(&[], &format!("echo {number} >> order")),
        ));
        place.wait_for_waiters(number + 1);
    }
    end(&place);
    for waiter in &mut waiters {
        assert_eq!(waiter.code(), Some(0));
    }
    assert_eq!(place.read("order"), "0\n1\n2\n3\n");
}

fn stdin_is_left_to_the_command(place: Place) {
    let held = place.hold(&[], "");
    let mut waiter = Running::piped(
        place
            .lock(&[], "wc -c; cksum < /dev/null > /dev/null")
            .stdin(Stdio::piped()),
    );
    place.wait_for_waiters(1);
    end(&place);
    // More than a pipe holds.
    waiter.write(&vec![b'x'; 1 << 20]);
    assert_eq!(waiter.said().0.trim(), "1048576");
    drop(held);
}

fn stdin_is_left_to_others_if_it_is_not_granted(place: Place) {
    let _held = place.hold(&[], "");
    fs::write(place.path("text"), "one\ntwo\n").unwrap();
    let script = "{ \"$HAPAX\" lock -w 0.1 k cat; echo $?; cat; } < text";
    let output = output(place.program("sh").args(["-c", script]));
    assert_eq!(output.stdout, b"1\none\ntwo\n");
}

fn who_does_not_wait_fails_at_once_and_says_nothing(place: Place) {
    let _held = place.hold(&[], "");
    for options in [
        &["-n"][..],
        &["--nonblock"],
        &["-w", "0"],
        &["--timeout", "0.0"],
    ] {
        assert_eq!(
            code(&mut place.lock(options, "touch ran")),
            (Some(1), String::new())
        );
    }
    assert!(!place.path("ran").exists());
    assert_eq!(place.waiters(), 0);
}

fn a_queue_before_it_counts_as_held(place: Place) {
    let _held = place.hold(&["-s"], "");
    assert_eq!(code(&mut place.lock(&["-s", "-n"], "true")).0, Some(0));
    let _waiter = Running::start(&mut place.lock(&["-x"], "true"));
    place.wait_for_waiters(1);
    // The first of a queue can be passed for a moment.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(code(&mut place.lock(&["-s", "-n"], "true")).0, Some(1));
}

fn a_wait_with_a_limit_is_that_long(place: Place) {
    let _held = place.hold(&[], "");
    for option in ["-w", "--wait", "--timeout"] {
        let began = Instant::now();
        assert_eq!(
            code(&mut place.lock(&[option, "0.3"], "true")),
            (Some(1), String::new())
        );
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
    assert_eq!(place.waiters(), 0);
    // And it isn't waited for longer than it takes.
    let mut waiter = Running::start(&mut place.lock(&["-w", "1e9"], "true"));
    place.wait_for_waiters(1);
    end(&place);
    assert_eq!(waiter.code(), Some(0));
}

fn the_status_of_who_was_not_granted_it_can_be_chosen(place: Place) {
    let _held = place.hold(&[], "");
    for (options, expected) in [
        (&["-n", "-E", "0"][..], 0),
        (&["-n", "-E", "42"], 42),
        (&["-w", "0.05", "--conflict-exit-code", "255"], 255),
    ] {
        assert_eq!(
            code(&mut place.lock(options, "touch ran")),
            (Some(expected), String::new())
        );
    }
    assert!(!place.path("ran").exists());
}

fn a_signal_ends_the_wait_and_then_hapax(place: Place) {
    let mut held = place.hold(&[], "");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut waiter = Running::piped(&mut place.lock(&[], "touch ran"));
        place.wait_for_waiters(1);
        waiter.send(signal);
        assert_eq!(waiter.signal(), Some(signal.as_raw()));
        assert_eq!(waiter.said(), (String::new(), String::new()));
        // It has left by itself: nobody has come who would have found it dead.
        assert_eq!(place.waiters(), 0);
    }
    end(&place);
    assert_eq!(held.code(), Some(0));
    assert!(place.is_free());
    assert!(!place.path("ran").exists());
}

fn a_second_signal_does_not_wait_for_the_store(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiter = Running::start(&mut place.lock(&[], "touch ran"));
    place.wait_for_waiters(1);
    block(&place, || {
        let began = Instant::now();
        waiter.send(Signal::TERM);
        // It would like to leave the queue.
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiter.has_ended());
        waiter.send(Signal::INT);
        assert_eq!(waiter.signal(), Some(Signal::INT.as_raw()));
        // The store would have been given up later.
        assert!(began.elapsed() < Duration::from_secs(4));
    });
    end(&place);
    place.wait_until_free();
}
