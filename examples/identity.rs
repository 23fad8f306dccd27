//! One object per shared datum, whoever asks for it: the Python recipe of 2005,
//! `cache.setdefault(id(data), ref(new, remove))()`, in one call and for threads.
//!
//! The key is *which* datum it is, not what it contains, and the entry goes with the last object.

use std::sync::Arc;
use std::thread;

use hapax::{ById, Cached, IdentityMap};

/// What many may own, and compare by identity.
type Data = Arc<Vec<u32>>;

/// A view of some data that is worth building once only.
struct Foo {
    total: u64,
}

/// The cache. It owns no `Foo`: it only knows those that somebody holds.
static CACHE: IdentityMap<Data, Foo> = IdentityMap::new();

/// The one `Foo` of this very data. The key keeps the data alive, so that its address can't become that
/// of another.
fn foo(data: &Data) -> Cached<ById<Data>, Foo> {
    CACHE.of(data, |data| Foo {
        total: data.iter().map(|&n| u64::from(n)).sum(),
    })
}

fn main() {
    let data = Arc::new(vec![1, 2, 3]);
    let a = foo(&data);
    let b = foo(&data);
    println!("a is b: {}", Cached::ptr_eq(&a, &b));
    println!("total of {:?}: {}", Cached::key(&a).0, a.total);

    // Equal, but not the same.
    let twin = Arc::new(vec![1, 2, 3]);
    let c = foo(&twin);
    println!("a is c: {}", Cached::ptr_eq(&a, &c));
    println!("entries: {}", CACHE.len());

    // All threads that ask at once get the same object too.
    let shared = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| foo(&data))).collect();
        let mut all = threads.into_iter().map(|thread| thread.join().unwrap());
        all.all(|other| Cached::ptr_eq(&a, &other))
    });
    println!("the same in all threads: {shared}");

    println!("owners of the data: {}", Arc::strong_count(&data));
    drop((a, c));
    println!("entries while b lives: {}", CACHE.len());
    drop(b);
    println!("entries after b: {}", CACHE.len());
    println!("owners of the data: {}", Arc::strong_count(&data));
}
