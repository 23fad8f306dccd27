//! `intern_all`: many values at a time.
//!
//! - It answers what `intern` of one after the other would, in order, whatever is there before.
//! - It takes no more of its source than it was asked for, but for the rest of a group.
//! - A panic in the middle loses nothing but the group, and the iterator goes on.
//! - It is right among threads that do the same.

mod common;

use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use common::{Census, Counted, Rng, panic_of, scaled, seed};
use hapax::{Interned, Interner};

/// A hasher that hashes everything to one of a few values.
#[derive(Clone, Default)]
struct Poor(u64);

impl Hasher for Poor {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    }

    fn finish(&self) -> u64 {
        self.0 % 3
    }
}

impl BuildHasher for Poor {
    type Hasher = Poor;

    fn build_hasher(&self) -> Poor {
        Poor(0)
    }
}

/// Interns random numbers in both ways, among some that are held and others that come and go.
fn check<S: BuildHasher>(numbers: &Interner<u64, S>) {
    let mut rng = Rng(seed());
    let _held: Vec<_> = (0..50).map(|number| numbers.intern(number)).collect();
    for _ in 0..scaled(200, 5) {
        let wanted: Vec<u64> = (0..rng.below(50)).map(|_| rng.below(100) as u64).collect();
        let handles: Vec<Interned<u64>> = numbers.intern_all(&wanted).collect();
        assert_eq!(handles.len(), wanted.len());
        for (handle, number) in handles.iter().zip(&wanted) {
            assert_eq!(**handle, *number);
            assert_eq!(*handle, numbers.intern(number));
        }
        let session: Vec<_> = numbers.pin().intern_all(wanted).collect();
        assert_eq!(session, handles);
    }
    assert_eq!(numbers.len(), 50);
}

#[test]
fn it_answers_what_intern_would() {
    check(&Interner::new());
    check(&Interner::with_capacity(10_000));
}

#[test]
fn it_answers_what_intern_would_where_hashes_collide() {
    check(&Interner::with_hasher(Poor::default()));
}

#[test]
fn it_takes_values_of_every_form() {
    let names = Interner::<str>::new();
    let lent: Vec<_> = names.intern_all(["a", "b"]).collect();
    let owned: Vec<_> = names
        .intern_all(vec![String::from("a"), String::from("b")])
        .collect();
    let slices = Interner::<[u8]>::new();
    let parts: Vec<_> = slices.intern_all(b"abcabc".chunks(3)).collect();
    assert_eq!(lent, owned);
    assert_eq!(parts[0], parts[1]);
    assert_eq!((names.len(), slices.len()), (2, 1));
}

#[test]
fn nothing_is_interned_that_is_not_asked_for() {
    let names = Interner::<u64>::new();
    drop(names.intern_all(0..1000));
    assert_eq!(names.len(), 0);
    let mut taken = 0;
    let mut handles = names.intern_all((0..1000).inspect(|_| taken += 1));
    let first = handles.next();
    assert_eq!(first.as_deref(), Some(&0));
    drop(handles);
    assert_eq!((taken, names.len()), (32, 1));
}

#[test]
fn it_says_how_many_are_to_come() {
    let names = Interner::<u64>::new();
    let mut handles = names.intern_all(0..100);
    for left in (0..100).rev() {
        assert_eq!(handles.size_hint(), (left + 1, Some(left + 1)));
        assert!(handles.next().is_some());
    }
    assert_eq!(handles.size_hint(), (0, Some(0)));
    assert!(handles.next().is_none() && handles.next().is_none());
    assert!(format!("{handles:?}").starts_with("InternAll"));
}

/// A number whose hash, comparison or clone panics on request.
#[derive(Debug)]
struct Touchy(Counted, Option<&'static str>);

impl Touchy {
    fn panics_in(&self, what: &str) {
        assert!(self.1 != Some(what), "the {what} panics");
    }
}

impl std::hash::Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.panics_in("hash");
        self.0.hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.panics_in("comparison");
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl Clone for Touchy {
    fn clone(&self) -> Self {
        self.panics_in("clone");
        Self(self.0.clone(), self.1)
    }
}

#[test]
fn a_panic_loses_its_group_and_nothing_else() {
    let census = Census::new();
    for what in ["hash", "comparison", "clone"] {
        let values = Interner::<Touchy>::new();
        let held = values.intern(Touchy(Counted::new(20, &census), None));
        let touchy: Vec<_> = (0..80)
            .map(|position| match position {
                // It is compared with the one that is there.
                45 if what == "comparison" => Touchy(Counted::new(20, &census), Some(what)),
                45 => Touchy(Counted::new(45, &census), Some(what)),
                _ => Touchy(Counted::new(position, &census), None),
            })
            .collect();
        let mut handles = values.intern_all(&touchy);
        let mut seen = Vec::new();
        let mut panics = 0;
        let mut left = None;
        loop {
            match catch_unwind(AssertUnwindSafe(|| handles.next())) {
                Ok(Some(handle)) => seen.push(handle.0.key),
                Ok(None) => break,
                Err(_) => {
                    panics += 1;
                    let (least, most) = handles.size_hint();
                    assert_eq!(Some(least), most, "{what}");
                    left = Some((least, seen.len()));
                }
            }
        }
        assert_eq!(panics, 1, "{what}");
        let (least, before) = left.expect("it has panicked");
        assert_eq!(seen.len(), before + least, "{what}");
        // The first group and the last one.
        let first: Vec<_> = (0..32).collect();
        assert_eq!(seen[..32], first, "{what}");
        assert_eq!(*seen.last().unwrap(), 79, "{what}");
        drop(handles);
        drop((touchy, held));
        assert_eq!(values.len(), 0, "{what}");
        assert_eq!(census.live(), 0, "{what}");
    }
}

#[test]
fn a_source_that_panics_leaves_nothing_behind() {
    let numbers = Interner::<u64>::new();
    let message = panic_of(|| {
        let source = (0..100).inspect(|&number| assert!(number < 50, "fifty is too many"));
        numbers.intern_all(source).collect::<Vec<_>>()
    });
    assert!(message.contains("fifty is too many"));
    assert_eq!(numbers.len(), 0);
}

#[test]
fn threads_agree_on_what_they_intern() {
    let census = Census::new();
    let values = Interner::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (values, census) = (&values, &census);
            scope.spawn(move || {
                let mut rng = Rng(seed() + thread);
                for _ in 0..scaled(2000, 5) {
                    let wanted = std::iter::repeat_with(|| rng.below(40) as u64).take(20);
                    let counted = wanted.map(|key| Counted::new(key, census));
                    for handle in values.intern_all(counted) {
                        handle.assert_alive();
                        assert_eq!(handle, values.intern(Counted::new(handle.key, census)));
                    }
                }
            });
        }
    });
    assert_eq!((values.len(), census.live()), (0, 0));
}
