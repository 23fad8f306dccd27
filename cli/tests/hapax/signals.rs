//! Who gets which signal, without a terminal.

use std::fs;

use rustix::process::Signal;

use crate::common::{LOOP, Place, Running, group, is_alive, send, state, until};

crate::trials! {
    all:
        signals_are_passed_on_once,
        the_whole_group_is_signalled,
        a_grandchild_in_its_own_session_is_not_signalled_and_runs_on_without_the_lock,
        a_signal_that_ends_the_command_is_its_status,
        a_signal_is_never_lost,
        a_stopped_command_keeps_the_lock_and_its_lease,
        who_stops_hapax_stops_the_group_as_well,
        who_is_stopped_and_continued_at_once_runs_on;
}

/// All that are passed on.
const ALL: [(&str, Signal); 8] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
    ("CONT", Signal::CONT),
];

/// Writes down each signal that it gets.
fn traps(file: &str) -> String {
    let trap = |(name, _)| format!("trap 'echo {name} >> {file}' {name};");
    ALL.map(trap).concat()
}

fn signals_are_passed_on_once(place: Place) {
    let mut hapax = place.hold(&[], &traps("got"));
    for (number, (_, signal)) in ALL.into_iter().enumerate() {
        hapax.send(signal);
        place.wait_for_lines("got", number + 1);
    }
    // A second one of the first would have come before another one of the last.
    hapax.send(Signal::CONT);
    place.wait_for_lines("got", ALL.len() + 1);
    let names = ALL.map(|(name, _)| format!("{name}\n")).concat();
    assert_eq!(place.read("got"), names + "CONT\n");
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(hapax.code(), Some(0));
}

fn the_whole_group_is_signalled(place: Place) {
    let script = format!(
        "sh -c '{}echo ready >> got; {LOOP}' &",
        traps("got").replace('\'', "\"")
    );
    let mut hapax = place.hold(&[], &format!("trap 'echo TERM >> own' TERM; {script}"));
    let pid = place.number("pid");
    assert_eq!(group(pid), pid);
    assert_ne!(group(hapax.pid()), pid);
    place.wait_for_lines("got", 1);
    hapax.send(Signal::TERM);
    place.wait_for_lines("got", 2);
    place.wait_for_lines("own", 1);
    assert_eq!(
        (place.read("got").as_str(), place.read("own").as_str()),
        ("ready\nTERM\n", "TERM\n")
    );
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(hapax.code(), Some(0));
}

fn a_grandchild_in_its_own_session_is_not_signalled_and_runs_on_without_the_lock(place: Place) {
    let mut hapax = place.hold(&[], "setsid sh -c 'echo $$ > apart; exec sleep 40' &");
    let apart = place.number("apart");
    hapax.send(Signal::TERM);
    assert_eq!(hapax.code(), Some(143));
    assert!(is_alive(apart));
    assert!(place.is_free());
    send(apart, Signal::KILL);
}

fn a_signal_that_ends_the_command_is_its_status(place: Place) {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut hapax = place.hold(&[], "");
        hapax.send(signal);
        assert_eq!(hapax.code(), Some(expected));
        assert!(place.is_free());
    }
}

/// A signal at any time: it ends the wait, or the command gets it, and nothing is ever left behind.
fn a_signal_is_never_lost(place: Place) {
    let mut ended = [0, 0];
    for number in 0..40 {
        let mut hapax = Running::start(&mut place.lock(&[], "echo $$ >> started; exec sleep 40"));
        // From before there are handlers to after there is a command.
        std::thread::sleep(std::time::Duration::from_micros(number * 200));
        hapax.send(Signal::TERM);
        let status = hapax.wait();
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(15) => ended[0] += 1,
            None if status.code() == Some(143) => ended[1] += 1,
            _ => panic!("{status:?}"),
        }
        assert!(place.is_free());
    }
    assert!(ended[0] > 0, "{ended:?}");
    for pid in place.read("started").lines() {
        assert!(!is_alive(pid.parse().unwrap()));
    }
}

fn a_stopped_command_keeps_the_lock_and_its_lease(place: Place) {
    let mut hapax = place.hold(&["--ttl", "2", "-k", "0.8"], "");
    let (pid, token) = (place.number("pid"), place.token());
    send(pid, Signal::STOP);
    until(|| (state(pid) == 'T').then_some(()));
    // Longer than the lease is if it isn't renewed.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(!hapax.has_ended());
    assert_eq!(place.token(), token);
    assert!(!place.is_free());
    assert_eq!(state(pid), 'T');
    fs::write(place.path("end"), "").unwrap();
    // To hapax, which passes it on.
    hapax.send(Signal::CONT);
    assert_eq!(hapax.code(), Some(0));
}

fn who_stops_hapax_stops_the_group_as_well(place: Place) {
    // Not a shell: one that is stopped while it starts a program isn't shown as stopped.
    let mut hapax = Running::start(&mut place.lock(&[], "echo $$ > pid; exec sleep 40"));
    let pid = place.number("pid");
    hapax.send(Signal::TSTP);
    until(|| (state(pid) == 'T' && state(hapax.pid()) == 'T').then_some(()));
    assert!(!place.is_free());
    hapax.send(Signal::CONT);
    until(|| (state(pid) != 'T' && state(hapax.pid()) != 'T').then_some(()));
    hapax.send(Signal::TERM);
    assert_eq!(hapax.code(), Some(143));
}

fn who_is_stopped_and_continued_at_once_runs_on(place: Place) {
    let mut hapax = place.hold(&[], "trap 'echo USR1 >> got' USR1");
    for number in 1..=10 {
        hapax.send(Signal::TSTP);
        hapax.send(Signal::CONT);
        hapax.send(Signal::USR1);
        place.wait_for_lines("got", number);
    }
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(hapax.code(), Some(0));
}
