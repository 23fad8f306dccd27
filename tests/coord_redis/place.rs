//! Where the locks of a test lie, and how they are opened there.

use std::time::Duration;

use hapax::coord::{CoordError, Lock, LockGuard, RedisOptions, RedisStore, Status, Store};

use crate::redis_server::{Server, namespace, shared, until};

/// A namespace of a server, for leases that a test can wait for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) lease: Duration,
    /// How long nothing is granted after the server has lost its memory; what the store thinks right if there is none.
    pub(crate) grace: Option<Duration>,
    pub(crate) busy_for: Duration,
}

impl Place {
    /// A fresh one on the server that all tests share.
    pub(crate) fn new() -> Self {
        Self::at(&shared().url())
    }

    /// A fresh one on a server that is the test's own.
    pub(crate) fn on(server: &Server) -> Self {
        Self::at(&server.url())
    }

    pub(crate) fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            namespace: namespace(),
            lease: Duration::from_millis(1500),
            grace: Some(Duration::ZERO),
            busy_for: Duration::from_secs(2),
        }
    }

    /// The same by another way.
    pub(crate) fn by(&self, url: &str) -> Self {
        let url = url.to_owned();
        Self {
            url,
            ..self.clone()
        }
    }

    pub(crate) fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// After the server has lost its memory nothing is granted for as long as the store thinks right.
    pub(crate) fn with_grace(mut self) -> Self {
        self.grace = None;
        self
    }

    /// Who can't reach the server gives up after that time.
    pub(crate) fn busy_for(mut self, time: Duration) -> Self {
        self.busy_for = time;
        self
    }

    pub(crate) fn options(&self) -> RedisOptions {
        let options = RedisStore::options()
            .namespace(&self.namespace)
            .session_lease(self.lease)
            .request_timeout(self.busy_for / 5)
            .busy_for(self.busy_for);
        match self.grace {
            Some(grace) => options.grace(grace),
            None => options,
        }
    }

    #[track_caller]
    pub(crate) fn open(&self) -> RedisStore {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<RedisStore, CoordError> {
        self.options().open(&self.url)
    }

    /// Waits until locks are granted here.
    #[track_caller]
    pub(crate) fn opened(self) -> Self {
        let store = self.open();
        Lock::new(&store, "first")
            .lock()
            .unwrap()
            .release()
            .unwrap();
        self
    }

    /// As if nobody who waits has shown for a minute that it is there: then its place is lost. Who is there shows it within
    /// a second.
    pub(crate) fn forget_who_waits(&self, server: &Server) {
        server.command(&["DEL", &format!("hapax:{{{}}}:seen", self.namespace)]);
    }

    /// As one word, for an agent.
    pub(crate) fn to_text(&self) -> String {
        let (lease, busy) = (self.lease.as_millis(), self.busy_for.as_millis());
        let grace = self
            .grace
            .map_or("none".to_owned(), |grace| grace.as_millis().to_string());
        format!("{}|{}|{lease}|{busy}|{grace}", self.url, self.namespace)
    }

    pub(crate) fn from_text(text: &str) -> Self {
        let words: Vec<_> = text.split('|').collect();
        let time = |at: usize| words[at].parse().map(Duration::from_millis);
        Self {
            url: words[0].to_owned(),
            namespace: words[1].to_owned(),
            lease: time(2).unwrap(),
            busy_for: time(3).unwrap(),
            grace: time(4).ok(),
        }
    }
}

/// Waits until so many wait for a key, and answers with what is known of it.
#[track_caller]
pub(crate) fn until_wait(store: &RedisStore, key: &str, waiters: usize) -> Status {
    let mut found = None;
    until("they wait", || {
        let list = store.list().unwrap();
        found = list.into_iter().find(|status| status.key == key);
        found
            .as_ref()
            .is_some_and(|status| status.waiters.len() == waiters)
    });
    found.unwrap()
}

pub(crate) fn is_timed_out<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::TimedOut { .. }))
}

pub(crate) fn is_lost<T>(answer: &Result<T, CoordError>) -> bool {
    matches!(answer, Err(CoordError::Lost { .. }))
}

/// Tries to get what somebody else holds until it does. It must not before the holder knows that it has lost it.
#[track_caller]
pub(crate) fn succeed(store: &RedisStore, guard: &LockGuard) -> LockGuard {
    let lock = Lock::new(store, guard.key());
    let mut successor = None;
    until("it is succeeded", || {
        let answer = lock.try_lock_for(Duration::from_millis(20));
        assert!(
            answer.is_err() || !guard.is_valid(),
            "two hold it: {answer:?} while there is {guard:?}"
        );
        successor = answer.ok();
        successor.is_some()
    });
    let successor = successor.unwrap();
    assert!(
        successor.fencing_token() > guard.fencing_token(),
        "a token went back: {successor:?} after {guard:?}"
    );
    successor
}

/// The holder has lost it, knows it, and harms nobody.
#[track_caller]
pub(crate) fn assert_lost(guard: LockGuard, successor: &LockGuard) {
    assert!(!guard.is_valid());
    assert!(guard.lost().wait_for(Duration::from_secs(30)).unwrap());
    assert!(is_lost(&guard.check()));
    match guard.release() {
        Err(CoordError::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(successor.is_valid());
}
