//! Which store is meant, and what all kinds of them have in common.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, PathBuf};
use std::time::Duration;

#[cfg(feature = "redis")]
use hapax::coord::RedisStore;
use hapax::coord::{
    CoordError, Lock, LockGuard, Permit, Semaphore, SqliteStore, Status, Store as _,
};
use hapax::sync::Event;

use crate::args::StoreArgs;
use crate::exit::{Failure, STORE};
#[cfg(feature = "redis")]
use crate::redis_url::RedisUrl;

/// The variable that names the store if the command line doesn't.
pub(crate) const VARIABLE: &str = "HAPAX_STORE";

#[cfg(feature = "redis")]
const KINDS: &str = "the path of a file, sqlite:PATH, or the URL of a Redis server";
#[cfg(not(feature = "redis"))]
const KINDS: &str =
    "the path of a file, or sqlite:PATH; this hapax was built without Redis servers";

/// Where the locks lie.
pub(crate) enum Url {
    Sqlite {
        path: PathBuf,
        /// The same for processes in other directories.
        text: OsString,
    },
    #[cfg(feature = "redis")]
    Redis(RedisUrl),
}

impl Url {
    /// What the command line says, or else the environment. There is no default: one that depends on the environment would
    /// give cron and a shell different locks.
    pub(crate) fn of(args: &StoreArgs) -> Result<Self, Failure> {
        match args.store.clone().or_else(|| env::var_os(VARIABLE)) {
            Some(text) => Self::parse(&text),
            None => Err(Failure::usage(format_args!(
                "no store: give --store URL, or set {VARIABLE}"
            ))),
        }
    }

    fn parse(text: &OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let scheme = scheme(bytes);
        if let Some((kind, _)) = text.to_str().and_then(|text| text.split_once(':'))
            && scheme.is_none()
            && ["redis", "rediss", "valkey", "valkeys", "unix"].contains(&kind)
        {
            return Err(Failure::usage(format_args!(
                "a URL begins with {kind}://, and the path of a file of that name with ./"
            )));
        }
        let path = match scheme {
            None => text,
            Some("sqlite") => OsStr::from_bytes(&bytes["sqlite:".len()..]),
            #[cfg(feature = "redis")]
            Some(scheme) if RedisUrl::is_one(scheme) => {
                let text = str::from_utf8(bytes)
                    .map_err(|_| Failure::usage("the Redis URL isn't text in UTF-8"))?;
                return RedisUrl::parse(text).map(Self::Redis);
            }
            Some(scheme) => {
                return Err(Failure::usage(format_args!(
                    "there is no store of the kind `{scheme}`: give {KINDS}"
                )));
            }
        };
        if path.is_empty() {
            return Err(Failure::usage("the store has no path"));
        }
        let path = path::absolute(path)
            .map_err(|error| Failure::new(STORE, format_args!("no directory: {error}")))?;
        let mut text = scheme.map_or_else(OsString::new, |scheme| format!("{scheme}:").into());
        text.push(&path);
        Ok(Self::Sqlite { path, text })
    }

    /// For other processes.
    pub(crate) fn text(&self) -> &OsStr {
        match self {
            Self::Sqlite { text, .. } => text,
            #[cfg(feature = "redis")]
            Self::Redis(url) => url.text(),
        }
    }

    /// How long what is held there lasts if it isn't renewed. None if that has no end; with `--ttl` it always has.
    pub(crate) fn lease(&self, ttl: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Sqlite { .. } => ttl,
            #[cfg(feature = "redis")]
            Self::Redis(_) => Some(RedisUrl::lease(ttl)),
        }
    }

    /// Opens it for somebody who takes locks, with the [`lease`](Self::lease) that they have there. A file is made if it isn't
    /// there.
    #[cfg_attr(
        not(feature = "redis"),
        expect(unused_variables, reason = "a file is opened without one")
    )]
    pub(crate) fn open(
        &self,
        lease: Option<Duration>,
        label: &str,
        command: &str,
    ) -> Result<Store, Failure> {
        match self {
            Self::Sqlite { path, .. } => {
                let options = SqliteStore::options().label(label).command(command);
                sqlite(options.open(path))
            }
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                let mut options = url.options()?.label(label).command(command);
                if let Some(lease) = lease {
                    options = options.session_lease(lease);
                }
                url.open(options).map(Store::Redis)
            }
        }
    }

    /// Opens it for somebody who looks.
    pub(crate) fn open_existing(&self) -> Result<Store, Failure> {
        match self {
            Self::Sqlite { path, .. } => sqlite(SqliteStore::options().create(false).open(path)),
            #[cfg(feature = "redis")]
            Self::Redis(url) => url.open(url.options()?).map(Store::Redis),
        }
    }
}

