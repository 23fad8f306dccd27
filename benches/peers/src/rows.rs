//! The rows: what is measured, and how often a sample does it. The same code for all peers, which are called
//! through a trait and compiled together.

use std::collections::BTreeMap;
use std::hint::black_box;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::keys::{self, Keys, Source};
use crate::peers::Peer;
use crate::team::{self, Member};

/// Live values of the rows that look up.
const LIVE: usize = 10_000;

/// Live values beside those that come and go, in `churn-100k`.
const HELD: usize = 100_000;

/// Handles that each thread keeps in `window`.
const WINDOW: usize = 256;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// Intern a random one of 10 000 live values, and drop the handle; each thread holds handles on all of them
    Hit,
    /// The same, chosen by Zipf's law with the exponent 0.99
    Zipf,
    /// Intern the same live value over and over; each thread holds a handle on it
    Hot,
    /// Clone a handle on a live value, the same for all threads, and drop it
    #[value(name = "clone+drop")]
    #[serde(rename = "clone+drop")]
    CloneDrop,
    /// Intern a value that nobody has had before, and drop it
    Churn,
    /// The same beside 100 000 live values
    #[value(name = "churn-100k")]
    #[serde(rename = "churn-100k")]
    Churn100k,
    /// Intern one of 10 000 values by Zipf's law, and keep it until 256 others came: what is live changes
    Window,
    /// Intern new values and keep them, from none until there are a million among all threads
    Grow,
    /// Intern a random one of that million
    HitBig,
    /// Drop that million, each thread what it added, in that order
    Drop,
}

/// Nanoseconds per operation.
pub type Figures = BTreeMap<Row, f64>;

impl Row {
    /// How often each thread does it in one sample, and for `grow` how many values there are in all. A sample should
    /// take 50 to 100 ms; all peers do the same number.
    pub fn operations(self) -> usize {
        match self {
            Self::Hit | Self::Zipf | Self::Hot => 1_000_000,
            Self::CloneDrop => 4_000_000,
            Self::Churn | Self::Churn100k => 300_000,
            Self::Window => 500_000,
            Self::Grow | Self::HitBig | Self::Drop => 1_000_000,
        }
    }

    /// The row that this one is sampled with: the million is interned once for three rows.
    pub fn sampled_with(self) -> Self {
        match self {
            Self::HitBig | Self::Drop => Self::Grow,
            _ => self,
        }
    }

    /// How it is written.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no row is hidden");
        value.get_name().to_owned()
    }
}

/// One sample of a row and those that are sampled with it.
pub fn sample<P: Peer>(row: Row, threads: usize, operations: usize, round: u64) -> Figures {
    let bench = Bench { operations, round };
    let alone = |work: fn(&Bench, &Member) -> f64| {
        let [figure] = team::mean(threads, |member| [work(&bench, member)]);
        Figures::from([(row, figure)])
    };
    match row {
        Row::Hit => alone(Bench::hit::<P>),
        Row::Zipf => alone(Bench::zipf::<P>),
        Row::Hot => alone(Bench::hot::<P>),
        Row::CloneDrop => alone(Bench::clone_drop::<P>),
        Row::Churn => alone(Bench::churn::<P>),
        Row::Churn100k => alone(Bench::churn_100k::<P>),
        Row::Window => alone(Bench::window::<P>),
        Row::Grow | Row::HitBig | Row::Drop => {
            let figures = team::mean(threads, |member| bench.million::<P>(member));
            [Row::Grow, Row::HitBig, Row::Drop]
                .into_iter()
                .zip(figures)
                .collect()
        }
    }
}

/// What the rows of one sample have in common.
struct Bench {
    operations: usize,
    round: u64,
}

impl Bench {
    /// What all threads have in common comes from this source.
    fn shared(&self) -> Source {
        Source {
            round: self.round,
            stream: 0,
        }
    }

    /// What each thread has to itself comes from this source.
    fn own(&self, member: &Member) -> Source {
        Source {
            round: self.round,
            stream: 1 + member.index as u64,
        }
    }

    /// Not timed: so that caches, the allocator and the branch predictor know the work.
    fn warm_up(&self) -> usize {
        self.operations / 4
    }

    fn hit<P: Peer>(&self, member: &Member) -> f64 {
        let choices = keys::uniform(LIVE, self.operations, self.own(member));
        self.look_up::<P>(member, &choices)
    }

