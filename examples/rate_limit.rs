//! A service that takes ten calls at once, and then one each ten milliseconds, and three programs of two threads that call
//! it as often as they may.
//!
//! They share the limit, whichever of them comes, and the average of how long a call has waited for its turn. Both stay in
//! the file: a program that is started again doesn't begin with ten calls at once.
//!
//! `cargo run --features coord-sqlite --example rate_limit`

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use hapax::coord::{Averager, CoordError, RateLimiter, SqliteStore};

const PROCESSES: usize = 3;
const THREADS: usize = 2;
/// Of each thread.
const CALLS: usize = 5;

fn main() -> Result<(), CoordError> {
    match env::args_os().nth(1) {
        Some(file) => work(Path::new(&file)),
        None => start(),
    }
}

fn limiter(store: &SqliteStore) -> RateLimiter {
    RateLimiter::new(store, "calls", 10, Duration::from_millis(100))
}

/// The first process: starts the others, and asks how they have fared.
fn start() -> Result<(), CoordError> {
    let folder = env::temp_dir().join(format!("hapax-rate-limit-{}", process::id()));
    fs::create_dir(&folder).expect("a new folder");
    let file = folder.join("limits.db");
    let store = SqliteStore::open(&file)?;
    let began = Instant::now();
    let programs = [(); PROCESSES].map(|()| {
        let mut program = Command::new(env::current_exe().expect("this program"));
        program.arg(&file).spawn().expect("a process")
    });
    for mut program in programs {
        assert!(program.wait().expect("it runs").success());
    }
    let calls = PROCESSES * THREADS * CALLS;
    println!("{calls} calls in {} ms", began.elapsed().as_millis());
    let waited = Averager::new(&store, "waited").pop()?.unwrap_or_default();
    println!("{:.0} ms until a call was let by", waited * 1000.0);
    match limiter(&store).try_acquire() {
        Ok(()) => println!("the next one may come"),
        Err(CoordError::RateLimited { retry_after, .. }) => {
            println!("the next one may come in {} ms", retry_after.as_millis());
        }
        Err(error) => return Err(error),
    }
    drop(store);
    fs::remove_dir_all(&folder).expect("the folder is there");
    Ok(())
}

/// Another one: its threads call.
fn work(file: &Path) -> Result<(), CoordError> {
    let store = SqliteStore::open(file)?;
    thread::scope(|scope| {
        let call_often = || {
            let (limiter, waited) = (limiter(&store), Averager::new(&store, "waited"));
            for _ in 0..CALLS {
                let came = Instant::now();
                limiter.acquire()?;
                waited.add(came.elapsed().as_secs_f64())?;
                // Here it would call.
            }
            Ok(())
        };
        let threads = [(); THREADS].map(|()| scope.spawn(call_often));
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().try_for_each(join)
    })
}
