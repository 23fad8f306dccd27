//! Histories made by hand, to see that the check accepts what is allowed and refuses what isn't.

use super::check::check;
use super::explain::explain;
use super::history::{Answer, Build, Call, Death, History, Id, Record, Span, Stamp};
use super::program::{Key, Kind, Look};

const A: Key = Key(0);
const B: Key = Key(1);

const fn found(id: u32) -> Answer {
    Answer::Found(Id(id))
}

use Answer::{Done, Failed, Nothing, Number};

/// A call, and the value that comes with it.
type Doing = (Call, Option<Id>);

const fn look(look: Look, key: Key) -> Doing {
    (Call::Look(look, key), None)
}

const fn look_with(look: Look, key: Key, own: u32) -> Doing {
    (Call::Look(look, key), Some(Id(own)))
}

const fn get(key: Key) -> Doing {
    look(Look::Get, key)
}

const fn remove(key: Key) -> Doing {
    look(Look::Remove, key)
}

const fn intern(key: Key, own: u32) -> Doing {
    look_with(Look::Intern, key, own)
}

const fn insert(key: Key, own: u32) -> Doing {
    look_with(Look::GetOrInsert, key, own)
}

/// A `get_or_init` that builds.
const fn init(key: Key, own: u32) -> Doing {
    look_with(Look::GetOrInit, key, own)
}

/// One that doesn't.
const fn wait(key: Key) -> Doing {
    look(Look::GetOrInit, key)
}

const fn fail(key: Key) -> Doing {
    look(Look::FailToInit, key)
}

const fn clone(id: u32) -> Doing {
    (Call::Clone(Id(id)), None)
}

const fn drop(id: u32) -> Doing {
    (Call::Drop(Id(id)), None)
}

const fn downgrade(id: u32) -> Doing {
    (Call::Downgrade(Id(id)), None)
}

const fn upgrade(id: u32) -> Doing {
    (Call::Upgrade(Id(id)), None)
}

const fn unwrap(id: u32) -> Doing {
    (Call::TryUnwrap(Id(id)), None)
}

const FIRST: Doing = (Call::Next(1, None), None);

const fn next(last: u32) -> Doing {
    (Call::Next(1, Some(Id(last))), None)
}

const LEN: Doing = (Call::Len, None);
const BURST: Doing = (Call::Burst, None);
const LEAVE: Doing = (Call::Leave, None);

/// A history on its way.
struct Script {
    history: History,
    clock: Stamp,
    /// Calls that have begun.
    open: Vec<Record>,
}

impl Script {
    fn new(kind: Kind) -> Self {
        Self {
            history: History {
                kind,
                one_hash: false,
                records: Vec::new(),
            },
            clock: 0,
            open: Vec::new(),
        }
    }

    fn one_hash(mut self) -> Self {
        self.history.one_hash = true;
        self
    }

    fn begins(mut self, thread: usize, (call, own): Doing) -> Self {
        self.open.push(Record {
            thread,
            call,
            answer: Done,
            span: Span {
                call: self.clock,
                answer: Stamp::MAX,
            },
            own,
            build: None,
            deaths: Vec::new(),
        });
        self
    }

    fn tick(&mut self) -> Stamp {
        self.clock += 1;
        self.clock - 1
    }

    fn open(&mut self, thread: usize) -> &mut Record {
        let mut open = self.open.iter_mut();
        open.find(|record| record.thread == thread)
            .expect("the thread has called something")
    }

    fn dies(mut self, thread: usize, id: u32) -> Self {
        let at = self.tick();
        self.open(thread).deaths.push(Death { id: Id(id), at });
        self
    }

    fn builds(mut self, thread: usize) -> Self {
        let began = self.tick();
        self.open(thread).build = Some(Build {
            began,
            ending: Stamp::MAX,
        });
        self
    }

    fn has_built(mut self, thread: usize) -> Self {
        let ending = self.clock;
        let build = self.open(thread).build.as_mut();
        build.expect("the thread builds").ending = ending;
        self
    }

    fn ends(mut self, thread: usize, answer: Answer) -> Self {
        let at = self.tick();
        self.open(thread).answer = answer;
        self.open(thread).span.answer = at;
        let ended = |record: &mut Record| record.thread == thread;
        self.history.records.extend(self.open.extract_if(.., ended));
        self
    }

