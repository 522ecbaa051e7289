//! A TCP proxy: an address that leads somewhere, and that can be closed. What it does to a connection is the
//! business of its line: `http_line` between payoutd and Pike, `pg_line` between payoutd and Postgres.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Carries connections.
pub trait Line: Send + Sync + 'static {
    /// Carries one connection to its end. `open` tells whether the proxy is. The call itself is made before
    /// the proxy can be closed: an order that comes after that is for this connection, too.
    fn carry(
        self: Arc<Self>,
        client: TcpStream,
        target: SocketAddr,
        open: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send;
}

pub struct Proxy {
    pub addr: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicUsize>,
    open: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
}

impl Proxy {
    /// An open proxy to `target`.
    pub async fn open<L: Line>(target: SocketAddr, line: Arc<L>) -> Self {
        let (open, wanted) = watch::channel(true);
        let (tell, mut listening) = watch::channel(false);
        let target = Arc::new(Mutex::new(target));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (addr, listener) = listener().await;
        let door = Door { addr, target: Arc::clone(&target), accepted: Arc::clone(&accepted), open: wanted };
        tokio::spawn(door.keep(listener, line, tell));
        listening.wait_for(|listening| *listening).await.unwrap();
        Self { addr, target, accepted, open, listening }
    }

    /// Where new connections lead from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// From the return on new connections are refused; those that are idle are closed.
    pub async fn refuse(&mut self) {
        self.open.send_replace(false);
        self.listening.wait_for(|listening| !*listening).await.unwrap();
    }

    /// From the return on connections are accepted again.
    pub async fn accept(&mut self) {
        self.open.send_replace(true);
        self.listening.wait_for(|listening| *listening).await.unwrap();
    }
}

/// The listening side.
struct Door {
    addr: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicUsize>,
    open: watch::Receiver<bool>,
}

impl Door {
    async fn keep<L: Line>(mut self, first: TcpListener, line: Arc<L>, tell: watch::Sender<bool>) {
        let mut first = Some(first);
        // Once the proxy is dropped nobody opens it again, whatever was wanted last.
        while self.open.has_changed().is_ok() && self.open.wait_for(|open| *open).await.is_ok() {
            let listener = match first.take() {
                Some(listener) => listener,
                None => TcpListener::bind(self.addr).await.expect("nobody else uses these ports"),
            };
            tell.send_replace(true);
            self.serve(&listener, &line).await;
            drop(listener);
            tell.send_replace(false);
        }
    }

    async fn serve<L: Line>(&mut self, listener: &TcpListener, line: &Arc<L>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = self.open.wait_for(|open| !*open) => return,
            };
            let Ok((client, _)) = accepted else { continue };
            self.accepted.fetch_add(1, Ordering::SeqCst);
            // What is delayed is to be delayed by us alone.
            let _ = client.set_nodelay(true);
            let target = *self.target.lock().unwrap();
            tokio::spawn(Arc::clone(line).carry(client, target, self.open.clone()));
        }
    }
}

/// A port that the system does not hand out by itself, so that it is still free after it was closed.
async fn listener() -> (SocketAddr, TcpListener) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 500).unwrap() * 20;
    loop {
        let port = 10_000 + (spread + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(listener) = TcpListener::bind(addr).await {
            return (addr, listener);
        }
    }
}

/// Keeps a connection open, unheard, until its other end gives up, for so long at most.
pub fn linger(stream: TcpStream, at_most: Duration) {
    tokio::spawn(tokio::time::timeout(at_most, async move {
        let (mut stream, mut unheard) = (stream, [0; 1024]);
        while matches!(stream.read(&mut unheard).await, Ok(read) if read > 0) {}
    }));
}

/// Ends a connection with a reset instead of a proper end.
pub fn reset(stream: TcpStream) {
    // Without it the stream is closed properly, and the test that wanted a reset sees the difference.
    stream.set_zero_linger().unwrap();
    drop(stream);
}
