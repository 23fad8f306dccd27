//! Averages and rate limits, to and from the table of values.
//!
//! An addition to an average is one statement, which is a transaction by itself; whether the file is still the one that its
//! path names is checked after it. So is a permit of a rate limit if there are others of it that aren't in again; otherwise
//! it is looked up and written in one transaction.
//!
//! A value that is over is taken out when somebody comes by its key. Of the others, each value that is new looks at the next few,
//! in the order of their keys and one after the other, so that there are never many more than are made in the time that
//! one lasts.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::line::Ring;
use super::super::value::{CENTURY, Content, Value};
use super::super::{Mean, OfAverage, Rate, Turn};
use super::SqliteEngine;
use crate::coord::error::Fault;
use crate::coord::time::{Time, wall_time};

const AVERAGE: u8 = 0;
const RATE: u8 = 1;

/// At how many others a new value looks.
const SWEPT: usize = 16;

impl SqliteEngine {
    pub(super) fn average_value(
        &self,
        key: &str,
        step: OfAverage<'_>,
    ) -> Result<Option<Mean>, Fault> {
        match step {
            OfAverage::Add {
                number,
                expire,
                tag,
            } => {
                let nanoseconds = expire.map(|time| Time(0).after(time.min(CENTURY)).0);
                let mean = self.write_at_once(|connection| {
                    let added = add(connection, key, number, nanoseconds, tag)?;
                    added.map_or_else(|| add_thoroughly(connection, key, number, expire, tag), Ok)
                })?;
                if mean.count == 1 {
                    self.sweep(key);
                }
                Ok(Some(mean))
            }
            OfAverage::Get => {
                let (value, was_set_back) = self.read(|connection| {
                    let now = wall_time();
                    let found = load(connection, key)?;
                    let was_set_back = found.as_ref().is_some_and(|value| now < value.since);
                    Ok((found.and_then(|value| value.at(now)), was_set_back))
                })?;
                if was_set_back {
                    // From now on its time goes by.
                    self.write(|connection| change(connection, key, |value, _| Ok((value, ()))))?;
                }
                value.map(|value| value.mean()).transpose()
            }
            OfAverage::Pop => self.write(|connection| {
                change(connection, key, |value, _| {
                    Ok((None, value.map(|value| value.mean()).transpose()?))
                })
            }),
        }
    }

    pub(super) fn take_turn_of_value(
        &self,
        key: &str,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
    ) -> Result<Turn, Fault> {
        let taken = self.write_at_once(|connection| take(connection, key, rate, longest, tag))?;
        if let Some(turn) = taken {
            return Ok(turn);
        }
        // Also after an error: if the clock was set back the time of what is there goes by from now on.
        let (turn, is_new) = self.write(|connection| {
            change(connection, key, |before, now| {
                let is_new = before.is_none();
                Ok(match Value::take(before.clone(), rate, longest, tag, now) {
                    Ok((turn, after)) => (after.or(before), Ok((turn, is_new))),
                    Err(fault) => (before, Err(fault)),
                })
            })
        })??;
        if is_new {
            self.sweep(key);
        }
        Ok(turn)
    }

    /// Takes out all that has a tag.
    pub(super) fn evict_all(&self, tag: &str) -> Result<usize, Fault> {
        let (count, to_ring) = self.write(|connection| {
            let mut select =
                connection.prepare_cached("SELECT DISTINCT key FROM holder WHERE tag = ?1")?;
            let keys: rusqlite::Result<Vec<String>> =
                select.query_map([tag], |row| row.get(0))?.collect();
            let mut to_ring: Vec<Ring> = Vec::new();
            let now = wall_time().0;
            connection
                .prepare_cached("DELETE FROM value WHERE tag = ?1 AND ends <= ?2")?
                .execute(params![tag, now])?;
            let mut count = connection
                .prepare_cached("DELETE FROM value WHERE tag = ?1")?
                .execute([tag])?;
            for key in keys? {
                let evict = |line: &mut super::Line, moment: &mut _| Ok(line.evict(tag, moment));
                let (evicted, rung) = self.change(connection, &key, &[], evict)?;
                count += evicted;
                to_ring.extend(rung);
            }
            Ok((count, to_ring))
        })?;
        self.ring_all(to_ring);
        Ok(count)
    }

