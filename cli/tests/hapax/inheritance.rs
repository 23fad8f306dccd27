//! What the command gets from whoever has started hapax, and from hapax.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;

use crate::common::{LOOP, Place, Running, code, is_alive, output, until};

crate::trials! {
    all:
        streams_directory_and_limits_are_inherited,
        dispositions_of_signals_are_inherited,
        the_mask_of_signals_is_inherited,
        the_status_is_found_where_children_are_ignored,
        nohup_works,
        nohup_works_while_waiting,
        the_command_knows_what_it_holds,
        tokens_grow,
        an_owner_is_joined,
        siblings_share_a_key;
    sqlite:
        the_store_is_the_same_in_another_directory,
        the_session_is_inherited_unless_it_is_closed,
        a_command_that_does_not_keep_the_lock_runs_on_without_it;
}

fn streams_directory_and_limits_are_inherited(place: Place) {
    fs::create_dir(place.path("below")).unwrap();
    let script = r#"
        ulimit -n 123; umask 027; cd below; exec 7> seven
        echo in | "$HAPAX" lock k sh -c 'cat; echo err >&2; pwd; ulimit -n; umask; echo seven >&7'
    "#;
    let output = output(place.program("sh").args(["-c", script]));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let below = fs::canonicalize(place.path("below")).unwrap();
    assert_eq!(stdout, format!("in\n{}\n123\n0027\n", below.display()));
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(place.read("below/seven"), "seven\n");
}

/// A line of /proc/self/status of the command, when hapax is started by this shell command.
fn signals(place: &Place, started_by: &str, line: &str) -> u64 {
    let script = format!(r#"{started_by} "$HAPAX" lock k grep ^{line}: /proc/self/status"#);
    let output = output(place.program("sh").args(["-c", &script]));
    let text = String::from_utf8(output.stdout).unwrap();
    let digits = text.split_ascii_whitespace().nth(1).unwrap();
    // Realtime signals belong to the C library.
    u64::from_str_radix(digits, 16).unwrap() & 0x7fff_ffff
}

fn bits(signals: &[Signal]) -> u64 {
    signals
        .iter()
        .map(|signal| 1 << (signal.as_raw() - 1))
        .sum()
}

fn dispositions_of_signals_are_inherited(place: Place) {
    assert_eq!(signals(&place, "", "SigIgn"), 0);
    let ignored = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("PIPE", Signal::PIPE),
        ("TSTP", Signal::TSTP),
        ("WINCH", Signal::WINCH),
        ("ALRM", Signal::ALARM),
    ];
    for (name, signal) in ignored {
        let found = signals(&place, &format!("trap '' {name};"), "SigIgn");
        assert_eq!(found, bits(&[signal]), "{name}");
    }
    let all = ignored.map(|(name, _)| name).join(" ");
    let found = signals(&place, &format!("trap '' {all};"), "SigIgn");
    assert_eq!(found, bits(&ignored.map(|(_, signal)| signal)));
}

fn the_mask_of_signals_is_inherited(place: Place) {
    assert_eq!(signals(&place, "", "SigBlk"), 0);
    let found = signals(
        &place,
        "env --block-signal=USR2 --block-signal=CHLD",
        "SigBlk",
    );
    assert_eq!(found, bits(&[Signal::USR2, Signal::CHILD]));
}

fn the_status_is_found_where_children_are_ignored(place: Place) {
    // Where SIGCHLD is ignored, children leave no status behind.
    let script = r#"exec env --ignore-signal=CHLD "$HAPAX" lock k sh -c 'exit 7'"#;
    assert_eq!(code(place.program("sh").args(["-c", script])).0, Some(7));
}

fn nohup_works(place: Place) {
    let script = format!("trap 'echo term > term; exit 3' TERM; echo $$ > pid; {LOOP}");
    let mut running = Running::start(place.program("nohup").args([
        env!("CARGO_BIN_EXE_hapax"),
        "lock",
        "k",
        "sh",
        "-c",
        &script,
    ]));
    let pid = place.number("pid");
    running.send(Signal::HUP);
    crate::common::send(pid, Signal::HUP);
    // Passed on after the other one would have been.
    running.send(Signal::TERM);
    until(|| (place.read("term") == "term\n").then_some(()));
    assert_eq!(running.code(), Some(3));
}

