//! That the servers of these tests do what the tests think they do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

use crate::redis_server::{Cluster, Proxy, Sentinel, Server, Value, namespace, shared, until};

crate::trials! {
    a_server_starts_soon,
    one_server_is_shared,
    data_outlives_a_kill_if_it_is_kept,
    a_paused_server_says_nothing,
    users_and_passwords,
    a_server_with_certificates,
    a_replica_lags_and_is_promoted,
    a_sentinel_promotes,
    slots_move_in_a_cluster,
    a_proxy_loses_what_it_is_told_to,
    servers_end_with_a_test_program_that_is_killed,
}

/// The argument that makes this program start a server and wait until it is killed.
pub(crate) const ROLE: &str = "server";

/// What that program does.
pub(crate) fn run() {
    println!("{}", shared().pid());
    let _ = std::io::stdin().read(&mut [0]);
}

fn a_server_starts_soon() {
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let began = Instant::now();
            let _server = Server::start();
            began.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[0] < Duration::from_millis(500), "{times:?}");
}

fn one_server_is_shared() {
    assert_eq!(shared().port(), shared().port());
    let (one, other) = (namespace(), namespace());
    assert_ne!(one, other);
    shared().command(&["SET", &one, "1"]);
    assert_eq!(shared().keys(&one), std::slice::from_ref(&one));
    assert_eq!(shared().try_command(&["GET", &other]), Ok(Value::Nil));
    shared().command(&["DEL", &one]);
}

fn data_outlives_a_kill_if_it_is_kept() {
    let kept = Server::options().kept().start();
    let not = Server::start();
    for server in [&kept, &not] {
        server.command(&["SET", "key", "value"]);
        server.kill();
        assert!(TcpStream::connect(server.address()).is_err());
        server.restart();
    }
    assert_eq!(kept.command(&["GET", "key"]).text(), "value");
    assert_eq!(not.command(&["GET", "key"]), Value::Nil);
    kept.restart_empty();
    assert_eq!(kept.command(&["DBSIZE"]).integer(), 0);
    assert!(TcpStream::connect(kept.address()).is_ok());
}

fn a_paused_server_says_nothing() {
    let server = Server::start();
    let mut client = client(&server.address());
    server.pause();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    client.write_all(b"PING\r\n").unwrap();
    assert!(client.read(&mut [0; 9]).is_err());
    server.resume();
    client.set_read_timeout(None).unwrap();
    assert_eq!(line(&mut client), "+PONG");
}

fn users_and_passwords() {
    let server = Server::options()
        .password("secret")
        .user("alice", "hidden", "~a* &* +@all")
        .start();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let mut client = client(&server.address());
    client
        .write_all(b"PING\r\nAUTH alice hidden\r\nGET b\r\n")
        .unwrap();
    assert!(line(&mut client).starts_with("-NOAUTH"));
    assert_eq!(line(&mut client), "+OK");
    assert!(line(&mut client).starts_with("-NOPERM"));
    assert_eq!(
        server.url(),
        format!("redis://:secret@{}", server.address())
    );
}

fn a_server_with_certificates() {
    let server = Server::options().tls().start();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
        ])
        .args(["-connect", &server.address(), "-CAfile"])
        .arg(&server.certificates().authority)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"PING\r\n")
        .unwrap();
    assert_eq!(line(client.stdout.as_mut().unwrap()), "+PONG");
    client.kill().unwrap();
    client.wait().unwrap();
}

fn a_replica_lags_and_is_promoted() {
    let primary = Server::start();
    primary.command(&["SET", "key", "old"]);
    let replica = Server::replica_of(&primary);
    assert_eq!(replica.command(&["GET", "key"]).text(), "old");
    primary.command(&["SET", "key", "new"]);
    until("it is replicated", || {
        replica.command(&["GET", "key"]).text() == "new"
    });
    replica.cut_off();
    primary.command(&["SET", "key", "newer"]);
    assert!(replica.try_command(&["SET", "key", "mine"]).is_err());
    replica.promote();
    assert_eq!(replica.command(&["GET", "key"]).text(), "new");
    replica.command(&["SET", "key", "mine"]);
}

