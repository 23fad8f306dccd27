//! What can be said on the command line.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand};

use crate::exit::{Exit, USAGE, say};
use crate::secret;

/// Some thirty years.
const LONG: Duration = Duration::from_secs(1 << 30);

/// Runs commands under locks and semaphores that processes share.
///
/// Waiters are served in the order in which they came, a process that dies gives back what it held, and deadlocks are
/// broken instead of waited for.
#[derive(Debug, Parser)]
#[command(name = "hapax", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Lock(LockArgs),
    Ps(PsArgs),
    ForceUnlock(ForceUnlockArgs),
    /// Print the completions for a shell
    Completions {
        /// For which one
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory, or print them
    Man {
        /// Where to write them; it has to be there
        directory: Option<PathBuf>,
    },
}

/// Run a command while holding a lock
///
/// Waits until the lock KEY is free, runs COMMAND, and gives the lock back when COMMAND ends. Processes that COMMAND leaves
/// in the background run on without the lock.
///
/// COMMAND finds HAPAX_KEY, HAPAX_STORE, HAPAX_OWNER and HAPAX_FENCING_TOKEN in its environment: the token is a number that
/// is greater than those of all grants before.
///
/// If hapax is killed, COMMAND keeps the lock until it ends. That is so where the store is a file. A Redis server can't see
/// who lives: there the lock is always held by a lease, and when hapax is killed it ends with that. On Linux COMMAND gets
/// SIGTERM then, unless it has changed its user; what it has started itself doesn't.
///
/// If stdin is a terminal, COMMAND stays in the process group of hapax, and Ctrl-C and Ctrl-Z reach both. Otherwise it leads
/// a group of its own, and what hapax is sent goes on to that group.
///
/// Exit status: that of COMMAND, or 128 and the number of the signal that has ended it; 1 (or what -E says) if the lock
/// wasn't free in time or a deadlock was broken; 64 if this isn't called as it should be; 69 if the store can't be used; 75
/// if the lock was lost while COMMAND ran; 126 if COMMAND can't be executed; 127 if it wasn't found.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("what").required(true).args(["shell_command", "command"]))]
#[command(
    override_usage = "hapax lock [OPTIONS] KEY [--] COMMAND [ARG]...\n       hapax lock [OPTIONS] KEY -c STRING"
)]
#[command(group = ArgGroup::new("mode").args(["shared", "exclusive", "permits"]))]
pub(crate) struct LockArgs {
    /// Hold it together with others who do so
    #[arg(short, long)]
    pub(crate) shared: bool,

    /// Hold it alone; that is the default
    #[arg(short = 'x', long)]
    pub(crate) exclusive: bool,

    /// KEY is a semaphore with N permits: take one of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) permits: Option<u32>,

    /// Fail unless it is free at once and nobody waits for it
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) nonblock: bool,

    /// Fail if it isn't free within that many seconds, which may have a fraction; 0 is the same as -n
    #[arg(short, long, visible_alias = "timeout", value_name = "SECS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,

    /// The exit status if it wasn't free in time, or a deadlock was broken
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 1)]
    pub(crate) conflict_exit_code: u8,

    /// COMMAND doesn't keep the lock if hapax is killed. With a Redis server it never does
    #[arg(short = 'o', long)]
    pub(crate) close: bool,

    /// How long after SIGTERM to send SIGKILL, when the lease ends; less than half of that
    #[arg(short, long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub(crate) kill_after: Duration,

    /// Hold it by a lease of that many seconds, which is renewed all the time: if hapax is stopped for longer, or can't
    /// reach the store, others get it, and COMMAND is ended before. If this isn't given that is so only with a Redis server,
    /// where a lease has 30 seconds then
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) ttl: Option<Duration>,

    /// A text that `hapax ps` shows
    #[arg(long, value_name = "TEXT")]
    pub(crate) tag: Option<String>,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    /// Say on stderr what is waited for and what is done
    #[arg(long)]
    pub(crate) verbose: bool,

    /// The name of the lock
    #[arg(value_parser = key)]
    pub(crate) key: String,

    /// Run this by /bin/sh
    #[arg(short = 'c', long = "command", value_name = "STRING")]
    pub(crate) shell_command: Option<OsString>,

    /// The command, and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// List who holds what, and who waits for it
///
/// Changes nothing. A process that has died may still be listed, until somebody else wants what it held.
#[derive(Debug, clap::Args)]
pub(crate) struct PsArgs {
    /// One JSON object a line, one for each key
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// Take a lock away from its holder, and give it to the next one
///
/// The holder is told so, and `hapax lock` then ends its command, but until it has, two hold the lock.
///
/// Exit status: 1 if that grant isn't the holder's any more.
#[derive(Debug, clap::Args)]
pub(crate) struct ForceUnlockArgs {
    /// The name of the lock
    #[arg(value_parser = key)]
    pub(crate) key: String,

    /// The token of the grant, from `hapax ps`: a later holder isn't harmed
    #[arg(long, value_name = "N")]
    pub(crate) token: u64,

    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Where the locks lie; if this isn't given, HAPAX_STORE is asked
    ///
    /// For the processes of one machine it is a SQLite file on a local disk: a path, or sqlite:PATH.
    ///
    /// For those of many machines it is a Redis server, 7 or later: redis://[user@]host[:port][/database], rediss:// for TLS,
    /// several hosts with commas between them for a cluster, or redis+sentinel://host[,host]/name. The password is that of the
    /// variable REDISCLI_AUTH, unless there is one in the URL, as user:password@.
    ///
    /// A ? and settings may follow, with & between them: namespace=NAME, where the locks are others than those of all
    /// other namespaces; grace=SECS, for which time nothing is granted after the server has begun anew, instead of the longest
    /// lease that there was; for TLS cacert=FILE, whom to trust, and cert=FILE and key=FILE, what to show. What has a meaning
    /// in URLs is written as % and two digits.
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<OsString>,
}

impl Args {
    /// Reads the command line. What has nothing to do but to show a text is done here.
    pub(crate) fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            let text = error.to_string();
            match secret::hide(&text) {
                // Nobody has to listen.
                Cow::Borrowed(_) => drop(error.print()),
                Cow::Owned(text) => say(text.trim_end()),
            }
            if error.use_stderr() {
                Exit::Status(USAGE)
            } else {
                Exit::OK
            }
        })
    }
}

impl LockArgs {
    /// What is to be executed.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        match &self.shell_command {
            // Not $SHELL: that differs between cron and people.
            Some(text) => vec!["/bin/sh".into(), "-c".into(), text.clone()],
            // After a `--` before KEY, a second one arrives as a word; no program is called that.
            None if self.command[0] == "--" => self.command[1..].to_vec(),
            None => self.command.clone(),
        }
    }
}

fn key(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        Err("a key has at least one character")
    } else {
        Ok(text.to_owned())
    }
}

/// A time that may have a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "it isn't a number of seconds".to_owned())?;
    let time = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    // Nobody sees the difference, and it can be added to a moment.
    Ok(time.min(LONG))
}