fn sqlite(opened: Result<SqliteStore, CoordError>) -> Result<Store, Failure> {
    let store = opened.map_err(|error| Failure::of(&error, STORE))?;
    Ok(Store::Sqlite(store))
}

/// What is before the colon if this is a URL and not a path.
fn scheme(text: &[u8]) -> Option<&str> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = text.split_at(colon);
    let scheme = str::from_utf8(scheme).ok()?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    // A file can have a colon in its name.
    let is_url = scheme == "sqlite" || rest.starts_with(b"://");
    (is_scheme && is_url).then_some(scheme)
}

/// An open store.
#[derive(Clone)]
pub(crate) enum Store {
    Sqlite(SqliteStore),
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

impl Store {
    pub(crate) fn lock(&self, key: &str) -> Lock {
        match self {
            Self::Sqlite(store) => Lock::new(store, key),
            #[cfg(feature = "redis")]
            Self::Redis(store) => Lock::new(store, key),
        }
    }

    pub(crate) fn semaphore(&self, key: &str, permits: u32) -> Semaphore {
        match self {
            Self::Sqlite(store) => Semaphore::new(store, key, permits),
            #[cfg(feature = "redis")]
            Self::Redis(store) => Semaphore::new(store, key, permits),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<Status>, CoordError> {
        match self {
            Self::Sqlite(store) => store.list(),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.list(),
        }
    }

    pub(crate) fn force_unlock(&self, key: &str, token: u64) -> Result<(), CoordError> {
        match self {
            Self::Sqlite(store) => store.force_unlock(key, token),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.force_unlock(key, token),
        }
    }

    pub(crate) fn close(&self) -> Result<(), CoordError> {
        match self {
            Self::Sqlite(store) => store.close(),
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.close(),
        }
    }

    /// What a child has to inherit to keep the session alive. It is inherited by every child until it is dropped.
    pub(crate) fn inheritable(&self) -> Result<Vec<OwnedFd>, CoordError> {
        match self {
            Self::Sqlite(store) => store.inheritable(),
            #[cfg(feature = "redis")]
            Self::Redis(_) => Ok(Vec::new()),
        }
    }

    /// Whether a child can keep what is held after hapax was killed.
    pub(crate) fn survives_hapax(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            #[cfg(feature = "redis")]
            Self::Redis(_) => false,
        }
    }
}

/// Something that is held.
pub(crate) enum Grant {
    Lock(LockGuard),
    Permit(Permit),
}

impl Grant {
    pub(crate) fn fencing_token(&self) -> u64 {
        match self {
            Self::Lock(guard) => guard.fencing_token(),
            Self::Permit(permit) => permit.fencing_token(),
        }
    }

    /// None if there is no end; zero if it is lost.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Lock(guard) => guard.remaining(),
            Self::Permit(permit) => permit.remaining(),
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Lock(guard) => guard.is_valid(),
            Self::Permit(permit) => permit.is_valid(),
        }
    }

    pub(crate) fn lost(&self) -> &Event {
        match self {
            Self::Lock(guard) => guard.lost(),
            Self::Permit(permit) => permit.lost(),
        }
    }

    pub(crate) fn release(self) -> Result<(), CoordError> {
        match self {
            Self::Lock(guard) => guard.release(),
            Self::Permit(permit) => permit.release(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn path(text: &str) -> Result<PathBuf, Failure> {
        match Url::parse(text.as_ref())? {
            Url::Sqlite { path, .. } => Ok(path),
            #[cfg(feature = "redis")]
            Url::Redis(_) => panic!("{text} is a server"),
        }
    }

    #[test]
    fn a_store_is_a_path_or_a_url() {
        assert_eq!(path("/x/locks").unwrap(), PathBuf::from("/x/locks"));
        assert_eq!(path("sqlite:/x/locks").unwrap(), PathBuf::from("/x/locks"));
        assert_eq!(path("/x/a:b").unwrap(), PathBuf::from("/x/a:b"));
        assert!(path("mysql://host/0").is_err());
        assert!(path("sqlite:").is_err());
        assert!(path("").is_err());
    }

    #[test]
    fn what_others_get_is_absolute_and_of_the_same_kind() {
        let here = env::current_dir().unwrap();
        let text = |text: &str| Url::parse(text.as_ref()).unwrap().text().to_owned();
        assert_eq!(text("sqlite:/x/locks"), "sqlite:/x/locks");
        assert_eq!(text("/x/locks"), "/x/locks");
        assert_eq!(text("locks"), here.join("locks"));
        let colon = OsString::from_vec(b"/x/\xff".to_vec());
        assert_eq!(Url::parse(&colon).unwrap().text(), colon);
    }
}
