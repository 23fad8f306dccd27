//! The rows of a key, to and from the tables.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params, Row, params};

use super::super::clock;
use super::super::line::{Line, Moment};
use super::super::{Ask, Bell, Holder, SessionRow, Waiter, Want};
use crate::coord::error::Fault;
use crate::coord::lease::Lease;
use crate::coord::owner::Owner;
use crate::coord::time::{Time, wall_clock};

/// What a transaction knows of the moment.
pub(super) struct SqliteMoment {
    now: Time,
    /// The last number that was given out.
    number: i64,
    /// How far that is ahead of the wall clock.
    ahead: i64,
    has_changed: bool,
    /// Sessions with the same clock as this one.
    neighbours: HashSet<u64>,
}

impl SqliteMoment {
    pub(super) fn of(number: i64, ahead: i64, session: u64) -> Self {
        Self {
            now: clock::now(),
            number,
            ahead,
            has_changed: false,
            neighbours: HashSet::from([session]),
        }
    }

    pub(super) fn load(connection: &Connection, session: u64) -> Result<Self, Fault> {
        let sql = "SELECT number, ahead FROM meta WHERE id = 1";
        let mut select = connection.prepare_cached(sql)?;
        let (number, ahead) = select.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self::of(number, ahead, session))
    }

    pub(super) fn store(&self, connection: &Connection) -> Result<(), Fault> {
        if self.has_changed {
            let mut update =
                connection.prepare_cached("UPDATE meta SET number = ?1 WHERE id = 1")?;
            update.execute([self.number])?;
        }
        Ok(())
    }
}

impl Moment for SqliteMoment {
    fn now(&self) -> Time {
        self.now
    }

    fn last_number(&self) -> u64 {
        self.number.cast_unsigned()
    }

    fn next_number(&mut self) -> u64 {
        let wall_clock = i64::try_from(wall_clock()).unwrap_or(0);
        self.number = (self.number + 1).max(wall_clock.saturating_add(self.ahead));
        self.has_changed = true;
        self.number.cast_unsigned()
    }

    fn expiry(&self, session: u64, lease: Lease) -> Option<Time> {
        let time = lease.time()?;
        self.neighbours
            .contains(&session)
            .then(|| self.now.after(time))
    }
}

/// A holder or a waiter, and whether its lease has an end by the clock of this session.
pub(super) struct Loaded<T> {
    pub(super) row: T,
    pub(super) same_clock: bool,
}

/// The columns of a holder, and whether its session's clock is this one, which is asked for only where a lease has an end.
macro_rules! holders {
    ($end:literal) => {
        concat!(
            "SELECT h.key, h.owner, h.mode, h.permits, h.lease, h.renews, h.tag, h.session,
                CASE WHEN h.lease IS NULL THEN 0
                    ELSE EXISTS (SELECT 1 FROM session WHERE id = h.session AND clock = ?1) END,
                h.since, h.token, h.ticket, h.slot, h.expires, h.renewals
            FROM holder h ",
            $end
        )
    };
}

/// The same of a waiter.
macro_rules! waiters {
    ($end:literal) => {
        concat!(
            "SELECT w.key, w.owner, w.mode, w.permits, w.lease, w.renews, w.tag, w.session,
                CASE WHEN w.lease IS NULL THEN 0
                    ELSE EXISTS (SELECT 1 FROM session WHERE id = w.session AND clock = ?1) END,
                w.since, w.ticket, w.bell, w.strict, w.endless, w.due
            FROM waiter w ",
            $end
        )
    };
}

fn holder(row: &Row<'_>) -> rusqlite::Result<Holder> {
    Ok(Holder {
        token: row.get(10)?,
        ticket: row.get(11)?,
        session: row.get(7)?,
        ask: ask(row, false, true)?,
        slot: row.get(12)?,
        expires: row.get::<_, Option<i64>>(13)?.map(Time),
        renewals: row.get(14)?,
        since: row.get(9)?,
    })
}

