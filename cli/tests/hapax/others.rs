//! `hapax ps` and `hapax force-unlock`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use crate::common::{LOOP, Place, Running, code, output, until};

crate::trials! {
    all:
        the_list_has_who_holds_and_who_waits,
        people_get_a_table,
        permits_are_listed_with_their_slots,
        a_reader_that_goes_away_is_no_error,
        a_grant_is_taken_away_and_no_other,
        the_next_one_gets_what_was_taken_away;
    sqlite:
        to_list_changes_nothing;
}

fn the_list_has_who_holds_and_who_waits(place: Place) {
    let held = place.hold(&["-s", "--tag", "nightly", "--ttl", "60"], "");
    let first = Running::start(&mut place.lock(&["--tag", "no"], "true"));
    place.wait_for_waiters(1);
    let second = Running::start(&mut place.lock(&["-s"], "true"));
    place.wait_for_waiters(2);

    let list = place.list();
    assert_eq!(list.len(), 1);
    let line = &list[0];
    assert_eq!(line["version"], 1);
    assert_eq!(
        (line["key"].as_str(), line["kind"].as_str()),
        (Some("k"), Some("lock"))
    );
    let holder = &line["holders"][0];
    assert_eq!(holder["mode"], "shared");
    assert_eq!(holder["pid"], held.pid());
    assert_eq!(holder["tag"], "nightly");
    assert_eq!(holder["label"], "hapax lock");
    let command = holder["command"].as_str().unwrap();
    assert!(command.starts_with("sh -c '"), "{command}");
    let since = holder["since"].as_str().unwrap();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    let remaining = holder["remaining"].as_f64().unwrap();
    assert!(remaining > 20.0 && remaining <= 60.0, "{remaining}");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(holder["host"], host.trim());
    let waiters = line["waiters"].as_array().unwrap();
    let pids: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter["pid"].as_i64().unwrap())
        .collect();
    assert_eq!(pids, [first.pid(), second.pid()].map(i64::from));
    let modes: Vec<_> = waiters
        .iter()
        .map(|waiter| waiter["mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["exclusive", "shared"]);
}

fn people_get_a_table(place: Place) {
    let held = place.hold(&["--tag", "nightly"], "");
    let waiter = Running::start(&mut place.lock(&[], "true"));
    place.wait_for_waiters(1);
    let token = place.token().to_string();
    let text = String::from_utf8(output(&mut place.hapax(["ps"])).stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let columns: Vec<_> = lines[0].split_ascii_whitespace().collect();
    assert_eq!(
        columns,
        ["KEY", "MODE", "TOKEN", "SINCE", "REMAINING", "PROCESS"]
    );
    for part in [
        "k ",
        "exclusive",
        &token,
        &held.pid().to_string(),
        "[nightly]",
        "sh -c",
    ] {
        assert!(lines[1].contains(part), "{part}: {text}");
    }
    for part in ["exclusive", "waits: 1", &waiter.pid().to_string()] {
        assert!(lines[2].contains(part), "{part}: {text}");
    }
}

fn permits_are_listed_with_their_slots(place: Place) {
    let _holders = ["0", "1"].map(|_| place.hold(&["--permits", "3"], ""));
    let line = &place.list()[0];
    assert_eq!(line["kind"], "semaphore");
    let holders = line["holders"].as_array().unwrap();
    let slots = holders
        .iter()
        .map(|holder| (&holder["slot"], &holder["permits"]));
    let slots: Vec<_> = slots
        .map(|(slot, of)| (slot.as_u64(), of.as_u64()))
        .collect();
    assert_eq!(slots, [(Some(0), Some(3)), (Some(1), Some(3))]);
}

fn to_list_changes_nothing(place: Place) {
    let (status, _) = code(&mut place.hapax(["ps"]));
    assert_eq!(status, Some(69));
    assert!(!place.file().exists());
    let _held = place.hold(&[], "");
    let _waiter = Running::start(&mut place.lock(&[], "true"));
    place.wait_for_waiters(1);
    let files = || {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(place.path("")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            // Readers leave marks in it, of what they read.
            if name.starts_with("locks.db") && !name.ends_with("-shm") && entry.path().is_file() {
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
        files
    };
    // The waiter looks after itself from time to time, but all it does then is to read.
    let before = files();
    for args in [&["ps"][..], &["ps", "--json"]] {
        assert!(output(&mut place.hapax(args)).status.success());
    }
    assert!(before == files());
}

fn a_reader_that_goes_away_is_no_error(place: Place) {
    let _held = place.hold(&[], "");
    let script = r#"{ sleep 0.2; "$HAPAX" ps; echo $? > status; } | true"#;
    let output = output(
        place
            .program("sh")
            .args(["-c", script])
            .stderr(Stdio::piped()),
    );
    assert_eq!(output.stderr, b"");
    assert_eq!(place.number("status"), 0);
}

fn a_grant_is_taken_away_and_no_other(place: Place) {
    let mut held = place.hold(&["-s"], "trap 'exit 0' TERM");
    let mut other = Running::start(&mut place.lock(&["-s"], LOOP));
    until(|| (place.list()[0]["holders"].as_array()?.len() == 2).then_some(()));
    let token = place.token();
    let unlock = |key: &str, token: u64| {
        let token = token.to_string();
        code(&mut place.hapax(["force-unlock", key, "--token", &token]))
    };
    for (key, wrong) in [("k", token - 1), ("other", token), ("k", 0)] {
        let (status, said) = unlock(key, wrong);
        assert_eq!(status, Some(1));
        assert!(said.contains("nobody holds it"), "{said}");
    }
    assert_eq!(place.list()[0]["holders"].as_array().unwrap().len(), 2);

    assert_eq!(unlock("k", token), (Some(0), String::new()));
    // The holder learns it, and the other one isn't harmed.
    assert_eq!(held.code(), Some(75));
    assert!(!other.has_ended());
    let holders = &place.list()[0]["holders"];
    assert_eq!(holders.as_array().unwrap().len(), 1);
    assert_eq!(holders[0]["pid"], other.pid());
    // A second time it isn't the one that was meant.
    assert_eq!(unlock("k", token).0, Some(1));
}

fn the_next_one_gets_what_was_taken_away(place: Place) {
    let _held = place.hold(&["-k", "14"], "trap '' TERM");
    let mut next = Running::start(&mut place.lock(&[], "true"));
    place.wait_for_waiters(1);
    let token = place.token().to_string();
    assert_eq!(
        code(&mut place.hapax(["force-unlock", "k", "--token", &token])).0,
        Some(0)
    );
    assert_eq!(next.code(), Some(0));
}
