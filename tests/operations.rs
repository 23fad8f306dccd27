//! Random programs of operations, compared with a model: what the fuzz targets run, without a fuzzer.
//!
//! - Programs from proptest, which makes those that fail small, on one thread and on several.
//! - Texts that may be JSON, read into handles and into boxes.
//! - The corpora that the fuzzer has gathered, file by file.
//!
//! Operations, interpreters and models are those of `fuzz/src`, and described there. What has failed once is
//! repeated first, from `tests/operations.regressions`. A program's bytes, as the failure shows them, make a file of
//! a corpus.

#[path = "../fuzz/src/lib.rs"]
mod operations;

use std::fmt;
use std::path::Path;

use operations::program::{Operation, Program};
use operations::{hostile, interner, map};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Fewer cases under Miri, more if the environment says so.
fn config(cases: u32) -> ProptestConfig {
    let chosen = std::env::var("PROPTEST_CASES").ok();
    let cases = chosen.map_or(cases, |cases| cases.parse().expect("a number of cases"));
    let regressions = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: (!cfg!(miri)).then(|| Box::new(regressions) as _),
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    }
}

/// A program, and what it was decoded from.
struct Case<O> {
    bytes: Vec<u8>,
    program: Program<O>,
}

impl<O: fmt::Debug> fmt::Debug for Case<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes for xxd -r -p: ")?;
        for byte in &self.bytes {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "\n{:?}", self.program)
    }
}

/// Programs, made of records, each of which can be left out.
fn cases<O: Operation>(threads: bool) -> impl Strategy<Value = Case<O>> {
    let setup = vec(any::<u8>(), operations::program::SETUP);
    let record = vec(any::<u8>(), 1 + O::ARGUMENTS);
    (setup, vec(record, 0..120)).prop_map(move |(mut bytes, records)| {
        bytes.extend(records.concat());
        let mut program = Program::<O>::decode(&bytes);
        program.setup.threads = threads;
        Case { bytes, program }
    })
}

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn an_interner_on_one_thread(case in cases(false)) {
        interner::run(&case.program);
    }

    #[test]
    fn an_interner_and_several_threads(case in cases(true)) {
        interner::run(&case.program);
    }

    #[test]
    fn a_map_on_one_thread(case in cases(false)) {
        map::run(&case.program);
    }

    #[test]
    fn a_map_and_several_threads(case in cases(true)) {
        map::run(&case.program);
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn hostile_values_on_one_thread(case in cases(false)) {
        hostile::expect_refusals();
        hostile::run(&case.program);
    }

    #[test]
    fn hostile_values_and_several_threads(case in cases(true)) {
        hostile::expect_refusals();
        hostile::run(&case.program);
    }
}

/// Runs every file of a corpus.
fn replay(corpus: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(corpus);
    let mut files = 0;
    for file in std::fs::read_dir(&folder).expect("there is a corpus") {
        let file = file.expect("a file").path();
        let bytes = std::fs::read(&file).expect("a file can be read");
        let _file = NameOnFailure(&file);
        run(&bytes);
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

/// Says which file fails.
struct NameOnFailure<'a>(&'a Path);

impl Drop for NameOnFailure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was {}", self.0.display());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_corpus_of_interner() {
    replay("interner", |bytes| interner::run(&interner::decode(bytes)));
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_corpus_of_map() {
    replay("map", |bytes| map::run(&map::decode(bytes)));
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn the_corpus_of_hostile() {
    hostile::expect_refusals();
    replay("hostile", |bytes| hostile::run(&hostile::decode(bytes)));
}

#[cfg(feature = "serde")]
mod serde {
    use super::operations::json;
    use super::*;
    use serde_json::{Map, Value};

    #[test]
    #[cfg_attr(miri, ignore = "reads files")]
    fn the_corpus_of_serde() {
        replay("serde", json::run);
    }

    /// Trees, with the names that the types of `json` have.
    fn trees() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (-2i64..300).prop_map(Value::from),
            "[a-c/é]{0,3}".prop_map(Value::from),
            any::<char>().prop_map(|char| Value::from(String::from(char))),
            vec(any::<u8>(), 0..10).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 6, |inner| {
            let name = prop::sample::select(&NAMES[..]).prop_map(str::to_owned);
            let members = vec((name, inner.clone()), 0..6);
            prop_oneof![
                vec(inner, 0..6).prop_map(Value::from),
                members.prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    const NAMES: [&str; 19] = [
        "x", "y", "n", "c", "t", "a", "w", "p", "f", "r", "e", "Word", "Pair", "Named", "path",
        "Nothing", "Unix", "b", "é",
    ];

    /// Texts that are JSON, nearly so, or not at all.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let json = trees().prop_map(|tree| tree.to_string().into_bytes());
        let bytes = vec(any::<u8>(), 0..40);
        let spoilt =
            (trees(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(tree, index, byte)| {
                let mut text = tree.to_string().into_bytes();
                let index = index.index(text.len());
                text[index] = byte;
                text
            });
        prop_oneof![6 => json, 3 => spoilt, 1 => bytes]
    }

    proptest! {
        #![proptest_config(config(3000))]

        #[test]
        fn texts_that_may_be_json(text in texts()) {
            json::run(&text);
        }
    }
}
