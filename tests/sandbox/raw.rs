//! HTTP by hand, for tests that care about the bytes: nothing in here repairs, reorders or repeats anything.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Only what hangs takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// One HTTP message, a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub first_line: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// The status of an answer.
    pub fn http(&self) -> u16 {
        self.first_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The body; panics if it is not JSON.
    pub fn json(&self) -> Value {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}: {}", text()))
    }
}

/// The message that `bytes` begin with and where the next one begins; none if it is not complete. A message
/// without a length ends with the connection, which `ended` tells.
pub fn parse(bytes: &[u8], ended: bool) -> Option<(Message, usize)> {
    let head_end = find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let first_line = lines.next().unwrap().to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut message = Message { first_line, headers, body: Vec::new() };
    let rest = &bytes[head_end + 4..];
    let length = if message.all("transfer-encoding") == ["chunked"] {
        let (body, length) = unchunk(rest)?;
        message.body = body;
        length
    } else {
        let length = match message.all("content-length").first() {
            Some(length) => length.parse().unwrap(),
            None if message.first_line.starts_with("HTTP/1.1 1") => 0,
            None if message.first_line.starts_with("HTTP/") && ended => rest.len(),
            None => 0,
        };
        message.body = rest.get(..length)?.to_vec();
        length
    };
    Some((message, head_end + 4 + length))
}

fn unchunk(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (begun, mut body) = (rest.len(), Vec::new());
    loop {
        let line = find(rest, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 2 + size + 2..)?;
        if size == 0 {
            return Some((body, begun - rest.len()));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Every message in `bytes`, and how many bytes are left over.
pub fn messages(mut bytes: &[u8]) -> (Vec<Message>, usize) {
    let mut found = Vec::new();
    while let Some((message, length)) = parse(bytes, true) {
        found.push(message);
        bytes = &bytes[length..];
    }
    (found, bytes.len())
}

/// A POST that asks for its connection to be closed. `headers` are written as they are given.
pub fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: pike.test\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [request.as_bytes(), body].concat()
}

/// Sends whole requests, the last of which asks to close; everything that comes back.
pub async fn ask(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    converse(address, bytes, async |_| ()).await
}

/// Sends bytes and hangs up on the sending side, so that nobody waits for more; everything that comes back.
pub async fn throw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    converse(address, bytes, async |mut output| drop(output.shutdown().await)).await
}

async fn converse(
    address: SocketAddr,
    bytes: &[u8],
    after: impl AsyncFnOnce(tokio::net::tcp::WriteHalf<'_>),
) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut input, mut output) = stream.split();
    let mut back = Vec::new();
    let both = async {
        // Whoever has heard enough may close before everything is written, and that is no fault.
        let write = async {
            drop(output.write_all(bytes).await);
            after(output).await;
        };
        drop(tokio::join!(write, input.read_to_end(&mut back)));
    };
    let whole = tokio::time::timeout(PATIENCE, both).await;
    assert!(whole.is_ok(), "no end to the answer to {}", String::from_utf8_lossy(bytes));
    back
}

/// The one answer to one request.
pub async fn answer(address: SocketAddr, request: &[u8]) -> Message {
    let back = ask(address, request).await;
    let (mut found, left) = messages(&back);
    assert_eq!((found.len(), left), (1, 0), "{}", String::from_utf8_lossy(&back));
    found.remove(0)
}
