//! What a child process does: it grows one table and times each call.

use std::cmp::Reverse;
use std::hint::black_box;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::usage::Usage;

/// The kernel is asked once in so many calls, and after each slow one. So what it has counted for a slow call
/// may have happened in one of the few before it. Asking each time would disturb what is measured.
const BLOCK: u32 = 16;

/// Nanoseconds from which on the kernel is asked about a call.
const SLOW: u64 = 5_000;

/// The slow calls that are told of one by one.
const TOLD: usize = 5;

/// Parts of the growth, each by the same factor, whose slowest calls are told.
const PARTS: i32 = 200;

/// What one child saw, in nanoseconds.
#[derive(Clone, Serialize, Deserialize)]
pub struct Round {
    /// Two readings of the clock with nothing in between, which is in every figure: the median.
    pub clock: u64,
    pub p50: u64,
    pub p99: u64,
    pub p9999: u64,
    pub max: u64,
    /// Of the calls that weren't switched.
    pub max_unswitched: u64,
    /// Those that took most themselves, the slowest first.
    pub slow: Vec<Slow>,
    pub parts: Vec<Part>,
}

impl Round {
    /// What the slowest call took itself.
    pub fn max_on_processor(&self) -> u64 {
        self.slow.first().map_or(SLOW, Slow::own)
    }
}

/// A slow call.
#[derive(Clone, Serialize, Deserialize)]
pub struct Slow {
    pub ns: u64,
    /// In the table before the call.
    pub entries: u32,
    pub switches: u64,
    pub faults: u64,
    /// Of the call and the few before it.
    pub on_processor: u64,
}

impl Slow {
    /// What the call itself took, as far as it is known.
    pub fn own(&self) -> u64 {
        self.ns.min(self.on_processor)
    }

    /// Whether the processor was taken away. A virtual machine may lose it without a switch that its kernel could
    /// count; then a good part of the time is missing.
    fn is_switched(&self) -> bool {
        self.switches > 0 || self.own() < self.ns / 10 * 9
    }
}

/// A part of the growth.
#[derive(Clone, Serialize, Deserialize)]
pub struct Part {
    /// In the table after the part.
    pub entries: u32,
    /// The slowest call, without the time that the processor was away.
    pub slowest: u64,
}

/// Times the calls that fill a table.
pub fn grow<P: Peer>(entries: u32) -> Round {
    let clock = clock();
    let mut watch = Watch::new(entries);
    let mut key = Key::new();
    // Room for all: what the handles need is no part of any call.
    let mut held = Vec::with_capacity(entries as usize);
    for entry in 0..entries {
        if entry % BLOCK == 0 {
            watch.ask();
        }
        let text = key.number(entry);
        let start = Instant::now();
        let handle = P::intern(text);
        let ns = start.elapsed().as_nanos() as u64;
        held.push(handle);
        watch.record(entry, ns);
    }
    black_box(&held);
    // The process ends without them.
    std::mem::forget(held);
    watch.round(clock)
}

/// The median of many pairs of readings.
fn clock() -> u64 {
    let mut pairs = Histogram::<u64>::new(3).expect("three digits will do");
    for _ in 0..100_000 {
        pairs += Instant::now().elapsed().as_nanos() as u64;
    }
    pairs.value_at_quantile(0.5)
}

/// A string of 30 bytes for each number, always in the same place.
struct Key(String);

const PREFIX: &str = "entry-of-thirty-bytes-";

impl Key {
    fn new() -> Self {
        Self(format!("{PREFIX}{:08}", 0))
    }

    fn number(&mut self, number: u32) -> &str {
        use std::fmt::Write;
        self.0.truncate(PREFIX.len());
        write!(self.0, "{number:08}").expect("strings take everything");
        &self.0
    }
}

/// Takes down what the calls took.
struct Watch {
    calls: Histogram<u64>,
    /// Exactly: the histogram keeps three digits.
    max: u64,
    slow: Vec<Slow>,
    asked: Usage,
    parts: Vec<Part>,
    /// The one that the growth is in.
    part: usize,
}

impl Watch {
    fn new(entries: u32) -> Self {
        Self {
            calls: Histogram::new(3).expect("three digits will do"),
            max: 0,
            slow: Vec::with_capacity(1 << 16),
            asked: Usage::now(),
            parts: parts(entries),
            part: 0,
        }
    }

    fn ask(&mut self) -> Usage {
        let now = Usage::now();
        let since = now.since(self.asked);
        self.asked = now;
        since
    }

    fn record(&mut self, entries: u32, ns: u64) {
        self.calls += ns;
        self.max = self.max.max(ns);
        let mut own = ns;
        if ns >= SLOW {
            let usage = self.ask();
            let slow = Slow {
                ns,
                entries,
                switches: usage.switches,
                faults: usage.faults,
                on_processor: usage.on_processor.as_nanos() as u64,
            };
            own = slow.own();
            self.slow.push(slow);
        }
        while entries >= self.parts[self.part].entries {
            self.part += 1;
        }
        let part = &mut self.parts[self.part];
        part.slowest = part.slowest.max(own);
    }

    fn round(mut self, clock: u64) -> Round {
        let unswitched = self.slow.iter().filter(|slow| !slow.is_switched());
        let max_unswitched = unswitched.map(|slow| slow.ns).max();
        self.slow.sort_unstable_by_key(|slow| Reverse(slow.own()));
        self.slow.truncate(TOLD);
        Round {
            clock,
            p50: self.calls.value_at_quantile(0.5),
            p99: self.calls.value_at_quantile(0.99),
            p9999: self.calls.value_at_quantile(0.9999),
            max: self.max,
            max_unswitched: max_unswitched.unwrap_or(SLOW),
            slow: self.slow,
            parts: self.parts,
        }
    }
}

/// Parts that end at so many entries, each larger than the one before by the same factor; the first ones by one.
fn parts(entries: u32) -> Vec<Part> {
    let mut ends: Vec<_> = (1..=PARTS)
        .map(|part| {
            f64::from(entries)
                .powf(f64::from(part) / f64::from(PARTS))
                .round() as u32
        })
        .collect();
    ends.dedup();
    let part = |entries| Part {
        entries,
        slowest: 0,
    };
    ends.into_iter().map(part).collect()
}