    fn does(self, thread: usize, doing: Doing, answer: Answer) -> Self {
        self.begins(thread, doing).ends(thread, answer)
    }

    /// Drops a handle, which is the last one.
    fn ends_value(self, thread: usize, id: u32) -> Self {
        self.begins(thread, drop(id))
            .dies(thread, id)
            .ends(thread, Done)
    }

    fn finish(self) -> History {
        assert!(self.open.is_empty(), "all calls have ended");
        self.history
    }

    #[track_caller]
    fn accepted(self) {
        let history = self.finish();
        if let Err(refusal) = check(&history) {
            panic!("{}", explain(&history, &refusal));
        }
    }

    /// Refused, with these words.
    #[track_caller]
    fn refused(self, words: &str) {
        let history = self.finish();
        let refusal = check(&history).expect_err("a history that isn't allowed");
        let words_are_there = explain(&history, &refusal).contains(words);
        assert!(words_are_there, "refused for another reason: {refusal}");
    }
}

const NO_ORDER: &str = "have no order that is allowed";
/// What an order ends in if a release is never settled.
const OWING: &str = "nobody has ended or revived in time";

fn interner() -> Script {
    Script::new(Kind::Interner)
}

fn map() -> Script {
    Script::new(Kind::Map)
}

/// An interner in which thread 1 holds value 1 of key A.
fn held() -> Script {
    interner().does(1, intern(A, 1), found(1))
}

/// A map in which thread 1 holds value 1 of key A.
fn held_in_map() -> Script {
    map().does(1, insert(A, 1), found(1))
}

#[test]
fn one_of_two_inserters_wins() {
    let both = || interner().begins(1, intern(A, 1)).begins(2, intern(A, 2));
    both()
        .ends(1, found(1))
        .dies(2, 2)
        .ends(2, found(1))
        .accepted();
    both().ends(1, found(1)).ends(2, found(2)).refused(NO_ORDER);
    both()
        .ends(1, found(1))
        .ends(2, found(1))
        .refused("#002 has no handles and never died");
}

#[test]
fn a_held_value_is_found() {
    held().does(2, get(A), found(1)).accepted();
    held().does(2, get(B), Nothing).accepted();
    held().does(2, get(A), Nothing).refused(NO_ORDER);
    held().does(2, intern(A, 2), found(2)).refused(NO_ORDER);
    held()
        .does(2, get(B), found(1))
        .refused("get(b) answers #001, made for a");
    held()
        .does(2, get(A), found(7))
        .refused("#007, which nobody has made");
}

#[test]
fn what_is_inserted_meanwhile_may_be_missed() {
    let both = || interner().begins(1, intern(A, 1)).begins(2, get(A));
    both().ends(1, found(1)).ends(2, Nothing).accepted();
    both().ends(2, found(1)).ends(1, found(1)).accepted();
    interner()
        .does(2, get(A), found(1))
        .does(1, intern(A, 1), found(1))
        .refused(NO_ORDER);
}

#[test]
fn last_drop_meets_intern() {
    let both = || held().begins(1, drop(1)).begins(2, intern(A, 2));
    // Revived, or found before it was dropped.
    both().dies(2, 2).ends(2, found(1)).ends(1, Done).accepted();
    // Ended before.
    both().dies(1, 1).ends(2, found(2)).ends(1, Done).accepted();
    // Closed before; the destructor only comes later.
    both().ends(2, found(2)).dies(1, 1).ends(1, Done).accepted();
    both()
        .ends(2, found(2))
        .ends(1, Done)
        .refused("#001 has no handles and never died");
    both()
        .dies(1, 1)
        .dies(2, 2)
        .ends(2, found(1))
        .ends(1, Done)
        .refused(NO_ORDER);
}

#[test]
fn a_value_dies_with_its_last_handle() {
    held().ends_value(1, 1).does(2, get(A), Nothing).accepted();
    held()
        .ends_value(1, 1)
        .does(2, get(A), found(1))
        .refused(NO_ORDER);
    held()
        .does(1, clone(1), found(1))
        .does(1, drop(1), Done)
        .ends_value(1, 1)
        .accepted();
    held()
        .does(1, clone(1), found(1))
        .ends_value(1, 1)
        .refused(NO_ORDER);
    held().does(1, drop(1), Done).refused("never died");
    held()
        .begins(1, drop(1))
        .dies(1, 1)
        .dies(1, 1)
        .ends(1, Done)
        .refused("#001 died twice");
}