fn a_sentinel_promotes() {
    let primary = Server::options().password("secret").start();
    let replica = Server::replica_of(&primary);
    let sentinel = Sentinel::start(&primary);
    assert_eq!(sentinel.primary(), primary.port());
    primary.kill();
    sentinel.until_promoted(&replica);
}

fn slots_move_in_a_cluster() {
    let cluster = Cluster::start(3);
    let slot = cluster.slot("{x}");
    assert_eq!(slot, cluster.slot("a{x}b"));
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let [old, new] = [from, to].map(|node| &cluster.nodes()[node]);
    old.command(&["MSET", "a{x}", "1", "b{x}", "2"]);
    assert!(
        new.try_command(&["GET", "a{x}"])
            .unwrap_err()
            .starts_with("MOVED")
    );
    let moving = cluster.begin_move(slot, to);
    assert_eq!(moving.left().len(), 2);
    moving.key("a{x}");
    assert!(
        old.try_command(&["GET", "a{x}"])
            .unwrap_err()
            .starts_with("ASK")
    );
    let both = old.try_command(&["MGET", "a{x}", "b{x}"]);
    assert!(both.unwrap_err().starts_with("TRYAGAIN"));
    moving.keys();
    moving.finish();
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(new.command(&["GET", "b{x}"]).text(), "2");
    assert!(
        old.try_command(&["GET", "b{x}"])
            .unwrap_err()
            .starts_with("MOVED")
    );
    cluster.move_slot(slot, from);
    assert_eq!(old.command(&["GET", "a{x}"]).text(), "1");
}

fn a_proxy_loses_what_it_is_told_to() {
    let (server, other) = (Server::start(), Server::start());
    let proxy = Proxy::to(&server);
    let mut subscriber = client(&proxy.address());
    subscriber
        .write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n")
        .unwrap();
    assert_eq!(lines(&mut subscriber, 6).last().unwrap(), ":1");
    server.command(&["PUBLISH", "c", "first"]);
    assert_eq!(lines(&mut subscriber, 7).last().unwrap(), "first");
    proxy.drop_messages();
    server.command(&["PUBLISH", "c", "second"]);
    until("it is dropped", || proxy.dropped() == 1);
    proxy.heal();
    server.command(&["PUBLISH", "c", "third"]);
    assert_eq!(lines(&mut subscriber, 7).last().unwrap(), "third");

    proxy.lose_replies("count", 1);
    let mut connection = client(&proxy.address());
    connection.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    assert_eq!(line(&mut connection), "+PONG");
    connection
        .write_all(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n")
        .unwrap();
    assert_eq!(connection.read(&mut [0; 9]).unwrap(), 0);
    assert_eq!(
        (proxy.lost(), server.command(&["GET", "count"]).text()),
        (1, "1".to_owned())
    );

    let mut connection = client(&proxy.address());
    proxy.stall();
    connection.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(connection.read(&mut [0; 9]).is_err());
    connection.set_read_timeout(None).unwrap();
    proxy.heal();
    assert_eq!(line(&mut connection), "+PONG");

    proxy.redirect(&other);
    assert_eq!(connection.read(&mut [0; 9]).unwrap(), 0);
    let mut connection = client(&proxy.address());
    connection
        .write_all(b"*2\r\n$6\r\nEXISTS\r\n$5\r\ncount\r\n")
        .unwrap();
    assert_eq!(line(&mut connection), ":0");
    proxy.refuse();
    assert_eq!(client(&proxy.address()).read(&mut [0; 9]).unwrap_or(0), 0);
    assert_eq!(proxy.opened(), 4);
}

fn servers_end_with_a_test_program_that_is_killed() {
    let mut program = Command::new(std::env::current_exe().unwrap())
        .arg(ROLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = line(program.stdout.as_mut().unwrap()).parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    test_kill_process(pid).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    until("the server is gone", || test_kill_process(pid).is_err());
}

/// A connection by the port, as a client has one.
fn client(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

fn line(from: &mut impl Read) -> String {
    lines(from, 1).remove(0)
}

/// Nothing is said behind those lines before something is asked.
fn lines(from: &mut impl Read, count: usize) -> Vec<String> {
    let lines = BufReader::with_capacity(1, from).lines();
    lines.take(count).map(Result::unwrap).collect()
}
