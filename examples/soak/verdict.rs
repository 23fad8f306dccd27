//! The end of the program at the first violation.

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::request::Plan;

/// The options that repeat this run.
static OPTIONS: OnceLock<String> = OnceLock::new();
static SPOKEN: AtomicBool = AtomicBool::new(false);

/// Ends the program if a condition doesn't hold.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::verdict::violation(format_args!($($message)+));
        }
    };
}
pub(crate) use check;

/// Remembers the plan for the message, and makes every panic a violation. Those on purpose are thrown by
/// `resume_unwind`, which passes the hook by.
pub(crate) fn prepare(plan: Plan) {
    let (seed, threads, growth) = (plan.seed, plan.threads, plan.growth);
    OPTIONS.get_or_init(|| format!("--seed {seed} --threads {threads} --growth {growth}"));
    panic::set_hook(Box::new(|panic| violation(format_args!("{panic}"))));
}

/// Says what is wrong and ends the program. Only the first one is heard.
///
/// Not a panic: it may be called from destructors of thread-locals, and while others wait for this thread.
#[cold]
pub(crate) fn violation(what: fmt::Arguments<'_>) -> ! {
    if SPOKEN.swap(true, Ordering::Relaxed) {
        loop {
            thread::park();
        }
    }
    let thread = thread::current();
    let name = thread.name().unwrap_or("a thread");
    let options = OPTIONS.get().map_or("", String::as_str);
    // Nobody is left to be told that standard error is closed.
    let _ = write!(
        io::stderr(),
        "\nsoak: violation, on {name}: {what}\n\
         soak: {options} repeats the choices of the threads, not their interleaving\n"
    );
    process::exit(1);
}