#[test]
fn one_of_two_droppers_ends_the_value() {
    let both = || {
        held()
            .does(2, get(A), found(1))
            .begins(1, drop(1))
            .begins(2, drop(1))
    };
    both().ends(1, Done).dies(2, 1).ends(2, Done).accepted();
    both().dies(1, 1).ends(2, Done).ends(1, Done).accepted();
    both().ends(1, Done).ends(2, Done).refused("never died");
}

#[test]
fn a_drop_leaves_the_end_to_those_who_have_not_returned() {
    // Revived and dropped again meanwhile: then the first one may find it once more.
    held()
        .begins(1, drop(1))
        .does(2, get(A), found(1))
        .does(2, drop(1), Done)
        .dies(1, 1)
        .ends(1, Done)
        .accepted();
    held()
        .does(1, drop(1), Done)
        .does(2, get(A), found(1))
        .ends_value(2, 1)
        .refused(OWING);
}

#[test]
fn a_value_dies_where_its_key_is_dropped() {
    held()
        .begins(1, drop(1))
        .begins(2, get(A))
        .ends(1, Done)
        .dies(2, 1)
        .ends(2, Nothing)
        .refused("#001 died in get(a)");
    // One that looks for another key of the same hash holds it for a moment.
    let passed = || interner().one_hash().does(1, intern(A, 1), found(1));
    passed()
        .begins(1, drop(1))
        .begins(2, get(B))
        .ends(1, Done)
        .dies(2, 1)
        .ends(2, Nothing)
        .accepted();
    passed()
        .does(1, drop(1), Done)
        .begins(2, get(B))
        .dies(2, 1)
        .ends(2, Nothing)
        .refused(OWING);
}

#[test]
fn teardown_ends_nothing() {
    let both = || held().begins(1, drop(1)).begins(2, LEAVE);
    both().dies(1, 1).ends(2, Done).ends(1, Done).accepted();
    both().ends(2, Done).dies(1, 1).ends(1, Done).accepted();
    both()
        .ends(1, Done)
        .dies(2, 1)
        .ends(2, Done)
        .refused("#001 died in let go of the table");
    held()
        .begins(2, LEAVE)
        .dies(2, 1)
        .ends(2, Done)
        .refused("#001 died in let go of the table");
}

#[test]
fn a_weak_handle_leads_to_what_has_not_ended() {
    let weak = || held().does(1, downgrade(1), Done);
    weak().does(2, upgrade(1), found(1)).accepted();
    weak().does(2, upgrade(1), Nothing).refused(NO_ORDER);
    weak()
        .ends_value(1, 1)
        .does(2, upgrade(1), Nothing)
        .accepted();
    weak()
        .ends_value(1, 1)
        .does(2, upgrade(1), found(1))
        .refused(NO_ORDER);
    // Also when there is another value of the key.
    weak()
        .ends_value(1, 1)
        .does(1, intern(A, 2), found(2))
        .does(2, upgrade(1), found(2))
        .refused("upgrade #001 answers #002");
    weak()
        .begins(1, drop(1))
        .does(2, upgrade(1), found(1))
        .ends(1, Done)
        .accepted();
}

#[test]
fn the_only_handle_is_unwrapped() {
    let moves_out = |script: Script| script.begins(1, unwrap(1)).dies(1, 1).ends(1, found(1));
    moves_out(held()).does(2, get(A), Nothing).accepted();
    moves_out(held())
        .does(2, get(A), found(1))
        .refused(NO_ORDER);
    moves_out(held().does(2, get(A), found(1))).refused(NO_ORDER);
    held()
        .does(2, get(A), found(1))
        .does(1, unwrap(1), Failed)
        .accepted();
    held().does(1, unwrap(1), Failed).refused(NO_ORDER);
    held()
        .begins(2, get(B))
        .does(1, unwrap(1), Failed)
        .ends(2, Nothing)
        .refused(NO_ORDER);
    interner()
        .one_hash()
        .does(1, intern(A, 1), found(1))
        .begins(2, get(B))
        .does(1, unwrap(1), Failed)
        .ends(2, Nothing)
        .accepted();
}

