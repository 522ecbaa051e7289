//! Takes Pike's webhooks in our place, so that the test can bring them to us as it likes.

use crate::support::keys;
use axum::{Router, extract::State, http::HeaderMap, routing::post};
use std::net::SocketAddr;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A webhook as Pike sent it.
#[derive(Clone, Debug)]
pub struct Letter {
    pub body: Vec<u8>,
    pub signature: String,
}

impl Letter {
    /// One that Pike's key signs and Pike never sent.
    pub fn signed(body: String) -> Self {
        Self { signature: keys::rsa("pike.key.pem", body.as_bytes()), body: body.into_bytes() }
    }
}

/// Where webhooks go, and where they can be had.
pub async fn open() -> (SocketAddr, UnboundedReceiver<Letter>) {
    let (take, letters) = unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().fallback(post(receive)).with_state(take);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (addr, letters)
}

async fn receive(State(take): State<UnboundedSender<Letter>>, headers: HeaderMap, body: axum::body::Bytes) {
    let signature = headers["x-partner-sign"].to_str().unwrap().to_owned();
    // Once the test is over nobody wants them any more.
    let _ = take.send(Letter { body: body.to_vec(), signature });
}
