//! What is different where the store is a Redis server.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{LOOP, Place, Running, code, is_alive, output, wait_until_gone};
use crate::redis_server::{Sentinel, Server, Value, namespace};

crate::trials! {
    redis:
        without_a_ttl_the_lease_is_half_a_minute_and_ends_the_command_all_the_same,
        a_release_that_fails_is_a_warning,
        a_server_that_goes_away_ends_the_wait,
        a_server_that_goes_away_ends_the_command,
        a_server_that_has_forgotten_it_all_ends_the_command,
        a_killed_hapax_is_the_end_of_its_command_and_of_the_lease,
        a_command_that_stays_after_hapax_was_killed_has_no_lock,
        a_command_is_not_started_after_hapax_has_died,
        the_time_to_clean_up_is_less_than_half_of_the_lease,
        settings_follow_the_url,
        what_is_not_understood_of_a_url_is_a_usage_error,
        a_server_that_cant_be_used_is_69,
        the_password_comes_from_the_environment,
        the_password_of_the_url_is_used_before_the_one_of_the_environment,
        a_password_is_never_shown,
        certificates_are_found_from_other_directories,
        a_server_is_shown_a_certificate,
        sentinels_are_asked,
        to_list_changes_nothing;
}

/// Takes notice of SIGTERM, and ends.
const ENDS: &str = "trap 'echo TERM >> got; exit 0' TERM";

fn without_a_ttl_the_lease_is_half_a_minute_and_ends_the_command_all_the_same(place: Place) {
    let began = Instant::now();
    let mut hapax = place.hold(&["-k", "14.9"], ENDS);
    let remaining = place.list()[0]["holders"][0]["remaining"].as_f64().unwrap();
    assert!((25.0..=30.0).contains(&remaining), "{remaining}");
    place.redis.as_ref().unwrap().proxy.refuse();
    assert_eq!(hapax.code(), Some(75));
    let time = began.elapsed();
    // It was told when its time to clean up, and a margin, were left.
    assert!(
        time < Duration::from_secs(30) - Duration::from_millis(14_900),
        "{time:?}"
    );
    assert!(time > Duration::from_secs(8), "{time:?}");
    assert_eq!(place.read("got"), "TERM\n");
}

fn a_release_that_fails_is_a_warning(place: Place) {
    let script = format!("echo $$ > pid; {LOOP}; exit 7");
    let mut hapax = Running::piped(&mut place.lock(&[], &script));
    place.number("pid");
    place.redis.as_ref().unwrap().proxy.refuse();
    fs::write(place.path("end"), "").unwrap();
    let (_, said) = hapax.said();
    assert_eq!(hapax.code(), Some(7));
    assert!(
        said.starts_with("hapax: warning: can't release `k`"),
        "{said}"
    );
}

fn a_server_that_goes_away_ends_the_wait(place: Place) {
    let _held = place.hold(&[], "");
    let mut waiter = Running::piped(&mut place.lock(&[], "touch ran"));
    place.wait_for_waiters(1);
    place.redis.as_ref().unwrap().proxy.refuse();
    assert_eq!(waiter.code(), Some(69));
    let (_, said) = waiter.said();
    assert!(
        said.starts_with("hapax: can't acquire `k`: Redis at "),
        "{said}"
    );
    assert!(!place.path("ran").exists());
}

fn a_server_that_goes_away_ends_the_command(_: Place) {
    let server = Server::start();
    let place = Place::with(&server);
    let mut hapax = Running::piped(&mut place.lock(
        &["--ttl", "3", "-k", "1.4"],
        &format!("{ENDS}; echo $$ > pid; {LOOP}"),
    ));
    let pid = place.number("pid");
    let began = Instant::now();
    server.kill();
    assert_eq!(hapax.code(), Some(75));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(!is_alive(pid));
    assert_eq!(place.read("got"), "TERM\n");
    assert!(hapax.said().1.contains("can't be renewed"));
}

