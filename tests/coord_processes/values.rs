//! Values that processes share, and what they compute for each other, among those that are killed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hapax::coord::{Averager, CoordError, RateLimiter, SingleFlight, SqliteStore};

use crate::agent::{Agent, until};
use crate::processes::place;

crate::trials! {
    a_cold_miss_is_computed_once_by_four_processes,
    a_killed_computer_hands_over,
    a_rate_is_shared_by_four_processes,
    averages_of_processes_that_are_killed,
}

/// What the commands of this file do in an agent. Their numbers are milliseconds.
pub(crate) fn answer(store: &SqliteStore, command: &[&str]) -> String {
    match *command {
        ["compute", key, file, time] => compute(store, key, Path::new(file), milliseconds(time)),
        ["rate", key, count, per, time] => {
            let limiter = RateLimiter::new(store, key, count.parse().unwrap(), milliseconds(per));
            let end = Instant::now() + milliseconds(time);
            let mut taken = 0;
            while Instant::now() < end {
                match limiter.try_acquire_until(end) {
                    Ok(()) => taken += 1,
                    Err(CoordError::RateLimited { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            taken.to_string()
        }
        ["add", key, number, times] => {
            let average = Averager::new(store, key);
            for _ in 0..times.parse().unwrap() {
                average.add(number.parse().unwrap()).unwrap();
            }
            "added".to_owned()
        }
        ["add", key, number] => {
            let average = Averager::new(store, key);
            loop {
                average.add(number.parse().unwrap()).unwrap();
            }
        }
        _ => panic!("what is {command:?}?"),
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

/// Eight threads want what is in a file, which takes that long to make. Says how many of them have made it.
fn compute(store: &SqliteStore, key: &str, file: &Path, time: Duration) -> String {
    let flight = SingleFlight::new(store, key);
    let computed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let read = || {
                    let text = fs::read_to_string(file).ok();
                    Ok::<_, CoordError>(text.map(|text| (text, Duration::MAX)))
                };
                let value = flight.get(read, |guard| {
                    computed.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(time);
                    let value = guard.fencing_token().to_string();
                    let new = file.with_extension(&value);
                    fs::write(&new, &value).unwrap();
                    fs::rename(new, file).unwrap();
                    Ok(value)
                });
                assert_eq!(value.unwrap(), fs::read_to_string(file).unwrap());
            });
        }
    });
    computed.into_inner().to_string()
}

fn a_cold_miss_is_computed_once_by_four_processes() {
    let (directory, path) = place();
    let file = directory.path().join("value");
    let mut agents: Vec<_> = (0..4).map(|_| Agent::open(&path)).collect();
    for _ in 0..5 {
        for agent in &mut agents {
            agent.tell(&format!("compute k {} 50", file.display()));
        }
        let computed: u32 = agents
            .iter_mut()
            .map(|agent| agent.answer().parse::<u32>().unwrap())
            .sum();
        assert_eq!(computed, 1);
        fs::remove_file(&file).unwrap();
    }
}

fn a_killed_computer_hands_over() {
    let (directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let file = directory.path().join("value");
    let mut first = Agent::open(&path);
    first.tell(&format!("compute k {} 600000", file.display()));
    // Seven of its own wait for it.
    crate::processes::until_wait(&store, "k", 7);
    let mut second = Agent::open(&path);
    second.tell(&format!("compute k {} 10", file.display()));
    crate::processes::until_wait(&store, "k", 15);
    first.kill();
    assert_eq!(second.answer(), "1");
    assert!(file.exists());
}

fn a_rate_is_shared_by_four_processes() {
    let (_directory, path) = place();
    let mut agents: Vec<_> = (0..4).map(|_| Agent::open(&path)).collect();
    let began = Instant::now();
    for agent in &mut agents {
        agent.tell("rate r 5 100 1000");
    }
    let taken: u32 = agents
        .iter_mut()
        .map(|agent| agent.answer().parse::<u32>().unwrap())
        .sum();
    // A full bucket, and one for each twenty milliseconds.
    let most = 5 + began.elapsed().as_millis() / 20;
    assert!(u128::from(taken) <= most, "{taken} of {most}");
    assert!(taken >= 20, "{taken}");
}

/// Each addition is there as a whole or not at all: nothing but ones and threes has a mean between them, and the counts are whole.
fn averages_of_processes_that_are_killed() {
    let (_directory, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let average = Averager::new(&store, "a");
    let mut lasting = Agent::open(&path);
    lasting.tell("add a 1 1000");
    for _ in 0..5 {
        let mut agent = Agent::open(&path);
        agent.tell("add a 3");
        until("it adds", || {
            average.get().unwrap().is_some_and(|mean| mean > 1.0)
        });
        std::thread::sleep(Duration::from_millis(5));
        agent.kill();
    }
    assert_eq!(lasting.answer(), "added");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let (total, count): (f64, f64) = connection
        .query_row("SELECT total, count FROM value", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(average.get().unwrap(), Some(total / count));
    // So many threes, beside a thousand ones.
    assert_eq!(total - 1000.0, 3.0 * (count - 1000.0));
}
