//! The threads, and who tells them what to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::census;
use crate::guests::Guest;
use crate::hand::Hand;
use crate::kinds;
use crate::lives;
use crate::maps;
use crate::meeting::{Meeting, Phase};
use crate::memory;
use crate::operations::{STOP, stopping};
use crate::posts::Post;
use crate::request::Plan;
use crate::rng::Rng;
use crate::sleeper::Sleeper;

/// All threads but the one that directs them.
pub(crate) struct Stage {
    plan: Plan,
    meeting: Meeting,
    /// What each thread holds. It has the lock while it does something, and nobody else wants it then. The
    /// last one is the sleeper's.
    hands: Vec<Mutex<Hand>>,
    threads: Mutex<Vec<Option<JoinHandle<()>>>>,
    /// Of each thread and its child. The last one is that of the thread that directs.
    posts: Vec<Arc<Post>>,
    post: Arc<Post>,
}

impl Stage {
    /// Starts the threads.
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let mut hands = Vec::new();
        let mut posts = Vec::new();
        for number in 0..=plan.threads {
            let name = name(plan, number);
            let child = Post::new(format!("child of {name}"));
            let own = Post::new(name);
            posts.extend([own.clone(), child.clone()]);
            let hand = Hand::new(Rng::of(plan.seed, &[]), plan.growth, own, Some(child));
            hands.push(Mutex::new(hand));
        }
        let post = Post::new("main".into());
        posts.push(post.clone());
        let stage = Arc::new(Self {
            plan,
            meeting: Meeting::new(hands.len() + 1),
            threads: Mutex::new(hands.iter().map(|_| None).collect()),
            hands,
            posts,
            post,
        });
        for number in 0..=plan.threads {
            stage.start(number);
        }
        stage
    }

    fn start(self: &Arc<Self>, number: usize) {
        let stage = self.clone();
        let serve = move || {
            if number == stage.plan.threads {
                let mut sleeper = Sleeper::default();
                stage.serve(number, |hand, phase| sleeper.serve(hand, phase));
            } else {
                stage.serve(number, |hand, phase| stage.work(number, hand, phase));
            }
        };
        let thread = lives::start(name(self.plan, number), serve);
        self.threads.lock()[number] = Some(thread);
    }

    /// The life of a thread.
    fn serve(&self, number: usize, mut act: impl FnMut(&mut Hand, Phase)) {
        let post = &self.posts[2 * number];
        loop {
            let phase = self.attend(post);
            act(&mut self.hands[number].lock(), phase);
            self.attend(post);
            if phase == Phase::Leave(number) || phase == Phase::End {
                return;
            }
        }
    }

    fn attend(&self, post: &Post) -> Phase {
        let _busy = post.doing("waits for the others");
        self.meeting.attend()
    }

    /// What a working thread does.
    fn work(&self, number: usize, hand: &mut Hand, phase: Phase) {
        match phase {
            Phase::Work(round) => {
                hand.rng = Rng::of(self.plan.seed, &[round, number as u64]);
                if (round + number as u64).is_multiple_of(3) {
                    hand.long_step();
                }
                while !stopping() {
                    hand.step();
                }
                hand.join_child();
            }
            Phase::LetGo => hand.empty(),
            Phase::Flush => memory::flush(),
            Phase::Leave(_) | Phase::End => {}
        }
    }

    /// Lets all threads work for a while. Afterwards they stand still.
    pub(crate) fn round(&self, number: u64, time: Duration) {
        STOP.store(false, Ordering::Relaxed);
        self.direct(Phase::Work(number), || {
            thread::sleep(time);
            STOP.store(true, Ordering::Relaxed);
        });
    }

    /// All threads let go of what they hold, and give its memory back.
    pub(crate) fn clear(&self) {
        self.direct(Phase::LetGo, || {});
        Guest::dismiss();
        maps::forget_objects();
        kinds::drain_exchanges();
        // What one thread hands over, another one may have to give back.
        for _ in 0..3 {
            self.direct(Phase::Flush, memory::flush);
        }
    }

    /// Lets a thread end, and another one go on with what it holds.
    pub(crate) fn relieve(self: &Arc<Self>, round: u64) {
        let number = (round % self.hands.len() as u64) as usize;
        self.direct(Phase::Leave(number), || {});
        self.join(number);
        self.start(number);
    }

    /// Lets all threads end.
    pub(crate) fn end(&self) {
        self.direct(Phase::End, || {});
        for number in 0..self.hands.len() {
            self.join(number);
        }
    }

    fn join(&self, number: usize) {
        if let Some(thread) = self.threads.lock()[number].take() {
            // A panic of the thread has ended the program.
            let _ = thread.join();
        }
    }

    fn direct(&self, phase: Phase, meanwhile: impl FnOnce()) {
        self.meeting.announce(phase);
        self.attend(&self.post);
        meanwhile();
        self.attend(&self.post);
    }

    /// What the threads are doing, and have done.
    pub(crate) fn posts(&self) -> &[Arc<Post>] {
        &self.posts
    }

    /// Looks at what there is while the threads stand still, and answers how many values live.
    pub(crate) fn census(&self) -> u64 {
        let _busy = self.post.doing("takes a census");
        census::take(self.hands.iter().map(Mutex::lock).collect())
    }
}

fn name(plan: Plan, number: usize) -> String {
    if number == plan.threads {
        "sleeper".into()
    } else {
        format!("thread {number}")
    }
}