#[test]
fn a_removed_entry_is_found_no_more() {
    let removed = || held_in_map().does(2, remove(A), found(1));
    removed().does(1, get(A), Nothing).accepted();
    removed().does(1, get(A), found(1)).refused(NO_ORDER);
    removed().does(1, remove(A), found(1)).refused(NO_ORDER);
    removed().does(1, insert(A, 2), found(2)).accepted();
    removed()
        .begins(1, insert(A, 2))
        .dies(1, 2)
        .ends(1, found(1))
        .refused(NO_ORDER);
    // Its handles stay what they are.
    removed().does(1, drop(1), Done).ends_value(2, 1).accepted();
    removed().ends_value(1, 1).refused(NO_ORDER);
    held_in_map().does(2, remove(A), Nothing).refused(NO_ORDER);
}

#[test]
fn one_value_is_built() {
    let both = || {
        map()
            .begins(1, init(A, 1))
            .builds(1)
            .begins(2, wait(A))
            .has_built(1)
    };
    both().ends(1, found(1)).ends(2, found(1)).accepted();
    // Also if the builder lets go of it at once.
    both()
        .ends(1, found(1))
        .begins(1, drop(1))
        .ends(2, found(1))
        .ends(1, Done)
        .accepted();
    let two_build = || {
        map()
            .begins(1, init(A, 1))
            .builds(1)
            .begins(2, init(A, 2))
            .builds(2)
            .has_built(1)
            .ends(1, found(1))
            .has_built(2)
    };
    map()
        .begins(2, init(A, 2))
        .begins(1, init(A, 1))
        .builds(1)
        .has_built(1)
        .ends(1, found(1))
        .builds(2)
        .has_built(2)
        .dies(2, 2)
        .ends(2, found(1))
        .refused("built its value for nothing");
    two_build()
        .ends_value(1, 1)
        .ends(2, found(2))
        .refused("built at the same time");
}

#[test]
fn a_builder_gives_way_to_an_inserter() {
    let displaced = || {
        map()
            .begins(1, init(A, 1))
            .builds(1)
            .begins(3, wait(A))
            .does(2, get(A), Nothing)
            .does(2, insert(A, 2), found(2))
            .has_built(1)
    };
    displaced()
        .dies(1, 1)
        .ends(1, found(2))
        .ends(3, found(2))
        .accepted();
    displaced()
        .ends(1, found(1))
        .ends(3, found(2))
        .refused(NO_ORDER);
    // Unless the other one has gone again. Then only those who waited may answer the builder's.
    let removed_at_once = || {
        displaced()
            .ends_value(2, 2)
            .ends(1, found(1))
            .does(2, get(A), Nothing)
    };
    removed_at_once().ends(3, found(1)).accepted();
    removed_at_once()
        .does(2, get(A), found(1))
        .ends(3, found(1))
        .refused(NO_ORDER);
    map()
        .does(1, init(A, 1), found(1))
        .does(2, get(A), Nothing)
        .refused(NO_ORDER);
}

#[test]
fn a_failing_builder_changes_nothing() {
    map()
        .begins(1, fail(A))
        .builds(1)
        .begins(2, init(A, 1))
        .has_built(1)
        .ends(1, Failed)
        .builds(2)
        .has_built(2)
        .ends(2, found(1))
        .accepted();
    held_in_map().does(2, fail(A), found(1)).accepted();
    held_in_map().does(2, fail(A), Failed).refused(NO_ORDER);
    map()
        .does(1, fail(A), Answer::Deadlock)
        .refused("there is none");
}

/// An interner in which thread 1 holds values 1 and 2 of two keys.
fn two_held() -> Script {
    held().does(1, intern(B, 2), found(2))
}

#[test]
fn an_iteration_answers_what_is_there() {
    two_held()
        .does(2, FIRST, found(2))
        .does(2, next(2), found(1))
        .does(2, next(1), Nothing)
        .accepted();
    two_held()
        .does(2, FIRST, found(2))
        .does(2, next(2), Nothing)
        .refused("leaves out #001");
    held().does(2, FIRST, Nothing).refused("leaves out #001");
    two_held()
        .does(2, FIRST, found(1))
        .does(2, next(1), found(1))
        .does(2, next(1), Nothing)
        .refused("answers #001 twice");
    held()
        .ends_value(1, 1)
        .does(2, FIRST, found(1))
        .does(2, next(1), Nothing)
        .refused(NO_ORDER);
    interner()
        .does(2, FIRST, found(1))
        .does(1, intern(A, 1), found(1))
        .does(2, next(1), Nothing)
        .refused(NO_ORDER);
}

