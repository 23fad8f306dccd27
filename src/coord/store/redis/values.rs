//! Averages, rate limits and tags, by the scripts.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Script, Value};

use super::super::value::CENTURY;
use super::super::{Mean, OfAverage, Rate, Turn};
use super::address::says;
use super::link::{Failure, Try};
use super::rows::{Reply, given, micros};
use super::{LineOperation, RedisEngine, Scripts};
use crate::coord::error::{Fault, Kind};

static VALUES: LazyLock<Scripts> = LazyLock::new(|| Scripts::of(include_str!("values.lua")));

impl RedisEngine {
    pub(super) fn average_value(
        &self,
        key: &str,
        step: OfAverage<'_>,
    ) -> Result<Option<Mean>, Fault> {
        let value = match step {
            OfAverage::Get => self.value(&VALUES.for_all, "get", key, &[]),
            OfAverage::Pop => self.value_once(&VALUES.for_all, "pop", key, &[]),
            OfAverage::Add {
                number,
                expire,
                tag,
            } => {
                let expire = expire.map(|time| micros(time.min(CENTURY)).to_string());
                let arguments = [
                    format!("{number:e}"),
                    expire.unwrap_or_default(),
                    given(tag),
                ];
                let answer = self.value_once(&VALUES.for_new, "add", key, &arguments)?;
                if Reply::of(&answer)?.text()? == "infinite" {
                    return Err(Fault::NotFinite(number));
                }
                Ok(answer)
            }
        }?;
        let mut reply = Reply::of(&value)?;
        match reply.text()? {
            "mean" => Ok(Some(Mean {
                total: reply.real()?,
                count: reply.number()?,
            })),
            "other" => Err(Fault::value(Kind::RateLimit, Kind::Average)),
            _ => Ok(None),
        }
    }

    pub(super) fn take_turn_of_value(
        &self,
        key: &str,
        rate: Rate,
        longest: Duration,
        tag: Option<&str>,
    ) -> Result<Turn, Fault> {
        let [count, per, interval] = terms(rate);
        let longest = micros(longest.min(CENTURY)).to_string();
        let arguments = [count, per, interval, longest, given(tag)];
        // If it is taken twice one is lost, and nobody is let through who shouldn't be.
        let value = self.value(&VALUES.for_new, "take", key, &arguments)?;
        let mut reply = Reply::of(&value)?;
        match reply.text()? {
            "taken" => Ok(Turn::Taken {
                wait: reply.micros()?,
                number: reply.number()?,
            }),
            "refused" => Ok(Turn::Refused {
                wait: reply.micros()?,
            }),
            _ if reply.text()? == "average" => Err(Fault::value(Kind::Average, Kind::RateLimit)),
            _ => {
                let count = reply.number()?;
                let per = reply
                    .text()?
                    .parse()
                    .map_err(|_| says("it is no rate".to_owned()))?;
                let found = Rate::of(count, Duration::from_nanos(per));
                Err(Fault::Rate {
                    found,
                    wanted: rate,
                })
            }
        }
    }

    pub(super) fn put_back_turn_of_value(
        &self,
        key: &str,
        rate: Rate,
        number: i64,
    ) -> Result<(), Fault> {
        let [count, per, interval] = terms(rate);
        let arguments = [count, per, interval, number.to_string()];
        self.value_once(&VALUES.for_all, "put_back", key, &arguments)?;
        Ok(())
    }

    /// Key by key: others may see some of it gone before the rest.
    pub(super) fn evict_all(&self, tag: &str) -> Result<usize, Fault> {
        let mut keys: Vec<_> = self.listing()?.holders;
        keys.retain(|holder| holder.ask.tag.as_deref() == Some(tag));
        keys.dedup_by(|one, other| one.ask.key == other.ask.key);
        let mut count = 0;
        for holder in keys {
            let (_, value) = self.run_again(
                &LineOperation::of("evict"),
                &holder.ask.key,
                &[given(Some(tag))],
            )?;
            if let Value::Int(evicted) = value {
                count += usize::try_from(evicted).unwrap_or(0);
            }
        }
        let value = self.value(&VALUES.for_all, "evict", tag, &[])?;
        let mut reply = Reply::of(&value)?;
        reply.text()?;
        Ok(count + reply.number::<usize>()?)
    }

    fn value(
        &self,
        script: &Script,
        operation: &'static str,
        key: &str,
        arguments: &[String],
    ) -> Result<Value, Fault> {
        self.check_open()?;
        let send = |one: &mut Try<'_>| self.send_value(one, script, operation, key, arguments);
        let answer = self.link.request(Duration::MAX, send);
        answer.map_err(Failure::fault)
    }

    /// What would count twice is sent once.
    fn value_once(
        &self,
        script: &Script,
        operation: &'static str,
        key: &str,
        arguments: &[String],
    ) -> Result<Value, Fault> {
        self.check_open()?;
        let send = |one: &mut Try<'_>| self.send_value(one, script, operation, key, arguments);
        self.link.request_once(send).map_err(Failure::unknown)
    }

    fn send_value(
        &self,
        Try { server, until, .. }: &mut Try<'_>,
        script: &Script,
        operation: &'static str,
        key: &str,
        arguments: &[String],
    ) -> redis::RedisResult<Value> {
        let mut call = script.prepare_invoke();
        call.key(self.name("values"))
            .key(self.name("swept"))
            .arg(*until)
            .arg(operation)
            .arg(key)
            .arg(arguments);
        call.invoke(&mut server.connection)
    }
}

/// How scripts are told of a rate: the count, the time in nanoseconds, and in how many microseconds a permit comes in.
fn terms(rate: Rate) -> [String; 3] {
    // In whole microseconds: numbers of the size of a moment have no room for much more.
    let interval = rate.interval().as_nanos().div_ceil(1000);
    [
        rate.count.to_string(),
        rate.per.as_nanos().to_string(),
        interval.to_string(),
    ]
}

impl Reply<'_> {
    fn real(&mut self) -> Result<f64, Fault> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| says(format!("{text:?} is no number")))
    }

    fn micros(&mut self) -> Result<Duration, Fault> {
        let micros = self.real()?;
        Duration::try_from_secs_f64(micros / 1e6).map_err(|error| says(error.to_string()))
    }
}
