//! A sentinel, which makes a replica the primary when that is gone.

use super::process::Process;
use super::{Server, Value, common, until};

/// One that decides alone, and soon.
pub struct Sentinel {
    process: Process,
}

impl Sentinel {
    /// What it calls the primary.
    pub const NAME: &'static str = "primary";

    /// One that looks after a primary and the replicas that it has already.
    pub fn start(primary: &Server) -> Self {
        let name = Self::NAME;
        let process = Process::start(
            &["--sentinel"],
            |_| Vec::new(),
            None,
            |directory, port| {
                let mut text = common(directory);
                // These are for servers.
                text = text
                    .lines()
                    .filter(|line| !line.starts_with("repl-") && !line.starts_with("save"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                text += &format!(
                    "port {port}\nsentinel monitor {name} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {name} 300\n\
                 sentinel failover-timeout {name} 2000\n",
                    primary.port()
                );
                if let Some(password) = &primary.setup.password {
                    text += &format!("sentinel auth-pass {name} {password}\n");
                }
                text
            },
        );
        let sentinel = Self { process };
        let replicas = primary.info("replication", "connected_slaves");
        until("the sentinel knows all", || {
            let known = sentinel.command(&["SENTINEL", "REPLICAS", name]).list();
            // It doesn't promote who hasn't told it about itself.
            let is_known = |replica: &Value| {
                let words: Vec<_> = replica.clone().list().iter().map(Value::text).collect();
                let is_up = |pair: &[String]| pair == ["master-link-status", "ok"];
                words.as_chunks::<2>().0.iter().any(|pair| is_up(pair))
            };
            known.len().to_string() == replicas && known.iter().all(is_known)
        });
        sentinel
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The port of who is the primary now.
    pub fn primary(&self) -> u16 {
        let address = self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]);
        address.list()[1].text().parse().unwrap()
    }

    /// Waits until that one is the primary.
    pub fn until_promoted(&self, replica: &Server) {
        until("the replica is promoted", || {
            self.primary() == replica.port() && replica.info("replication", "role") == "master"
        });
    }

    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Value {
        let mut connection = self.process.connect().unwrap();
        connection.command(words).unwrap()
    }
}