fn waiter(row: &Row<'_>) -> rusqlite::Result<Waiter> {
    let session = row.get(7)?;
    Ok(Waiter {
        ticket: row.get(10)?,
        session,
        bell: Bell {
            session,
            number: row.get(11)?,
        },
        ask: ask(row, row.get(12)?, row.get(13)?)?,
        due: row.get::<_, Option<i64>>(14)?.map(Time),
        since: row.get(9)?,
    })
}

pub(super) fn holders(
    connection: &Connection,
    clock: &str,
    key: Option<&str>,
) -> Result<Vec<Loaded<Holder>>, Fault> {
    match key {
        Some(key) => query(
            connection,
            holders!("WHERE h.key = ?2 ORDER BY h.token"),
            [clock, key],
            holder,
        ),
        None => query(
            connection,
            holders!("ORDER BY h.key, h.token"),
            [clock],
            holder,
        ),
    }
}

pub(super) fn waiters(
    connection: &Connection,
    clock: &str,
    key: Option<&str>,
) -> Result<Vec<Loaded<Waiter>>, Fault> {
    match key {
        Some(key) => query(
            connection,
            waiters!("WHERE w.key = ?2 ORDER BY w.ticket"),
            [clock, key],
            waiter,
        ),
        None => query(
            connection,
            waiters!("ORDER BY w.key, w.ticket"),
            [clock],
            waiter,
        ),
    }
}

