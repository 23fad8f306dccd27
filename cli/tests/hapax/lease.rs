//! The command has ended before somebody else gets the lock, or as soon as hapax learns that it is lost.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{LOOP, Place, Running, block, code, is_alive, send, state, stop, until};

crate::trials! {
    all:
        a_lease_that_cant_be_renewed_ends_the_command_before_it_ends,
        a_lease_is_renewed_as_long_as_the_command_runs,
        who_was_stopped_for_longer_than_the_lease_ends_the_command_when_it_is_continued,
        both_were_stopped_for_longer_than_the_lease,
        a_lock_that_was_taken_away_ends_the_command_whatever_it_returns,
        a_command_that_ignores_sigterm_is_killed,
        the_group_has_the_time_to_clean_up_even_if_its_leader_is_quick,
        a_stopped_command_is_ended_as_well,
        a_loss_that_nobody_had_noticed_is_one;
    sqlite:
        a_store_that_was_replaced_ends_the_command;
}

/// Takes no notice of SIGTERM but to write it down.
const STUBBORN: &str = "trap 'echo TERM >> got' TERM;";

fn a_lease_that_cant_be_renewed_ends_the_command_before_it_ends(place: Place) {
    let ttl = Duration::from_secs(3);
    let mut hapax = Running::piped(&mut place.lock(
        &["--ttl", "3", "-k", "1.4"],
        &format!("{STUBBORN} echo $$ > pid; {}", LOOP),
    ));
    let pid = place.number("pid");
    let mut next = Running::start(&mut place.lock(
        &[],
        "if kill -0 $(cat pid) 2> /dev/null; then echo both > next; else echo alone > next; fi",
    ));
    place.wait_for_waiters(1);
    block(&place, || {
        let began = Instant::now();
        assert_eq!(hapax.code(), Some(75));
        // To send SIGTERM only when the lease has ended would take more than two thirds of it and the time to clean up.
        let time = began.elapsed();
        assert!(time < ttl + Duration::from_millis(350), "{time:?}");
        assert_eq!(place.read("got"), "TERM\n");
        assert!(!is_alive(pid));
        assert!(!next.has_ended());
    });
    assert_eq!(next.code(), Some(0));
    assert_eq!(place.read("next"), "alone\n");
    let (_, said) = hapax.said();
    assert!(said.contains("can't be renewed"), "{said}");
}

fn a_lease_is_renewed_as_long_as_the_command_runs(place: Place) {
    let mut hapax = place.hold(&["--ttl", "2", "-k", "0.8"], STUBBORN);
    let token = place.token();
    thread::sleep(Duration::from_millis(3500));
    assert_eq!(place.token(), token);
    let remaining = place.list()[0]["holders"][0]["remaining"].as_f64().unwrap();
    assert!(remaining <= 2.0, "{remaining}");
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(hapax.code(), Some(0));
    assert_eq!(place.read("got"), "");
}

fn who_was_stopped_for_longer_than_the_lease_ends_the_command_when_it_is_continued(place: Place) {
    let mut hapax = Running::piped(&mut place.lock(
        &["--ttl", "2", "-k", "0.8"],
        &format!(
            "trap 'echo TERM >> got; exit 0' TERM; echo $$ > pid; {}",
            LOOP
        ),
    ));
    let pid = place.number("pid");
    stop(&place, &hapax, Signal::STOP);
    // Others get it: nobody but hapax could end the command, and that is what fencing tokens are for.
    let next = place.hold(&[], "");
    assert!(is_alive(pid));
    assert_eq!(place.read("got"), "");
    hapax.send(Signal::CONT);
    assert_eq!(hapax.code(), Some(75));
    assert_eq!(place.read("got"), "TERM\n");
    assert!(!is_alive(pid));
    assert!(hapax.said().1.contains("the lock was lost"));
    assert!(!place.is_free());
    fs::write(place.path("end"), "").unwrap();
    drop(next);
}

fn both_were_stopped_for_longer_than_the_lease(place: Place) {
    let script = "trap 'echo TERM >> got; exit 0' TERM";
    let mut hapax = place.hold(&["--ttl", "2", "-k", "0.8"], script);
    let pid = place.number("pid");
    stop(&place, &hapax, Signal::TSTP);
    // A shell that is stopped while it starts a program waits for that one, which is stopped as well.
    until(|| matches!(state(pid), 'T' | 'D').then_some(()));
    let _next = place.hold(&[], "");
    hapax.send(Signal::CONT);
    assert_eq!(hapax.code(), Some(75));
    assert_eq!(place.read("got"), "TERM\n");
    assert!(!is_alive(pid));
}

fn a_lock_that_was_taken_away_ends_the_command_whatever_it_returns(place: Place) {
    let mut hapax = place.hold(&[], "trap 'echo TERM >> got; exit 0' TERM");
    let token = place.token().to_string();
    let unlock = ["force-unlock", "k", "--token", &token];
    assert_eq!(code(&mut place.hapax(unlock)).0, Some(0));
    assert_eq!(hapax.code(), Some(75));
    assert_eq!(place.read("got"), "TERM\n");
}

fn a_command_that_ignores_sigterm_is_killed(place: Place) {
    let mut hapax = place.hold(
        &["-k", "0.3"],
        "trap '' TERM; sh -c 'sleep 40' & echo $! > below",
    );
    let (pid, below) = (place.number("pid"), place.number("below"));
    let token = place.token().to_string();
    let began = Instant::now();
    code(&mut place.hapax(["force-unlock", "k", "--token", &token]));
    assert_eq!(hapax.code(), Some(75));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(!is_alive(pid));
    until(|| (!is_alive(below)).then_some(()));
}

fn the_group_has_the_time_to_clean_up_even_if_its_leader_is_quick(place: Place) {
    let quick = "sh -c 'trap \"sleep 0.3; echo clean > got; exit\" TERM; echo $$ > below; \
                 while :; do sleep 0.05; done' & trap 'exit 0' TERM";
    let mut hapax = place.hold(&["-k", "14"], quick);
    let below = place.number("below");
    let token = place.token().to_string();
    code(&mut place.hapax(["force-unlock", "k", "--token", &token]));
    assert_eq!(hapax.code(), Some(75));
    // And hapax has waited for it.
    assert_eq!(place.read("got"), "clean\n");
    assert!(!is_alive(below));
}

fn a_stopped_command_is_ended_as_well(place: Place) {
    let mut hapax = place.hold(&["-k", "14"], "trap 'echo TERM >> got; exit 0' TERM");
    let pid = place.number("pid");
    send(pid, Signal::STOP);
    until(|| (state(pid) == 'T').then_some(()));
    let token = place.token().to_string();
    code(&mut place.hapax(["force-unlock", "k", "--token", &token]));
    assert_eq!(hapax.code(), Some(75));
    assert_eq!(place.read("got"), "TERM\n");
}

fn a_store_that_was_replaced_ends_the_command(place: Place) {
    let mut hapax = place.hold(&["-k", "1"], STUBBORN);
    fs::rename(place.file(), place.path("old.db")).unwrap();
    fs::write(place.file(), "").unwrap();
    assert_eq!(hapax.code(), Some(75));
    assert_eq!(place.read("got"), "TERM\n");
}

fn a_loss_that_nobody_had_noticed_is_one(place: Place) {
    // It ends before hapax looks again.
    let script = r#""$HAPAX" force-unlock k --token $HAPAX_FENCING_TOKEN; exit 0"#;
    assert_eq!(code(&mut place.lock(&[], script)).0, Some(75));
}
