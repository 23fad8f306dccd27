//! What a thread holds, and what it needs to go on.

use std::sync::Arc;
use std::thread::JoinHandle;

use hapax::{ById, Cached, Interned, WeakCached, WeakInterned};

use crate::callbacks::Watched;
use crate::counted::{Counted, Item};
use crate::guests::Guest;
use crate::kinds::{Kind, Term};
use crate::posts::Post;
use crate::rng::Rng;

/// Handles of one sort that a thread holds.
const MOST: usize = 300;

pub(crate) type Entry = Cached<Counted, Item>;
pub(crate) type Wrapper = Cached<ById<Arc<Counted>>, Counted>;

/// Handles to values of one kind.
pub(crate) struct Shelf<T: Kind + ?Sized> {
    pub(crate) strong: Vec<Interned<T>>,
    pub(crate) weak: Vec<Watched<WeakInterned<T>>>,
}

impl<T: Kind + ?Sized> Shelf<T> {
    fn new() -> Self {
        Self {
            strong: Vec::new(),
            weak: Vec::new(),
        }
    }
}

/// The state of a thread. Nothing of it is lost when another thread goes on with it.
pub(crate) struct Hand {
    pub(crate) rng: Rng,
    pub(crate) post: Arc<Post>,
    /// Where its child reports; `None` for a child itself.
    pub(crate) child_post: Option<Arc<Post>>,
    pub(crate) child: Option<JoinHandle<()>>,
    /// Values of the largest burst.
    pub(crate) growth: usize,

    pub(crate) names: Shelf<str>,
    pub(crate) paths: Shelf<std::path::Path>,
    pub(crate) values: Shelf<Counted>,
    pub(crate) slices: Shelf<[Counted]>,
    pub(crate) terms: Shelf<Term>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) weak_entries: Vec<Watched<WeakCached<Counted, Item>>>,
    pub(crate) wrappers: Vec<Wrapper>,
    pub(crate) guest: Option<Arc<Guest>>,
    /// Where an iteration of this thread stands, which has a handle of its own there.
    pub(crate) stands_on: Option<Interned<Counted>>,
}

impl Hand {
    pub(crate) fn new(
        rng: Rng,
        growth: usize,
        post: Arc<Post>,
        child_post: Option<Arc<Post>>,
    ) -> Self {
        Self {
            rng,
            post,
            child_post,
            child: None,
            growth,
            names: Shelf::new(),
            paths: Shelf::new(),
            values: Shelf::new(),
            slices: Shelf::new(),
            terms: Shelf::new(),
            entries: Vec::new(),
            weak_entries: Vec::new(),
            wrappers: Vec::new(),
            guest: None,
            stands_on: None,
        }
    }

    /// Lets go of everything.
    pub(crate) fn empty(&mut self) {
        self.join_child();
        let (post, child_post) = (self.post.clone(), self.child_post.clone());
        let next = Self::new(self.rng.clone(), self.growth, post, child_post);
        let mut old = std::mem::replace(self, next);
        old.guest.take().into_iter().for_each(Guest::leave);
    }

    /// Now and then a guest, whose interner and map are to be used next.
    pub(crate) fn visit(&mut self) -> Option<Arc<Guest>> {
        self.rng.one_in(3).then(|| self.guest.clone())?
    }

    /// Waits for the child, if there is one, until its thread-locals are gone as well.
    pub(crate) fn join_child(&mut self) {
        if let Some(child) = self.child.take() {
            let _busy = self.post.doing("waits for its child");
            // A panic of the child has ended the program.
            let _ = child.join();
        }
    }
}

/// Puts something to what is held; by chance in place of another one, if that is enough.
pub(crate) fn keep<X>(held: &mut Vec<X>, new: X, chance: u64) {
    if held.len() < MOST {
        held.push(new);
    } else {
        held[chance as usize % MOST] = new;
    }
}

/// Takes one of those that are held.
pub(crate) fn take<X>(held: &mut Vec<X>, chance: u64) -> Option<X> {
    match held.len() {
        0 => None,
        len => Some(held.swap_remove((chance % len as u64) as usize)),
    }
}
