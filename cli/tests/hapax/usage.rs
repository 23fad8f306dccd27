//! What is refused, what statuses mean, and the pages.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use crate::common::{Place, code, output};

crate::trials! {
    all:
        the_status_is_that_of_the_command,
        a_command_that_a_signal_has_ended_has_128_and_its_number,
        what_cant_be_executed_is_told_from_what_was_not_found;
    sqlite:
        without_a_store_it_is_a_usage_error,
        a_store_of_an_unknown_kind_is_a_usage_error,
        what_is_not_understood_is_a_usage_error,
        help_and_version_are_no_errors,
        completions_and_pages_are_made,
        a_store_that_cant_be_used_is_69,
        an_owner_that_is_none_is_a_usage_error,
        the_time_to_clean_up_is_less_than_half_of_the_lease;
}

/// The status and what is said, for these arguments of `hapax`.
fn refused(place: &Place, args: &[&str]) -> (Option<i32>, String) {
    code(&mut place.hapax(args))
}

fn without_a_store_it_is_a_usage_error(place: Place) {
    for args in [
        &["lock", "k", "true"][..],
        &["ps"],
        &["force-unlock", "k", "--token", "1"],
    ] {
        let (status, said) = code(place.hapax(args).env_remove("HAPAX_STORE"));
        assert_eq!(status, Some(64), "{args:?}");
        assert!(said.contains("HAPAX_STORE"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

fn a_store_of_an_unknown_kind_is_a_usage_error(place: Place) {
    for store in ["etcd://x", "", "sqlite:"] {
        let (status, said) = refused(&place, &["lock", "--store", store, "k", "true"]);
        assert_eq!(status, Some(64), "{store}");
        assert!(said.starts_with("hapax: "), "{said}");
    }
    #[cfg(not(feature = "redis"))]
    for store in ["redis://localhost/0", "rediss+sentinel://localhost/main"] {
        let (status, said) = refused(&place, &["lock", "--store", store, "k", "true"]);
        assert_eq!(status, Some(64), "{store}");
        assert!(said.contains("built without Redis servers"), "{said}");
    }
}

fn what_is_not_understood_is_a_usage_error(place: Place) {
    for args in [
        &["lock"][..],
        &["lock", "k"],
        &["lock", "k", "--"],
        &["lock", "--", "k", "--"],
        &["lock", "", "true"],
        &["lock", "--none", "k", "true"],
        &["lock", "-n", "-w", "1", "k", "true"],
        &["lock", "-s", "-x", "k", "true"],
        &["lock", "-s", "--permits", "2", "k", "true"],
        &["lock", "--permits", "0", "k", "true"],
        &["lock", "-w", "-1", "k", "true"],
        &["lock", "-w", "soon", "k", "true"],
        &["lock", "-w", "nan", "k", "true"],
        &["lock", "-E", "256", "k", "true"],
        &["lock", "--ttl", "0.5", "-k", "0", "k", "true"],
        &["lock", "k", "-c", "true", "true"],
        &["force-unlock", "k"],
        &["force-unlock", "k", "--token", "x"],
        &["unlock"],
        &[],
    ] {
        let (status, said) = refused(&place, args);
        assert_eq!(status, Some(64), "{args:?}: {said}");
        assert!(!said.is_empty(), "{args:?}");
    }
    let key = OsStr::from_bytes(b"\xff");
    let (status, _) = code(place.hapax(["lock"]).arg(key).arg("true"));
    assert_eq!(status, Some(64));
    assert!(!place.file().exists());
}

fn the_time_to_clean_up_is_less_than_half_of_the_lease(place: Place) {
    for (ttl, kill_after, expected) in [("10", "5", 64), ("10", "4.9", 0), ("10.1", "5", 0)] {
        let (status, said) = refused(
            &place,
            &["lock", "--ttl", ttl, "-k", kill_after, "k", "true"],
        );
        assert_eq!(status, Some(expected), "{ttl} {kill_after}: {said}");
    }
    // Five seconds if nothing is said.
    assert_eq!(
        refused(&place, &["lock", "--ttl", "10", "k", "true"]).0,
        Some(64)
    );
    assert_eq!(
        refused(&place, &["lock", "--ttl", "11", "k", "true"]).0,
        Some(0)
    );
}

fn an_owner_that_is_none_is_a_usage_error(place: Place) {
    let (status, said) = code(place.lock(&[], "true").env("HAPAX_OWNER", "me"));
    assert_eq!(status, Some(64));
    assert!(said.contains("HAPAX_OWNER"), "{said}");
}

fn help_and_version_are_no_errors(place: Place) {
    for args in [
        &["--help"][..],
        &["--version"],
        &["lock", "--help"],
        &["ps", "-h"],
    ] {
        let output = output(&mut place.hapax(args));
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty());
    }
}

fn the_status_is_that_of_the_command(place: Place) {
    for expected in [0, 1, 7, 64, 75, 255] {
        let (status, said) = code(&mut place.lock(&[], &format!("exit {expected}")));
        assert_eq!((status, said.as_str()), (Some(expected), ""));
    }
}

fn a_command_that_a_signal_has_ended_has_128_and_its_number(place: Place) {
    for (signal, expected) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("SEGV", 139)] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        assert_eq!(code(&mut place.lock(&[], &script)).0, Some(expected));
    }
}

fn what_cant_be_executed_is_told_from_what_was_not_found(place: Place) {
    fs::write(place.path("plain"), "text").unwrap();
    fs::write(place.path("unmarked"), "exit 0").unwrap();
    fs::set_permissions(place.path("unmarked"), Permissions::from_mode(0o755)).unwrap();
    let of = |command: &str| code(&mut place.hapax(["lock", "k", command]));
    for (command, expected) in [
        ("./plain", 126),
        ("./unmarked", 126),
        ("/", 126),
        ("./nothing", 127),
        ("no-such-program", 127),
    ] {
        let (status, said) = of(command);
        assert_eq!(status, Some(expected), "{command}");
        assert!(said.contains(command), "{said}");
    }
    assert!(place.is_free());
}

fn a_store_that_cant_be_used_is_69(place: Place) {
    fs::write(place.path("text"), "This is no database. ".repeat(100)).unwrap();
    let nowhere = place.path("nowhere/locks.db");
    let text = place.path("text");
    for store in [&nowhere, &text] {
        for args in [
            &["lock", "k", "true"][..],
            &["ps"],
            &["force-unlock", "k", "--token", "1"],
        ] {
            let (status, said) = code(place.hapax(args).env("HAPAX_STORE", store));
            assert_eq!(status, Some(69), "{args:?} {store:?}");
            assert!(said.starts_with("hapax: can't open the store"), "{said}");
        }
    }
}

fn completions_and_pages_are_made(place: Place) {
    for shell in ["bash", "zsh", "fish"] {
        let output = output(&mut place.hapax(["completions", shell]));
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("force-unlock"), "{shell}");
    }
    let printed = output(&mut place.hapax(["man"]));
    let text = String::from_utf8(printed.stdout).unwrap();
    for page in [".TH hapax 1", ".TH hapax-lock 1", ".TH hapax-ps 1"] {
        assert!(text.contains(page), "{page}");
    }
    fs::create_dir(place.path("man")).unwrap();
    assert!(output(&mut place.hapax(["man", "man"])).status.success());
    for page in ["hapax.1", "hapax-lock.1", "hapax-force-unlock.1"] {
        assert!(place.path("man").join(page).exists(), "{page}");
    }
}
