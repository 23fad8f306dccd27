//! The URL of a Redis server: its address, and settings of hapax that follow a `?`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{self, PathBuf};
use std::time::Duration;

use hapax::coord::{RedisOptions, RedisStore};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::args::seconds;
use crate::exit::{Failure, STORE};

/// The variable with the password if the URL has none. It is that of `redis-cli`.
const PASSWORD: &str = "REDISCLI_AUTH";
/// How long what is held lasts if it isn't renewed, and nothing else is said.
const LEASE: Duration = Duration::from_secs(30);
const SETTINGS: &str = "what follows the `?` of a Redis URL is namespace=NAME, grace=SECS, cacert=FILE, cert=FILE or \
                        key=FILE, with `&` between them";
/// What needn't be encoded in a setting.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b'_');

/// Where a server is, and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    /// As the library takes it.
    address: String,
    namespace: Option<String>,
    grace: Option<Duration>,
    /// Files: whom to trust, and what to show.
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    /// The same for processes in other directories.
    text: OsString,
}

impl RedisUrl {
    pub(crate) fn is_one(scheme: &str) -> bool {
        let scheme = scheme.strip_suffix("+sentinel").unwrap_or(scheme);
        matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys")
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (address, settings) = text.split_once('?').unwrap_or((text, ""));
        let mut url = Self {
            address: address.to_owned(),
            namespace: None,
            grace: None,
            cacert: None,
            cert: None,
            key: None,
            text: OsString::new(),
        };
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            url.set(setting)?;
        }
        if url.cert.is_some() != url.key.is_some() {
            return Err(Failure::usage(
                "the Redis URL has one of cert and key, and both belong together",
            ));
        }
        url.text = url.for_others();
        Ok(url)
    }

    fn set(&mut self, setting: &str) -> Result<(), Failure> {
        // Not with what was found: it may be a part of a password that wasn't encoded.
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| Failure::usage(SETTINGS))?;
        let bytes: Vec<u8> = percent_decode_str(value).collect();
        match name {
            "namespace" => self.namespace = Some(namespace(bytes)?),
            "grace" => self.grace = Some(grace(&bytes)?),
            "cacert" => self.cacert = Some(file(name, bytes)?),
            "cert" => self.cert = Some(file(name, bytes)?),
            "key" => self.key = Some(file(name, bytes)?),
            _ => return Err(Failure::usage(SETTINGS)),
        }
        Ok(())
    }

    fn for_others(&self) -> OsString {
        let grace = self.grace.map(|grace| grace.as_secs_f64().to_string());
        let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.as_os_str().to_owned());
        let settings = [
            ("namespace", self.namespace.clone().map(OsString::from)),
            ("grace", grace.map(OsString::from)),
            ("cacert", file(&self.cacert)),
            ("cert", file(&self.cert)),
            ("key", file(&self.key)),
        ];
        let mut text = self.address.clone();
        let mut sign = '?';
        for (name, value) in settings {
            if let Some(value) = value {
                let value = percent_encode(value.as_bytes(), ENCODED);
                text += &format!("{sign}{name}={value}");
                sign = '&';
            }
        }
        text.into()
    }

    /// For other processes. A password is in it if it was in what was parsed, and only then.
    pub(crate) fn text(&self) -> &OsString {
        &self.text
    }

    /// How long what is held lasts if it isn't renewed.
    pub(crate) fn lease(ttl: Option<Duration>) -> Duration {
        ttl.unwrap_or(LEASE)
    }

    pub(crate) fn options(&self) -> Result<RedisOptions, Failure> {
        let mut options = RedisStore::options();
        if let Some(namespace) = &self.namespace {
            options = options.namespace(namespace);
        }
        if let Some(grace) = self.grace {
            options = options.grace(grace);
        }
        if let Some(file) = &self.cacert {
            options = options.root_certificate(&read(file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            options = options.client_certificate(&read(certificate)?, &read(key)?);
        }
        // As for redis-cli, an empty one is none.
        let password = env::var_os(PASSWORD).filter(|password| !password.is_empty());
        if let Some(password) = password.filter(|_| !self.has_password()) {
            let password = password
                .to_str()
                .ok_or_else(|| Failure::usage(format_args!("{PASSWORD} isn't text in UTF-8")))?;
            options = options.password(password);
        }
        Ok(options)
    }

    pub(crate) fn open(&self, options: RedisOptions) -> Result<RedisStore, Failure> {
        let store = options.open(&self.address);
        store.map_err(|error| Failure::of(&error, STORE))
    }

    fn has_password(&self) -> bool {
        let login = self.address.split_once("://").map_or("", |(_, rest)| rest);
        let login = login.rsplit_once('@').map_or("", |(login, _)| login);
        login
            .split_once(':')
            .is_some_and(|(_, password)| !password.is_empty())
    }
}

fn namespace(bytes: Vec<u8>) -> Result<String, Failure> {
    let name = String::from_utf8(bytes).ok();
    let name = name.filter(|name| !name.is_empty() && !name.contains(['{', '}']));
    name.ok_or_else(|| Failure::usage("the namespace of a Redis URL is a text without braces"))
}

fn grace(bytes: &[u8]) -> Result<Duration, Failure> {
    let text = String::from_utf8_lossy(bytes);
    seconds(&text)
        .map_err(|error| Failure::usage(format_args!("the grace of the Redis URL: {error}")))
}

fn file(name: &str, bytes: Vec<u8>) -> Result<PathBuf, Failure> {
    path::absolute(OsString::from_vec(bytes))
        .map_err(|error| Failure::usage(format_args!("the {name} of the Redis URL: {error}")))
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| {
        Failure::new(
            STORE,
            format_args!("can't read {}: {error}", file.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    #[test]
    fn settings_follow_the_address() {
        let url = parsed("redis://host/0?namespace=two%20words&grace=0.5&cacert=/x/c++.pem");
        assert_eq!(url.address, "redis://host/0");
        assert_eq!(url.namespace.as_deref(), Some("two words"));
        assert_eq!(url.grace, Some(Duration::from_millis(500)));
        assert_eq!(url.cacert, Some(PathBuf::from("/x/c++.pem")));
        for text in ["redis://host?", "rediss+sentinel://a,b/main/3"] {
            assert_eq!(parsed(text).address, text.trim_end_matches('?'));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for settings in [
            "namespase=x",
            "namespace",
            "namespace=",
            "namespace={x}",
            "namespace=%ff",
            "grace=soon",
            "grace=-1",
            "cacert=",
            "cert=/x",
            "key=/x",
            "b@host",
        ] {
            assert!(
                RedisUrl::parse(&format!("redis://host?{settings}")).is_err(),
                "{settings}"
            );
        }
    }

    #[test]
    fn others_get_the_same_from_everywhere() {
        let here = env::current_dir().unwrap();
        let url = parsed("rediss://me:pw@host?grace=1.5&cacert=a b.pem&namespace=x%26y");
        let text = url.text().to_str().unwrap();
        let here = here.to_str().unwrap();
        assert_eq!(
            text,
            format!("rediss://me:pw@host?namespace=x%26y&grace=1.5&cacert={here}/a%20b.pem")
        );
        let again = parsed(text);
        assert!(again == url);
    }

    #[test]
    fn a_password_is_seen() {
        for (text, expected) in [
            ("redis://host:1", false),
            ("redis://me@host:1", false),
            ("redis://:@host", false),
            ("redis://:x@host", true),
            ("redis+sentinel://me:x@a:1,b:2/name", true),
        ] {
            assert_eq!(parsed(text).has_password(), expected, "{text}");
        }
    }
}
