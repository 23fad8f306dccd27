//! A configuration that is reloaded while threads use it. Readers take it without waiting, a file that
//! says the same as before is recognised by one comparison of pointers, and an old configuration dies
//! when its last reader lets go of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arc_swap::ArcSwapAny;
use hapax::{Interned, Interner};

/// The parsed form of a configuration file.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Config {
    host: String,
    port: u16,
}

static CONFIGS: Interner<Config> = Interner::new();

/// Parses `host:port`. White space doesn't matter, so that different files may say the same.
fn parse(text: &str) -> Interned<Config> {
    let (host, port) = text.split_once(':').expect("`host:port`");
    CONFIGS.intern(Config {
        host: host.trim().to_owned(),
        port: port.trim().parse().expect("a port"),
    })
}

/// Installs what a file says. Only a change needs work: new connections, a line in the log.
fn reload(current: &ArcSwapAny<Interned<Config>>, text: &str) {
    let new = parse(text);
    if current.swap(new.clone()) == new {
        println!("{text:?}: unchanged");
    } else {
        println!("{text:?}: {}:{} from now on", new.host, new.port);
    }
}

fn main() {
    let current = ArcSwapAny::new(parse("alpha:80"));
    let done = AtomicBool::new(false);
    let requests = AtomicU64::new(0);

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // One handle a request: all of it sees the same configuration.
                    let config = current.load();
                    assert_eq!(config.port == 80, config.host == "alpha");
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for text in [
            "alpha:80",
            " alpha : 80",
            "beta:8080",
            "beta:8080\n",
            "alpha:80",
        ] {
            // Each is in use for a while.
            let seen = requests.load(Ordering::Relaxed);
            while requests.load(Ordering::Relaxed) < seen + 1000 {
                thread::yield_now();
            }
            reload(&current, text);
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("alive: {}", CONFIGS.len());

    // A long request keeps what it began with, and nothing else does.
    let request = current.load_full();
    reload(&current, "gamma:443");
    println!("alive while {} is used: {}", request.host, CONFIGS.len());
    drop(request);
    println!("alive after it: {}", CONFIGS.len());
}
