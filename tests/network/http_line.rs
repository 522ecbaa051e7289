//! The line between payoutd and Pike, either way. A connection from whoever asks is paired with one to
//! whoever answers; messages pass whole unless a fault strikes, and then from the fault's place on. Knows of
//! HTTP only where a message ends.

use crate::{
    fault::{Call, Case, Fault, Place},
    proxy::{Line, linger, reset},
    wire::{Asked, Plan, Seen, Wire},
};
use fastrand::Rng;
use std::{net::SocketAddr, ops::Range, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

/// How much later things come, in milliseconds: within every time-out.
const LATENCY: Range<u64> = 50..300;
/// Between two pieces.
const JITTER: Range<u64> = 0..40;
/// Beyond every time-out, before or after payoutd has resolved what it does not know.
const LATE: Range<u64> = 2_300..5_000;
/// A drop, and the time between two: a whole request takes longer than the time-out, half of one does not.
const DROP: (usize, Duration) = (16, Duration::from_millis(45));

/// How long one side of a broken connection is kept open: longer than calls are waited for, not so long that
/// a run of many rounds needs more open files than there are.
const LINGER: Duration = Duration::from_secs(10);

/// The line; the wire says what is to happen on it.
pub struct HttpLine(pub Arc<Wire>);

impl Line for HttpLine {
    async fn carry(self: Arc<Self>, client: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
        let (mut client, mut up) = (client, None);
        loop {
            let (message, whole) = tokio::select! {
                read = read_message(&mut client) => read,
                _ = open.wait_for(|open| !*open) => return,
            };
            if !whole {
                return;
            }
            let asked = self.0.arrived(message.path(), message.body());
            let connected = match up.take() {
                Some(up) => Ok(up),
                None => TcpStream::connect(target).await,
            };
            let Ok(server) = connected else { return };
            let _ = server.set_nodelay(true);
            let exchange = Exchange {
                wire: &self.0,
                target,
                asked,
                client: Some(client),
                up: Some(server),
                pace: Pace::AtOnce,
                closing: open.clone(),
            };
            let Some(pair) = exchange.run(&message).await else { return };
            (client, up) = (pair.0, Some(pair.1));
        }
    }
}

/// How bytes go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    Jitter,
    Drip,
}

/// One request and its answer.
struct Exchange<'a> {
    wire: &'a Wire,
    target: SocketAddr,
    asked: Asked,
    client: Option<TcpStream>,
    up: Option<TcpStream>,
    pace: Pace,
    closing: watch::Receiver<bool>,
}

/// The exchange has come to its end early.
struct Over;