    /// One statement that writes and is a transaction by itself.
    fn write_at_once<R>(
        &self,
        f: impl FnOnce(&Connection) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        self.open.check()?;
        let connection = self.connection.lock();
        let connection = connection.as_ref().ok_or(Fault::Closed)?;
        self.database.expect_others();
        let answer = f(connection)?;
        // If it was another file, what was written is gone with it.
        self.database.check()?;
        Ok(answer)
    }

    /// Looks at some values after the last one that was looked at, or that one, and takes out those that are over. Whoever has
    /// made a new one has done that, and hears of no errors here.
    #[cold]
    fn sweep(&self, key: &str) {
        let mut last_swept = self.last_swept.lock();
        let after = last_swept.take().unwrap_or_else(|| key.to_owned());
        let now = wall_time();
        let looked_at = self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT key, ends <= ?3 FROM value WHERE key > ?1 AND key <= ?2 ORDER BY key LIMIT ?4",
            )?;
            let mut looked_at = Vec::new();
            // After the last one it goes on with the first.
            for (from, to) in [(&*after, "\u{10ffff}"), ("", &*after)] {
                let left = SWEPT - looked_at.len();
                let rows = select.query_map(params![from, to, now.0, left], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Option<bool>>(1)?))
                })?;
                looked_at.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(looked_at)
        });
        let Ok(mut looked_at) = looked_at else { return };
        *last_swept = looked_at.last().map(|(key, _)| key.clone());
        looked_at.retain(|(_, is_over)| *is_over == Some(true));
        if !looked_at.is_empty() {
            let _ = self.write(|connection| {
                let mut delete =
                    connection.prepare_cached("DELETE FROM value WHERE key = ?1 AND ends <= ?2")?;
                for (key, _) in &looked_at {
                    delete.execute(params![key, now.0])?;
                }
                Ok(())
            });
        }
    }
}

/// Adds to an average that is there, or to none. Nothing if what is there is no average, or the sum would be infinite.
fn add(
    connection: &Connection,
    key: &str,
    number: f64,
    expire: Option<i64>,
    tag: Option<&str>,
) -> Result<Option<Mean>, Fault> {
    let mut upsert = connection.prepare_cached(
        "INSERT INTO value AS v VALUES (?1, 0, ?2, 1, NULL, wall_time(), wall_time() + ?3, ?4)
        ON CONFLICT (key) DO UPDATE SET
            total = v.total + ?2, count = v.count + 1,
            since = excluded.since, ends = excluded.ends, tag = coalesce(?4, v.tag)
            WHERE v.kind = 0 AND abs(v.total + ?2) <= ?5
                AND (v.ends IS NULL OR v.ends > excluded.since)
        RETURNING total, count",
    )?;
    let mut rows = upsert.query(params![key, number, expire, tag, f64::MAX])?;
    let mean = rows.next()?.map(mean).transpose()?;
    // It is committed by the end, and not by the first row.
    while rows.next()?.is_some() {}
    Ok(mean)
}

/// The same where something is in the way: what is over, or an error.
#[cold]
fn add_thoroughly(
    connection: &Connection,
    key: &str,
    number: f64,
    expire: Option<Duration>,
    tag: Option<&str>,
) -> Result<Mean, Fault> {
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, rusqlite::TransactionBehavior::Immediate)?;
    let mean = change(&transaction, key, |before, now| {
        let (mean, after) = Value::add(before, number, expire, tag, now)?;
        Ok((Some(after), mean))
    })?;
    transaction.commit()?;
    Ok(mean)
}

