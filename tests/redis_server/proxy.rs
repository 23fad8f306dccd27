//! A network that goes wrong when it is told to.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Server;
use super::resp::Incoming;

/// Stands between clients and a server that doesn't speak TLS. Whatever it is told holds for connections that are there
/// and for those to come.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The port of the server.
    to: u16,
    is_closed: bool,
    is_refusing: bool,
    is_stalled: bool,
    drops_messages: bool,
    delay: Duration,
    /// Of how many more requests with a text in them the replies get lost.
    losses: Option<(Vec<u8>, usize)>,
    lost: usize,
    dropped: usize,
    opened: usize,
    connections: Vec<Arc<Connection>>,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
    /// The next reply gets lost.
    loses: AtomicBool,
}

impl Proxy {
    pub fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            to: server.port(),
            ..State::default()
        };
        let network = Arc::new(Network {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&network);
        std::thread::spawn(move || accepting.accept(&listener));
        Self { port, network }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How a client without a password opens the server through it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Cuts all connections. New ones can be made.
    pub fn cut(&self) {
        self.network.cut(&mut self.network.state());
    }

    /// Cuts all connections, and from now on all that are made.
    pub fn refuse(&self) {
        let mut state = self.network.state();
        state.is_refusing = true;
        self.network.cut(&mut state);
    }

    /// Connections can be made and stay, and nothing comes through, in either direction.
    pub fn stall(&self) {
        self.network.state().is_stalled = true;
    }

    /// All is well again. What was held up comes through.
    pub fn heal(&self) {
        let mut state = self.network.state();
        (state.is_refusing, state.is_stalled, state.drops_messages) = (false, false, false);
        state.delay = Duration::ZERO;
        state.losses = None;
        self.network.changed.notify_all();
    }

    /// Each reply comes that late.
    pub fn delay(&self, delay: Duration) {
        self.network.state().delay = delay;
    }

    /// The next so many requests with that text in them reach the server, but the connection is cut before the reply
    /// comes.
    pub fn lose_replies(&self, text: &str, count: usize) {
        self.network.state().losses = Some((text.into(), count));
    }

    /// How many replies were lost so far.
    pub fn lost(&self) -> usize {
        self.network.state().lost
    }

    /// Messages of channels don't come through, all else does.
    pub fn drop_messages(&self) {
        self.network.state().drops_messages = true;
    }

    /// How many messages of channels were dropped so far.
    pub fn dropped(&self) -> usize {
        self.network.state().dropped
    }

    /// How many connections were made so far.
    pub fn opened(&self) -> usize {
        self.network.state().opened
    }

    /// Cuts all connections; new ones are made to that server.
    pub fn redirect(&self, server: &Server) {
        let mut state = self.network.state();
        state.to = server.port();
        self.network.cut(&mut state);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.network.state();
        state.is_closed = true;
        self.network.cut(&mut state);
        drop(state);
        // The thread that accepts looks up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Network {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn cut(&self, state: &mut State) {
        for connection in state.connections.drain(..) {
            connection.cut();
        }
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let mut state = self.state();
            if state.is_closed {
                return;
            }
            if state.is_refusing {
                continue;
            }
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", state.to)))
            else {
                continue;
            };
            // Small things are said here, each waited for.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let connection = Arc::new(Connection {
                client,
                server,
                is_cut: AtomicBool::new(false),
                loses: AtomicBool::new(false),
            });
            state.opened += 1;
            state.connections.retain(|connection| !connection.is_cut());
            state.connections.push(Arc::clone(&connection));
            let (network, one) = (Arc::clone(&self), Arc::clone(&connection));
            std::thread::spawn(move || {
                let _ = network.pass_requests(&one);
                one.cut();
            });
            let network = Arc::clone(&self);
            std::thread::spawn(move || {
                let _ = network.pass_replies(&connection);
                connection.cut();
            });
        }
    }

    fn pass_requests(&self, connection: &Connection) -> std::io::Result<()> {
        let mut incoming = Incoming::default();
        while let Some((_, bytes)) = incoming.next(&mut &connection.client)? {
            let mut state = self.wait_while_stalled(connection);
            if let Some((text, count @ 1..)) = &mut state.losses
                && contains(&bytes, text)
            {
                *count -= 1;
                connection.loses.store(true, Ordering::Relaxed);
            }
            drop(state);
            (&connection.server).write_all(&bytes)?;
        }
        Ok(())
    }

    fn pass_replies(&self, connection: &Connection) -> std::io::Result<()> {
        let (send, receive) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::scope(|scope| {
            // Each takes as long, and the next ones don't wait for that.
            scope.spawn(|| {
                for (at, bytes) in receive {
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                    if (&connection.client).write_all(&bytes).is_err() {
                        return connection.cut();
                    }
                }
            });
            self.send_replies(connection, send)
        })
    }

    fn send_replies(
        &self,
        connection: &Connection,
        send: std::sync::mpsc::Sender<(Instant, Vec<u8>)>,
    ) -> std::io::Result<()> {
        let mut incoming = Incoming::default();
        while let Some((value, bytes)) = incoming.next(&mut &connection.server)? {
            let mut state = self.wait_while_stalled(connection);
            if value.is_message() {
                if state.drops_messages {
                    state.dropped += 1;
                    continue;
                }
            } else if connection.loses.load(Ordering::Relaxed) {
                state.lost += 1;
                return Ok(());
            }
            let at = Instant::now() + state.delay;
            drop(state);
            if send.send((at, bytes)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wait_while_stalled(&self, connection: &Connection) -> MutexGuard<'_, State> {
        let is_held_up = |state: &mut State| state.is_stalled && !connection.is_cut();
        self.changed.wait_while(self.state(), is_held_up).unwrap()
    }
}

impl Connection {
    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}
