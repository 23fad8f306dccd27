//! Who gets which signal where stdin is a terminal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use hapax::coord::{Lock, SqliteStore};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::{LOOP, Place, Running, group, send, state, until};

crate::trials! {
    all:
        ctrl_c_reaches_the_command_once_and_hapax_waits_for_it,
        what_is_sent_to_hapax_alone_is_passed_on_there_too,
        ctrl_c_ends_a_command_that_does_nothing_about_it,
        ctrl_c_ends_the_wait,
        ctrl_z_stops_both_and_the_shell_continues_both,
        without_a_terminal_on_stdin_what_the_terminal_sends_is_passed_on;
    sqlite:
        ctrl_c_is_never_lost;
}

/// A terminal, seen from the side of whoever sits before it.
struct Terminal {
    keyboard: File,
}

impl Terminal {
    /// Runs a command as the leader of a session that has this terminal.
    fn start(command: &Command) -> (Self, Running) {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        // Of all processes the one that leads the session shall have it, and not this one.
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOCTTY);
        let terminal = options.open(OsStr::from_bytes(name.as_bytes())).unwrap();
        let stream = || Stdio::from(terminal.try_clone().unwrap());

        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program());
        leader.args(command.get_args());
        leader.current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.stdin(stream()).stdout(stream()).stderr(stream());
        let running = Running::start(&mut leader);
        let keyboard = File::from(keyboard);
        // What is shown has to be read, or it would end somewhere.
        let mut screen = keyboard.try_clone().unwrap();
        thread::spawn(move || {
            let mut text = [0; 1024];
            while matches!(screen.read(&mut text), Ok(1..)) {}
        });
        (Self { keyboard }, running)
    }

    fn press(&mut self, control: char) {
        self.keyboard.write_all(&[control as u8 & 0x1f]).unwrap();
    }
}

const TRAPS: &str = "trap 'echo INT >> got' INT; trap 'echo QUIT >> got' QUIT; \
                     trap 'echo USR1 >> got' USR1; trap 'echo USR2 >> got' USR2;";

/// A command that writes down what it gets, and ends with 7.
fn traps() -> String {
    format!("{TRAPS} echo $$ > pid; {LOOP}; exit 7")
}

fn ctrl_c_reaches_the_command_once_and_hapax_waits_for_it(place: Place) {
    let (mut terminal, mut hapax) = Terminal::start(&place.lock(&[], &traps()));
    let pid = place.number("pid");
    assert_eq!(group(pid), group(hapax.pid()));

    // What comes while the command is made is passed on in any case, so this one has to be past that.
    hapax.send(Signal::USR1);
    place.wait_for_lines("got", 1);
    // Two that come at the same time are one, so hapax is kept from sending a second one before the first was noticed.
    let mut press = |control, lines| {
        hapax.send(Signal::STOP);
        until(|| (state(hapax.pid()) == 'T').then_some(()));
        terminal.press(control);
        place.wait_for_lines("got", lines);
        hapax.send(Signal::CONT);
    };
    press('c', 2);
    // Passed on after what came before it was.
    hapax.send(Signal::USR1);
    place.wait_for_lines("got", 3);
    press('\\', 4);
    hapax.send(Signal::USR2);
    place.wait_for_lines("got", 5);
    assert_eq!(place.read("got"), "USR1\nINT\nUSR1\nQUIT\nUSR2\n");
    assert!(!hapax.has_ended());
    assert!(!place.is_free());

    fs::write(place.path("end"), "").unwrap();
    assert_eq!(hapax.code(), Some(7));
}

fn what_is_sent_to_hapax_alone_is_passed_on_there_too(place: Place) {
    let (_terminal, mut hapax) = Terminal::start(&place.lock(&[], &traps()));
    place.number("pid");
    hapax.send(Signal::INT);
    place.wait_for_lines("got", 1);
    hapax.send(Signal::USR1);
    place.wait_for_lines("got", 2);
    assert_eq!(place.read("got"), "INT\nUSR1\n");
    hapax.send(Signal::TERM);
    assert_eq!(hapax.code(), Some(143));
}