fn nohup_works_while_waiting(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiter = Running::start(place.program("nohup").args([
        env!("CARGO_BIN_EXE_hapax"),
        "lock",
        "k",
        "true",
    ]));
    place.wait_for_waiters(1);
    waiter.send(Signal::HUP);
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(waiter.code(), Some(0));
}

fn the_command_knows_what_it_holds(place: Place) {
    let script = r#"echo "$HAPAX_KEY $HAPAX_FENCING_TOKEN $HAPAX_OWNER"; echo "$HAPAX_STORE"
                    "$HAPAX" ps --json"#;
    let output = output(&mut place.lock(&[], script));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let status: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    let holder = &status["holders"][0];
    let (token, owner) = (&holder["token"], holder["owner"].as_str().unwrap());
    assert_eq!(lines[0], format!("k {token} {owner}"));
    assert_eq!(lines[1], place.store().to_str().unwrap());
}

fn the_store_is_the_same_in_another_directory(place: Place) {
    fs::create_dir(place.path("below")).unwrap();
    for (store, kind) in [("locks.db", ""), ("sqlite:./locks.db", "sqlite:")] {
        let script = r#"cd below; echo "$HAPAX_STORE"; "$HAPAX" lock -n k true; echo $?"#;
        let output = output(&mut place.lock(&["--store", store], script));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("{kind}/")), "{text}");
        assert!(text.ends_with("/locks.db\n1\n"), "{text}");
    }
}

fn tokens_grow(place: Place) {
    let token = || {
        let output = output(&mut place.lock(&[], "echo $HAPAX_FENCING_TOKEN"));
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse::<u64>().unwrap()
    };
    let tokens = [token(), token(), token()];
    assert!(tokens.is_sorted_by(|one, other| one < other), "{tokens:?}");
}

/// The one who waits for it is its ancestor.
fn an_owner_is_joined(place: Place) {
    let owner = "0123456789abcdef0123456789abcdef";
    let mut command = place.lock(&[], "echo $HAPAX_OWNER");
    let output = output(command.env("HAPAX_OWNER", owner));
    let text = String::from_utf8(output.stdout).unwrap();
    let (own, ancestor) = text.trim().split_once('.').unwrap();
    assert_eq!((own.len(), ancestor), (32, owner));
}

/// Two commands of one parent wait for each other, as those of strangers do.
fn siblings_share_a_key(place: Place) {
    let hapax = env!("CARGO_BIN_EXE_hapax");
    let script =
        format!("for i in 1 2; do {hapax} lock inner -- sh -c 'sleep 0.1; echo done' & done; wait");
    let output = output(&mut place.lock(&[], &script));
    assert_eq!(output.stdout, b"done\ndone\n", "{output:?}");
}

/// The descriptors of the command.
fn descriptors(place: &Place, options: &[&str]) -> BTreeSet<String> {
    let script = r#"ls -l /proc/$$/fd | sed -n 's/.* -> //p'"#;
    let output = output(&mut place.lock(options, script));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(String::from).collect()
}

fn the_session_is_inherited_unless_it_is_closed(place: Place) {
    let is_of_store = |text: &String| text.contains("locks.db");
    assert!(descriptors(&place, &[]).iter().any(is_of_store));
    for option in ["-o", "--close"] {
        assert!(!descriptors(&place, &[option]).iter().any(is_of_store));
    }
    // What keeps the session alive, and nothing with which it could be used.
    let database = place.file().to_str().unwrap().to_owned();
    assert!(!descriptors(&place, &[]).contains(&database));
}

fn a_command_that_does_not_keep_the_lock_runs_on_without_it(place: Place) {
    let hapax = place.hold(&["-o"], "");
    let pid = place.number("pid");
    hapax.send(Signal::KILL);
    place.wait_until_free();
    assert!(is_alive(pid));
    fs::write(place.path("end"), "").unwrap();
}
