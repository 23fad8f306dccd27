//! What becomes of the lock when the command or hapax ends.

use std::fs;

use rustix::process::Signal;

use crate::common::{LOOP, Place, Running, block, code, is_alive, send, wait_until_gone};

crate::trials! {
    all:
        what_the_command_leaves_in_the_background_runs_on_without_the_lock,
        a_killed_command_gives_the_lock_back;
    sqlite:
        a_killed_hapax_leaves_the_lock_to_its_command,
        the_lock_stays_until_the_last_process_with_the_descriptor_has_ended,
        a_release_that_fails_is_a_warning;
}

fn what_the_command_leaves_in_the_background_runs_on_without_the_lock(place: Place) {
    // With its descriptors, the one of the session among them.
    let (status, _) = code(&mut place.lock(&[], "sleep 40 > /dev/null 2>&1 & echo $! > pid"));
    assert_eq!(status, Some(0));
    let pid = place.number("pid");
    assert!(is_alive(pid));
    assert!(place.is_free());
    send(pid, Signal::KILL);
}

fn a_killed_hapax_leaves_the_lock_to_its_command(place: Place) {
    let mut hapax = place.hold(&[], "");
    let (pid, token) = (place.number("pid"), place.token());
    hapax.send(Signal::KILL);
    hapax.wait();
    assert!(!place.is_free());
    let mut next = Running::start(&mut place.lock(&[], "touch next"));
    place.wait_for_waiters(1);
    assert_eq!(place.token(), token);
    assert!(is_alive(pid) && !place.path("next").exists());
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(next.code(), Some(0));
    assert!(place.path("next").exists());
}

fn the_lock_stays_until_the_last_process_with_the_descriptor_has_ended(place: Place) {
    let mut hapax = place.hold(&[], "setsid sh -c 'echo $$ > apart; exec sleep 40' &");
    let (pid, apart) = (place.number("pid"), place.number("apart"));
    hapax.send(Signal::KILL);
    hapax.wait();
    send(pid, Signal::KILL);
    wait_until_gone(pid);
    assert!(!place.is_free());
    send(apart, Signal::KILL);
    place.wait_until_free();
}

fn a_killed_command_gives_the_lock_back(place: Place) {
    let mut hapax = place.hold(&[], "");
    send(place.number("pid"), Signal::KILL);
    assert_eq!(hapax.code(), Some(137));
    assert!(place.is_free());
}

fn a_release_that_fails_is_a_warning(place: Place) {
    let script = format!("echo $$ > pid; {}; exit 7", LOOP);
    let mut hapax = Running::piped(&mut place.lock(&[], &script));
    let pid = place.number("pid");
    block(&place, || {
        fs::write(place.path("end"), "").unwrap();
        let (_, said) = hapax.said();
        assert_eq!(hapax.code(), Some(7));
        assert!(
            said.starts_with("hapax: warning: can't release `k`"),
            "{said}"
        );
        assert!(!is_alive(pid));
    });
    // Its process has ended.
    place.wait_until_free();
}
