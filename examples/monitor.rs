//! A small `make`: runs the tasks of a plan, each as soon as those that it needs are done, on several threads.
//!
//! ```text
//! cargo run --release --features sync --example monitor -- [PLAN [THREADS]]
//! ```
//!
//! A plan has a line for each task, with the tasks that it needs, and behind it its shell commands, indented:
//!
//! ```text
//! test: build
//!     ./run-tests
//! build:
//!     cc -o program program.c
//! ```
//!
//! What is ready and what is left to do lies in a monitor. A thread that has nothing to do waits for a task that is ready, or
//! for the end; nobody notifies it. The threads are those of a scope: when a task fails the others are cancelled, those that
//! wait at once, those that run a command when that has ended. All that has failed is reported.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::Instant;

use hapax::sync::{BoxError, Monitor, scope};

const EXAMPLE: &str = "\
bread: dough oven
    sleep 0.2
dough: flour water
    sleep 0.1
oven:
    sleep 0.3
flour:
water:
jam: fruit
    sleep 0.2
fruit:
    sleep 0.1
breakfast: bread jam
";

#[derive(Debug, Default)]
struct Task {
    name: String,
    needs: Vec<usize>,
    /// The tasks that need this one.
    needed_by: Vec<usize>,
    commands: Vec<String>,
}

fn parse(plan: &str) -> Result<Vec<Task>, BoxError> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut places = HashMap::new();
    let mut needs = Vec::new();
    for (number, line) in (1..).zip(plan.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let task = tasks
                .last_mut()
                .ok_or(format!("line {number}: a command without a task"))?;
            task.commands.push(line.trim().to_owned());
            continue;
        }
        let (name, rest) = line
            .split_once(':')
            .ok_or(format!("line {number}: no `:` behind the task's name"))?;
        let place = tasks.len();
        if places.insert(name, place).is_some() {
            return Err(format!("line {number}: a second `{name}`").into());
        }
        tasks.push(Task {
            name: name.to_owned(),
            ..Task::default()
        });
        needs.extend(rest.split_whitespace().map(|other| (number, place, other)));
    }
    for (number, place, other) in needs {
        let &other = places
            .get(other)
            .ok_or(format!("line {number}: there is no task `{other}`"))?;
        tasks[place].needs.push(other);
        tasks[other].needed_by.push(place);
    }
    Ok(tasks)
}

/// What threads share.
struct Progress {
    ready: Vec<usize>,
    /// How many tasks each one still needs.
    open: Vec<usize>,
    /// How many tasks are being run.
    running: usize,
    done: usize,
}

impl Progress {
    fn new(tasks: &[Task]) -> Self {
        let open: Vec<_> = tasks.iter().map(|task| task.needs.len()).collect();
        let ready = (0..tasks.len()).filter(|&place| open[place] == 0).collect();
        Self {
            ready,
            open,
            running: 0,
            done: 0,
        }
    }

    /// Nothing is ready, but something may become so.
    fn is_waiting(&self) -> bool {
        self.ready.is_empty() && self.running > 0
    }

    fn finish(&mut self, task: &Task) {
        self.running -= 1;
        self.done += 1;
        for &other in &task.needed_by {
            self.open[other] -= 1;
            if self.open[other] == 0 {
                self.ready.push(other);
            }
        }
    }
}

fn run(task: &Task, start: Instant) -> Result<(), BoxError> {
    for command in &task.commands {
        let status = Command::new("sh").args(["-c", command]).status()?;
        if !status.success() {
            return Err(format!("{}: `{command}`: {status}", task.name).into());
        }
    }
    println!("{:>5.2} s  {}", start.elapsed().as_secs_f64(), task.name);
    Ok(())
}

/// Runs tasks until nothing is left. Returns how many this thread has run.
fn work(tasks: &[Task], progress: &Monitor<Progress>, start: Instant) -> Result<usize, BoxError> {
    let mut count = 0;
    let mut inside = progress.enter()?;
    loop {
        inside = inside.wait_while(Progress::is_waiting)?;
        let Some(place) = inside.ready.pop() else {
            return Ok(count);
        };
        inside.running += 1;
        let (result, entered) = inside.unlocked(|| run(&tasks[place], start));
        result?;
        inside = entered?;
        inside.finish(&tasks[place]);
        count += 1;
    }
}

fn make(plan: &str, threads: usize) -> Result<(), BoxError> {
    let tasks = parse(plan)?;
    let progress = Monitor::named("progress", Progress::new(&tasks));
    let start = Instant::now();
    let counts = scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&tasks, &progress, start));
        }
        Ok(())
    })?;
    let progress = progress.into_inner();
    if progress.done < tasks.len() {
        let stuck = (0..tasks.len()).filter(|&place| progress.open[place] > 0);
        let names: Vec<_> = stuck.map(|place| &tasks[place].name[..]).collect();
        return Err(format!("these need each other: {}", names.join(", ")).into());
    }
    println!("{} tasks; by thread: {counts:?}", progress.done);
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let plan = match arguments.next() {
        None => Ok(EXAMPLE.to_owned()),
        Some(path) => fs::read_to_string(&path).map_err(|error| format!("{path}: {error}").into()),
    };
    let threads = match arguments.next() {
        None => Ok(4),
        Some(number) => match number.parse() {
            Ok(0) | Err(_) => Err(format!("`{number}` isn't a number of threads").into()),
            Ok(number) => Ok(number),
        },
    };
    let answer = plan.and_then(|plan| threads.and_then(|threads| make(&plan, threads)));
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
