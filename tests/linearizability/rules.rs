//! The rules beside the sequential specification, which look at a history as a whole.
//!
//! - Answers are instances that were made for the key, and a handle stays with its instance. Nobody is told of a
//!   deadlock.
//! - An instance dies once, when its last handle has gone: within the call that brought it along, if it didn't
//!   become an entry; otherwise in a drop of a handle of its key, or in a call that held one for a moment.
//! - `get_or_init` builds one value of a key at a time, and answers what it has built, unless `get_or_insert` took
//!   its place.
//! - An iteration answers no instance twice, and each that was alive and visible throughout. (Each of its
//!   steps is a hit of the sequential specification: so what it answers was alive at that step.)
//! - `len` counts what was certainly there during the call, and nothing that certainly wasn't. Exact sums aren't
//!   asked for while others write.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Answer, Call, Death, Id, Record, Span, Stamp};
use super::program::{Key, Look};
use super::steps::Index;

/// Which rule a history breaks, if one.
pub fn check(index: &Index<'_>) -> Result<(), String> {
    for record in &index.history.records {
        check_answer(index, record)?;
    }
    check_deaths(index)?;
    check_builds(index)?;
    check_iterations(index)?;
    check_lengths(index)
}

fn check_answer(index: &Index<'_>, record: &Record) -> Result<(), String> {
    if record.answer == Answer::Deadlock {
        return Err(format!(
            "{} reports a deadlock, and there is none",
            record.call
        ));
    }
    let Some(id) = record.found() else {
        return Ok(());
    };
    if id == Id::DEAD {
        return Err(format!("{} answers a value that is dead", record.call));
    }
    let Some(key) = index.key_of(id) else {
        return Err(format!(
            "{} answers {id}, which nobody has made",
            record.call
        ));
    };
    let fits = match record.call {
        Call::Look(_, wanted) => wanted == key,
        Call::Clone(of) | Call::Upgrade(of) | Call::TryUnwrap(of) => of == id,
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{} answers {id}, made for {key}", record.call))
    }
}

fn check_deaths(index: &Index<'_>) -> Result<(), String> {
    let mut dead = BTreeSet::new();
    for record in &index.history.records {
        for &Death { id, .. } in &record.deaths {
            if !dead.insert(id) {
                return Err(format!("{id} died twice, at last in {}", record.call));
            }
            let Some(maker) = index.maker(id) else {
                return Err(format!("{id} died in {}, never made", record.call));
            };
            if !may_die_in(index, id, maker, record) {
                return Err(format!("{id} died in {}", record.call));
            }
        }
    }
    let handles = handles(index);
    let left = index
        .instances()
        .find(|id| !dead.contains(id) && handles.get(id).copied().unwrap_or(0) == 0);
    match left {
        None => Ok(()),
        Some(id) => Err(format!("{id} has no handles and never died")),
    }
}

fn may_die_in(index: &Index<'_>, id: Id, maker: &Record, record: &Record) -> bool {
    let Some((look, key)) = maker.look() else {
        return false;
    };
    if !maker.inserted() {
        let late = || record.span.call <= index.at_the_latest(key, maker.span.answer);
        return record.own == Some(id) || look.displaces() && index.passes(record, key) && late();
    }
    let lets_go = match record.call {
        Call::TryUnwrap(_) => return record.found() == Some(id),
        Call::Drop(of) | Call::Next(_, Some(of)) => index.key_of(of) == Some(key),
        _ => false,
    };
    lets_go || index.passes(record, key)
}

/// How many handles a call makes of which instance, and of which it gives one back.
fn gain_and_loss(record: &Record) -> (Option<Id>, Option<Id>) {
    let found = record.found();
    match record.call {
        Call::Look(..) | Call::Clone(_) | Call::Upgrade(_) => (found, None),
        Call::Drop(id) => (None, Some(id)),
        Call::TryUnwrap(_) => (None, found),
        Call::Next(_, last) => (found, last),
        _ => (None, None),
    }
}

/// How many handles there are of each instance in the end.
fn handles(index: &Index<'_>) -> BTreeMap<Id, i32> {
    let mut handles = BTreeMap::new();
    for record in &index.history.records {
        let (gain, loss) = gain_and_loss(record);
        if let Some(id) = gain {
            *handles.entry(id).or_default() += 1;
        }
        if let Some(id) = loss {
            *handles.entry(id).or_default() -= 1;
        }
    }
    handles
}

fn check_builds(index: &Index<'_>) -> Result<(), String> {
    let records = &index.history.records;
    let inits = records.iter().filter_map(|record| {
        let (look, key) = record.look()?;
        look.waits().then_some((record, key, record.build?))
    });
    let inits: Vec<_> = inits.collect();
    for (number, &(record, key, build)) in inits.iter().enumerate() {
        if index.may_be_displaced(record) {
            continue;
        }
        if record.own.is_some() && !record.inserted() {
            return Err(format!(
                "{} built its value for nothing, answering {}",
                record.call, record.answer
            ));
        }
        let mut others = inits[number + 1..].iter();
        let meets = |&&(other, of, its): &&(&Record, Key, _)| {
            of == key && build.meets(its) && !index.may_be_displaced(other)
        };
        if let Some((other, ..)) = others.find(meets) {
            return Err(format!(
                "{} of thread {} and {} of thread {} built at the same time",
                record.call, record.thread, other.call, other.thread
            ));
        }
    }
    Ok(())
}