#[test]
fn an_iteration_may_leave_out_what_comes_or_goes() {
    held()
        .does(2, FIRST, found(1))
        .does(1, intern(B, 2), found(2))
        .does(2, next(1), Nothing)
        .accepted();
    // There isn't one handle from the beginning to the end, but always one.
    two_held()
        .does(2, FIRST, found(2))
        .does(1, clone(1), found(1))
        .does(1, drop(1), Done)
        .does(2, next(2), Nothing)
        .refused("leaves out #001");
    two_held()
        .does(2, FIRST, found(2))
        .ends_value(1, 1)
        .does(2, next(2), Nothing)
        .accepted();
    held_in_map()
        .does(1, insert(B, 2), found(2))
        .does(2, FIRST, found(2))
        .does(1, remove(A), found(1))
        .does(2, next(2), Nothing)
        .accepted();
}

#[test]
fn an_iteration_holds_what_it_has_answered() {
    let dropped_meanwhile = || held().does(2, FIRST, found(1)).does(1, drop(1), Done);
    dropped_meanwhile()
        .begins(2, next(1))
        .dies(2, 1)
        .ends(2, Nothing)
        .accepted();
    held()
        .does(2, FIRST, found(1))
        .ends_value(1, 1)
        .does(2, next(1), Nothing)
        .refused(NO_ORDER);
}

#[test]
fn a_length_counts_what_is_there() {
    two_held().does(2, LEN, Number(2)).accepted();
    two_held()
        .does(2, LEN, Number(1))
        .refused("there were 2 to 2 entries");
    two_held()
        .does(2, LEN, Number(3))
        .refused("there were 2 to 2 entries");
    for length in 0..3 {
        let comes = interner()
            .begins(2, LEN)
            .does(1, intern(A, 1), found(1))
            .ends(2, Number(length));
        let goes = held()
            .begins(1, drop(1))
            .begins(2, LEN)
            .dies(1, 1)
            .ends(1, Done)
            .ends(2, Number(length));
        if length < 2 {
            comes.accepted();
            goes.accepted();
        } else {
            comes.refused("there were 0 to 1 entries");
            goes.refused("there were 0 to 1 entries");
        }
    }
    let removed = || held_in_map().does(1, remove(A), found(1));
    removed().does(2, LEN, Number(0)).accepted();
    removed()
        .does(2, LEN, Number(1))
        .refused("there were 0 to 0 entries");
}

#[test]
fn a_length_may_count_other_keys() {
    held()
        .begins(2, BURST)
        .does(1, LEN, Number(70))
        .ends(2, Done)
        .accepted();
    // One of them is held by an iteration, which passes it.
    held()
        .begins(2, FIRST)
        .does(3, BURST, Done)
        .does(1, LEN, Number(2))
        .ends(2, found(1))
        .accepted();
    held()
        .does(3, BURST, Done)
        .does(1, LEN, Number(2))
        .refused("there were 1 to 1 entries");
}

/// What has nothing to do with the contradiction is left out of its explanation.
#[test]
fn an_explanation_shows_the_contradiction() {
    let script = two_held()
        .does(1, clone(2), found(2))
        .does(3, get(A), found(1))
        .does(3, clone(1), found(1))
        .does(3, drop(1), Done)
        .does(3, drop(1), Done)
        .does(2, get(A), Nothing);
    let history = script.finish();
    let refusal = check(&history).expect_err("there is a handle");
    let report = explain(&history, &refusal);
    let (_, core) = report
        .split_once("these calls by themselves have none:\n\n")
        .expect("there is less than everything");
    let core: Vec<_> = core.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(core.len(), 3, "a title and two calls:\n{report}");
    assert!(core[1].contains("intern(a) with #001 → #001"), "{report}");
    assert!(core[2].contains("get(a) → none"), "{report}");
}