fn ctrl_c_ends_a_command_that_does_nothing_about_it(place: Place) {
    let (mut terminal, mut hapax) =
        Terminal::start(&place.lock(&[], "echo $$ > pid; exec sleep 40"));
    place.number("pid");
    terminal.press('c');
    assert_eq!(hapax.code(), Some(130));
    assert!(place.is_free());
}

/// Whether there is a command yet or not: it ends the wait, or the command gets it.
fn ctrl_c_is_never_lost(place: Place) {
    let store = SqliteStore::open(place.file()).unwrap();
    for number in 0..16 {
        let guard = Lock::new(&store, "k").lock().unwrap();
        let command = place.lock(&[], "exec sleep 40");
        let (mut terminal, mut hapax) = Terminal::start(&command);
        place.wait_for_waiters(1);
        guard.release().unwrap();
        thread::sleep(Duration::from_micros(number * 150));
        terminal.press('c');
        let status = hapax.wait();
        let expected = [Some(130), None];
        assert!(expected.contains(&status.code()), "{status:?}");
        assert!(place.is_free());
    }
}

fn ctrl_c_ends_the_wait(place: Place) {
    let _held = place.hold(&[], "");
    let (mut terminal, mut waiter) = Terminal::start(&place.lock(&[], "touch ran"));
    place.wait_for_waiters(1);
    terminal.press('c');
    assert_eq!(waiter.signal(), Some(Signal::INT.as_raw()));
    assert_eq!(place.waiters(), 0);
    assert!(!place.path("ran").exists());
}

fn ctrl_z_stops_both_and_the_shell_continues_both(place: Place) {
    fs::write(
        place.path("traps"),
        format!("echo $PPID > hapax; {}", traps()),
    )
    .unwrap();
    let script = r#"
        "$HAPAX" lock k sh traps
        echo $? > stopped
        fg > /dev/null
        echo $? > ended
    "#;
    let mut shell = place.program("sh");
    shell.args(["-m", "-c", script]);
    let (mut terminal, mut shell) = Terminal::start(&shell);
    let (pid, hapax) = (place.number("pid"), place.number("hapax"));
    assert_eq!(group(pid), group(hapax));
    assert_ne!(group(pid), shell.pid());

    terminal.press('z');
    // The shell has noticed that hapax was stopped, and 128 and SIGTSTP or SIGSTOP is how it says so.
    let stopped = place.number("stopped");
    assert!(
        [128 + libc::SIGTSTP, 128 + libc::SIGSTOP].contains(&stopped),
        "{stopped}"
    );
    until(|| (state(pid) != 'T' && state(hapax) != 'T').then_some(()));
    assert!(!place.is_free());
    // What is sent to hapax alone reaches a command that was stopped alone.
    send(pid, Signal::STOP);
    until(|| (state(pid) == 'T').then_some(()));
    send(hapax, Signal::CONT);
    until(|| (state(pid) != 'T').then_some(()));
    send(hapax, Signal::USR1);
    place.wait_for_lines("got", 1);
    assert_eq!(place.read("got"), "USR1\n");
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(place.number("ended"), 7);
    shell.wait();
}

fn without_a_terminal_on_stdin_what_the_terminal_sends_is_passed_on(place: Place) {
    fs::write(
        place.path("traps"),
        format!("echo $PPID > hapax; {}", traps()),
    )
    .unwrap();
    let mut shell = place.program("sh");
    shell.args([
        "-c",
        r#"trap : INT; "$HAPAX" lock k sh traps < /dev/null; exit $?"#,
    ]);
    let (mut terminal, mut shell) = Terminal::start(&shell);
    let (pid, hapax) = (place.number("pid"), place.number("hapax"));
    assert_ne!(group(pid), group(hapax));
    terminal.press('c');
    place.wait_for_lines("got", 1);
    send(hapax, Signal::USR1);
    place.wait_for_lines("got", 2);
    assert_eq!(place.read("got"), "INT\nUSR1\n");
    fs::write(place.path("end"), "").unwrap();
    assert_eq!(shell.code(), Some(7));
}