fn check_iterations(index: &Index<'_>) -> Result<(), String> {
    let mut walks: BTreeMap<_, Vec<&Record>> = BTreeMap::new();
    for record in &index.history.records {
        if let Call::Next(walk, _) = record.call {
            walks.entry((record.thread, walk)).or_default().push(record);
        }
    }
    for ((thread, walk), steps) in walks {
        let mut met = BTreeSet::new();
        for id in steps.iter().filter_map(|step| step.found()) {
            if !met.insert(id) {
                return Err(format!("iter {walk} of thread {thread} answers {id} twice"));
            }
        }
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
            continue;
        };
        let span = Span {
            call: first.span.call,
            answer: last.span.answer,
        };
        let ended = last.answer == Answer::Nothing;
        let mut instances = index.instances();
        if let Some(id) =
            instances.find(|&id| ended && !met.contains(&id) && was_there(index, id, span))
        {
            return Err(format!(
                "iter {walk} of thread {thread} leaves out {id}, which was alive and visible throughout"
            ));
        }
    }
    Ok(())
}

/// Whether an instance was certainly an entry with handles during the whole span.
fn was_there(index: &Index<'_>, id: Id, span: Span) -> bool {
    let Some(maker) = index.maker(id) else {
        return false;
    };
    let records = &index.history.records;
    let certainly_visible = maker.inserted()
        && maker.span.precedes(span)
        && !index.may_be_displaced(maker)
        && !records
            .iter()
            .any(|record| removes(record, id) && !span.precedes(record.span));
    certainly_visible && has_handles(records, id, span)
}

fn removes(record: &Record, id: Id) -> bool {
    matches!(record.call, Call::Look(Look::Remove, _)) && record.found() == Some(id)
}

/// Whether an instance certainly had a handle at each moment of the span: more were made before that moment
/// than began to be given back.
fn has_handles(records: &[Record], id: Id, span: Span) -> bool {
    let had_at = |moment: Stamp| {
        let handles = records.iter().fold(0, |handles, record| {
            let (gain, loss) = gain_and_loss(record);
            let gained = gain == Some(id) && record.span.answer < moment;
            let lost = loss == Some(id) && record.span.call <= moment;
            handles + i32::from(gained) - i32::from(lost)
        });
        handles > 0
    };
    let changes = records.iter().map(|record| record.span.call);
    let mut moments = changes.filter(|moment| (span.call..=span.answer).contains(moment));
    had_at(span.call) && moments.all(had_at)
}

fn check_lengths(index: &Index<'_>) -> Result<(), String> {
    let records = &index.history.records;
    for record in records {
        let Answer::Number(length) = record.answer else {
            continue;
        };
        if counts_others(records, record) {
            continue;
        }
        let mut least = 0;
        let mut most = 0;
        for id in index.instances() {
            let (came, went) = came_and_went(index, id);
            if let Some((came, certain)) = came {
                least += i32::from(certain && came.precedes(record.span));
                most += i32::from(!record.span.precedes(came));
            }
            if let Some(went) = went {
                least -= i32::from(!record.span.precedes(went));
                most -= i32::from(went.precedes(record.span));
            }
        }
        let (least, most) = (least.max(0) as usize, most.max(0) as usize);
        if !(least..=most).contains(&length) {
            return Err(format!(
                "len of thread {} answers {length}, when there were {least} to {most} entries",
                record.thread
            ));
        }
    }
    Ok(())
}

/// Whether a length may count entries of other keys: some come and go meanwhile, or have come and are held by an
/// iteration.
fn counts_others(records: &[Record], length: &Record) -> bool {
    let mut bursts = records
        .iter()
        .filter(|record| record.call == Call::Burst && !length.span.precedes(record.span));
    let iterates = |record: &Record| {
        matches!(record.call, Call::Next(..)) && record.span.overlaps(length.span)
    };
    let iterated = records.iter().any(iterates);
    bursts.any(|burst| iterated || burst.span.overlaps(length.span))
}

/// When an instance was counted in, and whether that is certain; when it was counted out.
fn came_and_went(index: &Index<'_>, id: Id) -> (Option<(Span, bool)>, Option<Span>) {
    let records = &index.history.records;
    let Some(maker) = index.maker(id).filter(|maker| maker.inserted()) else {
        return (None, None);
    };
    let came = Span {
        call: maker.span.call,
        answer: index.counted_in(maker),
    };
    let removed = records.iter().find(|record| removes(record, id));
    let went = removed.map(|record| record.span).or_else(|| {
        let mut ends = records.iter().filter_map(|record| {
            let death = record.deaths.iter().find(|death| death.id == id)?;
            let answer = match record.call {
                Call::TryUnwrap(_) => record.span.answer,
                _ => death.at,
            };
            Some(Span {
                call: record.span.call,
                answer,
            })
        });
        ends.next()
    });
    (Some((came, !index.may_be_displaced(maker))), went)
}
