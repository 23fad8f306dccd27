//! Averages and rate limits: what each step makes of them, apart from where they lie.
//!
//! A value has a key, and nothing to do with a lock or a semaphore of the same key. It belongs to no session, so it stays when
//! a process ends.
//!
//! *Time* is that of the wall clock here, because values outlive a boot. That clock can be set, so a value has the moment in
//! which it was written last. If that is yet to come the clock was set back, and no time has gone by since then, as far as
//! anybody knows: what would end so long after that moment ends so long after now. So nobody waits for an hour by which
//! the clock was wrong, and what somebody has taken in advance isn't forgotten. If the clock was set ahead, that time has
//! gone by.
//!
//! *Rate limits* are the generic cell rate algorithm (ITU-T I.371, annex A), a bucket of permits that is told by one
//! moment, that in which it will be full again if nobody takes anything. To take a permit moves it by the time in which one
//! comes in. If it would then be further ahead than an empty bucket takes to fill, who takes it has to wait for the
//! difference, and nobody has to look again when that is over: who comes later finds the moment moved.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::coord::error::{Fault, Kind};
use crate::coord::time::Time;

/// Longer times are as good as this one, and moments have an end.
pub(in crate::coord) const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What can be done with an average.
pub(in crate::coord) enum OfAverage<'a> {
    /// Adds a finite number. From then on it lasts for that long, and has that tag; without one it keeps what it had.
    Add {
        number: f64,
        expire: Option<Duration>,
        tag: Option<&'a str>,
    },
    Get,
    /// Takes it out.
    Pop,
}

/// A sum of so many numbers, at least of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::coord) struct Mean {
    pub(in crate::coord) total: f64,
    pub(in crate::coord) count: u64,
}

impl Mean {
    pub(in crate::coord) fn value(self) -> f64 {
        self.total / self.count as f64
    }

    /// An error if the sum were no number any more.
    fn add(self, number: f64) -> Result<Self, Fault> {
        let total = self.total + number;
        if !total.is_finite() {
            return Err(Fault::NotFinite(number));
        }
        let count = self.count + 1;
        Ok(Self { total, count })
    }
}

/// So many permits in that time, at most so many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) struct Rate {
    pub(in crate::coord) count: u32,
    pub(in crate::coord) per: Duration,
}

/// What has come of an attempt to take a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coord) enum Turn {
    /// It is the caller's after that wait. The number is for who gives it back.
    Taken { wait: Duration, number: i64 },
    /// There will be one after that wait, if nobody else takes it.
    Refused { wait: Duration },
}

impl Rate {
    /// A time of more than a century counts as one.
    pub(in crate::coord) fn of(count: u32, per: Duration) -> Self {
        let per = per.min(CENTURY);
        Self { count, per }
    }

    /// In what time a permit comes in, in whole nanoseconds: never too short.
    pub(in crate::coord) fn interval(self) -> Duration {
        let nanoseconds = self.per.as_nanos().div_ceil(u128::from(self.count));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How long an empty bucket takes to fill.
    pub(in crate::coord) fn whole(self) -> Duration {
        self.interval().saturating_mul(self.count)
    }

    /// Takes a permit out of a bucket that will be full at that moment, if the wait isn't longer. The number is the moment
    /// from then on.
    pub(in crate::coord) fn take(
        self,
        full_at: Option<Time>,
        now: Time,
        longest: Duration,
    ) -> Turn {
        let full_at = full_at.map_or(now, |full_at| full_at.max(now));
        let next = full_at.after(self.interval());
        let wait = next.since(now.after(self.whole()));
        if wait > longest {
            return Turn::Refused { wait };
        }
        let number = next.0;
        Turn::Taken { wait, number }
    }

    /// Puts one back if nobody has come after. Answers with the moment from then on.
    pub(in crate::coord) fn put_back(self, full_at: Time, number: i64) -> Option<Time> {
        let interval = i64::try_from(self.interval().as_nanos()).unwrap_or(i64::MAX);
        (full_at.0 == number).then(|| Time(number.saturating_sub(interval)))
    }
}

/// A value, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::coord) struct Value {
    pub(in crate::coord) content: Content,
    pub(in crate::coord) tag: Option<Arc<str>>,
    /// When it was written.
    pub(in crate::coord) since: Time,
    /// From when on it isn't there any more. Of a rate limit, when the bucket is full again.
    pub(in crate::coord) ends: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::coord) enum Content {
    Average(Mean),
    Rate(Rate),
}

impl Value {
    /// The same as of now, unless it is over.
    pub(in crate::coord) fn at(mut self, now: Time) -> Option<Self> {
        if now < self.since {
            let since = std::mem::replace(&mut self.since, now);
            self.ends = self.ends.map(|ends| now.after(ends.since(since)));
        }
        (!self.is_over(now)).then_some(self)
    }

    pub(in crate::coord) fn is_over(&self, now: Time) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// An error if it is something else.
    pub(in crate::coord) fn mean(&self) -> Result<Mean, Fault> {
        match self.content {
            Content::Average(mean) => Ok(mean),
            Content::Rate(_) => Err(Fault::value(Kind::RateLimit, Kind::Average)),
        }
    }

    /// An error if it is something else, or has another limit.
    fn check(&self, wanted: Rate) -> Result<(), Fault> {
        match self.content {
            Content::Average(_) => Err(Fault::value(Kind::Average, Kind::RateLimit)),
            Content::Rate(found) if found != wanted => Err(Fault::Rate { found, wanted }),
            Content::Rate(_) => Ok(()),
        }
    }

    /// What comes of what is there when a number is added.
    pub(in crate::coord) fn add(
        before: Option<Self>,
        number: f64,
        expire: Option<Duration>,
        tag: Option<&str>,
        now: Time,
    ) -> Result<(Mean, Self), Fault> {
        let mean = match &before {
            Some(before) => before.mean()?.add(number)?,
            None => Mean {
                total: number,
                count: 1,
            },
        };
        let value = Self {
            content: Content::Average(mean),
            tag: tag.map(Arc::from).or(before.and_then(|before| before.tag)),
            since: now,
            ends: expire.map(|time| now.after(time.min(CENTURY))),
        };
        Ok((mean, value))
    }

    /// What comes of it when somebody takes a permit. If he is refused nothing changes.
    pub(in crate::coord) fn take(
        before: Option<Self>,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
        now: Time,
    ) -> Result<(Turn, Option<Self>), Fault> {
        if let Some(before) = &before {
            before.check(rate)?;
        }
        let full_at = before.as_ref().and_then(|before| before.ends);
        let turn = rate.take(full_at, now, longest);
        let Turn::Taken { number, .. } = turn else {
            return Ok((turn, None));
        };
        let value = Self {
            content: Content::Rate(rate),
            tag: tag.map(Arc::from).or(before.and_then(|before| before.tag)),
            since: now,
            ends: Some(Time(number)),
        };
        Ok((turn, Some(value)))
    }

    /// What comes of it when somebody gives back what he has taken by that number. None if nothing does: others have come
    /// after him.
    pub(in crate::coord) fn put_back(mut self, rate: Rate, number: i64) -> Option<Self> {
        self.check(rate).ok()?;
        let full_at = rate.put_back(self.ends?, number)?;
        self.ends = Some(full_at);
        Some(self)
    }
}
