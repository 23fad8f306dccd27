//! Locks, shared locks, permits, and the store they lie in.

use std::fs;

use crate::common::{LOOP, Place, Running, code, output};

crate::trials! {
    all:
        an_exclusive_lock_is_held_alone,
        a_shared_lock_is_held_together_with_others_who_share_it,
        there_are_as_many_holders_as_permits,
        to_disagree_about_a_key_is_a_usage_error,
        keys_do_not_matter_to_each_other,
        the_shell_runs_a_string,
        what_follows_the_command_belongs_to_it,
        a_key_is_any_text;
    sqlite:
        the_command_line_names_the_store_before_the_environment_does;
}

/// The status of an attempt that doesn't wait.
fn attempt(place: &Place, options: &[&str]) -> Option<i32> {
    let mut options = options.to_vec();
    options.push("-n");
    code(&mut place.lock(&options, "true")).0
}

fn an_exclusive_lock_is_held_alone(place: Place) {
    for mode in [&[][..], &["-x"], &["--exclusive"]] {
        let mut held = place.hold(mode, "");
        assert_eq!(attempt(&place, &[]), Some(1));
        assert_eq!(attempt(&place, &["-s"]), Some(1));
        fs::write(place.path("end"), "").unwrap();
        assert_eq!(held.code(), Some(0));
        assert!(place.is_free());
        fs::remove_file(place.path("end")).unwrap();
    }
}

fn a_shared_lock_is_held_together_with_others_who_share_it(place: Place) {
    let _held = place.hold(&["-s"], "");
    assert_eq!(attempt(&place, &["--shared"]), Some(0));
    assert_eq!(attempt(&place, &["-x"]), Some(1));
}

fn there_are_as_many_holders_as_permits(place: Place) {
    let permits = &["--permits", "2"];
    let _first = place.hold(permits, "");
    let mut second = place.hold(permits, "");
    assert_eq!(attempt(&place, permits), Some(1));
    fs::write(place.path("end"), "").unwrap();
    second.wait();
    assert_eq!(attempt(&place, permits), Some(0));
}

fn to_disagree_about_a_key_is_a_usage_error(place: Place) {
    let _held = place.hold(&["--permits", "2"], "");
    assert_eq!(attempt(&place, &["--permits", "3"]), Some(64));
    assert_eq!(attempt(&place, &[]), Some(64));
}

fn keys_do_not_matter_to_each_other(place: Place) {
    let _held = place.hold(&[], "");
    let (status, _) = code(&mut place.hapax(["lock", "-n", "other", "true"]));
    assert_eq!(status, Some(0));
}

fn the_shell_runs_a_string(place: Place) {
    for args in [
        &["lock", "-c", "echo $HAPAX_KEY | tr k K", "k"][..],
        &["lock", "k", "-c", "echo $HAPAX_KEY | tr k K"],
        &["lock", "k", "--command", "echo $HAPAX_KEY | tr k K"],
    ] {
        let output = output(place.hapax(args).env("SHELL", "/bin/false"));
        assert_eq!(output.stdout, b"K\n", "{output:?}");
    }
}

fn what_follows_the_command_belongs_to_it(place: Place) {
    for args in [
        &["lock", "k", "echo", "-n", "--", "-E"][..],
        &["lock", "k", "--", "echo", "-n", "--", "-E"],
        &["lock", "--", "k", "echo", "-n", "--", "-E"],
        &["lock", "--", "k", "--", "echo", "-n", "--", "-E"],
    ] {
        let output = output(&mut place.hapax(args));
        assert_eq!(output.stdout, b"-- -E", "{args:?}: {output:?}");
    }
}

fn the_command_line_names_the_store_before_the_environment_does(place: Place) {
    let _held = place.hold(&[], "");
    assert_eq!(attempt(&place, &[]), Some(1));
    assert_eq!(attempt(&place, &["--store", "other.db"]), Some(0));
    assert!(place.path("other.db").exists());
    assert_eq!(attempt(&place, &["--store", "locks.db"]), Some(1));
    assert_eq!(attempt(&place, &["--store", "sqlite:locks.db"]), Some(1));
}

fn a_key_is_any_text(place: Place) {
    for key in ["-n", "two words", "ü/../x", "a\nb"] {
        let script = format!("echo $$ > pid; {LOOP}");
        let mut held = Running::start(&mut place.hapax(["lock", "--", key, "sh", "-c", &script]));
        place.number("pid");
        assert_eq!(place.list()[0]["key"], key);
        fs::write(place.path("end"), "").unwrap();
        assert_eq!(held.code(), Some(0));
        for name in ["pid", "end"] {
            fs::remove_file(place.path(name)).unwrap();
        }
    }
}