fn a_server_that_has_forgotten_it_all_ends_the_command(_: Place) {
    let server = Server::start();
    let place = Place::with(&server);
    let mut hapax = place.hold(&[], ENDS);
    let began = Instant::now();
    server.restart_empty();
    assert_eq!(hapax.code(), Some(75));
    // Long before the lease would have ended.
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(place.read("got"), "TERM\n");
    assert!(place.is_free());
}

fn a_killed_hapax_is_the_end_of_its_command_and_of_the_lease(place: Place) {
    let mut hapax = place.hold(&["--ttl", "2", "-k", "0.8"], ENDS);
    let (pid, token) = (place.number("pid"), place.token());
    let mut next = Running::start(&mut place.lock(&[], "echo $HAPAX_FENCING_TOKEN > next"));
    place.wait_for_waiters(1);
    hapax.send(Signal::KILL);
    hapax.wait();
    // Nobody but the system could have told it.
    wait_until_gone(pid);
    assert_eq!(place.read("got"), "TERM\n");
    // The server knows nothing of that.
    assert_eq!(place.token(), token);
    assert!(!next.has_ended());
    assert_eq!(next.code(), Some(0));
    assert!(place.read("next").trim().parse::<u64>().unwrap() > token);
}

fn a_command_that_stays_after_hapax_was_killed_has_no_lock(place: Place) {
    let hapax = place.hold(&["--ttl", "1", "-k", "0.2"], "trap 'echo TERM >> got' TERM");
    let pid = place.number("pid");
    hapax.send(Signal::KILL);
    place.wait_until_free();
    place.wait_for_lines("got", 1);
    assert!(is_alive(pid));
    fs::write(place.path("end"), "").unwrap();
}

fn a_command_is_not_started_after_hapax_has_died(place: Place) {
    // This is how hapax starts it, with the number of a parent that isn't one.
    let parent = i32::MAX.to_string();
    let mut orphan = Running::start(&mut place.hapax(["--become", &parent, "touch", "ran"]));
    assert_eq!(orphan.signal(), Some(Signal::TERM.as_raw()));
    assert!(!place.path("ran").exists());
}

fn the_time_to_clean_up_is_less_than_half_of_the_lease(place: Place) {
    for (options, expected) in [
        (&["-k", "15"][..], 64),
        (&["-k", "14.9"], 0),
        (&["--ttl", "31", "-k", "15"], 0),
        (&["--ttl", "4", "-k", "2"], 64),
        (&["--ttl", "0.5", "-k", "0"], 64),
    ] {
        assert_eq!(
            code(&mut place.lock(options, "true")).0,
            Some(expected),
            "{options:?}"
        );
    }
}

fn settings_follow_the_url(place: Place) {
    let _held = place.hold(&[], "");
    let redis = place.redis.as_ref().unwrap();
    let attempt = |url: &str| code(&mut place.lock(&["-n", "--store", url], "true"));
    assert_eq!(attempt(&redis.url()).0, Some(1));
    let url = redis.proxy.url();
    let other = namespace();
    assert_eq!(
        attempt(&format!("{url}?grace=0&namespace={other}")),
        (Some(0), String::new())
    );
    // Another database of the server.
    let namespace = &redis.namespace;
    let (status, said) = attempt(&format!("{url}/3?grace=0&namespace={namespace}"));
    assert_eq!((status, said.as_str()), (Some(0), ""));
    // On a server that has just begun, others may have held it before.
    let server = Server::start();
    let url = server.url();
    assert_eq!(attempt(&format!("{url}?grace=10")).0, Some(1));
}

