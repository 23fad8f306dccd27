//! Processes whose process ids, clocks and boot ids are others, as in containers.
//!
//! To make them needs rights that not everybody has; the tests count as ignored where those are missing.

use std::process::Command;
use std::time::{Duration, Instant};

use hapax::coord::{Lock, SqliteStore};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::agent::Agent;
use crate::processes::{place, until_wait};

pub(crate) fn trials() -> Vec<Trial> {
    let namespaces: [(&str, &[&str]); 3] = [
        (
            "another_pid_namespace",
            &["--pid", "--fork", "--kill-child"],
        ),
        (
            "another_time_namespace",
            &["--time", "--boottime", "100000", "--fork", "--kill-child"],
        ),
        (
            "another_boot_id",
            &[
                "--mount",
                "sh",
                "-c",
                "echo 11111111-2222-3333-4444-555555555555 > \"$0.boot\"; mount --bind \"$0.boot\" /proc/sys/kernel/random/boot_id; exec \"$@\"",
            ],
        ),
    ];
    let mut trials = Vec::new();
    for (name, namespace) in namespaces {
        let is_missing = !Command::new("unshare")
            .args(namespace.iter().take_while(|arg| **arg != "sh"))
            .arg("true")
            .output()
            .is_ok_and(|output| output.status.success());
        trials.push(crate::trial(name, || test(namespace)).with_ignored_flag(is_missing));
    }
    trials
}

/// Neither side takes the other one for dead, or its leases for over, and both serve each other.
fn test(namespace: &[&str]) {
    let (directory, path) = place();
    let inside = || {
        let mut command = Command::new("unshare");
        command.args(namespace);
        if namespace.contains(&"sh") {
            command.arg(directory.path().join("id"));
        }
        command.arg(std::env::current_exe().unwrap());
        let mut agent = Agent::by(command, &path);
        assert_eq!(agent.answer(), "open");
        agent
    };
    let store = SqliteStore::open(&path).unwrap();
    let mut agent = inside();

    // It holds, and this one waits.
    let token = agent.get("lock session");
    let lock = Lock::new(&store, "session");
    assert!(lock.try_lock_for(Duration::from_millis(300)).is_err());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.lock().unwrap());
        until_wait(&store, "session", 1);
        assert_eq!(agent.ask("release"), "released");
        assert!(waiter.join().unwrap().fencing_token() > token);
    });

    // A lease that renews itself lasts, and one that is over ends, by either clock.
    agent.get("renewed leased 400");
    assert!(
        Lock::new(&store, "leased")
            .try_lock_for(Duration::from_millis(1200))
            .is_err()
    );
    assert_eq!(agent.ask("release"), "released");
    agent.get("fixed fixed 300");
    assert!(
        Lock::new(&store, "fixed")
            .try_lock_for(Duration::from_secs(20))
            .is_ok()
    );
    assert_eq!(agent.ask("release"), "error Lost");

    // This one holds, it waits, and it gets a lease that begins when it learns of it.
    let guard = Lock::new(&store, "k").lock().unwrap();
    agent.tell("renewed k 400");
    until_wait(&store, "k", 1);
    guard.release().unwrap();
    agent.token();
    assert!(
        Lock::new(&store, "k")
            .try_lock_for(Duration::from_millis(1200))
            .is_err()
    );
    assert_eq!(agent.ask("valid"), "true");

    assert_eq!(agent.ask("release"), "released");

    // It is told that it may look while this one holds, and not when this one has let go: its clock says nothing of when it is
    // due.
    for round in 0..20 {
        let lock = Lock::new(&store, "often");
        let guard = lock.lock().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| lock.lock().unwrap().release());
            until_wait(&store, "often", 1);
            agent.tell("lock often");
            until_wait(&store, "often", 2);
            guard.release().unwrap();
            second.join().unwrap().unwrap();
            for _ in 0..round / 2 {
                if let Ok(guard) = lock.try_lock() {
                    std::thread::sleep(Duration::from_micros(50));
                    guard.release().unwrap();
                }
            }
            let released = Instant::now();
            agent.token();
            assert!(released.elapsed() < Duration::from_millis(500));
            assert_eq!(agent.ask("release"), "released");
        });
    }

    // It is granted a lease that is over before it hears of it, and asks for another one.
    if !namespace.contains(&"--pid") {
        let guard = Lock::new(&store, "late").lock().unwrap();
        agent.tell("renewed late 300");
        let waiter = until_wait(&store, "late", 1).waiters.remove(0);
        let process = Pid::from_raw(waiter.process.id as i32).unwrap();
        kill_process(process, Signal::STOP).unwrap();
        guard.release().unwrap();
        let third = Lock::new(&store, "late").try_lock_for(Duration::from_secs(20));
        third.unwrap().release().unwrap();
        kill_process(process, Signal::CONT).unwrap();
        agent.token();
        assert_eq!(agent.ask("release"), "released");
    }
    agent.get("lock k");

    // It dies. Its first process in the namespace is killed with the one that was started here.
    agent.kill();
    assert!(
        Lock::new(&store, "k")
            .try_lock_for(Duration::from_secs(20))
            .is_ok()
    );
}
