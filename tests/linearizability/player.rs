//! One thread's part in a program, played and recorded.

use std::sync::Arc;

use super::common::Rng;
use super::history::{self, Answer, Call, Id, Record, Span};
use super::pause::{pause, pause_by};
use super::program::{Key, Kind, Look, Op, Program};
use super::subject::{Handle, Looked, Own, Table, Weak};

/// What a thread begins with.
#[derive(Debug)]
pub struct Kit {
    table: Option<Arc<Table>>,
    held: Vec<Held>,
    weak: Vec<(Id, Weak)>,
}

#[derive(Debug)]
struct Held {
    id: Id,
    handle: Handle,
}

#[derive(Debug)]
pub struct Player {
    thread: usize,
    kit: Kit,
    log: Vec<Record>,
    /// How many values this thread has offered.
    values: u32,
    iterations: u32,
}

impl Player {
    fn new(thread: usize, kit: Kit) -> Self {
        // What has died before is nobody's.
        drop(history::deaths());
        Self {
            thread,
            kit,
            log: Vec::new(),
            values: 0,
            iterations: 0,
        }
    }

    /// Brings the table into the state that the program begins with. Answers what the racing threads get.
    pub fn set_up(program: &Program, table: Arc<Table>) -> (Self, Vec<Kit>) {
        let kits = program.threads.iter().map(|_| Kit::of(table.clone()));
        let mut kits: Vec<_> = kits.collect();
        let mut player = Self::new(0, Kit::of(table));
        for start in &program.starts {
            let insert = match program.kind {
                Kind::Interner => Look::Intern,
                Kind::Map => Look::GetOrInsert,
            };
            player.play(Op::Look(insert, start.key));
            for (index, kit) in kits.iter_mut().enumerate() {
                if start.held_by.has(index + 1) {
                    player.play(Op::Clone(0));
                    kit.held.extend(player.kit.held.pop());
                }
                if start.weakly_by.has(index + 1) {
                    player.play(Op::Downgrade(0));
                    kit.weak.append(&mut player.kit.weak);
                }
            }
            if start.removed {
                player.play(Op::Look(Look::Remove, start.key));
            }
            player.drop_all();
        }
        if !program.lasts {
            player.play(Op::Leave);
        }
        (player, kits)
    }

    /// Plays a racing thread's part, to its last handle.
    pub fn race(thread: usize, kit: Kit, program: &Program, mut rng: Rng) -> Vec<Record> {
        let mut player = Self::new(thread, kit);
        pause_by(Some(Rng(rng.next())));
        for &op in &program.threads[thread - 1] {
            pause();
            player.play(op);
        }
        while !player.kit.held.is_empty() {
            pause();
            player.play(Op::Drop(rng.next() as u8));
        }
        if !program.lasts {
            player.play(Op::Leave);
        }
        pause_by(None);
        player.log
    }

