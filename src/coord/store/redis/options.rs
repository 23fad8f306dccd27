//! How a store on a Redis server is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::address::{Credentials, is_socket, says};
use super::{RedisEngine, RedisStore};
use crate::coord::CoordError;
use crate::coord::error::{Fault, Operation};
use crate::coord::session::Session;

/// How a [`RedisStore`] is opened.
///
/// # Examples
///
/// ```no_run
/// use hapax::coord::RedisStore;
/// use std::time::Duration;
///
/// let options = RedisStore::options().namespace("reports").session_lease(Duration::from_secs(10));
/// let store = options.password("secret").open("redis://redis.example.org")?;
/// # Ok::<_, hapax::coord::CoordError>(())
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    /// The one that everybody has, if it is none.
    pub(super) namespace: Option<String>,
    pub(super) credentials: Credentials,
    pub(super) session_lease: Duration,
    pub(super) grace: Option<Duration>,
    pub(super) request_timeout: Duration,
    pub(super) busy_for: Duration,
    pub(super) allow_eviction: bool,
    pub(super) label: Option<String>,
    pub(super) command: Option<String>,
}

/// Nobody lives to see more, and moments have an end.
const LONGEST: Duration = Duration::from_secs(1 << 30);

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            credentials: Credentials::default(),
            session_lease: Duration::from_secs(30),
            grace: None,
            request_timeout: Duration::from_secs(2),
            busy_for: Duration::from_secs(5),
            allow_eviction: false,
            label: None,
            command: None,
        }
    }
}

