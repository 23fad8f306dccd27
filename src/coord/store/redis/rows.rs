//! The rows of a line, to and from the scripts.

use std::slice::Iter;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::super::SessionRow;
use super::super::line::{Ask, Bell, Holder, Waiter, Want};
use super::address::says;
use crate::coord::error::Fault;
use crate::coord::lease::Lease;
use crate::coord::time::Time;

/// What a script has answered, from its beginning.
pub(super) struct Reply<'a>(Iter<'a, Value>);

impl<'a> Reply<'a> {
    pub(super) fn of(value: &'a Value) -> Result<Self, Fault> {
        match value {
            Value::Array(values) => Ok(Self(values.iter())),
            _ => Err(malformed()),
        }
    }

    fn next(&mut self) -> Result<&'a Value, Fault> {
        self.0.next().ok_or_else(malformed)
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T, Fault> {
        match self.next()? {
            Value::Int(number) => T::try_from(*number).map_err(|_| malformed()),
            _ => Err(malformed()),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        match self.next()? {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| malformed()),
            _ => Err(malformed()),
        }
    }

    pub(super) fn list(&mut self) -> Result<Self, Fault> {
        Self::of(self.next()?)
    }

    /// What is left, one after the other.
    pub(super) fn numbers(self) -> impl Iterator<Item = Result<i64, Fault>> {
        self.0.map(|value| match value {
            Value::Int(number) => Ok(*number),
            _ => Err(malformed()),
        })
    }

    /// What is left, one after the other.
    pub(super) fn lists(self) -> impl Iterator<Item = Result<Reply<'a>, Fault>> {
        self.0.map(Reply::of)
    }

    /// A text as [`given`] has written it.
    fn option(&mut self) -> Result<Option<&'a str>, Fault> {
        Ok(self.text()?.strip_prefix('='))
    }
}

fn malformed() -> Fault {
    says("the rows in Redis aren't those of a store".to_owned())
}

/// A text that may not be there.
pub(super) fn given(text: Option<&str>) -> String {
    text.map_or(String::new(), |text| format!("={text}"))
}

pub(super) fn micros(time: Duration) -> u64 {
    // Scripts count up to 2^53, and so far ahead of now.
    u64::try_from(time.as_micros())
        .unwrap_or(u64::MAX)
        .min(1 << 51)
}

/// How the scripts call what is wanted, and of how many permits.
pub(super) fn mode(want: Want) -> (&'static str, u32) {
    match want {
        Want::Exclusive => ("exclusive", 0),
        Want::Shared => ("shared", 0),
        Want::Permit { limit } => ("permit", limit),
    }
}

pub(super) fn want(mode: &str, permits: u32) -> Result<Want, Fault> {
    match mode {
        "exclusive" => Ok(Want::Exclusive),
        "shared" => Ok(Want::Shared),
        "permit" => Ok(Want::Permit { limit: permits }),
        _ => Err(malformed()),
    }
}

/// A row, of a holder or of a waiter.
pub(super) struct Row {
    token: u64,
    ticket: u64,
    bell: Bell,
    ask: Ask,
    since: u64,
    slot: u32,
    /// How long its lease lasts from the moment on that the server answered.
    left: Duration,
    renewals: u64,
    pub(super) session: SessionRow,
}

impl Row {
    pub(super) fn read(mut reply: Reply<'_>, key: &Arc<str>) -> Result<Self, Fault> {
        let token = reply.number()?;
        let ticket = reply.number()?;
        let session = u64::from_str_radix(reply.text()?, 16).map_err(|_| malformed())?;
        let number = reply.number()?;
        let want = want(reply.text()?, reply.number()?)?;
        let lease = Duration::from_micros(reply.number()?);
        let is_strict = reply.number::<u8>()? == 1;
        let since = reply.number()?;
        let slot = reply.number()?;
        let left = Duration::from_micros(reply.number()?);
        let renewals = reply.number()?;
        let lease = match reply.text()? {
            "session" => Lease::Session,
            "renewed" => Lease::Renewed(lease),
            _ => Lease::Fixed(lease),
        };
        let tag = reply.option()?.map(Arc::from);
        let mut about = About(reply.text()?);
        let owner = about
            .option()?
            .map(str::parse)
            .transpose()
            .map_err(|_| malformed())?;
        let is_endless = about.option()?.is_some();
        Ok(Self {
            token,
            ticket,
            bell: Bell { session, number },
            ask: Ask {
                key: Arc::clone(key),
                want,
                lease,
                owner,
                tag,
                is_strict,
                is_endless,
                gives_up: None,
            },
            since,
            slot,
            left,
            renewals,
            session: SessionRow {
                id: session,
                host: about.text()?.to_owned(),
                process: about.text()?.parse().map_err(|_| malformed())?,
                label: about.option()?.map(str::to_owned),
                command: about.option()?.map(str::to_owned),
                same_clock: true,
            },
        })
    }

    /// Somebody who holds, as of that moment of this machine's clock.
    pub(super) fn holder(self, now: Time) -> Holder {
        Holder {
            token: self.token,
            ticket: (self.ticket > 0).then_some(self.ticket),
            session: self.bell.session,
            ask: self.ask,
            slot: self.slot,
            expires: Some(now.after(self.left)),
            renewals: self.renewals,
            since: self.since,
        }
    }

    pub(super) fn waiter(self) -> Waiter {
        Waiter {
            ticket: self.ticket,
            session: self.bell.session,
            bell: self.bell,
            ask: self.ask,
            due: None,
            since: self.since,
        }
    }
}

/// How the scripts call a kind of lease.
pub(super) fn kind(lease: Lease) -> &'static str {
    match lease {
        Lease::Session => "session",
        Lease::Renewed(_) => "renewed",
        Lease::Fixed(_) => "fixed",
    }
}

/// What is known of whoever asks, for whoever looks: texts, each with its length before it. To scripts it is one.
pub(super) fn about(ask: &Ask, session: &SessionRow) -> String {
    let texts = [
        given(ask.owner.as_ref().map(ToString::to_string).as_deref()),
        given(ask.is_endless.then_some("")),
        session.host.clone(),
        session.process.to_string(),
        given(session.label.as_deref()),
        given(session.command.as_deref()),
    ];
    texts.map(|text| format!("{}:{text}", text.len())).concat()
}

/// What is left of the same.
struct About<'a>(&'a str);

impl<'a> About<'a> {
    fn text(&mut self) -> Result<&'a str, Fault> {
        let (length, rest) = self.0.split_once(':').ok_or_else(malformed)?;
        let length = length.parse().map_err(|_| malformed())?;
        let (text, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(text)
    }

    /// A text as [`given`] has written it.
    fn option(&mut self) -> Result<Option<&'a str>, Fault> {
        Ok(self.text()?.strip_prefix('='))
    }
}
