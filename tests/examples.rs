//! Runs the examples and reads what they print.

#![cfg(not(miri))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Builds the examples as this test was built, and answers where they lie.
///
/// After `cargo test` there is nothing left to build, but `cargo test --test examples` has built none,
/// and may have left old ones.
fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        // `target/[triple/]profile/deps/examples-…`
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let profile = folder.file_name().unwrap().to_str().unwrap();
        let above = folder.parent().unwrap();
        // With a triple, the folder of the build scripts lies beside it.
        let triple = above.file_name().unwrap().to_str().unwrap();
        let triple =
            (triple.contains('-') && above.with_file_name(profile).is_dir()).then_some(triple);
        let target = match triple {
            Some(_) => above.parent().unwrap(),
            None => above,
        };

        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples", "--no-default-features"]);
        cargo.args([
            "--profile",
            if profile == "debug" { "dev" } else { profile },
        ]);
        cargo.arg("--target-dir").arg(target);
        if let Some(triple) = triple {
            cargo.args(["--target", triple]);
        }
        for (name, enabled) in [
            ("arc-swap", cfg!(feature = "arc-swap")),
            ("serde", cfg!(feature = "serde")),
            ("sync", cfg!(feature = "sync")),
            ("coord-sqlite", cfg!(feature = "coord-sqlite")),
        ] {
            if enabled {
                cargo.args(["--features", name]);
            }
        }
        let output = cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        folder.join("examples")
    })
}

fn example(name: &str) -> Command {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Command::new(examples().join(file))
}

