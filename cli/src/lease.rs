//! When the child has to be gone.
//!
//! A lease that can't be renewed runs out, and from then on somebody else may hold the lock. So the child is ended before: it
//! is asked by SIGTERM so early that its time to clean up is over, and SIGKILL has worked, when the lease ends. If it is lost
//! without a warning, because somebody took it away or because hapax was stopped, the child is asked at once.

use std::time::{Duration, Instant};

use crate::exit::Failure;

/// The shortest lease: with shorter ones, a machine that is busy is enough to lose them.
const SHORTEST: Duration = Duration::from_secs(1);
/// For SIGKILL to work, and for threads that are woken late.
const MARGIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Who is woken later than this was stopped, or nearly so.
const LATE: Duration = Duration::from_millis(50);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing for that long, or until something happens.
    Wait(Option<Duration>),
    /// To send SIGTERM.
    Terminate,
    /// To send SIGKILL.
    Kill,
}

/// How a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has no end.
    Held,
    /// It ends after that time unless it is renewed.
    HeldFor(Duration),
    Lost,
}

/// Which of the signals are sent by now, and when the next is due.
#[derive(Debug)]
pub(crate) struct Deadlines {
    kill_after: Duration,
    margin: Duration,
    /// A renewal that was due while hapax was stopped has got the time to be made.
    was_patient: bool,
    /// Set when SIGTERM was sent.
    kill_at: Option<Instant>,
    is_killed: bool,
}

impl Deadlines {
    /// For a lease of that length, or without one.
    pub(crate) fn of(ttl: Option<Duration>, kill_after: Duration) -> Result<Self, Failure> {
        if let Some(ttl) = ttl {
            if ttl < SHORTEST {
                return Err(Failure::usage("--ttl is less than a second"));
            }
            if kill_after >= ttl / 2 {
                // Renewals come when two thirds of the lease are left: the signals have to be due after that.
                return Err(Failure::usage(format_args!(
                    "--kill-after is {kill_after:?}, and that has to be less than half of the lease, which is {ttl:?}"
                )));
            }
        }
        let (least, most) = MARGIN;
        Ok(Self {
            kill_after,
            margin: (ttl.unwrap_or_default() / 20).clamp(least, most),
            was_patient: false,
            kill_at: None,
            is_killed: false,
        })
    }

    /// What is to be done. It counts as done.
    pub(crate) fn step(&mut self, now: Instant, standing: Standing) -> Step {
        if self.is_killed {
            return Step::Wait(None);
        }
        if let Some(kill_at) = self.kill_at {
            if now < kill_at {
                return Step::Wait(Some(kill_at - now));
            }
            self.is_killed = true;
            return Step::Kill;
        }
        let grace = match standing {
            Standing::Held => return Step::Wait(None),
            Standing::HeldFor(remaining) => {
                let due = self.kill_after + self.margin;
                if remaining > due {
                    self.was_patient = false;
                    return Step::Wait(Some(remaining - due));
                }
                if due - remaining > LATE && remaining > self.margin + LATE && !self.was_patient {
                    self.was_patient = true;
                    return Step::Wait(Some(LATE));
                }
                remaining.saturating_sub(self.margin)
            }
            Standing::Lost => self.kill_after,
        };
        self.kill_at = Some(now + grace.min(self.kill_after));
        Step::Terminate
    }

    /// When SIGKILL is due or was sent, if SIGTERM was.
    pub(crate) fn kill_at(&self) -> Option<Instant> {
        self.kill_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines() -> Deadlines {
        // The margin is a second.
        Deadlines::of(Some(20 * SECOND), 5 * SECOND).unwrap()
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_the_child_before_it_ends() {
        let mut deadlines = deadlines();
        let now = Instant::now();
        let wait = deadlines.step(now, Standing::HeldFor(20 * SECOND));
        assert_eq!(wait, Step::Wait(Some(14 * SECOND)));
        let left = 6 * SECOND;
        assert_eq!(
            deadlines.step(now + 14 * SECOND, Standing::HeldFor(left)),
            Step::Terminate
        );
        let wait = deadlines.step(now + 15 * SECOND, Standing::HeldFor(5 * SECOND));
        assert_eq!(wait, Step::Wait(Some(4 * SECOND)));
        assert_eq!(
            deadlines.step(now + 19 * SECOND, Standing::HeldFor(SECOND)),
            Step::Kill
        );
        assert_eq!(
            deadlines.step(now + 20 * SECOND, Standing::Lost),
            Step::Wait(None)
        );
    }

    #[test]
    fn a_lost_lease_ends_the_child_at_once() {
        let mut deadlines = deadlines();
        let now = Instant::now();
        assert_eq!(deadlines.step(now, Standing::Lost), Step::Terminate);
        assert_eq!(
            deadlines.step(now, Standing::Lost),
            Step::Wait(Some(5 * SECOND))
        );
        assert_eq!(deadlines.step(now + 5 * SECOND, Standing::Lost), Step::Kill);
    }

    #[test]
    fn a_renewal_that_is_late_gets_a_moment() {
        let mut deadlines = deadlines();
        let now = Instant::now();
        let late = Standing::HeldFor(3 * SECOND);
        assert_eq!(deadlines.step(now, late), Step::Wait(Some(LATE)));
        let mut renewed = deadlines;
        let wait = renewed.step(now + LATE, Standing::HeldFor(20 * SECOND));
        assert_eq!(wait, Step::Wait(Some(14 * SECOND)));
        // And the next time again, but no longer than that.
        assert_eq!(renewed.step(now, late), Step::Wait(Some(LATE)));
        assert_eq!(renewed.step(now, late), Step::Terminate);
        // What is left of the lease, less the margin.
        assert_eq!(renewed.step(now, late), Step::Wait(Some(2 * SECOND)));
    }

    #[test]
    fn a_grant_without_an_end_is_waited_for() {
        let mut deadlines = Deadlines::of(None, 5 * SECOND).unwrap();
        assert_eq!(
            deadlines.step(Instant::now(), Standing::Held),
            Step::Wait(None)
        );
        assert_eq!(deadlines.kill_at(), None);
    }

    #[test]
    fn what_renewals_could_not_keep_is_refused() {
        assert!(Deadlines::of(Some(10 * SECOND), 5 * SECOND).is_err());
        assert!(Deadlines::of(Some(11 * SECOND), 5 * SECOND).is_ok());
        assert!(Deadlines::of(Some(SECOND / 2), Duration::ZERO).is_err());
        // A renewal is due when two thirds are left, and the signals are later than that.
        for (ttl, kill_after) in [(1000, 499), (1500, 700), (60_000, 29_999)] {
            let [ttl, kill_after] = [ttl, kill_after].map(Duration::from_millis);
            let deadlines = Deadlines::of(Some(ttl), kill_after).unwrap();
            assert!(deadlines.kill_after + deadlines.margin < ttl * 2 / 3);
        }
    }
}