fn query<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<Loaded<T>>, Fault> {
    let mut select = connection.prepare_cached(sql)?;
    let rows = select.query_map(params, |row| {
        Ok(Loaded {
            row: read(row)?,
            same_clock: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn ask(row: &Row<'_>, is_strict: bool, is_endless: bool) -> rusqlite::Result<Ask> {
    let limit = row.get::<_, Option<u32>>(3)?;
    let lease = row
        .get::<_, Option<i64>>(4)?
        .map(|lease| Duration::from_nanos(lease.cast_unsigned()));
    let owner = row
        .get::<_, Option<Vec<u8>>>(1)?
        .filter(|line| line.len() >= 16);
    Ok(Ask {
        key: row.get::<_, String>(0)?.into(),
        want: match (row.get(2)?, limit) {
            (0, _) => Want::Exclusive,
            (1, _) => Want::Shared,
            (_, limit) => Want::Permit {
                limit: limit.unwrap_or(1),
            },
        },
        lease: match (lease, row.get(5)?) {
            (None, _) => Lease::Session,
            (Some(time), true) => Lease::Renewed(time),
            (Some(time), false) => Lease::Fixed(time),
        },
        owner: owner
            .map(|line| Owner::of(line.as_chunks().0.iter().copied().map(u128::from_be_bytes))),
        tag: row.get::<_, Option<String>>(6)?.map(Arc::from),
        is_strict,
        is_endless,
        gives_up: None,
    })
}

pub(super) fn sessions(connection: &Connection, clock: &str) -> Result<Vec<SessionRow>, Fault> {
    let mut select = connection
        .prepare_cached("SELECT id, host, process, label, command, clock IS ?1 FROM session")?;
    let rows: rusqlite::Result<_> = select
        .query_map([clock], |row| {
            Ok(SessionRow {
                id: row.get(0)?,
                host: row.get(1)?,
                process: row.get(2)?,
                label: row.get(3)?,
                command: row.get(4)?,
                same_clock: row.get(5)?,
            })
        })?
        .collect();
    Ok(rows?)
}

/// The line of a key.
pub(super) fn load(
    connection: &Connection,
    clock: &str,
    key: &str,
    moment: &mut SqliteMoment,
    observe: impl Fn(Loaded<Holder>, Time) -> Holder,
) -> Result<Line, Fault> {
    let waiters = waiters(connection, clock, Some(key))?;
    let neighbours = waiters.iter().filter(|waiter| waiter.same_clock);
    moment
        .neighbours
        .extend(neighbours.map(|waiter| waiter.row.session));
    let holders = holders(connection, clock, Some(key))?;
    Ok(Line {
        holders: holders
            .into_iter()
            .map(|holder| observe(holder, moment.now))
            .collect(),
        waiters: waiters.into_iter().map(|waiter| waiter.row).collect(),
        to_ring: Vec::new(),
    })
}

/// Writes what is different.
pub(super) fn store(connection: &Connection, before: &Line, after: &Line) -> Result<(), Fault> {
    for holder in &before.holders {
        if !after
            .holders
            .iter()
            .any(|stays| stays.token == holder.token)
        {
            let mut delete =
                connection.prepare_cached("DELETE FROM holder WHERE key = ?1 AND token = ?2")?;
            delete.execute(params![&*holder.ask.key, holder.token])?;
        }
    }
    for waiter in &before.waiters {
        if !after
            .waiters
            .iter()
            .any(|stays| stays.ticket == waiter.ticket)
        {
            let mut delete =
                connection.prepare_cached("DELETE FROM waiter WHERE key = ?1 AND ticket = ?2")?;
            delete.execute(params![&*waiter.ask.key, waiter.ticket])?;
        }
    }
    for holder in &after.holders {
        match before.holders.iter().find(|was| was.token == holder.token) {
            None => insert_holder(connection, holder)?,
            Some(was) if was.renewals != holder.renewals => renew(connection, holder)?,
            Some(_) => {}
        }
    }
    for waiter in &after.waiters {
        match before
            .waiters
            .iter()
            .find(|was| was.ticket == waiter.ticket)
        {
            None => insert_waiter(connection, waiter)?,
            Some(was) if was.due != waiter.due => {
                let mut update = connection
                    .prepare_cached("UPDATE waiter SET due = ?3 WHERE key = ?1 AND ticket = ?2")?;
                let due = waiter.due.map(|due| due.0);
                update.execute(params![&*waiter.ask.key, waiter.ticket, due])?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn renew(connection: &Connection, holder: &Holder) -> Result<(), Fault> {
    let mut update = connection.prepare_cached(
        "UPDATE holder SET expires = ?3, renewals = ?4, lease = ?5 WHERE key = ?1 AND token = ?2",
    )?;
    update.execute(params![
        &*holder.ask.key,
        holder.token,
        holder.expires.map(|expires| expires.0),
        holder.renewals,
        lease(holder.ask.lease),
    ])?;
    Ok(())
}

pub(super) fn insert_holder(connection: &Connection, holder: &Holder) -> Result<(), Fault> {
    let Holder { ask, .. } = holder;
    let (mode, permits) = mode(ask.want);
    connection
        .prepare_cached(
            "INSERT INTO holder VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            &*ask.key,
            holder.token,
            holder.ticket,
            holder.session,
            owner(ask),
            mode,
            permits,
            holder.slot,
            lease(ask.lease),
            matches!(ask.lease, Lease::Renewed(_)),
            ask.tag.as_deref(),
            holder.expires.map(|expires| expires.0),
            holder.renewals,
            holder.since,
        ])?;
    Ok(())
}

fn insert_waiter(connection: &Connection, waiter: &Waiter) -> Result<(), Fault> {
    let Waiter { ask, .. } = waiter;
    let (mode, permits) = mode(ask.want);
    connection
        .prepare_cached(
            "INSERT INTO waiter VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            &*ask.key,
            waiter.ticket,
            waiter.session,
            waiter.bell.number,
            owner(ask),
            mode,
            permits,
            lease(ask.lease),
            matches!(ask.lease, Lease::Renewed(_)),
            ask.tag.as_deref(),
            ask.is_strict,
            ask.is_endless,
            waiter.due.map(|due| due.0),
            waiter.since,
        ])?;
    Ok(())
}

fn mode(want: Want) -> (u8, Option<u32>) {
    match want {
        Want::Exclusive => (0, None),
        Want::Shared => (1, None),
        Want::Permit { limit } => (2, Some(limit)),
    }
}

/// Whether that is the mode of a lock.
pub(super) fn is_lock(mode: Option<u8>) -> bool {
    matches!(mode, Some(0 | 1))
}

fn owner(ask: &Ask) -> Option<Vec<u8>> {
    let line = ask.owner.as_ref()?.lineage();
    Some(
        line.iter()
            .flat_map(|number| number.to_be_bytes())
            .collect(),
    )
}

/// In nanoseconds; centuries are as good as no end.
fn lease(lease: Lease) -> Option<i64> {
    lease
        .time()
        .map(|time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}