impl Exchange<'_> {
    /// Both connections, if they can be used for another exchange.
    async fn run(mut self, request: &Message) -> Option<(TcpStream, TcpStream)> {
        self.pass(request).await.ok()?;
        // Closed with what was announced as its last answer.
        let last = self.is_last();
        self.client.zip(self.up).filter(|_| !last)
    }

    async fn pass(&mut self, request: &Message) -> Result<(), Over> {
        let half = request.half();
        let hold = matches!(self.asked.plan, Some(Plan::Hold(_)));
        if hold && self.asked.call == Some(Call::Webhook) {
            self.wire.hold().await;
        }
        self.at(Place::BeforeRequest, request).await?;
        self.write_up(&request.bytes[..half]).await;
        self.at(Place::DuringRequest, request).await?;
        if self.write_up(&request.bytes[half..]).await {
            self.note(Seen::Through);
        }
        self.at(Place::AfterRequest, request).await?;
        let up = self.up.as_mut().ok_or(Over)?;
        let (mut answer, whole) = read_message(up).await;
        if whole {
            let (status, hash) = (answer.status(), self.asked.hash);
            self.note(|call, session| Seen::Answered(call, session, status, hash));
        }
        if hold && self.asked.call != Some(Call::Webhook) {
            self.wire.hold().await;
        }
        if self.is_last() {
            answer.say_close();
        }
        let half = answer.half();
        self.at(Place::BeforeAnswer, request).await?;
        self.write_down(&answer.bytes[..half]).await?;
        self.at(Place::DuringAnswer, request).await?;
        self.write_down(&answer.bytes[half..]).await?;
        if !whole {
            return Err(Over);
        }
        self.note(Seen::Back);
        Ok(())
    }

    /// Whether the connections are of no use afterwards: the door is shut, or one direction has been ended.
    fn is_last(&self) -> bool {
        let ended = |case: Case| case.fault == Fault::HalfClose;
        !*self.closing.borrow() || matches!(self.asked.plan, Some(Plan::Strike(case)) if ended(case))
    }

    fn note(&self, seen: impl FnOnce(Call, Option<String>) -> Seen) {
        self.wire.note(self.asked.call.map(|call| seen(call, self.asked.session.clone())));
    }

    /// What happens here.
    async fn at(&mut self, place: Place, request: &Message) -> Result<(), Over> {
        let Some(Plan::Strike(case)) = self.asked.plan else { return Ok(()) };
        if case.place != place {
            return Ok(());
        }
        self.wire.strike(case);
        self.strike(case, request).await
    }

    async fn strike(&mut self, case: Case, request: &Message) -> Result<(), Over> {
        match case.fault {
            Fault::Latency => self.wait(LATENCY).await,
            Fault::Late => self.wait(LATE).await,
            Fault::Jitter => {
                self.wait(JITTER).await;
                self.pace = Pace::Jitter;
            }
            Fault::Drip => self.pace = Pace::Drip,
            Fault::Duplicate => self.once_more(request).await,
            Fault::HalfClose if case.place.is_of_the_request() => {
                let up = self.up.as_mut().ok_or(Over)?;
                // It may have been closed from the other side already.
                let _ = up.shutdown().await;
            }
            Fault::HalfClose => {
                let client = self.client.as_mut().ok_or(Over)?;
                let _ = client.shutdown().await;
                return self.leave_open();
            }
            Fault::DropUp => {
                drop(self.up.take());
                return self.leave_open();
            }
            Fault::DropDown => {
                drop(self.client.take());
                return self.leave_open();
            }
            Fault::ResetUp => {
                self.up.take().into_iter().for_each(reset);
                return self.leave_open();
            }
            Fault::ResetDown => {
                self.client.take().into_iter().for_each(reset);
                return self.leave_open();
            }
            Fault::BlackHole => return self.leave_open(),
            Fault::Refused => unreachable!("a connection that is there was not refused"),
        }
        Ok(())
    }

    async fn wait(&mut self, range: Range<u64>) {
        sleep(Duration::from_millis(self.asked.chance.u64(range))).await;
    }

    /// Forwards nothing any more; what is still open stays so until its other end has had enough.
    fn leave_open(&mut self) -> Result<(), Over> {
        self.client.take().into_iter().chain(self.up.take()).for_each(|stream| linger(stream, LINGER));
        Err(Over)
    }

    /// The same request on a connection of its own, to its answer.
    async fn once_more(&mut self, request: &Message) {
        let mut copy = TcpStream::connect(self.target).await.unwrap();
        copy.write_all(&request.bytes).await.unwrap();
        let (_, whole) = read_message(&mut copy).await;
        assert!(whole, "the copy was not answered");
    }

    /// Whether all of it went out. Whoever answers may have closed: then its answer, or none, says so.
    async fn write_up(&mut self, bytes: &[u8]) -> bool {
        let Some(up) = self.up.as_mut() else { return false };
        write(up, bytes, self.pace, &mut self.asked.chance).await.is_ok()
    }

    async fn write_down(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let client = self.client.as_mut().ok_or(Over)?;
        write(client, bytes, self.pace, &mut self.asked.chance).await.map_err(|_| Over)
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8], pace: Pace, chance: &mut Rng) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = match pace {
            Pace::AtOnce => rest.len(),
            Pace::Jitter => chance.usize(1..=200),
            Pace::Drip => DROP.0,
        };
        let (piece, later) = rest.split_at(length.min(rest.len()));
        stream.write_all(piece).await?;
        rest = later;
        match pace {
            Pace::AtOnce => {}
            Pace::Jitter => sleep(Duration::from_millis(chance.u64(JITTER))).await,
            Pace::Drip => sleep(DROP.1).await,
        }
    }
    Ok(())
}

/// A request or an answer, or what came of it.
struct Message {
    bytes: Vec<u8>,
    head: usize,
}

impl Message {
    fn half(&self) -> usize {
        // Into the body if there is one: a header that never ends is not read by anybody.
        if self.bytes.len() > self.head { (self.head + self.bytes.len()) / 2 } else { self.bytes.len() / 2 }
    }

    fn body(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// The second word of the first line.
    fn second_word(&self) -> &str {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        std::str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.second_word()
    }

    fn status(&self) -> u16 {
        self.second_word().parse().unwrap_or_default()
    }

    /// Says that the connection ends with this answer.
    fn say_close(&mut self) {
        const CLOSE: &[u8] = b"connection: close\r\n";
        if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
            self.bytes.splice(end + 2..end + 2, CLOSE.iter().copied());
            self.head += CLOSE.len();
        }
    }
}

/// Reads one message; whether it came whole.
async fn read_message(stream: &mut TcpStream) -> (Message, bool) {
    let mut message = Message { bytes: vec![], head: 0 };
    loop {
        if let Some(end) = message.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            message.head = end + 4;
            let length = content_length(&message.bytes[..end]);
            if message.bytes.len() >= message.head + length {
                return (message, true);
            }
        }
        match stream.read_buf(&mut message.bytes).await {
            Ok(read) if read > 0 => {}
            Ok(_) | Err(_) => return (message, false),
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "nobody here sends chunks");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.map_or(0, |length| length.trim().parse().expect("a length"))
}