impl RedisOptions {
    /// Which namespace it is: stores of different ones know nothing of each other. In a cluster each may lie on another server.
    ///
    /// # Examples
    ///
    /// See [`RedisOptions`].
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Who connects, unless that is the default user. It is used instead of what the URL says.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let options = RedisStore::options().username("reports").password(&std::env::var("SECRET")?);
    /// let store = options.open("redis://localhost")?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn username(mut self, username: &str) -> Self {
        self.credentials.username = Some(username.to_owned());
        self
    }

    /// With which password. It is used instead of what the URL says, and is never shown, in errors or elsewhere.
    ///
    /// # Examples
    ///
    /// See [`username`](Self::username).
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.credentials.password = Some(password.to_owned());
        self
    }

    /// With which password sentinels are asked, if they want one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let options = RedisStore::options().sentinel_password("secret");
    /// let store = options.open("redis+sentinel://one,two,three/main")?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.credentials.sentinel_password = Some(password.to_owned());
        self
    }

    /// How long what is held for the [session](crate::coord::Lease::Session) lasts when this process doesn't renew it any more; thirty
    /// seconds if this isn't called. It is renewed each third of that. On a new server nothing is granted for as long as that,
    /// see [`grace`](Self::grace).
    ///
    /// # Examples
    ///
    /// See [`RedisOptions`].
    #[must_use]
    pub fn session_lease(mut self, time: Duration) -> Self {
        self.session_lease = time;
        self
    }

    /// For how long nothing is granted after the server was started again, was emptied, or has taken the place of another one:
    /// others may still hold what it has forgotten. A namespace that it knows nothing of may be new or forgotten, so that
    /// holds for the first grant as well. If this isn't called, it is the longest lease that may not have ended, as far as the
    /// server knows, or that of a [session](Self::session_lease), if that is longer.
    ///
    /// It is for what this store is granted, so all who share locks should say the same. Zero is for servers whose locks don't
    /// matter any more then, and for tests.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    /// use std::time::Duration;
    ///
    /// let store = RedisStore::options().grace(Duration::ZERO).open("redis://localhost")?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(time);
        self
    }

    /// How long an answer of the server may take; two seconds if this isn't called. Then it is asked anew. For renewals it is
    /// at most a third of the lease.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    /// use std::time::Duration;
    ///
    /// let options = RedisStore::options().request_timeout(Duration::from_millis(500));
    /// let store = options.busy_for(Duration::from_secs(1)).open("redis://localhost")?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time.min(LONGEST);
        self
    }

    /// For how long a call tries to reach the server, and those that have taken its place, before it ends with an error; five
    /// seconds if this isn't called.
    ///
    /// # Examples
    ///
    /// See [`request_timeout`](Self::request_timeout).
    #[must_use]
    pub fn busy_for(mut self, time: Duration) -> Self {
        self.busy_for = time.min(LONGEST);
        self
    }

    /// Opens it though the server is set to throw things away when its memory is full (`maxmemory-policy`). A lock that is
    /// thrown away is free: two may hold it, until the first one learns within a second that it has lost it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let store = RedisStore::options().allow_eviction(true).open("redis://localhost")?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn allow_eviction(mut self, allow_eviction: bool) -> Self {
        self.allow_eviction = allow_eviction;
        self
    }

    /// What this process calls itself where others [list](crate::coord::Store::list) who holds and waits.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let options = RedisStore::options().label("nightly").command("make all");
    /// let store = options.open("redis://localhost")?;
    /// # Ok::<_, hapax::coord::CoordError>(())
    /// ```
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// What this process runs, for the same purpose.
    ///
    /// # Examples
    ///
    /// See [`label`](Self::label).
    #[must_use]
    pub fn command(mut self, command: &str) -> Self {
        self.command = Some(command.to_owned());
        self
    }

    /// Trusts servers whose certificates are signed by one of these, in PEM, instead of those that the system trusts.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let options = RedisStore::options().root_certificate(&std::fs::read("ca.pem")?);
    /// let store = options.open("rediss://redis.example.org")?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "coord-redis-tls")]
    #[must_use]
    pub fn root_certificate(mut self, pem: &[u8]) -> Self {
        self.credentials.certificates().root_cert = Some(pem.to_vec());
        self
    }

    /// Shows the server a certificate, and proves it with that key; both in PEM.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use hapax::coord::RedisStore;
    ///
    /// let (certificate, key) = (std::fs::read("client.pem")?, std::fs::read("client.key")?);
    /// let options = RedisStore::options().client_certificate(&certificate, &key);
    /// let store = options.open("rediss://redis.example.org")?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "coord-redis-tls")]
    #[must_use]
    pub fn client_certificate(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.credentials.certificates().client_tls = Some(redis::ClientTlsConfig {
            client_cert: certificate.to_vec(),
            client_key: key.to_vec(),
        });
        self
    }

    /// Opens the store at that address.
    ///
    /// # Errors
    ///
    /// Those of [`RedisStore::open`], and [`Store`](CoordError::Store) if the namespace is empty or has a brace in it, or if the
    /// URL has settings that aren't known.
    ///
    /// # Examples
    ///
    /// See [`RedisOptions`].
    pub fn open(mut self, url: &str) -> Result<RedisStore, CoordError> {
        let at = |fault: Fault| fault.at(None, Operation::Open);
        let address = self.take_settings(url).map_err(at)?;
        let engine = RedisEngine::open(&address, self).map_err(at)?;
        let engine = Arc::new(engine);
        let session = Session::of(Arc::<RedisEngine>::clone(&engine));
        Ok(RedisStore { session, engine })
    }

    /// What follows the `?` of a URL, unless it is said here otherwise. Answers with what is an address to the library that
    /// speaks to the server.
    fn take_settings(&mut self, url: &str) -> Result<String, Fault> {
        let Some((address, settings)) = url.split_once('?').filter(|_| !is_socket(url)) else {
            return Ok(url.to_owned());
        };
        let mut address = address.to_owned();
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8();
            match (name, value) {
                ("namespace", Ok(value)) => {
                    self.namespace.get_or_insert_with(|| value.into_owned());
                }
                ("protocol", Ok(_)) => address += &format!("?{setting}"),
                ("grace", Ok(value)) => {
                    let seconds = value.parse().ok();
                    let time = seconds.and_then(|time| Duration::try_from_secs_f64(time).ok());
                    let time = time.ok_or_else(|| {
                        says("the grace in the URL is no number of seconds".to_owned())
                    })?;
                    self.grace.get_or_insert(time);
                }
                #[cfg(feature = "coord-redis-tls")]
                ("cacert" | "cert" | "key", Ok(file)) => self.take_file(name, &file)?,
                _ => {
                    let text = "what follows the `?` of a URL is namespace=NAME, grace=SECONDS, protocol=VERSION, or with \
                                the feature coord-redis-tls cacert=FILE, cert=FILE or key=FILE, with \
                                `&` between them";
                    return Err(says(text.to_owned()));
                }
            }
        }
        Ok(address)
    }

    #[cfg(feature = "coord-redis-tls")]
    fn take_file(&mut self, name: &str, file: &str) -> Result<(), Fault> {
        let pem = std::fs::read(file).map_err(|error| says(format!("{file}: {error}")))?;
        let certificates = self.credentials.certificates();
        if name == "cacert" {
            certificates.root_cert.get_or_insert(pem);
            return Ok(());
        }
        let client = certificates
            .client_tls
            .get_or_insert(redis::ClientTlsConfig {
                client_cert: Vec::new(),
                client_key: Vec::new(),
            });
        let part = if name == "cert" {
            &mut client.client_cert
        } else {
            &mut client.client_key
        };
        if part.is_empty() {
            *part = pem;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisOptions {
    /// Without passwords and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("namespace", &self.namespace)
            .field("session_lease", &self.session_lease)
            .field("grace", &self.grace)
            .field("request_timeout", &self.request_timeout)
            .field("busy_for", &self.busy_for)
            .field("allow_eviction", &self.allow_eviction)
            .field("label", &self.label)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}
