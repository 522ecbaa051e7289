//! The line between payoutd and Postgres: bytes as they come, until an order of the test or a commit on its
//! way says otherwise: a COMMIT, or a statement that is its own.

use crate::{
    proxy::{Line, linger, reset},
    seed,
};
use fastrand::Rng;
use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::sleep,
};

/// How the simple query that ends a transaction looks on the wire.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// A statement with its parameters, and how long that is at least if it writes: those that commit by
/// themselves carry rows, webhooks or orders.
const BIND: u8 = b'B';
const A_WRITE: usize = 900;

/// How long a silent connection stays open: longer than any test, so that nobody is told by its end.
const LINGER: Duration = Duration::from_secs(900);

/// What becomes of a COMMIT, and of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtCommit {
    /// It does not arrive, and the connection is reset: nothing was committed.
    LoseRequest,
    /// It arrives, and the connection is reset before its answer: all was committed.
    LoseAnswer,
    /// It does not arrive, and nobody is told.
    HoleBefore,
    /// It arrives, its answer does not, and nobody is told.
    HoleBehind,
}

/// What the test wants of all connections.
#[derive(Clone, Default)]
struct Orders {
    /// How often all connections were to be reset.
    resets: u64,
    /// How often all connections were to go silent.
    holes: u64,
    /// New connections are silent, too.
    silent: bool,
    /// How much later everything comes.
    latency: Duration,
    /// What may become of a COMMIT, and of one in how many.
    at_commit: Option<(Vec<AtCommit>, usize)>,
}

pub struct PgLine {
    orders: watch::Sender<Orders>,
    chance: Mutex<Rng>,
    struck: Mutex<BTreeMap<AtCommit, usize>>,
    /// Connections that were reset or went silent on an order.
    broken: Mutex<usize>,
}

impl PgLine {
    pub fn new(seed: u64) -> Self {
        let chance = Mutex::new(seed::chance(seed, 1));
        Self { orders: watch::Sender::default(), chance, struck: Mutex::default(), broken: Mutex::default() }
    }

    pub fn reset_all(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }

    /// What is connected now goes silent; new connections are as good as ever.
    pub fn silence_all(&self) {
        self.orders.send_modify(|orders| orders.holes += 1);
    }

    /// What is connected now goes silent, and while `silent` so does whatever is connected anew.
    pub fn part(&self, silent: bool) {
        self.orders.send_modify(|orders| {
            orders.holes += u64::from(silent);
            orders.silent = silent;
        });
    }

    pub fn delay(&self, latency: Duration) {
        self.orders.send_modify(|orders| orders.latency = latency);
    }

    /// From now on one COMMIT in so many meets one of these.
    pub fn strike_commits(&self, faults: &[AtCommit], one_in: usize) {
        let at_commit = (!faults.is_empty()).then(|| (faults.to_vec(), one_in));
        self.orders.send_modify(|orders| orders.at_commit = at_commit);
    }

    pub fn struck(&self) -> BTreeMap<AtCommit, usize> {
        self.struck.lock().unwrap().clone()
    }

    pub fn broken(&self) -> usize {
        *self.broken.lock().unwrap()
    }

    fn fate(&self, bytes: &[u8]) -> Option<AtCommit> {
        let (faults, one_in) = self.orders.borrow().at_commit.clone()?;
        let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        let writes = bytes.first() == Some(&BIND) && bytes.len() >= A_WRITE;
        if !commits && !writes {
            return None;
        }
        let mut chance = self.chance.lock().unwrap();
        if chance.usize(0..one_in) > 0 {
            return None;
        }
        let fate = *chance.choice(&faults).unwrap();
        *self.struck.lock().unwrap().entry(fate).or_default() += 1;
        Some(fate)
    }
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn reset(self) {
        reset(self.client);
        reset(self.server);
    }

    /// Open to the eye of either end.
    fn silence(self) {
        linger(self.client, LINGER);
        linger(self.server, LINGER);
    }

    async fn commit(mut self, fate: AtCommit, bytes: &[u8]) -> std::io::Result<()> {
        if matches!(fate, AtCommit::LoseAnswer | AtCommit::HoleBehind) {
            self.server.write_all(bytes).await?;
            // It has answered, so it has committed.
            assert_ne!(self.server.read(&mut [0; 1024]).await?, 0);
        }
        match fate {
            AtCommit::LoseRequest | AtCommit::LoseAnswer => self.reset(),
            AtCommit::HoleBefore | AtCommit::HoleBehind => self.silence(),
        }
        Ok(())
    }
}

impl Line for PgLine {
    fn carry(
        self: Arc<Self>,
        client: TcpStream,
        target: SocketAddr,
        _open: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send {
        let mut orders = self.orders.subscribe();
        // Read here, not when the task first runs: a reset in between would not be this connection's.
        let begun = orders.borrow_and_update().clone();
        self.carry_since(begun, orders, client, target)
    }
}

impl PgLine {
    async fn carry_since(
        self: Arc<Self>,
        begun: Orders,
        mut orders: watch::Receiver<Orders>,
        client: TcpStream,
        target: SocketAddr,
    ) {
        let Ok(server) = TcpStream::connect(target).await else { return };
        server.set_nodelay(true).unwrap();
        let mut pair = Pair { client, server };
        if begun.silent {
            return pair.silence();
        }
        let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
        loop {
            let latency = orders.borrow().latency;
            let passed = tokio::select! {
                read = pair.client.read(&mut up) => {
                    let Ok(1..) = read else { return };
                    let bytes = &up[..read.unwrap()];
                    sleep(latency).await;
                    if let Some(fate) = self.fate(bytes) {
                        // Either end may have gone first; then there was nothing to strike.
                        let _ = pair.commit(fate, bytes).await;
                        return;
                    }
                    pair.server.write_all(bytes).await
                }
                read = pair.server.read(&mut down) => {
                    let Ok(1..) = read else { return };
                    sleep(latency).await;
                    pair.client.write_all(&down[..read.unwrap()]).await
                }
                changed = orders.changed() => {
                    let now = orders.borrow_and_update().clone();
                    if changed.is_err() || now.resets == begun.resets && now.holes == begun.holes {
                        continue;
                    }
                    *self.broken.lock().unwrap() += 1;
                    return if now.holes == begun.holes { pair.reset() } else { pair.silence() };
                }
            };
            if passed.is_err() {
                return;
            }
        }
    }
}