    /// Looks at what is left when nobody holds anything, and returns the log.
    pub fn look_back(mut self) -> Vec<Record> {
        self.play(Op::Len);
        self.play(Op::Iterate);
        self.log
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Look(look, key) => self.look(look, key),
            Op::Clone(n) => self.clone_handle(n),
            Op::Drop(n) => self.drop_handle(n),
            Op::Downgrade(n) => self.downgrade(n),
            Op::Upgrade(n) => self.upgrade(n),
            Op::TryUnwrap(n) => self.try_unwrap(n),
            Op::Iterate => self.iterate(),
            Op::Len => self.len(),
            Op::Burst(entries) => self.burst(entries),
            Op::Leave => self.leave(),
        }
    }

    /// Does something and records it.
    fn record(&mut self, call: Call, act: impl FnOnce(&mut Kit) -> Answer) {
        self.record_with(call, None, act);
    }

    /// As `record`, with a value that the call may need.
    fn record_with(&mut self, call: Call, own: Option<&Own>, act: impl FnOnce(&mut Kit) -> Answer) {
        let from = history::now();
        let answer = act(&mut self.kit);
        let to = history::tick();
        self.log.push(Record {
            thread: self.thread,
            call,
            answer,
            span: Span {
                call: from,
                answer: to,
            },
            own: own.and_then(Own::id),
            build: own.and_then(Own::built),
            deaths: history::deaths(),
        });
    }

    fn look(&mut self, look: Look, key: Key) {
        if self.kit.table.is_none() {
            return;
        }
        self.values += 1;
        let own = Own::new(key.into(), Id::of(self.thread, self.values));
        self.record_with(Call::Look(look, key), Some(&own), |kit| {
            let table = kit.table.as_ref().expect("looked for before");
            match table.look(look, &own) {
                Looked::Found(handle) => kit.keep(handle),
                Looked::Nothing => Answer::Nothing,
                Looked::Failed => Answer::Failed,
                Looked::Deadlock => Answer::Deadlock,
            }
        });
    }

    fn clone_handle(&mut self, n: u8) {
        if let Some(index) = choose(n, self.kit.held.len()) {
            self.record(Call::Clone(self.kit.held[index].id), |kit| {
                let clone = kit.held[index].handle.clone();
                kit.keep(clone)
            });
        }
    }

    fn drop_handle(&mut self, n: u8) {
        if let Some(index) = choose(n, self.kit.held.len()) {
            let Held { id, handle } = self.kit.held.swap_remove(index);
            self.record(Call::Drop(id), |_| {
                drop(handle);
                Answer::Done
            });
        }
    }

    fn downgrade(&mut self, n: u8) {
        if let Some(index) = choose(n, self.kit.held.len()) {
            let id = self.kit.held[index].id;
            self.record(Call::Downgrade(id), |kit| {
                kit.weak.push((id, kit.held[index].handle.downgrade()));
                Answer::Done
            });
        }
    }

    fn upgrade(&mut self, n: u8) {
        if let Some(index) = choose(n, self.kit.weak.len()) {
            self.record(Call::Upgrade(self.kit.weak[index].0), |kit| {
                match kit.weak[index].1.upgrade() {
                    Some(handle) => kit.keep(handle),
                    None => Answer::Nothing,
                }
            });
        }
    }

    fn try_unwrap(&mut self, n: u8) {
        if let Some(index) = choose(n, self.kit.held.len()) {
            let Held { id, handle } = self.kit.held.swap_remove(index);
            self.record(Call::TryUnwrap(id), |kit| match handle.try_unwrap() {
                Ok(value) => Answer::Found(value),
                Err(handle) => {
                    kit.keep(handle);
                    Answer::Failed
                }
            });
        }
    }

    /// Walks to the end, and holds what a step has answered until the next one.
    fn iterate(&mut self) {
        let Some(table) = self.kit.table.clone() else {
            return;
        };
        self.iterations += 1;
        let walk = self.iterations;
        let mut entries = table.iter();
        let mut last: Option<Handle> = None;
        let mut last_id = None;
        loop {
            // Others than the followed ones are passed in the same step.
            self.record(Call::Next(walk, last_id), |_| {
                drop(last.take());
                last = entries.by_ref().find(|handle| handle.id() != Id(0));
                last.as_ref()
                    .map_or(Answer::Nothing, |handle| Answer::Found(handle.id()))
            });
            last_id = last.as_ref().map(Handle::id);
            if last.is_none() {
                return;
            }
        }
    }

    fn len(&mut self) {
        if self.kit.table.is_some() {
            self.record(Call::Len, |kit| {
                let table = kit.table.as_ref().expect("looked for before");
                Answer::Number(table.len())
            });
        }
    }

    fn burst(&mut self, entries: u8) {
        let thread = self.thread;
        if self.kit.table.is_some() {
            self.record(Call::Burst, |kit| {
                let table = kit.table.as_ref().expect("looked for before");
                table.burst(thread, entries.into());
                Answer::Done
            });
        }
    }

    fn leave(&mut self) {
        if self.kit.table.is_some() {
            self.record(Call::Leave, |kit| {
                kit.table = None;
                Answer::Done
            });
        }
    }

    fn drop_all(&mut self) {
        while !self.kit.held.is_empty() {
            self.play(Op::Drop(0));
        }
    }
}

impl Kit {
    fn of(table: Arc<Table>) -> Self {
        Self {
            table: Some(table),
            held: Vec::new(),
            weak: Vec::new(),
        }
    }

    fn keep(&mut self, handle: Handle) -> Answer {
        let id = handle.id();
        self.held.push(Held { id, handle });
        Answer::Found(id)
    }
}

fn choose(n: u8, handles: usize) -> Option<usize> {
    (handles > 0).then(|| usize::from(n) % handles)
}