/// Takes a permit where the bucket is neither full nor too empty. Nothing otherwise.
fn take(
    connection: &Connection,
    key: &str,
    rate: Rate,
    longest: Duration,
    tag: Option<&str>,
) -> Result<Option<Turn>, Fault> {
    let mut update = connection.prepare_cached(
        "UPDATE value SET ends = ends + ?4, since = wall_time(), tag = coalesce(?5, tag)
        WHERE key = ?1 AND kind = 1 AND count = ?2 AND per = ?3
            AND since <= wall_time() AND ends > wall_time() AND ends + ?4 <= wall_time() + ?6
        RETURNING ends, since",
    )?;
    let nanoseconds = |time: Duration| Time(0).after(time).0;
    let interval = nanoseconds(rate.interval());
    // Those are never more than there are nanoseconds.
    let furthest = nanoseconds(rate.whole() + longest.min(CENTURY));
    let per = nanoseconds(rate.per);
    let mut rows = update.query(params![key, rate.count, per, interval, tag, furthest])?;
    let moments = |row: &Row<'_>| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?));
    let taken = rows.next()?.map(moments).transpose()?;
    // It is committed by the end, and not by the first row.
    while rows.next()?.is_some() {}
    Ok(taken.map(|(number, since)| {
        let wait = Time(number).since(Time(since).after(rate.whole()));
        Turn::Taken { wait, number }
    }))
}

/// Gives a permit back.
pub(super) fn put_back(
    connection: &Connection,
    key: &str,
    rate: Rate,
    number: i64,
) -> Result<(), Fault> {
    change(connection, key, |before, _| {
        let after = before
            .clone()
            .and_then(|value| value.put_back(rate, number));
        Ok((after.or(before), ()))
    })
}

/// Does something with the value of a key, within a transaction, and writes what is different. It isn't there if it is over.
fn change<R>(
    connection: &Connection,
    key: &str,
    f: impl FnOnce(Option<Value>, Time) -> Result<(Option<Value>, R), Fault>,
) -> Result<R, Fault> {
    let now = wall_time();
    let before = load(connection, key)?;
    let (after, answer) = f(before.clone().and_then(|value| value.at(now)), now)?;
    match after {
        after if after == before => {}
        Some(value) => store(connection, key, &value)?,
        None => {
            connection
                .prepare_cached("DELETE FROM value WHERE key = ?1")?
                .execute([key])?;
        }
    }
    Ok(answer)
}

fn mean(row: &Row<'_>) -> rusqlite::Result<Mean> {
    Ok(Mean {
        total: row.get(0)?,
        count: row.get(1)?,
    })
}

fn load(connection: &Connection, key: &str) -> Result<Option<Value>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT total, count, kind, per, since, ends, tag FROM value WHERE key = ?1",
    )?;
    let value = select.query_row([key], |row| {
        let content = match row.get(2)? {
            RATE => Content::Rate(Rate {
                count: row.get(1)?,
                per: Duration::from_nanos(row.get::<_, i64>(3)?.cast_unsigned()),
            }),
            _ => Content::Average(mean(row)?),
        };
        Ok(Value {
            content,
            tag: row.get::<_, Option<String>>(6)?.map(Arc::from),
            since: Time(row.get(4)?),
            ends: row.get::<_, Option<i64>>(5)?.map(Time),
        })
    });
    Ok(value.optional()?)
}

fn store(connection: &Connection, key: &str, value: &Value) -> Result<(), Fault> {
    let (kind, total, count, per) = match value.content {
        Content::Average(mean) => (AVERAGE, Some(mean.total), mean.count, None),
        Content::Rate(Rate { count, per }) => {
            (RATE, None, count.into(), Some(Time(0).after(per).0))
        }
    };
    connection
        .prepare_cached("REPLACE INTO value VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            key,
            kind,
            total,
            count,
            per,
            value.since.0,
            value.ends.map(|ends| ends.0),
            value.tag.as_deref(),
        ])?;
    Ok(())
}
