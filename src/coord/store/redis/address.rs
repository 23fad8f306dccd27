//! Where a store is, as its URL says it.

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::coord::error::Fault;

/// Where the server of a store is, or those who know.
#[derive(Clone)]
pub(super) struct Address {
    /// Servers, of which any may be the one, or send there; or sentinels.
    pub(super) nodes: Vec<ConnectionInfo>,
    /// What sentinels call the server, and how it is spoken to.
    pub(super) watched: Option<Watched>,
}

#[derive(Clone)]
pub(super) struct Watched {
    pub(super) name: String,
    /// At some place.
    pub(super) server: ConnectionInfo,
}

/// Who connects, if the URL doesn't say it.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// Of the sentinels.
    pub(super) sentinel_password: Option<String>,
    #[cfg(feature = "coord-redis-tls")]
    pub(super) certificates: Option<redis::TlsCertificates>,
}

impl Address {
    /// Of `scheme://[user[:password]@]host[:port][,host[:port]…][/database]`, where sentinels stand before what they call
    /// the server: `scheme+sentinel://…/name[/database]`.
    ///
    /// Or of `unix:///path[?db=database]`.
    pub(super) fn parse(url: &str, credentials: &Credentials) -> Result<Self, Fault> {
        if is_socket(url) {
            let info = url.into_connection_info();
            let info = info.map_err(|error| says(format!("the path of a socket: {error}")))?;
            return Ok(Self {
                nodes: vec![credentials.complete(info)?],
                watched: None,
            });
        }
        let url = Url::split(url)?;
        let (scheme, sentinel) = match url.scheme.strip_suffix("+sentinel") {
            Some(scheme) => (scheme, true),
            None => (url.scheme, false),
        };
        if !matches!(scheme, "redis" | "rediss" | "valkey" | "valkeys") {
            return Err(says(format!("this is no URL of a Redis server: {SHAPE}")));
        }
        let hosts = || url.hosts.split(',');
        if !sentinel {
            let nodes = hosts().map(|host| {
                let login = url.login.unwrap_or_default();
                let info = info(&format!("{scheme}://{login}{host}{}", url.rest))?;
                credentials.complete(info)
            });
            let nodes = nodes.collect::<Result<_, _>>()?;
            return Ok(Self {
                nodes,
                watched: None,
            });
        }
        let path = url.rest.trim_start_matches('/');
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            let text = "the URL of sentinels ends with what they call the server";
            return Err(says(format!("{text}: {SHAPE}")));
        }
        let nodes = hosts().map(|host| {
            let host = if has_port(host) {
                host.to_owned()
            } else {
                format!("{host}:26379")
            };
            let info = info(&format!("{scheme}://{host}"))?;
            credentials.complete_sentinel(info)
        });
        let login = url.login.unwrap_or_default();
        let server = info(&format!("{scheme}://{login}localhost/{database}"))?;
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            watched: Some(Watched {
                name: name.to_owned(),
                server: credentials.complete(server)?,
            }),
        })
    }
}

pub(super) fn is_socket(url: &str) -> bool {
    url.starts_with("unix://")
}

const SHAPE: &str = "it is redis://[user[:password]@]host[:port][,…][/database], with rediss:// for TLS, \
     unix:///path, or redis+sentinel://[user[:password]@]host[:port][,…]/name[/database]";

/// The parts of a URL. Errors say nothing of what is in it, since whoever mistakes its shape may have written a password anywhere.
struct Url<'a> {
    scheme: &'a str,
    /// With the `@`.
    login: Option<&'a str>,
    hosts: &'a str,
    rest: &'a str,
}

impl<'a> Url<'a> {
    fn split(url: &'a str) -> Result<Self, Fault> {
        let (scheme, after) = url
            .split_once("://")
            .ok_or_else(|| says(format!("this is no URL: {SHAPE}")))?;
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (login, hosts) = authority.split_at(at);
        if rest.contains('@') {
            let text = "there is an @ after the host of the URL; in names and passwords / is written %2F, ? %3F and # %23";
            return Err(says(format!("{text}: {SHAPE}")));
        }
        if hosts.split(',').any(str::is_empty) {
            return Err(says(format!("the URL lacks a host: {SHAPE}")));
        }
        let login = (!login.is_empty()).then_some(login);
        Ok(Self {
            scheme,
            login,
            hosts,
            rest,
        })
    }
}

fn info(url: &str) -> Result<ConnectionInfo, Fault> {
    let info = url.into_connection_info();
    let info = info.map_err(|error| says(format!("the URL: {error}; {SHAPE}")))?;
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn has_port(host: &str) -> bool {
    // Not within the brackets of an address of the sixth version.
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'))
}

impl Credentials {
    #[cfg(feature = "coord-redis-tls")]
    pub(super) fn certificates(&mut self) -> &mut redis::TlsCertificates {
        let none = || redis::TlsCertificates {
            client_tls: None,
            root_cert: None,
        };
        self.certificates.get_or_insert_with(none)
    }

    fn complete(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Fault> {
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        self.certify(info.set_redis_settings(settings))
    }

    fn complete_sentinel(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Fault> {
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(password) = &self.sentinel_password {
            settings = settings.set_password(password);
        }
        self.certify(info.set_redis_settings(settings))
    }

    #[cfg(feature = "coord-redis-tls")]
    fn certify(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Fault> {
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            provide_cryptography();
        }
        match (&self.certificates, info.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                let client = redis::Client::build_with_tls(info, certificates.clone());
                let client = client.map_err(|error| says(format!("the certificates: {error}")))?;
                Ok(client.get_connection_info().clone())
            }
            (Some(_), _) => Err(says("certificates are for URLs with rediss://".to_owned())),
            (None, _) => Ok(info),
        }
    }

    #[cfg(not(feature = "coord-redis-tls"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "with TLS there is something to do"
    )]
    fn certify(&self, info: ConnectionInfo) -> Result<ConnectionInfo, Fault> {
        Ok(info)
    }
}

/// The same server at another place, as a cluster or a sentinel tells it: a host, which is the same if it is empty, and a
/// port.
pub(super) fn elsewhere(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = |before: &str| {
        if host.is_empty() {
            before.to_owned()
        } else {
            host.to_owned()
        }
    };
    let addr = match info.addr().clone() {
        ConnectionAddr::TcpTls {
            host: before,
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: host(&before),
            port,
            insecure,
            tls_params,
        },
        ConnectionAddr::Tcp(before, _) => ConnectionAddr::Tcp(host(&before), port),
        _ => ConnectionAddr::Tcp(host(""), port),
    };
    info.clone().set_addr(addr)
}

/// Sees to it that rustls has something to compute with, unless the program has chosen that. rustls panics without it, also if
/// several could be chosen, which other crates may bring about.
#[cfg(feature = "coord-redis-tls")]
fn provide_cryptography() {
    use rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none() {
        // Somebody else has just done it, if that fails.
        let _ = ring::default_provider().install_default();
    }
}

pub(super) fn says(text: String) -> Fault {
    Fault::Store(text.into())
}
