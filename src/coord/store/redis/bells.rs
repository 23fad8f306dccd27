//! Where the waiters of a session hear that they are to look.
//!
//! A session has one channel, and who rings says which waiter is meant. A thread listens there, from the first wait on until
//! the store is closed. What is published while nobody listens is lost, so nobody waits before the subscription is
//! confirmed, and when it had to be made anew all waiters look. Beyond that every waiter looks once a second by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::RedisResult;

use super::super::{Bell, Heard, Sleeper};
use super::address::says;
use super::link::{Link, Remedy, remedy_of_connecting};
use crate::coord::error::Fault;

/// After how long without a word it is asked whether the other side is still there.
const SILENCE: Duration = Duration::from_secs(5);
/// How long somebody sleeps at most.
const LONG: Duration = Duration::from_secs(1 << 30);
/// Before it is tried again to connect.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Bells {
    session: u64,
    channel: String,
    link: Arc<Link>,
    state: Mutex<State>,
    /// Rings are heard from now on, or they can't be.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    listening: Listening,
    /// Those that somebody has.
    taken: HashSet<u32>,
    rung: HashSet<u32>,
    /// Who sleeps at each bell.
    asleep: HashMap<u32, Arc<Condvar>>,
    last_number: u32,
    is_closed: bool,
}

#[derive(Default)]
enum Listening {
    #[default]
    No,
    Begins,
    Yes,
    Failed(Fault),
}

impl Bells {
    pub(super) fn new(session: u64, channel: String, link: &Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            session,
            channel,
            link: Arc::clone(link),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// One that nobody had before.
    pub(super) fn take(&self) -> Bell {
        let mut state = self.state.lock();
        state.last_number = state.last_number.wrapping_add(1);
        let number = state.last_number;
        state.taken.insert(number);
        Bell {
            session: self.session,
            number,
        }
    }

    pub(super) fn put(&self, bell: Bell) {
        let mut state = self.state.lock();
        state.taken.remove(&bell.number);
        state.rung.remove(&bell.number);
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.state.lock().listening, Listening::Yes)
    }

    /// Sees to it that rings are heard, and waits for that for so long at most.
    #[cold]
    pub(super) fn listen(self: &Arc<Self>, longest: Duration) -> Result<(), Fault> {
        let end = Instant::now() + longest.min(LONG);
        let mut state = self.state.lock();
        loop {
            match &state.listening {
                _ if state.is_closed => return Err(Fault::Closed),
                Listening::Yes => return Ok(()),
                Listening::Begins if Instant::now() >= end => {
                    let text = "the subscription: there was no time for it";
                    return Err(says(text.to_owned()));
                }
                Listening::Begins => {
                    self.changed.wait_until(&mut state, end);
                }
                Listening::Failed(_) => {
                    // The next one tries again.
                    let Listening::Failed(fault) = std::mem::take(&mut state.listening) else {
                        unreachable!("it was looked at under the lock");
                    };
                    self.changed.notify_all();
                    return Err(fault);
                }
                Listening::No => {
                    state.listening = Listening::Begins;
                    let bells = Arc::clone(self);
                    let builder = std::thread::Builder::new().name("hapax-bells".to_owned());
                    if let Err(error) = builder.spawn(move || bells.run()) {
                        state.listening = Listening::No;
                        return Err(Fault::Store(Box::new(error)));
                    }
                }
            }
        }
    }

    /// Listens until it is closed.
    fn run(&self) {
        let end = Instant::now() + self.link.busy_for();
        loop {
            let (remedy, ended) = self.listen_once();
            let mut state = self.state.lock();
            if state.is_closed {
                return;
            }
            let goes_on = !matches!(remedy, Remedy::None) && Instant::now() + PAUSE < end;
            if matches!(state.listening, Listening::Begins) && !goes_on {
                // Those who wait for that hear why.
                state.listening = Listening::Failed(ended);
                self.changed.notify_all();
                return;
            }
            self.changed.wait_for(&mut state, PAUSE);
        }
    }

    /// Listens over one connection. Answers why it has ended.
    fn listen_once(&self) -> (Remedy, Fault) {
        let beginnings = self.link.beginnings();
        let mut connection = match self.link.separate() {
            Ok(connection) => connection,
            Err(trouble) => return trouble,
        };
        match self.listen_at(&mut connection, beginnings) {
            // It is closed, or others have had to look for the server anew.
            Ok(()) => (Remedy::Again, Fault::Closed),
            Err(error) => {
                let remedy = remedy_of_connecting(&error);
                (remedy, says(format!("the subscription: {error}")))
            }
        }
    }

    fn listen_at(&self, connection: &mut redis::Connection, beginnings: u64) -> RedisResult<()> {
        let mut subscription = connection.as_pubsub();
        subscription.set_read_timeout(Some(SILENCE))?;
        subscription.subscribe(&self.channel)?;
        {
            let mut state = self.state.lock();
            state.listening = Listening::Yes;
            state.ring_all();
            self.changed.notify_all();
        }
        loop {
            let message = match subscription.get_message() {
                Ok(message) => Some(message),
                Err(error) if error.is_timeout() => {
                    subscription.ping::<redis::Value>()?;
                    None
                }
                Err(error) => return Err(error),
            };
            let mut state = self.state.lock();
            if state.is_closed || self.link.beginnings() != beginnings {
                return Ok(());
            }
            if let Some(number) = message.and_then(|message| message.get_payload().ok()) {
                state.ring(number);
            }
        }
    }

    pub(super) fn ring(&self, bell: Bell) {
        self.state.lock().ring(bell.number);
    }

    /// Waits until one of them is rung, for so long at most. Answers what they have heard.
    pub(super) fn sleep(
        &self,
        sleepers: &[Sleeper<'_>],
        time: Duration,
    ) -> Result<Vec<Heard>, Fault> {
        let end = Instant::now() + time.min(LONG);
        let mut state = self.state.lock();
        let wake = Arc::new(Condvar::new());
        loop {
            if state.is_closed {
                return Err(Fault::Closed);
            }
            // A grant is to be claimed, so they have to look in any case.
            let heard = sleepers
                .iter()
                .map(|sleeper| state.rung.remove(&sleeper.bell.number).into());
            let heard: Vec<_> = heard.collect();
            if heard.contains(&Heard::Something) || Instant::now() >= end {
                return Ok(heard);
            }
            for sleeper in sleepers {
                state.asleep.insert(sleeper.bell.number, Arc::clone(&wake));
            }
            wake.wait_until(&mut state, end);
            for sleeper in sleepers {
                state.asleep.remove(&sleeper.bell.number);
            }
        }
    }

    /// Wakes all who wait here: it is over.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.ring_all();
        self.changed.notify_all();
    }
}

impl State {
    fn ring(&mut self, number: u32) {
        // One that was put back is nobody's any more.
        if self.taken.contains(&number) {
            self.rung.insert(number);
        }
        if let Some(wake) = self.asleep.get(&number) {
            wake.notify_one();
        }
    }

    fn ring_all(&mut self) {
        // Also those of who has looked, and is about to sleep.
        self.rung.extend(&self.taken);
        for wake in self.asleep.values() {
            wake.notify_one();
        }
    }
}