    fn zipf<P: Peer>(&self, member: &Member) -> f64 {
        let choices = keys::zipf(LIVE, self.own(member));
        self.look_up::<P>(member, &choices)
    }

    fn look_up<P: Peer>(&self, member: &Member, choices: &[u32]) -> f64 {
        let peer = P::open();
        let keys = Keys::new(LIVE, self.shared());
        let held: Vec<_> = (0..LIVE).map(|key| peer.hold(keys.get(key))).collect();
        look_up(&peer, &keys, choices, self.warm_up());
        let figure = member.time(self.operations, || {
            look_up(&peer, &keys, choices, self.operations);
        });
        drop(held);
        figure
    }

    fn hot<P: Peer>(&self, member: &Member) -> f64 {
        let peer = P::open();
        let keys = Keys::new(1, self.shared());
        let key = keys.get(0);
        let held = peer.hold(key);
        let again = |times| {
            for _ in 0..times {
                black_box(peer.intern(black_box(key)));
            }
        };
        again(self.warm_up());
        let figure = member.time(self.operations, || again(self.operations));
        drop(held);
        figure
    }

    fn clone_drop<P: Peer>(&self, member: &Member) -> f64 {
        let held = P::open().hold(Keys::new(1, self.shared()).get(0));
        let again = |times| {
            for _ in 0..times {
                black_box(black_box(&held).clone());
            }
        };
        again(self.warm_up());
        member.time(self.operations, || again(self.operations))
    }

    fn churn<P: Peer>(&self, member: &Member) -> f64 {
        let peer = P::open();
        let warm_up = self.warm_up();
        let keys = Keys::new(warm_up + self.operations, self.own(member));
        let come_and_go = |range: std::ops::Range<usize>| {
            for key in range {
                black_box(peer.intern(keys.get(key)));
            }
        };
        come_and_go(0..warm_up);
        member.time(self.operations, || {
            come_and_go(warm_up..warm_up + self.operations);
        })
    }

    fn churn_100k<P: Peer>(&self, member: &Member) -> f64 {
        // The first thread holds them; the others begin to measure when they are there.
        let held: Vec<_> = if member.index == 0 {
            let peer = P::open();
            let keys = Keys::new(HELD, self.shared());
            (0..HELD).map(|key| peer.intern(keys.get(key))).collect()
        } else {
            Vec::new()
        };
        let figure = self.churn::<P>(member);
        drop(held);
        figure
    }

    fn window<P: Peer>(&self, member: &Member) -> f64 {
        let peer = P::open();
        let keys = Keys::new(LIVE, self.shared());
        let choices = keys::zipf(LIVE, self.own(member));
        let mut choices = choices.iter().map(|&key| keys.get(key as usize)).cycle();
        let mut window: Vec<_> = choices
            .by_ref()
            .take(WINDOW)
            .map(|key| peer.intern(key))
            .collect();
        let mut slide = |times| {
            for (time, key) in choices.by_ref().take(times).enumerate() {
                window[time % WINDOW] = peer.intern(key);
            }
        };
        slide(self.warm_up());
        member.time(self.operations, || slide(self.operations))
    }

    /// Grow, look up, drop.
    fn million<P: Peer>(&self, member: &Member) -> [f64; 3] {
        let peer = P::open();
        let all = self.operations;
        let keys = Keys::new(all, self.shared());
        let share = all * member.index / member.threads..all * (member.index + 1) / member.threads;
        let count = share.len();
        let choices = keys::uniform(all, all / 2, self.own(member));

        let mut handles = Vec::with_capacity(count);
        let grow = member.time(count, || {
            peer.intern_each(share.map(|key| keys.get(key)), |handle| {
                handles.push(handle);
            });
        });
        look_up(&peer, &keys, &choices, choices.len() / 8);
        let hit = member.time(choices.len(), || {
            look_up(&peer, &keys, &choices, choices.len());
        });
        let drop = member.time(count, || drop(handles));
        [grow, hit, drop]
    }
}

fn look_up<P: Peer>(peer: &P, keys: &Keys, choices: &[u32], times: usize) {
    let texts = choices.iter().cycle().take(times);
    peer.intern_each(texts.map(|&key| keys.get(key as usize)), |handle| {
        black_box(handle);
    });
}
