//! Dijkstra's philosophers: each takes the fork on the left, then the one on the right. When all have a left one, each
//! waits for the next for ever. Here the last to wait is told so, puts its fork down, and all of them eat.
//!
//! ```text
//! cargo run --release --features sync --example dining
//! ```

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use hapax::sync::{AcquireError, Mutex, deadlock};

/// How often it has been used.
type Fork = Mutex<u32>;

static FORKS: [Fork; 5] = [
    Mutex::named("the first fork", 0),
    Mutex::named("the second fork", 0),
    Mutex::named("the third fork", 0),
    Mutex::named("the fourth fork", 0),
    Mutex::named("the fifth fork", 0),
];

const NAMES: [&str; 5] = ["Aristotle", "Hypatia", "Kant", "Spinoza", "Weil"];

const MEALS: u32 = 3;

/// Takes both forks and eats. To begin with everybody has a left fork before anybody takes a right one.
fn eat(seat: usize, first_round: Option<&Barrier>) -> Result<(), AcquireError> {
    let mut left = FORKS[seat].lock()?;
    if let Some(all_have_one) = first_round {
        all_have_one.wait();
    }
    let mut right = FORKS[(seat + 1) % FORKS.len()].lock()?;
    *left += 1;
    *right += 1;
    Ok(())
}

fn main() {
    let all_have_one = Barrier::new(NAMES.len());
    let refused = AtomicU32::new(0);
    thread::scope(|scope| {
        for (seat, name) in NAMES.into_iter().enumerate() {
            let (all_have_one, refused) = (&all_have_one, &refused);
            let dine = move || {
                let mut first_round = Some(all_have_one);
                for _ in 0..MEALS {
                    deadlock::retry(|| {
                        eat(seat, first_round.take()).inspect_err(|error| {
                            refused.fetch_add(1, Relaxed);
                            println!("{name} puts the fork down: {error}");
                        })
                    })
                    .expect("nobody leaves with a fork");
                }
                println!("{name} has eaten");
            };
            thread::Builder::new()
                .name(name.to_owned())
                .spawn_scoped(scope, dine)
                .expect("there is room for five threads");
        }
    });
    let used: u32 = FORKS.iter().map(|fork| *fork.lock().unwrap()).sum();
    let meals = used / 2;
    println!("{meals} meals, {} refusals", refused.into_inner());
}
