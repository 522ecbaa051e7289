//! A server of raw bytes at the other end of our HTTP clients: it counts what it gets and answers as badly as
//! it was told to.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What it does with a request that it has read to its end.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// Hangs up without a byte.
    HangUp,
    /// Sends these bytes and hangs up.
    Say(Vec<u8>),
    /// Sends these bytes, then spaces without end, slowly.
    Drip(Vec<u8>),
}

pub struct Peer {
    pub url: String,
    heard: Arc<AtomicUsize>,
}

impl Peer {
    /// `conduct` is told the server's own address.
    pub async fn start(conduct: impl FnOnce(&str) -> Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (conduct, heard) = (conduct(&url), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, conduct.clone(), Arc::clone(&count)));
            }
        });
        Self { url, heard }
    }

    /// Requests read to their end.
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

async fn talk(mut stream: TcpStream, conduct: Conduct, heard: Arc<AtomicUsize>) {
    if read_request(&mut stream).await.is_none() {
        return;
    }
    heard.fetch_add(1, Ordering::SeqCst);
    // A client that has had enough may be gone: writing to it fails, and that is all right.
    match conduct {
        Conduct::HangUp => {}
        Conduct::Say(bytes) => drop(stream.write_all(&bytes).await),
        Conduct::Drip(bytes) => {
            let mut last = stream.write_all(&bytes).await;
            while last.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                last = stream.write_all(b" ").await;
            }
        }
    }
}

/// Head and body of one request, or nothing if the client went away.
async fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut request, mut chunk) = (vec![], [0; 4096]);
    loop {
        let got = stream.read(&mut chunk).await.ok().filter(|got| *got > 0)?;
        request.extend_from_slice(&chunk[..got]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
        });
        if body.len() >= length.unwrap_or(0) {
            return Some(request);
        }
    }
}

/// An answer with a right length.
pub fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}
