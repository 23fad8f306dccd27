//! Clocks that are set, and moments near the end of them. What a bucket answers otherwise the tests of `coord` ask.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Ten permits in ten seconds.
const RATE: Rate = Rate {
    count: 10,
    per: Duration::from_secs(10),
};

/// A clock that can be set, and the value that it is about.
struct Clocked {
    now: Time,
    value: Option<Value>,
}

impl Clocked {
    fn new() -> Self {
        let now = Time(0).after(1000 * HOUR);
        Self { now, value: None }
    }

    fn set_back(&mut self, time: Duration) {
        self.now = Time(0).after(self.now.since(Time(0).after(time)));
    }

    /// The wait, or that in brackets.
    fn take(&mut self, longest: Duration) -> Result<Duration, Duration> {
        let before = self.value.clone().and_then(|value| value.at(self.now));
        let (turn, after) = Value::take(before, RATE, longest, None, self.now).unwrap();
        if after.is_some() {
            self.value = after;
        }
        match turn {
            Turn::Taken { wait, .. } => Ok(wait),
            Turn::Refused { wait } => Err(wait),
        }
    }
}

#[test]
fn a_clock_that_is_set_back_blocks_nobody_and_forgets_nothing() {
    let mut clocked = Clocked::new();
    for _ in 0..10 {
        assert_eq!(clocked.take(Duration::ZERO), Ok(Duration::ZERO));
    }
    // Three wait.
    for wait in 1..=3 {
        assert_eq!(clocked.take(HOUR), Ok(wait * SECOND));
    }
    clocked.set_back(HOUR);
    assert_eq!(clocked.take(Duration::ZERO), Err(4 * SECOND));
    assert_eq!(clocked.take(HOUR), Ok(4 * SECOND));
    // From there on time goes by as usual.
    clocked.now = clocked.now.after(3 * SECOND);
    assert_eq!(clocked.take(Duration::ZERO), Err(2 * SECOND));
    clocked.now = clocked.now.after(2 * SECOND);
    assert_eq!(clocked.take(Duration::ZERO), Ok(Duration::ZERO));
}

/// More than a full bucket nobody gets by it.
#[test]
fn a_clock_that_is_set_ahead_fills_the_bucket() {
    let mut clocked = Clocked::new();
    for _ in 0..15 {
        clocked.take(HOUR).unwrap();
    }
    clocked.now = clocked.now.after(HOUR);
    for _ in 0..10 {
        assert_eq!(clocked.take(Duration::ZERO), Ok(Duration::ZERO));
    }
    assert_eq!(clocked.take(Duration::ZERO), Err(SECOND));
}

#[test]
fn an_average_that_expires_outlives_a_clock_that_is_set_back_by_that_time_alone() {
    let now = Time(0).after(1000 * HOUR);
    let (_, value) = Value::add(None, 1.0, Some(SECOND), None, now).unwrap();
    assert!(value.clone().at(now.after(SECOND)).is_none());
    let before = Time(0).after(HOUR);
    let value = value.at(before).unwrap();
    assert!(value.clone().at(before.after(SECOND / 2)).is_some());
    assert!(value.at(before.after(SECOND)).is_none());
}

#[test]
fn what_was_put_back_can_be_taken_again() {
    let now = Time(0).after(HOUR);
    let mut value = None;
    let mut numbers = Vec::new();
    for _ in 0..12 {
        let (turn, after) = Value::take(value, RATE, HOUR, Some("t"), now).unwrap();
        let Turn::Taken { number, .. } = turn else {
            panic!("{turn:?}")
        };
        numbers.push(number);
        value = after;
    }
    let value = value.unwrap();
    // Somebody has come after.
    assert_eq!(value.clone().put_back(RATE, numbers[10]), None);
    let value = value.put_back(RATE, numbers[11]).unwrap();
    assert_eq!(value.clone().put_back(RATE, numbers[11]), None);
    let value = value.put_back(RATE, numbers[10]).unwrap();
    assert_eq!(value.tag.as_deref(), Some("t"));
    let (turn, _) = Value::take(Some(value), RATE, Duration::ZERO, None, now).unwrap();
    assert_eq!(turn, Turn::Refused { wait: SECOND });
}

/// The interval is never too short, so a rate is never more than it says.
#[test]
fn rates_that_do_not_divide() {
    for (count, per) in [
        (3, SECOND),
        (7, SECOND),
        (u32::MAX, SECOND),
        (1, CENTURY),
        (u32::MAX, CENTURY),
        (1000, Duration::from_nanos(1)),
    ] {
        let rate = Rate::of(count, per);
        assert!(rate.interval() * count >= per);
        assert!(rate.whole() < per + Duration::from_nanos(count.into()));
        let now = Time(0).after(HOUR);
        let turn = rate.take(None, now, Duration::ZERO);
        assert!(matches!(turn, Turn::Taken { wait, .. } if wait.is_zero()));
        // An empty bucket.
        let empty = Some(now.after(rate.whole()));
        let turn = rate.take(empty, now, Duration::ZERO);
        assert_eq!(
            turn,
            Turn::Refused {
                wait: rate.interval()
            }
        );
    }
    assert_eq!(Rate::of(1, Duration::MAX).per, CENTURY);
}

#[test]
fn at_the_end_of_all_moments() {
    let now = Time(i64::MAX - 5);
    let turn = RATE.take(Some(Time(i64::MAX)), now, Duration::MAX);
    assert!(matches!(turn, Turn::Taken { .. }));
    assert_eq!(RATE.put_back(Time(1), 2), None);
}