fn what_is_not_understood_of_a_url_is_a_usage_error(place: Place) {
    let url = place.redis.as_ref().unwrap().proxy.url();
    for setting in [
        "namespase=x",
        "namespace=",
        "namespace={x}",
        "grace=soon",
        "grace",
        "cert=x",
        "x",
    ] {
        let url = format!("{url}?{setting}");
        for args in [
            &["lock", "k", "true"][..],
            &["ps"],
            &["force-unlock", "k", "--token", "1"],
        ] {
            let (status, said) = code(place.hapax(args).env("HAPAX_STORE", &url));
            assert_eq!(status, Some(64), "{args:?} {setting}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

fn a_server_that_cant_be_used_is_69(place: Place) {
    let no_server = "redis://127.0.0.1:1";
    let no_certificate = "rediss://127.0.0.1:1?cacert=nowhere.pem";
    for store in [no_server, no_certificate, "redis://", "redis://127.0.0.1:x"] {
        for args in [
            &["lock", "-n", "k", "true"][..],
            &["ps"],
            &["force-unlock", "k", "--token", "1"],
        ] {
            let (status, said) = code(place.hapax(args).env("HAPAX_STORE", store));
            assert_eq!(status, Some(69), "{args:?} {store}");
            assert!(said.starts_with("hapax: can't "), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}

/// A server with a password, and a place for it. The URL has none.
fn with_password() -> (Server, Place) {
    let server = Server::options().password("hush-hush").start();
    let place = Place::with(&server);
    (server, place)
}

fn the_password_comes_from_the_environment(_: Place) {
    let (_server, place) = with_password();
    let script = r#"echo "$HAPAX_STORE"; "$HAPAX" lock inner -- sh -c 'echo "$HAPAX_STORE"; "$HAPAX" ps --json'"#;
    let output = output(place.lock(&[], script).env("REDISCLI_AUTH", "hush-hush"));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let store = place.store();
    assert_eq!(lines[..2], [store.to_str().unwrap(); 2], "{text}");
    assert_eq!(lines.len(), 4, "{text}");
    assert!(!text.contains("hush"), "{text}");
    for (password, expected) in [("wrong", 69), ("", 69)] {
        let (status, said) = code(place.hapax(["ps"]).env("REDISCLI_AUTH", password));
        assert_eq!(status, Some(expected));
        assert!(!said.contains("wrong"), "{said}");
    }
}

fn the_password_of_the_url_is_used_before_the_one_of_the_environment(_: Place) {
    let (_server, place) = with_password();
    let url = place.redis.as_ref().unwrap().url();
    let with = |login: &str| url.replace("redis://", &format!("redis://{login}@"));
    for (login, password, expected) in [
        (":hush-hush", "wrong", 0),
        ("default:hush-hush", "wrong", 0),
        ("default", "hush-hush", 0),
        (":wrong", "hush-hush", 69),
        ("nobody", "hush-hush", 69),
    ] {
        // It is good for commands in the command as well.
        let script = r#""$HAPAX" lock inner true"#;
        let mut hapax = place.lock(&["--store", &with(login)], script);
        let (status, said) = code(hapax.env("REDISCLI_AUTH", password));
        assert_eq!(status, Some(expected), "{login}: {said}");
        assert!(!said.contains("wrong") && !said.contains("hush"), "{said}");
    }
}

fn a_password_is_never_shown(_: Place) {
    let (_server, place) = with_password();
    let url = place.redis.as_ref().unwrap().url();
    let url = url.replace("redis://", "redis://:hush-hush@");
    // One that is in the command itself, for another hapax.
    let mut hapax = place.hapax(["lock", "--verbose", "k", "sh", "-c"]);
    hapax.arg(format!("echo $$ > pid; : --store {url}; {LOOP}"));
    let mut held = Running::piped(hapax.env("REDISCLI_AUTH", "hush-hush"));
    place.number("pid");
    let hidden = url.replace("hush-hush", "***");
    for args in [&["ps"][..], &["ps", "--json"]] {
        let output = output(place.hapax(args).env("REDISCLI_AUTH", "hush-hush"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&hidden) && !text.contains("hush"), "{text}");
    }
    fs::write(place.path("end"), "").unwrap();
    let (stdout, stderr) = held.said();
    assert!(
        !stdout.contains("hush") && !stderr.contains("hush"),
        "{stdout}{stderr}"
    );

    for (args, expected) in [
        // An option was forgotten.
        (&["ps", &url][..], 64),
        (&["lock", "--store", &format!("{url}&x=y"), "k", "true"], 64),
        (
            &["lock", "--store", &url.replace("127", "256"), "k", "true"],
            69,
        ),
        (
            &[
                "lock",
                "--store",
                &url.replace("hush-hush", "hush/hush"),
                "k",
                "true",
            ],
            69,
        ),
        (
            &[
                "lock",
                "--store",
                &url.replace("hush-hush", "hush?hush"),
                "k",
                "true",
            ],
            64,
        ),
        (
            &[
                "lock",
                "--store",
                &url.replace("hush-hush", "hush"),
                "k",
                "true",
            ],
            69,
        ),
        (
            &[
                "lock",
                "--store",
                &url.replace("redis", "reddis"),
                "k",
                "true",
            ],
            64,
        ),
        (&["ps", "--store", "redis://:hush"], 69),
        (&["lock", "--store", &url, "k", &url], 127),
    ] {
        let (status, said) = code(&mut place.hapax(args));
        assert_eq!(status, Some(expected), "{said}");
        assert!(!said.is_empty() && !said.contains("hush"), "{said}");
    }
}

fn certificates_are_found_from_other_directories(_: Place) {
    let server = Server::options().tls().start();
    let place = Place::with_file();
    fs::copy(&server.certificates().authority, place.path("our ca.pem")).unwrap();
    let url = server.url();
    let script = r#"cd /; "$HAPAX" lock inner true"#;
    let store = format!("{url}?grace=0&cacert=our%20ca.pem");
    let (status, said) = code(&mut place.lock(&["--store", &store], script));
    assert_eq!((status, said.as_str()), (Some(0), ""));
    // Nobody else trusts it.
    let (status, said) = code(&mut place.lock(&["--store", &url], "true"));
    assert_eq!(status, Some(69));
    assert!(said.contains("certificate"), "{said}");
}

fn a_server_is_shown_a_certificate(_: Place) {
    let server = Server::options().tls().config("tls-auth-clients yes");
    let server = server.start();
    let place = Place::with_file();
    let ours = server.certificates();
    let (authority, url) = (ours.authority.display(), server.url());
    let without = format!("{url}?grace=0&cacert={authority}");
    let (certificate, key) = (ours.certificate.display(), ours.key.display());
    let with = format!("{without}&cert={certificate}&key={key}");
    for (store, expected) in [(without, 69), (with, 0)] {
        let script = r#""$HAPAX" ps"#;
        let (status, said) = code(&mut place.lock(&["--store", &store], script));
        assert_eq!(status, Some(expected), "{said}");
    }
}

fn sentinels_are_asked(_: Place) {
    let server = Server::start();
    let sentinel = Sentinel::start(&server);
    let place = Place::with_file();
    let (address, name) = (sentinel.address(), Sentinel::NAME);
    let store = format!("redis+sentinel://{address}/{name}?grace=0");
    let script = r#""$HAPAX" lock -n k true; echo $?; "$HAPAX" lock inner echo yes"#;
    let output = output(&mut place.lock(&["--store", &store], script));
    assert_eq!(output.stdout, b"1\nyes\n", "{output:?}");
}

fn to_list_changes_nothing(_: Place) {
    let server = Server::start();
    let place = Place::with(&server);
    let list = || assert!(output(&mut place.hapax(["ps"])).status.success());
    list();
    assert_eq!(server.keys(""), [""; 0]);
    let _held = place.hold(&[], "");
    let content = || -> Vec<(String, Value)> {
        let keys = server.keys("").into_iter();
        let dump = |key: String| (key.clone(), server.command(&["DUMP", &key]));
        keys.map(dump).collect()
    };
    let before = content();
    assert!(!before.is_empty());
    list();
    // It would be renewed later.
    assert!(before == content());
}