fn text(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn errors(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// What an example prints that has to succeed without complaints.
fn printed(name: &str) -> String {
    let output = example(name).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(errors(&output), "");
    text(&output).to_owned()
}

#[test]
fn the_same_data_gives_the_same_object() {
    let expected = "\
a is b: true
total of [1, 2, 3]: 6
a is c: false
entries: 2
the same in all threads: true
owners of the data: 2
entries while b lives: 1
entries after b: 0
owners of the data: 1
";
    assert_eq!(printed("identity"), expected);
}

#[test]
fn shared_subterms_exist_once_and_die() {
    let expected = "\
Mul(Const(3), Add(Var(\"x\"), Var(\"x\")))
nodes of a tree of 2^100 leaves: 101
equal: true
nodes of both: 101
equal to half of it: false
value where x is 3: 3802951800684688204490109616128, from 101 steps
nodes while their values are known: 101
nodes after the last handle: 0
names left: 0
";
    assert_eq!(printed("hash_consing"), expected);
}

#[test]
#[cfg(feature = "arc-swap")]
fn an_old_configuration_dies_with_its_last_reader() {
    let expected = r#""alpha:80": unchanged
" alpha : 80": unchanged
"beta:8080": beta:8080 from now on
"beta:8080\n": unchanged
"alpha:80": alpha:80 from now on
alive: 1
"gamma:443": gamma:443 from now on
alive while alpha is used: 2
alive after it: 1
"#;
    assert_eq!(printed("shared_config"), expected);
}

/// A folder of a test of `dedup`, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("dedup-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs `dedup` on the folder. Whatever it holds stops nothing, and nothing is left in the end.
    fn dedup(&self) -> Output {
        let output = example("dedup").arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(number(&output, "values left"), 0);
        output
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The number in the line of the table that begins so.
fn number(output: &Output, label: &str) -> u64 {
    let table = text(output);
    let mut rests = table
        .lines()
        .filter_map(|line| line.trim().strip_prefix(label)?.strip_prefix("  "));
    let rest = rests
        .next()
        .unwrap_or_else(|| panic!("no `{label}` in {table}"));
    assert!(rests.next().is_none(), "`{label}` twice in {table}");
    let number = rest.split_whitespace().next().unwrap().replace(',', "");
    number.parse().unwrap()
}

/// Five threads that take their locks in a circle.
#[cfg(feature = "sync")]
#[test]
fn philosophers_who_would_starve_are_told_so_and_eat() {
    let text = printed("dining");
    let last = text.lines().last().unwrap();
    let refusals: u32 = last
        .strip_prefix("15 meals, ")
        .and_then(|rest| rest.strip_suffix(" refusals"))
        .expect(last)
        .parse()
        .unwrap();
    assert!(refusals >= 1);
    let told = text
        .lines()
        .filter(|line| line.contains("would be a deadlock: thread "));
    assert_eq!(told.count() as u32, refusals);
    assert_eq!(text.matches(" has eaten").count(), 5);
}

/// Runs the small `make` on a plan.
#[cfg(feature = "sync")]
fn make(folder: &Folder, plan: &str) -> Output {
    folder.write("plan", plan);
    example("monitor")
        .args([folder.path("plan"), PathBuf::from("3")])
        .output()
        .unwrap()
}

#[cfg(feature = "coord-sqlite")]
#[test]
fn of_many_processes_one_builds_and_each_has_it_once() {
    assert_eq!(
        printed("build_once"),
        "4 processes of 4 threads: built 1 times, read 3 times\n"
    );
}

/// Ten at once, and the other twenty each ten milliseconds.
#[cfg(feature = "coord-sqlite")]
#[test]
fn three_processes_call_no_more_often_than_they_may() {
    let text = printed("rate_limit");
    let lines: Vec<_> = text.lines().collect();
    let time = lines[0]
        .strip_prefix("30 calls in ")
        .and_then(|rest| rest.strip_suffix(" ms"));
    assert!(time.expect(&text).parse::<u32>().unwrap() >= 200);
    assert!(lines[1].ends_with(" ms until a call was let by"), "{text}");
    assert!(lines[2].starts_with("the next one may come"), "{text}");
    assert_eq!(lines.len(), 3);
}

#[cfg(feature = "sync")]
#[test]
fn tasks_run_when_those_that_they_need_are_done() {
    let folder = Folder::new("make");
    let log = folder.path("log");
    let log = log.to_str().unwrap();
    let plan = format!(
        "c: a b\n    echo c >> {log}\nb: a\n    sleep 0.1\n    echo b >> {log}\na:\n    echo a >> {log}\nd: c\n"
    );
    let output = make(&folder, &plan);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(fs::read_to_string(log).unwrap(), "a\nb\nc\n");
    let last = text(&output).lines().last().unwrap().to_owned();
    assert!(last.starts_with("4 tasks; by thread: "), "{last}");
}

#[cfg(feature = "sync")]
#[test]
fn a_task_that_fails_ends_those_that_wait() {
    let folder = Folder::new("make-fails");
    let output = make(&folder, "c: a b\nb: a\n    exit 3\na:\n");
    assert!(!output.status.success());
    assert_eq!(
        errors(&output),
        "b: `exit 3`: exit status: 3\n",
        "and nothing of those that were cancelled"
    );
    assert!(!text(&output).contains(" c"));
}

#[cfg(feature = "sync")]
#[test]
fn a_plan_that_is_none_is_refused() {
    let folder = Folder::new("make-bad");
    for (plan, error) in [
        ("a: b\nb: a\nc:\n", "these need each other: a, b\n"),
        ("a: b\n", "line 1: there is no task `b`\n"),
        ("a:\nb\n", "line 2: no `:` behind the task's name\n"),
        ("a:\n\na:\n", "line 3: a second `a`\n"),
        ("    true\n", "line 1: a command without a task\n"),
    ] {
        let output = make(&folder, plan);
        assert!(!output.status.success());
        assert_eq!(errors(&output), error);
    }
}

#[test]
fn the_counts_of_all_threads_come_to_what_the_files_hold() {
    let folder = Folder::new("counts");
    for number in 0..100 {
        folder.write(&format!("{number}"), "one two\n three\n".repeat(number));
    }
    let output = example("per_thread_stats")
        .args([folder.path(""), folder.path("missing")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let expected = "in all 100 files, 9900 lines, 14850 words, 74250 bytes; 1 unreadable";
    assert_eq!(text(&output).lines().last(), Some(expected));
    assert!(errors(&output).contains("missing: "));
}

/// Each run removes its files and says what it has not finalized; the times are the machine's.
#[test]
fn documents_are_put_away_on_another_thread_and_none_is_lost() {
    let folder = Folder::new("finalizer");
    let output = example("finalizer")
        .args(["3", "40", "20"])
        .envs(["TMPDIR", "TMP"].map(|name| (name, folder.path(""))))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(errors(&output), "");
    for name in ["plain", "finalized"] {
        let row = text(&output)
            .lines()
            .find_map(|line| line.strip_prefix(name));
        let times: Vec<f64> = row
            .unwrap()
            .split_whitespace()
            .map(|time| time.parse().unwrap())
            .collect();
        assert!(times.len() == 3 && times.is_sorted(), "{times:?}");
    }
    let mut rest = text(&output).lines().skip(3);
    for expected in [
        "pending after the workers: ",
        "files left: 0",
        "error: 1-",
        "still alive: finalizer::Document, for ",
        "document 3: the finalizer was shut down",
        "kept: \"line 0 of document 2\", files left: 1",
        "files left: 0",
    ] {
        let line = rest.next().unwrap();
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!(rest.next(), None);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn sizes_that_finalizer_does_not_understand_are_named() {
    for (arguments, named) in [
        ("two", "'two' is no number"),
        ("0", "'0' is no number"),
        ("2 10 -1", "'-1' is no number"),
        ("2 10 10 5", "'5' is one argument too many"),
    ] {
        let output = example("finalizer").args(arguments.split(' ')).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert_eq!(text(&output), "");
        assert!(errors(&output).contains(named), "{}", errors(&output));
    }
}

#[test]
fn words_are_counted_once_and_dropped() {
    let folder = Folder::new("known");
    folder.write("a.txt", "to be or not to be\nthat is\tthe question\n");
    folder.write("deep/er/b.txt", "to  be\u{3000}or\r\n\r\nfin");
    folder.write("empty.txt", "");
    let output = folder.dedup();

    assert_eq!(errors(&output), "");
    assert_eq!(number(&output, "files read"), 3);
    assert_eq!(number(&output, "bytes in them"), 40 + 18);
    assert_eq!(number(&output, "tokens"), 10 + 4);
    assert_eq!(number(&output, "distinct values"), 9);

    // One string a token, against one handle a token and one header a distinct value.
    let text = (2 + 2 + 2 + 3 + 2 + 2 + 4 + 2 + 3 + 8) + (2 + 2 + 2 + 3);
    let strings = 14 * size_of::<String>() as u64 + text;
    assert_eq!(number(&output, "text on the heap"), text);
    assert_eq!(number(&output, "all strings"), strings);
    let pointer = size_of::<usize>() as u64;
    let handles = number(&output, &format!("handles, {pointer} each"));
    assert_eq!(handles, 14 * pointer);
    let values = number(&output, "text of the distinct values");
    assert_eq!(values, 2 + 2 + 2 + 3 + 4 + 2 + 3 + 8 + 3);
    let held = handles
        + values
        + number(&output, "headers of the distinct values")
        + number(&output, "the interner's table");
    assert_eq!(number(&output, "handles and interner"), held);
    let left = number(&output, "bytes left, the interner's table");
    assert!(number(&output, "bytes left after shrink_to_fit") <= left);
}

#[test]
fn files_that_are_not_utf8_are_named_and_none_of_their_words_counts() {
    let folder = Folder::new("not-utf8");
    folder.write("good.txt", "good words");
    folder.write("short.bin", b"bad words \xff\n more");
    // The words before the fault are interned long before it shows.
    let mut late = "lost words ".repeat(50_000).into_bytes();
    late.push(0xff);
    folder.write("late.bin", late);
    folder.write("cut.bin", b"cut \xe2\x82");
    let output = folder.dedup();

    assert_eq!(number(&output, "files read"), 1);
    assert_eq!(number(&output, "files that are not UTF-8"), 3);
    assert_eq!(number(&output, "tokens"), 2);
    assert_eq!(number(&output, "distinct values"), 2);
    let expected: String = ["cut.bin", "late.bin", "short.bin"]
        .map(|name| format!("dedup: {}: not UTF-8\n", folder.path(name).display()))
        .concat();
    assert_eq!(errors(&output), expected);
}

#[test]
fn words_are_whole_wherever_a_piece_of_the_file_ends() {
    let folder = Folder::new("pieces");
    // Three bytes a sign and five a word: pieces end everywhere inside of them.
    folder.write("signs.txt", "€a ".repeat(100_000));
    folder.write("long.txt", format!("short {} short", "x".repeat(300_000)));
    folder.write("huge.txt", "x".repeat((16 << 20) + 1));
    let output = folder.dedup();

    assert_eq!(number(&output, "tokens"), 100_000 + 3);
    assert_eq!(number(&output, "distinct values"), 3);
    assert_eq!(
        number(&output, "text of the distinct values"),
        4 + 5 + 300_000
    );
    assert_eq!(number(&output, "files and folders that can't be read"), 1);
    assert!(errors(&output).contains("huge.txt: a word of 16 MiB or more"));
}

#[test]
#[cfg(unix)]
fn links_and_special_files_stop_nothing_and_are_counted() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = Folder::new("links");
    folder.write("inner/file.txt", "one two");
    symlink("inner/file.txt", folder.path("alias.txt")).unwrap();
    symlink("..", folder.path("inner/up")).unwrap();
    symlink("nowhere", folder.path("dangling")).unwrap();
    symlink("itself", folder.path("itself")).unwrap();
    let pipe = Command::new("mkfifo").arg(folder.path("pipe")).status();
    assert!(pipe.unwrap().success());
    // For root, permissions forbid nothing.
    folder.write("closed.txt", "three");
    let closed = folder.path("closed.txt");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let readable = u64::from(fs::read(&closed).is_ok());
    let output = folder.dedup();

    assert_eq!(number(&output, "files read"), 2 + readable);
    assert_eq!(number(&output, "tokens"), 4 + readable);
    assert_eq!(number(&output, "distinct values"), 2 + readable);
    assert_eq!(number(&output, "links to folders, not followed"), 1);
    assert_eq!(number(&output, "special files, not read"), 1);
    let unreadable = number(&output, "files and folders that can't be read");
    assert_eq!(unreadable, 2 + (1 - readable));
    assert!(errors(&output).contains("dangling: No such file"));
    assert!(errors(&output).contains("itself: "));
    assert_eq!(errors(&output).contains("closed.txt: "), readable == 0);

    // A link that is named is followed.
    let named = folder.path("inner/up");
    let output = example("dedup").arg(named).output().unwrap();
    assert_eq!(number(&output, "tokens"), 4 + readable);
}

#[test]
fn of_many_refused_files_the_first_are_named() {
    let folder = Folder::new("many");
    for n in 10..35 {
        folder.write(&format!("{n}.bin"), b"\xff");
    }
    let output = folder.dedup();
    assert_eq!(number(&output, "files that are not UTF-8"), 25);
    assert!(errors(&output).contains("10.bin: not UTF-8"));
    assert!(errors(&output).contains("29.bin: not UTF-8"));
    assert!(!errors(&output).contains("30.bin"));
    assert!(errors(&output).ends_with("\ndedup: and 5 more\n"));
}

#[test]
fn an_empty_folder_gives_an_empty_table() {
    let output = Folder::new("empty").dedup();
    assert_eq!(number(&output, "files read"), 0);
    assert_eq!(number(&output, "tokens"), 0);
    assert_eq!(number(&output, "handles and interner"), 0);
    assert_eq!(errors(&output), "");
}

#[test]
fn a_missing_path_is_named_before_any_work() {
    let folder = Folder::new("missing");
    folder.write("there.txt", "words");
    let missing = folder.path("not-there");
    let output = example("dedup").arg(&folder.0).arg(&missing).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output), "");
    assert!(errors(&output).contains(missing.to_str().unwrap()));
}

#[test]
fn an_unknown_option_is_named() {
    let output = example("dedup").args([".", "--frob"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output), "");
    assert!(errors(&output).contains("'--frob'"));
}

#[test]
fn a_path_may_begin_with_a_dash() {
    let folder = Folder::new("dash");
    folder.write("-x", "one");
    let mut dedup = example("dedup");
    let output = dedup.args(["--", "-x"]).current_dir(&folder.0).output();
    assert_eq!(number(&output.unwrap(), "tokens"), 1);
}

#[test]
fn help_is_printed() {
    for (name, usage) in [
        ("dedup", "Usage: dedup [PATH]..."),
        ("soak", "Usage: soak [OPTION]..."),
        ("finalizer", "Usage: finalizer [WORKERS [ROUNDS [LINES]]]"),
    ] {
        for option in ["-h", "--help"] {
            let output = example(name).arg(option).output().unwrap();
            assert!(output.status.success());
            assert!(text(&output).starts_with(usage));
        }
    }
}

#[test]
fn a_short_soak_finds_nothing_and_loses_nothing() {
    let options = "--seconds 2 --threads 4 --seed 1 --growth 5000";
    let output = example("soak").args(options.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    assert!(number(&output, "censuses") >= 2);
    assert!(number(&output, "all") > 0);
    let made = number(&output, "values made");
    assert!(made > 0);
    assert_eq!(number(&output, "values destroyed"), made);
    let callbacks = number(&output, "callbacks that ran") + number(&output, "callbacks cancelled");
    assert_eq!(number(&output, "callbacks registered"), callbacks);
}

#[test]
fn what_soak_does_not_understand_is_named() {
    for (arguments, named) in [
        ("--frob", "'--frob'"),
        ("5", "'5'"),
        ("--minutes", "'--minutes'"),
        ("--minutes 0", "'--minutes 0'"),
        ("--seconds 1.5", "'--seconds 1.5'"),
        ("--seconds 1 --threads 0", "'--threads 0'"),
        ("--seed -1", "'--seed -1'"),
        ("--growth 99999999999", "'--growth 99999999999'"),
    ] {
        let output = example("soak").args(arguments.split(' ')).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert_eq!(text(&output), "");
        assert!(errors(&output).contains(named), "{}", errors(&output));
    }
}
