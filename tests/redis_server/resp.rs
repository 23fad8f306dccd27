//! What clients and servers say to each other (RESP 2 and 3), as far as tests and the proxy have to understand it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One thing that was said.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Integer(i64),
    /// A text of any kind, also a number that isn't whole.
    Text(Vec<u8>),
    Error(String),
    /// A list of any kind; a map is a list of keys and values.
    List(Vec<Value>),
}

impl Value {
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(integer) => *integer,
            other => panic!("{other:?} is no integer"),
        }
    }

    #[track_caller]
    pub fn list(self) -> Vec<Value> {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }

    /// Whether it is a message of a channel, which nobody has asked for.
    pub(super) fn is_message(&self) -> bool {
        const KINDS: [&[u8]; 3] = [b"message", b"pmessage", b"smessage"];
        let Self::List(list) = self else { return false };
        matches!(list.first(), Some(Value::Text(kind)) if KINDS.contains(&&kind[..]))
    }
}

/// The first thing in some bytes, and how many it takes. Nothing if it isn't complete.
pub(super) fn parse(bytes: &[u8]) -> Option<(Value, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = str::from_utf8(&bytes[1..end]).unwrap();
    let number = || line.parse::<i64>().unwrap();
    let at = end + 2;
    match bytes[0] {
        b'+' | b',' | b'(' | b'#' => Some((Value::Text(line.into()), at)),
        b'-' => Some((Value::Error(line.to_owned()), at)),
        b':' => Some((Value::Integer(number()), at)),
        b'_' => Some((Value::Nil, at)),
        b'$' | b'*' if number() < 0 => Some((Value::Nil, at)),
        b'$' | b'=' | b'!' => {
            let text = bytes.get(at..at + number() as usize)?;
            let is_complete = bytes.len() >= at + text.len() + 2;
            is_complete.then(|| (Value::Text(text.into()), at + text.len() + 2))
        }
        b'*' | b'~' | b'>' => list(bytes, at, number()),
        b'%' => list(bytes, at, 2 * number()),
        // What is said about the next thing.
        b'|' => {
            let (_, at) = list(bytes, at, 2 * number())?;
            let (value, length) = parse(&bytes[at..])?;
            Some((value, at + length))
        }
        other => panic!("what is {:?}?", other as char),
    }
}

fn list(bytes: &[u8], mut at: usize, count: i64) -> Option<(Value, usize)> {
    let mut list = Vec::new();
    for _ in 0..count {
        let (value, length) = parse(&bytes[at..])?;
        list.push(value);
        at += length;
    }
    Some((Value::List(list), at))
}

/// Things as they come in.
#[derive(Debug, Default)]
pub(super) struct Incoming(Vec<u8>);

impl Incoming {
    /// The next thing, and the bytes that it is. Nothing at the end.
    pub(super) fn next(
        &mut self,
        from: &mut impl Read,
    ) -> std::io::Result<Option<(Value, Vec<u8>)>> {
        loop {
            if let Some((value, length)) = parse(&self.0) {
                let rest = self.0.split_off(length);
                return Ok(Some((value, std::mem::replace(&mut self.0, rest))));
            }
            let mut bytes = [0; 1 << 16];
            match from.read(&mut bytes)? {
                0 => return Ok(None),
                count => self.0.extend(&bytes[..count]),
            }
        }
    }
}

/// A connection of the tests themselves.
pub struct Connection {
    stream: UnixStream,
    incoming: Incoming,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        // A server that is paused doesn't hang its test.
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self {
            stream,
            incoming: Incoming::default(),
        }
    }

    /// What it answers, or its error.
    pub fn command(&mut self, words: &[&str]) -> Result<Value, String> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let written = self.stream.write_all(&request);
        written.map_err(|error| error.to_string())?;
        match self.incoming.next(&mut self.stream) {
            Ok(Some((Value::Error(error), _))) => Err(error),
            Ok(Some((value, _))) => Ok(value),
            Ok(None) => Err("the server has hung up".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
